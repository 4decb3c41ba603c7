"""Longest paths in directed acyclic graphs, as in scheduling (critical paths), with scores of any sign on the edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solver

from .common import check_mask, native, refuse
from .dag import Dag, best_paths
from .graph import Graph, check_edges, check_nodes, nodes_of_instances
from .graph_path import in_order
from .kernels.dag_path import INVALID


@dataclass(frozen=True)
class LongestPath(Solver):
    """The path of greatest total score in a directed acyclic graph that all instances share.

    Maximises `sum of scores[e] over the edges e of a path`; scores may have any sign, so that `-costs` give the shortest path
    where costs may be negative. The solution is 1 on the edges of the path. Shapes: `(B, E) -> (B, E)`.

    Args:
        graph: the graph; directed, without a cycle (ValueError, which names one).
        source, target: the node where paths start and end, for instances that do not say otherwise. Without one a path may
            start (end) anywhere, and one without any edge, of value 0, is allowed.

    Instance data: `source` and `target` (B,), integers; `mask (B, E)`, boolean, False for an edge that is not there. A score of
    minus infinity also takes an edge away. Raises InfeasibleError where there is no path or no such node, InstanceError for
    plus infinity. Ties: read backwards, a path that may start anywhere starts as late as possible, otherwise the edge of lowest
    index is taken; of equally good ends the lowest node. Sums are formed in the dtype of the scores, of integers in float64.

    >>> solver = LongestPath(Graph([[0, 0, 1], [1, 2, 2]]))
    >>> y = solver(torch.tensor([[1.0, 3.0, 1.0], [1.0, 1.0, 1.0], [-1.0, -2.0, -3.0]]))
    >>> y
    tensor([[0., 1., 0.],
            [1., 0., 1.],
            [0., 0., 0.]])
    >>> solver.decode(y)
    [[0, 2], [0, 1, 2], []]

    Source: R. Bellman, "On a routing problem", Quarterly of Applied Mathematics 16 (1958), in topological order.
    """

    graph: Graph
    source: int | None = None
    target: int | None = None

    binary = True
    hull = "paths"

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Graph):
            raise TypeError(
                f"LongestPath: graph is a {type(self.graph).__name__}; expected a Graph. Use `Graph(edge_index)` or "
                f"`Graph.from_networkx(graph)`."
            )
        if not self.graph.directed:
            raise ValueError("LongestPath: the graph is not directed; longest paths are found in directed acyclic graphs.")
        check_nodes(self, self.graph.nodes, "source", "target")
        _ordered(self.graph)  # refuses cycles

    def solve(
        self, scores: Tensor, mask: Tensor | None = None, source: Tensor | None = None, target: Tensor | None = None
    ) -> Tensor:
        """Longest paths.  # (B, E), (B, E), (B,), (B,) -> (B, E)"""
        check_mask(self, scores, mask)
        check_edges(self, self.graph, None, scores, "tails and heads")
        dag, place = _ordered(self.graph)
        ends = [
            self._place(name, given, default, scores, place, anywhere)
            for name, given, default, anywhere in (
                ("source", source, self.source, 0),
                ("target", target, self.target, dag.nodes - 1),
            )
        ]
        found = best_paths(dag, native(self, scores), mask, *ends)
        if found.status is not None:
            advice = "The graph has none there, or the mask or scores of minus infinity take edges away that a path needs."
            problem = "has no path from its source to its target"
            refuse(self, found.status == INVALID, found.status != 0, problem, advice)
        return found.times.to(scores.dtype)

    def decode(self, y: Tensor, source: Tensor | None = None, **instance: Tensor) -> list[list[int]]:
        """The nodes of each path in order; of one without edges the source, if it has one.  # (B, E) -> B lists"""
        found = []
        for b, chosen in enumerate((y != 0).cpu()):
            edges = self.graph.edges[:, chosen]
            given = self.source if source is None else int(source[b])
            first = sorted(set(edges[0].tolist()) - set(edges[1].tolist()))
            start = first[0] if first else given
            found.append([] if start is None else in_order(edges, start, directed=True))
        return found

    def _place(
        self, name: str, given: Tensor | None, default: int | None, scores: Tensor, place: Tensor, anywhere: int
    ) -> Tensor:
        """Where in the order each instance starts or ends.  # (B,)"""
        if given is None:
            number = anywhere if default is None else int(place[default])
            return torch.full((len(scores),), number, device=scores.device)
        given = nodes_of_instances(self, name, given, None, scores)
        outside = (given < 0) | (given >= self.graph.nodes)
        if outside.any():
            first = first_instance(outside)
            raise InfeasibleError(
                f"LongestPath: instance {first} has {name} {int(given[first])} ({int(outside.sum())} of {len(given)} "
                f"instances), but the graph has nodes 0 to {self.graph.nodes - 1}.",
                outside,
            )
        return place.to(given.device)[given]


@lru_cache(maxsize=64)
def _ordered(graph: Graph) -> tuple[Dag, Tensor]:
    """The graph with its nodes in topological order, between one before and one after all, and the place of each node."""
    start, heads, _ = (t.tolist() for t in graph.outgoing)
    waiting = graph.edges[1].bincount(minlength=graph.nodes).tolist()
    order = [v for v in range(graph.nodes) if waiting[v] == 0]
    for v in order:  # grows while it is read
        for head in heads[start[v] : start[v + 1]]:
            waiting[head] -= 1
            if waiting[head] == 0:
                order.append(head)
    if len(order) < graph.nodes:
        cycle = _cycle(graph, waiting)
        raise ValueError(
            f"LongestPath: the graph has the cycle {' -> '.join(map(str, cycle))}, along which paths could grow for ever. Take "
            f"one of its edges away."
        )
    place = torch.empty(graph.nodes, dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(1, graph.nodes + 1)
    size, node = len(graph), torch.arange(graph.nodes)
    none = torch.full_like(node, size)
    tail = torch.cat([torch.zeros_like(node), place[graph.edges[0]], place])
    head = torch.cat([place, place[graph.edges[1]], torch.full_like(node, graph.nodes + 1)])
    return Dag(graph.nodes + 2, size, tail, head, torch.cat([none, torch.arange(size), none])), place


def _cycle(graph: Graph, waiting: list[int]) -> list[int]:
    """A cycle among the nodes that wait for others, from its lowest node on and back."""
    before = {head: tail for tail, head in reversed(graph.edges.T.tolist()) if waiting[head] and waiting[tail]}
    seen: list[int] = []
    node = min(before)
    while node not in seen:
        seen.append(node)
        node = before[node]
    cycle = seen[seen.index(node) :][::-1]
    low = cycle.index(min(cycle))
    return [*cycle[low:], *cycle[:low], cycle[low]]
