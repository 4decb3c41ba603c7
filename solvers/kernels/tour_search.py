"""Short tours by local search on the CPU, compiled: see `tour_search.cpp` for the algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from . import SIZE, caller
from .held_karp import Tours

_short_tours = caller("tour_search", Tensor, *[SIZE] * 3, Tensor, Tensor)


def short_tours(costs: Tensor, starts: int) -> Tours:
    """A short tour of each instance, the best of `starts` searches, on the CPU.  # (B, n, n) -> Tours

    `costs`, float64, are of a step from the row to the column, infinite where there is none; there are 2 cities at least.
    """
    count, cities, _ = costs.shape
    order, status = torch.zeros(count, cities, dtype=torch.int64), torch.empty(count, dtype=torch.uint8)
    failures = _short_tours(costs.contiguous(), count, cities, min(starts, cities), order, status)
    return Tours(order, status if failures else None)
