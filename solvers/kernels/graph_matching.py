"""Graph matching on the CPU, compiled: see `graph_matching.cpp` and `graph_proof.cpp` for the algorithms."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import library

SOLVED, INFEASIBLE, INVALID, LIMIT = 0, 1, 2, 3


class Problem(NamedTuple):
    """A batch of quadratic assignments of n rows to m columns, with flows and distances or with pairs of edges.

    `scores (B, n, m)`, `flows (B, n, n)`, `distances (B, m, m)` and `pairs (B, E1, E2)` are float64, `mask (B, n, m)` is
    boolean, `edges1 (B, 2, E1)` and `edges2 (B, 2, E2)` are int64 with negative numbers for padding. `maximize`: scores and
    pairs are gains. `partial`: rows and columns may stay alone, at no cost.
    """

    scores: Tensor
    mask: Tensor | None = None
    flows: Tensor | None = None
    distances: Tensor | None = None
    edges1: Tensor | None = None
    edges2: Tensor | None = None
    pairs: Tensor | None = None
    maximize: bool = False
    partial: bool = False


class Effort(NamedTuple):
    """How long to search: starts, Frank-Wolfe steps of each, and steps of tabu search from each local optimum."""

    restarts: int
    iterations: int
    exchanges: int
    seed: int


class Search(NamedTuple):
    """The column of each row, -1 for none, `(B, n)`, and `status (B,)`, None where all are solved."""

    partners: Tensor
    status: Tensor | None


class Proof(NamedTuple):
    """What branch and bound found: `partners` and `status` as in Search, and the best bound `(B,)` on the objective.

    LIMIT is the status of an instance with unexplored branches left.
    """

    partners: Tensor
    status: Tensor | None
    bound: Tensor


class _Batch(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("scores", "mask", "flows", "distances", "edges1", "edges2", "pairs")],
        *[(name, ctypes.c_int64) for name in ("count", "n", "m", "e1", "e2")],
        ("sign", ctypes.c_double),
        ("partial", ctypes.c_int64),
    ]


@cache
def _function(build: ctypes.CDLL, name: str) -> Any:
    function = getattr(build, f"solverlayers_graph_matching_{name}")
    function.restype = ctypes.c_int64
    return function


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _call(name: str, problem: Problem, work: float, *arguments: Any) -> Tensor | None:
    """Runs a kernel on all instances, of `work` nanoseconds each; the status of each, None where all are solved."""
    tensors = [None if t is None else t.contiguous() for t in problem[:7]]
    scores, _, _, _, edges1, edges2, _ = tensors
    assert scores is not None
    count, n, m = scores.shape
    ends = [0 if edges is None else edges.shape[2] for edges in (edges1, edges2)]
    batch = _Batch(*map(_address, tensors), count, n, m, *ends, -1.0 if problem.maximize else 1.0, problem.partial)
    status = (ctypes.c_uint8 * count)()
    build = library()
    assert build is not None
    failures = _function(build, name)(ctypes.byref(batch), *arguments, status, ctypes.c_double(work), torch.get_num_threads())
    if failures < 0:
        raise MemoryError(f"The graph matching kernel found no memory for {count} instances of {n} x {m}.")
    return torch.tensor(status, dtype=torch.uint8) if failures else None


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def search(problem: Problem, effort: Effort, start: Tensor | None = None) -> Search:
    """Good matchings, by Frank-Wolfe and exchanges; matchings `start` take the place of the last start.  # (B, n) -> (B, n)"""
    partners = torch.empty(problem.scores.shape[:2], dtype=torch.int64) if start is None else start.contiguous().clone()
    size = sum(problem.scores.shape[1:]) if problem.partial else max(problem.scores.shape[1:])
    work = effort.restarts * (10.0 * size**3 + 2.0 * effort.exchanges * size**2)
    status = _call("search", problem, work, (ctypes.c_int64 * 5)(*effort, start is not None), _pointer(partners))
    return Search(partners, status)


def branch_and_bound(problem: Problem, incumbents: Tensor, nodes: int) -> Proof:
    """Optimal matchings, from good ones `(B, n)` on, or those with the status LIMIT after `nodes` nodes.

    With `nodes=0` the bound of the root alone is computed.
    """
    partners, bound = incumbents.contiguous().clone(), torch.empty(len(incumbents), dtype=torch.float64)
    status = _call(
        "prove", problem, 10.0 * max(problem.scores.shape[1:]) ** 4, ctypes.c_int64(nodes), _pointer(partners), _pointer(bound)
    )
    return Proof(partners, status, bound)
