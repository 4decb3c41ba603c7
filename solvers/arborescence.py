"""Spanning arborescences: directed trees from a root to all nodes, in lists of arcs and in matrices."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solution, Solver, inner

from . import growing_arborescences
from .common import check_mask, native, remove_mean
from .edge_family import EdgeSolver
from .graph import Graph, check_nodes
from .kernels import arborescence as kernel
from .kernels import usable
from .kernels.arborescence import Arborescences
from .matching import refuse_infinite
from .spanning_tree import check_square


class RootedSolver(Solver):
    """What arborescences in lists and matrices share."""

    binary = True
    constant_sum = True
    hull = "arborescences"
    constant_norm = True
    root: int | None

    @abstractmethod
    def _grow(self, scores: Tensor, *, proof: bool = False, **instance: Tensor) -> Arborescences:
        """The best arborescences, with what proves them if asked for; refuses instances that have none."""

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The best arborescences, with duals that prove them and are the bound; see Arborescence.  # (B, *E) -> Solution"""
        self.check(scores, **instance)
        found = self._grow(scores, proof=True, **instance)
        assert found.duals is not None
        assert found.parents is not None
        objective = inner(scores.double(), found.solution.double(), self.event_dim)
        proved = torch.ones_like(objective, dtype=torch.bool)
        duals = {"entry": found.duals, "parent": found.parents}
        return Solution(found.solution.to(scores.dtype), objective, proved, objective, duals)

    def _roots(self, root: Tensor | None, scores: Tensor, nodes: int) -> Tensor:
        """The root of each instance, -1 where it is free.  # (B,)"""
        name, count = type(self).__name__, len(scores)
        if root is None:
            check_nodes(self, nodes, "root")
            return torch.full((count,), -1 if self.root is None else self.root, device=scores.device)
        if root.shape != (count,) or root.is_floating_point() or root.dtype == torch.bool:
            raise ValueError(
                f"{name}: `root` is {root.dtype} of shape {tuple(root.shape)}; expected integers of shape {(count,)}, the root "
                f"of each instance."
            )
        outside = (root < 0) | (root >= nodes)
        if outside.any():
            first = first_instance(outside)
            raise InfeasibleError(
                f"{name}: instance {first} has root {int(root[first])}, but its graph has nodes 0 to {nodes - 1}.", outside
            )
        return root.long()

    def _refuse(self, failed: Tensor, roots: Tensor) -> None:
        """Names the instances that have no arborescence (InfeasibleError)."""
        first = first_instance(failed)
        start = f"its root, {int(roots[first])}" if roots[first] >= 0 else "any one of them"
        raise InfeasibleError(
            f"{type(self).__name__}: instance {first} has nodes that no path reaches from {start} ({int(failed.sum())} of "
            f"{len(failed)} instances). Add edges, allow more of them in `mask`, or choose another root.",
            failed,
        )


class EdgeArborescence(RootedSolver, EdgeSolver):
    """What arborescences in lists of arcs share."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.graph is not None and not self.graph.directed:
            raise ValueError(
                f"{type(self).__name__}: the graph is not directed. Use `Graph(edges)`, with an edge each way where both are "
                f"allowed, or SpanningTree."
            )
        check_nodes(self, None if self.graph is None else self.graph.nodes, "root")

    def solve(
        self, scores: Tensor, mask: Tensor | None = None, edge_index: Tensor | None = None, root: Tensor | None = None
    ) -> Tensor:
        """The best arborescences.  # (B, E), (B, E), (B, 2, E), (B,) -> (B, E)"""
        return self._grow(scores, mask, edge_index, root).solution.to(scores.dtype)

    def _grow(
        self,
        scores: Tensor,
        mask: Tensor | None = None,
        edge_index: Tensor | None = None,
        root: Tensor | None = None,
        *,
        proof: bool = False,
    ) -> Arborescences:
        edges, nodes = self._edges(scores, edge_index, mask)
        if edge_index is not None:  # a root that no edge names is a node too
            named = [] if root is None or not root.numel() else [int(root.max())]
            nodes = max(nodes, *(one + 1 for one in named), 0 if self.root is None else self.root + 1)
        values, roots = native(self, scores), self._roots(root, scores, nodes)
        refuse_infinite(self, values, mask)
        backend = kernel if usable(scores) else growing_arborescences
        if edges.ndim == 3 and mask is not None:
            edges = edges.where(mask[:, None], 0)
        found = backend.grow(values, edges, nodes, roots, self.sense == "max", mask, proof)
        if found.failed is not None:
            self._refuse(found.failed, roots)
        return found

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean: arborescences have the same number of arcs.  # (*S, B, E) -> (*S, B, E)"""
        return remove_mean(direction, mask)


