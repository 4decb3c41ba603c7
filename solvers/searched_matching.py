"""What quadratic assignment and graph matching share: failures, bounds, a search from several starts, and a proof."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.errors import InstanceError, SolverTimeoutError, first_instance
from solverlayers.solver import Sense, Solution, packed

from . import graph_proof, graph_search
from .assignment import BipartiteMatching, CompleteAssignment
from .common import certified, greatest_gain
from .kernels import graph_matching as kernel
from .kernels import usable
from .kernels.graph_matching import INVALID, LIMIT, Effort, Problem, Search

_LEAST_SEED = -(2**63)  # of those that the kernel takes


class QuadraticMatching(BipartiteMatching):
    """Matchings whose pairs have scores two by two, too."""

    exact = False
    binary = True
    hull = "matchings of a quadratic objective"
    partial: bool

    def _tangent(self, direction: Tensor, mask: Tensor | None) -> Tensor:
        """As for an assignment; partial matchings differ in every allowed pair.  # (*S, B, n, m) -> (*S, B, n, m)"""
        if self.partial:
            return direction if mask is None else torch.where(mask, direction, 0)
        return CompleteAssignment.tangent(self, direction, mask=mask)  # type: ignore[arg-type]

    def _bound(self, problem: Problem, partners: Tensor) -> Tensor:
        """What dual ascent proves of the objective, from the matching `partners (B, n)`.  # -> (B,)"""
        return graph_proof.prove(problem, partners, 0).bound

    def _fail(self, status: Tensor, scores: Tensor, mask: Tensor | None) -> None:
        invalid = status == INVALID
        allowed = scores.isfinite() if mask is None else scores.isfinite() | ~mask
        other = invalid & allowed.flatten(1).all(1)
        if other.any():
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(other)} has NaN or infinite numbers in its {self._quadratic} "
                f"({int(other.sum())} of {len(other)} instances). Only scores of single pairs may be infinite, to forbid them.",
                other,
            )
        super()._fail(status, scores, mask)

    _quadratic: ClassVar[str]
    _advice = (
        "All rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes altogether are "
        "padding. Allow more pairs."
    )

    def _info(
        self, y: Tensor | tuple[Tensor, ...], problem: Problem, partners: Tensor, objective: Tensor, size: Tensor
    ) -> Solution:
        """`y` with a bound, which often proves that small matchings are optimal; `size (B,)` is the sum of what it scores."""
        bound = self._bound(problem, partners)
        return certified(y, objective, (objective - bound).abs() <= 1e-9 * size, bound)


