"""Projections on the permutahedron: soft ranks and soft sorting in O(n log n) (Blondel et al., ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_positive
from ..solver import Solver
from .base import BIG, Relaxation, usable
from .isotonic import pooled_logsumexps, pooled_means


@dataclass(frozen=True)
class _Permutahedral(Relaxation):
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "strength")


@dataclass(frozen=True)
class _Rank(_Permutahedral):
    constant_sum = True
    hull = "ranks"
    binary = False

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, n) -> (*S, B, n)
        used = usable(theta, mask)
        z = torch.where(used, theta / self.strength, -BIG)
        order = z.detach().argsort(-1, descending=True)
        position = torch.arange(theta.shape[-1], device=theta.device)
        ranks = used.sum(-1, keepdim=True) - position  # n, n - 1, ..., 1 and below, where nothing may be used
        y = self._project(z.gather(-1, order), ranks.clamp_min(1).to(z.dtype), ranks > 0)
        return torch.where(used, y.gather(-1, order.argsort(-1)), 0)

    def _project(self, z: Tensor, ranks: Tensor, used: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class SoftRank(_Rank):
    """The point of the permutahedron nearest to `theta / strength`: soft ranks `1..n`, the highest score ranked about `n`.

    The maximum of `<theta, y> - strength / 2 |y|^2` over the hull of all rankings. O(n log n) by isotonic regression; exact.
    Piecewise affine: its second derivative is zero almost everywhere, which is right. With a mask, the ranks of the entries
    that may be used.

    >>> import torch
    >>> SoftRank(strength=0.1)(torch.tensor([3.0, 1.0, 2.0]))
    tensor([3., 1., 2.])
    >>> SoftRank(strength=1.0)(torch.tensor([0.5, 0.0]))
    tensor([1.7500, 1.2500])
    """

    def _project(self, z: Tensor, ranks: Tensor, used: Tensor) -> Tensor:
        mean_z, mean_rank = pooled_means(z, ranks, used)
        return (z - mean_z) + mean_rank


@dataclass(frozen=True)
class EntropicRank(_Rank):
    """The Kullback-Leibler projection of `exp(theta / strength)` on the permutahedron: soft ranks `1..n`, smooth inside a face.

    The maximum of `<theta, y> - strength <y, log y - 1>` over the hull of all rankings. O(n log n) by isotonic regression.

    >>> import torch
    >>> EntropicRank(strength=0.1)(torch.tensor([3.0, 1.0, 2.0])).round(decimals=3)
    tensor([3., 1., 2.])
    """

    def _project(self, z: Tensor, ranks: Tensor, used: Tensor) -> Tensor:
        total, total_rank = pooled_logsumexps(z, ranks.log(), used)
        return torch.where(used, (z - total) + total_rank, 0).exp()


@dataclass(frozen=True)
class _Sort(_Permutahedral):
    hull = "sorted values"

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, n) -> (*S, B, n)
        used = usable(theta, mask)
        count = used.sum(-1, keepdim=True)
        w = torch.where(used, theta, -BIG).sort(-1, descending=True).values
        position = torch.arange(theta.shape[-1], device=theta.device)
        z = (count - position).to(w.dtype) / self.strength
        first = position < count
        pooled_z, pooled_w = self._pool(z, torch.where(first, w, 0), first)
        y = torch.where(first, (z - pooled_z) + pooled_w, 0)
        place = torch.where(used, count - used.cumsum(-1), 0)  # the lowest value goes to the first entry that may be used
        return torch.where(used, y.gather(-1, place), 0)

    def _pool(self, z: Tensor, w: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _mismatch(self, solver: Solver) -> str:
        if solver.linear:
            return "its points are sorted values, and solutions of the solver maximise an objective"
        return super()._mismatch(solver)


@dataclass(frozen=True)
class ProjectedSort(_Sort):
    """Values in ascending order, softened: the point nearest to `(1, ..., n) / strength` in the hull of all orders of `theta`.

    A strength near zero sorts; a large one gives every entry the mean. Piecewise affine in `theta` as the sorted values are;
    O(n log n), exact. With a mask, the values fill the entries that may be used, in their order.

    >>> import torch
    >>> ProjectedSort(strength=0.1)(torch.tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    >>> ProjectedSort(strength=100.0)(torch.tensor([3.0, 1.0, 2.0]))
    tensor([1.9900, 2.0000, 2.0100])
    """

    def _pool(self, z: Tensor, w: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        return pooled_means(z, w, used)


@dataclass(frozen=True)
class EntropicSort(_Sort):
    """Values in ascending order, softened, by the Kullback-Leibler divergence in place of the distance.

    The logarithm of the projection of `exp((1, ..., n) / strength)` on the hull of all orders of `exp(theta)`; O(n log n). With
    a mask, the values fill the entries that may be used, in their order.

    >>> import torch
    >>> EntropicSort(strength=0.1)(torch.tensor([3.0, 1.0, 2.0])).round(decimals=3)
    tensor([1., 2., 3.])
    """

    def _pool(self, z: Tensor, w: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        return pooled_logsumexps(z, w, used)
