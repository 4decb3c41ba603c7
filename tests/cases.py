"""One row per solver and per rule. A new solver or rule gets the whole contract from its row.

A solver's row: how to build it small, the shape of its scores, its instance data, and all its solutions by brute force.
A rule's row: how to build it for a solver's row, and for which solvers it has a meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, pairwise, permutations, product
from typing import Any

import torch
from torch import Tensor

from solverlayers.noise import Gumbel, TwoPointMargin
from solverlayers.relaxations import Softmax
from solverlayers.rules import (
    AIMLE,
    DAB,
    IMLE,
    LPGD,
    Blackbox,
    CategoricalStraightThrough,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    Identity,
    Perturbed,
    Regularized,
    ReinMax,
    Rule,
    StraightThrough,
)
from solverlayers.solver import Solver
from solverlayers.solvers.arborescence import Arborescence, DenseArborescence, MaxArborescence, MaxDenseArborescence
from solverlayers.solvers.assignment import Assignment, GatedAssignment, MaxAssignment
from solverlayers.solvers.clustering import KMedoids
from solverlayers.solvers.cuts import MaxFlow, MinCut
from solverlayers.solvers.dense_matching import DenseMaxWeightMatching, DensePerfectMatching
from solverlayers.solvers.dynamic_programs import DTW, Viterbi
from solverlayers.solvers.edit_distance import EditDistance
from solverlayers.solvers.elementwise import HardFunction, Round, Sign, Threshold
from solverlayers.solvers.engines import CPSAT
from solverlayers.solvers.flow import MinCostFlow
from solverlayers.solvers.graph_sets import MaxCut, MaxIndependentSet, MinVertexCover, SetCover
from solverlayers.solvers.integer_program import IntegerProgram
from solverlayers.solvers.knapsack import BoundedKnapsack, Knapsack
from solverlayers.solvers.linear_program import LinearProgram
from solverlayers.solvers.longest_path import LongestPath
from solverlayers.solvers.matching import MaxCardinalityMatching, MaxWeightMatching, PerfectMatching
from solverlayers.solvers.multi_graph_matching import MultiGraphMatching
from solverlayers.solvers.ordering import LinearOrdering, Scheduling
from solverlayers.solvers.quadratic_assignment import ExactQuadraticAssignment, QuadraticAssignment
from solverlayers.solvers.segmentation import LabelledSegmentation, Segmentation
from solverlayers.solvers.selection import Argmax, TopK
from solverlayers.solvers.shortest_path import Graph, GraphShortestPath, GridEdgeShortestPath, GridShortestPath, grid_graph
from solverlayers.solvers.sorting import Permutation, Ranking, Sort
from solverlayers.solvers.spanning_tree import DenseSpanningTree, MaxDenseSpanningTree, MaxSpanningTree, SpanningTree
from solverlayers.solvers.transport import Transport
from solverlayers.solvers.tsp import TSP, TourSearch
from solverlayers.solvers.vehicle_routing import ExactVehicleRouting, VehicleRouting
from solverlayers.solvers.wrappers import Async, Cached, Parallel, Timed
from solverlayers.testing import pad_at_end


@dataclass(frozen=True)
class SolverCase:
    solver: Solver
    shape: tuple[int, ...]
    vertices: Tensor | Callable[..., Tensor] | None = None
    instance: Callable[[int], dict[str, Tensor]] | None = None
    options: dict[str, Any] = field(default_factory=dict)  # more arguments of `check_solver`
    output_shape: tuple[int, ...] | None = None
    native: bool = False  # plain torch on every path: compiles without a graph break
    by_sign: bool = False  # the solution depends on the signs of the scores alone
    slow: bool = False  # takes a millisecond for each instance, as other packages do, so that one rule of each kind has to do
    alike: bool = True  # all entries play the same part, so that a network that treats them alike can imitate the solver

    def build(self, batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores that want a gradient, and instance data."""
        scores = torch.randn(batch, *self.shape, dtype=dtype)
        scores = scores if torch.equal(self.solver.clip(scores), scores) else scores.abs()
        return scores.requires_grad_(), self.instance(batch) if self.instance else {}


@dataclass(frozen=True)
class RuleCase:
    build: Callable[[SolverCase], Rule]
    applies: Callable[[SolverCase], bool] = lambda case: True
    useful: Callable[[SolverCase], bool] = lambda case: True  # not refused, yet without hope where it is False
    positive: bool = False  # meant for scores of one sign
    skip: tuple[str, ...] = ()  # laws of `check_rule` that do not hold by design


def one_of(n: int, values: tuple[float, ...]) -> Tensor:
    """All vectors with entries from `values`.  # -> (V, n)"""
    return torch.tensor(list(product(values, repeat=n)))


def subsets(n: int, k: Tensor | int, mask: Tensor | None = None) -> Tensor:
    """Indicators of all k-subsets of the entries in the mask.  # -> (V, n)"""
    entries = range(n) if mask is None else mask.nonzero()[:, 0].tolist()
    return torch.stack([torch.eye(n)[list(chosen)].sum(0) for chosen in combinations(entries, int(k))])


def rank_vectors(n: int, mask: Tensor | None = None) -> Tensor:
    """All rankings 1, 2, ... of the entries in the mask.  # -> (V, n)"""
    mask = torch.ones(n, dtype=torch.bool) if mask is None else mask
    orders = torch.tensor(list(permutations(range(1, int(mask.sum()) + 1))), dtype=torch.float32)
    out = torch.zeros(len(orders), n)
    out[:, mask] = orders
    return out


def matchings(n: int, m: int, mask: Tensor | None = None, partial: bool = False) -> Tensor:
    """All matchings along allowed pairs; unless `partial`, those that leave out as few as possible.  # -> (V, n, m)"""
    mask = torch.ones(n, m, dtype=torch.bool) if mask is None else mask
    found = []
    for columns in product(range(-1, m), repeat=n):
        taken = [c for c in columns if c >= 0]
        if len(taken) == len(set(taken)) and all(c < 0 or mask[r, c] for r, c in enumerate(columns)):
            y = torch.zeros(n, m)
            for row, column in enumerate(columns):
                if column >= 0:
                    y[row, column] = 1
            found.append(y)
    every = torch.stack(found)
    size = min(int(mask.any(1).sum()), int(mask.any(0).sum()))
    return every if partial else every[every.sum((1, 2)) == size]


def consistent_matchings(mask: Tensor) -> Tensor:
    """All `X_a X_b^T`, the graphs' vertices at as many points as the largest has.  # (N, N, n, n) -> (V, N, N, n, n)"""
    real = mask.diagonal().diagonal()
    points = int(real.sum(1).max())
    each = [matchings(real.shape[1], points, of_graph[:, None].expand(-1, points)) for of_graph in real]
    every = [torch.stack(x) for x in product(*each)]
    return torch.stack([torch.einsum("aip,bjp->abij", x, x) for x in every]).unique(dim=0)


