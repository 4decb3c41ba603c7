"""Flows of least cost made vertices: those whose edges that are neither empty nor full form no cycle."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

Search = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Costs, capacities, supplies and edges to flows and their status, as `flow_search.min_cost_flow`."""


def at_vertices(search: Search, costs: Tensor, capacity: Tensor, supply: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """What `search` finds, at vertices.  # (B, E), (B, E), (B, nodes), (2, E) or (B, 2, E) -> (B, E), (B,)

    All flows along a cycle of edges that are neither empty nor full cost the same: the edges whose reduced cost is zero are
    searched again, with costs by chance, which make one flow cheaper than all others (the same one whenever it is asked for).
    """
    flow, status = search(costs, capacity, supply, edges)
    ends = edges.expand(len(costs), 2, -1)
    for seed in count():
        tied = _cyclic((flow > 0) & (flow < capacity), ends, supply.shape[1])
        if not tied.any():
            return flow, status
        own, there, room = ends[tied], flow[tied], capacity[tied]
        level = _reduced(costs[tied], there, room, own, supply.shape[1]) == 0
        movable = there.where(level, 0)
        leaving = torch.zeros_like(supply[tied])
        leaving.scatter_add_(1, own[:, 0], movable).scatter_add_(1, own[:, 1], -movable)
        chance = torch.randint(2**20, costs.shape[1:], generator=torch.Generator().manual_seed(seed)).to(costs.device)
        moved, _ = search(chance.expand_as(room), room.where(level, 0), leaving, own if edges.ndim == 3 else edges)
        flow[tied] = there + moved - movable
    raise AssertionError("unreachable")


def _reduced(costs: Tensor, flow: Tensor, capacity: Tensor, edges: Tensor, nodes: int) -> Tensor:
    """The reduced costs by prices that prove a flow optimal.  # (B, E), (B, E), (B, E), (B, 2, E) -> (B, E)"""
    there = torch.cat([flow < capacity, flow > 0], 1)
    price, _ = shortest(torch.cat([costs, -costs], 1), there, torch.cat([edges, edges.flip(1)], 2), nodes)
    return costs + price.gather(1, edges[:, 0]) - price.gather(1, edges[:, 1])


def shortest(costs: Tensor, there: Tensor, edges: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Least distances of the nodes from anywhere, along edges that are there, and whether a cycle has negative cost.

    Bellman and Ford, all edges of all instances at once.  # (B, E), (B, E), (B, 2, E) -> (B, nodes), (B,)
    """
    distance = costs.new_zeros(len(costs), nodes)
    never = torch.iinfo(costs.dtype).max
    for _ in range(nodes + 1):
        offer = torch.where(there, distance.gather(1, edges[:, 0]) + costs, never)
        nearer = distance.scatter_reduce(1, edges[:, 1], offer, "amin")
        changed = (nearer != distance).any(1)
        if not changed.any():
            return distance, changed
        distance = nearer
    return distance, changed


def _cyclic(between: Tensor, ends: Tensor, nodes: int) -> Tensor:
    """Where the marked edges form a cycle: some are left, when those that end in a leaf are taken away.  # (B, E) -> (B,)"""
    tail, head = ends.unbind(1)
    while True:
        number = between.long()
        degree = number.new_zeros(len(number), nodes).scatter_add_(1, tail, number).scatter_add_(1, head, number)
        left = between & (degree.gather(1, tail) > 1) & (degree.gather(1, head) > 1)
        if torch.equal(left, between):
            return left.any(1)
        between = left
