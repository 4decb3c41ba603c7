"""Choosing the best entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solver

from .common import check_mask, check_ordered, remove_mean


@dataclass(frozen=True)
class Argmax(Solver):
    """The indicator of the best score: a vertex of the simplex.

    Of equal scores the first is chosen; an infinite score is legal. Instance data: `mask` (B, n). Shapes: `(B, n) -> (B, n)`.
    `decode` gives the index `(B,)`. Raises InfeasibleError where the mask leaves nothing to choose.

    >>> Argmax()(torch.tensor([[1.0, 3.0, 3.0]]))
    tensor([[0., 1., 0.]])
    """

    constant_sum = True
    hull = "choices of one"
    binary = True
    torch_native = True
    one_hot = True

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        check_ordered(self, scores)
        check_mask(self, scores, mask)
        _check_counts(self, scores, 1, mask)
        if mask is not None:
            filled = torch.where(mask, scores, _lowest(scores.dtype))
            scores = torch.where(mask & (filled == filled.amax(-1, keepdim=True)), 1, torch.zeros_like(scores))
        return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        return remove_mean(direction, mask)

    def decode(self, y: Tensor, **instance: Tensor) -> Tensor:
        """The index of the chosen entry.  # (*S, B, n) -> (*S, B)"""
        return y.argmax(-1)


