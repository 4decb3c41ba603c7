"""What several solvers share."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import HALF, Solution, Solver

_NATIVE = (torch.float32, torch.float64)


def native(solver: Solver, scores: Tensor) -> Tensor:
    """`scores` in a type in which they are compared and summed: float64 for integers, which is exact up to 2**53."""
    if scores.dtype in _NATIVE:
        return scores
    if scores.dtype == torch.bool or scores.is_complex():
        raise TypeError(
            f"{type(solver).__name__}: scores are {scores.dtype}; use real or integer numbers, such as `scores.float()`."
        )
    return scores.to(torch.float32 if scores.is_floating_point() else torch.float64)


_UNORDERED = (torch.bool, torch.uint16, torch.uint32, torch.uint64)


def check_ordered(solver: Solver, scores: Tensor) -> None:
    """Refuses scores of a type that PyTorch cannot sort (TypeError)."""
    if scores.dtype in _UNORDERED:
        raise TypeError(
            f"{type(solver).__name__}: scores are {scores.dtype}, which PyTorch does not sort; use real or signed numbers, "
            f"such as `scores.double()`."
        )


def in_type_of(solver: Solver, y: Tensor, scores: Tensor) -> Tensor:
    """Amounts in the type of the scores; TypeError where that has no room for them."""
    whole = not scores.is_floating_point()
    if (whole or scores.dtype in HALF) and y.numel():
        name, room = type(solver).__name__, torch.iinfo(scores.dtype) if whole else torch.finfo(scores.dtype)
        if whole and (y != y.round()).any():
            raise TypeError(f"{name}: the scores are {scores.dtype}, but the solution is not whole. Use `scores.double()`.")
        if y.max() > room.max or y.min() < room.min:
            raise TypeError(f"{name}: the scores are {scores.dtype}, too small for the solution. Use `scores.double()`.")
    return y.to(scores.dtype)


def certified(y: Any, objective: Tensor, optimal: Tensor, bound: Tensor, duals: dict[str, Tensor] | None = None) -> Solution:
    """A Solution whose bound is its objective wherever it is optimal: what else lies between the two is rounding."""
    return Solution(y, objective, optimal, torch.where(optimal, objective, bound), duals or {})


def shapes_of(solver: Solver, scores: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    """The shapes of the score tensors; TypeError if there are others than tensors."""
    if not all(isinstance(part, Tensor) for part in scores):
        given = ", ".join(type(part).__name__ for part in scores)
        raise TypeError(f"{type(solver).__name__}: the scores are {given}; expected tensors. Use `torch.as_tensor`.")
    return [tuple(part.shape) for part in scores]


def alike(*scores: Tensor) -> list[Tensor]:
    """All in the most precise of their types."""
    dtype = max((s.dtype for s in scores), key=lambda dtype: dtype.itemsize)
    return [s.to(dtype) for s in scores]


def refuse(solver: Solver, invalid: Tensor, failed: Tensor, problem: str, advice: str) -> None:
    """Names the first instance that is `invalid (B,)`, with an infinite score, or has `failed (B,)` because of a `problem`."""
    name = type(solver).__name__
    if invalid.any():
        wrong = "score of plus infinity" if solver.sense == "max" else "cost of minus infinity"
        forbids = "A score of minus infinity" if solver.sense == "max" else "An infinite cost"
        raise InstanceError(
            f"{name}: instance {first_instance(invalid)} has a {wrong} ({int(invalid.sum())} of {len(invalid)} instances). "
            f"{forbids} forbids; {wrong.partition(' of ')[2]} would outweigh everything.",
            invalid,
        )
    if failed.any():
        raise InfeasibleError(
            f"{name}: instance {first_instance(failed)} {problem} ({int(failed.sum())} of {len(failed)} instances). {advice}",
            failed,
        )


def check_mask(solver: Solver, scores: Tensor, mask: Tensor | None) -> None:
    """Refuses a mask that is not boolean (TypeError) or not in the shape of the scores (ValueError)."""
    if mask is None:
        return
    name = type(solver).__name__
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{name}: `mask` is {mask.dtype}; a mask is torch.bool, True where an entry may be used. Use `mask.bool()`."
        )
    if mask.shape != scores.shape:
        raise ValueError(
            f"{name}: `mask` has shape {tuple(mask.shape)} but the scores have shape {tuple(scores.shape)}; a mask has the "
            f"shape of the scores. Use `mask.expand_as(scores)` for one that all instances share."
        )


def check_seconds(solver: Solver, name: str) -> None:
    """Refuses a field that is no time (TypeError, ValueError); None is no limit."""
    seconds = getattr(solver, name)
    if seconds is None:
        return
    if not isinstance(seconds, Real):
        raise TypeError(f"{type(solver).__name__}: {name}={seconds!r}; it is a number of seconds.")
    if not 0 < float(seconds) < math.inf:
        raise ValueError(f"{type(solver).__name__}: {name}={seconds!r}; a time limit is positive and finite, None for none.")


def check_given(solver: Solver, name: str, given: Tensor | None) -> None:
    """Refuses a call without instance data `name` of a solver without a field of that name, which all instances would share."""
    if given is None and getattr(solver, name) is None:
        raise ValueError(
            f"{type(solver).__name__}: no {name}. Give `{name}=` to the solver, if all instances share it, or to the call."
        )


def greatest_gain(costs: Tensor, before: Tensor, y: Tensor, lower: Tensor | float = 0.0, upper: Tensor | float = 1.0) -> Tensor:
    """How much less than `y`, which is optimal at the costs `before`, a solution may cost at `costs` at most.

    `<costs, y - z> <= <costs - before, y - z>` for every solution z, and at most each entry of z is at the bound that suits the
    move of its cost. Zero if all costs moved in favour of `y`, which is then optimal still.  # (B, *E) -> (B,)
    """
    moved = costs != before  # equal costs may be infinite
    change = costs - before
    reach = torch.where(change > 0, y - lower, y - upper)
    return torch.where(moved, change * reach, 0).clamp_min(0).flatten(1).sum(1)


def may_follow(before: Tensor, after: Tensor, shared: bool) -> Tensor:
    """Which states of the next step may follow which: at each step, or at any where all share one answer.

    Shapes: (B, T, S), (B, T, S) -> (B, T-1, S, S), or (B, S, S).
    """
    before, after = before[:, :-1], after[:, 1:]
    return before.mT.float() @ after.float() > 0 if shared else before.unsqueeze(3) & after.unsqueeze(2)


def remove_mean(direction: Tensor, mask: Tensor | None) -> Tensor:
    """`direction` less its mean over the entries in the mask; zero outside.  # (*S, B, n), (B, n) -> (*S, B, n)"""
    if mask is None:
        return direction - direction.mean(-1, keepdim=True)
    mean = torch.where(mask, direction, 0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(mask, direction - mean, 0)
