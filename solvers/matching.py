"""Matchings in general graphs: sets of edges of which no two share a node, of least cost or greatest score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solution, Solver, inner

from .common import certified, native, remove_mean
from .edge_family import EdgeSolver
from .graph import Graph
from .kernels import library
from .kernels import matching as kernel
from .kernels.matching import ANY, LARGEST, PERFECT, Duals
from .matching_methods import match_own, match_shared


class EdgeMatching(EdgeSolver):
    """What matchings share.

    Graphs that all instances share are solved by a dynamic program over the nodes covered so far, in float64, if they are
    narrow, as grids of up to ten columns are, or have up to 16 nodes; as assignment, if they are bipartite; both on any device.
    All others by Edmonds' blossom algorithm in O(n^3), on integers: scores are rounded to multiples of a power of two that is
    less than 2**-44 of the greatest one (for 64 nodes, and finer by a bit for half as many), then the matching is exactly
    optimal. It runs on the CPU wherever the scores are; without the compiled kernels NetworkX does the work. It serves
    instances with graphs of their own too, but for those of up to 16 nodes on another device, which the dynamic program takes;
    and MaxCardinalityMatching in every graph. Among several optimal matchings the one returned is always the same, but not
    specified.
    """

    _kind: ClassVar[int]

    def solve(self, scores: Tensor, mask: Tensor | None = None, edge_index: Tensor | None = None) -> Tensor:
        """The best matchings.  # (B, E), (B, E), (B, 2, E) -> (B, E)"""
        edges, nodes = self._edges(scores, edge_index, mask)
        values, smallest = native(self, scores), self.sense == "min"
        if self.graph is not None:
            solution, failed = match_shared(self.graph, values, self._kind, smallest, mask)
        else:
            solution, failed = match_own(edges, nodes, values, self._kind, smallest, mask)
        if failed is not None:
            super()._check_nan((scores,), {} if mask is None else {"mask": mask})
            refuse_infinite(self, values, mask)
            refuse_imperfect(self, failed, None if self.graph is None else self.graph.nodes)
        return solution if solution.dtype == scores.dtype else solution.to(scores.dtype)

    def _check_nan(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        """Nothing yet: the algorithms report NaN, which saves a pass over the scores."""

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The best matchings, with duals of nodes and blossoms that certify them.  # (B, E) -> Solution

        `duals["nodes"] (B, n)`, NaN for nodes that take no part, and `duals["blossoms"] (B, n // 2)` for the sets of nodes
        `duals["members"] (B, n // 2, n)`. For gains, `nodes[u] + nodes[v]`, with the blossoms that hold both, is the score of
        an edge at least, so that `bound` holds; costs are negative gains, and their nodes and bounds have the other sign.
        Without the compiled kernels there are no duals.
        """
        info = super().solve_with_info(scores, **instance)
        if library() is None:
            return info
        mask = instance.get("mask")
        edges, nodes = self._edges(scores, instance.get("edge_index"), mask)
        values, smallest = native(self, scores).cpu(), self.sense == "min"
        proof = kernel.prove(values, edges.cpu(), nodes, self._kind, smallest, None if mask is None else mask.cpu())
        objective = inner(scores.double(), info.solution.double(), 1)
        bound, rounding = (part.to(scores.device) for part in proved_bound(proof, self._kind, info.solution.sum(1).cpu()))
        bound, nodes_dual = (-bound, -proof.nodes) if smallest else (bound, proof.nodes)
        duals = {"nodes": nodes_dual, "blossoms": proof.blossoms, "members": proof.members}
        bound = bound.minimum(objective) if smallest else bound.maximum(objective)
        proved = (objective - bound).abs() <= rounding
        return certified(info.solution, objective, proved, bound, {k: d.to(scores.device) for k, d in duals.items()})


def proved_bound(proof: Duals, kind: int, size: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest weight that the duals leave possible, and how far rounding may move it.  # Duals, (B,) -> (B,), (B,)"""
    within = proof.blossoms * (proof.members.sum(2) - 1).clamp_min(0) / 2  # so many edges at most are within a blossom
    bound = proof.nodes.nansum(1) + within.sum(1)
    if kind == LARGEST:  # nodes that stay alone have the least dual of all, which may be negative
        alone = (~proof.nodes.isnan()).sum(1) - 2 * size
        least = proof.nodes.nan_to_num(nan=torch.inf)
        bound = bound - torch.where(alone > 0, alone * least.amin(1) if least.shape[1] else 0, 0)
    return bound, 1e-11 * (1 + proof.nodes.abs().nansum(1) + within.sum(1))


def refuse_infinite(solver: Solver, values: Tensor, mask: Tensor | None) -> None:
    """Refuses scores that would outweigh everything (InstanceError).  # (B, E)"""
    if not values.numel() or (values.min() > -torch.inf if solver.sense == "min" else values.max() < torch.inf):
        return
    wrong = values == (-torch.inf if solver.sense == "min" else torch.inf)
    wrong = (wrong if mask is None else wrong & mask).any(1)
    if wrong.any():
        bad, good = ("-inf", "+inf") if solver.sense == "min" else ("+inf", "-inf")
        raise InstanceError(
            f"{type(solver).__name__}: instance {first_instance(wrong)} has {bad} among its scores ({int(wrong.sum())} of "
            f"{len(wrong)} instances). A score of {good} forbids an edge; {bad} would outweigh everything.",
            wrong,
        )


def refuse_imperfect(solver: Solver, failed: Tensor, nodes: int | None) -> None:
    """Names the instances without a perfect matching (InfeasibleError); `nodes` is how many all of them have, if they do."""
    odd = f" Its graph has an odd number of nodes, {nodes}." if nodes is not None and nodes % 2 else ""
    raise InfeasibleError(
        f"{type(solver).__name__}: instance {first_instance(failed)} has no matching that leaves no node out "
        f"({int(failed.sum())} of {len(failed)} instances).{odd} Allow more edges, or use MaxCardinalityMatching, which "
        f"matches as many nodes as it can.",
        failed,
    )


@dataclass(frozen=True)
class PerfectMatching(EdgeMatching):
    """The matching of least cost that leaves no node out (Edmonds, 1965).

    Minimises `<scores, y>` over sets of edges that meet every node exactly once. Edges have no direction, costs any sign; loops
    are never taken. Shapes: `(B, E) -> (B, E)`; the solution is 1 on the edges of the matching.

    Args:
        graph: the graph that all instances share; None if each has its own.

    Instance data: `mask` (B, E), False for an edge that is not there, or padding; `edge_index` (B, 2, E), integers, if there
    is no shared graph (its contents outside the mask do not matter; its nodes are those that edges in the mask name). An
    infinite cost takes an edge away too. Raises InfeasibleError, naming the instance, where there is no perfect matching, as
    when the number of nodes is odd; InstanceError for a cost of minus infinity.

    >>> solver = PerfectMatching(Graph([[0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3]]))
    >>> y = solver(torch.tensor([[5.0, 2.0, 3.0, 3.0, 2.0, 5.0]]))
    >>> y
    tensor([[0., 1., 0., 0., 1., 0.]])
    >>> solver.decode(y)
    [tensor([[0, 1],
            [2, 3]])]
    """

    graph: Graph | None = None
    sense = "min"
    constant_sum = True
    hull = "matchings of nodes"
    constant_norm = True
    _kind = PERFECT

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean: matchings have the same number of edges.  # (*S, B, E) -> (*S, B, E)"""
        return remove_mean(direction, mask)


@dataclass(frozen=True)
class MaxWeightMatching(EdgeMatching):
    """The matching of greatest score; it may leave nodes out, and takes no edge of negative score (Edmonds, 1965).

    Maximises `<scores, y>` over sets of edges of which no two meet. See PerfectMatching for shapes and instance data; minus
    infinity forbids an edge, and plus infinity raises InstanceError.

    >>> MaxWeightMatching(Graph([[0, 1, 2], [1, 2, 3]]))(torch.tensor([[2.0, 5.0, 2.0], [3.0, 5.0, 3.0]]))
    tensor([[0., 1., 0.],
            [1., 0., 1.]])
    """

    graph: Graph | None = None
    sense = "max"
    _kind = ANY

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Matchings differ in every edge.  # (*S, B, E) -> (*S, B, E)"""
        return direction if mask is None else torch.where(mask, direction, 0)


@dataclass(frozen=True)
class MaxCardinalityMatching(EdgeMatching):
    """Of the matchings with as many edges as possible the one of greatest score.

    See PerfectMatching for shapes and instance data; minus infinity takes an edge away, and plus infinity raises InstanceError.

    >>> MaxCardinalityMatching(Graph([[0, 1, 2], [1, 2, 3]]))(torch.tensor([[2.0, 5.0, 2.0]]))
    tensor([[1., 0., 1.]])
    """

    graph: Graph | None = None
    sense = "max"
    constant_sum = True
    hull = "matchings of nodes"
    constant_norm = True
    _kind = LARGEST

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean: matchings have the same number of edges.  # (*S, B, E) -> (*S, B, E)"""
        return remove_mean(direction, mask)
