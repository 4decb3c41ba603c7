"""Graph matching: correspondences between the vertices of two graphs that suit their edges, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solverlayers.errors import InstanceError, first_instance
from solverlayers.solver import Solution, inner

from .assignment import CompleteAssignment
from .kernels.graph_matching import Problem
from .searched_matching import SearchedMatching, indicator


@dataclass(frozen=True)
class GraphMatching(SearchedMatching):
    """Matching of the vertices of two graphs of greatest score, with scores for pairs of vertices and for pairs of edges.

    Maximises `<vertices, y> + <edges, z>` with `z_ab = y_ik y_jl` for edges `a = (i, j)` of the first graph and `b = (k, l)`
    of the second: `vertices (B, n, m)` and `edges (B, E1, E2)` are two score tensors, and a solution is the tuple `(y, z)` in
    their shapes, so that gradients reach both. `edge_index1 (B, 2, E1)` and `edge_index2 (B, 2, E2)` list directed edges as
    PyTorch Geometric does, negative numbers for padding. With all edges of complete graphs this is Lawler's quadratic
    assignment. Known as the solver of deep graph matching (Rolínek et al., ECCV 2020).

    All vertices of the smaller graph are matched, or, with `partial`, those for which it pays: outliers stay alone, at a score
    of 0. `mask (B, n, m)` is False for pairs of vertices that may not be matched; a vertex without any allowed pair is padding.
    The other fields are those of QuadraticAssignment.

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

    sense = "max"
    _quadratic = "scores of edges"

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Good matchings.  # (B, n, m), (B, E1, E2), (B, 2, E1), (B, 2, E2), (B, n, m) -> (B, n, m), (B, E1, E2)"""
        problem = self._problem(vertices, edges, edge_index1, edge_index2, mask)
        return self._solution(self._search(problem).partners, vertices, edges, edge_index1, edge_index2)

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """Good matchings with a proved bound, as QuadraticAssignment; `solution` is the tuple."""
        y: Any = self(*scores, **instance)
        return self._info(y, self._problem(*scores, **instance), self.partners(y[0]), self._objective(scores, y))

    def tangent(self, *directions: Tensor, mask: Tensor | None = None, **instance: Tensor) -> tuple[Tensor, Tensor]:
        """Of vertices as for an assignment; of edges all.  # (*S, B, n, m), (*S, B, E1, E2) -> the same"""
        vertices, edges = directions
        if self.partial:
            return (vertices if mask is None else torch.where(mask, vertices, 0)), edges
        return CompleteAssignment.tangent(self, vertices, mask=mask), edges  # type: ignore[arg-type]

    def decode(self, y: Tensor | tuple[Tensor, ...], **instance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Vertex numbers of the pairs of each instance; `y` is the tuple of a solution or its first part."""
        return super().decode(y if isinstance(y, Tensor) else y[0])

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses anything but two score tensors and edges that fit them."""
        shapes = [tuple(part.shape) for part in scores]
        if len(shapes) != 2 or len(shapes[0]) != 3 or len(shapes[1]) != 3 or shapes[0][0] != shapes[1][0]:
            raise ValueError(
                f"{type(self).__name__}: the scores have shapes {', '.join(map(str, shapes))}; expected two tensors: scores of "
                f"pairs of vertices (B, n, m) and of pairs of edges (B, E1, E2)."
            )
        super().check(*scores, **instance)

    def _solution(
        self, partners: Tensor, vertices: Tensor, edges: Tensor, edge_index1: Tensor, edge_index2: Tensor
    ) -> tuple[Tensor, Tensor]:
        return indicator(partners, vertices), _matched_edges(partners, edge_index1, edge_index2).to(edges.dtype)

    def _objective(self, scores: tuple[Tensor, ...], y: tuple[Tensor, ...]) -> Tensor:
        return inner(scores[0].double(), y[0].double(), 2) + inner(scores[1].double(), y[1].double(), 2)

    def _problem(
        self, vertices: Tensor, edges: Tensor, edge_index1: Tensor, edge_index2: Tensor, mask: Tensor | None = None
    ) -> Problem:
        self._checked(vertices, mask)
        self._check_edges("edge_index1", edge_index1, edges.shape[1], vertices.shape[1])
        self._check_edges("edge_index2", edge_index2, edges.shape[2], vertices.shape[2])
        return Problem(
            vertices.double(),
            mask,
            edges1=edge_index1,
            edges2=edge_index2,
            pairs=edges.double(),
            maximize=True,
            partial=self.partial,
        )

    def _check_edges(self, name: str, index: Tensor, count: int, vertices: int) -> None:
        this = type(self).__name__
        if index.dtype != torch.int64:
            raise TypeError(f"{this}: `{name}` is {index.dtype}; vertex numbers are torch.int64. Use `{name}.long()`.")
        if index.ndim != 3 or index.shape[1:] != (2, count):
            raise ValueError(
                f"{this}: `{name}` has shape {tuple(index.shape)}; the scores of edges need {(len(index), 2, count)}: sources "
                f"and targets of {count} edges of each instance."
            )
        wrong = (index >= vertices).flatten(1).any(1)
        if wrong.any():
            raise InstanceError(
                f"{this}: instance {first_instance(wrong)} has an edge at vertex {int(index[wrong].max())} in `{name}`, but "
                f"the scores have {vertices} vertices, numbered from 0 ({int(wrong.sum())} of {len(wrong)} instances). "
                f"Negative numbers mark padding.",
                wrong,
            )


@dataclass(frozen=True)
class ExactGraphMatching(GraphMatching):
    """GraphMatching with a proof, by branch and bound from the matching that the search finds; for about 12 vertices.

    Raises as ExactQuadraticAssignment does; `partial` counts the vertices of both graphs.

    >>> index = torch.combinations(torch.arange(6)).T.expand(3, 2, 15)
    >>> solver = ExactGraphMatching()
    >>> solver.solve_with_info(torch.rand(3, 6, 6), torch.rand(3, 15, 15), edge_index1=index, edge_index2=index).optimal
    tensor([True, True, True])
    """

    nodes: int = 100_000  # type: ignore[misc]

    exact = True

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Optimal matchings.  # (B, n, m), (B, E1, E2), (B, 2, E1), (B, 2, E2), (B, n, m) -> (B, n, m), (B, E1, E2)"""
        found = self._proved(self._problem(vertices, edges, edge_index1, edge_index2, mask), self.nodes)
        y = self._solution(found.partners, vertices, edges, edge_index1, edge_index2)
        if found.status is not None:
            self._time_out(found.status, torch.cat([part.flatten(1) for part in y], 1))
        return y

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """Optimal matchings; `solution` is the tuple."""
        y: Any = self(*scores, **instance)
        objective = self._objective(scores, y)
        return Solution(y, objective, torch.ones_like(objective, dtype=torch.bool), objective)


def _matched_edges(partners: Tensor, edge_index1: Tensor, edge_index2: Tensor) -> Tensor:
    """Which edges go to which when vertices go to their partners.  # (B, n), (B, 2, E1), (B, 2, E2) -> (B, E1, E2)"""
    padded = torch.nn.functional.pad(partners, (0, 1), value=-1)  # where padding goes
    ends = torch.where(edge_index1 < 0, partners.shape[1], edge_index1)
    images = padded.gather(1, ends.flatten(1)).view_as(ends)
    same = (images.unsqueeze(3) == edge_index2.unsqueeze(2)) & (images >= 0).unsqueeze(3)
    return same.all(1)
