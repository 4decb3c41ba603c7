"""Edit distance: the cheapest way to turn one sequence into another, with costs as scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solver, packed

from .assignment import PartialAssignment
from .common import alike, check_mask, native, refuse, shapes_of
from .dag import Dag, best_paths
from .kernels.dag_path import INVALID


@dataclass(frozen=True)
class EditDistance(Solver):
    """The cheapest edits that turn one sequence into another, also known as global alignment with gaps.

    Minimises `<pairs, y> + <deletions, d> + <insertions, i>` over the ways to pair elements of a sequence of n with elements of
    one of m, in the same order: `pairs (B, n, m)` is what it costs to put the k-th element of the second in the place of the
    i-th of the first (nothing, if they are equal), `deletions (B, n)` to delete an element of the first that has no partner,
    and `insertions (B, m)` to insert one of the second. A solution is the tuple `(y, d, i)` of the same shapes, of ones and
    zeros, so that gradients reach all costs, which may have any sign. Where the order does not matter, use PartialAssignment.

    `mask (B, n, m)`, boolean, is False for a pair that may not be made, and for padding: a sequence ends with the last element
    that has a pair in the mask. An infinite cost forbids, too. Raises InfeasibleError for an instance without a pair in its
    mask or without a finite way, InstanceError for minus infinity. Of equally cheap ways, read backwards, a pair is taken, then
    a deletion, then an insertion. Sums are formed in the dtype of the scores, those of integers in float64.

    >>> first, second = torch.tensor([list(b"kitten")]), torch.tensor([list(b"sitting")])
    >>> pairs = (first[:, :, None] != second[:, None]).float()
    >>> info = EditDistance().solve_with_info(pairs, torch.ones(1, 6), torch.ones(1, 7))
    >>> info.objective, EditDistance().decode(info.solution)
    (tensor([3.]), [[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]])

    Source: S. B. Needleman, C. D. Wunsch, "A general method applicable to the search for similarities in the amino acid
    sequence of two proteins", Journal of Molecular Biology 48 (1970); R. A. Wagner, M. J. Fischer, "The string-to-string
    correction problem", Journal of the ACM 21 (1974).
    """

    event_dim = 2
    sense = "min"
    binary = True
    hull = "edits"

    def solve(
        self, pairs: Tensor, deletions: Tensor, insertions: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cheapest edits.  # (B, n, m), (B, n), (B, m), (B, n, m) -> the shapes of the scores"""
        check_mask(self, pairs, mask)
        count, n, m = pairs.shape
        parts = pairs, deletions, insertions
        scores = -packed(alike(*(native(self, s) for s in parts)))
        allowed, last, empty = None, torch.full((count,), (n + 1) * (m + 1) - 1, device=pairs.device), None
        if mask is not None:
            rows, columns = _real(mask)
            allowed = torch.cat([mask.flatten(1), rows, columns], 1)
            last = rows.sum(1) * (m + 1) + columns.sum(1)
            empty = last == 0
        found = best_paths(_edits(n, m), scores, allowed, torch.zeros_like(last), last)
        self._check(found.status, empty)
        taken = found.times.split([n * m, n, m], 1)
        y, d, i = (t.reshape(s.shape).to(s.dtype) for t, s in zip(taken, parts))
        return y, d, i

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        """Of deletions and insertions, those of elements up to the last with a pair in the mask."""
        mask = super().support(*shapes, **instance)[0]
        return (None, None, None) if mask is None else (mask, *_real(mask))

    def tangent(self, *directions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of the directions when a deletion or insertion is one less the pairs; see PartialAssignment."""
        return PartialAssignment().tangent(*directions, mask=mask)

    def decode(self, y: tuple[Tensor, ...], **instance: Tensor) -> list[list[tuple[int, int]]]:
        """The pairs (i, k) of each instance in order; what is in none is deleted or inserted.  # ((B, n, m), ...) -> B lists"""
        return [[(i, k) for i, k in pairs.nonzero().tolist()] for pairs in y[0].cpu()]

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses anything but three score tensors whose shapes agree."""
        shapes = shapes_of(self, scores)
        if len(shapes) != 3 or len(shapes[0]) != 3 or shapes[1:] != [shapes[0][:2], shapes[0][::2]] or 0 in shapes[0][1:]:
            raise ValueError(
                f"EditDistance: the scores have shapes {', '.join(map(str, shapes))}; expected three tensors: costs of pairs "
                f"(B, n, m), of deletions (B, n) and of insertions (B, m), with one element in each sequence at least."
            )
        super().check(*scores, **instance)

    def _check(self, status: Tensor | None, empty: Tensor | None) -> None:
        if empty is not None and empty.any():
            raise InfeasibleError(
                f"EditDistance: instance {first_instance(empty)} has no pair in its mask ({int(empty.sum())} of {len(empty)} "
                f"instances), so that its sequences have no end. Forbid pairs by infinite costs there.",
                empty,
            )
        if status is not None:
            advice = "Infinite costs and `mask` forbid pairs, deletions and insertions: allow more."
            refuse(self, status == INVALID, status != 0, "has no way to turn one sequence into the other", advice)


def _real(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The elements of both sequences, up to the last with a pair in the mask.  # (B, n, m) -> (B, n), (B, m)"""
    rows, columns = (mask.any(dim).flip(1).cummax(1).values.flip(1) for dim in (2, 1))
    return rows, columns


@lru_cache(maxsize=16)
def _edits(n: int, m: int) -> Dag:
    """Node `i (m + 1) + k` is where i elements of the first sequence and k of the second are done with."""
    i, k = (g.flatten() for g in torch.meshgrid(torch.arange(n + 1), torch.arange(m + 1), indexing="ij"))
    node = i * (m + 1) + k
    both, delete, insert = (i > 0) & (k > 0), i > 0, k > 0
    tail = [(node - m - 2)[both], (node - m - 1)[delete], (node - 1)[insert]]
    head = [node[both], node[delete], node[insert]]
    which = [((i - 1) * m + k - 1)[both], (n * m + i - 1)[delete], (n * m + n + k - 1)[insert]]
    return Dag((n + 1) * (m + 1), n * m + n + m, torch.cat(tail), torch.cat(head), torch.cat(which))