@dataclass(frozen=True)
class TopK(Solver):
    """The indicator of the `k` best scores: a vertex of the hypersimplex.

    Exactly `k` entries are chosen: of equal scores the first ones; infinite scores are legal, and -inf is chosen last.
    `largest=False` chooses the smallest scores, which are then costs. Instance data: `k` (B,), which takes the place of the
    field, and `mask` (B, n). Shapes: `(B, n) -> (B, n)`. `decode` gives the indices `(B, k)`, ascending, padded with -1.
    Raises InfeasibleError where `k` is negative or more than there are entries in the mask.

    >>> TopK(2)(torch.tensor([[1.0, 3.0, 2.0, 2.0]]))
    tensor([[0., 1., 1., 0.]])
    >>> TopK()(torch.tensor([[1.0, 3.0], [2.0, 4.0]]), k=torch.tensor([1, 2]))
    tensor([[0., 1.],
            [1., 1.]])
    """

    k: int | None = None
    largest: bool = True

    constant_sum = True
    hull = "choices of k"
    binary = True
    torch_native = True

    def __post_init__(self) -> None:
        if self.k is None:
            return
        if isinstance(self.k, (bool, Tensor)) or not hasattr(self.k, "__index__"):
            raise TypeError(
                f"TopK: k is {self.k!r}; the number of chosen entries is a whole number, or a tensor (B,) in the call: "
                f"`solver(scores, k=...)`."
            )
        object.__setattr__(self, "k", int(self.k))  # a NumPy number is a number
        if self.k < 0:
            raise ValueError(f"TopK: k is {self.k}; the number of chosen entries is 0 or more.")

    @property
    def sense(self) -> Literal["max", "min"]:
        return "max" if self.largest else "min"

    def solve(self, scores: Tensor, k: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        check_ordered(self, scores)
        check_mask(self, scores, mask)
        count = self._count(k)
        _check_counts(self, scores, count, mask)
        if not scores.numel():  # no entries, or no instances, of which there may be fewer than `k` entries
            return torch.zeros_like(scores)
        scores = scores if self.largest else _reversed(scores)
        if mask is not None:
            scores = torch.where(mask, scores, _lowest(scores.dtype))
        return _best(scores, count, mask).to(scores.dtype)

    def tangent(self, direction: Tensor, k: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        count = self._count(k)
        available = direction.shape[-1] if mask is None else mask.sum(-1)
        if isinstance(count, int) and isinstance(available, int):
            return remove_mean(direction, mask) if 0 < count < available else torch.zeros_like(direction)
        choice = torch.as_tensor((count > 0) & (count < available), device=direction.device)  # all or nothing is no choice
        return torch.where(choice.unsqueeze(-1), remove_mean(direction, mask), 0)

    def decode(self, y: Tensor, **instance: Tensor) -> Tensor:
        """The indices of the chosen entries, ascending, then -1.  # (*S, B, n) -> (*S, B, max k)"""
        chosen = y != 0
        index = torch.sort(~chosen, stable=True, dim=-1).indices
        index = torch.where(chosen.gather(-1, index), index, -1)
        return index[..., : int(chosen.sum(-1).max()) if chosen.numel() else 0]

    def _count(self, k: Tensor | None) -> int | Tensor:
        if k is None and self.k is None:
            raise ValueError(
                "TopK: k is missing; give it to the solver, `TopK(k=3)`, or for each instance, `solver(scores, k=...)`."
            )
        if k is None:
            return self.k  # type: ignore[return-value]
        if k.ndim != 1 or k.is_floating_point() or k.dtype == torch.bool:
            raise ValueError(
                f"TopK: `k` is {k.dtype} of shape {tuple(k.shape)}; expected one integer per instance, shape (B,)."
            )
        return k


def _check_counts(solver: Solver, scores: Tensor, count: int | Tensor, mask: Tensor | None) -> None:
    """Refuses instances where `count` entries cannot be chosen. Without a mask and with one `count`, no data are read."""
    available = scores.shape[-1] if mask is None else mask.sum(-1)
    if isinstance(count, int) and isinstance(available, int):
        if count <= available:
            return
    elif torch.compiler.is_compiling():  # a graph cannot depend on data
        return
    bad = torch.as_tensor((count < 0) | (count > available), device=scores.device).expand(len(scores))
    if bad.any():
        first = first_instance(bad)
        one_count, one_available = (int(v if isinstance(v, int) else v[first]) for v in (count, available))
        raise InfeasibleError(
            f"{type(solver).__name__}: instance {first} asks for {one_count} of {one_available} entries ({int(bad.sum())} of "
            f"{len(bad)} instances are infeasible). Ask for 0 up to the number of entries that the mask allows.",
            bad,
        )


def _best(scores: Tensor, count: int | Tensor, mask: Tensor | None) -> Tensor:
    """Whether a score is one of the `count` largest of its instance, exactly that many.  # (B, n) -> (B, n)

    Masked scores are the lowest there are. torch.topk alone does not say which of equal scores it takes.
    """
    least = _kth_largest(scores, count)
    if _on_host(scores):  # looking at the data is cheap here, and most often no score is tied with the last one chosen
        chosen = scores >= least if mask is None else (scores >= least) & mask
        total = count * len(scores) if isinstance(count, int) else int(count.sum())
        if int(chosen.count_nonzero()) == total:
            return chosen
    better = scores > least
    equal = scores == least if mask is None else (scores == least) & mask
    wanted = (count if isinstance(count, int) else count.unsqueeze(-1)) - better.sum(-1, keepdim=True)
    return better | (equal & (equal.cumsum(-1) <= wanted))


def _kth_largest(scores: Tensor, count: int | Tensor) -> Tensor:
    """The `count`-th largest score of each instance (the largest for 0).  # (B, n) -> (B, 1)"""
    n = scores.shape[-1]
    fast = _on_host(scores) and scores.dtype != torch.bfloat16  # NumPy sorts with vector instructions
    if isinstance(count, int):
        place = n - max(count, 1)
        if fast:
            return torch.from_numpy(np.partition(scores.detach().numpy(), place, -1)[:, place : place + 1])
        return scores.topk(n - place, sorted=False).values.amin(-1, keepdim=True)
    ordered = torch.from_numpy(np.sort(scores.detach().numpy(), -1)) if fast else scores.sort(-1).values
    return ordered.gather(-1, n - count.clamp_min(1).unsqueeze(-1).long())


def _on_host(scores: Tensor) -> bool:
    return scores.is_cpu and not torch.compiler.is_compiling()


def _reversed(scores: Tensor) -> Tensor:
    return -scores if scores.is_floating_point() else ~scores  # -x overflows for the least integer


def _lowest(dtype: torch.dtype) -> float | int:
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min
