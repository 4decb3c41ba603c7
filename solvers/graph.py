"""Graphs that all instances of a batch share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from solverlayers.arguments import whole
from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solver

if TYPE_CHECKING:
    import networkx

    from .kernels.graph_path import Arcs

MOST_NODES = 2**31 - 1
"""How many nodes a graph may have: kernels number them in 32 bits."""
_SHORT = 24
"""Edges that a repr spells out."""


@dataclass(init=False, frozen=True, eq=False, repr=False)
class Graph:
    """Nodes 0, ..., `nodes` - 1 and edges `(2, E)`, from `edges[0]` to `edges[1]`, or both ways if not `directed`.

    Parallel edges and loops are allowed. `edges` is a tensor, an array or nested lists; without `nodes` there are as many as
    the edges name. Graphs are constants: equal if they have the same nodes and edges in the same order, hashable, picklable.
    Raises ValueError for edges of another shape or to nodes that do not exist, TypeError if nodes are not integers.

    >>> Graph([[0, 0, 1], [1, 2, 2]])
    Graph([[0, 0, 1], [1, 2, 2]], nodes=3, directed=True)
    """

    edges: Tensor
    nodes: int
    directed: bool = True

    def __init__(self, edges: Any, nodes: int | None = None, directed: bool = True):
        try:
            index = torch.as_tensor(edges).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"Graph: edges are a {type(edges).__name__} that makes no tensor; expected integers (2, E), the tails and the "
                f"heads of the edges. {error}"
            ) from error
        if index.numel() == 0:
            index = index.long().reshape(2, 0)
        if index.ndim != 2 or len(index) != 2:
            raise ValueError(
                f"Graph: edges have shape {tuple(index.shape)}; expected (2, E), the tails and the heads of the edges. Use "
                f"`torch.as_tensor(pairs).T` for a list of pairs."
            )
        if index.is_floating_point() or index.dtype == torch.bool:
            raise TypeError(f"Graph: edges are {index.dtype}; nodes are integers. Use `edges.long()`.")
        index = index.long()
        known = int(index.max()) + 1 if index.numel() else 0
        nodes = known if nodes is None else whole("Graph", "nodes", nodes.item() if isinstance(nodes, Tensor) else nodes)
        if nodes < 1:
            raise ValueError("Graph: there is no node; a graph needs one at least. Give `nodes=`.")
        if known > nodes or (index < 0).any():
            raise ValueError(
                f"Graph: edges name nodes from {int(index.min())} to {known - 1}, but there are {nodes} nodes, numbered from 0."
            )
        if nodes > MOST_NODES:
            raise ValueError(f"Graph: there are {nodes} nodes; a graph has {MOST_NODES} at most. Number its nodes from 0 on.")
        object.__setattr__(self, "edges", index.clone(memory_format=torch.contiguous_format))
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "directed", bool(directed))

    @classmethod
    def from_networkx(cls, graph: networkx.Graph) -> Graph:
        """The graph with nodes numbered in the order of `graph.nodes` and edges in the order of `graph.edges`.

        >>> import networkx
        >>> Graph.from_networkx(networkx.path_graph(3))
        Graph([[0, 1], [1, 2]], nodes=3, directed=False)
        """
        number = {node: i for i, node in enumerate(graph.nodes)}
        pairs = [(number[edge[0]], number[edge[1]]) for edge in graph.edges]
        return cls(torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T, len(number), graph.is_directed())

    def __len__(self) -> int:
        """The number of edges."""
        return self.edges.shape[1]

    def __repr__(self) -> str:
        edges = self.edges.tolist() if len(self) <= _SHORT else f"<{len(self)} edges>"
        return f"Graph({edges}, nodes={self.nodes}, directed={self.directed})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        same = (self.nodes, self.directed) == (other.nodes, other.directed)
        return same and torch.equal(self.edges, other.edges)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.nodes, self.directed, self.edges.numpy().tobytes()))

    def __getstate__(self) -> dict[str, Any]:
        return {"edges": self.edges, "nodes": self.nodes, "directed": self.directed}  # what is cached is made again

    @cached_property
    def outgoing(self) -> Arcs:
        """The arcs out of each node."""
        return self._arcs(self.edges)

    @cached_property
    def incoming(self) -> Arcs:
        """The arcs into each node."""
        return self._arcs(self.edges.flip(0)) if self.directed else self.outgoing

    def _arcs(self, edges: Tensor) -> Arcs:
        """Arcs from `edges[0]` to `edges[1]`, and back if the graph is not directed, sorted by node and then edge."""
        number = torch.arange(len(self))
        if self.directed:
            here, other = edges
        else:
            here, other, number = edges.T.flatten(), edges.flip(0).T.flatten(), number.repeat_interleave(2)
        order = here.argsort(stable=True)
        start = torch.zeros(self.nodes + 1, dtype=torch.int64)
        start[1:] = here.bincount(minlength=self.nodes).cumsum(0)
        return start.int(), other[order].int(), number[order].int()


def check_graph(solver: object, graph: object) -> None:
    """Raises TypeError unless the field `graph` of a solver is a Graph or None."""
    if graph is not None and not isinstance(graph, Graph):
        raise TypeError(
            f"{type(solver).__name__}: graph is a {type(graph).__name__}; expected a Graph. Use `Graph(edge_index)` or "
            f"`Graph.from_networkx(graph)`."
        )


def check_edges(solver: Solver, graph: Graph | None, edge_index: Tensor | None, scores: Tensor, ends: str) -> None:
    """Refuses scores `(B, E)` that do not belong to the edges, of a shared graph or else of `edge_index` `(B, 2, E)`."""
    name = type(solver).__name__
    if (graph is None) == (edge_index is None):
        problem = "no edges" if edge_index is None else "two sets of edges, `graph` and `edge_index`"
        raise ValueError(
            f"{name}: there are {problem}. Give the solver a `graph` that all instances share, or each call the "
            f"`edge_index` (B, 2, E) of its instances."
        )
    count, size = scores.shape
    if graph is not None and size != len(graph):
        raise ValueError(f"{name}: the scores are for {size} edges, but the graph has {len(graph)}.")
    if edge_index is None:
        return
    if edge_index.shape != (count, 2, size) or edge_index.is_floating_point() or edge_index.dtype == torch.bool:
        raise ValueError(
            f"{name}: `edge_index` is {edge_index.dtype} of shape {tuple(edge_index.shape)}; expected integers of shape "
            f"{(count, 2, size)}, {ends} of each edge that has a score."
        )


def count_nodes(solver: Solver, edges: Tensor, mask: Tensor | None) -> int:
    """One more than the greatest node that edges `(B, 2, E)` in the mask name; refuses negative and enormous ones."""
    edges = edges if mask is None else edges.where(mask[:, None], 0)
    negative = (edges < 0).flatten(1).any(1)
    if negative.any():
        raise InfeasibleError(
            f"{type(solver).__name__}: `edge_index` of instance {first_instance(negative)} names negative nodes; nodes count "
            f"from 0. Use `mask` for edges that are padding.",
            negative,
        )
    nodes = int(edges.max()) + 1 if edges.numel() else 0
    if nodes > MOST_NODES:
        large = (edges >= MOST_NODES).flatten(1).any(1)
        raise InstanceError(
            f"{type(solver).__name__}: `edge_index` of instance {first_instance(large)} names node {nodes - 1}; a graph has "
            f"{MOST_NODES} nodes at most. Number the nodes of each instance from 0 on.",
            large,
        )
    return nodes


def check_nodes(solver: object, nodes: int | None, *names: str) -> None:
    """Raises ValueError or TypeError unless fields of a solver are None or nodes, of a graph with so many if it is known."""
    for name in names:
        if getattr(solver, name) is None:
            continue
        node = whole(type(solver).__name__, name, getattr(solver, name))
        object.__setattr__(solver, name, node)
        if node < 0 or node >= (MOST_NODES if nodes is None else nodes):
            size = "" if nodes is None else f" of {nodes} nodes"
            raise ValueError(f"{type(solver).__name__}: {name}={node} is not a node of a graph{size}; nodes count from 0.")


def nodes_of_instances(solver: Solver, name: str, given: Tensor | None, default: int | None, scores: Tensor) -> Tensor:
    """The node of each instance that is called `name`: those given, or else the one that all share.  # (B,)"""
    kind = type(solver).__name__
    if given is None:
        if default is None:
            raise ValueError(f"{kind}: no {name}. Give `{name}=` to the solver, or (B,) integers to the call.")
        return torch.full((len(scores),), default, device=scores.device)
    if given.shape != (len(scores),) or given.is_floating_point() or given.dtype == torch.bool:
        raise ValueError(
            f"{kind}: `{name}` is {given.dtype} of shape {tuple(given.shape)}; expected integers of shape "
            f"{(len(scores),)}, the node of each instance."
        )
    return given.long()