def graphs_of_some_vertices(batch: int) -> dict[str, Tensor]:
    """Three graphs of two vertices, of which each lacks one in some instance."""
    real = torch.ones(batch, 3, 2, dtype=torch.bool)
    for b in range(batch):
        real[b, b % 3, b % 2] = b % 4 == 0
    return {"mask": real[:, :, None, :, None] & real[:, None, :, None, :]}


def grid_paths(mask: Tensor, source: Tensor, target: Tensor, neighbours: int = 8) -> Tensor:
    """The cells of all paths that visit none twice.  # -> (V, H, W)"""
    height, width = mask.shape
    steps = [(i, j) for i, j in product((-1, 0, 1), repeat=2) if (i, j) != (0, 0) and (neighbours == 8 or i * j == 0)]

    def walk(cell, seen):
        if cell == tuple(target.tolist()):
            yield seen
            return
        for i, j in steps:
            beside = (cell[0] + i, cell[1] + j)
            if 0 <= beside[0] < height and 0 <= beside[1] < width and mask[beside] and beside not in seen:
                yield from walk(beside, [*seen, beside])

    start = tuple(source.tolist())
    paths = torch.zeros(0, height, width)
    for path in walk(start, [start]):
        y = torch.zeros(1, height, width)
        y[0][tuple(torch.tensor(path).T)] = 1
        paths = torch.cat([paths, y])
    return paths


def edge_paths(edge_index: Tensor, source: Tensor, target: Tensor, mask: Tensor, directed: bool = False) -> Tensor:
    """The edges of all paths that visit no node twice.  # -> (V, E)"""
    edges = edge_index.T.tolist()

    def walk(node, seen, used):
        if node == int(target):
            yield used
            return
        for e, (tail, head) in enumerate(edges):
            for a, b in ((tail, head),) if directed else ((tail, head), (head, tail)):
                if mask[e] and a == node and b not in seen:
                    yield from walk(b, [*seen, b], [*used, e])

    paths = list(walk(int(source), [int(source)], []))
    y = torch.zeros(len(paths), len(edges))
    for row, used in zip(y, paths):
        row[used] = 1
    return y


DIAMOND = torch.tensor([[0, 0, 1, 2, 1], [1, 2, 3, 3, 2]])


def own_graphs(batch: int) -> dict[str, Tensor]:
    """A ring with chords for every instance, one edge of each other instance taken away."""
    ring = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [1, 2, 3, 4, 0, 2, 3]])
    mask = torch.ones(batch, 7, dtype=torch.bool)
    mask[::2, 1] = False
    nodes = torch.arange(batch)
    return {
        "edge_index": (ring + nodes[:, None, None]) % 5,
        "mask": mask,
        "source": nodes % 5,
        "target": (3 * nodes + 1) % 5,
    }


def trips(n: int, mask: Tensor | None = None, directed: bool = False) -> Tensor:
    """All round trips through the cities of the mask, along allowed steps.  # -> (V, n, n)"""
    mask = torch.ones(n, n, dtype=torch.bool) if mask is None else mask
    first, *others = (mask.any(0) | mask.any(1)).nonzero()[:, 0].tolist()
    found = []
    for rest in permutations(others):
        y = torch.zeros(n, n)
        y[[first, *rest], [*rest, first]] = 1
        y.fill_diagonal_(0)
        y = y if directed else y.maximum(y.T)
        if (mask | (y == 0)).all():
            found.append(y)
    return torch.stack(found).unique(dim=0)


def towns(batch: int) -> dict[str, Tensor]:
    """Up to five cities; one step of those with five is not allowed."""
    mask = torch.zeros(batch, 5, 5, dtype=torch.bool)
    for b in range(batch):
        mask[b, : 5 - b % 4, : 5 - b % 4] = True
    mask[::4, 1, 2] = False
    return {"mask": mask}


def routes(
    demands: Tensor, capacity: Tensor, vehicles: Tensor | None = None, mask: Tensor | None = None, directed: bool = False
) -> Tensor:
    """All sets of routes from node 0 that serve each customer of the mask once.  # -> (V, n, n)"""
    n = len(demands)
    mask = torch.ones(n, n, dtype=torch.bool) if mask is None else mask
    customers = (mask.any(0) | mask.any(1))[1:].nonzero()[:, 0].add(1).tolist()
    found = []
    for order, cut in product(permutations(customers), product((False, True), repeat=max(0, len(customers) - 1))):
        ends = [0, *(k + 1 for k, here in enumerate(cut) if here), len(order)]
        parts = [order[a:b] for a, b in pairwise(ends)]
        if any(demands[list(part)].sum() > capacity for part in parts) or (vehicles is not None and len(parts) > vehicles):
            continue
        y = torch.zeros(n, n)
        for part in parts:
            y[[0, *part], [*part, 0]] += 1
        y = y if directed else y + y.T
        if (mask | (y == 0)).all():
            found.append(y)
    return torch.stack(found).unique(dim=0)


def errands_of_vehicles(batch: int) -> dict[str, Tensor]:
    """Up to four customers; one step of those with four is not allowed."""
    data = towns(batch)
    demands = torch.tensor([0.0, 1, 2, 3, 1]).repeat(batch, 1)
    return {**data, "demands": demands, "capacity": 4 + torch.arange(batch) % 3, "vehicles": 2 + torch.arange(batch) % 2}


