"""Knapsacks on the CPU, compiled: see `knapsack.cpp` for the algorithms."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from . import library, typed

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = (*[_POINTER] * 4, *[_SIZE] * 3, _INT, _POINTER, _INT)
_function = typed("knapsack", _ARGUMENTS)


def pack(values: Tensor, weights: Tensor, capacity: Tensor, integer: bool, mask: Tensor | None = None) -> Tensor:
    """The most valuable items that fit, 1 where taken, on the CPU.  # (B, n), (B, n, d), (B, d) -> (B, n)

    `values` are float32 or float64, `weights` and `capacity` float64 and not negative; `integer` says that weights are whole
    numbers, for which values are summed in their own dtype, otherwise in float64. `mask (B, n)` is boolean.
    """
    values, weights, capacity = values.contiguous(), weights.contiguous(), capacity.contiguous()
    mask = None if mask is None else mask.contiguous()
    out = torch.empty_like(values)
    build = library()
    assert build is not None
    failed = _function(build, values.dtype)(
        values.data_ptr(),
        weights.data_ptr(),
        capacity.data_ptr(),
        None if mask is None else mask.data_ptr(),
        *weights.shape,
        integer,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"The knapsack kernel found no memory for scores of shape {tuple(values.shape)}.")
    return out
