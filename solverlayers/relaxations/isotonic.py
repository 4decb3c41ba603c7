"""Isotonic regression, batched: pool adjacent violators by halves.

Two neighbouring halves that are each non-increasing are joined by pooling at most one block: a suffix of the left and a prefix
of the right. An entry of value `t` belongs to it if and only if the pool of all entries of the left below `t` and of the right
above `t` has a mean on the other side of `t`, so all entries of all halves decide at once, by binary search and prefix sums.
That makes log n rounds of tensor operations, O(n log n) work or little more, in a number of steps that does not depend on the
data: it runs compiled, mapped and on any device without waiting for it. Blocks found, the fit is written with plain sums over
blocks, and autograd gives its derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import BIG


@dataclass(frozen=True)
class _Pool:
    """What the value of a pool of entries is made of: two running totals, and how one joins and divides them."""

    accumulate: Callable[[Tensor], Tensor]
    join: Callable[[Tensor, Tensor], Tensor]
    value: Callable[[Tensor, Tensor], Tensor]
    nothing: float


_MEAN = _Pool(lambda x: x.cumsum(-1), torch.add, torch.div, 0.0)
_LOG_RATIO = _Pool(lambda x: x.logcumsumexp(-1), torch.logaddexp, torch.sub, -BIG)


def pooled_means(z: Tensor, w: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The means of `z` and of `w` over the blocks of `v = argmin sum (v - (z - w))^2`, non-increasing, at each entry.

    `v` is their difference. They come apart because `(z - mean z) + mean w` is exact to the last bit where `z` is large and a
    block is one entry, and `z - v` is not. The entries in `used` come first.  # (..., n) -> (..., n), (..., n)
    """
    with torch.no_grad():
        y = torch.where(used, z - w, -BIG)
        block = _blocks(_MEAN, y, torch.ones_like(y), y)
        count = _sum(torch.ones_like(y), block).clamp_min(1)
    mean_z, mean_w = (_sum(torch.where(used, x, 0), block) / count for x in (z, w))
    return mean_z.gather(-1, block), mean_w.gather(-1, block)


def pooled_logsumexps(s: Tensor, w: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The same for `v = argmin sum (exp(s - v) + exp(w) v)`: `logsumexp(s)` and `logsumexp(w)` over each block, at each entry.

    `s` and `w` are non-increasing; the entries in `used` come first.  # (..., n) -> (..., n), (..., n)
    """
    with torch.no_grad():
        a, b = torch.where(used, s, -BIG), torch.where(used, w, 0)
        block = _blocks(_LOG_RATIO, a, b, a - b)
    return _logsumexp(torch.where(used, s, 0), block), _logsumexp(torch.where(used, w, 0), block)


def _blocks(pool: _Pool, a: Tensor, b: Tensor, fit: Tensor) -> Tensor:
    """The number of the block of each entry, from zero.  # (..., n) -> (..., n)"""
    n = fit.shape[-1]
    levels = max(n - 1, 0).bit_length()
    padding = (0, 2**levels - n)
    a, b, fit = (torch.nn.functional.pad(x, padding, value=v) for x, v in ((a, -BIG), (b, 0.0), (fit, -BIG)))
    for level in range(levels):
        fit = _join_halves(pool, 2**level, *(x.unflatten(-1, (-1, 2 ** (level + 1))) for x in (a, b, fit))).flatten(-2)
    fit = fit[..., :n]
    return torch.nn.functional.pad((fit[..., 1:] != fit[..., :-1]).cumsum(-1), (1, 0))


def _join_halves(pool: _Pool, half: int, a: Tensor, b: Tensor, fit: Tensor) -> Tensor:
    """Non-increasing halves to non-increasing whole lines.  # (..., 2 half) -> (..., 2 half)"""
    left, right = fit[..., :half], fit[..., half:]
    from_left = tuple(_totals(pool, x[..., :half].flip(-1)) for x in (a, b))
    from_right = tuple(_totals(pool, x[..., half:]) for x in (a, b))

    def pooled(m: Tensor, k: Tensor) -> Tensor:
        """The value of the last `m` entries of the left and the first `k` of the right, pooled."""
        total = (pool.join(x.gather(-1, m), y.gather(-1, k)) for x, y in zip(from_left, from_right))
        return pool.value(*total)

    below = torch.searchsorted(left.flip(-1).contiguous(), fit.contiguous())
    above = torch.searchsorted((-right).contiguous(), (-fit).contiguous())
    value = pooled(below, above)
    m = (value[..., :half] > left).sum(-1, keepdim=True)
    k = (value[..., half:] < right).sum(-1, keepdim=True)
    value = pooled(m, k)
    position = torch.arange(2 * half, device=fit.device)
    inside = (position >= half - m) & (position < half + k)
    # entries outside the block are on their side of it already, but for rounding
    outside = torch.cat([torch.maximum(left, value), torch.minimum(right, value)], -1)
    return torch.where((m > 0) & (k > 0), torch.where(inside, value, outside), fit)


def _totals(pool: _Pool, x: Tensor) -> Tensor:
    """Totals of the first 0, 1, 2, ... entries.  # (..., n) -> (..., n + 1)"""
    return torch.nn.functional.pad(pool.accumulate(x), (1, 0), value=pool.nothing)


def _sum(x: Tensor, block: Tensor) -> Tensor:
    """The sum of each block, at its number; zero at numbers without a block.  # (..., n) -> (..., n)"""
    return torch.zeros_like(x).scatter_add(-1, block, x)


def _logsumexp(x: Tensor, block: Tensor) -> Tensor:
    """The logarithm of the sum of the exponentials of each block, at each of its entries; `x` is non-increasing."""
    largest = torch.full_like(x, -BIG).scatter_reduce(-1, block, x.detach(), "amax").gather(-1, block)
    return _sum((x - largest).exp(), block).gather(-1, block).log() + largest
