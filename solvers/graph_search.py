"""Graph matching in plain torch on any device: Frank-Wolfe and exchanges, for all instances in lockstep."""

from __future__ import annotations

import torch
from torch import Tensor

from .augmenting_paths import assign
from .kernels.graph_matching import INFEASIBLE, INVALID, Effort, Problem, Search
from .quadratic_form import Square, make_square, partners_of

_CLOSE = 0.03  # root mean square of a row's change at which Frank-Wolfe stops


def search(problem: Problem, effort: Effort, start: Tensor | None = None) -> Search:
    """What `kernels.graph_matching.search` does, on any device: the same but for rounding and ties.  # -> (B, n)"""
    square = make_square(problem)
    failed = square.invalid.clone()
    infeasible = torch.zeros_like(failed)
    best = square.linear.new_full((len(failed),), torch.inf)
    best_x = torch.zeros_like(square.linear)
    others = effort.restarts - (start is not None)
    if start is not None:
        best, best_x = _improve(square, _started(square, start), best, best_x, effort, others)
    for number in range(others):
        x, lost = _begin(square, effort.seed, number)
        infeasible |= lost & ~failed
        best, best_x = _improve(square, _walk(square, x, effort.iterations), best, best_x, effort, number)
    status = torch.where(square.invalid, INVALID, torch.where(infeasible, INFEASIBLE, 0)).to(torch.uint8)
    partners = partners_of(square, best_x, problem.scores)
    return Search(partners.where(status[:, None] == 0, -1), status.cpu() if status.any() else None)


# ---- Frank-Wolfe ----


def _assign(square: Square, costs: Tensor) -> tuple[Tensor, Tensor]:
    """Permutations of least cost, and which instances have none; those and invalid ones get zeros.

    # (B, N, N) -> (B, N, N), (B,)
    """
    invalid = square.invalid[:, None, None]
    costs = torch.where(invalid, 0.0, costs).masked_fill(~(square.allowed | invalid), torch.inf)
    matching = assign(costs, False)  # not a mask, for which a row without any pair is padding
    failed = square.invalid if matching.status is None else square.invalid | (matching.status != 0)
    return matching.solution, failed


def _begin(square: Square, seed: int, start: int) -> tuple[Tensor, Tensor]:
    """The centre at first, then half way from it to pseudo-random matchings; and which instances are infeasible."""
    allowed = square.allowed.double()
    x = allowed / allowed.sum(2, keepdim=True).clamp(min=1)
    random, failed = _assign(square, _noise(seed, start, square.linear.shape[1], x.device).expand_as(x))
    return (x if start == 0 else (x + random) / 2), failed


def _started(square: Square, partners: Tensor) -> Tensor:
    """The permutations that hold matchings of the problem as it came, and no other real pairs.  # (B, n) -> (B, N, N)"""
    columns = square.column_names.argsort(1).gather(1, partners.clamp_min(0)).where(partners >= 0, -1)
    columns = columns.gather(1, square.row_names)
    order = torch.arange(square.linear.shape[1], device=columns.device)
    chosen = torch.nn.functional.pad((columns.unsqueeze(2) == order).double(), (0, 0, 0, len(order) - columns.shape[1]))
    real = (order < square.rows[:, None]).unsqueeze(2) & (order < square.columns[:, None]).unsqueeze(1)
    return _assign(square, real.double() - (len(order) + 2) * chosen)[0]


def _noise(seed: int, start: int, size: int, device: torch.device) -> Tensor:
    """Numbers in [0, 1) that depend on the arguments and their place alone (splitmix64).  # -> (N, N)"""
    at = torch.arange(1, size + 1, device=device)
    return _hash(seed, start, at.unsqueeze(1), at)


def _hash(seed: int, start: int, a: Tensor, b: Tensor) -> Tensor:
    def wrap(value: int) -> int:
        return (value + 2**63) % 2**64 - 2**63

    base = wrap(seed * 0x9E3779B97F4A7C15 + (start + 1) * 0xBF58476D1CE4E5B9)
    z = a * wrap(0x94D049BB133111EB) + b * wrap(0xD6E8FEB86659FD93) + base
    for _ in range(2):
        z = (z ^ _shift(z, 30)) * wrap(0xBF58476D1CE4E5B9)
        z = (z ^ _shift(z, 27)) * wrap(0x94D049BB133111EB)
        z = z ^ _shift(z, 31)
    return _shift(z, 11).double() * 2.0**-53


