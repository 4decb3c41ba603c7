"""Quadratic assignment problems made square, in plain torch on any device: what `kernels/quadratic_form.hpp` is for kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from .kernels.graph_matching import Problem


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
