"""Spanning trees of least cost or greatest score, in graphs with scores on the edges and in matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solution, Solver, inner

from . import growing_trees
from .common import check_mask, native, remove_mean
from .edge_family import EdgeSolver
from .graph import Graph
from .kernels import spanning_tree as kernel
from .kernels import usable
from .kernels.spanning_tree import Trees
from .tree_proof import nested_sets


def _finish(solver: Solver, trees: Trees, dtype: torch.dtype) -> Tensor:
    """The trees in the dtype of the scores; refuses instances that have none."""
    solution, broken = trees
    if broken is not None:
        raise InfeasibleError(
            f"{type(solver).__name__}: instance {first_instance(broken)} is not connected ({int(broken.sum())} of "
            f"{len(broken)} instances), so no tree spans it. Add edges, or allow more of them in `mask`.",
            broken,
        )
    return solution.to(dtype)


def _proved(scores: Tensor, y: Tensor, duals: dict[str, Tensor], event_dim: int) -> Solution:
    """Trees with the duals that prove them, and are the bound."""
    objective = inner(scores.double(), y.double(), event_dim)
    return Solution(y, objective, torch.ones_like(objective, dtype=torch.bool), objective, duals)


class EdgeTree(EdgeSolver):
    """What spanning trees in graphs share."""

    constant_sum = True
    hull = "spanning trees"
    constant_norm = True

    def solve(self, scores: Tensor, mask: Tensor | None = None, edge_index: Tensor | None = None) -> Tensor:
        """The best spanning trees.  # (B, E), (B, E), (B, 2, E) -> (B, E)"""
        edges, nodes = self._edges(scores, edge_index, mask)
        backend = kernel if usable(scores) else growing_trees
        trees = backend.span(native(self, scores), edges, nodes, self.sense == "max", mask)
        return _finish(self, trees, scores.dtype)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The best spanning trees, with duals that prove them and are the bound; see SpanningTree.  # (B, E) -> Solution"""
        y = self(scores, **instance)
        edges, nodes = self._edges(scores, instance.get("edge_index"), instance.get("mask"))
        duals = nested_sets(native(self, scores.detach()), y != 0, edges, nodes, self.sense == "max")
        return _proved(scores.detach(), y, duals, 1)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean: trees have the same number of edges.  # (*S, B, E) -> (*S, B, E)"""
        return remove_mean(direction, mask)


@dataclass(frozen=True)
class SpanningTree(EdgeTree):
    """The spanning tree of least cost of each graph (Boruvka, 1926; Kruskal, 1956).

    Minimises `sum of c[e] over the edges e of a tree` that joins all nodes. Edges have no direction, costs any sign; loops are
    never taken. Shapes: `(B, E) -> (B, E)`; the solution is 1 on the edges of the tree.

    Args:
        graph: the graph that all instances share; None if each has its own.

    Instance data: `mask` (B, E), False for an edge that is not there, or padding; `edge_index` (B, 2, E), integers, if there
    is no shared graph (its contents outside the mask do not matter; its nodes are those that edges in the mask name). An
    infinite cost takes an edge away too. Raises InfeasibleError, naming the instance, where a graph is not connected.

    Ties go to the edges of lowest index: of all best trees, the one that Kruskal's algorithm finds. Costs are compared and
    never added, so trees are exact in every dtype.

    `solve_with_info` adds `duals`, each (B, 2 n) for n nodes, of the nodes and then of sets of nodes, each of which joins two
    nodes or sets before it: `parent` is the set around a node or set, or -1, and `level` is what it cost to join a set, never
    less than for the sets in it (0 for nodes, and for sets that are not there). No edge costs less than the level of the first
    set that holds both its ends, so no tree costs less than all levels together. For greatest scores it is never more.

    >>> solver = SpanningTree(Graph([[0, 1, 2], [1, 2, 0]]))
    >>> y = solver(torch.tensor([[3.0, 1.0, 2.0]]))
    >>> y
    tensor([[0., 1., 1.]])
    >>> solver.decode(y)
    [tensor([[1, 2],
            [2, 0]])]
    """

    graph: Graph | None = None
    sense = "min"


@dataclass(frozen=True)
class MaxSpanningTree(EdgeTree):
    """The spanning tree of greatest score of each graph: SpanningTree with gains in place of costs.

    >>> MaxSpanningTree(Graph([[0, 1, 2], [1, 2, 0]]))(torch.tensor([[3.0, 1.0, 2.0]]))
    tensor([[1., 0., 1.]])
    """

    graph: Graph | None = None
    sense = "max"


