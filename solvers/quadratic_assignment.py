"""Quadratic assignment: facilities at places, where what two of them cost depends on where both are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.solver import Sense, Solution, inner

from .assignment import CompleteAssignment
from .augmenting_paths import real_lines
from .kernels.graph_matching import Problem
from .searched_matching import SearchedMatching, indicator


@dataclass(frozen=True)
class QuadraticAssignment(SearchedMatching, CompleteAssignment):
    """Quadratic assignment in the form of Koopmans and Beckmann, by Frank-Wolfe and tabu search from several starts.

    Minimises `<scores, y> + sum_ijkl flows_ij distances_kl y_ik y_jl` over matchings `y (B, n, m)` that leave out as few as
    possible: n facilities at m places, with `scores (B, n, m)` for what a place costs a facility, `flows (B, n, n)` between
    facilities and `distances (B, m, m)` between places. Neither needs to be symmetric. Infinite scores forbid pairs;
    `mask (B, n, m)` does so, too, and makes rows and columns without any allowed pair padding. With `partial` any may stay
    alone at no cost: only pairs that lower the cost are made, so what it is worth to have a place is a negative score.

    `warm_start (B, n, m)`, a matching that is allowed, such as the solution for similar scores, takes the place of the last
    start, so that what is found is never worse than it; `restarts=1` searches from it alone. Raises InstanceError where it is
    no such matching. Rules give none: the search for similar scores begins anew, so that both answers come about alike.

    Deterministic: starts depend on `seed` and on the places of rows and columns. Not exact, but mostly optimal up to 30
    rows; `solve_with_info` has a proved bound. `ExactQuadraticAssignment` proves optimality.

    Args:
        partial: whether rows and columns may stay alone though they could be matched.
        restarts: starts: the centre of the relaxation first, then points half way to pseudo-random matchings.
        iterations: most Frank-Wolfe steps of a start.
        exchanges: steps of tabu search from each local optimum; `restarts=1, exchanges=0` is the fast way.
        seed: of the starts.

    >>> line, ring = torch.tensor([[[0.0, 1, 2], [1, 0, 1], [2, 1, 0]]]), torch.tensor([[[0.0, 5, 1], [5, 0, 5], [1, 5, 0]]])
    >>> solver = QuadraticAssignment()
    >>> solver.partners(solver(torch.zeros(1, 3, 3), flows=ring, distances=line))
    tensor([[0, 1, 2]])

    Sources: J. T. Vogelstein et al., "Fast approximate quadratic programming for graph matching", PLOS ONE 10 (2015);
    E. Taillard, "Robust taboo search for the quadratic assignment problem", Parallel Computing 17 (1991).
    """

    partial: bool = False
    restarts: int = 8
    iterations: int = 30
    exchanges: int = 200
    seed: int = 0

    sense = "min"
    scale_free = False
    _quadratic = "flows or distances"

    @property
    def constant_sum(self) -> bool:  # type: ignore[override]
        """Whether all solutions leave out as few as possible."""
        return not self.partial

    def solve(  # type: ignore[override]
        self,
        scores: Tensor,
        flows: Tensor,
        distances: Tensor,
        mask: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> Tensor:
        """Good matchings.  # (B, n, m), (B, n, n), (B, m, m), (B, n, m), (B, n, m) -> (B, n, m)"""
        return indicator(self._search(self._problem(scores, flows, distances, mask), warm_start).partners, scores)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """Good matchings with a bound: dual ascent up to 32 rows, Gilmore and Lawler's above.  # (B, n, m) -> Solution"""
        y = self(scores, **instance)
        instance.pop("warm_start", None)
        problem, objective = self._problem(scores, **instance), self._objective(scores, y, **instance)
        sizes = {name: data.double().abs() for name, data in instance.items() if name != "mask"}
        size = self._objective(scores.double().abs(), y, **{**instance, **sizes})
        return self._info(y, problem, self.partners(y), objective, size)

    def offset(  # type: ignore[override]
        self, y: Tensor, flows: Tensor, distances: Tensor, mask: Tensor | None = None, warm_start: Tensor | None = None
    ) -> Tensor:
        """What the pairs cost together.  # (*S, B, n, m) -> (*S, B)"""
        if mask is not None:
            rows, columns = real_lines(y, mask)
            flows = torch.where(rows.unsqueeze(2) & rows.unsqueeze(1), flows, 0)
            distances = torch.where(columns.unsqueeze(2) & columns.unsqueeze(1), distances, 0)
        dtype = y.dtype if y.is_floating_point() else torch.float64
        y = y.to(dtype)
        return (flows.to(dtype) * (y @ distances.to(dtype) @ y.mT)).sum((-2, -1))

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """As for an assignment; partial matchings differ in every allowed pair.  # (*S, B, n, m) -> (*S, B, n, m)"""
        return self._tangent(direction, mask)

    def _objective(self, scores: Tensor, y: Tensor, **instance: Tensor) -> Tensor:
        return inner(scores.double(), y.double(), 2) + self.offset(y.double(), **instance)

    def _problem(self, scores: Tensor, flows: Tensor, distances: Tensor, mask: Tensor | None = None) -> Problem:
        count, n, m = self._checked(scores, mask).shape
        for name, tensor, size in (("flows", flows, n), ("distances", distances, m)):
            if tensor.shape != (count, size, size):
                raise ValueError(
                    f"{type(self).__name__}: `{name}` has shape {tuple(tensor.shape)}; it needs shape {(count, size, size)}, "
                    f"a number for every two {'rows' if name == 'flows' else 'columns'} of the scores, which have shape "
                    f"{(count, n, m)}."
                )
        return Problem(scores.double(), mask, flows.double(), distances.double(), partial=self.partial)


