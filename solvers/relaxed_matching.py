"""Graph matching by soft matchings, made whole by an assignment: the heuristics of the field, in plain torch on any device."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from solverlayers.arguments import check_counts, check_numbers

from .assignment import real_lines
from .kernels.graph_matching import INVALID, Problem
from .lawler_matching import LawlerMatching
from .quadratic_form import Edges, edges_of


class _Scores(NamedTuple):
    """What pairs of vertices score alone and two by two; `allowed (B, n, m)` says which may be."""

    alone: Tensor  # (B, n, m)
    together: Edges
    allowed: Tensor

    def slope(self, x: Tensor) -> Tensor:
        """The gradient of the score of a soft matching.  # (B, n, m) -> (B, n, m)"""
        return torch.where(self.allowed, self.alone + self.together.gradient(x), 0.0)

    def walk(self, x: Tensor) -> Tensor:
        """The affinities times x, those of a pair with itself being its own score.  # (B, n, m) -> (B, n, m)"""
        return torch.where(self.allowed, self.alone * x + self.together.gradient(x) / 2, 0.0)

    def positive(self) -> _Scores:
        """Raised by a constant to be non-negative where any is negative, apart for pairs of vertices and of edges."""
        edges = self.together
        ends = (edges.source1, edges.target1), (edges.source2, edges.target2)
        return self._replace(alone=_raised(self.alone, self.allowed), together=Edges(*ends, _raised(edges.costs, edges.real)))


def _raised(scores: Tensor, real: Tensor) -> Tensor:
    if scores[0].numel() == 0:
        return scores
    lowest = scores.masked_fill(~real, 0.0).amin((1, 2), keepdim=True).clamp(max=0)
    return torch.where(real, scores - lowest, 0.0)


class RelaxedMatching(LawlerMatching):
    """Heuristics that find a soft matching, of which an assignment makes a matching."""

    iterations: int

    def __post_init__(self) -> None:
        check_counts(self, iterations=1)

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Matchings, seldom the best.  # (B, n, m), (B, E1, E2), (B, 2, E1), (B, 2, E2), (B, n, m) -> (B, n, m), (B, E1, E2)"""
        problem = self._problem(vertices, edges, edge_index1, edge_index2, mask)
        y = torch.zeros_like(problem.scores) if vertices.numel() == 0 else self._find(self._scores(problem), mask)
        return self._solution(self.partners(y), vertices, edges, edge_index1, edge_index2)

    @abstractmethod
    def _find(self, scores: _Scores, mask: Tensor | None) -> Tensor:
        """Matchings.  # -> (B, n, m)"""

    def _scores(self, problem: Problem) -> _Scores:
        """The scores of real vertices and edges; raises for NaN, and for infinite numbers that do not forbid."""
        assert problem.pairs is not None
        mask = torch.ones_like(problem.scores, dtype=torch.bool) if problem.mask is None else problem.mask
        allowed = mask & (problem.scores != -torch.inf)
        order = (torch.arange(size, device=mask.device) for size in mask.shape[1:])
        ranks = [torch.where(real, each, -1) for real, each in zip(real_lines(mask, mask), order)]
        together, loops = edges_of(problem, ranks, (mask.shape[1], mask.shape[2]), 1.0)
        alone = torch.where(allowed, problem.scores + loops, 0.0)
        invalid = ~(alone.isfinite().flatten(1).all(1) & together.costs.isfinite().flatten(1).all(1))
        if invalid.any():
            self._fail(torch.where(invalid, INVALID, 0).to(torch.uint8), problem.scores, problem.mask)
        return _Scores(alone, together, allowed)

    def _whole(self, soft: Tensor, scores: _Scores, mask: Tensor | None) -> Tensor:
        """The matching of greatest sum, less the pairs that do not pay if these may stay alone.  # (B, n, m) -> (B, n, m)"""
        y = self._match(torch.where(scores.allowed, soft, -torch.inf), mask).solution
        return _paying(y, scores) if self.partial else y


