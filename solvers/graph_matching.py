"""Graph matching: correspondences between the vertices of two graphs that suit their edges, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.solver import Sense, Solution, packed

from .lawler_matching import LawlerMatching
from .searched_matching import SearchedMatching


@dataclass(frozen=True)
class GraphMatching(SearchedMatching, LawlerMatching):
    """Matching of the vertices of two graphs of greatest score, with scores for pairs of vertices and for pairs of edges.

    Maximises `<vertices, y> + <edges, z>` with `z_ab = y_ik y_jl` for edges `a = (i, j)` of the first graph and `b = (k, l)`
    of the second: `vertices (B, n, m)` and `edges (B, E1, E2)` are two score tensors, and a solution is the tuple `(y, z)` in
    their shapes, so that gradients reach both. `edge_index1 (B, 2, E1)` and `edge_index2 (B, 2, E2)` list directed edges as
    PyTorch Geometric does, negative numbers for padding. With all edges of complete graphs this is Lawler's quadratic
    assignment. Known as the solver of deep graph matching (Rolínek et al., ECCV 2020).

    All vertices of the smaller graph are matched, or, with `partial`, those for which it pays: outliers stay alone, at a score
    of 0. `mask (B, n, m)` is False for pairs of vertices that may not be matched; a vertex without any allowed pair is padding.
    `warm_start (B, n, m)` and the other fields are those of QuadraticAssignment.

    >>> path = torch.tensor([[[0, 1], [1, 2]]])  # 0 -> 1 -> 2
    >>> back = torch.tensor([[[2, 1], [1, 0]]])
    >>> y, z = GraphMatching()(torch.zeros(1, 3, 3), torch.ones(1, 2, 2), edge_index1=path, edge_index2=back)
    >>> GraphMatching().partners(y), z
    (tensor([[2, 1, 0]]), tensor([[[1., 0.],
             [0., 1.]]]))

    Sources: as QuadraticAssignment; M. Leordeanu, M. Hebert, R. Sukthankar, "An integer projected fixed point method for graph
    matching and MAP inference", NIPS 2009.
    """

    partial: bool = False
    restarts: int = 8
    iterations: int = 30
    exchanges: int = 100
    seed: int = 0

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Good matchings.  # (B, n, m), (B, E1, E2), (B, 2, E1), (B, 2, E2), (B, n, m), (B, n, m) -> (B, n, m), (B, E1, E2)"""
        problem = self._problem(vertices, edges, edge_index1, edge_index2, mask)
        return self._solution(self._search(problem, warm_start).partners, vertices, edges, edge_index1, edge_index2)


@dataclass(frozen=True)
class ExactGraphMatching(GraphMatching):
    """GraphMatching with a proof, by branch and bound from the matching that the search finds; for about 12 vertices.

    Raises and starts as ExactQuadraticAssignment does; `partial` counts the vertices of both graphs.

    >>> index = torch.combinations(torch.arange(6)).T.expand(3, 2, 15)
    >>> solver = ExactGraphMatching()
    >>> solver.solve_with_info(torch.rand(3, 6, 6), torch.rand(3, 15, 15), edge_index1=index, edge_index2=index).optimal
    tensor([True, True, True])
    """

    nodes: int = 100_000  # type: ignore[misc]

    exact = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, nodes=0)

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Optimal matchings; data and solutions as those of GraphMatching."""
        problem = self._problem(vertices, edges, edge_index1, edge_index2, mask)
        found = self._proved(problem, (vertices, edges), self.nodes, warm_start)
        y = self._solution(found.partners, vertices, edges, edge_index1, edge_index2)
        if found.status is not None:
            self._time_out(found.status, packed(y))
        return y

    def optimise_with_start(self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor) -> tuple[Any, Tensor | None]:
        """What `optimise` returns, and the scores with it as a start.  # -> (B, n, m), (B, E1, E2) and (B, 2, n m + E1 E2)"""
        y: Any = self.optimise(*scores, sense=sense, **instance)
        return y, self._start(scores, sense, y)

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """Optimal matchings; `solution` is the tuple."""
        y: Any = self(*scores, **instance)
        objective = self._objective(scores, y)
        return Solution(y, objective, torch.ones_like(objective, dtype=torch.bool), objective)
