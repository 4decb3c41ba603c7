"""Flows in whole units on the CPU, compiled: see `max_flow.cpp` and `min_cost_flow.cpp` for the algorithms."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from . import library

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = {
    "max_flow": (_POINTER, _POINTER, _INT, _INT, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "min_cost_flow": (_POINTER, _POINTER, _POINTER, _POINTER, _INT, _SIZE, _SIZE, _SIZE, _POINTER, _POINTER, _INT),
    "min_cost_flow_float64": (_POINTER, _POINTER, _POINTER, _POINTER, _INT, _SIZE, _SIZE, _SIZE, _POINTER, _INT),
}


def max_flow(
    capacity: Tensor, edges: Tensor, nodes: int, directed: bool, source: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """As `flow_search.max_flow`; all tensors are int64.  # (B, E), (2, E) or (B, 2, E) -> (B, E), (B, nodes)"""
    _refuse_large(nodes, capacity)
    capacity, edges, source, target = (part.contiguous() for part in (capacity, edges, source, target))
    flow = torch.empty_like(capacity)
    side = torch.empty(len(capacity), nodes, dtype=torch.bool)
    done = _function("max_flow")(
        capacity.data_ptr(),
        edges.data_ptr(),
        edges.ndim == 3,
        directed,
        len(capacity),
        nodes,
        capacity.shape[1],
        source.data_ptr(),
        target.data_ptr(),
        flow.data_ptr(),
        side.data_ptr(),
        torch.get_num_threads(),
    )
    _checked(done, capacity)
    return flow, side


def min_cost_flow(costs: Tensor, capacity: Tensor, supply: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """As `flow_search.min_cost_flow`; all tensors are int64.  # (B, E), (B, E), (B, nodes) -> (B, E), (B,)"""
    status = torch.empty(len(costs), dtype=torch.uint8)
    flow, _ = _cheapest("min_cost_flow", costs, capacity, supply, edges, status.data_ptr())
    return flow, status.long()


def min_cost_flow_of_numbers(costs: Tensor, capacity: Tensor | None, supply: Tensor, edges: Tensor) -> Tensor | None:
    """The flows of float64 numbers, rounded as `CostFlow` says; None if an instance has none, or numbers that are refused.

    Without capacities there are no limits.  # (B, E), (B, E), (B, nodes), (2, E) or (B, 2, E) -> (B, E)
    """
    flow, failures = _cheapest("min_cost_flow_float64", costs, capacity, supply, edges)
    return None if failures else flow


def _cheapest(
    name: str, costs: Tensor, capacity: Tensor | None, supply: Tensor, edges: Tensor, *more: int
) -> tuple[Tensor, int]:
    """The flows, and how many instances have none; `more` are addresses of what the kernel fills in besides."""
    _refuse_large(supply.shape[1], costs)
    costs, supply, edges = (part.contiguous() for part in (costs, supply, edges))
    capacity = None if capacity is None else capacity.contiguous()
    flow = torch.empty_like(costs)
    failures = _function(name)(
        costs.data_ptr(),
        None if capacity is None else capacity.data_ptr(),
        supply.data_ptr(),
        edges.data_ptr(),
        edges.ndim == 3,
        len(costs),
        supply.shape[1],
        costs.shape[1],
        flow.data_ptr(),
        *more,
        torch.get_num_threads(),
    )
    _checked(failures, costs)
    return flow, failures


def _refuse_large(nodes: int, scores: Tensor) -> None:
    if nodes + 2 * scores.shape[1] >= 2**31:
        raise ValueError(f"The flow kernels take fewer than 2**30 nodes and edges; got {nodes}, {scores.shape[1]}.")


def _checked(done: int, scores: Tensor) -> None:
    if done < 0:
        raise MemoryError(f"The flow kernel found no memory for scores of shape {tuple(scores.shape)}.")


def _function(name: str) -> Callable[..., int]:
    build = library()
    assert build is not None
    return _bound(build, name)


@cache
def _bound(build: ctypes.CDLL, name: str) -> Callable[..., int]:
    function = getattr(build, f"solverlayers_{name}")
    function.argtypes, function.restype = _ARGUMENTS[name], ctypes.c_int64
    return function
