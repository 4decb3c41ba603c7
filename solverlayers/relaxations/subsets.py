"""Relaxations of a choice of k: points of the cube whose sum is k."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from ..arguments import check_positive
from .base import BIG, Relaxation, usable


@dataclass(frozen=True)
class _KSubset(Relaxation):
    k: int | None = None
    temperature: float = 1.0

    constant_sum = True
    binary = True
    hull = "choices of k"
    shared = ("k",)
    takes = ("k",)

    def __post_init__(self) -> None:
        check_positive(self, "temperature")
        if self.k is not None and (not isinstance(self.k, Integral) or isinstance(self.k, bool)):
            raise TypeError(
                f"{type(self).__name__}: k={self.k!r}; the number of chosen entries is a whole number, or a tensor in the call."
            )
        if self.k is not None and self.k < 0:
            raise ValueError(f"{type(self).__name__}: k={self.k!r}; the number of chosen entries is 0 or more.")

    def relax(  # type: ignore[override]  # (*S, B, n) -> (*S, B, n)
        self, theta: Tensor, mask: Tensor | None, k: Tensor | None = None
    ) -> Tensor:
        if k is None and self.k is None:
            name = type(self).__name__
            raise ValueError(f"{name}: k is missing; give it to the relaxation, `{name}(k=3)`, or for each instance, `k=`.")
        used = usable(theta, mask)
        z = torch.where(used, theta / self.temperature, -BIG)
        wanted = torch.full_like(z[..., :1], self.k or 0) if k is None else k.unsqueeze(-1).to(z.dtype)
        wanted = torch.minimum(wanted, used.sum(-1, keepdim=True))
        return torch.where(used, self._project(z, used, wanted), 0)

    def _project(self, z: Tensor, used: Tensor, k: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class SoftTopK(_KSubset):
    """The point nearest to `theta / temperature` with entries in [0, 1] that sum to `k`; exact, by sorting.

    The maximum of `<theta, y> - temperature / 2 |y|^2` over the hull of the k-subsets: `clip(theta / temperature - t, 0, 1)`.
    Piecewise affine: its second derivative is zero almost everywhere, which is right. Instance data: `mask` (B, n) and `k`
    (B,), which takes the place of the field. Where fewer than `k` entries may be used, all of them are chosen.

    >>> import torch
    >>> SoftTopK(2)(torch.tensor([3.0, 0.5, 0.0, -4.0]))
    tensor([1.0000, 0.7500, 0.2500, 0.0000])
    """

    def _project(self, z: Tensor, used: Tensor, k: Tensor) -> Tensor:
        dtype = z.dtype
        z = (z - z.detach().amax(-1, keepdim=True)).double()  # sums of large numbers need the digits
        knot = _knot(z.detach(), k)
        full, free = z.detach() - 1 > knot, (z.detach() > knot) & (z.detach() - 1 <= knot)
        count = free.sum(-1, keepdim=True)
        spare = torch.where(free, z, 0).sum(-1, keepdim=True) + full.sum(-1, keepdim=True) - k
        inside = (z - spare / count.clamp_min(1)).clamp(0, 1)
        return torch.where(free, inside, full.to(z.dtype)).to(dtype)


def _knot(z: Tensor, k: Tensor) -> Tensor:
    """The largest breakpoint `t`, one of `z` and `z - 1`, with `sum(clip(z - t, 0, 1)) >= k`."""
    s = z.sort(-1).values
    total = torch.nn.functional.pad(s.flip(-1).cumsum(-1), (1, 0))  # sums of the largest
    t = torch.cat([s, s - 1], -1)
    above = z.shape[-1] - torch.searchsorted(s, t, right=True)
    full = z.shape[-1] - torch.searchsorted(s - 1, t, right=True)
    value = full + total.gather(-1, above) - total.gather(-1, full) - (above - full) * t
    return torch.where(value >= k, t, -2 * BIG).amax(-1, keepdim=True)


@dataclass(frozen=True)
class EntropicTopK(_KSubset):
    """`sigmoid(theta / temperature - t)` with `t` such that the entries sum to `k`.

    The maximum of `<theta, y>` plus `temperature` times the binary entropies over the hull of the k-subsets; smooth everywhere.
    By bisection, followed by two Newton steps inside the graph, which make the first three derivatives right. Instance data:
    `mask` (B, n) and `k` (B,), which takes the place of the field. Where fewer than `k` entries may be used, all are chosen.

    >>> import torch
    >>> EntropicTopK(1)(torch.tensor([1.0, 1.0]))
    tensor([0.5000, 0.5000])
    """

    def _project(self, z: Tensor, used: Tensor, k: Tensor) -> Tensor:
        some = (k > 0) & (k < used.sum(-1, keepdim=True))  # otherwise t has no finite value
        with torch.no_grad():
            low = torch.where(used, z, BIG).amin(-1, keepdim=True) - 40  # the sum is within 1e-17 of the number of entries
            high = z.amax(-1, keepdim=True) + 40
            for _ in range(64):
                middle = (low + high) / 2
                above = (z - middle).sigmoid().sum(-1, keepdim=True) >= k
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        t = low
        for _ in range(2):
            total = (z - t).sigmoid().sum(-1, keepdim=True)
            slope = ((z - t).sigmoid() * (t - z).sigmoid()).sum(-1, keepdim=True)
            # t is a root to the last bit already: the step has no value, only derivatives
            t = t + (total - total.detach()) / slope.clamp_min(torch.finfo(z.dtype).tiny)
        return torch.where(some, (z - t).sigmoid(), (k > 0).to(z.dtype))
