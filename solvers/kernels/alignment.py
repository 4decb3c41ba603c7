"""Cheapest alignments on the CPU, compiled: see `alignment.cpp` for the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import SIZE, caller, contiguous

SOLVED, INFEASIBLE, INVALID = 0, 1, 2

_align = caller("alignment", *[Tensor] * 4, *[SIZE] * 3, *[Tensor] * 2)


class Alignments(NamedTuple):
    """A batch of paths: `solution (B, n, m)`, 1 on the path where `status (B,)` (None: all) says SOLVED, 0 elsewhere."""

    solution: Tensor
    status: Tensor | None = None


def align(costs: Tensor, mask: Tensor | None = None, start: Tensor | None = None, end: Tensor | None = None) -> Alignments:
    """The cheapest path of each matrix on the CPU.  # (B, n, m), (B, n, m), (B, 2), (B, 2) -> Alignments

    `costs`, float32 or float64, have one cell at least; `start` and `end`, int64, are the first and last row and column in use.
    """
    costs, *others = contiguous(costs, mask, start, end)
    solution, status = torch.empty_like(costs), torch.empty(len(costs), dtype=torch.uint8)
    failures = _align(costs, *others, *costs.shape, solution, status)
    return Alignments(solution, status if failures else None)
