"""Spanning arborescences on the CPU, compiled: see `arborescence.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import library, typed

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_LISTS = (*[_POINTER] * 4, _INT, *[_SIZE] * 3, _INT, *[_POINTER] * 4, _INT)
_MATRICES = (*[_POINTER] * 3, *[_SIZE] * 2, _INT, *[_POINTER] * 4, _INT)
_on_lists, _on_matrices = typed("arborescence", _LISTS), typed("arborescence_dense", _MATRICES)


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
    edges = edges.contiguous()
    return _solve(
        _on_lists, scores, mask, (edges.data_ptr(),), root, (edges.ndim == 3,), nodes, scores.shape[1:], largest, proof
    )


def grow_dense(scores: Tensor, root: Tensor, largest: bool, mask: Tensor | None = None, proof: bool = False) -> Arborescences:
    """The spanning arborescence of each matrix, with an arc from node i to node j at `scores[i, j]`.  # (B, n, n)

    As `grow`; nodes without any arc in the mask are not part of an instance.
    """
    return _solve(_on_matrices, scores, mask, (), root, (), scores.shape[1], (), largest, proof)


def _solve(
    function: Callable[[ctypes.CDLL, torch.dtype], Callable[..., int]],
    scores: Tensor,
    mask: Tensor | None,
    edges: tuple[int, ...],
    root: Tensor,
    own: tuple[bool, ...],
    nodes: int,
    size: tuple[int, ...],
    largest: bool,
    proof: bool,
) -> Arborescences:
    scores, root = scores.contiguous(), root.contiguous()
    mask = None if mask is None else mask.contiguous()
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    duals = torch.empty(len(scores), 2 * nodes, dtype=torch.float64) if proof else None
    parents = torch.empty(len(scores), 2 * nodes, dtype=torch.int64) if proof else None
    build = library()
    assert build is not None
    failures = function(build, scores.dtype)(
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        *edges,
        root.data_ptr(),
        *own,
        len(scores),
        nodes,
        *size,
        largest,
        out.data_ptr(),
        status.data_ptr(),
        None if duals is None else duals.data_ptr(),
        None if parents is None else parents.data_ptr(),
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The arborescence kernel found no memory for scores of shape {tuple(scores.shape)}.")
    return Arborescences(out, status if failures else None, duals, parents)
