"""Cutting a sequence into segments of the greatest total score, with labels or without: semi-Markov models, optimal binning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from solverlayers.solver import Solver, packed

from .common import alike, check_mask, in_type_of, may_follow, native, refuse
from .dag import Dag, best_paths
from .kernels.dag_path import INVALID, Uses

_ADVICE = "`mask` and scores of minus infinity forbid segments: allow more, such as those of one element."


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
    hull = "segmentations"

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Best segments.  # (B, n, n), (B, n, n) -> (B, n, n)"""
        check_mask(self, scores, mask)
        count, n, width = scores.shape
        if n != width or n == 0:
            raise ValueError(
                f"Segmentation: scores have shape {tuple(scores.shape)}; expected (B, n, n), one for each first and last "
                f"element of a segment, with at least one element."
            )
        end = torch.full((count,), n, device=scores.device) if mask is None else _end((_upper(n, scores.device) & mask).any(-2))
        allowed = None if mask is None else mask.flatten(1)
        found = best_paths(_cuts(n), native(self, scores).flatten(1), allowed, torch.zeros_like(end), end)
        _check(self, found, end)
        return found.times.reshape(scores.shape).to(scores.dtype)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        """`direction` on the segments that are allowed.  # (*S, B, n, n) -> (*S, B, n, n)"""
        allowed = _upper(direction.shape[-1], direction.device)
        return torch.where(allowed if mask is None else allowed & mask, direction, 0)

    def decode(self, y: Tensor, **instance: Tensor) -> list[list[tuple[int, int]]]:
        """The first and the last element of each segment in order.  # (B, n, n) -> B lists"""
        return [[(i, k) for i, k in parts.nonzero().tolist()] for parts in y.cpu()]