def _paying(y: Tensor, scores: _Scores) -> Tensor:
    """Without the pairs whose loss is a gain, the greatest first.  # (B, n, m) -> (B, n, m)"""
    for _ in range(min(y.shape[1:])):
        brings, at = torch.where(y != 0, scores.slope(y), torch.inf).flatten(1).min(1, keepdim=True)
        if not (brings < 0).any():
            break
        flat = y.flatten(1)
        y = flat.scatter(1, at, torch.where(brings < 0, 0.0, flat.gather(1, at))).view_as(y)
    return y


def _start(allowed: Tensor) -> Tensor:
    """All allowed pairs alike, of sum 1."""
    x = allowed.double()
    return x / x.sum((1, 2), keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class SpectralMatching(RelaxedMatching):
    """Graph matching by the principal eigenvector of all affinities (Leordeanu and Hebert, 2005): fast, and rough.

    Takes what GraphMatching takes. The eigenvector `x` of `W`, scores of pairs of vertices on the diagonal and of pairs of
    edges off it, is found by `iterations` of `x <- x / 5|x| + W x / |W x|`, and made a matching by an assignment. Negative
    scores are raised to zero first, all by the same constant; with `partial`, the pairs that do not pay are then given up one
    by one.

    >>> path, back = torch.tensor([[[0, 1], [1, 2]]]), torch.tensor([[[2, 1], [1, 0]]])
    >>> solver = SpectralMatching()
    >>> y, z = solver(torch.eye(3).flip(0)[None], torch.ones(1, 2, 2), edge_index1=path, edge_index2=back)
    >>> solver.partners(y)
    tensor([[2, 1, 0]])

    Source: M. Leordeanu, M. Hebert, "A spectral technique for correspondence problems using pairwise constraints", ICCV 2005.
    """

    partial: bool = False
    iterations: int = 50

    def _find(self, scores: _Scores, mask: Tensor | None) -> Tensor:
        affinities, x = scores.positive(), _start(scores.allowed)
        for _ in range(self.iterations):
            step = affinities.walk(x)
            x = 0.2 * x / _norm(x) + step / _norm(step)  # without the first, x would swing between two sides of a bipartite W
        return self._whole(x, scores, mask)


def _norm(x: Tensor) -> Tensor:
    """Of each instance, 1 for nothing.  # (B, n, m) -> (B, 1, 1)"""
    norm = x.square().sum((1, 2), keepdim=True).sqrt()
    return torch.where(norm > 0, norm, 1.0)


@dataclass(frozen=True)
class RRWM(RelaxedMatching):
    """Graph matching by reweighted random walks (Cho, Lee and Lee, 2010): robust to outliers and deformation.

    Takes what GraphMatching takes. A walker among pairs of vertices follows the affinities with weight `alpha`, and else jumps
    to pairs as likely as its own distribution, inflated by `exp(beta x / max x)` and made bistochastic. Where it is after
    `iterations` steps is made a matching by an assignment. Negative scores are raised to zero first, all by the same constant;
    with `partial`, the pairs that do not pay are then given up one by one.

    >>> path, back = torch.tensor([[[0, 1], [1, 2]]]), torch.tensor([[[2, 1], [1, 0]]])
    >>> solver = RRWM()
    >>> y, z = solver(torch.eye(3).flip(0)[None], torch.ones(1, 2, 2), edge_index1=path, edge_index2=back)
    >>> solver.partners(y)
    tensor([[2, 1, 0]])

    Source: M. Cho, J. Lee, K. M. Lee, "Reweighted random walks for graph matching", ECCV 2010.
    """

    partial: bool = False
    iterations: int = 50
    alpha: float = 0.2
    beta: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "alpha", "beta")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"RRWM: alpha={self.alpha}; it is the weight of walking, more than 0 and at most 1.")
        if not self.beta > 0:
            raise ValueError(f"RRWM: beta={self.beta}; it must be positive.")

    def _find(self, scores: _Scores, mask: Tensor | None) -> Tensor:
        affinities, x = scores.positive(), _start(scores.allowed)
        fastest = affinities.walk(scores.allowed.double()).amax((1, 2), keepdim=True)
        for _ in range(self.iterations):
            step = affinities.walk(x) / torch.where(fastest > 0, fastest, 1.0)
            step = torch.where(fastest > 0, step, x)
            likely = torch.exp(self.beta * (step / step.amax((1, 2), keepdim=True).clamp(min=1e-300) - 1))
            jump = _bistochastic(torch.where(scores.allowed, likely, 0.0), scores.allowed)
            x = self.alpha * step + (1 - self.alpha) * jump / jump.sum((1, 2), keepdim=True).clamp(min=1e-300)
            x = x / x.sum((1, 2), keepdim=True).clamp(min=1e-300)
        return self._whole(x, scores, mask)