def pad_demands(scores: Tensor, instance: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    scores, padded = pad_at_end(scores, instance)
    padded["demands"] = torch.nn.functional.pad(instance["demands"], (0, 2), value=torch.nan)
    return scores, padded


@dataclass(frozen=True)
class Packed(Solver):
    """A solver of several score tensors as one of a vector, as an oracle sees it."""

    solver: Solver
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sense(self):
        return self.solver.sense

    @property
    def constant_sum(self):
        return self.solver.constant_sum

    def solve(self, scores: Tensor) -> Tensor:
        return self.joined(self.solver.solve(*self.parts(scores)))

    def tangent(self, direction: Tensor) -> Tensor:
        return self.joined(self.solver.tangent(*self.parts(direction)))

    def parts(self, packed: Tensor) -> list[Tensor]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        return [part.reshape(*packed.shape[:-1], *shape) for part, shape in zip(packed.split(sizes, -1), self.shapes)]

    def joined(self, parts: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([part.flatten(part.ndim - len(shape)) for part, shape in zip(parts, self.shapes)], -1)


def sequences(steps: int, states: int, own: bool = False) -> Tensor:
    """All sequences of states: which state each step has, and the transitions, counted unless each step has its own."""
    every = torch.tensor(list(product(range(states), repeat=steps)))
    state = torch.nn.functional.one_hot(every, states).float()
    pairs = state[:, :-1, :, None] * state[:, 1:, None, :]
    return torch.cat([state.flatten(1), (pairs if own else pairs.sum(1)).flatten(1)], 1)


def alignments(mask: Tensor) -> Tensor:
    """All monotone paths of allowed cells from the first row and column of the mask to the last.  # (n, m) -> (V, n, m)"""
    rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()

    def walk(path):
        i, k = path[-1]
        if i > rows[-1] or k > columns[-1] or not mask[i, k]:
            return
        if (i, k) == (rows[-1], columns[-1]):
            yield path
        for step in ((i + 1, k + 1), (i + 1, k), (i, k + 1)):
            yield from walk([*path, step])

    found = list(walk([(rows[0], columns[0])])) if rows else []
    every = torch.zeros(len(found), *mask.shape)
    for y, path in zip(every, found):
        y[tuple(torch.tensor(path).T)] = 1
    return every


def bands(batch: int) -> dict[str, Tensor]:
    """Two sequences of other lengths in every instance, and pairs far from the diagonal left out."""
    place = torch.arange(4)
    mask = ((place[:, None] - place).abs() <= 2).repeat(batch, 1, 1)
    mask[1::2, 3] = False
    mask[2::3, :, 3] = False
    return {"mask": mask}


def cuts(mask: Tensor) -> Tensor:
    """All ways to cut a sequence, which ends with the last allowed segment, into allowed segments.  # (n, n) -> (V, n, n)"""
    n = len(mask)
    ends = mask.triu().any(0).nonzero()[:, 0].tolist()
    found = []
    for inner_cuts in product((False, True), repeat=ends[-1] if ends else 0):
        bounds = [0, *(k + 1 for k, cut in enumerate(inner_cuts) if cut), ends[-1] + 1] if ends else []
        y = torch.zeros(n, n)
        y[bounds[:-1], [k - 1 for k in bounds[1:]]] = 1
        if ends and mask[y == 1].all():
            found.append(y)
    return torch.stack(found) if found else torch.zeros(0, n, n)


_LADDER = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 0], [1, 2, 2, 3, 3, 4, 4, 3]])


def errands(batch: int) -> dict[str, Tensor]:
    """Other ends for every instance, and an edge of each other instance taken away."""
    number = torch.arange(batch)
    mask = torch.arange(8) != 7 - number[:, None] % 3
    return {"mask": mask, "source": number % 2, "target": 4 - number % 2}


def labelled_cuts(steps: int, longest: int, labels: int) -> Tensor:
    """All ways to cut a sequence into labelled segments, and the transitions, counted.  # -> (V, T D L + L L)"""
    found = []
    for inner_cuts in product((False, True), repeat=steps - 1):
        bounds = [0, *(k + 1 for k, cut in enumerate(inner_cuts) if cut), steps]
        sizes = [b - a for a, b in pairwise(bounds)]
        for chosen in product(range(labels), repeat=len(sizes) if max(sizes) <= longest else 0):
            segments, transitions = torch.zeros(steps, longest, labels), torch.zeros(labels, labels)
            for first, size, label in zip(bounds, sizes, chosen):
                segments[first, size - 1, label] = 1
            for pair in pairwise(chosen):
                transitions[pair] += 1
            if chosen:
                found.append(torch.cat([segments.flatten(), transitions.flatten()]))
    return torch.stack(found)


def edits(n: int, m: int) -> Tensor:
    """All sets of pairs in the same order, and what they leave out on both sides.  # -> (V, n m + n + m)"""
    found = []
    for y in matchings(n, m, partial=True):
        columns = y.nonzero()[:, 1].tolist()
        if columns == sorted(columns):
            found.append(torch.cat([y.flatten(), 1 - y.sum(1), 1 - y.sum(0)]))
    return torch.stack(found)


def short_segments(batch: int) -> dict[str, Tensor]:
    """Segments of three elements at most, of sequences of several lengths."""
    mask = torch.ones(batch, 4, 4, dtype=torch.bool).tril(2)
    for b in range(batch):
        mask[b, :, 4 - b % 3 :] = False
    return {"mask": mask}


def walled_grid(batch: int) -> dict[str, Tensor]:
    """3 x 4 grids with a wall, other ends for every instance."""
    mask = torch.ones(batch, 3, 4, dtype=torch.bool)
    mask[:, 1, 1] = False
    mask[::2, 2, 3] = False
    ends = torch.tensor([[0, 0], [2, 0], [0, 3], [1, 0], [2, 2]])
    return {"mask": mask, "source": ends.repeat(batch, 1)[:batch], "target": ends.flip(0).repeat(batch, 1)[1 : batch + 1]}


def spanning_trees(edges: Tensor, nodes: int, mask: Tensor | None = None) -> Tensor:
    """All spanning trees of a graph: sets of edges that join as many nodes as they have room for.  # (2, E) -> (V, E)"""
    incidence = torch.zeros(nodes, edges.shape[1])
    number = torch.arange(edges.shape[1])
    incidence[edges[0], number] += 1
    incidence[edges[1], number] -= 1
    sets = subsets(edges.shape[1], nodes - 1, mask)
    return torch.stack([y for y in sets if torch.linalg.matrix_rank(incidence[:, y > 0]) == nodes - 1])


def arborescences(edges: Tensor, nodes: int, root: Tensor | int | None = None, mask: Tensor | None = None) -> Tensor:
    """All arborescences: spanning trees whose arcs enter each node but the root once.  # (2, E) -> (V, E)"""
    trees = spanning_trees(edges, nodes, mask)
    entered = torch.zeros(len(trees), nodes).index_add_(1, edges[1], trees)
    return trees[(entered <= 1).all(1) & (root is None or entered[:, root] == 0)]


_ARCS = torch.tensor([[0, 1, 2, 3, 0, 2, 3, 1, 2], [1, 2, 3, 0, 2, 1, 1, 3, 0]])


def own_arcs(batch: int) -> dict[str, Tensor]:
    """Four nodes, numbered differently in each instance, with other roots; every other instance lacks an arc."""
    mask = torch.ones(batch, 9, dtype=torch.bool)
    mask[::2, 2] = False
    numbers = torch.arange(batch)
    return {"edge_index": torch.stack([(_ARCS + b) % 4 for b in range(batch)]), "mask": mask, "root": numbers % 4}


def dense_arborescences(mask: Tensor, root: Tensor | None = None) -> Tensor:
    """All arborescences of the nodes that the mask holds.  # (n, n) -> (V, n, n)"""
    real = mask.any(1).nonzero()[:, 0]
    n = len(real)
    arcs = (~torch.eye(n, dtype=torch.bool)).nonzero().T
    sets = arborescences(arcs, n, None if root is None else int((real == root).nonzero()))
    out = torch.zeros(len(sets), *mask.shape)
    out[:, real[arcs[0]], real[arcs[1]]] = sets
    return out


def ragged_roots(batch: int) -> dict[str, Tensor]:
    """Three or four nodes, and one of them as the root."""
    mask = ragged_nodes(4, 3)(batch)["mask"]
    return {"mask": mask, "root": mask.any(2).int().argmax(1) + torch.arange(batch) % 2}


