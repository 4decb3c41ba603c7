"""Ranks of the rows of a matrix on the CPU; see `ranking.cpp` for the idea."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from . import library

DTYPES = (torch.float32, torch.float64, torch.int32, torch.int64)
"""The scores that the kernel takes."""


def ranks(scores: Tensor, mask: Tensor | None = None, descending: bool = False) -> Tensor | None:
    """Stable ranks 1, 2, ... of the entries in the mask, 0 outside; None where one of those is NaN.  # (B, n) -> (B, n)

    `scores` is of one of `DTYPES`, `mask` is boolean and of the same shape, both on the CPU. The ranks have the dtype of the
    scores.
    """
    scores = scores.contiguous()
    mask = None if mask is None else mask.contiguous()
    out = torch.empty_like(scores)
    rows, n = scores.shape
    if not out.numel():
        return out
    if n >= 2**31:
        raise ValueError(f"ranks: {n} entries in a row; the kernel takes fewer than 2^31.")
    failed = _kernel(scores.dtype)(
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        rows,
        n,
        descending,
        torch.get_num_threads(),
        out.data_ptr(),
    )
    if failed == 2:
        return None
    if failed:
        raise MemoryError(f"ranks: no memory to rank {rows} rows of {n} entries.")
    return out


@cache
def _kernel(dtype: torch.dtype) -> Callable[..., int]:
    kernel = getattr(library(), f"solverlayers_ranking_{str(dtype).removeprefix('torch.')}")
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    kernel.argtypes = (pointer, pointer, size, size, ctypes.c_int, ctypes.c_int, pointer)
    kernel.restype = ctypes.c_int
    return kernel