class MatrixTree(Solver):
    """What spanning trees in matrices share."""

    event_dim = 2
    binary = True
    constant_sum = True
    hull = "spanning trees"
    constant_norm = True

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """The best spanning trees.  # (B, n, n), (B, n, n) -> (B, n, n)"""
        check_square(self, scores)
        check_mask(self, scores, mask)
        backend = kernel if usable(scores) else growing_trees
        trees = backend.span_dense(native(self, scores), self.sense == "max", mask)
        return _finish(self, trees, scores.dtype)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The best spanning trees, with duals that prove them and are the bound; see SpanningTree.  # (B, n, n) -> Solution"""
        y = self(scores, **instance)
        costs, n = native(self, scores.detach()), scores.shape[1]
        pairs = torch.triu_indices(n, n, 1, device=scores.device)
        sums, chosen = ((one + one.mT)[:, pairs[0], pairs[1]] for one in (costs, y))
        return _proved(scores.detach(), y, nested_sets(sums, chosen != 0, pairs, n, self.sense == "max"), 2)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Made symmetric, less its mean over the pairs, 0 on the diagonal.  # (*S, B, n, n) -> (*S, B, n, n)"""
        return remove_pair_mean(direction, mask)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The edges of each tree, as pairs of nodes, the lower one first.  # (B, n, n) -> B tensors (2, n - 1)"""
        return [one.triu(1).nonzero().T for one in y]


def check_square(solver: Solver, scores: Tensor) -> None:
    """Refuses matrices that are not square (ValueError)."""
    if scores.shape[1] != scores.shape[2]:
        raise ValueError(
            f"{type(solver).__name__}: scores have shape {tuple(scores.shape)}; expected square matrices (B, n, n), a score "
            f"for each pair of nodes."
        )


def pairs_in(mask: Tensor) -> Tensor:
    """Which pairs of different nodes the mask allows: both entries are in it.  # (B, n, n) -> (B, n, n)"""
    return mask & mask.mT & ~torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)


def remove_pair_mean(direction: Tensor, mask: Tensor | None) -> Tensor:
    """`direction` made symmetric, less its mean over pairs; 0 outside the mask and on the diagonal.  # (*S, B, n, n)"""
    shape = direction.shape[-3:]
    pairs = pairs_in(direction.new_ones(shape, dtype=torch.bool) if mask is None else mask).flatten(-2)
    symmetric = (direction + direction.mT) / 2
    return remove_mean(symmetric.flatten(-2), pairs).reshape(direction.shape)


@dataclass(frozen=True)
class DenseSpanningTree(MatrixTree):
    """The spanning tree of least cost among n nodes that are all joined to each other (Prim, 1957).

    Minimises `<scores, y>` over symmetric 0/1 matrices `y` with a 1 at (i, j) and (j, i) where the tree joins nodes i and j:
    that edge costs `scores[i, j] + scores[j, i]`, so scores need not be symmetric, and the diagonal has no meaning. Shapes:
    `(B, n, n) -> (B, n, n)`.

    Instance data: `mask` (B, n, n), False for pairs that are not joined; a pair needs both entries. Nodes that the mask joins
    to none are padding. An infinite cost takes an edge away too. Raises InfeasibleError, naming the instance, where what is
    left is not connected, ValueError if matrices are not square. See SpanningTree for the duals; their levels are sums of two.

    Ties go to the lowest pair, in row-major order of (i, j) with i < j. Costs of the two entries are added in the dtype of the
    scores, all else is exact.

    >>> DenseSpanningTree()(torch.tensor([[[0, 1, 5], [1, 0, 2], [5, 2, 0]]]))
    tensor([[[0, 1, 0],
             [1, 0, 1],
             [0, 1, 0]]])
    """

    sense = "min"


@dataclass(frozen=True)
class MaxDenseSpanningTree(MatrixTree):
    """The spanning tree of greatest score among n nodes: DenseSpanningTree with gains in place of costs.

    >>> MaxDenseSpanningTree()(torch.tensor([[[0, 1, 5], [1, 0, 2], [5, 2, 0]]]))
    tensor([[[0, 0, 1],
             [0, 0, 1],
             [1, 1, 0]]])
    """

    sense = "max"
