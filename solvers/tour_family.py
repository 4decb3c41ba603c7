"""What all travelling salesman problems share: facts, ragged batches, failures, and reading a tour."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, SolverTimeoutError, first_instance
from solverlayers.solver import Solution, Solver, inner

from .common import check_mask
from .kernels.held_karp import INFEASIBLE, INVALID, NOTHING_FOUND, SOLVED, STOPPED, Tours

_NATIVE = (torch.float32, torch.float64)


@dataclass(frozen=True)
class TourProblem(Solver):
    """Shortest round trips that visit each city once; the solution marks the steps of the trip.

    Minimises `<scores, y>`, where `scores (B, n, n)` are distances from the row to the column. If `directed`, `y` is 1 where
    the trip goes from the row to the column, and `<scores, y>` is its length. Otherwise `y` is the symmetric adjacency matrix
    of the trip, as in Vlastelica et al. (ICLR 2020), both triangles of the scores count, and `<scores, y>` is twice the length
    of the trip (with two cities: once, since the trip has one edge). The diagonal is never used.

    `mask (B, n, n)`, boolean, is False for a step that is not allowed; an infinite distance forbids it, too. A city whose row
    and column are False is padding. Raises InfeasibleError for an instance without a city or a trip, InstanceError for a
    distance of minus infinity. Sums are formed in the dtype of the scores; those of integers in float64, exactly below 2**53.
    """

    directed: bool = False

    event_dim = 2
    sense = "min"
    binary = True
    constant_sum = True
    hull = "round trips"
    constant_norm = True

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """The trips, as adjacency matrices.  # (B, n, n), (B, n, n) -> (B, n, n)"""
        tours = self._all_tours(scores, mask)
        y = self._marked(tours.order, scores)
        if tours.status is not None:
            self._fail(tours.status, y)
        return y

    def solve_with_info(self, scores: Tensor, mask: Tensor | None = None) -> Solution:
        """The trips, with the bound that the algorithm proves; one that a time limit cut short is returned, too."""
        self.check(scores, **({} if mask is None else {"mask": mask}))
        tours = self._all_tours(scores, mask, bounds=True)
        y = self._marked(tours.order, scores)
        stopped = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        if tours.status is not None:
            stopped = tours.status == STOPPED
            if (~stopped & (tours.status != SOLVED)).any():
                self._fail(torch.where(stopped, SOLVED, tours.status), y)
        objective = inner(scores.double(), y.double(), 2)
        bound = objective if tours.bound is None else tours.bound.minimum(objective)
        proved = ~stopped if self.exact else objective - bound <= 1e-9 * objective.abs()
        return Solution(y, objective, proved, bound)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """The part that has zero row and column sums over the allowed steps (and is symmetric).  # (*S, B, n, n)"""
        if mask is None:
            return _without_sums_of_all(direction if self.directed else (direction + direction.mT) / 2)
        allowed = ~torch.eye(direction.shape[-1], dtype=torch.bool, device=direction.device)
        allowed = allowed & (mask if self.directed else mask & mask.mT)
        direction = direction if self.directed else (direction + direction.mT) / 2
        return without_sums(torch.where(allowed, direction, 0), allowed)

    def decode(self, y: Tensor, mask: Tensor | None = None, **instance: Tensor) -> list[list[int]]:
        """The cities of each trip in order, from the lowest on, and (if undirected) to its lower neighbour.  # (B, n, n)

        >>> from solverlayers.solvers.tsp import TSP
        >>> TSP().decode(torch.tensor([[[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]]))
        [[0, 1, 2, 3]]
        """
        real = (y != 0).any(-1) if mask is None else mask.any(1) | mask.any(2)
        first = real.to(torch.uint8).argmax(1).tolist()
        return [_in_order(trip, start) for trip, start in zip((y != 0).cpu(), first)]

    @abstractmethod
    def _tours(self, costs: Tensor, bounds: bool) -> Tours:
        """Trips through at least two cities, by `costs` of steps from row to column.  # (B, n, n) -> Tours"""

    def _all_tours(self, scores: Tensor, mask: Tensor | None, bounds: bool = False) -> Tours:
        """Trips of cities numbered as in the scores; padding repeats the last city.  # (B, n, n) -> Tours"""
        check_mask(self, scores, mask)
        name, cities = type(self).__name__, scores.shape[-1]
        if scores.shape[1] != cities or cities == 0:
            raise ValueError(
                f"{name}: scores have shape {tuple(scores.shape)}; expected (B, n, n), the distances between n cities, "
                f"with at least one."
            )
        if scores.dtype == torch.bool or scores.is_complex():
            raise TypeError(
                f"{name}: scores are {scores.dtype}; distances are real or integer numbers, such as `scores.float()`."
            )
        costs = self._costs(scores, mask)
        return self._sized_tours(costs, bounds) if mask is None else self._ragged_tours(costs, mask, bounds)

    def _costs(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """What a step costs, infinite where it is not allowed.  # (B, n, n) -> (B, n, n)"""
        if scores.dtype not in _NATIVE:
            scores = scores.to(torch.float32 if scores.dtype.is_floating_point else torch.float64)
        costs = scores if mask is None else torch.where(mask, scores, torch.inf)
        return costs if self.directed else costs + costs.mT

    def _sized_tours(self, costs: Tensor, bounds: bool) -> Tours:
        if costs.shape[1] == 1 or len(costs) == 0:
            zeros = torch.zeros(costs.shape[:2], dtype=torch.int64, device=costs.device)
            return Tours(zeros, None, zeros.sum(1).double())
        return self._tours(costs, bounds)

    def _ragged_tours(self, costs: Tensor, mask: Tensor, bounds: bool) -> Tours:
        """Instances with equally many cities are solved together, without the padding."""
        real = mask.any(1) | mask.any(2)
        sizes = real.sum(1)
        first = (~real).to(torch.uint8).argsort(dim=1, stable=True)  # the cities, and then the padding
        out = Tours(
            torch.zeros_like(first),
            torch.full_like(sizes, INFEASIBLE),
            torch.full_like(sizes, torch.nan, dtype=torch.float64),
        )
        assert out.status is not None
        assert out.bound is not None
        for size in sizes.unique().tolist():
            if size == 0:
                continue
            rows = (sizes == size).nonzero()[:, 0]
            cities = first[rows, :size]
            part = self._sized_tours(costs[rows[:, None, None], cities[:, :, None], cities[:, None, :]], bounds)
            visits = cities.gather(1, part.order)
            out.order[rows] = visits[:, torch.arange(first.shape[1], device=rows.device).clamp_max(size - 1)]
            out.status[rows] = SOLVED if part.status is None else part.status.to(rows)
            if part.bound is not None:
                out.bound[rows] = part.bound
        status = None if bool((out.status == SOLVED).all()) else torch.where(sizes == 0, _NO_CITY, out.status)
        return Tours(out.order, status, None if out.bound.isnan().all() else out.bound)

    def _marked(self, order: Tensor, scores: Tensor) -> Tensor:
        """Adjacency matrices of trips; one that repeats its last city stays there.  # (B, n), (B, n, n) -> (B, n, n)"""
        y = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        step = order * scores.shape[-1] + order.roll(-1, 1)
        y.flatten(1).scatter_(1, step, True)
        y.diagonal(dim1=1, dim2=2).zero_()
        return (y if self.directed else y | y.mT).to(scores.dtype)

    def _fail(self, status: Tensor, y: Tensor) -> None:
        name = type(self).__name__
        for code, (error, text) in _FAILURES.items():
            failed = status == code
            if failed.any():
                where = f"{name}: instance {first_instance(failed)} ({int(failed.sum())} of {len(status)} instances) "
                if error is SolverTimeoutError:
                    raise SolverTimeoutError(where + text, failed, y)
                raise error(where + text, failed)


_NO_CITY = 5
_FAILURES: dict[int, tuple[type[InstanceError], str]] = {
    _NO_CITY: (
        InfeasibleError,
        "has no city: its mask is False everywhere. A city needs a True in its row or column; a single one, on the diagonal.",
    ),
    INVALID: (
        InstanceError,
        "has a distance of minus infinity. An infinite distance forbids a step; minus infinity would outweigh everything.",
    ),
    INFEASIBLE: (
        InfeasibleError,
        "has no trip through all its cities along the steps that are allowed. Allow more steps: `mask` and infinite distances "
        "forbid them, and a city is left out only if both its row and its column are False in `mask`.",
    ),
    NOTHING_FOUND: (
        InfeasibleError,
        "has no known trip: the search found none along the steps that are allowed, though there may be one. Allow more steps, "
        "or use TSP, which is exact.",
    ),
    STOPPED: (
        SolverTimeoutError,
        "was not solved to optimality within the time limit. Raise `time_limit`, take the best trip found with "
        '`SolverLayer(..., on_failure="last")`, or use TourSearch.',
    ),
}


def _in_order(steps: Tensor, start: int) -> list[int]:
    """The cities met from `start` on.  # (n, n) -> list"""
    neighbours = [row.nonzero()[:, 0].tolist() for row in steps]
    trip, left = [start], set(range(len(steps))) - {start}
    while onward := [city for city in neighbours[trip[-1]] if city in left]:
        trip.append(onward[0])
        left.discard(onward[0])
    return trip


def _without_sums_of_all(direction: Tensor) -> Tensor:
    """`without_sums` where all steps but the diagonal are allowed.  # (*S, B, n, n)"""
    n = direction.shape[-1]
    if n < 3:
        return torch.zeros_like(direction)
    diagonal = torch.eye(n, dtype=torch.bool, device=direction.device)
    direction = direction.masked_fill(diagonal, 0)
    rows, columns = direction.sum(-1), direction.sum(-2)
    half = rows.sum(-1, keepdim=True) / (2 * (n - 1))  # the sum of u, and of v
    rows, columns = rows - half, columns - half
    u, v = (((n - 1) * one + other) / (n * (n - 2)) for one, other in ((rows, columns), (columns, rows)))
    return (direction - u[..., :, None] - v[..., None, :]).masked_fill(diagonal, 0)


def without_sums(direction: Tensor, allowed: Tensor, constant: Tensor | None = None) -> Tensor:
    """`direction - u_i - v_j` on the allowed steps, with u and v for which rows and columns sum to zero.  # (*S, B, n, n)

    If not all rows and columns have to, u and v are zero for the others: those whose number is not in `constant (n,)`, boolean.
    """
    n = direction.shape[-1]
    incidence = allowed.to(torch.float64)
    rows, columns = torch.diag_embed(incidence.sum(-1)), torch.diag_embed(incidence.sum(-2))
    normal = torch.cat([torch.cat([rows, incidence], -1), torch.cat([incidence.mT, columns], -1)], -2)
    sums = torch.cat([direction.sum(-1), direction.sum(-2)], -1)
    if constant is not None:
        both = constant.repeat(2)
        normal, sums = torch.where(both[:, None] & both, normal, 0), torch.where(both, sums, 0)
    u, v = (torch.linalg.pinv(normal, hermitian=True).to(direction.dtype) @ sums[..., None])[..., 0].split(n, -1)
    return torch.where(allowed, direction - u[..., :, None] - v[..., None, :], 0)
