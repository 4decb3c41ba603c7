"""Matchings in general graphs on the CPU, compiled: see `matching.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from . import library, typed

ANY, LARGEST, PERFECT = 0, 1, 2

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = (*[_POINTER] * 3, _INT, *[_SIZE] * 3, _INT, _INT, *[_POINTER] * 5, _INT)
_function = typed("matching_edges", _ARGUMENTS)


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
    scores, edges = scores.contiguous(), edges.contiguous()
    mask = None if mask is None else mask.contiguous()
    if edges.ndim == 3 and mask is not None:
        edges = edges.where(mask[:, None], 0)
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    build = library()
    assert build is not None
    failures = _function(build, scores.dtype)(
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        edges.data_ptr(),
        edges.ndim == 3,
        len(scores),
        nodes,
        scores.shape[1],
        kind,
        smallest,
        out.data_ptr(),
        status.data_ptr(),
        *((None,) * 3 if duals is None else (part.data_ptr() for part in duals)),
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The matching kernel found no memory for {len(scores)} graphs of {nodes} nodes.")
    return out, status if failures else None
