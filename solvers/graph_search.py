"""Graph matching in plain torch on any device: Frank-Wolfe and exchanges, for all instances in lockstep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from .augmenting_paths import assign
from .kernels.graph_matching import INFEASIBLE, INVALID, Effort, Problem, Search

_CLOSE = 0.03  # root mean square of a row's change at which Frank-Wolfe stops


class Quadratic(ABC):
    """The quadratic cost of square problems: costs of every two pairs."""

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """Of the quadratic cost at x.  # (B, N, N) -> (B, N, N)"""

    @abstractmethod
    def interaction(self, x: Tensor) -> Tensor:
        """What an exchange of the columns of i and j costs beyond the gradient, at permutations x.  # (B, N, N) -> (B, N, N)"""


class Factors(Quadratic):
    """Flow times distance; both have a diagonal of zero."""

    def __init__(self, flows: Tensor, distances: Tensor):
        self.flows, self.distances = flows, distances

    def gradient(self, x: Tensor) -> Tensor:
        return self.flows @ x @ self.distances.mT + self.flows.mT @ x @ self.distances

    def interaction(self, x: Tensor) -> Tensor:
        return (self.flows + self.flows.mT) * (x @ (self.distances + self.distances.mT) @ x.mT)


class Edges(Quadratic):
    """Costs of pairs of edges; the ends of edges are one-hot rows, zero in padding and for loops."""

    def __init__(self, ends1: tuple[Tensor, Tensor], ends2: tuple[Tensor, Tensor], costs: Tensor):
        (self.source1, self.target1), (self.source2, self.target2) = ends1, ends2
        self.real = self.source1.any(2).unsqueeze(2) & self.source2.any(2).unsqueeze(1)
        self.costs = torch.where(self.real, costs, 0.0)
        self.places = [[_hot(end) for end in ends] for ends in zip(ends1, ends2)]  # of sources, of targets; 0 in padding
        width = self.source2.shape[2]
        self.pairs = [(one.unsqueeze(2) * width + two.unsqueeze(1)).flatten(1) for one, two in self.places]

    def gradient(self, x: Tensor) -> Tensor:
        sources, targets = self.pairs
        forth, back = self._times_costs(x, targets), self._times_costs(x, sources)
        if x.is_cuda:  # where sums by index come in any order
            return self.source1.mT @ forth @ self.source2 + self.target1.mT @ back @ self.target2
        out = torch.zeros_like(x).flatten(1)
        for at, values in ((sources, forth), (targets, back)):
            out = out.scatter_add(1, at.expand(len(x), -1), values.flatten(1))
        return out.view_as(x)

    def _times_costs(self, x: Tensor, at: Tensor) -> Tensor:  # (B, N, M), (B or 1, E1 E2) -> (B, E1, E2)
        return x.flatten(1).gather(1, at.expand(len(x), -1)).view(len(x), *self.costs.shape[1:]) * self.costs

    def interaction(self, x: Tensor) -> Tensor:
        along = (self.source1 @ x @ self.source2.mT) * (self.target1 @ x @ self.target2.mT)
        turned = (self.source1 @ x @ self.target2.mT) * (self.target1 @ x @ self.source2.mT)
        cost = (self.costs * (along + turned)).sum(2, keepdim=True)
        one_way = self.source1.mT @ (cost * self.target1)
        return one_way + one_way.mT


def _hot(rows: Tensor) -> Tensor:
    """Where one-hot rows have their one.  # (B, E, N) -> (B, E)"""
    return rows.argmax(2) if rows.shape[2] else rows.new_zeros(rows.shape[:2], dtype=torch.int64)


class Square(NamedTuple):
    """Problems made square: real rows and columns first, then as many that stand for nobody as are needed, then padding."""

    linear: Tensor  # (B, N, N) costs
    allowed: Tensor  # (B, N, N)
    quadratic: Quadratic
    rows: Tensor  # (B,) real ones
    columns: Tensor  # (B,)
    row_names: Tensor  # (B, n) where the rows came from
    column_names: Tensor  # (B, m)
    used: Tensor  # (B,) rows and columns that are not padding
    invalid: Tensor  # (B,) has NaN, or infinite numbers that do not forbid


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


