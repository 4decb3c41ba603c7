"""Shortest tours in batched torch, on any device: the same answers, bit for bit, as `kernels/held_karp.cpp`."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .kernels.held_karp import INFEASIBLE, INVALID, SOLVED, Tours

_STATES = 2**25
"""How many path lengths are held at a time."""


def shortest_tours(costs: Tensor, symmetric: bool = False) -> Tours:
    """The shortest tour of each instance, from city 0, by dynamic programming over sets of cities.  # (B, n, n) -> Tours

    `costs` are floating, of a step from the row to the column, infinite where there is none. There are 2 cities at least. Where
    all costs are `symmetric`, a tour is two paths that meet half way, so half of the sets are enough.

    Source: M. Held, R. M. Karp, "A dynamic programming approach to sequencing problems", SIAM J. 10 (1962).
    """
    others = costs.shape[1] - 1
    chunk = max(1, _STATES // (others * 2**others))
    parts = [_tours(part, symmetric) for part in costs.split(chunk)] if len(costs) else [_tours(costs, symmetric)]
    order, status = (torch.cat(list(column)) for column in zip(*parts))
    return Tours(order, None if bool((status == SOLVED).all()) else status)


@cache
def _sets(others: int) -> tuple[tuple[list[int], ...], ...]:
    """For each size from 1 on and each city, the sets of that size that hold it."""
    by_size: list[list[int]] = [[] for _ in range(others + 1)]
    for members in range(1 << others):
        by_size[bin(members).count("1")].append(members)
    return tuple(tuple([s for s in sets if s >> j & 1] for j in range(others)) for sets in by_size[1:])


@cache
def _meetings(others: int, symmetric: bool) -> tuple[list[int], list[int], list[int]]:
    """The set and last city of every first path of a tour, and the set of the second, which ends in the same city."""
    size, every = (others // 2 + 1 if symmetric else others), (1 << others) - 1
    odd = symmetric and others % 2 == 1  # both paths are as long, so each pair is met from either side
    sets = [s for s in range(1, every + 1, 2 if odd else 1) if bin(s).count("1") == size]
    found = [(s, j, (every ^ s) | 1 << j) for s in sets for j in range(others) if s >> j & 1]
    first, last, second = (list(column) for column in zip(*found))
    return first, last, second


def _tours(costs: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Cities in order, and status.  # (B, n, n) -> (B, n), (B,)"""
    others = costs.shape[1] - 1
    most = others // 2 + 1 if symmetric else others
    lengths = path_lengths(costs, most)
    first, last, second = (torch.tensor(column, device=costs.device) for column in _meetings(others, symmetric))
    back = lengths[:, second, last] if symmetric else costs[:, last + 1, 0]
    total = lengths[:, first, last] + back
    least = total.amin(1, keepdim=True)
    place = torch.arange(total.shape[1], device=costs.device)
    met = torch.where(total == least, place, place[-1]).amin(1)  # the first of equal ones, on every device
    there = _walk_back(lengths, costs, first[met] ^ (1 << last[met]), last[met], most - 1)
    again = _walk_back(lengths, costs, second[met] ^ (1 << last[met]), last[met], others - most)
    order = [torch.zeros_like(met), *reversed(there), last[met] + 1, *again]
    diagonal = torch.eye(others + 1, dtype=torch.bool, device=costs.device)
    valid = ((costs > -torch.inf) | diagonal).all(2).all(1)
    status = torch.where(valid, torch.where(least[:, 0] < torch.inf, SOLVED, INFEASIBLE), INVALID)
    return torch.stack(order, 1), status


def _walk_back(lengths: Tensor, costs: Tensor, members: Tensor, after: Tensor, size: int) -> list[Tensor]:
    """The `size` cities on the shortest path from city 0 through `members` to `after`, last first.  # ..., (B,), (B,)"""
    instance = torch.arange(len(costs), device=costs.device)
    city = torch.arange(costs.shape[1] - 1, device=costs.device)
    order = []
    for _ in range(size):
        inside = members[:, None] >> city & 1 == 1
        total = lengths[instance, members] + costs[instance, 1:, after + 1]
        total = torch.where(inside & (total < torch.inf), total, torch.inf)
        cheapest = inside & (total == total.amin(1, keepdim=True))
        after = torch.where(cheapest, city, len(city) - 1).amin(1)  # the lowest of equal ones, on every device
        members = members ^ (1 << after)
        order.append(after + 1)
    return order


def path_lengths(costs: Tensor, most: int) -> Tensor:
    """The cheapest path from city 0 through each set of at most `most` others to each city in it.  # -> (B, 2^(n-1), n-1)"""
    others = costs.shape[1] - 1
    lengths = costs.new_full((len(costs), 1 << others, others), torch.inf)
    for size, sets in enumerate(_sets(others)[:most]):
        for j in range(others):
            ending = torch.tensor(sets[j], device=costs.device)
            if size == 0:
                lengths[:, ending, j] = costs[:, :1, j + 1]
            else:
                lengths[:, ending, j] = (lengths[:, ending ^ (1 << j)] + costs[:, None, 1:, j + 1]).amin(2)
    return lengths
