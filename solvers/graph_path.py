"""Cheapest paths in graphs with costs on the edges, shared or of each instance, directed or not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance

from . import graph_sweeps
from .common import check_mask
from .graph import Graph, check_edges, check_graph, check_nodes, count_nodes, count_with_ends, nodes_of_instances
from .kernels import graph_path as kernel
from .kernels import usable
from .kernels.grid_path import Paths, Reading
from .path_family import ShortestPath

NOT_CONNECTED = "The graph is not connected there, or the mask or infinite costs take edges away that a path needs."


@dataclass(frozen=True)
class GraphShortestPath(ShortestPath):
    """The cheapest path through each graph, where an edge costs its score (Dijkstra, 1959).

    Minimises `sum of c[e] over the edges e of a path` from source to target. The solution is 1 on the edges of the path; it is
    0 where source and target are the same node. Shapes: `(B, E) -> (B, E)`.

    Args:
        graph: the graph that all instances share; None if each has its own.
        source, target: the node where paths start and end, for instances that do not say otherwise.
        directed: whether the edges of instances with graphs of their own are one-way; a shared graph knows itself.

    Instance data: `source` and `target` (B,), integers; `mask` (B, E), False for an edge that is not there, or padding;
    `edge_index` (B, 2, E), integers, if there is no shared graph (its contents outside the mask do not matter); `warm_start`
    (B, nodes), if there is, of which the first instance's serves all. An infinite cost also takes an edge away. Raises
    InstanceError for a negative cost (a layer clips them at zero, see `clip`), InfeasibleError where there is no path.

    Ties: read backwards from the target, the path takes the edge of lowest index that lies on a cheapest path and comes from a
    nearer node; where edges cost nothing and there is none, the fewest edges that lead to a node with one.

    >>> solver = GraphShortestPath(Graph([[0, 0, 1], [1, 2, 2]]), source=0, target=2)
    >>> y = solver(torch.tensor([[1.0, 3.0, 1.0], [1.0, 1.0, 1.0]]))
    >>> y
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    >>> solver.decode(y)
    [[0, 1, 2], [0, 2]]
    """

    graph: Graph | None = None
    source: int | None = None
    target: int | None = None
    directed: bool = True

    def __post_init__(self) -> None:
        check_graph(self, self.graph)
        check_nodes(self, None if self.graph is None else self.graph.nodes, "source", "target")

    def _paths(  # type: ignore[override]
        self,
        scores: Tensor,
        distances: bool,
        reading: Reading,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
        edge_index: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> Paths:
        check_mask(self, scores, mask)
        start, end = self._node("source", source, scores), self._node("target", target, scores)
        check_edges(self, self.graph, edge_index, scores, "tails and heads")
        costs = self._native(scores)
        if self.graph is not None:
            if source is not None or target is not None:
                self._check_nodes(self.graph.nodes, start, end)
            order = self._order(warm_start, scores, self.graph.nodes)
            paths = shared_paths(self.graph, costs, start, end, mask, distances, order, reading)
        else:
            assert edge_index is not None
            if warm_start is not None:
                raise ValueError("GraphShortestPath: `warm_start` orders the nodes of a `graph` that all share; leave it out.")
            edges = edge_index.long()
            nodes = self._count_nodes(edges, mask, start, end)
            given = costs, edges, nodes, self.directed, start, end, mask, distances
            paths = kernel.find_own(*given, reading) if usable(scores) else graph_sweeps.find(*given)
        return self._finish(paths, scores, mask, NOT_CONNECTED)

    def _node(self, name: str, given: Tensor | None, scores: Tensor) -> Tensor:
        """The source or target of each instance.  # (B,)"""
        return nodes_of_instances(self, name, given, getattr(self, name), scores)

    def _check_nodes(self, nodes: int, source: Tensor, target: Tensor) -> None:
        outside = (torch.minimum(source, target) < 0) | (torch.maximum(source, target) >= nodes)
        if outside.any():
            first = first_instance(outside)
            raise InfeasibleError(
                f"GraphShortestPath: instance {first} goes from node {int(source[first])} to node {int(target[first])}, but "
                f"its graph has nodes 0 to {nodes - 1}.",
                outside,
            )

    def _count_nodes(self, edges: Tensor, mask: Tensor | None, source: Tensor, target: Tensor) -> int:
        """One more than the greatest node that is named."""
        nodes = count_with_ends(self, count_nodes(self, edges, mask), source, target)
        self._check_nodes(nodes, source, target)
        return nodes

    def decode(  # type: ignore[override]
        self, y: Tensor, source: Tensor | None = None, edge_index: Tensor | None = None, **instance: Tensor
    ) -> list[list[int]]:
        """The nodes of each path, from source to target.  # (B, E) -> B lists"""
        check_edges(self, self.graph, edge_index, y, "tails and heads")
        starts = self._node("source", source, y).tolist()
        chosen = (y != 0).cpu()
        if self.graph is not None:
            return [in_order(self.graph.edges[:, row], start, self.graph.directed) for row, start in zip(chosen, starts)]
        assert edge_index is not None
        own = edge_index.cpu()
        return [in_order(edges[:, row], start, self.directed) for edges, row, start in zip(own, chosen, starts)]


def in_order(edges: Tensor, start: int, directed: bool) -> list[int]:
    """The nodes of the path that `edges` form, from `start` on.  # (2, length)"""
    beside: dict[int, list[int]] = {}
    for tail, head in edges.T.tolist():
        beside.setdefault(tail, []).append(head)
        beside.setdefault(head, []).extend([] if directed else [tail])
    order = [start]
    while following := [node for node in beside.pop(order[-1], []) if node in beside]:
        order.append(following[0])
    return order


def shared_paths(
    graph: Graph,
    costs: Tensor,
    source: Tensor,
    target: Tensor,
    mask: Tensor | None,
    distances: bool,
    order: Tensor | None,
    reading: Reading,
) -> Paths:
    """The cheapest paths in one graph, by the compiled kernel, or in torch where it cannot serve.  # (B, E) -> Paths"""
    if usable(costs):
        return kernel.find(costs, graph.outgoing, graph.incoming, source, target, mask, distances, order, reading)
    edges = graph.edges.to(costs.device).expand(len(costs), -1, -1)
    return graph_sweeps.find(costs, edges, graph.nodes, graph.directed, source, target, mask, distances)
