"""Graphs as the solvers take them: padded batches, from PyTorch Geometric or built from points."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class PaddedGraphs(NamedTuple):
    """A batch of graphs, each padded to the size of the largest.

    `mask (B, n)` is False for padding, `edge_index (B, 2, E)` numbers the vertices of each graph from 0 and is -1 for padding.
    `vertices` and `edges` hold attributes by name, `(B, n, ...)` and `(B, E, ...)`, 0 in the padding.
    """

    mask: Tensor
    edge_index: Tensor
    vertices: dict[str, Tensor]
    edges: dict[str, Tensor]


def from_pyg(batch: Any, vertices: tuple[str, ...] = ("x",), edges: tuple[str, ...] = ()) -> PaddedGraphs:
    """A `torch_geometric.data.Batch` as padded tensors, with the attributes of vertices and edges that are named.

    Anything with the same attributes will do:

    >>> from types import SimpleNamespace
    >>> index, owner = torch.tensor([[0, 1, 3], [1, 2, 3]]), torch.tensor([0, 0, 0, 1])
    >>> graphs = from_pyg(SimpleNamespace(x=torch.ones(4, 1), edge_index=index, batch=owner, num_graphs=2))
    >>> graphs.mask
    tensor([[ True,  True,  True],
            [ True, False, False]])
    >>> graphs.edge_index[1]
    tensor([[ 0, -1],
            [ 0, -1]])
    """
    if getattr(batch, "batch", None) is None or batch.edge_index is None:
        raise ValueError(
            f"from_pyg: {type(batch).__name__} has no `batch` or no `edge_index`; it takes a batch of graphs with edges, such "
            f"as `Batch.from_data_list([data])` makes or a PyG DataLoader yields."
        )
    missing = [name for name in (*vertices, *edges) if getattr(batch, name, None) is None]
    if missing:
        raise ValueError(
            f"from_pyg: the batch has no `{missing[0]}`. Name attributes that its graphs have: `vertices=` those with a row "
            f"for each vertex, ('x',) if nothing is said, `edges=` those with a row for each edge."
        )
    count = int(batch.num_graphs)
    of_vertex = batch.batch
    place, n = _places(of_vertex, count)
    source, target = batch.edge_index
    of_edge = of_vertex[source]
    edge_place, e = _places(of_edge, count)

    def pad(values: Tensor, owner: Tensor, at: Tensor, length: int, fill: int = 0) -> Tensor:
        out = values.new_full((count, length, *values.shape[1:]), fill)
        out[owner, at] = values
        return out

    ends = torch.stack([place[source], place[target]], 1)
    return PaddedGraphs(
        pad(torch.ones_like(of_vertex, dtype=torch.bool), of_vertex, place, n),
        pad(ends, of_edge, edge_place, e, -1).mT,
        {name: pad(getattr(batch, name), of_vertex, place, n) for name in vertices},
        {name: pad(getattr(batch, name), of_edge, edge_place, e) for name in edges},
    )


def _places(owner: Tensor, count: int) -> tuple[Tensor, int]:
    """The number of each item among those of the same owner, and the most that one has.  # (N,) -> (N,), int"""
    sizes = owner.bincount(minlength=count)
    order = owner.argsort(stable=True)
    first = (sizes.cumsum(0) - sizes)[owner[order]]
    place = torch.empty_like(owner)
    place[order] = torch.arange(len(owner), device=owner.device) - first
    return place, int(sizes.max()) if count else 0


def pair_mask(mask1: Tensor, mask2: Tensor) -> Tensor:
    """Which pairs of vertices are not padding.  # (B, n), (B, m) -> (B, n, m)"""
    return mask1.unsqueeze(2) & mask2.unsqueeze(1)


def nearest_edges(points: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    """Edges from each point to its k nearest others, nearest first; fewer, padded with -1, where there are not so many.

    `mask (B, n)` is False for padding. Ties go to the lowest number.  # (B, n, d), (B, n) -> (B, 2, n k)

    >>> nearest_edges(torch.tensor([[[0.0], [1.0], [3.0]]]), 1)
    tensor([[[0, 1, 2],
             [1, 0, 1]]])
    """
    count, n = points.shape[:2]
    mask = torch.ones(count, n, dtype=torch.bool, device=points.device) if mask is None else mask
    distance = torch.where(mask.unsqueeze(2), points, 0).double()
    distance = torch.cdist(distance, distance, compute_mode="donot_use_mm_for_euclid_dist")
    distance = distance.masked_fill(~pair_mask(mask, mask) | torch.eye(n, dtype=torch.bool, device=points.device), torch.inf)
    near, target = (t[..., :k] for t in distance.sort(stable=True, dim=2))
    source = torch.arange(n, device=points.device)[:, None].expand_as(target)
    return torch.stack([source, target], 1).masked_fill(near.unsqueeze(1) == torch.inf, -1).flatten(2)


def delaunay_edges(points: Tensor, mask: Tensor | None = None) -> Tensor:
    """The edges of Delaunay triangulations, both ways and sorted, padded with -1; by SciPy (Qhull), on the CPU.

    Fewer than three points are joined completely. Points on one line have no triangulation: they are joined in their order.
    `mask (B, n)` is False for padding.  # (B, n, 2), (B, n) -> (B, 2, E)

    >>> corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> delaunay_edges(corners)
    tensor([[[0, 0, 1, 1, 2, 2],
             [1, 2, 0, 2, 0, 1]]])
    """
    count, n = points.shape[:2]
    mask = torch.ones(count, n, dtype=torch.bool, device=points.device) if mask is None else mask
    each = [_triangulate(p[keep.cpu()], keep.cpu().nonzero()[:, 0]) for p, keep in zip(points.detach().double().cpu(), mask)]
    out = torch.full((count, 2, max((edges.shape[1] for edges in each), default=0)), -1)
    for row, edges in zip(out, each):
        row[:, : edges.shape[1]] = edges
    return out.to(points.device)


def _triangulate(points: Tensor, names: Tensor) -> Tensor:
    """The edges of one triangulation, both ways, between vertices with these names.  # (n, 2), (n,) -> (2, E)"""
    from scipy.spatial import Delaunay, QhullError

    n = len(points)
    if n < 3:
        pairs = torch.combinations(torch.arange(n))
    else:
        try:
            corners = torch.as_tensor(Delaunay(points.numpy()).simplices).long()
            pairs = torch.cat([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        except QhullError:  # all on one line, along which the first coordinate orders them, or the second
            along = points[:, 0] if points[:, 0].min() < points[:, 0].max() else points[:, 1]
            order = along.argsort(stable=True)
            pairs = torch.stack([order[:-1], order[1:]], 1)
    both = torch.cat([pairs, pairs.flip(1)])
    numbers = (n * both[:, 0] + both[:, 1]).unique()  # many times faster than the unique rows of `both`, and in their order
    return names[torch.stack([numbers // n, numbers % n])]
