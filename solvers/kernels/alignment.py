"""Cheapest alignments on the CPU, compiled: see `alignment.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from . import library, typed

SOLVED, INFEASIBLE, INVALID = 0, 1, 2

_ARGUMENTS = [*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 2, ctypes.c_int]
_function = typed("alignment", _ARGUMENTS)


class Alignments(NamedTuple):
    """A batch of paths: `solution (B, n, m)`, 1 on the path where `status (B,)` (None: all) says SOLVED, 0 elsewhere."""

    solution: Tensor
    status: Tensor | None = None


def align(costs: Tensor, mask: Tensor | None = None, start: Tensor | None = None, end: Tensor | None = None) -> Alignments:
    """The cheapest path of each matrix on the CPU.  # (B, n, m), (B, n, m), (B, 2), (B, 2) -> Alignments

    `costs`, float32 or float64, have one cell at least; `start` and `end`, int64, are the first and last row and column in use.
    """
    count, height, width = costs.shape
    costs = costs.contiguous()
    inputs = [None if t is None else t.contiguous() for t in (costs, mask, start, end)]
    solution = torch.empty_like(costs)
    status = torch.empty(count, dtype=torch.uint8)
    build = library()
    assert build is not None
    failures = _function(build, costs.dtype)(
        *[t if t is None else t.data_ptr() for t in inputs],
        count,
        height,
        width,
        solution.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The alignment kernel found no memory for {count} matrices of {height} x {width}.")
    return Alignments(solution, status if failures else None)
