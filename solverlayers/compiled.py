"""Solvers inside `torch.compile`: one operator for all that cannot be traced.

A solver that is not torch-native (a compiled kernel, a loop that follows the data, foreign code) would break the graph, so it
enters a graph as the operator `solverlayers::solve`, whose shape is known without running it: a solution has the shape of its
scores. When the graph runs, the operator solves as eager mode does, with all checks, and raises what they raise.

An operator takes tensors, numbers and strings, no objects: the solver goes in by its `id`, which `torch.compile` guards, so
that a graph only runs while that very solver is alive. A graph therefore belongs to its process: it cannot be exported.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, get_args
from weakref import WeakValueDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .oracle import Oracle
    from .solver import Solver

_log = logging.getLogger("solverlayers")
_alive: WeakValueDictionary[int, Solver] = WeakValueDictionary()
# CUDA graphs record what runs on the device, and a solver may run on the host; older versions of torch have no word for it.
tags: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


def register(solver: Solver) -> None:
    """Let graphs find a solver."""
    _alive[id(solver)] = solver


def needs_operator(solver: Solver) -> bool:
    """Whether a graph is being made that the solver would break."""
    return torch.compiler.is_compiling() and solver.same_shape and not solver.torch_native


def solve(oracle: Oracle, parts: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
    """Packed solutions and the mask of failed instances, by the operator.  # ((B, *E), ...) -> (B, *E), (B,)"""
    names = ",".join(oracle.names)
    y, failed = torch.ops.solverlayers.solve(
        id(oracle.solver), names, oracle.on_failure, oracle.sense == "max", list(parts), list(tensors)
    )
    return y, None if oracle.on_failure == "raise" else failed


def log_failures(solver: Solver, failed: Tensor) -> int:
    """Report skipped instances; how many there are."""
    count = int(failed.sum())
    if count:
        first = int(failed.nonzero()[0, 0])
        _log.warning("%s: skipped %d of %d instances (first: %d).", type(solver).__name__, count, len(failed), first)
    return count


@torch.library.custom_op(
    "solverlayers::solve",
    mutates_args=(),
    schema="(int solver, str names, str on_failure, bool gains, Tensor[] parts, Tensor[] tensors) -> (Tensor, Tensor)",
    **tags,
)
def _operator(
    solver: int, names: str, on_failure: str, gains: bool, parts: list[Tensor], tensors: list[Tensor]
) -> tuple[Tensor, Tensor]:
    oracle = oracle_of(solver, names, on_failure, gains, _shapes(parts), tensors)
    y, failed = oracle.solve(tuple(parts), tuple(tensors))
    y = y.to(parts[0].dtype).contiguous()
    return y.clone() if any(y is part for part in parts) else y, reported(oracle, failed, y)


@_operator.register_fake
def _(
    solver: int, names: str, on_failure: str, gains: bool, parts: list[Tensor], tensors: list[Tensor]
) -> tuple[Tensor, Tensor]:
    first = parts[0]
    shape = first.shape if len(parts) == 1 else (len(first), sum(math.prod(part.shape[1:]) for part in parts))
    return first.new_empty(shape), first.new_empty(len(first), dtype=torch.bool)


def oracle_of(
    solver: int, names: str, on_failure: str, gains: bool, shapes: tuple[torch.Size, ...], tensors: list[Tensor]
) -> Oracle:
    """The oracle that an operator of a graph asks."""
    from .oracle import OnFailure, Oracle

    if solver not in _alive:
        raise RuntimeError(
            "solverlayers::solve: the solver of this graph is not in this process. Graphs are not portable: build the layer "
            "and compile it where it runs."
        )
    assert on_failure in get_args(OnFailure)
    instance = dict(zip(names.split(","), tensors)) if names else {}
    return Oracle(_alive[solver], instance, shapes, on_failure, gains)  # type: ignore[arg-type]


def reported(oracle: Oracle, failed: Tensor | None, like: Tensor) -> Tensor:
    """Which instances failed, as an operator returns it, and logged; `like` has an entry for each.  # (B,)"""
    if failed is None:
        return torch.zeros(len(like), dtype=torch.bool, device=like.device)
    log_failures(oracle.solver, failed)
    return failed


def _shapes(parts: list[Tensor]) -> tuple[torch.Size, ...]:
    return tuple(part.shape[1:] for part in parts) if len(parts) > 1 else ()
