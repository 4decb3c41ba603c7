"""The matchings of a graph as a decision diagram.

Nodes are taken one after the other, each with its edges to later ones. All that matters for the rest of a matching is which of
the later nodes are covered already, and where the graph is narrow, as a grid of ten columns is, there are few such sets: in a
grid it is the dynamic program over broken profiles that counts domino tilings, and in a complete graph the one over subsets.
Source: Sekine, Imai, Tani, "Computing the Tutte polynomial of a graph of moderate size" (1995); Kasteleyn (1961) for tilings.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from .decision_diagram import ACCEPT, REJECT, Diagram
from .graph import Graph

_WIDEST = 16
"""How many nodes may stand beside those taken, so that it is worth to try."""

Later = list[list[tuple[int, int]]]
"""Of each node, in the order in which they are taken: the places of later nodes beside it, and the edges to them."""


@lru_cache(maxsize=64)
def matching_diagram(graph: Graph, perfect: bool, limit: int) -> Diagram | None:
    """All matchings of a graph, or all perfect ones; None if the diagram has more than `limit` nodes, or would be wide.

    >>> len(matching_diagram(Graph([[0, 1, 2], [1, 2, 3]]), True, limit=1000))
    2
    """
    orders = [list(range(graph.nodes)), _narrow_order(graph)]
    width, order = min((_width(graph, order), order) for order in orders)
    if width > _WIDEST:
        return None
    later = _later(graph, order)
    levels = _reachable(later, perfect, limit)
    return None if levels is None else _diagram(later, levels, perfect, limit)


def _narrow_order(graph: Graph) -> list[int]:
    """An order in which nodes that are joined stand close to each other (Cuthill, McKee, 1969)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    tails, heads = graph.edges.numpy()
    pattern = coo_array((torch.ones(len(graph)).numpy(), (tails, heads)), shape=(graph.nodes, graph.nodes))
    order: list[int] = reverse_cuthill_mckee((pattern + pattern.T).tocsr(), symmetric_mode=True).tolist()
    return order


def _width(graph: Graph, order: list[int]) -> int:
    """How many later nodes are beside taken ones, at most."""
    place = torch.empty(graph.nodes, dtype=torch.int64)
    place[torch.tensor(order)] = torch.arange(graph.nodes)
    ends = place[graph.edges].sort(0).values
    first = torch.arange(graph.nodes).scatter_reduce(0, ends[1], ends[0], "amin")  # when each node comes into sight
    seen = torch.zeros(graph.nodes + 1, dtype=torch.int64)
    ones = torch.ones_like(first)
    seen.index_add_(0, first, ones).index_add_(0, torch.arange(graph.nodes), -ones)
    return int(seen.cumsum(0).max())


def _later(graph: Graph, order: list[int]) -> Later:
    place = {node: i for i, node in enumerate(order)}
    later: Later = [[] for _ in order]
    for e, (u, v) in enumerate(graph.edges.T.tolist()):
        if u != v:
            first, second = sorted((place[u], place[v]))
            later[first].append((second, e))
    return [sorted(edges) for edges in later]


def _reachable(later: Later, perfect: bool, limit: int) -> list[set[int]] | None:
    """Which sets of later nodes can be covered when each node is taken, as bits; None if more than `limit` of them go on."""
    levels, total = [{0}], 0
    for i, edges in enumerate(later):
        here, following = 1 << i, set()
        for covered in levels[i]:
            if covered & here:
                following.add(covered ^ here)
                continue
            if not perfect:
                following.add(covered)
            following.update([covered | 1 << j for j, _ in edges if not covered >> j & 1])
        total += sum(not covered & here for covered in levels[i])  # each is a node of the diagram, or leads nowhere
        if total > 2 * limit:
            return None
        levels.append(following)
    return levels


def _diagram(later: Later, levels: list[set[int]], perfect: bool, limit: int) -> Diagram | None:
    """The diagram of the sets, from the last node to the first; nodes with the same children are one."""
    without: list[int] = []
    with_: list[int] = []
    groups: list[tuple[int, int]] = []
    after = {0: ACCEPT}
    for i in reversed(range(len(later))):
        here = 1 << i
        at = {covered: after.get(covered ^ here if covered & here else covered, REJECT) for covered in sorted(levels[i])}
        free = [covered for covered in at if not covered & here]
        if perfect:
            at.update(dict.fromkeys(free, REJECT))
        for j, e in reversed(later[i]):
            known: dict[tuple[int, int], int] = {}
            for covered in free:
                inside = REJECT if covered >> j & 1 else after[covered | 1 << j]
                if inside == REJECT:
                    continue
                children = (at[covered], inside)
                if children not in known:
                    known[children] = len(without) + 2
                    without.append(children[0])
                    with_.append(inside)
                at[covered] = known[children]
            if known:
                groups.append((e, len(without)))
        if len(without) > limit:
            return None
        after = at
    return Diagram(without, with_, groups, after[0])


@lru_cache(maxsize=64)
def complete_graph(nodes: int) -> Graph:
    """The graph that joins all pairs of nodes, in row-major order.

    >>> complete_graph(3).edges
    tensor([[0, 0, 1],
            [1, 2, 2]])
    """
    return Graph(torch.triu_indices(nodes, nodes, 1), max(nodes, 1))
