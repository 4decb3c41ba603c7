"""Multi-graph matching: matchings of every two of several graphs that agree with each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solution, Solver, inner

from .assignment import MaxAssignment
from .common import certified

_SWEEPS = 100


@dataclass(frozen=True)
class MultiGraphMatching(Solver):
    """Matchings of every two of N graphs of greatest total score that agree: what goes round a cycle comes back.

    Maximises `sum_ab <scores_ab, y_ab>` over `y_ab = X_a X_b^T`, where `X_a` sends each vertex of graph a to a point of its own
    in a universe that all graphs share; so `y_ab y_bc` never contradicts `y_ac`, `y_ba = y_ab^T`, and `y_aa` is the identity.
    Scores and solutions are `(B, N, N, n, n)`. `mask`, in that shape, says which vertices are real: graphs with fewer than n
    vertices, and fewer than N graphs, are padded, and pairs are allowed if both vertices are real. Scores may say in any way
    what suits two graphs: similarities of vertices, or solutions of GraphMatching for every two, which become consistent.

    With `universe=None` there are as many points as the largest graph of an instance has vertices, so graphs of this size are
    matched completely. More points leave outliers alone; fewer than a graph has vertices raise InfeasibleError.

    Starts from spectral synchronisation, rounded with each of up to `starts` reference graphs, the largest first; then each
    graph in turn is matched anew to what all others say, while it pays. Not exact; `solve_with_info` has the bound of matching
    every two graphs on their own.

    >>> clean = torch.eye(2).expand(1, 3, 3, 2, 2)
    >>> noisy = clean.clone()
    >>> noisy[0, 0, 1] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # contradicts the way over the third graph, and its transpose
    >>> torch.equal(MultiGraphMatching()(noisy), clean)
    True

    Sources: D. Pachauri, R. Kondor, V. Singh, "Solving the multi-way matching problem by permutation synchronization", NIPS
    2013; J. Yan et al., "Consistency-driven alternating optimization for multigraph matching", IEEE Transactions on Image
    Processing 24 (2015).
    """

    universe: int | None = None
    starts: int = 4

    sense = "max"
    event_dim = 4
    exact = False
    binary = True
    hull = "matchings that agree"

    def __post_init__(self) -> None:
        check_counts(self, starts=1)
        if self.universe is not None:
            check_counts(self, universe=1)

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Good consistent matchings.  # (B, N, N, n, n), (B, N, N, n, n) -> (B, N, N, n, n)"""
        if scores.numel() == 0:
            return torch.zeros_like(scores)
        real = self._real(scores, mask)
        points = self._points(real)
        pairs = _both_ways(scores, real)
        places = _places(pairs, points)
        best = pairs.new_zeros(*real.shape, points.shape[1])
        best_value = pairs.new_full((len(real),), -torch.inf)
        for start in range(min(self.starts, scores.shape[1])):
            x = _improve(pairs, _synchronised(places, real, points, start), real, points)
            value = _value(pairs, x)
            better = value > best_value + _rounding(pairs)
            best = torch.where(better[:, None, None, None], x, best)
            best_value = torch.where(better, value, best_value)
        return torch.einsum("baip,bcjp->bacij", best, best).to(scores.dtype)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The matchings with the bound of matching every two graphs on their own, which proves optimality if it is reached."""
        y = self(scores, **instance)
        if scores.numel() == 0:
            zero = scores.new_zeros(len(scores), dtype=torch.float64)
            return Solution(y, zero, torch.ones_like(zero, dtype=torch.bool), zero)
        real = self._real(scores, instance.get("mask"))
        objective = inner(scores.double(), y.double(), 4)
        own = torch.where(real, scores.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2).double(), 0.0).sum((1, 2))
        bound = own + _pairwise_bound(_both_ways(scores, real), real, self._points(real))
        return certified(y, objective, (objective - bound).abs() <= 1e-9 * inner(scores.double().abs(), y.double(), 4), bound)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        """The symmetric part between different graphs, centred if all are matched completely.  # (*S, B, N, N, n, n) -> same"""
        direction = (direction + direction.transpose(-4, -3).mT) / 2
        n = direction.shape[-1]
        if mask is not None:
            direction = torch.where(mask, direction, 0)
        elif self.universe in (None, n):
            direction = direction - direction.mean(-1, keepdim=True)
            direction = direction - direction.mean(-2, keepdim=True)
        same = torch.eye(direction.shape[-3], dtype=torch.bool, device=direction.device)
        return direction.masked_fill(same[:, :, None, None], 0)

    def decode(self, y: Tensor, **instance: Tensor) -> Tensor:
        """The number of each vertex's point, counted as they first occur; -1 for padding.  # (B, N, N, n, n) -> (B, N, n)

        >>> same, other = torch.eye(2), torch.eye(2).flip(0)
        >>> MultiGraphMatching().decode(torch.stack([same, other, other, same]).view(1, 2, 2, 2, 2))
        tensor([[[0, 1],
                 [1, 0]]])
        """
        count, graphs, _, n, _ = y.shape
        if y.numel() == 0:
            return torch.full((count, graphs, n), -1, device=y.device)
        together = y.transpose(2, 3).reshape(count, graphs * n, graphs * n) != 0
        first = together.to(torch.uint8).argmax(2)
        new = (first == torch.arange(graphs * n, device=y.device)) & together.any(2)
        number = (new.cumsum(1) - 1).gather(1, first)
        return torch.where(together.any(2), number, -1).view(count, graphs, n)

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses scores that are not square, twice, and a mask of another shape or of single pairs."""
        super().check(*scores, **instance)
        shape = tuple(scores[0].shape)
        if shape[1] != shape[2] or shape[3] != shape[4]:
            raise ValueError(
                f"MultiGraphMatching: scores have shape {shape}; they are (B, N, N, n, n), for every two of N graphs of n "
                f"vertices. Pad smaller graphs, and say so with `mask`."
            )
        mask = instance.get("mask")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != scores[0].shape):
            raise ValueError(
                f"MultiGraphMatching: `mask` is {str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}; it "
                f"needs to be boolean, of shape {shape} like the scores, and False where a vertex is padding."
            )

    def _real(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Which vertices are not padding.  # (B, N, N, n, n) -> (B, N, n)"""
        if mask is None:
            real = scores.new_ones(*scores.shape[:2], scores.shape[3], dtype=torch.bool)
        else:
            real = mask.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2)
            single = (mask != _pair(real, real)).flatten(1).any(1)
            if single.any():
                raise InstanceError(
                    f"MultiGraphMatching: instance {first_instance(single)} has a `mask` of single pairs ({int(single.sum())} "
                    f"of {len(single)} instances). It says which vertices are real: pairs are allowed if both are. Give pairs "
                    f"that shall not be matched low scores.",
                    single,
                )
        wrong = (~scores.isfinite() & _pair(real, real)).flatten(1).any(1)
        if wrong.any():
            raise InstanceError(
                f"MultiGraphMatching: instance {first_instance(wrong)} has infinite scores ({int(wrong.sum())} of {len(wrong)} "
                f"instances). Give pairs that shall not be matched low scores.",
                wrong,
            )
        return real

    def _points(self, real: Tensor) -> Tensor:
        """Which points of the universe each instance has.  # (B, N, n) -> (B, P)"""
        sizes = real.sum(2)
        largest = sizes.amax(1)
        order = torch.arange(self.universe or real.shape[2], device=real.device)
        if self.universe is None:
            return order < largest.unsqueeze(1)
        small = largest > self.universe
        if small.any():
            b = first_instance(small)
            raise InfeasibleError(
                f"MultiGraphMatching: instance {b} has a graph with {int(largest[b])} vertices, but universe={self.universe} "
                f"({int(small.sum())} of {len(small)} instances). Raise `universe`: vertices of a graph are different points.",
                small,
            )
        return (order < self.universe).expand(len(real), -1)


