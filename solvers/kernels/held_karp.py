"""Shortest tours on the CPU, exactly, compiled: see `held_karp.cpp` for the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import INT, SIZE, caller

SOLVED, INFEASIBLE, INVALID, STOPPED, NOTHING_FOUND = range(5)

_shortest_tours = caller("held_karp", Tensor, SIZE, INT, INT, Tensor, Tensor)


class Tours(NamedTuple):
    """A batch of tours.

    `order (B, n)` are the cities in the order of the visits. `status (B,)`, None where all are solved, says SOLVED, INFEASIBLE
    (the allowed steps hold no tour), INVALID (a cost of minus infinity), STOPPED (the time was over before optimality was
    proved) or NOTHING_FOUND; `order` is of use where SOLVED or STOPPED. No tour is shorter than `bound (B,)`, float64.
    """

    order: Tensor
    status: Tensor | None = None
    bound: Tensor | None = None


def shortest_tours(costs: Tensor, symmetric: bool = False) -> Tours:
    """The shortest tour of each instance, from city 0, on the CPU.  # (B, n, n) -> Tours

    `costs`, float32 or float64, are of a step from the row to the column, infinite where there is none. There are 2 cities at
    least; time and memory grow as n 2^n. Where all costs are `symmetric` it takes half the time.
    """
    count, cities, _ = costs.shape
    order, status = torch.zeros(count, cities, dtype=torch.int64), torch.empty(count, dtype=torch.uint8)
    failures = _shortest_tours(costs.contiguous(), count, cities, symmetric, order, status)
    return Tours(order, status if failures else None)
