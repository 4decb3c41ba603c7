"""Short tours by local search on the CPU, compiled: see `tour_search.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from . import library
from .held_karp import Tours

_ARGUMENTS: list[Any] = [ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]


@cache
def _function(build: ctypes.CDLL) -> Any:
    function = build.solverlayers_tour_search
    function.argtypes, function.restype = _ARGUMENTS, ctypes.c_int64
    return function


def short_tours(costs: Tensor, starts: int) -> Tours:
    """A short tour of each instance, the best of `starts` searches, on the CPU.  # (B, n, n) -> Tours

    `costs`, float64, are of a step from the row to the column, infinite where there is none; there are 2 cities at least.
    """
    count, cities, _ = costs.shape
    costs = costs.contiguous()
    order = torch.zeros(count, cities, dtype=torch.int64)
    status = torch.empty(count, dtype=torch.uint8)
    build = library()
    assert build is not None
    failures = _function(build)(
        costs.data_ptr(), count, cities, min(starts, cities), order.data_ptr(), status.data_ptr(), torch.get_num_threads()
    )
    if failures < 0:
        raise MemoryError(f"The tour search kernel found no memory for {count} instances of {cities} cities.")
    return Tours(order, status if failures else None)
