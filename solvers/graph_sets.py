"""Sets of nodes and cuts of a graph that are hard to find: each is a few lines on top of integer programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .constant import keep_constants
from .engines import CPSAT, Engine, Program
from .graph import MOST_NODES, Graph, check_graph
from .program_family import InvalidInstance, ProgramSolver, zero_one


@dataclass(frozen=True)
class GraphProgram(ProgramSolver):
    """Programs on a graph that all instances share, the field `graph`, or on edges of their own.

    Instance data: `mask`, in the shape of the scores, False for a node (in MaxCut an edge) that is not there; `edge_index`
    (B, 2, E), integers, if there is no shared graph; `edge_mask` (B, E), False for padding among them, where nodes have the
    scores. What `edge_index` says of padding does not matter.
    """

    graph: Graph | None = None
    engine: Engine = field(default_factory=CPSAT)
    time_limit: float | None = 60.0

    binary = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_graph(self, self.graph)

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        super().check(*scores, **instance)
        edges, there = instance.get("edge_index"), instance.get("edge_mask")
        if edges is not None and (edges.shape[1:-1] != (2,) or edges.is_floating_point() or edges.dtype == torch.bool):
            raise ValueError(
                f"{type(self).__name__}: `edge_index` is {edges.dtype} of shape {tuple(edges.shape)}; expected integers of "
                f"shape (B, 2, E), both ends of each edge."
            )
        if there is not None and (edges is None or there.dtype != torch.bool or there.shape != edges[:, 0].shape):
            raise ValueError(
                f"{type(self).__name__}: `edge_mask` is {there.dtype} of shape {tuple(there.shape)}; expected torch.bool of "
                f"shape (B, E), False for padding, beside an `edge_index` (B, 2, E)."
            )

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Solutions differ in every entry.  # (*S, B, n) -> (*S, B, n)"""
        return direction if mask is None else torch.where(mask, direction, 0)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The numbers of the entries that are 1.  # (B, n) -> B tensors"""
        return [one.nonzero()[:, 0] for one in y]

    def _ends(self, edge_index: np.ndarray | None, edge_mask: np.ndarray | None, nodes: int | None) -> np.ndarray:
        """The edges of one instance.  # (2, E)"""
        name = type(self).__name__
        if (self.graph is None) == (edge_index is None):
            problem = "no edges" if edge_index is None else "two sets of edges, `graph` and `edge_index`"
            raise ValueError(
                f"{name}: there are {problem}. Give the solver a `graph` that all instances share, or each call the "
                f"`edge_index` (B, 2, E) of its instances."
            )
        if edge_index is None:
            assert self.graph is not None
            ends, known = self.graph.edges.numpy(), self.graph.nodes
        else:
            ends = (edge_index if edge_mask is None else edge_index[:, edge_mask]).astype(np.int64)
            known = int(ends.max(initial=-1)) + 1
        if nodes is not None and self.graph is not None and known != nodes:
            raise ValueError(f"{name}: the scores are for {nodes} nodes, but the graph has {known}.")
        if ends.min(initial=0) < 0 or (nodes is not None and known > nodes):
            raise InvalidInstance(
                f"edges that name nodes from {ends.min()} to {ends.max()}, where nodes count from 0"
                + ("" if nodes is None else f" to {nodes - 1}")
            )
        if known > MOST_NODES:
            raise InvalidInstance(f"edges that name node {known - 1}, where a graph has {MOST_NODES} nodes at most")
        return ends


class NodeSet(GraphProgram):
    """Sets of nodes with a condition on the two ends of every edge."""

    _least: float = -np.inf
    _most: float = np.inf

    def _program(
        self,
        shape: tuple[int, ...],
        mask: np.ndarray | None = None,
        edge_index: np.ndarray | None = None,
        edge_mask: np.ndarray | None = None,
    ) -> Program:
        ends = self._ends(edge_index, edge_mask, shape[0])
        if mask is None and self.graph is not None:
            return _on_ends(self.graph, shape[0], self._least, self._most)
        there = np.ones(shape[0], dtype=bool) if mask is None else mask
        return zero_one(_ends_as_rows(ends[:, there[ends].all(0)], shape[0]), self._least, self._most, there)


def _ends_as_rows(ends: np.ndarray, nodes: int) -> Any:
    """A row for each edge, that counts its ends.  # (2, E) -> (E, nodes)"""
    from scipy.sparse import coo_array

    rows = np.tile(np.arange(ends.shape[1]), 2)
    return coo_array((np.ones(ends.size), (rows, ends.reshape(-1))), (ends.shape[1], nodes))


@lru_cache(maxsize=64)
def _on_ends(graph: Graph, nodes: int, least: float, most: float) -> Program:
    return zero_one(_ends_as_rows(graph.edges.numpy(), nodes), least, most)


@dataclass(frozen=True)
class MaxIndependentSet(NodeSet):
    """The set of nodes of greatest score of which no two are joined by an edge.

    Maximises `<scores, y>` over 0/1 vectors with `y_u + y_v <= 1` for each edge. Shapes: `(B, nodes) -> (B, nodes)`. A node
    with a loop is never taken. See GraphProgram for instance data, ProgramSolver for `engine`, `time_limit` and errors.

    >>> MaxIndependentSet(Graph([[0, 1], [1, 2]]))(torch.tensor([[2.0, 3.0, 2.0], [1.0, 3.0, 1.0]]))
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """

    sense = "max"
    hull = "independent sets"
    _most = 1.0