def symmetric(pairs: Tensor, mask: Tensor) -> Tensor:
    """Vectors over the pairs i < j as symmetric matrices, those that the mask allows.  # (V, n (n - 1) / 2) -> (V, n, n)"""
    n = len(mask)
    i, j = torch.triu_indices(n, n, 1)
    out = torch.zeros(len(pairs), n, n)
    out[:, i, j] = out[:, j, i] = pairs
    return out[(out <= mask).flatten(1).all(1)]


def ragged_nodes(n: int, least: int) -> Callable[[int], dict[str, Tensor]]:
    """Matrices with padding at the end, or in every other instance in front."""

    def instance(batch: int) -> dict[str, Tensor]:
        real = torch.arange(n) < (n - torch.arange(batch) % (n - least + 1))[:, None]
        real[1::2] = real[1::2].flip(1)
        return {"mask": real[:, :, None] & real[:, None]}

    return instance


def dense_trees(mask: Tensor) -> Tensor:
    """All spanning trees of the nodes that the mask holds.  # (n, n) -> (V, n, n)"""
    real = mask.any(1).nonzero()[:, 0]
    y = spanning_trees(torch.triu_indices(len(real), len(real), 1), len(real))
    every = symmetric(y, torch.ones(len(real), len(real)))
    out = torch.zeros(len(every), *mask.shape)
    out[:, real[:, None], real] = every
    return out


