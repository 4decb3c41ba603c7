"""Best paths in directed acyclic graphs on the CPU, compiled: see `dag_path.cpp` for the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import SIZE, caller, contiguous

SOLVED, INFEASIBLE, INVALID = 0, 1, 2

_best_paths = caller("dag_path", *[Tensor] * 7, *[SIZE] * 3, *[Tensor] * 2)


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
    uses, status = torch.empty((count, size), dtype=scores.dtype), torch.empty(count, dtype=torch.uint8)
    inputs = contiguous(scores, mask, start, tail, which, source, target)
    failures = _best_paths(*inputs, count, len(start) - 1, size, uses, status)
    return Uses(uses, status if failures else None)
