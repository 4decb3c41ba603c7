"""Spanning trees on the CPU, compiled: see `spanning_tree.cpp` for the algorithms."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from . import library

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_LISTS = (_POINTER, _POINTER, _POINTER, _INT, _SIZE, _SIZE, _SIZE, _INT, _POINTER, _POINTER, _INT)
_MATRICES = (_POINTER, _POINTER, _SIZE, _SIZE, _INT, _POINTER, _POINTER, _INT)

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
    scores, edges = scores.contiguous(), edges.contiguous()
    mask = None if mask is None else mask.contiguous()
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    failures = _function("", scores.dtype)(
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        edges.data_ptr(),
        edges.ndim == 3,
        len(scores),
        nodes,
        scores.shape[1],
        largest,
        out.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )
    return _checked(failures, out, status)


def span_dense(scores: Tensor, largest: bool, mask: Tensor | None = None) -> Trees:
    """The spanning tree of each matrix; the pair {i, j} costs `scores[i, j] + scores[j, i]`.  # (B, n, n) -> Trees

    As `span`; nodes without any pair of which the mask holds both entries are not part of an instance.
    """
    scores = scores.contiguous()
    mask = None if mask is None else mask.contiguous()
    out, status = torch.empty_like(scores), torch.empty(len(scores), dtype=torch.bool)
    failures = _function("dense_", scores.dtype)(
        scores.data_ptr(),
        None if mask is None else mask.data_ptr(),
        len(scores),
        scores.shape[1],
        largest,
        out.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )
    return _checked(failures, out, status)


def _checked(failures: int, solution: Tensor, status: Tensor) -> Trees:
    if failures < 0:
        raise MemoryError(f"The spanning tree kernel found no memory for scores of shape {tuple(solution.shape)}.")
    return solution, status if failures else None


def _function(kind: str, dtype: torch.dtype) -> Callable[..., int]:
    build = library()
    assert build is not None
    return _bound(build, f"solverlayers_spanning_tree_{kind}{str(dtype).removeprefix('torch.')}", bool(kind))


@cache
def _bound(build: ctypes.CDLL, name: str, dense: bool) -> Callable[..., int]:
    function = getattr(build, name)
    function.argtypes, function.restype = _MATRICES if dense else _LISTS, ctypes.c_int64
    return function