@dataclass(frozen=True)
class ExactQuadraticAssignment(QuadraticAssignment):
    """QuadraticAssignment with a proof, by branch and bound from the matching that the search finds; for about 12 rows.

    Raises SolverTimeoutError, with the best known matchings as `incumbent`, for instances that `nodes` nodes do not solve, and
    ValueError above 32 rows or columns. Runs on the CPU whatever the device. Matchings as good up to rounding are not preferred
    one to the other.

    `warm_start` may also be what `maximise_with_start` gives, other scores and their optimal matchings, as the second solve of
    a finite difference has them. An instance whose scores only moved in favour of its matching is then not proved again; for
    others the search begins there alone. Where one matching is optimal this changes nothing.

    >>> a, b = torch.rand(2, 2, 9, 9)
    >>> info = ExactQuadraticAssignment().solve_with_info(torch.zeros(2, 9, 9), flows=a, distances=b)
    >>> info.optimal
    tensor([True, True])

    Source: P. M. Hahn, T. Grant, "Lower bounds for the quadratic assignment problem based upon a dual formulation", Operations
    Research 46 (1998).
    """

    nodes: int = 100_000  # type: ignore[misc]

    exact = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, nodes=0)

    def solve(  # type: ignore[override]
        self,
        scores: Tensor,
        flows: Tensor,
        distances: Tensor,
        mask: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> Tensor:
        """Optimal matchings.  # (B, n, m), (B, n, n), (B, m, m), (B, n, m), (B, n, m) -> (B, n, m)"""
        found = self._proved(self._problem(scores, flows, distances, mask), (scores,), self.nodes, warm_start)
        y = indicator(found.partners, scores)
        if found.status is not None:
            self._time_out(found.status, y)
        return y

    def optimise_with_start(
        self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What `optimise` returns, and the scores with it as a start.  # (B, n, m) -> (B, n, m), (B, 2, n m)"""
        y = self.optimise(*scores, sense=sense, **instance)
        return y, self._start(scores, sense, y)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """Optimal matchings.  # (B, n, m) -> Solution"""
        y = self(scores, **instance)
        objective = self._objective(scores, y, **instance)
        return Solution(y, objective, torch.ones_like(objective, dtype=torch.bool), objective)
