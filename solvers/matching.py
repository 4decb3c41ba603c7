"""Matchings in general graphs: sets of edges of which no two share a node, of least cost or greatest score."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance

from .assignment import Assignment, GatedAssignment
from .common import remove_mean
from .edge_family import EdgeSolver, native
from .graph import Graph
from .kernels import library
from .kernels import matching as kernel
from .kernels.matching import ANY, LARGEST, PERFECT

Sides = tuple[Tensor, Tensor, int, int]
"""Of each edge of a bipartite graph its end on one side and on the other, numbered there; the sizes of the sides."""


class EdgeMatching(EdgeSolver):
    """What matchings share.

    Bipartite graphs that all instances share are solved as assignment, others by Edmonds' blossom algorithm in O(n^3), on
    integers: scores are rounded to multiples of a power of two that is less than 2**-44 of the greatest one (for 64 nodes, and
    finer by a bit for half as many), then the matching is exactly optimal. It runs on the CPU wherever the scores are; without
    the compiled kernels NetworkX does the work. Among several optimal matchings the one returned is always the same, but not
    specified.
    """

    _kind: ClassVar[int]

    def solve(self, scores: Tensor, mask: Tensor | None = None, edge_index: Tensor | None = None) -> Tensor:
        """The best matchings.  # (B, E), (B, E), (B, 2, E) -> (B, E)"""
        edges, nodes = self._edges(scores, edge_index, mask)
        values = native(self, scores)
        self._refuse_infinite(values, mask)
        sides = None if self.graph is None else bipartition(self.graph)
        if sides is not None and scores.numel():
            forbidden = torch.inf if self.sense == "min" else -torch.inf
            solution = self._assign(values if mask is None else values.where(mask, forbidden), sides)
            if solution is not None:
                return solution.to(scores.dtype)
        backend = kernel.match if library() is not None else match_by_networkx
        smallest, mask = self.sense == "min", None if mask is None else mask.cpu()
        solution, failed = backend(values.cpu(), edges.cpu(), nodes, self._kind, smallest, mask)
        if failed is not None:
            self._refuse(failed.to(scores.device))
        return solution.to(scores)

    @abstractmethod
    def _assign(self, values: Tensor, sides: Sides) -> Tensor | None:
        """The best matchings in a bipartite graph, or None if assignment does not give them.  # (B, E) -> (B, E)"""

    def _refuse_infinite(self, values: Tensor, mask: Tensor | None) -> None:
        wrong = values == (-torch.inf if self.sense == "min" else torch.inf)
        wrong = (wrong if mask is None else wrong & mask).any(1)
        if wrong.any():
            bad, good = ("-inf", "+inf") if self.sense == "min" else ("+inf", "-inf")
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(wrong)} has {bad} among its scores ({int(wrong.sum())} of "
                f"{len(wrong)} instances). A score of {good} forbids an edge; {bad} would outweigh everything.",
                wrong,
            )

    def _refuse(self, failed: Tensor) -> None:
        odd = ""
        if self.graph is not None and self.graph.nodes % 2:
            odd = f" Its graph has an odd number of nodes, {self.graph.nodes}."
        raise InfeasibleError(
            f"{type(self).__name__}: instance {first_instance(failed)} has no matching that leaves no node out "
            f"({int(failed.sum())} of {len(failed)} instances).{odd} Allow more edges, or use MaxCardinalityMatching, which "
            f"matches as many nodes as it can.",
            failed,
        )


@dataclass(frozen=True)
class PerfectMatching(EdgeMatching):
    """The matching of least cost that leaves no node out (Edmonds, 1965).

    Minimises `<scores, y>` over sets of edges that meet every node exactly once. Edges have no direction, costs any sign; loops
    are never taken. Shapes: `(B, E) -> (B, E)`; the solution is 1 on the edges of the matching.

    Args:
        graph: the graph that all instances share; None if each has its own.

    Instance data: `mask` (B, E), False for an edge that is not there, or padding; `edge_index` (B, 2, E), integers, if there
    is no shared graph (its contents outside the mask do not matter; its nodes are those that edges in the mask name). An
    infinite cost takes an edge away too. Raises InfeasibleError, naming the instance, where there is no perfect matching, as
    when the number of nodes is odd; InstanceError for a cost of minus infinity.

    >>> solver = PerfectMatching(Graph([[0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3]]))
    >>> y = solver(torch.tensor([[5.0, 2.0, 3.0, 3.0, 2.0, 5.0]]))
    >>> y
    tensor([[0., 1., 0., 0., 1., 0.]])
    >>> solver.decode(y)
    [tensor([[0, 1],
            [2, 3]])]
    """

    graph: Graph | None = None
    sense = "min"
    constant_sum = True
    hull = "matchings of nodes"
    constant_norm = True
    _kind = PERFECT

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean: matchings have the same number of edges.  # (*S, B, E) -> (*S, B, E)"""
        return remove_mean(direction, mask)

    def _assign(self, values: Tensor, sides: Sides) -> Tensor | None:
        rows, columns, n, m = sides
        if n != m:
            return None
        costs = values.new_full((len(values), n, m), torch.inf)
        costs[:, rows, columns] = values
        try:
            return Assignment().solve(costs)[:, rows, columns]
        except InfeasibleError as error:
            self._refuse(error.instances)
            raise