class SearchedMatching(QuadraticMatching):
    """Solvers that search from several starts, and ask branch and bound what is proved."""

    nodes: ClassVar[int] = 0
    restarts: int
    iterations: int
    exchanges: int
    seed: int

    def __post_init__(self) -> None:
        check_counts(self, restarts=1, iterations=0, exchanges=0, seed=_LEAST_SEED)

    def _search(self, problem: Problem, warm_start: Tensor | None = None) -> Search:
        """The best matchings found, `warm_start (B, n, m)` being the first one."""
        start = None if warm_start is None else self._start_partners(problem, warm_start)
        found = self._find(problem, self.restarts, start)
        if found.status is not None:
            self._fail(found.status, problem.scores, problem.mask)
        return found

    def _find(self, problem: Problem, restarts: int, start: Tensor | None) -> Search:
        """The best matchings from so many starts, `start (B, n)` being the last one, and which instances have none."""
        if problem.scores.numel() == 0:
            return Search(problem.scores.new_full(problem.scores.shape[:2], -1, dtype=torch.int64), None)
        effort = Effort(restarts, self.iterations, self.exchanges, self.seed)
        backend = kernel if usable(problem.scores) else graph_search
        partners, status = backend.search(problem, effort, start)
        return Search(partners, None if status is None else status.to(partners.device))

    def _start_partners(self, problem: Problem, warm_start: Tensor) -> Tensor:
        """The partners that it gives, if it is a solution of each instance.  # (B, n, m) -> (B, n)"""
        name, (scores, mask) = type(self).__name__, problem[:2]
        if warm_start.shape != scores.shape:
            raise ValueError(
                f"{name}: `warm_start` has shape {tuple(warm_start.shape)}; it needs to be matchings, of shape "
                f"{tuple(scores.shape)} like the scores of pairs."
            )
        y = warm_start != 0
        allowed = scores != (-torch.inf if problem.maximize else torch.inf)
        allowed = allowed if mask is None else allowed & mask
        wrong = (y & ~allowed).flatten(1).any(1) | (y.sum(1) > 1).any(1) | (y.sum(2) > 1).any(1)
        if not problem.partial:
            real = torch.ones_like(allowed) if mask is None else mask
            wrong |= y.sum((1, 2)) < torch.minimum(real.any(1).sum(1), real.any(2).sum(1))
        if wrong.any():
            raise InstanceError(
                f"{name}: `warm_start` of instance {first_instance(wrong)} is no matching of pairs that are allowed that "
                f"leaves nobody out ({int(wrong.sum())} of {len(wrong)} instances). Use a solution for the same `mask`, or "
                f"none.",
                wrong,
            )
        return self.partners(warm_start)

    def _proved(self, problem: Problem, scores: tuple[Tensor, ...], nodes: int, warm_start: Tensor | None) -> Search:
        """The best matchings, with the status LIMIT where that is not proved; from matchings or from what `_start` gives."""
        size = sum(problem.scores.shape[1:]) if problem.partial else max(problem.scores.shape[1:])
        if size > graph_proof.LARGEST:
            raise ValueError(
                f"{type(self).__name__}: the scores have shape {tuple(problem.scores.shape)}, which is {size} rows or columns"
                f"{', as any may stay alone' if problem.partial else ''}; proofs reach {graph_proof.LARGEST}. Use "
                f"{type(self).__name__.removeprefix('Exact')}, whose `solve_with_info` has a bound."
            )
        given = packed(scores)
        if warm_start is not None and warm_start.shape == (len(given), 2, given.shape[1]):
            return self._proved_again(problem, given, nodes, *warm_start.unbind(1))
        found = self._search(problem, warm_start)
        return Search(*graph_proof.prove(problem, found.partners, nodes)[:2])

    def _proved_again(self, problem: Problem, scores: Tensor, nodes: int, before: Tensor, y: Tensor) -> Search:
        """The same, from matchings `y` that are the best at the scores `before`; all packed.  # (B, N)"""
        sign = 1 if self.sense == "min" else -1
        unsettled = greatest_gain(sign * scores, sign * before, y) != 0
        pairs = y[:, : problem.scores.shape[1] * problem.scores.shape[2]].view_as(problem.scores)
        partners = self._start_partners(problem, pairs)
        some: dict[str, Any] = {name: t[unsettled] for name, t in problem._asdict().items() if isinstance(t, Tensor)}
        left = problem._replace(**some)

        def of_all(status: Tensor) -> Tensor:
            return torch.zeros_like(unsettled, dtype=torch.uint8).masked_scatter(unsettled, status)

        found = self._find(left, 1, partners[unsettled])
        if found.status is not None:
            self._fail(of_all(found.status), problem.scores, problem.mask)
        proof = graph_proof.prove(left, found.partners, nodes)
        partners[unsettled] = proof.partners
        return Search(partners, None if proof.status is None else of_all(proof.status))

    def _start(self, scores: tuple[Tensor, ...], sense: Sense | None, y: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Scores and their best matchings, all of one length.  # (B, *E), (B, *E) -> (B, 2, N)"""
        return torch.stack([self._own(packed(scores), sense), packed(y if isinstance(y, tuple) else (y,))], 1)

    def _time_out(self, status: Tensor, incumbent: Tensor) -> None:
        late = status == LIMIT
        raise SolverTimeoutError(
            f"{type(self).__name__}: instance {first_instance(late)} is not solved after {self.nodes} nodes "  # type: ignore[attr-defined]
            f"({int(late.sum())} of {len(late)} instances). Raise `nodes`, or use {type(self).__name__.removeprefix('Exact')}, "
            f"which is as good on nearly all instances without the proof.",
            late,
            incumbent,
        )


def indicator(partners: Tensor, like: Tensor) -> Tensor:
    """The matching in which each row has its partner, -1 for none.  # (B, n), (B, n, m) -> (B, n, m)"""
    y = torch.zeros_like(like, dtype=torch.bool, memory_format=torch.contiguous_format)
    if y.numel():
        y.scatter_(2, partners.clamp(min=0).unsqueeze(2), (partners >= 0).unsqueeze(2))
    return y.to(like.dtype)
