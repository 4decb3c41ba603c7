"""DIMACS challenge formats: shortest paths (.gr, .co), maximum flow, flow of minimum cost, and assignment.

Lines start with a letter: `c` a comment, `p` the kind and the sizes of the problem, `n` a node, `a` an arc, `v` a place. Nodes
are numbered from 1 in the files, and from 0 in what is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..graph import Graph
from .text import File, Text


class ShortestPathProblem(NamedTuple):
    """A directed graph and the costs of its edges `(E,)`: `GraphShortestPath(problem.graph, source=0, target=9)`."""

    graph: Graph
    costs: Tensor


class MaxFlowProblem(NamedTuple):
    """A directed graph, the capacities of its edges `(E,)`, and the nodes where flow starts and ends."""

    graph: Graph
    capacities: Tensor
    source: int
    target: int


class MinCostFlowProblem(NamedTuple):
    """A directed graph; of its edges least flow, capacity and cost, each `(E,)`; what nodes supply (or, negative, demand)."""

    graph: Graph
    lower: Tensor
    capacities: Tensor
    costs: Tensor
    supply: Tensor


class AssignmentProblem(NamedTuple):
    """Costs `(n, m)`, infinite where there is no arc, and which nodes of the file the rows `(n,)` and columns `(m,)` are."""

    costs: Tensor
    rows: Tensor
    columns: Tensor


def read_dimacs_shortest_path(file: File) -> ShortestPathProblem:
    """The graph of a `.gr` file: `p sp NODES ARCS` and `a TAIL HEAD COST`."""
    lines = _Lines(file, "sp", 2)
    edges, (costs,) = lines.arcs(1)
    return ShortestPathProblem(Graph(edges, lines.nodes), costs)


def read_dimacs_coordinates(file: File) -> Tensor:
    """The places of the nodes in a `.co` file: `p aux sp co NODES` and `v NODE X Y`.  # -> (n, 2)"""
    lines = _Lines(file, "aux sp co", 1)
    places = torch.zeros(lines.nodes, 2, dtype=torch.int64)
    seen = torch.zeros(lines.nodes, dtype=torch.bool)
    for number, words in lines.of("v", 3):
        node = lines.node(number, words[0])
        seen[node] = True
        places[node] = torch.tensor([lines.text.integer(number, word, "a coordinate") for word in words[1:]])
    if not seen.all():
        lines.text.fail(lines.problem, f"node {int((~seen).nonzero()[0, 0]) + 1} has no place.")
    return places


def read_dimacs_max_flow(file: File) -> MaxFlowProblem:
    """The network of a `.max` file: `p max NODES ARCS`, `n NODE s` and `n NODE t`, `a TAIL HEAD CAPACITY`."""
    lines = _Lines(file, "max", 2)
    ends: dict[str, int] = {}
    for number, (node, role) in lines.of("n", 2):
        if role not in ("s", "t") or role in ends:
            lines.text.fail(number, f"the role of node {node} is {role!r}; expected one source `s` and one sink `t`.")
        ends[role] = lines.node(number, node)
    if len(ends) < 2:
        lines.text.fail(lines.problem, "there is no line `n NODE s` for the source, or none with `t` for the sink.")
    edges, (capacities,) = lines.arcs(1)
    return MaxFlowProblem(Graph(edges, lines.nodes), capacities, ends["s"], ends["t"])


def read_dimacs_min_cost_flow(file: File) -> MinCostFlowProblem:
    """The network of a `.min` file: `p min NODES ARCS`, `n NODE SUPPLY`, `a TAIL HEAD LOWER CAPACITY COST`."""
    lines = _Lines(file, "min", 2)
    supply = torch.zeros(lines.nodes, dtype=torch.int64)
    for number, (node, amount) in lines.of("n", 2):
        supply[lines.node(number, node)] = lines.text.integer(number, amount, "the supply")
    if supply.sum() != 0:
        lines.text.fail(lines.problem, f"supplies and demands add up to {int(supply.sum())}; flow is kept where that is 0.")
    edges, (lower, capacities, costs) = lines.arcs(3)
    return MinCostFlowProblem(Graph(edges, lines.nodes), lower, capacities, costs, supply)


