"""Ranks of the rows of a matrix on the CPU; see `ranking.cpp` for the idea."""

from __future__ import annotations

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous

_ranks = caller("ranking", Tensor, Tensor, SIZE, SIZE, INT, Tensor)

DTYPES = (torch.float32, torch.float64, torch.int32, torch.int64)
"""The scores that the kernel takes."""


def ranks(scores: Tensor, mask: Tensor | None = None, descending: bool = False) -> Tensor | None:
    """Stable ranks 1, 2, ... of the entries in the mask, 0 outside; None where one of those is NaN.  # (B, n) -> (B, n)

    `scores` is of one of `DTYPES`, `mask` is boolean and of the same shape, both on the CPU. The ranks have the dtype of the
    scores.
    """
    scores, mask = contiguous(scores, mask)
    out = torch.empty_like(scores)
    if not out.numel():
        return out
    if scores.shape[1] >= 2**31:
        raise ValueError(f"ranks: {scores.shape[1]} entries in a row; the kernel takes fewer than 2^31.")
    found_nan = _ranks(scores, mask, *scores.shape, descending, out)
    return None if found_nan else out
