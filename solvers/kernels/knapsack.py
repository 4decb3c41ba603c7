"""Knapsacks on the CPU, compiled: see `knapsack.cpp` for the algorithms."""

from __future__ import annotations

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous

_pack = caller("knapsack", *[Tensor] * 4, *[SIZE] * 3, INT, Tensor)


def pack(values: Tensor, weights: Tensor, capacity: Tensor, integer: bool, mask: Tensor | None = None) -> Tensor:
    """The most valuable items that fit, 1 where taken, on the CPU.  # (B, n), (B, n, d), (B, d) -> (B, n)

    `values` are float32 or float64, `weights` and `capacity` float64 and not negative; `integer` says that weights are whole
    numbers, for which values are summed in their own dtype, otherwise in float64. `mask (B, n)` is boolean.
    """
    values, weights, capacity, mask = contiguous(values, weights, capacity, mask)
    out = torch.empty_like(values)
    _pack(values, weights, capacity, mask, *weights.shape, integer, out)
    return out
