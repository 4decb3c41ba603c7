"""Cheapest sets of routes, exactly, in batched torch: dynamic programming over sets of customers."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .kernels.held_karp import INFEASIBLE, SOLVED
from .route_family import SLACK, Fleet, Routes, statuses
from .subset_paths import path_lengths

_SUMS = 2**24
"""How many ways to add a route are weighed at a time."""


def cheapest_routes(fleet: Fleet) -> Routes:
    """The routes of least cost, by the best tour of each set of customers and the best split into sets.  # -> Routes

    `best[k][S]`, the cost of serving the customers S by k routes at most, is the least of `tour[R] + best[k - 1][S without R]`
    over the sets R within S that hold its first customer. Time grows as 3^n, memory too.
    """
    others = fleet.costs.shape[1] - 1
    chunk = max(1, _SUMS // max(1, len(_splits(others)[0])))
    count = len(fleet.costs)
    parts = [_routes(Fleet(*(t[b : b + chunk] for t in fleet))) for b in range(0, count, chunk)] or [_routes(fleet)]
    steps, status, bound = (torch.cat(list(column)) for column in zip(*parts))
    return Routes(steps, status, bound)


@cache
def _splits(others: int) -> tuple[Tensor, Tensor]:
    """All pairs of a set and a subset that holds its first member.  # -> (P,), (P,)"""
    every = torch.arange(1 << others)
    of, part = torch.cartesian_prod(every[1:], every[1:]).unbind(1)
    within = (part & ~of == 0) & (part & of & -of != 0)
    return of[within], part[within]


def _routes(fleet: Fleet) -> tuple[Tensor, Tensor, Tensor]:
    costs, customers, loads, vehicles = fleet
    status = statuses(fleet)
    costs = torch.where((status == SOLVED)[:, None, None], costs, 0)
    others = costs.shape[1] - 1
    lengths = path_lengths(costs, others)
    tours = (lengths + costs[:, None, 1:, 0]).amin(2)
    bits = torch.arange(1 << others, device=costs.device)[:, None] >> torch.arange(others, device=costs.device) & 1
    tours = torch.where(loads[:, 1:] @ bits.T.double() <= 1 + SLACK, tours, torch.inf)
    best, choice = _best_splits(tours, int(vehicles.max()) if len(vehicles) else 0)
    left = (customers[:, 1:].long() << torch.arange(others, device=costs.device)).sum(1)
    total = best[vehicles, torch.arange(len(left), device=left.device), left]
    status = torch.where((status == SOLVED) & (total == torch.inf), INFEASIBLE, status)
    left = torch.where(status == SOLVED, left, 0)
    return _steps(costs, lengths, choice, left, vehicles), status, total.double()


def _best_splits(tours: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The cost of each set by 0, 1, ..., `most` routes at most, and a route of the best split.  # (B, 2^m) -> (K, B, 2^m)"""
    count, sets = tours.shape
    of, part = (t.to(tours.device) for t in _splits(sets.bit_length() - 1))
    rest, number = of ^ part, torch.arange(len(of), device=tours.device)
    best = [torch.full_like(tours, torch.inf)]
    best[0][:, 0] = 0
    choice = [torch.zeros_like(tours, dtype=torch.int64)]
    for _ in range(most):
        total = tours[:, part] + best[-1][:, rest]
        least = best[-1].scatter_reduce(1, of.expand(count, -1), total, "amin")
        first = torch.where(total == least[:, of], number, len(of))
        first = torch.full_like(choice[-1], len(of)).scatter_reduce_(1, of.expand(count, -1), first, "amin")
        better = (least < best[-1]) & (first < len(of))
        choice.append(torch.where(better, torch.cat([part, part.new_zeros(1)])[first], choice[-1]))
        best.append(least)
    return torch.stack(best), torch.stack(choice)


def _steps(costs: Tensor, lengths: Tensor, choice: Tensor, left: Tensor, vehicles: Tensor) -> Tensor:
    """The steps of the routes, each read backwards from the depot.  # -> (B, n, n) bool"""
    steps = torch.zeros_like(costs, dtype=torch.bool)
    instance = torch.arange(len(costs), device=costs.device)
    customer = torch.arange(costs.shape[1] - 1, device=costs.device)
    route, after = torch.zeros_like(left), torch.zeros_like(left)
    for _ in customer:
        begins = (route == 0) & (left != 0)
        route = torch.where(begins, choice[vehicles, instance, left], route)
        left = torch.where(begins, left ^ route, left)
        vehicles = torch.where(begins, vehicles - 1, vehicles)
        after = torch.where(begins, 0, after)
        inside = route[:, None] >> customer & 1 == 1
        total = torch.where(inside, lengths[instance, route] + costs[instance, 1:, after], torch.inf)
        last = torch.where(inside & (total == total.amin(1, keepdim=True)), customer, len(customer) - 1).amin(1)
        goes = route != 0
        route = torch.where(goes, route ^ (1 << last), route)
        steps[instance[goes], last[goes] + 1, after[goes]] = True
        after = torch.where(goes, last + 1, after)
        ends = goes & (route == 0)
        steps[instance[ends], 0, after[ends]] = True
    return steps
