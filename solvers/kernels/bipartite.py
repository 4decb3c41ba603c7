"""Matchings in a sparse bipartite graph on the CPU, compiled: see `bipartite.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import library, typed

if TYPE_CHECKING:
    from ..bipartite import Sides

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_function = typed("bipartite", (_POINTER, _POINTER, _POINTER, _SIZE, _SIZE, _INT, _INT, _POINTER, _POINTER, _INT))


def match(
    scores: Tensor, sides: Sides, perfect: bool, largest: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The matching of least cost (or greatest score, if `largest`) of each instance, on the CPU.  # (B, E) -> (B, E)

    `scores`, float32 or float64, are of the edges; an infinite cost and False in `mask (B, E)` forbid an edge. A matching that
    need not be `perfect` takes no edge of positive cost. The second result says which instances have none, or scores of NaN or
    of infinity the other way, None where all is well.
    """
    scores = scores.contiguous()
    mask = None if mask is None else mask.contiguous()
    count, size = scores.shape
    out, status = torch.empty_like(scores), (ctypes.c_bool * count)()
    build = library()
    assert build is not None
    failures = _function(build, scores.dtype)(
        sides.record,
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        count,
        size,
        perfect,
        largest,
        out.data_ptr(),
        status,
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The bipartite matching kernel found no memory for {count} graphs of {size} edges.")
    return out, torch.tensor(status, dtype=torch.bool) if failures else None
