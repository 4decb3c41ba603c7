"""Linear assignment in plain torch on any device: shortest augmenting paths, for all instances in lockstep."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.assignment import INFEASIBLE, INVALID, Matching


def assign(
    scores: Tensor,
    maximize: bool,
    mask: Tensor | None = None,
    skip_rows: Tensor | None = None,
    skip_columns: Tensor | None = None,
    warm_start: Tensor | None = None,
    duals: bool = False,
) -> Matching:
    """What `kernels.assignment.assign` does, on any device with float64.  # (B, n, m) -> Matching

    `warm_start` is not used: paths start from the empty matching. Prices and distances are float64, as in the kernel.
    """
    sign = -1.0 if maximize else 1.0
    costs = sign * scores.double()
    if skip_columns is not None:
        costs = costs - sign * skip_columns.unsqueeze(1)
    if mask is not None:
        costs = torch.where(mask, costs, torch.inf)
    skips = None if skip_rows is None else sign * skip_rows
    invalid = _invalid(costs) if skips is None else _invalid(costs) | _invalid(skips)
    costs = costs.nan_to_num(torch.inf, torch.inf, torch.inf) if invalid.any() else costs
    real_rows, real_columns = real_lines(costs, mask)
    if skips is not None:
        column, rows, columns, infeasible = _with_skips(costs, skips, real_rows)
    else:
        column, rows, columns, infeasible = _complete(costs, real_rows, real_columns)
    status = torch.where(invalid, INVALID, torch.where(infeasible, INFEASIBLE, 0)).to(torch.uint8)
    failed = status != 0
    matched = (column >= 0) & ~failed.unsqueeze(1)
    solution = torch.zeros_like(scores, memory_format=torch.contiguous_format)
    if solution.numel():
        solution.scatter_(2, column.clamp(min=0).unsqueeze(2), matched.to(scores.dtype).unsqueeze(2))
    out = Matching(solution, status if failed.any() else None)
    if not duals:
        return out
    solved = (~failed).unsqueeze(1)
    return out._replace(duals=(sign * rows.where(solved, 0.0), sign * columns.where(solved, 0.0)))


def real_lines(scores: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which rows and columns are not padding.  # (*S, B, n, m), (B, n, m) -> (B, n), (B, m)"""
    if mask is not None:
        return mask.any(2), mask.any(1)
    count, n, m = scores.shape[-3:]
    return scores.new_ones(count, n, dtype=torch.bool), scores.new_ones(count, m, dtype=torch.bool)


def _invalid(costs: Tensor) -> Tensor:  # (B, ...) -> (B,)
    return ~(costs > -torch.inf).flatten(1).all(1)


