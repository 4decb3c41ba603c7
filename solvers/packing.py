"""Knapsacks in batched torch, on any device: the tables of `kernels/knapsack.cpp`, and its search one instance at a time."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_GRID, _LARGEST_TABLE = 2**24, 2**28
"""Capacities of one instance that a table may have, and capacities times items."""
_ROUNDING = 1e-12
"""By which share of a capacity sums of weights that are not whole may exceed it."""


def pack(values: Tensor, weights: Tensor, capacity: Tensor, integer: bool, mask: Tensor | None = None) -> Tensor:
    """The most valuable items that fit, 1 where taken; see the kernel.  # (B, n), (B, n, d), (B, d) -> (B, n)"""
    limited = capacity.isfinite()
    weights, capacity = weights.where(limited[:, None], 0), capacity.where(limited, 0)
    worth = values > 0 if mask is None else (values > 0) & mask
    light = worth & (weights == 0).all(2)
    slack = 1.0 if integer else 1 + _ROUNDING
    usable = worth & ~light & (weights <= slack * capacity[:, None]).all(2)
    solution = light.to(values.dtype)
    capacity = slack * capacity.minimum(weights.where(usable[..., None], 0).sum(1))
    if not usable.any():
        return solution
    tables = torch.zeros_like(usable[:, 0])
    if integer:
        capacity = capacity.floor()
        grid = (capacity + 16).prod(1)
        tables = (grid <= _LARGEST_GRID) & (grid * usable.sum(1) <= _LARGEST_TABLE)
    if tables.any():
        solution[tables] += _by_table(values[tables], weights[tables].long(), capacity[tables].long(), usable[tables])
    for b in (~tables & usable.any(1)).nonzero()[:, 0].tolist():
        chosen = usable[b].nonzero()[:, 0]
        taken = _search(values[b, chosen].tolist(), weights[b, chosen].tolist(), capacity[b].tolist())
        solution[b, chosen] = torch.tensor(taken, dtype=values.dtype, device=values.device)
    return solution


def _by_table(values: Tensor, weights: Tensor, capacity: Tensor, usable: Tensor) -> Tensor:
    """Integer weights, by the best value within every capacity, one item after the other.  # (B, n)"""
    count, n, dimensions = weights.shape
    extents = (capacity.amax(0) + 1).tolist()
    grid = torch.cartesian_prod(*[torch.arange(extent, device=values.device) for extent in extents]).reshape(-1, dimensions)
    stride = torch.tensor([*extents[1:], 1], device=values.device).flip(0).cumprod(0).flip(0)
    shift = (weights * stride).sum(2).where(usable, 0)
    best = values.new_zeros(count, len(grid))
    place = torch.arange(len(grid), device=values.device)
    taken = torch.zeros(n, count, len(grid), dtype=torch.bool, device=values.device)
    for i in range(n):
        fits = usable[:, i : i + 1] & (grid >= weights[:, i : i + 1]).all(2)
        with_item = best.gather(1, (place - shift[:, i : i + 1]).clamp_min(0)) + values[:, i : i + 1]
        taken[i] = fits & (with_item > best)
        best = with_item.where(taken[i], best)
    solution = torch.zeros_like(values)
    left = (capacity * stride).sum(1)
    for i in reversed(range(n)):
        chosen = taken[i].gather(1, left[:, None])[:, 0]
        solution[:, i] = chosen
        left = left - shift[:, i].where(chosen, 0)
    return solution


def _search(values: list[float], weights: list[list[float]], capacity: list[float]) -> list[bool]:
    """Depth first branch and bound by fractional knapsacks, in any one dimension, of one instance."""
    dimensions = range(len(capacity))

    def share(i: int) -> float:
        return sum(weights[i][k] / capacity[k] for k in dimensions if capacity[k] > 0)

    order = sorted(range(len(values)), key=lambda i: -values[i] / share(i))
    place = {i: p for p, i in enumerate(order)}
    dense = [sorted(order, key=lambda i: -values[i] / weights[i][k] if weights[i][k] else -torch.inf) for k in dimensions]

    def bound(depth: int, value: float, left: list[float]) -> float:
        least = float("inf")
        for k in dimensions:
            total, room = value, left[k]
            for i in dense[k]:
                if place[i] < depth:
                    continue
                if weights[i][k] > room:
                    total += values[i] * room / weights[i][k]
                    break
                total, room = total + values[i], room - weights[i][k]
            least = min(least, total)
        return least * (1 + 1e-14)

    best, best_set = 0.0, frozenset[int]()
    stack = [(0, 0.0, capacity, frozenset[int]())]
    while stack:
        depth, value, left, chosen = stack.pop()
        if bound(depth, value, left) <= best:
            continue
        if depth == len(order):
            best, best_set = value, chosen
            continue
        i = order[depth]
        stack.append((depth + 1, value, left, chosen))
        if all(weights[i][k] <= left[k] for k in dimensions):
            stack.append((depth + 1, value + values[i], [left[k] - weights[i][k] for k in dimensions], chosen | {i}))
    return [i in best_set for i in range(len(values))]
