"""What proves a spanning tree: the sets of nodes that Kruskal's algorithm joins, and at what cost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def nested_sets(costs: Tensor, chosen: Tensor, edges: Tensor, nodes: int, largest: bool) -> dict[str, Tensor]:
    """The sets that trees join, edge by edge from the best on: `level` and `parent`, each (B, 2 nodes); see SpanningTree.

    `chosen (B, E)` are the edges of trees, `edges` their ends, `(2, E)` or `(B, 2, E)`; what is not chosen does not matter.
    """
    count = len(costs)
    level, parent = np.zeros((count, 2 * nodes)), np.full((count, 2 * nodes), -1)
    found, columns = chosen.nonzero(as_tuple=True)
    pairs = edges[:, columns].T if edges.ndim == 2 else edges[found, :, columns]
    taken = costs[found, columns].double().cpu().numpy()
    order = np.lexsort((-taken if largest else taken, found.cpu().numpy()))
    starts = np.searchsorted(found.cpu().numpy()[order], np.arange(count + 1))
    ends, taken = pairs.cpu().numpy()[order], taken[order]
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        level[b, nodes : nodes + stop - start] = taken[start:stop]
        parent[b] = _joined(ends[start:stop].tolist(), nodes)
    return {"level": torch.as_tensor(level, device=costs.device), "parent": torch.as_tensor(parent, device=costs.device)}


def _joined(pairs: list[list[int]], nodes: int) -> list[int]:
    """The set around each node or set, -1 for none, when each pair in turn joins the sets around its ends.  # -> (2 nodes)"""
    parent, top = [-1] * (2 * nodes), list(range(2 * nodes))
    for joined, pair in enumerate(pairs, start=nodes):
        for one in pair:
            while top[one] != one:
                top[one] = one = top[top[one]]
            parent[one] = top[one] = joined
    return parent
