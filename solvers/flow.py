"""Flows of least cost through graphs with capacities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from solverlayers.solver import Solution

from .common import in_type_of
from .constant import keep_constants
from .cost_flow import CostFlow, circulation
from .flow_family import batched, real_edges
from .graph import Graph


@dataclass(frozen=True)
class MinCostFlow(CostFlow):
    """The cheapest flow that carries all supplies to the demands, within the capacities of the edges.

    Minimises `<scores, y>` over `0 <= y <= capacity` with `outflow - inflow = supply` at each node; scores are the costs of a
    unit of flow, of any sign. Edges are one-way. Shapes: `(B, E) -> (B, E)`.

    Args:
        graph: the graph that all instances share; None if each has its own.
        capacity: what all instances share: a number for each edge; infinite for no limit.
        supply: what all instances share: a number for each node, negative for a demand; they sum to zero.

    Instance data: `capacity` (B, E) and `supply` (B, nodes), in place of the fields; `mask` (B, E), False for an edge that is
    not there, or padding; `edge_index` (B, 2, E), integers, if there is no shared graph. Raises InfeasibleError, naming the
    instance, where supplies do not sum to zero or cannot reach the demands, InstanceError for a negative capacity and for a
    cycle of negative cost and infinite capacity.

    >>> solver = MinCostFlow(Graph([[0, 0, 1], [1, 2, 2]]), capacity=[2, 1, 2], supply=[2, 0, -2])
    >>> solver(torch.tensor([[1.0, 3.0, 1.0], [1.0, 1.0, 1.0]]))
    tensor([[2., 0., 2.],
            [1., 1., 1.]])
    """

    graph: Graph | None = None
    capacity: Any = None
    supply: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_constants(self, "capacity", "supply")
        if self.graph is not None and not self.graph.directed:
            raise ValueError("MinCostFlow: the graph is not directed. Give it an edge each way.")

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The flows.  # (B, E) -> (B, E)"""
        return in_type_of(self, self._solved(*self._arguments(scores, **instance)), scores)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The flows, with potentials that prove them."""
        self.check(scores, **instance)
        found = self._flows(*self._arguments(scores, **instance))
        return self._info(scores, in_type_of(self, found.y, scores), found)

    def tangent(
        self, direction: Tensor, mask: Tensor | None = None, edge_index: Tensor | None = None, **instance: Tensor
    ) -> Tensor:
        """The part of `direction` that is a circulation.  # (*S, B, E) -> (*S, B, E)"""
        like = direction.reshape(-1, *direction.shape[-2:])[0] if direction.ndim > 2 else direction
        edges, nodes = self._edges(like, edge_index, mask)
        return circulation(direction, batched(real_edges(self.graph, edges, mask), direction.shape[-2]), nodes, mask)

    def _arguments(
        self,
        scores: Tensor,
        capacity: Tensor | None = None,
        supply: Tensor | None = None,
        mask: Tensor | None = None,
        edge_index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        edges, nodes = self._edges(scores, edge_index, mask)
        room, given = self._each("capacity", capacity, scores), self._each("supply", supply, scores)
        few = given.ndim != 2 or given.shape[1] < nodes or (self.graph is not None and given.shape[1] > nodes)
        if room.shape != scores.shape or few:
            raise ValueError(
                f"MinCostFlow: `capacity` has shape {tuple(room.shape)} and `supply` {tuple(given.shape)}; expected "
                f"{tuple(scores.shape)}, a number for each edge, and {(len(scores), nodes)}, one for each node (as fields: "
                f"without the first {len(scores)})."
            )
        return scores, mask, room, given, real_edges(self.graph, edges, mask)