def _shift(z: Tensor, by: int) -> Tensor:
    """To the right, filling with zeros."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _walk(square: Square, x: Tensor, iterations: int) -> Tensor:
    """To permutations, along the gradient of the relaxation.  # (B, N, N) -> (B, N, N)"""
    size = x.shape[1]
    walking = torch.ones(len(x), dtype=torch.bool, device=x.device)
    gradient = square.linear + square.quadratic.gradient(x)
    for _ in range(iterations):
        corner, _ = _assign(square, gradient)
        at_corner = square.linear + square.quadratic.gradient(corner)
        way = corner - x
        slope, bend = (gradient * way).sum((1, 2)), ((at_corner - gradient) * way).sum((1, 2))
        t = torch.where(bend > 0, (-slope / bend).clamp(0, 1), 1.0) * walking
        moved = t.square() * way.square().sum((1, 2))
        x = x + t[:, None, None] * way
        gradient = gradient + t[:, None, None] * (at_corner - gradient)
        walking = walking & (moved >= _CLOSE**2 * size)
        if not walking.any():
            break
    return _assign(square, -x)[0]


# ---- exchanges ----


def _changes(square: Square, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each exchange of two rows' columns costs (infinity: not two rows), costs, and their rounding.

    # (B, N, N) -> (B, N, N), (B,), (B,)
    """
    gradient = square.linear + square.quadratic.gradient(x)
    own = (gradient * x).sum(2)
    linear = (square.linear * x).sum(2)
    there = torch.where(square.allowed, gradient, torch.inf)
    there = there.gather(2, x.argmax(2).unsqueeze(1).expand_as(there))  # (i, j): i at the column of j
    change = there + there.mT - own.unsqueeze(1) - own.unsqueeze(2) + square.quadratic.interaction(x)
    order = torch.arange(x.shape[1], device=x.device)
    pairs = (order.unsqueeze(1) < order) & (order[:, None] < square.rows[:, None, None])
    return change.masked_fill(~pairs, torch.inf), (own + linear).sum(1) / 2, 1e-12 * gradient.abs().amax(2).sum(1)


def _exchange(x: Tensor, first: Tensor, second: Tensor, where: Tensor) -> Tensor:
    """The columns of two rows of each instance, exchanged.  # (B, N, N), (B,), (B,), (B,) -> (B, N, N)"""
    each = torch.arange(len(x), device=x.device)
    out = x.clone()
    out[each, first], out[each, second] = x[each, second], x[each, first]
    return torch.where(where[:, None, None], out, x)


def _improve(square: Square, x: Tensor, best: Tensor, best_x: Tensor, effort: Effort, start: int) -> tuple[Tensor, Tensor]:
    """The best permutations so far and from x on.  # (B, N, N), (B,), (B, N, N) -> (B,), (B, N, N)"""
    x = _descend(square, x)
    best, best_x = _keep(square, x, best, best_x)
    return _wander(square, x, best, best_x, effort, start) if effort.exchanges else (best, best_x)


def _best_exchange(change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least change, the lowest rows of equals.  # (B, N, N) -> (B,), (B,), (B,)"""
    flat = change.flatten(1)
    at = flat.argmin(1)
    return flat.gather(1, at.unsqueeze(1)).squeeze(1), at // change.shape[2], at % change.shape[2]


def _descend(square: Square, x: Tensor) -> Tensor:
    """The best exchange while it pays, or until rounding may go in circles.  # (B, N, N) -> (B, N, N)"""
    for _ in range(10 * x.shape[1] ** 2):
        change, _, rounding = _changes(square, x)
        least, first, second = _best_exchange(change)
        better = least < -rounding
        if not better.any():
            break
        x = _exchange(x, first, second, better)
    return x


def _keep(square: Square, x: Tensor, best: Tensor, best_x: Tensor) -> tuple[Tensor, Tensor]:
    _, value, rounding = _changes(square, x)
    better = value < best - rounding
    return torch.where(better, value, best), torch.where(better[:, None, None], x, best_x)


def _wander(square: Square, x: Tensor, best: Tensor, best_x: Tensor, effort: Effort, start: int) -> tuple[Tensor, Tensor]:
    """Tabu search: the best exchange even if it costs, but not back to columns just left, unless that is the best ever."""
    each = torch.arange(len(x), device=x.device)
    until = torch.full_like(x, -1, dtype=torch.int64)  # (B, row, column)
    for step in range(effort.exchanges):
        change, value, rounding = _changes(square, x)
        column = x.argmax(2)
        held = until.gather(2, column.unsqueeze(1).expand_as(until)) > step
        record = value[:, None, None] + change < (best - rounding)[:, None, None]
        least, first, second = _best_exchange(change.masked_fill(held & held.mT & ~record, torch.inf))
        possible = least < torch.inf
        draw = _hash(effort.seed, start, torch.full_like(each, step + 1), torch.zeros_like(each))
        back = step + (square.used * (0.5 + 1.5 * draw)).long() + 1
        for row in (first, second):
            until[each, row, column[each, row]] = torch.where(possible, back, until[each, row, column[each, row]])
        x = _exchange(x, first, second, possible)
        best, best_x = _keep(square, x, best, best_x)
    return best, best_x