@dataclass(frozen=True)
class MaxWeightMatching(EdgeMatching):
    """The matching of greatest score; it may leave nodes out, and takes no edge of negative score (Edmonds, 1965).

    Maximises `<scores, y>` over sets of edges of which no two meet. See PerfectMatching for shapes and instance data; minus
    infinity forbids an edge, and plus infinity raises InstanceError.

    >>> MaxWeightMatching(Graph([[0, 1, 2], [1, 2, 3]]))(torch.tensor([[2.0, 5.0, 2.0], [3.0, 5.0, 3.0]]))
    tensor([[0., 1., 0.],
            [1., 0., 1.]])
    """

    graph: Graph | None = None
    sense = "max"
    _kind = ANY

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Matchings differ in every edge.  # (*S, B, E) -> (*S, B, E)"""
        return direction if mask is None else torch.where(mask, direction, 0)

    def _assign(self, values: Tensor, sides: Sides) -> Tensor | None:
        rows, columns, n, m = sides
        costs = values.new_full((len(values), n, m), torch.inf)
        costs[:, rows, columns] = -values
        return GatedAssignment().solve(costs, values.new_zeros(len(values)))[:, rows, columns]


@dataclass(frozen=True)
class MaxCardinalityMatching(EdgeMatching):
    """Of the matchings with as many edges as possible the one of greatest score.

    See PerfectMatching for shapes and instance data; minus infinity takes an edge away, and plus infinity raises InstanceError.

    >>> MaxCardinalityMatching(Graph([[0, 1, 2], [1, 2, 3]]))(torch.tensor([[2.0, 5.0, 2.0]]))
    tensor([[1., 0., 1.]])
    """

    graph: Graph | None = None
    sense = "max"
    constant_sum = True
    hull = "matchings of nodes"
    constant_norm = True
    _kind = LARGEST

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean: matchings have the same number of edges.  # (*S, B, E) -> (*S, B, E)"""
        return remove_mean(direction, mask)

    def _assign(self, values: Tensor, sides: Sides) -> Tensor | None:
        return None


@lru_cache(maxsize=64)
def bipartition(graph: Graph) -> Sides | None:
    """The two sides of a graph all whose edges go from one to the other; None if there are none, or two edges are parallel.

    >>> bipartition(Graph([[0, 1, 2], [1, 2, 3]]))
    (tensor([0, 1, 1]), tensor([0, 0, 1]), 2, 2)
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
    return number[rows], number[columns], side.count(0), side.count(1)


def match_by_networkx(
    scores: Tensor, edges: Tensor, nodes: int, kind: int, smallest: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """As `kernels.matching.match`, by NetworkX, one instance after the other."""
    import networkx

    solution, failed = torch.zeros_like(scores), torch.zeros(len(scores), dtype=torch.bool)
    for b, row in enumerate((-scores if smallest else scores).tolist()):
        graph = networkx.Graph()
        graph.add_nodes_from(range(nodes) if edges.ndim == 2 else ())
        for e, (u, v) in enumerate((edges if edges.ndim == 2 else edges[b]).T.tolist()):
            if mask is not None and not mask[b, e]:
                continue
            graph.add_nodes_from((u, v))
            better = not graph.has_edge(u, v) or row[e] > graph[u][v]["weight"]
            if u != v and row[e] > -torch.inf and better:
                graph.add_edge(u, v, weight=row[e], number=e)
        pairs = networkx.max_weight_matching(graph, maxcardinality=kind != ANY)
        failed[b] = kind == PERFECT and 2 * len(pairs) < len(graph)
        solution[b, [graph[u][v]["number"] for u, v in pairs]] = 0 if failed[b] else 1
    return solution, failed if failed.any() else None