def make_square(problem: Problem) -> Square:
    """Sorts padding to the end and adds rows and columns that stand for nobody."""
    scores, mask = problem.scores, problem.mask
    _, n, m = scores.shape
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    is_row, is_column = mask.any(2), mask.any(1)
    rows, columns = is_row.sum(1), is_column.sum(1)
    row_names, column_names = ((~real).to(torch.uint8).argsort(stable=True, dim=1) for real in (is_row, is_column))
    size = n + m if problem.partial else max(n, m)
    used = rows + columns if problem.partial else torch.maximum(rows, columns)

    def sort(t: Tensor, first: Tensor, second: Tensor) -> Tensor:
        t = t.gather(1, first.unsqueeze(2).expand(-1, -1, t.shape[2])).gather(
            2, second.unsqueeze(1).expand(-1, first.shape[1], -1)
        )
        return torch.nn.functional.pad(t, (0, size - second.shape[1], 0, size - first.shape[1]))

    sign = -1.0 if problem.maximize else 1.0
    costs = sort(torch.where(mask, sign * scores.double(), torch.inf), row_names, column_names)
    order = torch.arange(size, device=scores.device)
    real_row, real_column = order < rows[:, None], order < columns[:, None]
    real = real_row.unsqueeze(2) & real_column.unsqueeze(1)
    inside = (order < used[:, None]).unsqueeze(2) & (order < used[:, None]).unsqueeze(1)
    allowed = torch.where(real, costs < torch.inf, inside | torch.eye(size, dtype=torch.bool, device=scores.device) & ~inside)
    linear = torch.where(real & allowed, costs, 0.0)
    invalid = (real & ~(costs > -torch.inf)).flatten(1).any(1)
    if problem.flows is not None and problem.distances is not None:
        quadratic, own = _factors(
            torch.where(real_row.unsqueeze(2) & real_row.unsqueeze(1), sort(problem.flows, row_names, row_names), 0.0),
            torch.where(
                real_column.unsqueeze(2) & real_column.unsqueeze(1), sort(problem.distances, column_names, column_names), 0.0
            ),
        )
    else:
        ranks = [torch.where(real, real.cumsum(1) - 1, -1) for real in (is_row, is_column)]
        quadratic, own = edges_of(problem, ranks, (size, size), sign)
    linear = torch.where(real & allowed, linear + own, 0.0)
    invalid |= ~linear.isfinite().flatten(1).all(1) | ~quadratic.gradient(allowed.double()).isfinite().flatten(1).all(1)
    return Square(linear, allowed, quadratic, rows, columns, row_names, column_names, used, invalid)


def _factors(flows: Tensor, distances: Tensor) -> tuple[Quadratic, Tensor]:
    own = flows.diagonal(dim1=1, dim2=2).unsqueeze(2) * distances.diagonal(dim1=1, dim2=2).unsqueeze(1)
    empty = torch.eye(flows.shape[1], dtype=torch.bool, device=flows.device)
    return Factors(flows.masked_fill(empty, 0), distances.masked_fill(empty, 0)), own


def edges_of(problem: Problem, ranks: list[Tensor], sizes: tuple[int, int], sign: float) -> tuple[Edges, Tensor]:
    """What edges cost two by two, and loops for the pair of their vertices; `ranks` say where vertices are, -1 for nowhere."""
    assert problem.edges1 is not None
    assert problem.edges2 is not None
    assert problem.pairs is not None
    (one1, loop1), (one2, loop2) = map(_ends, (problem.edges1, problem.edges2), ranks, sizes)
    real1, real2 = ((ends[0] + loop).any(2) for ends, loop in ((one1, loop1), (one2, loop2)))
    costs = torch.where(real1.unsqueeze(2) & real2.unsqueeze(1), sign * problem.pairs, 0.0)
    return Edges(one1, one2, costs), loop1.mT @ costs @ loop2


def _ends(edges: Tensor, ranks: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """One-hot sources and targets of edges, and of loops; zero in padding.  # (B, 2, E), (B, n) -> (B, E, N), ..."""
    padded = torch.nn.functional.pad(ranks, (0, 1), value=-1)  # a negative end finds -1 in the last place
    source, target = (padded.gather(1, torch.where(e < 0, ranks.shape[1], e)) for e in edges.unbind(1))
    order = torch.arange(size, device=edges.device)
    present = ((source >= 0) & (target >= 0)).unsqueeze(2)
    starts, ends = ((end.unsqueeze(2) == order) & present for end in (source, target))
    loop = (source == target).unsqueeze(2)
    return ((starts & ~loop).double(), (ends & ~loop).double()), (starts & loop).double()


# ---- Frank-Wolfe ----


def _assign(square: Square, costs: Tensor) -> tuple[Tensor, Tensor]:
    """Permutations of least cost, and which instances have none; those and invalid ones get zeros.

    # (B, N, N) -> (B, N, N), (B,)
    """
    matching = assign(torch.where(square.invalid[:, None, None], 0.0, costs), False, square.allowed)
    failed = square.invalid if matching.status is None else matching.status != 0
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


def partners_of(square: Square, x: Tensor, scores: Tensor) -> Tensor:
    """The column of each row of the problem as it came, -1 for none.  # (B, N, N), (B, n, m) -> (B, n)"""
    count, n, m = scores.shape
    column = x[:, :n].argmax(2) if m else x.new_zeros(count, n, dtype=torch.int64)
    order = torch.arange(n, device=x.device)
    real = (order < square.rows[:, None]) & (column < square.columns[:, None])
    names = square.column_names.gather(1, column.clamp(max=m - 1)) if m else column
    return torch.full_like(column, -1).scatter(1, square.row_names, torch.where(real, names, -1))


def square_of(square: Square, partners: Tensor) -> Tensor | None:
    """The columns of all rows of one square problem, from those of its rows as they came; None if they do not fit.

    # (1, n) -> (1, N)
    """
    size, rows, columns = int(square.used), int(square.rows), int(square.columns)
    rank = {int(name): k for k, name in enumerate(square.column_names[0, :columns])}
    chosen = [rank.get(int(partners[0, name]), -1) for name in square.row_names[0, :rows]]
    spare_real = [k for k in range(columns) if k not in chosen]
    spare = list(range(columns, size))
    out = []
    for k in [*chosen, *[-2] * (size - rows)]:
        if k == -1:
            k = spare.pop(0) if spare else -3
        elif k == -2:
            k = spare_real.pop(0) if spare_real else spare.pop(0) if spare else -3
        out.append(k)
    return None if -3 in out else torch.tensor([out], dtype=torch.int64)