def _pair(a: Tensor, b: Tensor) -> Tensor:
    """# (B, N, n), (B, N, n) -> (B, N, N, n, n)"""
    return a[:, :, None, :, None] & b[:, None, :, None, :]


def _both_ways(scores: Tensor, real: Tensor) -> Tensor:
    """What two vertices of different graphs score together, in both orders.  # (B, N, N, n, n) -> (B, N, N, n, n)"""
    scores = torch.where(_pair(real, real), scores.double(), 0.0)
    same = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return (scores + scores.transpose(1, 2).mT).masked_fill(same[:, :, None, None], 0.0)


def _places(pairs: Tensor, points: Tensor) -> Tensor:
    """Each vertex in the space of the leading eigenvectors of all scores, as many as there are points.  # -> (B, N, n, N n)"""
    count, graphs, _, n, _ = pairs.shape
    values, vectors = torch.linalg.eigh(pairs.transpose(2, 3).reshape(count, graphs * n, graphs * n))
    leading = torch.arange(graphs * n, device=pairs.device) >= graphs * n - points.sum(1, keepdim=True)  # they ascend
    return (vectors * torch.where(leading, values.clamp(min=0), 0.0).sqrt().unsqueeze(1)).view(count, graphs, n, graphs * n)


def _synchronised(places: Tensor, real: Tensor, points: Tensor, start: int) -> Tensor:
    """All graphs matched to the vertices of a reference by inner products of their places.  # -> (B, N, n, P)"""
    sizes = real.sum(2)
    used = (sizes > 0).sum(1).clamp(min=1)
    reference = sizes.argsort(dim=1, descending=True, stable=True).gather(1, (start % used).unsqueeze(1))  # (B, 1)
    theirs, there = (_graph(t, reference) for t in (places, real))
    point = torch.where(there, there.cumsum(1) - 1, -1)  # the points are the reference's vertices, in their order
    centres = (point.unsqueeze(1) == torch.arange(points.shape[1], device=points.device)[:, None]).double() @ theirs
    return _match(torch.einsum("bnid,bpd->bnip", places, centres), real, points)


