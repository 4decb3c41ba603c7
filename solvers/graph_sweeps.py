"""Cheapest paths in graphs in batched torch, on any device: the same answers, bit for bit, as `kernels/graph_path.cpp`.

The distances are the least solution of `d[v] = min d[u] + c[u, v]`, found by relaxing all arcs at once until nothing changes
(Bellman, 1958; Ford, 1956).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.grid_path import INVALID, SOLVED, UNREACHABLE, Paths
from .tracing import mark_paths


def find(
    costs: Tensor,
    edge_index: Tensor,
    nodes: int,
    directed: bool,
    source: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    distances: bool = False,
) -> Paths:
    """The cheapest path from source to target in each graph.  # (B, E) -> Paths

    `costs` are floating; `edge_index (B, 2, E)`, `source (B,)` and `target (B,)` are int64; what `edge_index` holds outside the
    boolean `mask (B, E)` does not matter.
    """
    if mask is not None:
        edge_index, costs = edge_index.where(mask[:, None], 0), costs.where(mask, torch.inf)
    valid = (costs >= 0).all(1)
    costs = costs.where(costs >= 0, 0)  # relaxing ends only without negative costs
    if directed:
        tail, head = edge_index.unbind(1)
    else:
        tail, head, costs = (
            edge_index.transpose(1, 2).flatten(1),
            edge_index.flip(1).transpose(1, 2).flatten(1),
            costs.repeat_interleave(2, 1),
        )
    reached = _distances(tail, head, costs, source, nodes)
    furthest = reached.gather(1, target[:, None])
    status = torch.where(valid, torch.where(furthest[:, 0] < torch.inf, SOLVED, UNREACHABLE), INVALID)
    solution = _marked_arcs(tail, head, costs, reached, source, target).to(costs.dtype)
    if not directed:
        solution = solution.unflatten(1, (-1, 2)).amax(2) if solution.numel() else solution[:, ::2]
    solution *= (status == SOLVED)[:, None]
    return Paths(solution, None if bool((status == SOLVED).all()) else status, reached.minimum(furthest) if distances else None)


def _distances(tail: Tensor, head: Tensor, costs: Tensor, source: Tensor, nodes: int) -> Tensor:
    """Distances from the source.  # (B, A) -> (B, nodes)"""
    distance = costs.new_full((len(costs), nodes), torch.inf).scatter_(1, source[:, None], 0)
    while True:
        before = distance.clone()
        for _ in range(4):  # asking whether anything changed is dear on a GPU
            distance.scatter_reduce_(1, head, distance.gather(1, tail) + costs, "amin")
        if torch.equal(before, distance):
            return distance


def _marked_arcs(tail: Tensor, head: Tensor, costs: Tensor, distance: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The arcs on the paths to the targets.  # (B, A) -> (B, A) bool"""
    nodes, arcs = distance.shape[1], costs.shape[1]
    from_, to = distance.gather(1, tail), distance.gather(1, head)
    tight = (from_ + costs == to) & (to < torch.inf)
    chosen = tight & (from_ < to)
    node = torch.arange(nodes, device=tail.device)
    stuck = (distance < torch.inf) & (node != source[:, None]) & ~_any_into(head, chosen, nodes)
    if stuck.any():
        level = _levels(tail, head, tight, stuck)
        chosen |= tight & stuck.gather(1, head) & (level.gather(1, tail) < level.gather(1, head))
    number = torch.where(chosen, torch.arange(arcs, device=tail.device), arcs)
    first = torch.full_like(distance, arcs, dtype=torch.int64).scatter_reduce_(1, head, number, "amin")
    tails = torch.cat([tail, tail.new_zeros(len(tail), 1)], 1)
    previous = torch.where(first < arcs, tails.gather(1, first), node)
    on_path = mark_paths(previous.t(), target).t()
    marked = torch.zeros(len(tail), arcs + 1, dtype=torch.bool, device=tail.device)
    return marked.scatter_(1, torch.where(on_path, first, arcs), True)[:, :arcs]


def _any_into(head: Tensor, chosen: Tensor, nodes: int) -> Tensor:
    """Whether a chosen arc leads to each node.  # (B, A) -> (B, nodes)"""
    out = torch.zeros(len(head), nodes + 1, dtype=torch.bool, device=head.device)
    return out.scatter_(1, torch.where(chosen, head, nodes), True)[:, :nodes]


def _levels(tail: Tensor, head: Tensor, tight: Tensor, stuck: Tensor) -> Tensor:
    """Fewest arcs between equally far nodes to one that is not `stuck`.  # (B, A), (B, nodes) -> (B, nodes)"""
    nodes = stuck.shape[1]
    level = torch.where(stuck, nodes, 0)
    tight = tight & stuck.gather(1, head)
    while True:
        before = level.clone()
        for _ in range(4):
            level.scatter_reduce_(1, head, torch.where(tight, level.gather(1, tail) + 1, nodes), "amin")
        if torch.equal(before, level):
            return level
