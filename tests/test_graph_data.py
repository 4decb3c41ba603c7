"""Padded graphs, and the matching of real landmarks with them."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay, cKDTree

from solverlayers.solvers.graph_data import delaunay_edges, from_pyg, nearest_edges, pair_mask
from solverlayers.solvers.graph_matching import GraphMatching


def pairs(edge_index):
    return {(i, j) for i, j in edge_index.T.tolist() if i >= 0}


def points(batch, n, seed=0):
    return torch.rand(batch, n, 2, generator=torch.Generator().manual_seed(seed))


def test_nearest_edges_are_those_of_a_tree():
    x = points(4, 12)
    mask = torch.arange(12) < torch.tensor([12, 9, 4, 1])[:, None]
    edges = nearest_edges(torch.where(mask.unsqueeze(2), x, torch.nan), 3, mask)
    for b, size in enumerate((12, 9, 4, 1)):
        real = x[b, :size].double().numpy()
        near = cKDTree(real).query(real, min(4, size))[1].reshape(size, -1)
        assert pairs(edges[b]) == {(i, int(j)) for i in range(size) for j in near[i] if j != i}


def test_delaunay_edges_are_those_of_all_triangles():
    x = points(3, 10)
    mask = torch.ones(3, 10, dtype=torch.bool)
    mask[1, ::2] = False
    edges = delaunay_edges(torch.where(mask.unsqueeze(2), x, torch.nan), mask)
    for b in range(3):
        names = mask[b].nonzero()[:, 0].numpy()
        corners = names[Delaunay(x[b, names].double().numpy()).simplices]
        assert pairs(edges[b]) == {(int(t[i]), int(t[j])) for t in corners for i in range(3) for j in range(3) if i != j}
        assert (edges[b] >= 0).all(0).sum() == len(pairs(edges[b]))


def test_delaunay_of_few_points_and_of_lines():
    assert delaunay_edges(torch.zeros(1, 1, 2)).shape == (1, 2, 0)
    assert pairs(delaunay_edges(points(1, 2))[0]) == {(0, 1), (1, 0)}
    for line in ([[0.0, 0], [2, 2], [1, 1]], [[0.0, 0], [0, 2], [0, 1]]):
        assert pairs(delaunay_edges(torch.tensor([line]))[0]) == {(0, 2), (2, 0), (2, 1), (1, 2)}
    assert delaunay_edges(torch.zeros(0, 5, 2)).shape == (0, 2, 0)


def test_batches_of_pytorch_geometric():
    data = pytest.importorskip("torch_geometric.data")
    g = torch.Generator().manual_seed(0)
    graphs = []
    for n, e in ((3, 5), (1, 0), (6, 11)):
        index = torch.randint(0, n, (2, e), generator=g)
        graphs.append(data.Data(torch.rand(n, 4, generator=g), index, edge_attr=torch.rand(e, 2, generator=g)))
    padded = from_pyg(data.Batch.from_data_list(graphs), edges=("edge_attr",))
    assert padded.mask.sum(1).tolist() == [3, 1, 6]
    for b, graph in enumerate(graphs):
        n, e = graph.num_nodes, graph.num_edges
        assert torch.equal(padded.vertices["x"][b, :n], graph.x)
        assert torch.equal(padded.edge_index[b, :, :e], graph.edge_index)
        assert torch.equal(padded.edges["edge_attr"][b, :e], graph.edge_attr)
        assert (padded.edge_index[b, :, e:] == -1).all()
        assert padded.vertices["x"][b, n:].sum() == 0
    message = (
        "from_pyg: Data has no `batch` or no `edge_index`; it takes a batch of graphs with edges, such as "
        "`Batch.from_data_list([data])` makes or a PyG DataLoader yields."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_pyg(graphs[0])


def edge_vectors(x, edges):
    ends = x.unsqueeze(1).expand(-1, 2, -1, -1).gather(2, edges.clamp(min=0).unsqueeze(3).expand(-1, -1, -1, 2))
    return ends[:, 1] - ends[:, 0]


def match_points(x1, x2):
    """By the vectors of Delaunay edges alone; nothing is known of single points."""
    edges1, edges2 = delaunay_edges(x1), delaunay_edges(x2)
    gap = edge_vectors(x1, edges1).unsqueeze(2) - edge_vectors(x2, edges2).unsqueeze(1)
    scores = torch.exp(-gap.square().sum(3) / 0.005)
    everyone = pair_mask(*[torch.ones(x.shape[:2], dtype=torch.bool) for x in (x1, x2)])
    return GraphMatching()(torch.zeros(everyone.shape), scores, edge_index1=edges1, edge_index2=edges2, mask=everyone)[0]


def test_attributes_that_graphs_do_not_have():
    batch = SimpleNamespace(
        edge_index=torch.zeros(2, 1, dtype=torch.long), batch=torch.zeros(1, dtype=torch.long), num_graphs=1
    )
    message = (
        "from_pyg: the batch has no `x`. Name attributes that its graphs have: `vertices=` those with a row for each vertex, "
        "('x',) if nothing is said, `edges=` those with a row for each edge."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_pyg(batch)
    assert from_pyg(batch, vertices=()).vertices == {}


def test_moved_points_are_found_again():
    x = points(8, 15)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(3))
    noise = 0.005 * torch.randn(8, 15, 2, generator=torch.Generator().manual_seed(4))
    y = match_points(x, (x + 0.3 + noise)[:, order])
    found = (y.argmax(2) == order.argsort()).float().mean()
    assert found > 0.95


def test_landmarks_of_the_house():
    """Frames of a video, ten apart, matched by their Delaunay edges."""
    file = Path(os.environ.get("SOLVERLAYERS_DATA", "/nonexistent")) / "graph_matching" / "cmu_house_hotel.npz"
    if not file.exists():
        pytest.skip("SOLVERLAYERS_DATA does not name a folder with graph_matching")
    house = torch.as_tensor(np.load(file)["house"])
    house = (house - house.mean(1, keepdim=True)) / house.std()
    y = match_points(house[0:100:10], house[10:110:10])
    assert (y.argmax(2) == torch.arange(30)).double().mean() > 0.95