def _with_skips(costs: Tensor, skips: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each row has a column of its own, at the price of leaving it unmatched."""
    own = torch.where(torch.eye(skips.shape[1], dtype=torch.bool, device=skips.device), skips.unsqueeze(1), torch.inf)
    m = costs.shape[2]
    column, rows, columns, infeasible = match_rows(torch.cat([costs, own], 2), wanted)
    return torch.where(column < m, column, -1), rows, columns[:, :m], infeasible


def _complete(costs: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Matches all rows of the instances with no more rows than columns, and all columns of the others."""
    count, n, m = costs.shape
    size = max(n, m)
    swap = rows.sum(1) > columns.sum(1)
    square = costs.new_full((count, size, size), torch.inf)
    square[:, :n, :m] = costs
    square = torch.where(swap[:, None, None], square.mT, square)
    wanted = torch.where(swap[:, None], _padded(columns, size), _padded(rows, size))
    partner, own, other, infeasible = match_rows(square, wanted)
    column = torch.where(swap[:, None], _inverse(partner), partner)[:, :n]
    row_duals, column_duals = torch.where(swap[:, None], other, own), torch.where(swap[:, None], own, other)
    return column, row_duals[:, :n], column_duals[:, :m], infeasible


def _padded(flags: Tensor, size: int) -> Tensor:  # (B, n) -> (B, size)
    return torch.nn.functional.pad(flags, (0, size - flags.shape[1]))


def _inverse(partner: Tensor) -> Tensor:
    """The partners of columns from those of rows; -1 is nobody.  # (B, N) -> (B, N)"""
    size = partner.shape[1]
    inverse = partner.new_full((len(partner), size + 1), -1)
    names = torch.arange(size, device=partner.device).expand_as(partner)
    return inverse.scatter(1, torch.where(partner < 0, size, partner), names)[:, :size]


def match_rows(costs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Matches the `wanted` rows at least cost.  # (B, N, M), (B, N) -> (B, N), (B, N), (B, M), (B,)

    Returns the column of each row (-1: none), the duals of rows and columns, and which instances are infeasible. Rows enter
    one after the other, each along a shortest path of reduced costs to a free column; a free column among the nearest is taken
    first. The instances that have found theirs wait for the others.
    """
    count, n, m = costs.shape
    each = torch.arange(count, device=costs.device)
    price = costs.new_zeros(count, m)
    column_of = torch.full((count, n), -1, device=costs.device)
    row_of = torch.full((count, m), -1, device=costs.device)
    infeasible = torch.zeros(count, dtype=torch.bool, device=costs.device)
    for i in range(n if m else 0):
        start = wanted[:, i] & ~infeasible
        end, previous, raised = _shortest_path(costs, price, row_of, i, start)
        infeasible |= start & (end < 0)
        price += raised
        moving = end >= 0
        while moving.any():  # each row on the path moves to the column after it
            b, j = each[moving], end[moving]
            r = previous[b, j]
            end[moving] = column_of[b, r]
            column_of[b, r], row_of[b, j] = j, r
            moving[b] = r != i
    if m == 0:
        infeasible |= wanted.any(1)
    rows = costs.new_zeros(count, n)
    if m and n:
        at = column_of.clamp(min=0)
        rows = torch.where(column_of < 0, 0.0, costs.gather(2, at.unsqueeze(2)).squeeze(2) - price.gather(1, at))
    return column_of, rows, price, infeasible


def _shortest_path(costs: Tensor, price: Tensor, row_of: Tensor, start: int, active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From row `start` to the nearest free column in the `active` instances.

    Returns the free column (-1: none), the row before each column, and by how much the prices change.
    # (B, N, M), (B, M), (B, M), int, (B,) -> (B,), (B, M), (B, M)
    """
    count, m = price.shape
    each = torch.arange(count, device=costs.device)
    order = torch.arange(m, device=costs.device)
    distance, closed = torch.full_like(price, torch.inf), torch.zeros_like(row_of, dtype=torch.bool)
    previous = torch.full_like(row_of, start)
    row, base = torch.full_like(each, start), price.new_zeros(count)
    end, length = torch.full_like(each, -1), price.new_zeros(count)
    while active.any():
        through = costs[each, row] - price - base.unsqueeze(1)
        shorter = (through < distance) & ~closed & active.unsqueeze(1)
        distance = torch.where(shorter, through, distance)
        previous = torch.where(shorter, row.unsqueeze(1), previous)
        reach = torch.where(closed, torch.inf, distance)
        nearest = reach.amin(1)
        rank = order + torch.where(row_of < 0, 0, m)  # free columns first, then the lowest
        column = torch.where(reach == nearest.unsqueeze(1), rank, 2 * m).amin(1) % m
        active = active & nearest.isfinite()
        found = active & (row_of[each, column] < 0)
        end, length = torch.where(found, column, end), torch.where(found, nearest, length)
        active = active & ~found
        closed[each, column] |= active
        row = torch.where(active, row_of[each, column], row)
        base = torch.where(active, costs[each, row, column] - price[each, column] - nearest, base)
    raised = torch.where(closed & (end >= 0).unsqueeze(1), distance - length.unsqueeze(1), 0.0)
    return end, previous, raised
