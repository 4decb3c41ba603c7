"""Sorting: the rank vector, the permutation matrix, the sorted values, and what can be made of them.

`Ranking` is linear in its scores, so every rule works with it. A permutation matrix has another shape than the scores it sorts.
There are two ways to it: `Permutation` with a rule for hard functions (DAB, perturbation, a relaxation), or
`assignment_scores`, which makes sorting an assignment that is linear in its scores, so that every rule works again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from solverlayers.solver import Solver

from .common import check_mask, check_ordered, remove_mean
from .kernels import ranking, usable

_WIDER = {dtype: torch.float32 for dtype in (torch.float16, torch.bfloat16)}
_WIDER |= {dtype: torch.int32 for dtype in (torch.int8, torch.int16, torch.uint8)}
# The number up to which a dtype has all integers.
_LAST_INTEGER = {
    dtype: int(2 / torch.finfo(dtype).eps) for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
_LAST_INTEGER |= {d: torch.iinfo(d).max for d in (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)}


@dataclass(frozen=True)
class Ranking(Solver):
    """The rank of each score, 1 to n: a vertex of the permutahedron (Blondel et al., ICML 2020).

    The highest score has rank n, so that the ranks maximise `<scores, y>` over all orders of 1..n. With `descending=True` the
    highest score has rank 1, as in a list of search results; the ranks then minimise `<scores, y>`. Of equal scores the first
    has the lower rank either way. Instance data: `mask` (B, n); the others are ranked among themselves. Shapes:
    `(B, n) -> (B, n)`. `decode` gives the sorting order, see `argsort`. Raises ValueError for more entries than the
    dtype of the scores can number.

    >>> Ranking()(torch.tensor([[0.3, 0.1, 0.2, 0.2]]))
    tensor([[4., 1., 2., 3.]])
    >>> Ranking(descending=True)(torch.tensor([[0.3, 0.1, 0.2, 0.2]]))
    tensor([[1., 4., 2., 3.]])
    """

    descending: bool = False

    constant_sum = True
    hull = "ranks"
    torch_native = True
    constant_norm = True

    @property
    def sense(self) -> Literal["max", "min"]:
        return "min" if self.descending else "max"

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        check_mask(self, scores, mask)
        limit = _LAST_INTEGER.get(scores.dtype, 0)
        if scores.shape[-1] > limit:
            raise ValueError(
                f"Ranking: {scores.dtype} cannot tell {scores.shape[-1]} ranks apart, only {limit}. Convert the scores, for "
                f"instance with `scores.float()`."
            )
        ranks = _ranks(scores, mask, self.descending)
        if ranks is None:
            super()._check_nan((scores,), {} if mask is None else {"mask": mask})
        assert ranks is not None
        return ranks

    def _check_nan(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        if not _kernel_serves(scores[0]):  # which reports NaN itself, and that saves a pass over the scores
            super()._check_nan(scores, instance)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        return remove_mean(direction, mask)

    def decode(self, y: Tensor, **instance: Tensor) -> Tensor:
        """The indices that sort the scores, padded with -1.  # (*S, B, n) -> (*S, B, n)"""
        return argsort(y)


@dataclass(frozen=True)
class Permutation(Solver):
    """The permutation matrix that sorts the scores: `P @ scores` is in ascending (or descending) order.

    `P[r, i] = 1` where entry `i` takes place `r`; equal scores keep their order. Instance data: `mask` (B, n); places beyond
    the number of entries in the mask are rows of zeros. Shapes: `(B, n) -> (B, n, n)`. It is a hard function of the scores, not
    an optimum in their shape, so use DAB, Perturbed or StraightThrough with a relaxation, or `MaxAssignment` on
    `assignment_scores(scores)`. `decode` gives the order, as `argsort` does.

    >>> x = torch.tensor([[0.3, 0.1, 0.2]])
    >>> Permutation()(x)
    tensor([[[0., 1., 0.],
             [0., 0., 1.],
             [1., 0., 0.]]])
    >>> sort(Permutation()(x), x)
    tensor([[0.1000, 0.2000, 0.3000]])
    """

    descending: bool = False

    linear = False
    same_shape = False
    constant_sum = True
    torch_native = True

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, n) -> (B, n, n)
        check_ordered(self, scores)
        check_mask(self, scores, mask)
        wide = scores.to(_WIDER.get(scores.dtype, scores.dtype))  # a rank must be exact here too
        ranks = _ranks(wide, mask, self.descending)
        if ranks is None:
            super()._check_nan((scores,), {} if mask is None else {"mask": mask})
        assert ranks is not None
        order = argsort(ranks).unsqueeze(-1)
        square = scores.new_zeros(*scores.shape, scores.shape[-1])
        return square.scatter_(-1, order.clamp_min(0), (order >= 0).to(scores.dtype))

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        return remove_mean(direction, mask)

    def decode(self, y: Tensor, **instance: Tensor) -> Tensor:
        """The indices that sort the scores, padded with -1.  # (*S, B, n, n) -> (*S, B, n)"""
        return torch.where((y != 0).any(-1), y.argmax(-1), -1)


