"""Travelling salesman: shortest round trips through all cities, with distances as scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.solver import Sense, Solution

from . import subset_paths, tour_moves
from .common import check_seconds, greatest_gain
from .kernels import held_karp, tour_search, usable
from .kernels.held_karp import SOLVED, Tours
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

    `warm_start (B, 2, n, n)`, other distances of the same instances and their shortest trips, is what the second solve of a
    finite difference has from the first one, above 15 cities: an instance whose distances only moved in favour of its trip
    (those of its steps down, others up) is not solved again. Where one trip is the shortest this changes nothing.

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

    def solve(self, scores: Tensor, mask: Tensor | None = None, warm_start: Tensor | None = None) -> Tensor:
        """The trips, as adjacency matrices.  # (B, n, n), (B, n, n), (B, 2, n, n) -> (B, n, n)"""
        if warm_start is None:
            return super().solve(scores, mask)
        y, left = self._settled(scores, mask, warm_start)
        tours = self._all_tours(scores[left], None if mask is None else mask[left])
        y[left] = self._marked(tours.order, scores[left])
        if tours.status is not None:
            self._fail(torch.full_like(left, SOLVED, dtype=tours.status.dtype).masked_scatter(left, tours.status), y)
        return y

    def solve_with_info(self, scores: Tensor, mask: Tensor | None = None, warm_start: Tensor | None = None) -> Solution:
        """The trips, with the bound that the algorithm proves, anew; one that a time limit cut short is returned, too."""
        return super().solve_with_info(scores, mask)

    def optimise_with_start(
        self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What `optimise` returns, and the distances with it as a start.  # (B, n, n) -> (B, n, n), (B, 2, n, n)"""
        y = self.optimise(*scores, sense=sense, **instance)
        return y, None if y.shape[-1] <= MOST_BY_SUBSETS else torch.stack([self._own(scores[0], sense), y], 1)

    def _settled(self, scores: Tensor, mask: Tensor | None, warm_start: Tensor) -> tuple[Tensor, Tensor]:
        """The trips that it gives, and which of them may not be the shortest any more.  # -> (B, n, n), (B,)"""
        if warm_start.shape != (len(scores), 2, *scores.shape[1:]):
            raise ValueError(
                f"TSP: `warm_start` has shape {tuple(warm_start.shape)}; it needs to be distances and their shortest trips, "
                f"{(len(scores), 2, *scores.shape[1:])}."
            )
        before, y = warm_start.unbind(1)
        costs, costs_before = (self._costs(s, mask).clone() for s in (scores, before))
        for one in (costs, costs_before):
            one.diagonal(dim1=1, dim2=2).zero_()  # which no trip uses
        return y.to(scores.dtype, copy=True), greatest_gain(costs, costs_before, y) != 0

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