@dataclass(frozen=True)
class Arborescence(EdgeArborescence):
    """The spanning arborescence of least cost of each directed graph (Chu, Liu, 1965; Edmonds, 1967).

    Minimises `<scores, y>` over sets of edges by which each node but the root is entered once, and reached from the root. Costs
    have any sign; loops are never taken. Shapes: `(B, E) -> (B, E)`; the solution is 1 on the edges of the arborescence.

    Args:
        graph: the directed graph that all instances share; None if each has its own.
        root: where it starts; None for the best node.

    Instance data: `root` (B,), integers, in place of the common one; `mask` (B, E), False for an edge that is not there, or
    padding; `edge_index` (B, 2, E), integers, from tails to heads, if there is no shared graph (its contents outside the mask
    do not matter; its nodes are those that edges in the mask name, and the root). An infinite cost takes an edge away too.
    Raises InfeasibleError, naming the instance, where not all nodes can be reached; InstanceError for a cost of minus infinity.

    Costs are summed in float64. Among several best arborescences the one returned is always the same, but not specified.

    `solve_with_info` adds `duals`, each (B, 2 n) for n nodes: the first n entries are of the nodes, the others of sets of nodes
    that were contracted, in any order. `entry` is what a node or set pays to be entered from outside, of any sign for nodes and
    otherwise not negative, and `parent` is the set around it, or -1. No edge costs less than all that its head's sets pay that
    its tail is not in, so the sum of the entries, which is the cost of the solution, is a bound for all others. A maximum is
    proved so for its negative scores; where the root is free, the set that holds it is never entered, and has any sign.

    >>> solver = Arborescence(Graph([[0, 0, 1, 2], [1, 2, 2, 1]]), root=0)
    >>> y = solver(torch.tensor([[5.0, 4.0, 1.0, 2.0]]))
    >>> y
    tensor([[1., 0., 1., 0.]])
    >>> solver.decode(y)
    [tensor([[0, 1],
            [1, 2]])]
    """

    graph: Graph | None = None
    root: int | None = None
    sense = "min"


@dataclass(frozen=True)
class MaxArborescence(EdgeArborescence):
    """The spanning arborescence of greatest score of each directed graph: Arborescence with gains in place of costs.

    >>> MaxArborescence(Graph([[0, 0, 1, 2], [1, 2, 2, 1]]), root=0)(torch.tensor([[5.0, 4.0, 1.0, 2.0]]))
    tensor([[1., 1., 0., 0.]])
    """

    graph: Graph | None = None
    root: int | None = None
    sense = "max"


class MatrixArborescence(RootedSolver):
    """What arborescences in matrices share."""

    event_dim = 2

    def __post_init__(self) -> None:
        check_nodes(self, None, "root")

    def solve(self, scores: Tensor, mask: Tensor | None = None, root: Tensor | None = None) -> Tensor:
        """The best arborescences.  # (B, n, n), (B, n, n), (B,) -> (B, n, n)"""
        return self._grow(scores, mask, root).solution.to(scores.dtype)

    def _grow(
        self, scores: Tensor, mask: Tensor | None = None, root: Tensor | None = None, *, proof: bool = False
    ) -> Arborescences:
        check_square(self, scores)
        check_mask(self, scores, mask)
        values, roots = native(self, scores), self._roots(root, scores, scores.shape[1])
        refuse_infinite(self, values.flatten(1), arcs_in(scores, mask).flatten(1))
        backend = kernel if usable(scores) else growing_arborescences
        found = backend.grow_dense(values, roots, self.sense == "max", mask, proof)
        if found.failed is not None:
            self._refuse(found.failed, roots)
        return found

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean, 0 on the diagonal.  # (*S, B, n, n) -> (*S, B, n, n)"""
        arcs = arcs_in(direction[(0,) * (direction.ndim - 3)], mask)
        return remove_mean(direction.flatten(-2), arcs.flatten(1)).reshape(direction.shape)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The node before each, -1 for the root and for padding.  # (B, n, n) -> B tensors (n,)"""
        return list(torch.where(y.any(1), y.to(torch.float64).argmax(1), -1)) if y.numel() else [y.new_zeros(0).long()] * len(y)


def arcs_in(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Which pairs of different nodes may be joined.  # (B, n, n) -> (B, n, n)"""
    other = ~torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return other.expand(scores.shape) if mask is None else mask & other


@dataclass(frozen=True)
class DenseArborescence(MatrixArborescence):
    """The spanning arborescence of least cost among n nodes that are all joined to each other (Chu, Liu, 1965; Edmonds, 1967).

    Minimises `<scores, y>` over 0/1 matrices `y` with a 1 at (i, j) where an arc leads from node i to node j, at the cost of
    `scores[i, j]`: each node but the root has one such i, and the root leads to all. The diagonal has no meaning. Shapes:
    `(B, n, n) -> (B, n, n)`. See Arborescence for `root`, for duals, and for what is equally good.

    Instance data: `root` (B,), integers; `mask` (B, n, n), False for arcs that are not there; nodes without any arc, unless
    they are the root, are padding. An infinite cost takes an arc away too. Raises InfeasibleError, naming the instance, where
    not all nodes can be reached; InstanceError for a cost of minus infinity; ValueError if matrices are not square.

    >>> solver = DenseArborescence(root=0)
    >>> y = solver(torch.tensor([[[0, 5, 4], [9, 0, 1], [9, 2, 0]]]))
    >>> y
    tensor([[[0, 1, 0],
             [0, 0, 1],
             [0, 0, 0]]])
    >>> solver.decode(y)
    [tensor([-1,  0,  1])]
    """

    root: int | None = None
    sense = "min"


@dataclass(frozen=True)
class MaxDenseArborescence(MatrixArborescence):
    """The spanning arborescence of greatest score, as in parsing of dependencies: DenseArborescence with gains for costs.

    >>> MaxDenseArborescence(root=0)(torch.tensor([[[0, 5, 4], [9, 0, 1], [9, 2, 0]]]))
    tensor([[[0, 1, 1],
             [0, 0, 0],
             [0, 0, 0]]])
    """

    root: int | None = None
    sense = "max"
