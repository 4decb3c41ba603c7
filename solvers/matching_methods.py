"""Ways to find the best matchings, and which of them serves when.

A graph that all instances share is solved by a decision diagram of its matchings where that is small (narrow graphs such as
grids, and small ones), and as assignment where it is bipartite; all others by Edmonds' blossom algorithm, on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import decision_diagram
from .bipartite import bipartition, match_by_assignment
from .graph import Graph
from .kernels import bipartite as bipartite_kernel
from .kernels import decision_diagram as diagram_kernel
from .kernels import library, usable
from .kernels import matching as kernel
from .kernels.matching import ANY, PERFECT
from .matching_diagrams import complete_graph, matching_diagram

LARGEST_DIAGRAM = 2**14
"""Nodes of a diagram: with more of them, or of 16 nodes that stand side by side, the other ways are faster."""
SMALL = 16
"""Any graph with so many nodes has a small diagram."""

Matched = tuple[Tensor, Tensor | None]
"""Solutions in the shape of the scores, and which instances have no perfect matching, or scores of NaN or of infinity in the
direction that does not forbid; None where all is well."""


def match_shared(graph: Graph, scores: Tensor, kind: int, smallest: bool, mask: Tensor | None = None) -> Matched:
    """Matchings of greatest score (or least, if `smallest`) in one graph; see `kernels.matching.match`.  # (B, E) -> (B, E)"""
    diagram = None if kind not in (ANY, PERFECT) else matching_diagram(graph, kind == PERFECT, LARGEST_DIAGRAM)
    if diagram is not None:
        backend = diagram_kernel if usable(scores) else decision_diagram
        return backend.best_sets(scores, diagram, not smallest, mask)
    sides = bipartition(graph)
    if sides is not None and scores.numel() and (kind == ANY or (kind == PERFECT and sides.n == sides.m)):
        match = bipartite_kernel.match if sides.sparse and usable(scores) else match_by_assignment
        return match(scores, sides, kind == PERFECT, not smallest, mask)
    return _match_on_the_host(scores, graph.edges, graph.nodes, kind, smallest, mask)


def match_own(edges: Tensor, nodes: int, scores: Tensor, kind: int, smallest: bool, mask: Tensor | None = None) -> Matched:
    """As `match_shared`, in graphs of their own.  # (B, 2, E), (B, E) -> (B, E)"""
    if nodes <= SMALL and kind in (ANY, PERFECT) and not usable(scores):
        return _match_small(edges, nodes, scores, kind, smallest, mask)
    return _match_on_the_host(scores, edges, nodes, kind, smallest, mask)


def _match_on_the_host(scores: Tensor, edges: Tensor, nodes: int, kind: int, smallest: bool, mask: Tensor | None) -> Matched:
    backend = kernel.match if library() is not None else match_by_networkx
    mask = None if mask is None else mask.cpu()
    solution, failed = backend(scores.cpu(), edges.cpu(), nodes, kind, smallest, mask)
    return solution.to(scores.device), None if failed is None else failed.to(scores.device)


def _match_small(edges: Tensor, nodes: int, scores: Tensor, kind: int, smallest: bool, mask: Tensor | None) -> Matched:
    """In the complete graph on all nodes, whose pairs cost what the best of their edges does, in torch."""
    costs = scores if smallest else -scores
    real = edges[:, 0] != edges[:, 1]
    real = real if mask is None else real & mask
    n = max(2, nodes + nodes % 2)
    ends = edges.where(real[:, None], 0).sort(1).values
    pair = torch.where(real & (costs < torch.inf), ends[:, 0] * n + ends[:, 1], n * n)  # the last one is waste
    table = costs.new_full((len(costs), n * n + 1), torch.inf).scatter_reduce(1, pair, costs.where(real, torch.inf), "amin")
    number = torch.arange(scores.shape[1], device=scores.device).expand_as(pair)
    best = number.where(costs == table.gather(1, pair), scores.shape[1])
    first = torch.full_like(table, scores.shape[1], dtype=torch.int64).scatter_reduce(1, pair, best, "amin")
    graph = complete_graph(n)
    row, column = graph.edges.to(scores.device)
    values, first = table[:, row * n + column], first[:, row * n + column]
    if kind == PERFECT:
        values = values.where(~_beside(edges, nodes, n, mask, row, column), 0)
    diagram = matching_diagram(graph, kind == PERFECT, LARGEST_DIAGRAM)
    assert diagram is not None
    pairs, failed = decision_diagram.best_sets(values, diagram, False)
    solution = scores.new_zeros(len(scores), scores.shape[1] + 1).scatter_(1, first, pairs)
    wrong = _invalid(scores, smallest, mask)
    failed = wrong if failed is None else failed | wrong
    return solution[:, :-1], failed if failed.any() else None


def _invalid(scores: Tensor, smallest: bool, mask: Tensor | None) -> Tensor:
    """Which instances have scores of NaN, or of infinity in the direction that does not forbid.  # (B, E) -> (B,)"""
    valid = scores > -torch.inf if smallest else scores < torch.inf
    return ~(valid if mask is None else valid | ~mask).all(1)


def _beside(edges: Tensor, nodes: int, n: int, mask: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
    """Pairs of nodes that no edge names: such nodes are no part of the instance, and match each other.  # (B, pairs)"""
    named = torch.zeros(len(edges), n + 1, dtype=torch.bool, device=edges.device)
    named.scatter_(1, (edges if mask is None else edges.where(mask[:, None], n)).flatten(1), True)
    return ~named[:, row] & ~named[:, column]


def match_by_networkx(
    scores: Tensor, edges: Tensor, nodes: int, kind: int, smallest: bool, mask: Tensor | None = None
) -> Matched:
    """As `kernels.matching.match`, by NetworkX, one instance after the other."""
    import networkx

    solution, failed = torch.zeros_like(scores), _invalid(scores, smallest, mask)
    for b, row in enumerate((-scores if smallest else scores).tolist()):
        if failed[b]:
            continue
        graph = networkx.Graph()
        graph.add_nodes_from(range(nodes) if edges.ndim == 2 else ())
        for e, (u, v) in enumerate((edges if edges.ndim == 2 else edges[b]).T.tolist()):
            if mask is not None and not mask[b, e]:
                continue
            graph.add_nodes_from((u, v))
            better = not graph.has_edge(u, v) or row[e] > graph[u][v]["weight"]
            if u != v and row[e] > -torch.inf and better:
                graph.add_edge(u, v, weight=row[e], number=e)
        pairs = networkx.max_weight_matching(graph, maxcardinality=kind != ANY)
        failed[b] = kind == PERFECT and 2 * len(pairs) < len(graph)
        solution[b, [graph[u][v]["number"] for u, v in pairs]] = 0 if failed[b] else 1
    return solution, failed if failed.any() else None
