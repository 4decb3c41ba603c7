"""Matchings in general graphs on the CPU, compiled: see `matching.cpp` for the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous

ANY, LARGEST, PERFECT = 0, 1, 2

_match = caller("matching_edges", *[Tensor] * 3, INT, *[SIZE] * 3, INT, INT, *[Tensor] * 5)


class Duals(NamedTuple):
    """What proves matchings: `nodes (B, n)`, NaN for a node that takes no part, `blossoms (B, n // 2)`, and who is in which.

    `members (B, n // 2, n)` is boolean. With weights to maximise (negative costs), the duals of both ends of an edge and of the
    blossoms that hold both add up to its weight at least; blossoms are never negative.
    """

    nodes: Tensor
    blossoms: Tensor
    members: Tensor


def match(
    scores: Tensor, edges: Tensor, nodes: int, kind: int, smallest: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Matchings of greatest weight (or least, if `smallest`), and which instances have none, on the CPU.  # (B, E)

    `scores` are float32 or float64, `mask (B, E)` is boolean, `edges`, int64, are `(2, E)` for a graph that all share, with
    `nodes` nodes, or `(B, 2, E)`; the nodes of an instance with edges of its own are those that edges in the mask name. `kind`
    is ANY, LARGEST (as many edges as possible) or PERFECT.
    """
    return _run(scores, edges, nodes, kind, smallest, mask, None)


def prove(scores: Tensor, edges: Tensor, nodes: int, kind: int, smallest: bool, mask: Tensor | None = None) -> Duals:
    """Duals that certify what `match` finds for the same arguments, where all instances have a matching."""
    count, most = len(scores), nodes // 2
    duals = Duals(
        torch.empty(count, nodes, dtype=torch.float64),
        torch.empty(count, most, dtype=torch.float64),
        torch.empty(count, most, nodes, dtype=torch.bool),
    )
    _run(scores, edges, nodes, kind, smallest, mask, duals)
    return duals


def _run(
    scores: Tensor, edges: Tensor, nodes: int, kind: int, smallest: bool, mask: Tensor | None, duals: Duals | None
) -> tuple[Tensor, Tensor | None]:
    if edges.ndim == 3 and mask is not None:
        edges = edges.where(mask[:, None], 0)
    scores, mask, edges = contiguous(scores, mask, edges)
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    proof = (None, None, None) if duals is None else duals
    failures = _match(
        scores, mask, edges, edges.ndim == 3, len(scores), nodes, scores.shape[1], kind, smallest, out, status, *proof
    )
    return out, status if failures else None