def packings(weights: Tensor, capacity: Tensor, limits: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """All packings that fit.  # (n, d), (d,) -> (V, n)"""
    limits = torch.ones(len(weights), dtype=torch.long) if limits is None else limits
    limits = limits if mask is None else limits * mask
    every = torch.tensor(list(product(*[range(m + 1) for m in limits.tolist()])), dtype=torch.float32)
    return every[(every @ weights.float() <= capacity).all(1)]


_LOADS = torch.tensor([[2, 1], [3, 4], [1, 5], [4, 0], [2, 2]])


def capacities(batch: int) -> dict[str, Tensor]:
    """Capacities in two dimensions, different in each instance."""
    return {"capacity": torch.tensor([[7, 6]]) - torch.arange(batch)[:, None] % 3}


def edge_matchings(edges: Tensor, mask: Tensor | None = None) -> Tensor:
    """All sets of edges of which no two share a node.  # (2, E) -> (V, E)"""
    every = torch.tensor(list(product((0.0, 1.0), repeat=edges.shape[1])))
    every = every if mask is None else every[(every <= mask).all(1)]
    degree = torch.zeros(len(every), int(edges.max()) + 1)
    degree.index_add_(1, edges[0], every).index_add_(1, edges[1], every)
    return every[(degree <= 1).all(1)]


def largest(vertices: Tensor) -> Tensor:
    return vertices[vertices.sum(1) == vertices.sum(1).max()]


def dense_matchings(mask: Tensor, perfect: bool) -> Tensor:
    """All matchings of the nodes that the mask holds, or those that leave none of them out.  # (n, n) -> (V, n, n)"""
    every = symmetric(edge_matchings(torch.triu_indices(len(mask), len(mask), 1)), mask)
    return every[(every.any(1) == mask.any(1)).all(1)] if perfect else every


def even_nodes(batch: int) -> dict[str, Tensor]:
    """Four nodes, or two of them."""
    real = torch.arange(4) < torch.where(torch.arange(batch) % 3 == 1, 2, 4)[:, None]
    return {"mask": real[:, :, None] & real[:, None]}


_PRISM = Graph([[0, 1, 2, 3, 4, 5, 0, 1, 2], [1, 2, 0, 4, 5, 3, 3, 4, 5]], directed=False)


def chords(batch: int) -> dict[str, Tensor]:
    """Squares with a diagonal, of which every other instance lacks an edge; nodes are numbered differently in each."""
    edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
    mask = torch.ones(batch, 5, dtype=torch.bool)
    mask[::2, 1] = False
    return {"edge_index": torch.stack([(edges + b) % 4 for b in range(batch)]), "mask": mask}


def ragged(n: int, least: int = 1) -> Callable[[int], dict[str, Tensor]]:
    """Masks of every length, and one with a hole."""

    def instance(batch: int) -> dict[str, Tensor]:
        lengths = n - torch.arange(batch) % (n - least + 1)
        mask = torch.arange(n) < lengths[:, None]
        mask[batch // 2 :] = mask[batch // 2 :].flip(1)
        return {"mask": mask}

    return instance


def ragged_matrix(n: int, m: int) -> Callable[[int], dict[str, Tensor]]:
    """Padding at the end, and in every other instance one forbidden pair."""

    def instance(batch: int) -> dict[str, Tensor]:
        mask = torch.zeros(batch, n, m, dtype=torch.bool)
        for b in range(batch):
            mask[b, : n - b % 2, : m - b % 3] = True
            mask[b, 0, 0] = b % 2 == 0
        return {"mask": mask}

    return instance


def both(*parts: Callable[[int], dict[str, Tensor]]) -> Callable[[int], dict[str, Tensor]]:
    return lambda batch: {key: value for part in parts for key, value in part(batch).items()}


def positive_parts(x: Tensor) -> Tensor:
    """How many entries are positive, and how many above one.  # (B, n) -> (B, 2)"""
    return torch.stack([(x > 0).sum(-1), (x > 1).sum(-1)], -1)


def prices(batch: int) -> dict[str, Tensor]:
    return {"unmatched": torch.linspace(-0.5, 1.0, batch)}


def row_prices(batch: int) -> dict[str, Tensor]:
    return {"unmatched": torch.linspace(-1, 2, 3 * batch, dtype=torch.float64).reshape(batch, 3)}


_CHORD = Graph([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]], directed=False)


def flows(n: int, m: int) -> Callable[[int], dict[str, Tensor]]:
    """Flows and distances without symmetry."""

    def instance(batch: int) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(1)
        sizes = {"flows": n, "distances": m}
        return {key: torch.rand(batch, size, size, generator=g, dtype=torch.float64) for key, size in sizes.items()}

    return instance


def gains(n: int) -> Callable[[int], dict[str, Tensor]]:
    """Flows that are worth having, so that pairs pay."""
    return lambda batch: {key: -2 * value if key == "flows" else value for key, value in flows(n, n)(batch).items()}


def pad_flows(scores: Tensor, instance: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Two more rows and columns, outside the mask, with NaN for flows and distances, too."""
    scores, padded = pad_at_end(scores, instance)
    for key in ("flows", "distances"):
        padded[key] = torch.nn.functional.pad(instance[key], (0, 2, 0, 2), value=torch.nan)
    return scores, padded


def feasible(least: Tensor, rows: Tensor, most: Tensor, mask: Tensor | None = None) -> Tensor:
    """All 0/1 vectors, 0 outside the mask, for which `least <= rows x <= most`.  # (m, n) -> (V, n)"""
    every = one_of(rows.shape[1], (0.0, 1.0))
    every = every if mask is None else every[(every <= mask).all(1)]
    sums = every @ rows.float().T
    return every[((sums >= least) & (sums <= most)).all(1)]


_CHOICE, _ROOM = torch.tensor([[2, 3, 1, 4], [3, 1, 2, 1]]), torch.tensor([6, 4])
_PAIR_OF_FIVE = torch.ones(1, 5)


def rooms(batch: int) -> dict[str, Tensor]:
    """Right-hand sides of the instances."""
    return {"b": torch.tensor([[6, 4]]) - torch.arange(batch)[:, None] % 3}


def edge_cuts(edges: Tensor, source: int, target: int, mask: Tensor | None = None, directed: bool = True) -> Tensor:
    """The edges that cross from each set of nodes with the source and without the target.  # (2, E) -> (V, E)"""
    sides = one_of(int(torch.as_tensor([*edges.flatten().tolist(), source, target]).max()) + 1, (0.0, 1.0))
    sides = sides[(sides[:, source] == 1) & (sides[:, target] == 0)]
    tail, head = sides[:, edges[0]], sides[:, edges[1]]
    crossing = tail * (1 - head) if directed else (tail != head).float()
    return crossing if mask is None else crossing * mask


def opposite_ends(batch: int) -> dict[str, Tensor]:
    """The rings of `own_graphs`, from every node to the second next."""
    return {**own_graphs(batch), "target": (torch.arange(batch) + 2) % 5}


_PIPES = Graph([[0, 0, 1, 1, 2, 3, 3], [1, 2, 2, 3, 3, 4, 0]])
_WIDTHS = torch.tensor([2, 2, 1, 2, 2, 3, 1])


def deliveries(batch: int) -> dict[str, Tensor]:
    """Two or one units from node 0 to nodes 3 and 4."""
    amount = 2 - torch.arange(batch) % 2
    mask = torch.ones(batch, 7, dtype=torch.bool)
    mask[::2, 2] = False
    return {"supply": amount[:, None] * torch.tensor([[1, 0, 0, 0, -1]]), "mask": mask}


def edge_flows(supply: Tensor, mask: Tensor | None = None) -> Tensor:
    """All whole flows through the pipes.  # -> (V, 7)"""
    widths = _WIDTHS if mask is None else _WIDTHS * mask
    every = torch.tensor(list(product(*[range(w + 1) for w in widths.tolist()])), dtype=torch.float32)
    out = torch.zeros(len(every), 5).index_add_(1, _PIPES.edges[0], every).index_add_(1, _PIPES.edges[1], -every)
    return every[(out == supply).all(1)]


def plans(supply: Tensor, demand: Tensor, mask: Tensor | None = None) -> Tensor:
    """All whole matrices with these sums of rows and columns.  # -> (V, n, m)"""
    n, m = len(supply), len(demand)
    most = int(supply.max())
    every = torch.tensor(list(product(range(most + 1), repeat=n * m)), dtype=torch.float32).reshape(-1, n, m)
    right = (every.sum(2) == supply).all(1) & (every.sum(1) == demand).all(1)
    return every[right if mask is None else right & (every * ~mask == 0).flatten(1).all(1)]


def amounts(batch: int) -> dict[str, Tensor]:
    """Supplies and demands of the instances; in every other one a pair is not allowed."""
    mask = torch.ones(batch, 2, 3, dtype=torch.bool)
    mask[::2, 0, 1] = False
    more = torch.arange(batch)[:, None] % 2
    return {
        "supply": torch.tensor([[2, 1]]) + more,
        "demand": torch.tensor([[1, 1, 1]]) + more * torch.tensor([[1, 0, 1]]),
        "mask": mask,
    }


def node_sets(edges: Tensor, nodes: int, least: int, most: int, mask: Tensor | None = None) -> Tensor:
    """All sets of nodes of which each edge between nodes that are there has so many ends.  # (2, E) -> (V, nodes)"""
    there = torch.ones(nodes, dtype=torch.bool) if mask is None else mask
    edges = edges[:, there[edges].all(0)]
    rows = torch.zeros(edges.shape[1], nodes).scatter_add_(1, edges.T, torch.ones(edges.shape[1], 2))
    return feasible(torch.tensor(least), rows, torch.tensor(most), there)


def four_nodes(batch: int) -> dict[str, Tensor]:
    """Squares with a diagonal that number their nodes in other ways, one node missing in every third."""
    mask = torch.ones(batch, 4, dtype=torch.bool)
    mask[::3, 1] = False
    return {"edge_index": chords(batch)["edge_index"], "mask": mask}


def orders(mask: Tensor) -> Tensor:
    """All linear orders of the rows in the mask.  # (n, n) -> (V, n, n)"""
    real = mask.any(1).nonzero()[:, 0].tolist()
    found = []
    for order in permutations(real):
        y = torch.zeros(mask.shape)
        for i, j in combinations(order, 2):
            y[i, j] = 1
        found.append(y)
    return torch.stack(found)


def schedules(durations: tuple[int, ...], times: int, mask: Tensor | None = None) -> Tensor:
    """All starts of jobs on one machine, of which no two run at once.  # -> (V, n, T)"""
    found = []
    for starts in product(range(times), repeat=len(durations)):
        busy = [t for start, length in zip(starts, durations) for t in range(start, start + length)]
        y = torch.nn.functional.one_hot(torch.tensor(starts), times).float()
        if max(busy) < times and len(set(busy)) == len(busy) and (mask is None or (y <= mask).all()):
            found.append(y)
    return torch.stack(found)


def clusterings(n: int, m: int, k: int, mask: Tensor | None = None) -> Tensor:
    """All ways to send each row to one of at most k columns.  # -> (V, n, m)"""
    every = torch.nn.functional.one_hot(torch.tensor(list(product(range(m), repeat=n))), m).float()
    every = every[every.any(1).sum(1) <= k]
    if mask is None:
        return every
    real = mask.any(1)
    allowed = (every <= mask).all(2) | ~real
    return (every[allowed.all(1)] * real[:, None]).unique(dim=0)


def early_starts(batch: int) -> dict[str, Tensor]:
    """A job that must not start at once in every other instance."""
    mask = torch.ones(batch, 2, 4, dtype=torch.bool)
    mask[::2, 0, 0] = False
    return {"mask": mask}


SOLVERS: dict[str, SolverCase] = {
    "sign": SolverCase(Sign(), (4,), one_of(4, (-1.0, 1.0)), native=True, by_sign=True),
    "sign_margin": SolverCase(Sign(margin=0.5), (4,), one_of(4, (-1.0, 0.0, 1.0)), native=True),
    "sign_map": SolverCase(Sign(margin=0.5, event_dim=2), (2, 2), one_of(4, (-1.0, 0, 1.0)).reshape(-1, 2, 2), native=True),
    "sign_mask": SolverCase(Sign(), (4,), instance=ragged(4, 0), native=True, by_sign=True),
    "threshold": SolverCase(Threshold(), (4,), one_of(4, (0.0, 1.0)), native=True, by_sign=True),
    "threshold_at": SolverCase(Threshold(at=0.3), (4,), one_of(4, (0.0, 1.0)), native=True),
    "round": SolverCase(Round(), (4,), native=True),
    "hard_function": SolverCase(HardFunction(positive_parts), (4,), output_shape=(2,), native=True),
    "hard_same_shape": SolverCase(HardFunction(torch.sign, same_shape=True), (4,), native=True, by_sign=True),
    "argmax": SolverCase(Argmax(), (4,), torch.eye(4), native=True),
    "argmax_mask": SolverCase(Argmax(), (4,), lambda mask: subsets(4, 1, mask), ragged(4), native=True),
    "topk": SolverCase(TopK(2), (5,), subsets(5, 2), native=True),
    "topk_smallest": SolverCase(TopK(2, largest=False), (5,), subsets(5, 2), native=True),
    "topk_each": SolverCase(
        TopK(),
        (5,),
        lambda k, mask: subsets(5, k, mask),
        both(ragged(5, 2), lambda b: {"k": torch.arange(b) % 3}),
        native=True,
    ),
    "ranking": SolverCase(Ranking(), (4,), rank_vectors(4), native=True),
    "ranking_descending": SolverCase(Ranking(descending=True), (4,), rank_vectors(4), native=True),
    "ranking_mask": SolverCase(Ranking(), (5,), lambda mask: rank_vectors(5, mask), ragged(5, 0), native=True),
    "permutation": SolverCase(Permutation(), (4,), output_shape=(4, 4), native=True),
    "sort": SolverCase(Sort(), (4,), native=True, alike=False),
    "sort_mask": SolverCase(Sort(), (5,), instance=ragged(5, 0), native=True, alike=False),
    "assignment": SolverCase(Assignment(), (3, 3), matchings(3, 3)),
    "assignment_wide": SolverCase(Assignment(), (2, 4), matchings(2, 4)),
    "assignment_tall": SolverCase(MaxAssignment(), (4, 3), matchings(4, 3)),
    "assignment_mask": SolverCase(MaxAssignment(), (3, 4), lambda mask: matchings(3, 4, mask), ragged_matrix(3, 4)),
    "grid_path": SolverCase(
        GridShortestPath(),
        (3, 3),
        grid_paths(torch.ones(3, 3, dtype=torch.bool), torch.tensor([0, 0]), torch.tensor([2, 2])),
        alike=False,
    ),
    "grid_path_walls": SolverCase(
        GridShortestPath(neighbours=4),
        (3, 4),
        lambda mask, source, target: grid_paths(mask, source, target, 4),
        walled_grid,
        {"pad": pad_at_end},
        alike=False,
    ),
    "graph_path": SolverCase(
        GraphShortestPath(Graph(DIAMOND), source=0, target=3),
        (5,),
        edge_paths(DIAMOND, torch.tensor(0), torch.tensor(3), torch.ones(5, dtype=torch.bool), directed=True),
        alike=False,
    ),
    "graph_path_each": SolverCase(GraphShortestPath(directed=False), (7,), edge_paths, own_graphs, alike=False),
    "grid_edge_path": SolverCase(
        GridEdgeShortestPath(2, 3),
        (7,),
        edge_paths(grid_graph(2, 3, 4).edges, torch.tensor(0), torch.tensor(5), torch.ones(7, dtype=torch.bool)),
        alike=False,
    ),
    "spanning_tree": SolverCase(
        SpanningTree(_CHORD), (5,), spanning_trees(_CHORD.edges, 4), options={"skip": "padding"}, alike=False
    ),
    "spanning_tree_own": SolverCase(
        MaxSpanningTree(), (5,), lambda edge_index, mask: spanning_trees(edge_index, 4, mask), chords, alike=False
    ),
    "dense_spanning_tree": SolverCase(DenseSpanningTree(), (4, 4), dense_trees(torch.ones(4, 4)), alike=False),
    "dense_spanning_tree_mask": SolverCase(
        MaxDenseSpanningTree(), (4, 4), lambda mask: dense_trees(mask), ragged_nodes(4, 2), alike=False
    ),
    "arborescence": SolverCase(
        Arborescence(Graph(_ARCS), root=3), (9,), arborescences(_ARCS, 4, root=3), options={"skip": "padding"}, alike=False
    ),
    "arborescence_own": SolverCase(
        MaxArborescence(), (9,), lambda edge_index, mask, root: arborescences(edge_index, 4, root, mask), own_arcs, alike=False
    ),
    "dense_arborescence": SolverCase(DenseArborescence(), (3, 3), dense_arborescences(torch.ones(3, 3)), alike=False),
    "dense_arborescence_mask": SolverCase(
        MaxDenseArborescence(), (4, 4), lambda mask, root: dense_arborescences(mask, root), ragged_roots, alike=False
    ),
    "dtw": SolverCase(DTW(), (3, 4), alignments(torch.ones(3, 4, dtype=torch.bool)), alike=False),
    "dtw_mask": SolverCase(DTW(), (4, 4), alignments, bands, alike=False),
    "viterbi": SolverCase(Packed(Viterbi(), ((3, 2), (2, 2))), (10,), sequences(3, 2), alike=False),
    "viterbi_own": SolverCase(Packed(Viterbi(), ((3, 2), (2, 2, 2))), (14,), sequences(3, 2, own=True), alike=False),
    "edit_distance": SolverCase(Packed(EditDistance(), ((2, 3), (2,), (3,))), (11,), edits(2, 3), alike=False),
    "longest_path": SolverCase(
        LongestPath(Graph(DIAMOND), source=0, target=3),
        (5,),
        edge_paths(DIAMOND, torch.tensor(0), torch.tensor(3), torch.ones(5, dtype=torch.bool), directed=True),
        options={"skip": "padding"},
        alike=False,
    ),
    "longest_path_each": SolverCase(
        LongestPath(Graph(_LADDER)),
        (8,),
        lambda mask, source, target: edge_paths(_LADDER, source, target, mask, directed=True),
        errands,
        options={"skip": "padding"},
        alike=False,
    ),
    "labelled_segmentation": SolverCase(
        Packed(LabelledSegmentation(), ((3, 2, 2), (2, 2))), (16,), labelled_cuts(3, 2, 2), alike=False
    ),
    "segmentation": SolverCase(Segmentation(), (4, 4), cuts(torch.ones(4, 4, dtype=torch.bool)), alike=False),
    "segmentation_mask": SolverCase(Segmentation(), (4, 4), cuts, short_segments, alike=False),
    "tsp": SolverCase(TSP(), (5, 5), trips(5), alike=False),
    "tsp_directed": SolverCase(TSP(directed=True), (4, 4), trips(4, directed=True), alike=False),
    "tsp_mask": SolverCase(TSP(), (5, 5), lambda mask: trips(5, mask), towns, alike=False),
    "tsp_directed_mask": SolverCase(TSP(directed=True), (5, 5), lambda mask: trips(5, mask, directed=True), towns, alike=False),
    "tour_search": SolverCase(TourSearch(), (5, 5), trips(5), alike=False),
    "tour_search_directed": SolverCase(TourSearch(directed=True), (4, 4), trips(4, directed=True), alike=False),
    "vehicle_routing": SolverCase(
        ExactVehicleRouting(), (5, 5), routes, errands_of_vehicles, {"pad": pad_demands}, slow=True, alike=False
    ),
    "vehicle_routing_directed": SolverCase(
        ExactVehicleRouting(directed=True),
        (5, 5),
        lambda **data: routes(**data, directed=True),
        errands_of_vehicles,
        {"pad": pad_demands},
        slow=True,
        alike=False,
    ),
    "vehicle_routing_search": SolverCase(
        VehicleRouting(), (5, 5), instance=errands_of_vehicles, options={"pad": pad_demands}, slow=True, alike=False
    ),
    "knapsack": SolverCase(
        Knapsack((2, 3, 1, 4), 6),
        (4,),
        packings(torch.tensor([[2], [3], [1], [4]]), torch.tensor([6])),
        options={"skip": "padding"},
        alike=False,
    ),
    "knapsack_real": SolverCase(
        Knapsack(_LOADS + 0.25),
        (5,),
        lambda capacity, mask: packings(_LOADS + 0.25, capacity, mask=mask),
        both(ragged(5), capacities),
        options={"skip": "padding"},
        alike=False,
    ),
    "knapsack_bounded": SolverCase(
        BoundedKnapsack(_LOADS, limits=(1, 0, 3, 2, 2)),
        (5,),
        lambda capacity: packings(_LOADS, capacity, torch.tensor([1, 0, 3, 2, 2])),
        capacities,
        options={"skip": "padding"},
        alike=False,
    ),
    "perfect_matching": SolverCase(
        PerfectMatching(_PRISM), (9,), largest(edge_matchings(_PRISM.edges)), options={"skip": "padding"}, alike=False
    ),
    "max_weight_matching": SolverCase(
        MaxWeightMatching(), (5,), lambda edge_index, mask: edge_matchings(edge_index, mask), chords, alike=False
    ),
    "max_cardinality_matching": SolverCase(
        MaxCardinalityMatching(), (5,), lambda edge_index, mask: largest(edge_matchings(edge_index, mask)), chords, alike=False
    ),
    "dense_perfect_matching": SolverCase(
        DensePerfectMatching(), (4, 4), lambda mask: dense_matchings(mask, True), even_nodes, alike=False
    ),
    "dense_max_weight_matching": SolverCase(
        DenseMaxWeightMatching(), (4, 4), lambda mask: dense_matchings(mask, False), ragged_nodes(4, 2), alike=False
    ),
    "bipartite_matching": SolverCase(
        MaxWeightMatching(grid_graph(2, 3)),
        (7,),
        edge_matchings(grid_graph(2, 3).edges),
        options={"skip": "padding"},
        alike=False,
    ),
    "cached": SolverCase(Cached(TopK(2)), (5,), subsets(5, 2)),
    "cached_paths": SolverCase(Cached(GraphShortestPath(directed=False), size=3), (7,), edge_paths, own_graphs, alike=False),
    "parallel": SolverCase(
        Parallel(MaxAssignment(), workers=1), (3, 4), lambda mask: matchings(3, 4, mask), ragged_matrix(3, 4)
    ),
    "timed": SolverCase(Timed(TSP(), 60.0), (5, 5), trips(5), alike=False),
    "async": SolverCase(Async(Cached(Ranking())), (4,), rank_vectors(4)),
    "gated_assignment": SolverCase(GatedAssignment(), (3, 3), lambda unmatched: matchings(3, 3, partial=True), row_prices),
    "gated_assignment_mask": SolverCase(
        GatedAssignment(),
        (3, 4),
        lambda unmatched, mask: matchings(3, 4, mask, partial=True),
        both(prices, ragged_matrix(3, 4)),
    ),
    "quadratic_assignment": SolverCase(
        QuadraticAssignment(restarts=2, exchanges=10), (3, 4), instance=flows(3, 4), options={"pad": pad_flows}
    ),
    "quadratic_assignment_mask": SolverCase(
        ExactQuadraticAssignment(restarts=1, exchanges=0),
        (3, 4),
        lambda flows, distances, mask: matchings(3, 4, mask),
        both(flows(3, 4), ragged_matrix(3, 4)),
        {"pad": pad_flows},
    ),
    "quadratic_assignment_partial": SolverCase(
        ExactQuadraticAssignment(partial=True, restarts=1, exchanges=0),
        (3, 3),
        lambda flows, distances, mask: matchings(3, 3, mask, partial=True),
        both(gains(3), ragged_matrix(3, 3)),
        {"pad": pad_flows},
    ),
    "multi_graph_matching": SolverCase(
        MultiGraphMatching(),
        (3, 3, 2, 2),
        consistent_matchings(torch.ones(3, 3, 2, 2, dtype=torch.bool)),
        slow=True,
        alike=False,
    ),
    "multi_graph_matching_mask": SolverCase(
        MultiGraphMatching(), (3, 3, 2, 2), consistent_matchings, graphs_of_some_vertices, slow=True, alike=False
    ),
    "integer_program": SolverCase(
        IntegerProgram(_CHOICE, _ROOM, sense="max", engine=CPSAT()),
        (4,),
        feasible(torch.tensor(-torch.inf), _CHOICE, _ROOM),
        slow=True,
        alike=False,
    ),
    "integer_program_each": SolverCase(
        IntegerProgram(_CHOICE, A_eq=[[1, 1, 1, 1]], b_eq=[1]),
        (4,),
        lambda b, mask: feasible(
            torch.tensor([-torch.inf, -torch.inf, 1]),
            torch.cat([_CHOICE, torch.ones(1, 4)]),
            torch.cat([b, torch.ones(1)]),
            mask,
        ),
        both(ragged(4, 3), rooms),
        options={"skip": "padding"},
        slow=True,
        alike=False,
    ),
    "linear_program": SolverCase(
        LinearProgram(A_eq=_PAIR_OF_FIVE, b_eq=[2], upper=1),
        (5,),
        feasible(torch.tensor(2), _PAIR_OF_FIVE, torch.tensor(2)),
        slow=True,
    ),
    "min_cut": SolverCase(
        MinCut(Graph(DIAMOND), source=0, target=3), (5,), edge_cuts(DIAMOND, 0, 3), options={"skip": "padding"}, alike=False
    ),
    "min_cut_each": SolverCase(
        MinCut(directed=False),
        (7,),
        lambda edge_index, source, target, mask: edge_cuts(edge_index, int(source), int(target), mask, directed=False),
        opposite_ends,
        alike=False,
    ),
    "max_flow": SolverCase(MaxFlow(Graph(DIAMOND), source=0, target=3), (5,), options={"skip": "padding"}, alike=False),
    "min_cost_flow": SolverCase(
        MinCostFlow(_PIPES, capacity=_WIDTHS, supply=[2, 0, 0, -1, -1]),
        (7,),
        edge_flows(torch.tensor([2, 0, 0, -1, -1])),
        options={"skip": "padding"},
        alike=False,
    ),
    "min_cost_flow_each": SolverCase(
        MinCostFlow(_PIPES, capacity=_WIDTHS), (7,), edge_flows, deliveries, options={"skip": "padding"}, alike=False
    ),
    "transport": SolverCase(
        Transport(supply=[2, 1], demand=[1, 2]),
        (2, 2),
        plans(torch.tensor([2, 1]), torch.tensor([1, 2])),
        options={"skip": "padding"},
        alike=False,
    ),
    "transport_mask": SolverCase(Transport(), (2, 3), plans, amounts, options={"skip": "padding"}, alike=False),
    "max_independent_set": SolverCase(
        MaxIndependentSet(_CHORD),
        (4,),
        node_sets(_CHORD.edges, 4, 0, 1),
        options={"skip": "padding"},
        slow=True,
        alike=False,
    ),
    "min_vertex_cover": SolverCase(
        MinVertexCover(),
        (4,),
        lambda edge_index, mask: node_sets(edge_index, 4, 1, 2, mask),
        four_nodes,
        slow=True,
        alike=False,
    ),
    "max_cut": SolverCase(
        MaxCut(_CHORD),
        (5,),
        edge_cuts(torch.cat([_CHORD.edges, torch.tensor([[4], [4]])], 1), 0, 4, directed=False)[:, :5].unique(dim=0),
        options={"skip": "padding"},
        slow=True,
        alike=False,
    ),
    "set_cover": SolverCase(
        SetCover([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]),
        (4,),
        feasible(torch.tensor(1), torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]), torch.tensor(4)),
        options={"skip": "padding"},
        slow=True,
        alike=False,
    ),
    "linear_ordering": SolverCase(LinearOrdering(), (4, 4), orders(torch.ones(4, 4)), slow=True, alike=False),
    "linear_ordering_mask": SolverCase(LinearOrdering(), (4, 4), orders, ragged_nodes(4, 2), slow=True, alike=False),
    "scheduling": SolverCase(
        Scheduling((2, 1)),
        (2, 4),
        lambda mask: schedules((2, 1), 4, mask),
        early_starts,
        options={"skip": "padding"},
        slow=True,
        alike=False,
    ),
    "k_medoids": SolverCase(KMedoids(2, CPSAT()), (3, 3), clusterings(3, 3, 2), slow=True, alike=False),
    "k_medoids_mask": SolverCase(
        KMedoids(2, CPSAT()), (3, 4), lambda mask: clusterings(3, 4, 2, mask), ragged_matrix(3, 4), slow=True, alike=False
    ),
}


