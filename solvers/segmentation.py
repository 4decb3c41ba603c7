"""Segmentation: cutting a sequence into segments of the greatest total score, as in semi-Markov models and optimal binning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solver

from .common import check_mask


@dataclass(frozen=True)
class Segmentation(Solver):
    """The best way to cut each sequence of n elements into segments, each with a score of its own.

    Maximises `<scores, y>` over the 0/1 matrices `y` that cover each element once: `scores[i, k]` is that of the segment from
    element i to element k, both included, and `y[i, k]` says whether it is one of the parts; entries with i > k do not matter.
    Shapes: `(B, n, n) -> (B, n, n)`. Costs, as in optimal binning, are scores with the opposite sign.

    `mask (B, n, n)`, boolean, is False for a segment that may not be used, such as one that is too long; a score of minus
    infinity forbids, too. A sequence ends with the last element that ends an allowed segment: the others are padding. Raises
    InfeasibleError for a sequence without a cut into allowed segments, InstanceError for plus infinity. Ties: the last segment
    is as long as possible, then the one before it. Sums are formed in the dtype of the scores, those of integers in float64.

    >>> scores = torch.tensor([[[1.0, 5.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 2.0]]])
    >>> Segmentation().decode(Segmentation()(scores))
    [[(0, 1), (2, 2)]]

    Source: R. Bellman, "On the approximation of curves by line segments using dynamic programming", Communications of the ACM 4
    (1961).
    """

    event_dim = 2
    binary = True

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Best segments.  # (B, n, n), (B, n, n) -> (B, n, n)"""
        check_mask(self, scores, mask)
        count, n, width = scores.shape
        if n != width or n == 0:
            raise ValueError(
                f"Segmentation: scores have shape {tuple(scores.shape)}; expected (B, n, n), one for each first and last "
                f"element of a segment, with at least one element."
            )
        gains = scores if scores.dtype in (torch.float32, torch.float64) else scores.double()
        allowed = _segments(n, scores.device) if mask is None else _segments(n, scores.device) & mask
        gains = torch.where(allowed, gains, -torch.inf)
        ends = torch.where(allowed.any(-2), torch.arange(1, n + 1, device=scores.device), 0).amax(-1).expand(count)
        best, first = _last_segments(gains)
        self._check_solved(gains, best.gather(1, ends[:, None])[:, 0], ends)
        y = torch.zeros(count, n * n, dtype=scores.dtype, device=scores.device)
        for _ in range(n):  # from the last segment to the first
            last = (ends - 1).clamp_min(0)
            begin = first.gather(1, last[:, None])[:, 0]
            segment = (begin * n + last)[:, None]
            y.scatter_(1, segment, torch.where(ends[:, None] > 0, 1, y.gather(1, segment)).to(y.dtype))
            ends = torch.where(ends > 0, begin, 0)
        return y.reshape(scores.shape)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        """`direction` on the segments that are allowed.  # (*S, B, n, n) -> (*S, B, n, n)"""
        allowed = _segments(direction.shape[-1], direction.device)
        return torch.where(allowed if mask is None else allowed & mask, direction, 0)

    def decode(self, y: Tensor, **instance: Tensor) -> list[list[tuple[int, int]]]:
        """The first and the last element of each segment in order.  # (B, n, n) -> B lists"""
        return [[(i, k) for i, k in parts.nonzero().tolist()] for parts in y.cpu()]

    def _check_solved(self, gains: Tensor, best: Tensor, ends: Tensor) -> None:
        infinite = (gains == torch.inf).flatten(1).any(1)
        if infinite.any():
            raise InstanceError(
                f"Segmentation: instance {first_instance(infinite)} has a score of plus infinity ({int(infinite.sum())} of "
                f"{len(infinite)} instances). A score of minus infinity forbids; plus infinity would outweigh everything.",
                infinite,
            )
        failed = (best == -torch.inf) | (ends == 0)
        if failed.any():
            raise InfeasibleError(
                f"Segmentation: instance {first_instance(failed)} cannot be cut into segments that are allowed "
                f"({int(failed.sum())} of {len(failed)} instances). `mask` and scores of minus infinity forbid segments: allow "
                f"more, such as those of one element.",
                failed,
            )


def _segments(n: int, device: torch.device) -> Tensor:
    """# -> (n, n) bool"""
    return torch.ones(n, n, dtype=torch.bool, device=device).triu()


def _last_segments(gains: Tensor) -> tuple[Tensor, Tensor]:
    """The value of the best cut of the first 0, 1, ..., n elements, and where its last segment begins.  # (B, n, n)"""
    count, n, _ = gains.shape
    best, first = [gains.new_zeros(count)], []
    place = torch.arange(n, device=gains.device)
    for last in range(n):
        total = torch.stack(best, 1) + gains[:, : last + 1, last]
        best.append(total.amax(1))
        first.append(torch.where(total == best[-1][:, None], place[: last + 1], last).amin(1))
    return torch.stack(best, 1), torch.stack(first, 1)