def _bistochastic(x: Tensor, allowed: Tensor, rounds: int = 10) -> Tensor:
    """Sums of 1 along the shorter side, at most 1 along the longer.  # (B, n, m) -> (B, n, m)"""
    n, m = (allowed.any(dim).sum(1)[:, None, None] for dim in (2, 1))
    for _ in range(rounds):
        for dim, longer in ((2, n > m), (1, m > n)):
            total = x.sum(dim, keepdim=True)
            x = x / torch.where(longer, total.clamp(min=1), torch.where(total > 0, total, 1.0))
    return x


@dataclass(frozen=True)
class IPFP(RelaxedMatching):
    """Graph matching by integer projected fixed points (Leordeanu, Hebert and Sukthankar, 2009).

    Takes what GraphMatching takes. From the soft matching in which all pairs are alike, `iterations` steps lead towards the
    matching that is best in the direction of the gradient, as far as the score rises; the best of these matchings is the
    solution. Scores may have any sign, and with `partial` each of them leaves alone what does not pay.

    >>> path, back = torch.tensor([[[0, 1], [1, 2]]]), torch.tensor([[[2, 1], [1, 0]]])
    >>> solver = IPFP()
    >>> y, z = solver(torch.eye(3).flip(0)[None], torch.ones(1, 2, 2), edge_index1=path, edge_index2=back)
    >>> solver.partners(y)
    tensor([[2, 1, 0]])

    Source: M. Leordeanu, M. Hebert, R. Sukthankar, "An integer projected fixed point method for graph matching and MAP
    inference", NIPS 2009.
    """

    partial: bool = False
    iterations: int = 50

    def _find(self, scores: _Scores, mask: Tensor | None) -> Tensor:
        x = _start(scores.allowed)
        x = x * scores.allowed.any(2).sum(1).minimum(scores.allowed.any(1).sum(1))[:, None, None]
        slope = scores.slope(x)
        best, best_value = torch.zeros_like(x), x.new_full((len(x),), -torch.inf)
        for _ in range(self.iterations):
            y = self._corner(slope, scores, mask)
            there = scores.slope(y)
            value = ((scores.alone + there) * y).sum((1, 2)) / 2
            better = value > best_value
            best, best_value = torch.where(better[:, None, None], y, best), torch.where(better, value, best_value)
            way = y - x
            rise, bend = (slope * way).sum((1, 2)), ((there - slope) * way).sum((1, 2))
            t = torch.where(bend < 0, (-rise / bend).clamp(0, 1), 1.0) * (rise > 0)
            if not t.any():
                break
            x, slope = x + t[:, None, None] * way, slope + t[:, None, None] * (there - slope)
        return best

    def _corner(self, slope: Tensor, scores: _Scores, mask: Tensor | None) -> Tensor:
        """The matching that is best for a linear score.  # (B, n, m) -> (B, n, m)"""
        alone = slope.new_zeros(slope.shape[:2]) if self.partial else None
        return self._match(torch.where(scores.allowed, slope, -torch.inf), mask, alone).solution
