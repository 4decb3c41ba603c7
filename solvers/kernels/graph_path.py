"""Cheapest paths in graphs on the CPU, compiled: see `graph_path.cpp` for the algorithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous
from .grid_path import Paths, Reading

Arcs = tuple[Tensor, Tensor, Tensor]
"""Of each node v the arcs start[v] to start[v + 1] - 1, in the order of their edges: (start, other node, edge), int32."""

_BATCH = (*[SIZE] * 3, INT, *[Tensor] * 3)
_find = caller("graph_path", *[Tensor] * 12, *_BATCH)
_find_own = caller("graph_path_own", *[Tensor] * 3, INT, *[Tensor] * 2, *_BATCH)
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
    reading: Reading = Reading.COSTS,
) -> Paths:
    """The cheapest paths in a graph that all instances share, on the CPU.  # (B, E) -> Paths

    `costs` are float32 or float64, `mask (B, E)` is boolean, `source (B,)` and `target (B,)` are int64. An `order (nodes,)`,
    int32 of any values, saves finding one; it changes nothing but the time.
    """
    nodes = len(outgoing[0]) - 1
    made = torch.empty(nodes, dtype=torch.int32) if order is None and len(costs) > FEW else None
    inputs = contiguous(mask, *outgoing, *incoming, source, target, order)
    found = _paths(_find, costs, nodes, (*inputs, made), distances, reading)
    return found._replace(order=order if made is None else made)


def find_own(
    costs: Tensor,
    edge_index: Tensor,
    nodes: int,
    directed: bool,
    source: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    distances: bool = False,
    reading: Reading = Reading.COSTS,
) -> Paths:
    """The cheapest paths in graphs with `nodes` nodes, each with edges of its own, on the CPU.  # (B, E) -> Paths

    As `find`, with `edge_index (B, 2, E)`, int64; what it holds outside the mask does not matter.
    """
    mask, edge_index, source, target = contiguous(mask, edge_index, source, target)
    return _paths(_find_own, costs, nodes, (mask, edge_index, directed, source, target), distances, reading)


def _paths(
    kernel: Callable[..., int], costs: Tensor, nodes: int, inputs: tuple[Any, ...], distances: bool, reading: Reading
) -> Paths:
    count, edges = costs.shape
    if nodes + 2 * edges >= 2**31 - 2:
        raise ValueError(f"The graph path kernel takes fewer than 2**31 nodes and arcs; got {nodes} nodes and {edges} edges.")
    costs = costs.contiguous()
    solution, status = torch.empty_like(costs), torch.empty(count, dtype=torch.uint8)
    potential = costs.new_empty(count, nodes) if distances else None
    failures = kernel(costs, *inputs, count, nodes, edges, reading, solution, potential, status)
    return Paths(solution, status if failures else None, potential)