def read_dimacs_assignment(file: File) -> AssignmentProblem:
    """The pairs of an `.asn` file: `p asn NODES ARCS`, `n NODE` for each row, `a ROW COLUMN COST`."""
    lines = _Lines(file, "asn", 2)
    is_row = torch.zeros(lines.nodes, dtype=torch.bool)
    for number, (node,) in lines.of("n", 1):
        is_row[lines.node(number, node)] = True
    edges, (costs,) = lines.arcs(1, lambda tail, head: bool(is_row[tail]) and not is_row[head])
    rows, columns = is_row.nonzero()[:, 0], (~is_row).nonzero()[:, 0]
    place = torch.zeros(lines.nodes, dtype=torch.int64)
    place[rows], place[columns] = torch.arange(len(rows)), torch.arange(len(columns))
    matrix = torch.full((len(rows), len(columns)), torch.inf, dtype=torch.float64)
    matrix[place[edges[0]], place[edges[1]]] = costs.double()
    return AssignmentProblem(matrix, rows, columns)


class _Lines:
    """The lines of a file by their first letter; the first that is no comment says `kind` and sizes."""

    def __init__(self, file: File, kind: str, sizes: int):
        self.text = Text(file)
        self.lines = [(number, line.split()) for number, line in self.text.numbered() if line.split()[0] != "c"]
        self.problem, words = self.lines[0] if self.lines else (1, [])
        expected = ["p", *kind.split()]
        if words[: len(expected)] != expected or len(words) != len(expected) + sizes:
            what = "NODES" if sizes == 1 else "NODES ARCS"
            self.text.fail(self.problem, f"the problem line is {' '.join(words)!r}; expected `p {kind} {what}`.")
        self.nodes, self.count = (self.text.integer(self.problem, word, "a size") for word in [*words[-sizes:], "0"][:2])
        if self.nodes < 1:
            self.text.fail(self.problem, f"there are {self.nodes} nodes; a graph has one at least.")
        letters = {"sp": "pa", "max": "pna", "min": "pna", "asn": "pna"}.get(kind, "pv")
        for number, words in self.lines:
            if words[0] not in letters:
                self.text.fail(number, f"a line starts with {words[0]!r}; expected one of c, {', '.join(letters)}.")

    def of(self, letter: str, count: int) -> list[tuple[int, list[str]]]:
        """The lines of a letter, with their words after it, of which there are `count`."""
        found = [(number, words[1:]) for number, words in self.lines if words[0] == letter]
        for number, words in found:
            if len(words) != count:
                self.text.fail(number, f"{len(words)} words after {letter!r}; expected {count}.")
        return found

    def node(self, number: int, word: str) -> int:
        """A node, numbered from 0."""
        node = self.text.integer(number, word, "a node")
        if not 1 <= node <= self.nodes:
            self.text.fail(number, f"node {node} is not one of 1 to {self.nodes}.")
        return node - 1

    def arcs(self, numbers: int, fits: Callable[[int, int], bool] | None = None) -> tuple[Tensor, Tensor]:
        """Tails and heads, and the numbers of each arc.  # -> (2, E), (numbers, E) int64"""
        found = self.of("a", 2 + numbers)
        if len(found) != self.count:
            self.text.fail(self.problem, f"{self.count} arcs are announced, but {len(found)} are there.")
        ends, values = [], []
        for number, words in found:
            tail, head = self.node(number, words[0]), self.node(number, words[1])
            if fits is not None and not fits(tail, head):
                self.text.fail(number, f"an arc goes from {tail + 1} to {head + 1}; it goes from a row (`n NODE`) to a column.")
            ends.append((tail, head))
            values.append([self.text.integer(number, word, "a number of an arc") for word in words[2:]])
        edges = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        return edges, torch.tensor(values, dtype=torch.int64).reshape(-1, numbers).T.contiguous()
