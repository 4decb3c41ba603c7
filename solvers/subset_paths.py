"""Shortest tours in batched torch, on any device: the same answers, bit for bit, as `kernels/held_karp.cpp`."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .kernels.held_karp import INFEASIBLE, INVALID, SOLVED, Tours

_STATES = 2**25
"""How many path lengths are held at a time."""


def shortest_tours(costs: Tensor) -> Tours:
    """The shortest tour of each instance, from city 0, by dynamic programming over sets of cities.  # (B, n, n) -> Tours

    `costs` are floating, of a step from the row to the column, infinite where there is none. There are 2 cities at least.

    Source: M. Held, R. M. Karp, "A dynamic programming approach to sequencing problems", SIAM J. 10 (1962).
    """
    others = costs.shape[1] - 1
    chunk = max(1, _STATES // (others * 2**others))
    parts = [_tours(part) for part in costs.split(chunk)] if len(costs) else [_tours(costs)]
    order, status = (torch.cat(list(column)) for column in zip(*parts))
    return Tours(order, None if bool((status == SOLVED).all()) else status)


@cache
def _sets(others: int) -> tuple[tuple[list[int], ...], ...]:
    """For each size from 1 on and each city, the sets of that size that hold it."""
    by_size: list[list[int]] = [[] for _ in range(others + 1)]
    for members in range(1 << others):
        by_size[bin(members).count("1")].append(members)
    return tuple(tuple([s for s in sets if s >> j & 1] for j in range(others)) for sets in by_size[1:])


def _tours(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Cities in order, and status.  # (B, n, n) -> (B, n), (B,)"""
    others = costs.shape[1] - 1
    lengths = _path_lengths(costs, others)
    members = torch.full((len(costs),), (1 << others) - 1, device=costs.device)
    instance = torch.arange(len(costs), device=costs.device)
    city = torch.arange(others, device=costs.device)
    after = torch.zeros_like(members)
    order = [after]
    reached = torch.ones_like(members, dtype=torch.bool)
    for _ in range(others):
        total = lengths[instance, members] + costs[instance, 1:, after]
        least = total.amin(1, keepdim=True)
        reached &= least[:, 0] < torch.inf
        last = torch.where(total == least, city, others).amin(1)  # the lowest of equal ones, on every device
        last = torch.where(reached, last, torch.where(members[:, None] >> city & 1 == 1, city, others).amin(1))
        members = members - (1 << last)
        after = last + 1
        order.insert(1, after)
    diagonal = torch.eye(others + 1, dtype=torch.bool, device=costs.device)
    valid = ((costs > -torch.inf) | diagonal).all(2).all(1)
    return torch.stack(order, 1), torch.where(valid, torch.where(reached, SOLVED, INFEASIBLE), INVALID)


def _path_lengths(costs: Tensor, others: int) -> Tensor:
    """The cheapest path from city 0 through each set of the others to each city in it.  # (B, n, n) -> (B, 2^(n-1), n-1)"""
    lengths = costs.new_full((len(costs), 1 << others, others), torch.inf)
    for size, sets in enumerate(_sets(others)):
        for j in range(others):
            ending = torch.tensor(sets[j], device=costs.device)
            if size == 0:
                lengths[:, ending, j] = costs[:, :1, j + 1]
            else:
                lengths[:, ending, j] = (lengths[:, ending ^ (1 << j)] + costs[:, None, 1:, j + 1]).amin(2)
    return lengths
