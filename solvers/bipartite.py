"""Bipartite graphs that all instances share, and matchings in them as assignment."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from solverlayers.errors import InstanceError

from .assignment import Assignment, GatedAssignment
from .graph import Graph

_SPARSE = 16
"""With less than one edge for so many pairs, lists of edges are faster than matrices."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Of each edge of a bipartite graph its end on one side and on the other, numbered there; the sizes of the sides."""

    rows: Tensor
    columns: Tensor
    n: int
    m: int

    @property
    def sparse(self) -> bool:
        """Whether few pairs are edges."""
        return _SPARSE * len(self.rows) < self.n * self.m

    @cached_property
    def record(self) -> ctypes.Array[ctypes.c_int64]:
        """What the kernel takes: addresses of the arrays, and their sizes."""
        return (ctypes.c_int64 * 5)(*(t.data_ptr() for t in self._arcs), self.n, self.m)

    @cached_property
    def _arcs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the arcs of each row start, the column of each arc, and its edge.  # (n + 1,), (E,), (E,)"""
        order = self.rows.argsort(stable=True)
        start = torch.zeros(self.n + 1, dtype=torch.int64)
        start[1:] = self.rows.bincount(minlength=self.n).cumsum(0)
        return start.int(), self.columns[order].int(), order.int()


@lru_cache(maxsize=64)
def bipartition(graph: Graph) -> Sides | None:
    """The two sides of a graph all whose edges go from one to the other; None if there are none, or two edges are parallel.

    >>> bipartition(Graph([[0, 1, 2], [1, 2, 3]]))
    Sides(rows=tensor([0, 1, 1]), columns=tensor([0, 0, 1]), n=2, m=2)
    """
    beside: list[list[int]] = [[] for _ in range(graph.nodes)]
    pairs = graph.edges.T.tolist()
    for u, v in pairs:
        beside[u].append(v)
        beside[v].append(u)
    side = [-1] * graph.nodes
    for start in range(graph.nodes):
        side[start] = max(side[start], 0)
        stack = [start] if beside[start] else []
        while stack:
            u = stack.pop()
            for v in beside[u]:
                if side[v] == side[u]:
                    return None
                if side[v] < 0:
                    side[v] = 1 - side[u]
                    stack.append(v)
            beside[u] = []
    if len({(min(u, v), max(u, v)) for u, v in pairs}) < len(pairs):
        return None
    sides = torch.tensor(side)
    number = torch.where(sides == 0, (sides == 0).cumsum(0), (sides == 1).cumsum(0)) - 1
    first = sides[graph.edges[0]] == 0
    rows, columns = torch.where(first, *graph.edges), torch.where(first, *graph.edges.flip(0))
    return Sides(number[rows], number[columns], side.count(0), side.count(1))


def match_by_assignment(
    scores: Tensor, sides: Sides, perfect: bool, largest: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """As `kernels.bipartite.match`, on any device; a matching that is not perfect leaves rows alone at no cost."""
    costs = -scores if largest else scores
    costs = costs if mask is None else costs.where(mask, torch.inf)
    matrix = costs.new_full((len(costs), sides.n, sides.m), torch.inf)
    matrix[:, sides.rows, sides.columns] = costs
    try:
        if perfect:
            return Assignment().solve(matrix)[:, sides.rows, sides.columns], None
        return GatedAssignment().solve(matrix, costs.new_zeros(len(costs)))[:, sides.rows, sides.columns], None
    except InstanceError as error:
        return torch.zeros_like(costs), error.instances
