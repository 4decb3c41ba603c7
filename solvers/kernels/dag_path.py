"""Best paths in directed acyclic graphs on the CPU, compiled: see `dag_path.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from . import library, typed

SOLVED, INFEASIBLE, INVALID = 0, 1, 2

_ARGUMENTS = [*[ctypes.c_void_p] * 7, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 2, ctypes.c_int]
_function = typed("dag_path", _ARGUMENTS)


class Uses(NamedTuple):
    """A batch of paths: `times (B, n)` each takes arcs with each score, 0 unless `status (B,)` (None: all) says SOLVED."""

    times: Tensor
    status: Tensor | None = None


def best_paths(
    scores: Tensor, mask: Tensor | None, start: Tensor, tail: Tensor, which: Tensor, source: Tensor, target: Tensor
) -> Uses:
    """The best path of each instance on the CPU.  # (B, n), (B, n), (N + 1,), (A,), (A,), (B,), (B,) -> Uses

    `scores` are float32 or float64. The arcs into node v are `start[v]`, ..., `start[v + 1] - 1`: each comes from `tail`, a
    lesser node, and has the score number `which`, or none where that is n; all are int32. `source` and `target` are int64.
    """
    count, size = scores.shape
    nodes = len(start) - 1
    inputs = [None if t is None else t.contiguous() for t in (scores, mask, start, tail, which, source, target)]
    uses = torch.empty((count, size), dtype=scores.dtype)
    status = torch.empty(count, dtype=torch.uint8)
    build = library()
    assert build is not None
    failures = _function(build, scores.dtype)(
        *[t if t is None else t.data_ptr() for t in inputs],
        count,
        nodes,
        size,
        uses.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The acyclic path kernel found no memory for {count} instances of {nodes} nodes and {size} scores.")
    return Uses(uses, status if failures else None)