@dataclass(frozen=True)
class Sort(Solver):
    """The values in ascending order: the sort non-linearity of DAB (Ramapuram & Webb, 2020).

    A hard function of the scores, and no optimum over a set that they leave alone. Wherever no two scores are equal it has a
    derivative, the permutation that sorts: `StraightThrough(ProjectedSort(strength))` passes exactly that, if `1 / strength` is
    more than any gap of neighbouring values. Plain straight-through and identity pass a gradient to the entry that stands in a
    place, and not to the one whose value came there. Instance data: `mask` (B, n); the entries in the mask are sorted among
    themselves. Shapes: `(B, n) -> (B, n)`.

    >>> Sort()(torch.tensor([[0.3, 0.1, 0.2]]))
    tensor([[0.1000, 0.2000, 0.3000]])
    """

    linear = False
    hull = "sorted values"
    torch_native = True

    @property
    def scale_free(self) -> bool:
        return False

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        check_ordered(self, scores)
        check_mask(self, scores, mask)
        if mask is None:
            return _ascending(scores)
        highest = torch.inf if scores.is_floating_point() else torch.iinfo(scores.dtype).max
        values = _ascending(torch.where(mask, scores, highest))
        place = (mask.cumsum(-1) - 1).clamp_min(0)  # the lowest value goes to the first entry in the mask
        return torch.where(mask, values.gather(-1, place), 0)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        return direction if mask is None else torch.where(mask, direction, 0)


def argsort(ranks: Tensor) -> Tensor:
    """The order that ranks tell: where rank 1, 2, ... stands; -1 beyond the last rank.  # (*S, n) -> (*S, n)

    `ranks` are those of `Ranking`: ascending ranks give the ascending order, descending ones the descending order.

    >>> argsort(torch.tensor([[4, 1, 0, 2, 3]]))  # entry 2 is masked
    tensor([[ 1,  3,  4,  0, -1]])
    """
    n = ranks.shape[-1]
    place = torch.where(ranks > 0, ranks.long() - 1, n)  # masked entries share one place, which is dropped
    order = place.new_full((*ranks.shape[:-1], n + 1), -1)
    return order.scatter_(-1, place, torch.arange(n, device=ranks.device).expand_as(place))[..., :n]


def sort(permutation: Tensor, values: Tensor) -> Tensor:
    """Values in the order of a permutation matrix, hard or relaxed: `P @ v`.  # (*S, n, n), (*S, n) or (*S, n, d) -> values

    Differentiable in both: the gradient of the values is the true one, that of the matrix flows on to the layer that made it.
    Values may be others than those that decided the order, so a list can be sorted by learned scores. Infinite values give NaN.

    >>> sort(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([[5.0, 7.0]]))
    tensor([[7., 5.]])
    """
    if values.ndim < permutation.ndim:
        return (permutation @ values.unsqueeze(-1)).squeeze(-1)
    return permutation @ values


def assignment_scores(scores: Tensor, descending: bool = False) -> Tensor:
    """Sorting as an assignment of entries to places: the outer product of places and scores.  # (*S, n) -> (*S, n, n)

    By the rearrangement inequality (Hardy, Littlewood and Polya, 1934, theorem 368), `sum_ri P[r, i] places[r] scores[i]` with
    ascending places is greatest for the permutation that sorts. So `MaxAssignment` gives, on these scores, the matrix of
    `Permutation` (where no two scores are equal); it is linear in them, and every rule works. The product is plain torch, so
    gradients flow on to `scores`. Places are spaced evenly over [-1, 1].

    >>> assignment_scores(torch.tensor([[3.0, 1.0]]))
    tensor([[[-3., -1.],
             [ 3.,  1.]]])
    """
    places = torch.linspace(-1, 1, scores.shape[-1], dtype=scores.dtype, device=scores.device)
    return (places.flip(0) if descending else places).unsqueeze(-1) * scores.unsqueeze(-2)


def _ascending(scores: Tensor) -> Tensor:
    if scores.is_cpu and scores.dtype != torch.bfloat16 and not torch.compiler.is_compiling():
        return torch.from_numpy(np.sort(scores.detach().numpy(), -1))  # NumPy sorts with vector instructions
    return scores.sort(-1).values


def _kernel_serves(scores: Tensor) -> bool:
    return (scores.dtype in ranking.DTYPES or scores.dtype in _WIDER) and usable(scores)


def _ranks(scores: Tensor, mask: Tensor | None, descending: bool) -> Tensor | None:
    """Ranks, or None where the kernel met NaN.  # (B, n) -> (B, n)"""
    wide = scores.to(_WIDER[scores.dtype]) if scores.dtype in _WIDER else scores
    ranks = (ranking.ranks if _kernel_serves(wide) else _torch_ranks)(wide, mask, descending)
    return ranks if ranks is None or wide is scores else ranks.to(scores.dtype)


def _torch_ranks(scores: Tensor, mask: Tensor | None, descending: bool) -> Tensor:
    """What the kernel does, on any device.  # (B, n) -> (B, n)"""
    order = torch.sort(scores, stable=True, dim=-1, descending=descending).indices
    if mask is None:
        count = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device).expand_as(scores)
    else:
        taken = mask.gather(-1, order)
        count = torch.where(taken, taken.cumsum(-1), 0).to(scores.dtype)  # masked entries do not count, wherever they are
    return torch.empty_like(scores).scatter_(-1, order, count)
