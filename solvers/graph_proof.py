"""Branch and bound for graph matching: the compiled kernel, or plain torch where there is none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .augmenting_paths import assign
from .kernels import graph_matching as kernel
from .kernels import usable
from .kernels.graph_matching import INFEASIBLE, LIMIT, SOLVED, Problem, Proof
from .quadratic_form import Square, make_square, partners_of, square_of

LARGEST = 32
"""Rows or columns, with those that stand for nobody, above which nothing but a bound is computed."""

_CHUNK = 64  # nodes whose children are bounded at once


def prove(problem: Problem, partners: Tensor, nodes: int) -> Proof:
    """Optimal matchings from good ones `(B, n)` on, on the CPU: see `kernels.graph_matching.branch_and_bound`.

    Status and bound come back on the device of the scores.
    """
    device = problem.scores.device
    if problem.scores.numel() == 0:
        return Proof(partners, None, problem.scores.new_zeros(len(partners)))
    moved: dict[str, Any] = {k: v.cpu() for k, v in problem._asdict().items() if isinstance(v, Tensor)}
    host = problem._replace(**moved)
    run = kernel.branch_and_bound if usable(host.scores) else branch_and_bound
    proof = run(host, partners.cpu(), nodes)
    return Proof(proof.partners.to(device), None if proof.status is None else proof.status.to(device), proof.bound.to(device))


def branch_and_bound(problem: Problem, incumbents: Tensor, nodes: int) -> Proof:
    """What the kernel does, in plain torch, one instance at a time and with weaker bounds.  # -> (B, n), (B,), (B,)"""
    partners, bound = incumbents.clone(), torch.full((len(incumbents),), torch.nan, dtype=torch.float64)
    status = torch.zeros(len(incumbents), dtype=torch.uint8)
    if max(incumbents.shape[1], problem.scores.shape[2]) > LARGEST:
        return Proof(partners, torch.full_like(bound, LIMIT, dtype=torch.uint8), bound)
    for b in range(len(incumbents)):
        own: dict[str, Any] = {k: v[b : b + 1] for k, v in problem._asdict().items() if isinstance(v, Tensor)}
        one = problem._replace(**own)
        tree = _Tree(make_square(one), incumbents[b : b + 1])
        status[b] = tree.explore(nodes)
        bound[b] = -tree.bound if problem.maximize else tree.bound
        partners[b] = partners_of(tree.square, tree.permutation(), one.scores)[0]
    return Proof(partners, status if status.any() else None, bound)


class _Tree:
    """The search tree of one instance; nodes are the columns of the first rows."""

    def __init__(self, square: Square, incumbent: Tensor):
        self.square = square
        self.size = size = int(square.used)
        self.linear = torch.where(square.allowed[0], square.linear[0], torch.inf)[:size, :size]
        basis = torch.eye(square.linear[0].numel(), dtype=torch.float64).view(-1, *square.linear.shape[1:])
        costs = square.quadratic.gradient(basis).view(*square.linear.shape[1:] * 2)[:size, :size, :size, :size]
        self.costs = costs  # (i, k, j, l) of both pairs together
        self.best, self.columns = torch.inf, torch.full((size,), -1)
        self.bound = -torch.inf
        start = square_of(square, incumbent)
        if start is not None:
            self._offer(start[:, :size])
        finite = self.linear.where(self.linear.isfinite(), 0.0)
        self.slack = (
            1e-10 * ((self.costs.abs().sum() / max(size, 1) + finite.abs().sum()) / max(size, 1)).item()
        )  # a mean matching

    def permutation(self) -> Tensor:
        x = torch.zeros_like(self.square.linear)
        x[0, torch.arange(self.size), self.columns.clamp(min=0)] = 1.0
        return x

    def explore(self, nodes: int) -> int:
        """SOLVED, INFEASIBLE, or LIMIT after `nodes` nodes; `bound` is then what is proved."""
        root = torch.zeros(1, 0, dtype=torch.int64)
        stack = [(root, self._bounds(root))]
        self.bound = stack[0][1].item()
        while stack:
            columns, bounds = stack.pop()
            keep = bounds < self.best - self.slack
            columns = columns[keep]
            if len(columns) == 0:
                continue
            if nodes <= 0:
                return LIMIT
            nodes -= len(columns)
            self._branch(columns, stack)
        self.bound = self.best
        return INFEASIBLE if self.best == torch.inf else SOLVED

    def _branch(self, columns: Tensor, stack: list[tuple[Tensor, Tensor]]) -> None:
        """Puts the children of nodes on the stack, the best on top.  # (K, d)"""
        depth = columns.shape[1]
        if depth == self.size:
            self._offer(columns)
            return
        children = torch.cat(
            [columns.repeat_interleave(self.size, 0), torch.arange(self.size).repeat(len(columns))[:, None]], 1
        )
        children = children[(children[:, :-1] != children[:, -1:]).all(1) & (self.linear[depth, children[:, -1]] < torch.inf)]
        bounds = self._bounds(children)
        order = bounds.argsort(stable=True).flip(0)
        for chunk in range(0, len(order), _CHUNK):
            at = order[chunk : chunk + _CHUNK]
            stack.append((children[at], bounds[at]))

    def _offer(self, columns: Tensor) -> None:
        values = self._values(columns)
        at = values.argmin()
        if len(values) and values[at] < self.best:
            self.best, self.columns = values[at].item(), columns[at]

    def _values(self, columns: Tensor) -> Tensor:
        """The cost of the pairs chosen.  # (K, d) -> (K,)"""
        rows = torch.arange(columns.shape[1])
        together = self.costs[rows[:, None], columns[:, :, None], rows, columns[:, None]].sum((1, 2)) / 2
        return self.linear[rows, columns].sum(1) + together

    def _bounds(self, columns: Tensor) -> Tensor:
        """Gilmore and Lawler's, with row and column minima in place of inner assignments.  # (K, d) -> (K,)"""
        count, depth = columns.shape
        left = self.size - depth
        if left == 0 or count == 0:
            return self._values(columns)
        free = torch.ones(count, self.size, dtype=torch.bool).scatter(1, columns, False).nonzero()[:, 1].view(count, left)
        rows, new = torch.arange(depth), torch.arange(depth, self.size)
        cost = self.linear[new[:, None], free[:, None]]  # (K, left, left)
        chosen = self.costs[rows[:, None, None], columns[:, :, None, None], new[:, None], free[:, None, None]]
        cost = cost + chosen.sum(1) + self._inner(new, free)
        matching = assign(cost, False)
        least = torch.where(matching.solution != 0, cost, 0.0).sum((1, 2))
        impossible = torch.zeros_like(least, dtype=torch.bool) if matching.status is None else matching.status != 0
        return torch.where(impossible, torch.inf, self._values(columns) + least)

    def _inner(self, new: Tensor, free: Tensor) -> Tensor:
        """What each pair costs at least with the pairs still to choose, half of it being theirs.

        # (left,), (K, left) -> (K, left, left)
        """
        left = len(new)
        half = self.costs[new[:, None, None, None], free[:, None, :, None, None], new[:, None], free[:, None, None, None]] / 2
        order = torch.arange(left)
        same = (order[:, None, None, None] == order[:, None]) | (
            order[:, None, None] == order
        )  # (i, k, j, l): a row or a column twice
        half = half.masked_fill(same, torch.inf)
        by_row = half.amin(4).nan_to_num(posinf=0.0)  # (K, i, k, j); none where j is i
        rest = (half - by_row.unsqueeze(4)).amin(3).nan_to_num(posinf=0.0)
        return by_row.sum(3) + rest.sum(3)
