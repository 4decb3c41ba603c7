"""Cheapest paths of cells in batched torch, on any device: the same answers, bit for bit, as `kernels/grid_path.cpp`.

The distances are the least solution of `d[v] = c[v] + min d[neighbours of v]`, found by relaxing all cells at once until
nothing changes. Cells come before instances in memory, so that a shift of the grid is a slice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.grid_path import INVALID, SOLVED, UNREACHABLE, Paths
from .tracing import mark_paths


def find(
    costs: Tensor,
    neighbours: int,
    mask: Tensor | None = None,
    source: Tensor | None = None,
    target: Tensor | None = None,
    distances: bool = False,
) -> Paths:
    """The cheapest path of cells from source to target in each grid.  # (B, H, W) -> Paths

    `costs` are floating, with at least one cell; `mask (B, H, W)` is boolean; `source (B,)` and `target (B,)`, int64, are
    row-major numbers of cells, by default the first and the last.
    """
    count, height, width = costs.shape
    cells = height * width
    source = torch.zeros(count, dtype=torch.int64, device=costs.device) if source is None else source
    target = torch.full_like(source, cells - 1) if target is None else target
    cost = (costs if mask is None else torch.where(mask, costs, torch.inf)).permute(1, 2, 0).contiguous()  # (H, W, B)
    valid = (cost >= 0).flatten(0, 1).all(0)
    cost = torch.where(cost >= 0, cost, 0)  # relaxing ends only without negative costs
    distance = _distances(cost, source, neighbours)
    reached = distance[1:-1, 1:-1].reshape(cells, count)
    furthest = reached.gather(0, target[None])[0]
    status = torch.where(valid, torch.where(furthest < torch.inf, SOLVED, UNREACHABLE), INVALID)
    marked = mark_paths(_previous(distance, source, neighbours), target).t() & (status == SOLVED)[:, None]
    potential = reached.minimum(furthest).t().reshape(costs.shape) if distances else None
    solution = marked.reshape(costs.shape).to(costs.dtype)
    return Paths(solution, None if bool((status == SOLVED).all()) else status, potential)


def _shifts(padded: Tensor, neighbours: int) -> list[Tensor]:
    """The neighbours of all cells, in row-major order.  # (H + 2, W + 2, B) -> [(H, W, B)]"""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    steps = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1) and (neighbours == 8 or 1 in (i, j))]
    return [padded[i : i + height, j : j + width] for i, j in steps]


def _nearest(padded: Tensor, neighbours: int) -> Tensor:
    """The least of the neighbours (and, of eight, the cell itself: it changes nothing).  # (H + 2, W + 2, B) -> (H, W, B)"""
    if neighbours == 8:
        rows = torch.minimum(torch.minimum(padded[:, :-2], padded[:, 2:]), padded[:, 1:-1])
        return torch.minimum(torch.minimum(rows[:-2], rows[2:]), rows[1:-1])
    left, right, up, down = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    return torch.minimum(torch.minimum(left, right), torch.minimum(up, down))


def _distances(cost: Tensor, source: Tensor, neighbours: int) -> Tensor:
    """Distances from the source, with a border of infinities.  # (H, W, B), (B,) -> (H + 2, W + 2, B)"""
    height, width, count = cost.shape
    padded = cost.new_full((height + 2, width + 2, count), torch.inf)
    place = (source // width + 1) * (width + 2) + source % width + 1
    padded.flatten(0, 1).scatter_(0, place[None], cost.flatten(0, 1).gather(0, source[None]))
    inner = padded[1:-1, 1:-1]
    while True:
        before = inner.clone()
        for _ in range(max(4, max(height, width) // 3)):  # asking whether anything changed is dear on a GPU
            torch.minimum(inner, _nearest(padded, neighbours).add_(cost), out=inner)
        if torch.equal(before, inner):
            return padded


def _previous(distance: Tensor, source: Tensor, neighbours: int) -> Tensor:
    """The cell before each cell on its path; a source or an unreached cell is its own.  # (H + 2, W + 2, B) -> (H * W, B)"""
    height, width, count = distance.shape[0] - 2, distance.shape[1] - 2, distance.shape[2]
    own, near = distance[1:-1, 1:-1], torch.stack(_shifts(distance, neighbours))
    cell = torch.arange(height * width, device=source.device).view(height, width, 1)
    least = near.amin(0)
    still = (cell == source) | (own == torch.inf)
    stuck = (own <= least) & ~still
    chosen = near == least
    if stuck.any():
        level = torch.where(chosen, torch.stack(_shifts(_levels(stuck, near == own, neighbours), neighbours)), height * width)
        chosen &= level == level.amin(0)
    order = torch.arange(neighbours, device=source.device).view(-1, 1, 1, 1)
    first = torch.where(chosen, order, neighbours - 1).amin(0)
    numbers = torch.nn.functional.pad(cell.view(height, width), (1, 1, 1, 1))[..., None]
    step = torch.stack(_shifts(numbers, neighbours)).expand(-1, -1, -1, count).gather(0, first[None])[0]
    return torch.where(still, cell, step).flatten(0, 1)


def _levels(stuck: Tensor, level_with: Tensor, neighbours: int) -> Tensor:
    """Fewest steps across cells of equal distance to one with a nearer neighbour.  # (H, W, B) -> (H + 2, W + 2, B)

    `stuck` are the cells without a nearer neighbour; `level_with (neighbours, H, W, B)` says which neighbours are as near.
    """
    height, width, count = stuck.shape
    far = height * width
    padded = torch.full((height + 2, width + 2, count), far, device=stuck.device)
    inner = padded[1:-1, 1:-1]
    inner.masked_fill_(~stuck, 0)
    while True:
        before = inner.clone()
        for _ in range(4):
            near = torch.where(level_with, torch.stack(_shifts(padded, neighbours)), far).amin(0)
            inner.copy_(torch.where(stuck, near.add_(1).clamp_(max=far), 0))
        if torch.equal(before, inner):
            return padded
