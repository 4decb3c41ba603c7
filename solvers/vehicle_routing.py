"""Capacitated vehicle routing: cheapest routes from a depot to all customers, with distances as scores."""

from __future__ import annotations

from dataclasses import dataclass

from .common import check_seconds
from .kernels.held_karp import SOLVED
from .route_family import Fleet, Routes, RoutingProblem
from .route_programs import assignment_bounds, searched_routes
from .subset_routes import cheapest_routes

MOST_CUSTOMERS = 10
"""Up to how many customers ExactVehicleRouting takes; it looks at the 3^n ways to cut a part out of a set."""


@dataclass(frozen=True)
class VehicleRouting(RoutingProblem):
    """Short routes of vehicles of limited capacity, by OR-Tools routing; see RoutingProblem for scores, data and errors.

    A heuristic: the best of the library's default local searches from several constructions, or, with `seconds`, guided local
    search for so long on each instance, which finds shorter routes but depends on the speed of the machine. Instances are
    solved one after the other, on the CPU; distances are rounded to 9 digits of the largest. `solve_with_info` gives a bound:
    the cheapest way to give each customer, and each vehicle that is needed, a place to go to.

    >>> places = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0], [-2.0, 0.0]])
    >>> solver = VehicleRouting(capacity=2.0)
    >>> y = solver(torch.cdist(places, places)[None], demands=torch.tensor([[0.0, 1.0, 1.0, 2.0]]))
    >>> y[0]
    tensor([[0., 1., 1., 2.],
            [1., 0., 1., 0.],
            [1., 1., 0., 0.],
            [2., 0., 0., 0.]])
    >>> solver.decode(y)
    [[[1, 2], [3]]]
    """

    seconds: float | None = None

    exact = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(self, "seconds")

    def _routes(self, fleet: Fleet, bounds: bool) -> Routes:
        routes = searched_routes(fleet, self.seconds)
        if not bounds or (routes.status != SOLVED).any():  # which is refused in any case
            return routes
        return routes._replace(bound=assignment_bounds(fleet))


@dataclass(frozen=True)
class ExactVehicleRouting(RoutingProblem):
    """The shortest routes of vehicles of limited capacity, exactly; see RoutingProblem for scores, data and errors.

    For up to 10 customers (ValueError for more): dynamic programming over sets of customers, for all instances at once, on any
    device. Among several cheapest routes those returned are always the same, but not specified.

    >>> places = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0], [-2.0, 0.0]])
    >>> distances, demands = torch.cdist(places, places)[None], torch.tensor([[0.0, 1.0, 1.0, 2.0]])
    >>> solver = ExactVehicleRouting(directed=True, capacity=2.0)
    >>> solver.decode(solver(distances, demands=demands))
    [[[2, 1], [3]]]
    >>> roomy = ExactVehicleRouting(capacity=4.0, vehicles=1)
    >>> roomy.decode(roomy(distances, demands=demands))
    [[[1, 2, 3]]]

    Source: M. Held, R. M. Karp, "A dynamic programming approach to sequencing problems", SIAM J. 10 (1962), for single routes.
    """

    def _routes(self, fleet: Fleet, bounds: bool) -> Routes:
        customers = fleet.costs.shape[1] - 1
        if customers > MOST_CUSTOMERS:
            raise ValueError(
                f"ExactVehicleRouting: there are {customers} customers, but all sets of customers can be enumerated for "
                f"{MOST_CUSTOMERS} at most. Use VehicleRouting."
            )
        return cheapest_routes(fleet)