def count_with_ends(solver: Solver, nodes: int, *ends: Tensor) -> int:
    """How many nodes there are with the `ends (B,)` of instances, one at least; refuses too many (ValueError)."""
    nodes = max(1, nodes, *(int(end.max()) + 1 for end in ends if end.numel()))
    if nodes > MOST_NODES:
        raise ValueError(
            f"{type(solver).__name__}: an instance starts or ends at node {nodes - 1}; a graph has {MOST_NODES} nodes at most."
        )
    return nodes


def grid_graph(height: int, width: int, neighbours: int = 4, directed: bool = False) -> Graph:
    """The graph of a grid: node `row * width + column` for each cell, edges to the cells beside it (4, or 8 with diagonals).

    Edges are in the order of their first cell and then their second, both row-major. Not directed: one edge for each pair of
    cells, the first being the lower number. Directed: one edge each way.

    >>> grid_graph(2, 2).edges
    tensor([[0, 0, 1, 2],
            [1, 2, 3, 3]])
    """
    height, width = whole("grid_graph", "height", height), whole("grid_graph", "width", width)
    if height < 1 or width < 1:
        raise ValueError(f"grid_graph: a grid of {height} x {width} cells has no cell.")
    if neighbours not in (4, 8):
        raise ValueError(f"grid_graph: neighbours={neighbours!r}; use 4, or 8 for edges between diagonal cells.")
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0) and (neighbours == 8 or i * j == 0)]
    cell = torch.arange(height * width)
    row, column = cell // width, cell % width
    columns = []
    for i, j in steps if directed else [step for step in steps if step > (0, 0)]:
        inside = (row + i >= 0) & (row + i < height) & (column + j >= 0) & (column + j < width)
        columns.append(torch.stack([cell, torch.where(inside, cell + i * width + j, -1)]))
    edges = torch.stack(columns, 2).flatten(1)
    return Graph(edges[:, edges[1] >= 0], height * width, directed)
