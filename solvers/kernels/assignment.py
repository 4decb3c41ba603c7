"""Linear assignment on the CPU, compiled: see `assignment.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from . import library, typed

SOLVED, INFEASIBLE, INVALID = 0, 1, 2
SMALL = 20
"""For square matrices up to this size a start saves less time than it takes to keep it."""

_NANOSECONDS_PER_ENTRY = 4
_ARGUMENTS = [*[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 3, ctypes.c_int, *[ctypes.c_void_p] * 4, ctypes.c_int64, ctypes.c_int]
_function = typed("assignment", _ARGUMENTS)


class Matching(NamedTuple):
    """A batch of matchings.

    `status (B,)`, None where all are solved, says SOLVED, INFEASIBLE (no matching is possible) or INVALID (NaN scores, or
    infinite ones in the direction that does not forbid); `solution` is 0 where not solved. `duals` are those of rows `(B, n)`
    and of columns `(B, m)`, in the sense of the scores: `rows[i] + columns[j] <= score[i, j]` for costs, `>=` for gains.
    """

    solution: Tensor
    status: Tensor | None
    duals: tuple[Tensor, Tensor] | None = None
    start: Tensor | None = None
    """`warm_start` for similar scores, NaN for instances that it would not help (their cold search is short)."""


def _chunks(count: int, entries: int) -> tuple[int, int]:
    """How many instances make one chunk of work, and for how many threads: one, unless the work is worth waking others."""
    cost = _NANOSECONDS_PER_ENTRY * max(entries, 1)
    if count * cost < 200_000 or (threads := torch.get_num_threads()) == 1:
        return max(count, 1), 1
    return max(-(-count // (4 * threads)), min(count, 20_000 // cost), 1), threads


def assign(
    scores: Tensor,
    maximize: bool,
    mask: Tensor | None = None,
    skip_rows: Tensor | None = None,
    skip_columns: Tensor | None = None,
    warm_start: Tensor | None = None,
    duals: bool = False,
    start: bool = False,
) -> Matching:
    """Matchings of least cost (or greatest score) on the CPU.  # (B, n, m) -> Matching

    `scores` are float32, float64, int32 or int64 and not empty; `mask (B, n, m)` is boolean. Without `skip_rows` every row is
    matched (or every column, if there are fewer). `skip_rows (B, n)` are prices of leaving rows unmatched, `skip_columns
    (B, m)` of columns, both float64. `warm_start (B, m)`, float64, are duals of columns, used where all rows and columns get
    matched; where the optimum they lead to is not the only one, they are forgotten, so they change no solution.
    """
    count, n, m = scores.shape
    scores = scores.contiguous()
    options = [None if t is None else t.contiguous() for t in (mask, skip_rows, skip_columns, warm_start)]
    solution = torch.empty_like(scores)
    status = (ctypes.c_uint8 * count)()
    rows = torch.empty(count, n, dtype=torch.float64) if duals else None
    columns = torch.empty(count, m, dtype=torch.float64) if duals or start else None
    build = library()
    assert build is not None
    chunk, threads = _chunks(count, n * m)
    failures = _function(build, scores.dtype)(
        scores.data_ptr(),
        *[t if t is None else t.data_ptr() for t in options],
        count,
        n,
        m,
        maximize,
        solution.data_ptr(),
        *[None if t is None else t.data_ptr() for t in (rows, columns)],
        status,
        chunk,
        threads,
    )
    if failures < 0:
        raise MemoryError(f"The assignment kernel found no memory for {count} matrices of {n} x {m}.")
    dual = None if rows is None or columns is None else (rows, columns)
    return Matching(solution, torch.tensor(status, dtype=torch.uint8) if failures else None, dual, columns if start else None)
