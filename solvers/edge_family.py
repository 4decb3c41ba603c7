"""What problems with scores on the edges of a graph share."""

from __future__ import annotations

from torch import Tensor

from solverlayers.solver import Solver

from .common import check_mask
from .graph import Graph, check_edges, check_graph, count_nodes


class EdgeSolver(Solver):
    """Scores and solutions `(B, E)` on the edges of a graph that all instances share, or of `edge_index (B, 2, E)`.

    Nodes of an instance with edges of its own are those that its edges in the mask name. Subclasses have a field `graph`.
    """

    binary = True
    graph: Graph | None

    def __post_init__(self) -> None:
        check_graph(self, self.graph)

    def _edges(self, scores: Tensor, edge_index: Tensor | None, mask: Tensor | None) -> tuple[Tensor, int]:
        """The edges `(2, E)` or `(B, 2, E)` on the device of the scores, and how many nodes there are at most."""
        check_mask(self, scores, mask)
        check_edges(self, self.graph, edge_index, scores, "both ends")
        if edge_index is None:
            assert self.graph is not None
            edges = self.graph.edges
            return edges if scores.is_cpu else edges.to(scores.device), self.graph.nodes
        edges = edge_index.long()
        return edges, count_nodes(self, edges, mask)

    def decode(self, y: Tensor, edge_index: Tensor | None = None, **instance: Tensor) -> list[Tensor]:
        """The edges that each solution takes, as pairs of nodes.  # (B, E) -> B tensors (2, number)"""
        edges, _ = self._edges(y, edge_index, instance.get("mask"))
        edges = edges if edges.ndim == 3 else edges.expand(len(y), 2, -1)
        return [pairs[:, chosen] for pairs, chosen in zip(edges, y != 0)]
