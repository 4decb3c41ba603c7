"""Spanning arborescences on the CPU, compiled: see `arborescence.cpp` for the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous

_grow = caller("arborescence", *[Tensor] * 4, INT, *[SIZE] * 3, INT, *[Tensor] * 4)
_grow_dense = caller("arborescence_dense", *[Tensor] * 3, SIZE, SIZE, INT, *[Tensor] * 4)


class Arborescences(NamedTuple):
    """Solutions in the shape of the scores, which instances have none (None where all have one), and what proves them the best.

    `duals` and `parents` (B, 2 nodes), if they were asked for, are of the nodes and then of those that were contracted: what is
    paid for entering each from outside, and the contracted node around it, -1 where there is none.
    """

    solution: Tensor
    failed: Tensor | None
    duals: Tensor | None = None
    parents: Tensor | None = None


def grow(
    scores: Tensor,
    edges: Tensor,
    nodes: int,
    root: Tensor,
    largest: bool,
    mask: Tensor | None = None,
    proof: bool = False,
) -> Arborescences:
    """The spanning arborescence of least cost (or greatest, if `largest`) of each graph, on the CPU.  # (B, E)

    `scores` are float32 or float64, `mask (B, E)` is boolean, `edges`, int64, are `(2, E)` for a graph that all share, with
    `nodes` nodes, or `(B, 2, E)`; the nodes of an instance with edges of its own are those that edges in the mask name, and
    what is outside the mask does not matter. `root (B,)` is negative where it is free.
    """
    if max(nodes, scores.shape[1]) >= 2**31:
        raise ValueError(f"The arborescence kernel takes fewer than 2**31 nodes and edges; got {nodes}, {scores.shape[1]}.")
    scores, mask, edges, root = contiguous(scores, mask, edges, root)
    own, found = edges.ndim == 3, _room(scores, nodes, proof)
    failures = _grow(scores, mask, edges, root, own, len(scores), nodes, scores.shape[1], largest, *found)
    return found if failures else found._replace(failed=None)


def grow_dense(scores: Tensor, root: Tensor, largest: bool, mask: Tensor | None = None, proof: bool = False) -> Arborescences:
    """The spanning arborescence of each matrix, with an arc from node i to node j at `scores[i, j]`.  # (B, n, n)

    As `grow`; nodes without any arc in the mask are not part of an instance.
    """
    scores, mask, root = contiguous(scores, mask, root)
    found = _room(scores, scores.shape[1], proof)
    failures = _grow_dense(scores, mask, root, *scores.shape[:2], largest, *found)
    return found if failures else found._replace(failed=None)


def _room(scores: Tensor, nodes: int, proof: bool) -> Arborescences:
    """What a kernel fills in."""
    out, failed = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    if not proof:
        return Arborescences(out, failed)
    shape = len(scores), 2 * nodes
    return Arborescences(out, failed, torch.empty(shape, dtype=torch.float64), torch.empty(shape, dtype=torch.int64))
