"""Graph matching in the form of Lawler: scores for pairs of vertices and for pairs of edges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from solverlayers.errors import InstanceError, first_instance
from solverlayers.solver import Solution, inner

from .common import shapes_of
from .kernels.graph_matching import Problem
from .matching_messages import message_bound
from .searched_matching import QuadraticMatching, indicator


class LawlerMatching(QuadraticMatching):
    """Matchings of the vertices of two graphs that maximise `<vertices, y> + <edges, z>`, with `z_ab = y_ik y_jl`.

    `a = (i, j)` is an edge of the first graph and `b = (k, l)` of the second: `vertices (B, n, m)` and `edges (B, E1, E2)` are
    two score tensors, and a solution is the tuple `(y, z)` in their shapes, so that gradients reach both. `edge_index1
    (B, 2, E1)` and `edge_index2 (B, 2, E2)` list directed edges as PyTorch Geometric does, negative numbers for padding.
    `mask (B, n, m)` is False for pairs of vertices that may not be matched; a vertex without any allowed pair is padding.

    All vertices of the smaller graph are matched, or, with `partial`, those for which it pays.
    """

    sense = "max"
    _quadratic = "scores of edges"

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """The matchings with a proved bound, the better of dual ascent and messages; `solution` is the tuple."""
        y: Any = self(*scores, **instance)
        instance.pop("warm_start", None)
        size = self._objective(tuple(part.double().abs() for part in scores), y)
        return self._info(y, self._problem(*scores, **instance), self.partners(y[0]), self._objective(scores, y), size)

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        """Of pairs of edges, those that are not padding and whose ends may be matched."""
        vertices = super().support(*shapes, **instance)[0]
        edges = [instance[name] for name in ("edge_index1", "edge_index2") if name in instance]
        if [len(shape) for shape in shapes] != [2, 2] or [e.shape[1:] for e in edges] != [(2, count) for count in shapes[1]]:
            return vertices, None  # which `solve` refuses
        first, second = (torch.where(e < 0, size, e.clamp_max(size)).long() for e, size in zip(edges, shapes[0]))
        allowed = first.new_ones(len(first), *shapes[0], dtype=torch.bool) if vertices is None else vertices
        padded = torch.nn.functional.pad(allowed, (0, 1, 0, 1))  # where padding goes
        at = first.unsqueeze(3) * padded.shape[2] + second.unsqueeze(2)
        return vertices, padded.flatten(1).gather(1, at.flatten(1)).view_as(at).all(1)

    def tangent(self, *directions: Tensor, mask: Tensor | None = None, **instance: Tensor) -> tuple[Tensor, Tensor]:
        """Of vertices as for an assignment; of edges all.  # (*S, B, n, m), (*S, B, E1, E2) -> the same"""
        vertices, edges = directions
        return self._tangent(vertices, mask), edges

    def decode(self, y: Tensor | tuple[Tensor, ...], **instance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Vertex numbers of the pairs of each instance; `y` is the tuple of a solution or its first part."""
        return super().decode(y if isinstance(y, Tensor) else y[0])

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses anything but two score tensors and edges that fit them."""
        shapes = shapes_of(self, scores)
        if len(shapes) != 2 or len(shapes[0]) != 3 or len(shapes[1]) != 3 or shapes[0][0] != shapes[1][0]:
            raise ValueError(
                f"{type(self).__name__}: the scores have shapes {', '.join(map(str, shapes))}; expected two tensors: scores of "
                f"pairs of vertices (B, n, m) and of pairs of edges (B, E1, E2)."
            )
        super().check(*scores, **instance)

    def _solution(
        self, partners: Tensor, vertices: Tensor, edges: Tensor, edge_index1: Tensor, edge_index2: Tensor
    ) -> tuple[Tensor, Tensor]:
        matched = _matched_edges(partners, edge_index1, edge_index2, vertices.shape[2])
        return indicator(partners, vertices), matched.to(edges.dtype)

    def _objective(self, scores: tuple[Tensor, ...], y: tuple[Tensor, ...]) -> Tensor:
        return inner(scores[0].double(), y[0].double(), 2) + inner(scores[1].double(), y[1].double(), 2)

    def _bound(self, problem: Problem, partners: Tensor) -> Tensor:
        best = torch.fmin if problem.maximize else torch.fmax  # dual ascent has no bound (NaN) for large graphs without kernels
        return best(super()._bound(problem, partners), message_bound(problem))

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


def _matched_edges(partners: Tensor, edge_index1: Tensor, edge_index2: Tensor, count: int) -> Tensor:
    """Which edges go to which when vertices go to their partners, of which there are `count`.

    Shapes: (B, n), (B, 2, E1), (B, 2, E2) -> (B, E1, E2)
    """
    padded = torch.nn.functional.pad(partners, (0, 1), value=-1)  # where padding goes
    ends = torch.where(edge_index1 < 0, partners.shape[1], edge_index1)
    images = padded.gather(1, ends.flatten(1)).view_as(ends)
    return _one_number(images, count, -1).unsqueeze(2) == _one_number(edge_index2, count, -2).unsqueeze(1)


def _one_number(edges: Tensor, count: int, padding: int) -> Tensor:
    """Edges as numbers, those with an end of less than 0 as `padding`.  # (B, 2, E) -> (B, E)"""
    return torch.where((edges < 0).any(1), padding, edges[:, 0] * count + edges[:, 1])