@dataclass(frozen=True)
class LabelledSegmentation(Solver):
    """The best way to cut each sequence into labelled segments, as in semi-Markov conditional random fields.

    Maximises `sum_s segments[i_s, d_s - 1, l_s] + sum_s transitions[l_s, l_s+1]` over the ways to cut T elements into segments,
    the s-th from element i_s on, of d_s elements, at most D, and of one of L labels. Two score tensors, as for Viterbi:
    `segments (B, T, D, L)`, and `transitions (B, L, L)` from label to label, or `(B, T-1, L, L)` where each place has its own,
    by the element before the cut. A solution is a tuple in the same shapes: which segments there are, and how often (at each
    place: whether) each transition is made. `segment_sums` makes the scores of segments from those of elements.

    `mask (B, T, D, L)`, boolean, is False for a segment that may not be used; a score of minus infinity forbids, too. A
    sequence ends with the last element that ends an allowed segment: the others are padding. Raises InfeasibleError for a
    sequence that cannot be cut into allowed segments, InstanceError for plus infinity. Ties, from the last segment to the
    first: the lowest label, then the longest segment. Sums are formed in the dtype of the scores, those of integers in float64.

    >>> segments = segment_sums(torch.tensor([[[2.0, 0.0], [2.0, 0.0], [0.0, 3.0]]]), longest=2) - 1
    >>> LabelledSegmentation().decode(LabelledSegmentation()(segments, torch.zeros(1, 2, 2)))
    [[(0, 1, 0), (2, 2, 1)]]

    Source: S. Sarawagi, W. W. Cohen, "Semi-Markov conditional random fields for information extraction", NeurIPS 2004.
    """

    event_dim = 3
    hull = "labelled segmentations"

    def solve(self, segments: Tensor, transitions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Best segments.  # (B, T, D, L), (B, L, L) or (B, T-1, L, L), (B, T, D, L) -> the shapes of the scores"""
        _check_shapes(segments, transitions)
        check_mask(self, segments, mask)
        _, steps, longest, labels = segments.shape
        end, allowed = torch.full((len(segments),), steps, device=segments.device), None
        if mask is not None:
            end = _last_element(mask & _inside(steps, longest, segments.device)[:, :, None])
            used = torch.ones_like(transitions, dtype=torch.bool)
            if transitions.ndim == 4:  # what stands in the padding does not matter
                used &= (torch.arange(1, steps, device=end.device) < end[:, None])[:, :, None, None]
            allowed = torch.cat([mask.flatten(1), used.flatten(1)], 1)
        scores = packed(alike(native(self, segments), native(self, transitions)))
        dag = _labelled_cuts(steps, longest, labels, transitions.ndim == 4)
        found = best_paths(dag, scores, allowed, torch.zeros_like(end), torch.where(end > 0, dag.nodes - 1 - steps + end, 0))
        _check(self, found, end)
        parts = found.times.split([segments.shape[1:].numel(), transitions.shape[1:].numel()], 1)
        first, second = (in_type_of(self, part, s).reshape(s.shape) for part, s in zip(parts, (segments, transitions)))
        return first, second

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        """Of transitions, those between labels of segments that the mask allows, one behind the other."""
        mask = super().support(*shapes, **instance)[0]
        if mask is None:
            return None, None
        steps, longest, _ = shapes[0]
        allowed = mask & _inside(steps, longest, mask.device)[:, :, None]
        lengths = range(min(steps, longest))
        end = torch.stack([torch.nn.functional.pad(allowed[:, : steps - d, d], (0, 0, d, 0)) for d in lengths]).any(0)
        return allowed, may_follow(end, allowed.any(2), len(shapes[1]) == 2)

    def tangent(self, segments: Tensor, transitions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The directions, without the segments that are not allowed.  # (*S, B, T, D, L), ... -> the same"""
        inside = _inside(segments.shape[-3], segments.shape[-2], segments.device)[:, :, None]
        return torch.where(inside if mask is None else inside & mask, segments, 0), transitions

    def decode(self, y: tuple[Tensor, Tensor], **instance: Tensor) -> list[list[tuple[int, int, int]]]:
        """The first element, the last, and the label of each segment in order.  # ((B, T, D, L), ...) -> B lists"""
        return [[(i, i + d, label) for i, d, label in parts.nonzero().tolist()] for parts in y[0].cpu()]

    def _check_nan(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        if len(scores) == 2 and scores[0].ndim == 4:
            segments, transitions = scores
            inside = _inside(segments.shape[1], segments.shape[2], segments.device)[:, :, None]
            scores = torch.where(inside, segments, 0), transitions
        super()._check_nan(scores, instance)


def segment_sums(scores: Tensor, longest: int) -> Tensor:
    """The sum of the scores of the elements of every segment; of one that reaches beyond the end, of those that there are.

    # (B, T, L) -> (B, T, longest, L)

    >>> segment_sums(torch.tensor([[[1.0], [2.0], [4.0]]]), longest=2)[0, :, :, 0]
    tensor([[1., 3.],
            [2., 6.],
            [4., 4.]])
    """
    padded = torch.nn.functional.pad(scores, (0, 0, 0, longest - 1))
    return padded.unfold(1, longest, 1).cumsum(-1).mT


def _check_shapes(segments: Tensor, transitions: Tensor) -> None:
    if segments.ndim != 4 or 0 in segments.shape[1:]:
        raise ValueError(
            f"LabelledSegmentation: the scores of segments have shape {tuple(segments.shape)}; expected (B, T, D, L), with one "
            f"element, one length and one label at least."
        )
    count, steps, _, labels = segments.shape
    shared, own = (count, labels, labels), (count, steps - 1, labels, labels)
    if transitions.shape not in (shared, own):
        raise ValueError(
            f"LabelledSegmentation: the transitions have shape {tuple(transitions.shape)}; with scores of segments of shape "
            f"{tuple(segments.shape)} expected {shared}, or {own} if each place has its own."
        )


def _check(solver: Solver, found: Uses, end: Tensor) -> None:
    failed = end == 0  # with nothing to cut the empty path is found
    invalid = torch.zeros_like(failed)
    if found.status is not None:
        failed, invalid = failed | (found.status != 0), found.status == INVALID
    refuse(solver, invalid, failed, "cannot be cut into segments that are allowed", _ADVICE)


def _end(used: Tensor) -> Tensor:
    """One more than the last element in use, 0 where none is.  # (B, T) -> (B,)"""
    return torch.where(used, torch.arange(1, used.shape[1] + 1, device=used.device), 0).amax(1)


def _last_element(allowed: Tensor) -> Tensor:
    """One more than the last element that ends an allowed segment.  # (B, T, D, L) -> (B,)"""
    steps, longest = allowed.shape[1:3]
    ends = torch.arange(1, steps + 1, device=allowed.device)[:, None] + torch.arange(longest, device=allowed.device)
    return torch.where(allowed.any(3), ends, 0).amax((1, 2))


def _upper(n: int, device: torch.device) -> Tensor:
    """# -> (n, n) bool"""
    return torch.ones(n, n, dtype=torch.bool, device=device).triu()


def _inside(steps: int, longest: int, device: torch.device) -> Tensor:
    """Which segments, by first element and length less one, end within the sequence.  # -> (T, D) bool"""
    return torch.arange(steps, device=device)[:, None] + torch.arange(longest, device=device) < steps


@lru_cache(maxsize=16)
def _cuts(n: int) -> Dag:
    """Nodes are the places between elements, arcs the segments."""
    first, last = torch.triu_indices(n, n)
    return Dag(n + 1, n * n, first, last + 1, first * n + last)


@lru_cache(maxsize=16)
def _labelled_cuts(steps: int, longest: int, labels: int, own: bool) -> Dag:
    """The beginning, and for each place and label the end of a segment and the start of the next; then the places as ends.

    Node 0 begins. Where a segment of label l starts with element t, or has ended before it, are nodes
    `1 + (2 t + 1) labels + l` and `1 + 2 t labels + l`; the sequence of t elements ends in the t-th of the last `steps` nodes.
    """
    size = steps * longest * labels
    none = size + (steps - 1 if own else 1) * labels * labels
    label = torch.arange(labels)

    def closed(t: Tensor) -> Tensor:
        return 1 + 2 * t * labels

    def opened(t: Tensor) -> Tensor:
        return 1 + (2 * t + 1) * labels

    begin = [torch.zeros_like(label), opened(torch.tensor(0)) + label, torch.full_like(label, none)]
    grids = torch.meshgrid(torch.arange(steps), torch.arange(longest), label, indexing="ij")
    inside = grids[0] + grids[1] < steps
    t, d, of = (grid[inside] for grid in grids)
    segments = [opened(t) + of, closed(t + d + 1) + of, (t * longest + d) * labels + of]
    cut, a, b = (g.flatten() for g in torch.meshgrid(torch.arange(1, steps), label, label, indexing="ij"))
    number = ((cut - 1) * labels + a if own else a) * labels + b + size
    transitions = [closed(cut) + a, opened(cut) + b, number]
    last = (2 * steps + 1) * labels
    end, of = (g.flatten() for g in torch.meshgrid(torch.arange(1, steps + 1), label, indexing="ij"))
    ends = [closed(end) + of, last + end, torch.full_like(end, none)]
    tail, head, which = (torch.cat(parts) for parts in zip(begin, segments, transitions, ends))
    return Dag(last + steps + 1, none, tail, head, which)
