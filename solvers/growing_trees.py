"""Spanning trees in batched torch, on any device: the same trees as `kernels/spanning_tree.cpp`.

Idea (Boruvka, 1926): every tree of the forest takes its best edge to another one, all at once, so there are at most half as
many afterwards. Edges are compared by their places in the sorted order, which are all different, so no cycle closes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.spanning_tree import Trees


def span(scores: Tensor, edges: Tensor, nodes: int, largest: bool, mask: Tensor | None = None) -> Trees:
    """The spanning tree of least cost (or greatest, if `largest`) of each graph; see the kernel.  # (B, E) -> Trees"""
    count, size = scores.shape
    costs = -scores if largest else scores
    usable = costs < torch.inf
    if mask is not None:
        usable &= mask
    own = edges.ndim == 3
    ends = (edges if own else edges.expand(count, 2, size)).where(usable[:, None], 0)
    order, place = _sorted(costs.where(usable, torch.inf), usable)
    label = torch.arange(nodes, device=scores.device).expand(count, nodes)
    chosen = torch.zeros(count, size + 1, dtype=torch.bool, device=scores.device)  # the last column is waste
    while size and nodes:
        tail, head = label.gather(1, ends[:, 0]), label.gather(1, ends[:, 1])
        rank = place.where(tail != head, size)
        best = torch.full_like(label, size)
        best = best.scatter_reduce(1, tail, rank, "amin").scatter_reduce(1, head, rank, "amin")
        if not (best < size).any():
            break
        edge = order.gather(1, best)
        chosen.scatter_(1, edge, True)
        label = _join(label, best < size, tail, head, edge.clamp_max(size - 1))
    solution = chosen[:, :size]
    broken = solution.sum(1) < _wanted(edges, nodes, mask, count, scores.device)
    solution = (solution & ~broken[:, None]).to(scores.dtype)
    return solution, broken if broken.any() else None


def _sorted(costs: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Which edge is in which place, with one place more that is no edge, and the place of each edge.  # (B, E + 1), (B, E)"""
    count, size = costs.shape
    order = costs.argsort(dim=1, stable=True)
    number = torch.arange(size, device=costs.device).expand(count, size)
    place = torch.empty_like(order).scatter_(1, order, number).where(usable, size)
    return torch.cat([order, torch.full_like(order[:, :1], size)], 1) if size else order, place


def _join(label: Tensor, joins: Tensor, tail: Tensor, head: Tensor, edge: Tensor) -> Tensor:
    """Labels after each tree that joins another one has followed its best edge.  # (B, nodes) -> (B, nodes)"""
    own = torch.arange(label.shape[1], device=label.device).expand_as(label)
    other = torch.where(joins, tail.gather(1, edge) + head.gather(1, edge) - own, own)
    mutual = other.gather(1, other) == own  # two trees that chose the same edge
    pointer = torch.where(mutual & (own < other), own, other)
    for _ in range(label.shape[1].bit_length()):
        pointer = pointer.gather(1, pointer)
    return pointer.gather(1, label)


def _wanted(edges: Tensor, nodes: int, mask: Tensor | None, count: int, device: torch.device) -> Tensor:
    """How many edges a tree has.  # (B,)"""
    if edges.ndim == 2:
        return torch.full((count,), nodes - 1, device=device)
    named = torch.zeros(count, nodes + 1, dtype=torch.bool, device=device)
    named.scatter_(1, (edges if mask is None else edges.where(mask[:, None], nodes)).flatten(1), True)
    return named[:, :nodes].sum(1) - 1


def span_dense(scores: Tensor, largest: bool, mask: Tensor | None = None) -> Trees:
    """The spanning tree of each matrix, whose pair {i, j} costs `scores[i, j] + scores[j, i]`.  # (B, n, n) -> Trees"""
    n = scores.shape[1]
    pairs = torch.triu_indices(n, n, 1, device=scores.device)
    above, below = scores[:, pairs[0], pairs[1]], scores[:, pairs[1], pairs[0]]
    allowed = None if mask is None else mask[:, pairs[0], pairs[1]] & mask[:, pairs[1], pairs[0]]
    edges = pairs if mask is None else pairs.expand(len(scores), 2, -1)
    chosen, broken = span(above + below, edges, n, largest, allowed)
    solution = torch.zeros_like(scores)
    solution[:, pairs[0], pairs[1]] = solution[:, pairs[1], pairs[0]] = chosen
    return solution, broken
