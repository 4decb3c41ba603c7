"""Travelling salesman: shortest round trips through all cities, with distances as scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.arguments import check_counts

from . import subset_paths, tour_moves
from .common import check_seconds
from .kernels import held_karp, tour_search, usable
from .kernels.held_karp import Tours
from .tour_bounds import assignment_bound, one_tree_bound, useful_steps
from .tour_family import TourProblem
from .tour_programs import circuit_tours, routing_tours

MOST_BY_SUBSETS = 15
"""Up to how many cities TSP enumerates sets of cities; there are 2^n of them."""
_STARTS_OF_A_HINT = 50


@dataclass(frozen=True)
class TSP(TourProblem):
    """The shortest round trip, exactly; see TourProblem for scores, `directed`, `mask` and errors.

    Instances of up to 15 cities are solved by dynamic programming over sets of cities (Held and Karp), all at once; larger
    ones, of up to about 60 cities, by OR-Tools CP-SAT, one after the other: from a trip of TourSearch on, and without the steps
    that bounds exclude. There SolverTimeoutError, with the trip found so far as incumbent, is raised after `time_limit` seconds
    for an instance, unless that is None, and distances are rounded to 9 digits of the largest. Among several shortest trips the
    one returned is always the same, but not specified.

    >>> distances = torch.tensor([[[0, 1, 9, 2], [1, 0, 2, 9], [9, 2, 0, 1], [2, 9, 1, 0]]])
    >>> TSP()(distances)
    tensor([[[0, 1, 0, 1],
             [1, 0, 1, 0],
             [0, 1, 0, 1],
             [1, 0, 1, 0]]])
    >>> TSP(directed=True).decode(TSP(directed=True)(torch.tensor([[[0, 5, 1], [1, 0, 5], [5, 1, 0]]])))
    [[0, 2, 1]]

    Source: M. Held, R. M. Karp, "A dynamic programming approach to sequencing problems", SIAM J. 10 (1962).
    """

    time_limit: float | None = 60.0

    def __post_init__(self) -> None:
        check_seconds(self, "time_limit")

    def _tours(self, costs: Tensor, bounds: bool) -> Tours:
        if costs.shape[1] <= MOST_BY_SUBSETS:
            return (held_karp if usable(costs) else subset_paths).shortest_tours(costs, not self.directed)
        start = _search(costs, _STARTS_OF_A_HINT)
        if not self.directed and start.status is None:  # most steps are too dear for any tour as short
            costs = torch.where(useful_steps(costs, _lengths(costs, start)), costs, torch.inf)
        return circuit_tours(costs, start, self.time_limit)


@dataclass(frozen=True)
class TourSearch(TourProblem):
    """A short round trip by local search (2-opt and Or-opt); see TourProblem for scores, `directed`, `mask` and errors.

    A heuristic for any number of cities: the best of `starts` searches, each from a trip that always goes on to the nearest
    city that is left, by the best of all moves until none shortens the trip. Nothing is left to chance. `solve_with_info` gives
    a bound: the 1-tree bound of Held and Karp, or, if `directed`, that of the assignment problem.

    >>> places = torch.tensor([[0.0, 0.0], [2.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
    >>> info = TourSearch().solve_with_info(torch.cdist(places, places)[None])
    >>> TourSearch().decode(info.solution), info.objective, info.optimal
    ([[0, 2, 1, 3]], tensor([16.], dtype=torch.float64), tensor([True]))
    """

    starts: int = 10

    exact = False

    def __post_init__(self) -> None:
        check_counts(self, starts=1)

    def _tours(self, costs: Tensor, bounds: bool) -> Tours:
        tours = _search(costs, self.starts)
        return _bounded(tours, costs, self.directed) if bounds else tours


@dataclass(frozen=True)
class RoutingTSP(TourProblem):
    """A short round trip by OR-Tools routing; see TourProblem for scores, `directed`, `mask` and errors.

    A heuristic: its default local search, or, with `seconds`, guided local search for so long on each instance, which finds
    shorter trips but depends on the speed of the machine. Instances are solved one after the other, on the CPU; distances are
    rounded to 9 digits of the largest.

    >>> RoutingTSP().decode(RoutingTSP()(torch.tensor([[[0, 1, 9, 2], [1, 0, 2, 9], [9, 2, 0, 1], [2, 9, 1, 0]]])))
    [[0, 1, 2, 3]]
    """

    seconds: float | None = None

    exact = False

    def __post_init__(self) -> None:
        check_seconds(self, "seconds")

    def _tours(self, costs: Tensor, bounds: bool) -> Tours:
        tours = routing_tours(costs, self.seconds)._replace(bound=None)
        return _bounded(tours, costs, self.directed) if bounds else tours


def _search(costs: Tensor, starts: int) -> Tours:
    return (tour_search if usable(costs) else tour_moves).short_tours(costs.double(), starts)


def _bounded(tours: Tours, costs: Tensor, directed: bool) -> Tours:
    """# Tours, (B, n, n) -> Tours"""
    if tours.status is not None:
        return tours  # refused in any case
    bound = assignment_bound(costs) if directed else one_tree_bound(costs, _lengths(costs, tours))
    return tours._replace(bound=bound)


def _lengths(costs: Tensor, tours: Tours) -> Tensor:
    """# (B, n, n), Tours -> (B,) float64"""
    steps = costs.gather(1, tours.order[:, :, None].expand_as(costs)).gather(2, tours.order.roll(-1, 1)[:, :, None])
    return steps.double().sum((1, 2))
