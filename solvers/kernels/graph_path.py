"""Cheapest paths in graphs on the CPU, compiled: see `graph_path.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from . import library, typed
from .grid_path import Paths

Arcs = tuple[Tensor, Tensor, Tensor]
"""Of each node v the arcs start[v] to start[v + 1] - 1, in the order of their edges: (start, other node, edge), int32."""

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_BATCH = [*[_SIZE] * 3, ctypes.c_int, *[_POINTER] * 3, ctypes.c_int]
_function = typed("graph_path", [*[_POINTER] * 12, *_BATCH])
_own_function = typed("graph_path_own", [*[_POINTER] * 3, ctypes.c_int, *[_POINTER] * 2, *_BATCH])
FEW = 2
"""Instances up to which each is solved alone, so that no order of nodes is made."""


def find(
    costs: Tensor,
    outgoing: Arcs,
    incoming: Arcs,
    source: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    distances: bool = False,
    order: Tensor | None = None,
    gains: bool = False,
) -> Paths:
    """The cheapest paths in a graph that all instances share, on the CPU.  # (B, E) -> Paths

    `costs` are float32 or float64, `mask (B, E)` is boolean, `source (B,)` and `target (B,)` are int64. An `order (nodes,)`,
    int32 of any values, saves finding one; it changes nothing but the time. With `gains` an edge costs the opposite of what
    `costs` says, or nothing if that is negative.
    """
    nodes = len(outgoing[0]) - 1
    made = torch.empty(nodes, dtype=torch.int32) if order is None and len(costs) > FEW else None
    inputs: list[Tensor | bool | None] = [mask, *outgoing, *incoming, source, target, order, made]
    return _call(costs, nodes, inputs, _function, distances, gains)._replace(order=order if made is None else made)


def find_own(
    costs: Tensor,
    edge_index: Tensor,
    nodes: int,
    directed: bool,
    source: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    distances: bool = False,
    gains: bool = False,
) -> Paths:
    """The cheapest paths in graphs with `nodes` nodes, each with edges of its own, on the CPU.  # (B, E) -> Paths

    As `find`, with `edge_index (B, 2, E)`, int64; what it holds outside the mask does not matter.
    """
    return _call(costs, nodes, [mask, edge_index, directed, source, target], _own_function, distances, gains)


def _call(
    costs: Tensor,
    nodes: int,
    inputs: list[Tensor | bool | None],
    function: Callable[[ctypes.CDLL, torch.dtype], Callable[..., int]],
    distances: bool,
    gains: bool,
) -> Paths:
    count, edges = costs.shape
    if nodes + 2 * edges >= 2**31 - 2:
        raise ValueError(f"The graph path kernel takes fewer than 2**31 nodes and arcs; got {nodes} nodes and {edges} edges.")
    arguments = [t.contiguous() if isinstance(t, Tensor) else t for t in (costs, *inputs)]
    solution = torch.empty((count, edges), dtype=costs.dtype)
    potential = torch.empty((count, nodes), dtype=costs.dtype) if distances else None
    status = torch.empty(count, dtype=torch.uint8)
    build = library()
    assert build is not None
    failures = function(build, costs.dtype)(
        *[t.data_ptr() if isinstance(t, Tensor) else t for t in arguments],
        count,
        nodes,
        edges,
        gains,
        solution.data_ptr(),
        None if potential is None else potential.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The graph path kernel found no memory for {count} graphs of {nodes} nodes and {edges} edges.")
    return Paths(solution, status if failures else None, potential)
