"""Spanning trees on the CPU, compiled: see `spanning_tree.cpp` for the algorithms."""

from __future__ import annotations

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous

_span = caller("spanning_tree", *[Tensor] * 3, INT, *[SIZE] * 3, INT, Tensor, Tensor)
_span_dense = caller("spanning_tree_dense", Tensor, Tensor, SIZE, SIZE, INT, Tensor, Tensor)

Trees = tuple[Tensor, Tensor | None]
"""Solutions in the shape of the scores, and which instances are disconnected, None where none is."""


def span(scores: Tensor, edges: Tensor, nodes: int, largest: bool, mask: Tensor | None = None) -> Trees:
    """The spanning tree of least cost (or greatest, if `largest`) of each graph, on the CPU.  # (B, E) -> Trees

    `scores` are float32 or float64, `mask (B, E)` is boolean, `edges`, int64, are `(2, E)` for a graph that all share, with
    `nodes` nodes, or `(B, 2, E)`; the nodes of an instance with edges of its own are those that edges in the mask name, and
    what is outside the mask does not matter.
    """
    if max(nodes, scores.shape[1]) >= 2**31:
        raise ValueError(f"The spanning tree kernel takes fewer than 2**31 nodes and edges; got {nodes}, {scores.shape[1]}.")
    scores, mask, edges = contiguous(scores, mask, edges)
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    failures = _span(scores, mask, edges, edges.ndim == 3, len(scores), nodes, scores.shape[1], largest, out, status)
    return out, status if failures else None


def span_dense(scores: Tensor, largest: bool, mask: Tensor | None = None) -> Trees:
    """The spanning tree of each matrix; the pair {i, j} costs `scores[i, j] + scores[j, i]`.  # (B, n, n) -> Trees

    As `span`; nodes without any pair of which the mask holds both entries are not part of an instance.
    """
    scores, mask = contiguous(scores, mask)
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    failures = _span_dense(scores, mask, *scores.shape[:2], largest, out, status)
    return out, status if failures else None
