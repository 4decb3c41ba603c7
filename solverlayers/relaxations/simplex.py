"""Relaxations of an argmax: points of the simplex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_positive
from .base import BIG, Relaxation, masked_softmax


@dataclass(frozen=True)
class Softmax(Relaxation):
    """`softmax(theta / temperature)`, the maximum of `<theta, y> + temperature H(y)` over the simplex.

    Also the mean of the argmax under Gumbel noise of that scale.

    >>> import torch
    >>> Softmax()(torch.tensor([1.0, 1.0, 5.0]), mask=torch.tensor([True, True, False]))
    tensor([0.5000, 0.5000, 0.0000])
    """

    temperature: float = 1.0

    one_hot = True
    constant_sum = True

    def __post_init__(self) -> None:
        check_positive(self, "temperature")

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, C) -> (*S, B, C)
        return masked_softmax(theta / self.temperature, mask)


@dataclass(frozen=True)
class Sparsemax(Relaxation):
    """The point of the simplex nearest to `theta / temperature` (Martins & Astudillo, ICML 2016), by sorting.

    The maximum of `<theta, y> - temperature / 2 |y|^2`; many entries are exactly zero. Piecewise affine: its second derivative
    is zero almost everywhere, which is right.

    >>> import torch
    >>> Sparsemax()(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """

    temperature: float = 1.0

    one_hot = True
    constant_sum = True

    def __post_init__(self) -> None:
        check_positive(self, "temperature")

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, C) -> (*S, B, C)
        z = _shifted(theta / self.temperature, mask)
        s, count = _sorted(z.detach())
        size = (1 + count * s > s.cumsum(-1)).sum(-1, keepdim=True)
        support = _largest(z, s, size)
        threshold = (torch.where(support, z, 0).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
        return torch.where(support, z - threshold, 0)


@dataclass(frozen=True)
class Entmax(Relaxation):
    """`alpha`-entmax of `theta / temperature` (Peters, Niculae & Martins, ACL 2019), between softmax (1) and sparsemax (2).

    `y_i = max((alpha - 1) theta_i / temperature - t, 0) ^ (1 / (alpha - 1))` with `t` such that they sum to one, the maximum of
    `<theta, y>` plus a Tsallis entropy. `alpha = 1.5` is exact by sorting; other values by bisection, followed by two Newton
    steps inside the graph, which make the first three derivatives right (each step doubles the order).

    >>> import torch
    >>> Entmax(1.5)(torch.tensor([1.0, 1.0, -4.0]))
    tensor([0.5000, 0.5000, 0.0000])
    """

    alpha: float = 1.5
    temperature: float = 1.0

    one_hot = True
    constant_sum = True

    def __post_init__(self) -> None:
        check_positive(self, "temperature", "alpha")
        if not self.alpha > 1:
            raise ValueError(f"Entmax: alpha={self.alpha!r}; it must be above 1. alpha = 1 is Softmax.")

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, C) -> (*S, B, C)
        z = _shifted(theta * ((self.alpha - 1) / self.temperature), mask)
        return self._by_sorting(z) if self.alpha == 1.5 else self._by_bisection(z)

    def _by_sorting(self, z: Tensor) -> Tensor:
        s, count = _sorted(z.detach())
        # Shifted by the largest score, a score below -1 is never in the support; cut off there, its square stays finite.
        low = s.clamp_min(-2)
        mean, square = low.cumsum(-1) / count, low.square().cumsum(-1) / count
        threshold = mean - ((1 / count) - (square - mean.square())).clamp_min(0).sqrt()
        support = _largest(z, s, (threshold < low).sum(-1, keepdim=True))
        size = support.sum(-1, keepdim=True).to(z.dtype)
        kept = torch.where(support, z, 0)
        mean = kept.sum(-1, keepdim=True) / size
        spread = torch.where(support, z - mean, 0).square().sum(-1, keepdim=True) / size
        threshold = mean - (1 / size - spread).clamp_min(torch.finfo(z.dtype).tiny).sqrt()
        return torch.where(support, z - threshold, 0).square()

    def _by_bisection(self, z: Tensor) -> Tensor:
        power = 1 / (self.alpha - 1)
        with torch.no_grad():
            low, high = torch.full_like(z[..., :1], -1), torch.zeros_like(z[..., :1])
            for _ in range(60 if z.dtype == torch.float64 else 30):
                middle = (low + high) / 2
                above = (z - middle).clamp_min(0).pow(power).sum(-1, keepdim=True) >= 1
                low, high = torch.where(above, middle, low), torch.where(above, high, middle)
            support = z > high
        t = low
        for _ in range(2):
            base = torch.where(support, z - t, 1)
            total = torch.where(support, base.pow(power), 0).sum(-1, keepdim=True)
            slope = torch.where(support, power * base.pow(power - 1), 0).sum(-1, keepdim=True)
            t = t + (total - 1) / slope
        return torch.where(support, torch.where(support, z - t, 1).clamp_min(0).pow(power), 0)


def _shifted(z: Tensor, mask: Tensor | None) -> Tensor:
    """Scores with a maximum of zero, which changes no projection on the simplex and keeps the arithmetic exact."""
    z = z.clamp_min(-BIG)
    z = z if mask is None else torch.where(mask, z, -2 * BIG)
    return z - z.detach().amax(-1, keepdim=True)


def _sorted(z: Tensor) -> tuple[Tensor, Tensor]:
    """The scores in descending order, and 1, 2, ..., n."""
    return z.sort(-1, descending=True).values, torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)


def _largest(z: Tensor, s: Tensor, size: Tensor) -> Tensor:
    """Which scores are at least the `size`-th largest."""
    return z.detach() >= s.gather(-1, size.clamp_min(1) - 1)
