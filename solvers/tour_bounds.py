"""What no tour can be shorter than, in batched torch."""

from __future__ import annotations

import torch
from torch import Tensor

from .assignment import Assignment

ROUNDS = 50


def one_tree_bound(costs: Tensor, lengths: Tensor) -> Tensor:
    """A bound on undirected tours: the best of the least 1-trees for `ROUNDS` prices of the cities.  # (B, n, n), (B,) -> (B,)

    A 1-tree is a spanning tree of all cities but the first, and two edges to the first; every tour is one, and prices of
    cities change all tours alike. `costs` are symmetric, infinite where forbidden; `lengths` are those of known tours.

    Source: M. Held, R. M. Karp, "The traveling-salesman problem and minimum spanning trees: part II", Math. Programming 1
    (1971), with steps as long as Polyak's.
    """
    if costs.shape[1] < 3:
        return costs[:, 0, -1].double()
    costs, rounding = _finite(costs.double())
    return _ascent(costs, lengths)[0] - rounding


def useful_steps(costs: Tensor, lengths: Tensor) -> Tensor:
    """The steps without which all 1-trees but those longer than `lengths` do.  # (B, n, n), (B,) -> (B, n, n) bool

    Every undirected tour that is not longer takes these alone. `costs` are symmetric, of three cities or more.

    Source: P. Benchimol et al., "Improved filtering for weighted circuit constraints", Constraints 17 (2012).
    """
    costs, rounding = _finite(costs.double())
    bound, prices = _ascent(costs, lengths)
    priced = costs + prices[:, :, None] + prices[:, None, :]
    extra = priced - _replaced(priced)
    return bound[:, None, None] + extra <= (lengths + 2 * rounding)[:, None, None]


def _ascent(costs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The best bound found, and its prices.  # (B, n, n), (B,) -> (B,), (B, n)"""
    prices = best_prices = torch.zeros(costs.shape[:2], dtype=torch.float64, device=costs.device)
    best = torch.full_like(prices[:, 0], -torch.inf)
    for k in range(ROUNDS):
        weight, degree, _ = _least_one_tree(costs + prices[:, :, None] + prices[:, None, :])
        bound = weight - 2 * prices.sum(1)
        best_prices = torch.where((bound > best)[:, None], prices, best_prices)
        best = best.maximum(bound)
        excess = degree - 2
        step = 0.95**k * (lengths - bound).clamp_min(0) / excess.square().sum(1).clamp_min(1)
        prices = prices + step[:, None] * excess
    return best, best_prices


def assignment_bound(costs: Tensor) -> Tensor:
    """A bound on directed tours: the cheapest way to give each city another one to go to.  # (B, n, n) -> (B,)"""
    costs, rounding = _finite(costs.double())
    away = ~torch.eye(costs.shape[1], dtype=torch.bool, device=costs.device).expand_as(costs)
    return Assignment().solve_with_info(costs, mask=away).bound - rounding


def _finite(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Costs with a large number for infinity, which tours that are allowed do not notice, and what sums may be off."""
    n = costs.shape[1]
    largest = torch.where(costs.isfinite(), costs.abs(), 0).masked_fill(_diagonal(costs), 0).amax((1, 2))
    return torch.where(costs == torch.inf, (2 * n * largest + 1)[:, None, None], costs), 1e-12 * n * largest


def _diagonal(costs: Tensor) -> Tensor:
    return torch.eye(costs.shape[1], dtype=torch.bool, device=costs.device)


def _least_one_tree(costs: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Weight of the least 1-tree, degrees, and the edges (from, to, cost) of its tree by Prim's algorithm.  # (B, n, n)"""
    count, n, _ = costs.shape
    instance = torch.arange(count, device=costs.device)
    pair = costs[:, 0, 1:].topk(2, largest=False)
    degree = torch.zeros(count, n, dtype=torch.float64, device=costs.device)
    degree[:, 0] = 2
    degree.scatter_add_(1, pair.indices + 1, torch.ones_like(pair.values))
    weight = pair.values.sum(1)
    nearest, link = costs[:, 1].clone(), torch.ones(count, n, dtype=torch.int64, device=costs.device)
    nearest[:, :2] = torch.inf
    edges = []
    for _ in range(n - 2):
        least, city = nearest.min(1)
        edges.append((link[instance, city], city, least))
        weight = weight + least
        degree[instance, city] += 1
        degree[instance, link[instance, city]] += 1
        row = costs[instance, city]
        closer = (row < nearest) & (nearest < torch.inf)
        nearest, link = torch.where(closer, row, nearest), torch.where(closer, city[:, None], link)
        nearest[instance, city] = torch.inf
    return weight, degree, edges


def _replaced(costs: Tensor) -> Tensor:
    """What each step would replace in the least 1-tree: the dearest edge of the cycle that it closes.  # (B, n, n)"""
    edges = _least_one_tree(costs)[2]
    instance = torch.arange(len(costs), device=costs.device)
    out = torch.full_like(costs, -torch.inf)  # between cities of the tree so far
    for link, city, cost in edges:
        dearest = out[instance, link].maximum(cost[:, None])
        joined = out[instance, link] > -torch.inf
        joined[instance, link] = True
        dearest = torch.where(joined, dearest, -torch.inf)
        out[instance, city], out[instance, :, city] = dearest, dearest
    second = costs[:, 0, 1:].topk(2, largest=False).values[:, 1:]
    out[:, 0], out[:, :, 0] = second, second
    return out