@dataclass(frozen=True)
class MinVertexCover(NodeSet):
    """The cheapest set of nodes that holds an end of every edge.

    Minimises `<scores, y>` over 0/1 vectors with `y_u + y_v >= 1` for each edge between nodes that are there. Shapes:
    `(B, nodes) -> (B, nodes)`. See GraphProgram for instance data, ProgramSolver for `engine`, `time_limit` and errors.

    >>> MinVertexCover(Graph([[0, 1], [1, 2]]))(torch.tensor([[1.0, 3.0, 1.0], [2.0, 3.0, 2.0]]))
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """

    sense = "min"
    hull = "vertex covers"
    _least = 1.0


@dataclass(frozen=True)
class MaxCut(GraphProgram):
    """The cut of greatest score: nodes on two sides, and the edges between them.

    Maximises `<scores, y>`, where y marks the edges that cross; scores may have any sign. Shapes: `(B, E) -> (B, E)`. The sides
    are auxiliary variables. See GraphProgram for instance data, of which `mask` (B, E) says which edges are padding,
    ProgramSolver for `engine`, `time_limit` and errors.

    >>> MaxCut(Graph([[0, 0, 1], [1, 2, 2]]))(torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, -3.0]]))
    tensor([[0., 1., 1.],
            [0., 0., 0.]])
    """

    sense = "max"
    hull = "cuts"

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        super().check(*scores, **instance)
        if "edge_mask" in instance:
            raise TypeError("MaxCut: there is no `edge_mask`; edges have the scores, so that `mask` (B, E) tells padding.")

    def _program(self, shape: tuple[int, ...], mask: np.ndarray | None = None, edge_index: np.ndarray | None = None) -> Program:
        if edge_index is None and mask is None and self.graph is not None:
            return _sides(self.graph, shape[0])
        if edge_index is not None and mask is not None and edge_index.shape[1:] == mask.shape:
            edge_index = np.where(mask, edge_index, 0)
        return _cut(self._ends(edge_index, None, None), shape[0], mask)


@lru_cache(maxsize=64)
def _sides(graph: Graph, size: int) -> Program:
    return _cut(graph.edges.numpy(), size)


def _cut(ends: np.ndarray, size: int, mask: np.ndarray | None = None) -> Program:
    """`y = |x_u - x_v|` for each edge, in four rows; node 0 is on side 0.  # (2, E)"""
    from scipy.sparse import csr_array, eye_array, hstack, vstack

    if ends.shape[1] != size:
        raise ValueError(f"MaxCut: the scores are for {size} edges, but the graph has {ends.shape[1]}.")
    ends = ends if mask is None else np.where(mask, ends, 0)  # a loop is never cut
    nodes = int(ends.max(initial=0)) + 1
    edge = np.arange(size)
    tail, head = (csr_array((np.ones(size), (edge, one)), (size, nodes)) for one in ends)
    taken = eye_array(size)
    either = hstack([taken, -tail - head]), hstack([taken, tail + head])
    other = hstack([-taken, tail - head]), hstack([-taken, head - tail])
    most = np.repeat([0.0, 2.0, 0.0, 0.0], size)
    upper = np.ones(size + nodes)
    upper[size] = 0.0
    return zero_one(vstack([*either, *other]), most=most, upper=upper)


@dataclass(frozen=True)
class SetCover(ProgramSolver):
    """The cheapest sets that together hold every element.

    Minimises `<scores, y>` over 0/1 vectors with `members y >= 1`. Shapes: `(B, sets) -> (B, sets)`.

    Args:
        members: what all instances share, `(elements, sets)`, 1 where a set holds an element.
        engine, time_limit: see ProgramSolver, also for errors.

    Instance data: `members` (B, elements, sets), in place of the field, where an element that no set holds is an error and a
    row of -1 is padding; `mask` (B, sets), False for a set that is not there.

    >>> SetCover(members=[[1, 1, 0], [0, 1, 1]])(torch.tensor([[1.0, 3.0, 1.0], [1.0, 1.5, 1.0]]))
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """

    members: Any = None
    engine: Engine = field(default_factory=CPSAT)
    time_limit: float | None = 60.0

    sense = "min"
    binary = True
    hull = "covers"

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_constants(self, "members")

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Covers differ in every set.  # (*S, B, n) -> (*S, B, n)"""
        return direction if mask is None else torch.where(mask, direction, 0)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The numbers of the sets.  # (B, n) -> B tensors"""
        return [one.nonzero()[:, 0] for one in y]

    def _program(self, shape: tuple[int, ...], members: np.ndarray | None = None, mask: np.ndarray | None = None) -> Program:
        if members is None and self.members is None:
            raise ValueError(
                "SetCover: no members. Give `members=` to the solver, if all instances share them, or to the call."
            )
        rows = self.members.array if members is None else members
        if rows.ndim != 2 or rows.shape[1] != shape[0]:
            raise ValueError(
                f"SetCover: members of one instance have shape {rows.shape}; expected a column for each of {shape[0]} sets."
            )
        if not np.isfinite(rows if members is not None else self.members.stored).all():
            raise InvalidInstance("NaN or an infinite number among its members, which are 0, 1, or -1 for padding")
        rows = rows if members is None else rows[(rows >= 0).all(1)]
        return zero_one(rows, least=1.0, upper=1.0 if mask is None else mask)
