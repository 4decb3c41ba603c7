"""The cheapest set of a family on the CPU, compiled: see `decision_diagram.cpp` for the algorithm."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ..decision_diagram import Diagram
from . import library, typed

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_function = typed("decision_diagram", (_POINTER, _POINTER, _POINTER, _SIZE, _SIZE, _INT, _POINTER, _POINTER, _INT))


def best_sets(scores: Tensor, diagram: Diagram, largest: bool, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The set of least cost (or greatest, if `largest`) of each instance, on the CPU.  # (B, E) -> (B, E)

    `scores`, float32 or float64, are of the elements; an infinite cost and False in `mask (B, E)` forbid an element. The second
    result says which instances have no set, or scores of NaN or of infinity the other way, None where all is well.
    """
    scores = scores.contiguous()
    mask = None if mask is None else mask.contiguous()
    count, size = scores.shape
    out, status = torch.empty_like(scores), (ctypes.c_bool * count)()
    build = library()
    assert build is not None
    failures = _function(build, scores.dtype)(
        diagram.record,
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        count,
        size,
        largest,
        out.data_ptr(),
        status,
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The decision diagram kernel found no memory for {diagram!r}.")
    return out, torch.tensor(status, dtype=torch.bool) if failures else None
