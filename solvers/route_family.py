"""What all vehicle routing problems share: facts, instance data, failures, and reading routes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from solverlayers.arguments import check_counts, check_numbers
from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solution, Solver, inner

from .common import check_mask, native
from .kernels.held_karp import INFEASIBLE, INVALID, NOTHING_FOUND, SOLVED
from .tour_family import without_sums

SLACK = 1e-9
"""By what share a load may exceed the capacity, because sums are rounded."""


class Fleet(NamedTuple):
    """Instances without what they do not need: everything that is not real is zero, demands are shares of the capacity.

    `costs (B, n, n)` are of a step from the row to the column, infinite where there is none; `customers (B, n)` says which
    nodes are to be visited; `loads (B, n)` are float64; `vehicles (B,)`, int64, are no more than there are customers.
    """

    costs: Tensor
    customers: Tensor
    loads: Tensor
    vehicles: Tensor


class Routes(NamedTuple):
    """`steps (B, n, n)`, boolean, from row to column; `status (B,)` as of tours; `bound (B,)`, float64, on the costs."""

    steps: Tensor
    status: Tensor
    bound: Tensor | None = None


@dataclass(frozen=True)
class RoutingProblem(Solver):
    """Cheapest routes of vehicles that start and end at a depot, node 0, and together serve each customer once.

    Minimises `<scores, y>`, where `scores (B, n, n)` are distances from the row to the column. If `directed`, `y` is 1 where a
    vehicle goes from the row to the column, and `<scores, y>` is the length of all routes. Otherwise `y` counts how often a
    vehicle goes between two nodes, whichever way (twice, to a customer served alone): both triangles of the scores count, and
    `<scores, y>` is twice the length of all routes. The diagonal is never used.

    Instance data: `demands (B, n)` of the customers (the depot's does not count), not negative; `capacity (B,)` of each
    vehicle, for instances that do not have that of the field; `vehicles (B,)`, integers, how many there are, unlimited without
    and without the field. A route serves customers whose demands sum to the capacity at most (up to a share of 1e-9).

    `mask (B, n, n)`, boolean, is False for a step that is not allowed; an infinite distance forbids it, too. A node whose row
    and column are False is padding. An instance with nothing but a depot has no route. Raises InfeasibleError for an instance
    without a node, with a demand above the capacity, a total above that of the fleet, or no known routes; InstanceError for a
    negative demand or capacity and a distance of minus infinity.
    """

    directed: bool = False
    capacity: float | None = None
    vehicles: int | None = None

    event_dim = 2
    sense = "min"
    hull = "vehicle routes"

    def __post_init__(self) -> None:
        if self.capacity is not None:
            check_numbers(self, "capacity")
        if self.vehicles is not None:
            check_counts(self, vehicles=0)

    @property
    def binary(self) -> bool:  # type: ignore[override]
        return self.directed

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The routes, as adjacency matrices.  # (B, n, n) -> (B, n, n)"""
        return self._solved(scores, False, **instance)[0]

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The routes, with the bound that is proved.  # (B, n, n) -> Solution"""
        self.check(scores, **instance)
        y, bound = self._solved(scores, True, **instance)
        objective = inner(scores.double(), y.double(), 2)
        assert bound is not None
        bound = bound.minimum(objective)
        proved = torch.ones_like(bound, dtype=torch.bool) if self.exact else objective - bound <= 1e-9 * objective.abs()
        return Solution(y, objective, proved, bound)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """The part in which a vehicle enters and leaves each customer as often as before.  # (*S, B, n, n)"""
        n = direction.shape[-1]
        allowed = ~torch.eye(n, dtype=torch.bool, device=direction.device)
        if mask is not None:
            allowed = allowed & (mask if self.directed else mask & mask.mT)
        allowed = allowed.expand(direction.shape[-3:])
        direction = direction if self.directed else (direction + direction.mT) / 2
        return without_sums(torch.where(allowed, direction, 0), allowed, torch.arange(n, device=direction.device) > 0)

    def decode(self, y: Tensor, **instance: Tensor) -> list[list[list[int]]]:
        """The customers of each route in order, routes by their first customer.  # (B, n, n) -> B lists of lists"""
        return [_in_order(steps) for steps in y.cpu()]

    @abstractmethod
    def _routes(self, fleet: Fleet, bounds: bool) -> Routes:
        """Routes of instances with a customer at least; with a bound if it is asked for."""

    def _solved(
        self,
        scores: Tensor,
        bounds: bool,
        demands: Tensor | None = None,
        capacity: Tensor | None = None,
        vehicles: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        check_mask(self, scores, mask)
        if demands is None:
            raise ValueError(f"{type(self).__name__}: no demands. Give `demands=` (B, n), a number for each node, to the call.")
        fleet = self._fleet(scores, demands, capacity, vehicles, mask)
        alone = torch.zeros_like(scores[:, 0, 0], dtype=torch.int64)
        nowhere = Routes(torch.zeros_like(scores, dtype=torch.bool), alone, alone.double())
        routes = self._routes(fleet, bounds) if scores.shape[1] > 1 else nowhere
        for code, (error, text) in _FAILURES.items():
            self._refuse(routes.status == code, error, text)
        y = routes.steps if self.directed else routes.steps.int() + routes.steps.mT.int()
        return y.to(scores.dtype), routes.bound

    def _fleet(
        self, scores: Tensor, demands: Tensor, capacity: Tensor | None, vehicles: Tensor | None, mask: Tensor | None
    ) -> Fleet:
        """Checks all instance data."""
        name, (count, n, width) = type(self).__name__, scores.shape
        if n != width or n == 0:
            raise ValueError(
                f"{name}: scores have shape {tuple(scores.shape)}; expected (B, n, n), the distances between a depot and "
                f"n - 1 customers."
            )
        if demands.shape != (count, n):
            raise ValueError(
                f"{name}: `demands` has shape {tuple(demands.shape)}; expected {(count, n)}, one for each node, of which that "
                f"of the depot does not count."
            )
        real = torch.ones_like(demands, dtype=torch.bool) if mask is None else mask.any(1) | mask.any(2)
        self._refuse(~real[:, 0], InfeasibleError, _NO_DEPOT)
        customers = real.clone()
        customers[:, 0] = False
        wanted = torch.where(customers, demands.double(), 0)
        room = self._given("capacity", capacity, self.capacity, scores).double()
        self._refuse(~(wanted >= 0).all(1), InstanceError, "has a negative demand. Demands are zero or more.")
        self._refuse(~(room >= 0), InstanceError, "has a negative capacity. Give each vehicle room for the largest demand.")
        most = wanted.amax(1)
        self._refuse(most > room * (1 + SLACK), InfeasibleError, "has a demand above the capacity of a vehicle. " + _SPLIT)
        number = customers.sum(1)
        if vehicles is not None or self.vehicles is not None:
            number = number.minimum(self._given("vehicles", vehicles, self.vehicles, scores).long())
            short = (wanted.sum(1) > number * room * (1 + SLACK)) | ((number < 1) & customers.any(1))
            self._refuse(short, InfeasibleError, "has demands above what all its vehicles can take. Give it more vehicles.")
        loads = torch.where(wanted > 0, wanted / room[:, None], 0)
        costs = native(self, scores)
        costs = costs if mask is None else torch.where(mask, costs, torch.inf)
        return Fleet(costs if self.directed else costs + costs.mT, customers, loads, number)

    def _given(self, name: str, given: Tensor | None, default: float | None, scores: Tensor) -> Tensor:
        """The capacity, or the number of vehicles, of each instance.  # (B,)"""
        if given is None:
            if default is None:
                raise ValueError(
                    f"{type(self).__name__}: no {name}. Give `{name}=` to the solver, or a tensor (B,) to the call."
                )
            return torch.full((len(scores),), default, device=scores.device)
        whole = name != "vehicles" or not (given.is_floating_point() or given.dtype == torch.bool)
        if given.shape != (len(scores),) or not whole:
            raise ValueError(
                f"{type(self).__name__}: `{name}` is {given.dtype} of shape {tuple(given.shape)}; expected "
                f"{'numbers' if name == 'capacity' else 'integers'} of shape {(len(scores),)}, one for each instance."
            )
        return given

    def _refuse(self, failed: Tensor, error: type[InstanceError], text: str) -> None:
        if failed.any():
            where = f"instance {first_instance(failed)} ({int(failed.sum())} of {len(failed)} instances)"
            raise error(f"{type(self).__name__}: {where} {text}", failed)


_NO_DEPOT = "has no depot: node 0 is False everywhere in its mask. A node needs a True in its row or column."
_SPLIT = "Use larger vehicles, or split the demand between several nodes at the same place."
_FAILURES: dict[int, tuple[type[InstanceError], str]] = {
    INVALID: (
        InstanceError,
        "has a distance of minus infinity. An infinite distance forbids a step; minus infinity would outweigh everything.",
    ),
    INFEASIBLE: (
        InfeasibleError,
        "has no routes that serve all its customers along the steps that are allowed. Allow more steps, or more or larger "
        "vehicles: the customers may not fit, though their total does.",
    ),
    NOTHING_FOUND: (
        InfeasibleError,
        "has no known routes: the search found none along the steps that are allowed, though there may be some. Allow more "
        "steps, more vehicles or more seconds, or use ExactVehicleRouting for few customers.",
    ),
}


def statuses(fleet: Fleet) -> Tensor:
    """SOLVED, or INVALID where a step that may be used costs minus infinity.  # -> (B,)"""
    steps = fleet.costs.masked_fill(torch.eye(fleet.costs.shape[1], dtype=torch.bool, device=fleet.costs.device), 0)
    return torch.where((steps == -torch.inf).flatten(1).any(1), INVALID, SOLVED)


def _in_order(steps: Tensor) -> list[list[int]]:
    """Routes from the depot on.  # (n, n) -> lists"""
    onward = [row.nonzero()[:, 0].tolist() for row in steps]
    left, routes = set(range(1, len(steps))), []
    for first in onward[0]:
        if first not in left:
            continue  # the other end of a route that goes both ways
        route = [first]
        left.discard(first)
        while following := [node for node in onward[route[-1]] if node in left]:
            route.append(following[0])
            left.discard(following[0])
        routes.append(route)
    return routes
