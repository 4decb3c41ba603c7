"""Cheapest paths of cells on the CPU, compiled: see `grid_path.cpp` for the algorithm."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from solverlayers.samples import Samples

from . import INT, SIZE, caller, contiguous

SOLVED, UNREACHABLE, INVALID = 0, 1, 2

_find = caller("grid_path", *[Tensor] * 4, *[SIZE] * 3, INT, INT, *[Tensor] * 3)


class Reading(IntEnum):
    """What scores mean. Less than nothing counts as nothing, but for COSTS, of which a negative one is INVALID."""

    GAINS, COSTS, CLIPPED_COSTS = -1, 0, 1


class Paths(NamedTuple):
    """A batch of paths.

    `status (B,)`, None where all are solved, says SOLVED, UNREACHABLE, or INVALID (a negative cost, or NaN); `solution` is 0
    where not solved. `distances`, in the shape of the grid or `(B, nodes)`, are from the source and at most the target's.
    `order (nodes,)`, int32, is one in which all instances of similar costs are solved fast, if there is one.
    """

    solution: Tensor
    status: Tensor | None
    distances: Tensor | None = None
    order: Tensor | None = None


def find(
    costs: Tensor,
    neighbours: int,
    mask: Tensor | None = None,
    source: Tensor | None = None,
    target: Tensor | None = None,
    distances: bool = False,
    reading: Reading = Reading.COSTS,
) -> Paths:
    """The cheapest path of cells from source to target in each grid, on the CPU.  # (B, H, W) -> Paths

    `costs` are float32 or float64, with at least one cell; `mask (B, H, W)` is boolean; `source (B,)` and `target (B,)`,
    int64, are row-major numbers of cells, by default the first and the last.
    """
    costs, *others = contiguous(costs, mask, source, target)
    solution, status = torch.empty_like(costs), torch.empty(len(costs), dtype=torch.uint8)
    potential = torch.empty_like(costs) if distances else None
    failures = _find(costs, *others, *costs.shape, neighbours, reading, solution, potential, status)
    return Paths(solution, status if failures else None, potential)


def find_mean(
    samples: Samples, neighbours: int, mask: Tensor | None = None, source: Tensor | None = None, target: Tensor | None = None
) -> bool:
    """Fills in the mean of the paths at samples of gains `(B, H, W)`; whether all were found. The rest is as for `find`."""
    return samples.fill("grid_path", mask, source, target, *samples.theta.shape[1:], neighbours)