def _same_shape(case: SolverCase) -> bool:
    return case.solver.same_shape


def _alike(case: SolverCase) -> bool:
    return case.alike


def _linear(case: SolverCase) -> bool:
    return case.solver.linear


def _without_offset(case: SolverCase) -> bool:
    return case.solver.linear and (type(case.solver).offset is Solver.offset or case.solver.scale_free)


def _distances(case: SolverCase) -> bool:
    return case.solver.linear and (case.solver.binary or case.solver.constant_norm)


def _one_hot(case: SolverCase) -> bool:
    return case.solver.one_hot


_BATCH_STEP = ("samples", "vmap", "jacrev")  # one step for the whole batch, so instances are not alone
_ADAPTS = ("inputs unchanged", "samples", "grad", "vmap", "jacrev")  # the step changes in every backward pass

RULES: dict[str, RuleCase] = {
    "straight_through": RuleCase(lambda case: StraightThrough(), _same_shape),
    "straight_through_sigmoid": RuleCase(lambda case: StraightThrough(torch.sigmoid), _same_shape),
    "identity": RuleCase(lambda case: Identity(), _same_shape),
    "blackbox": RuleCase(lambda case: Blackbox(step=5.0), _linear),
    "blackbox_auto": RuleCase(lambda case: Blackbox(step="auto", two_sided=True), _linear, skip=_BATCH_STEP),
    "lpgd": RuleCase(lambda case: LPGD(tau=5.0), _linear),
    "lpgd_proximal": RuleCase(lambda case: LPGD(tau=5.0, rho=0.5, two_sided=True), _distances),
    "imle": RuleCase(lambda case: IMLE(step=5.0, samples=3), _linear),
    "imle_two_sided": RuleCase(lambda case: IMLE(step=5.0, samples=2, noise=TwoPointMargin(2.0), two_sided=True), _linear),
    "aimle": RuleCase(lambda case: AIMLE(samples=3), _linear, skip=_ADAPTS),
    "regularized": RuleCase(lambda case: Regularized(iterations=8), _without_offset),
    "perturbed": RuleCase(lambda case: Perturbed(sigma=0.5, samples=8 if case.slow else 16)),
    "perturbed_gumbel": RuleCase(lambda case: Perturbed(sigma=0.5, samples=16, noise=Gumbel())),
    "perturbed_multiplicative": RuleCase(
        lambda case: Perturbed(sigma=0.8, samples=16, multiplicative=True), useful=lambda case: not case.by_sign, positive=True
    ),
    "perturbed_antithetic": RuleCase(lambda case: Perturbed(sigma=0.5, samples=16, antithetic=True)),
    "softmax": RuleCase(lambda case: StraightThrough(Softmax()), _one_hot),
    "gumbel_softmax": RuleCase(lambda case: GumbelSoftmax(), _one_hot),
    "gumbel_softmax_soft": RuleCase(lambda case: GumbelSoftmax(hard=False), _one_hot),
    "categorical_straight_through": RuleCase(lambda case: CategoricalStraightThrough(), _one_hot),
    "reinmax": RuleCase(lambda case: ReinMax(temperature=1.2), _one_hot),
    "gumbel_rao": RuleCase(lambda case: GumbelRao(samples=8), _one_hot),
    "gapped_straight_through": RuleCase(lambda case: GappedStraightThrough(), _one_hot),
    "dab_batch": RuleCase(
        lambda case: DAB("batch", shape=case.shape, output_shape=case.output_shape),
        useful=lambda case: case.alike or case.instance is None,
    ),
    "dab_independent": RuleCase(lambda case: DAB("independent", shape=case.shape), _same_shape, _alike),
    "dab_residual": RuleCase(lambda case: DAB("independent", shape=case.shape, residual=True), _same_shape, _alike),
    "dab_equivariant": RuleCase(lambda case: DAB("equivariant", shape=case.shape), _same_shape, _alike),
}
_EACH_KIND = ("identity", "blackbox", "lpgd_proximal", "perturbed", "dab_batch")
PAIRS = [
    (s, r)
    for s, case in SOLVERS.items()
    for r, rule in RULES.items()
    if rule.applies(case) and rule.useful(case) and (r in _EACH_KIND or not case.slow)
]
REFUSED = [(s, r) for s, case in SOLVERS.items() for r, rule in RULES.items() if not rule.applies(case)]