def _graph(t: Tensor, at: Tensor) -> Tensor:  # (B, N, ...), (B, 1) -> (B, ...)
    return t.gather(1, at.view(-1, *[1] * (t.ndim - 1)).expand(-1, 1, *t.shape[2:])).squeeze(1)


def _match(scores: Tensor, real: Tensor, points: Tensor) -> Tensor:
    """Each graph's vertices at points of their own.  # (B, N, n, P), (B, N, n), (B, P) -> (B, N, n, P)"""
    allowed = real.unsqueeze(3) & points[:, None, None]
    return MaxAssignment()(scores.flatten(0, 1), mask=allowed.flatten(0, 1)).view_as(scores)


def _improve(pairs: Tensor, x: Tensor, real: Tensor, points: Tensor) -> Tensor:
    """Each graph in turn matched anew to what the others say, while it pays.  # (B, N, n, P) -> (B, N, n, P)"""
    rounding = _rounding(pairs)
    for _ in range(_SWEEPS):
        moved = False
        for a in range(pairs.shape[1]):
            say = torch.einsum("bcij,bcjp->bip", pairs[:, a], x)
            new = _match(say.unsqueeze(1), real[:, a : a + 1], points).squeeze(1)
            better = ((new - x[:, a]) * say).sum((1, 2)) > rounding
            x = x.clone()
            x[:, a] = torch.where(better[:, None, None], new, x[:, a])
            moved |= bool(better.any())
        if not moved:
            break
    return x


def _value(pairs: Tensor, x: Tensor) -> Tensor:
    """The score between different graphs.  # (B, N, N, n, n), (B, N, n, P) -> (B,)"""
    return (torch.einsum("bacij,bcjp->baip", pairs, x) * x).sum((1, 2, 3)) / 2


def _rounding(pairs: Tensor) -> Tensor:
    return 1e-12 * pairs.abs().amax((3, 4)).sum((1, 2)) * pairs.shape[3]


def _pairwise_bound(pairs: Tensor, real: Tensor, points: Tensor) -> Tensor:
    """The best that every two graphs reach on their own, where they share as few points as they may.  # -> (B,)"""
    count, graphs = real.shape[:2]
    first, second = torch.triu_indices(graphs, graphs, 1, device=pairs.device)
    if pairs.numel() == 0 or len(first) == 0:
        return pairs.new_zeros(count)
    free = points.sum(1, keepdim=True) - real.sum(2)  # points that no vertex of a graph has
    more = max(int(free.max()), 0)
    lines = torch.cat([real, torch.arange(more, device=real.device) < free.unsqueeze(2)], 2)
    scores = torch.nn.functional.pad(pairs[:, first, second], (0, more, 0, more)).flatten(0, 1)
    allowed = lines[:, first].unsqueeze(3) & lines[:, second].unsqueeze(2)
    return MaxAssignment().solve_with_info(scores, mask=allowed.flatten(0, 1)).bound.view(count, -1).sum(1)
