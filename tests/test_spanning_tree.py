"""Spanning trees, against NetworkX and SciPy, and kernels against torch."""

import re
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from builds import BUILDS, generator, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csgraph

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers import spanning_tree
from solverlayers.solvers.graph import Graph, grid_graph
from solverlayers.solvers.spanning_tree import DenseSpanningTree, MaxDenseSpanningTree, MaxSpanningTree, SpanningTree

DTYPES = (torch.float32, torch.float64, torch.int32, torch.int64)


@pytest.fixture(params=["torch", *BUILDS])
def backend(request, monkeypatch):
    """Each implementation in turn: batched torch, and each build of the kernels that runs here."""
    use(request.param, monkeypatch)
    return request.param


def use(name, monkeypatch):
    serve(name, monkeypatch, spanning_tree)


def kruskal(costs, edges, mask=None):
    """The documented rule for ties, one edge after the other; None if the graph is not connected."""
    mask = [True] * len(costs) if mask is None else mask.tolist()
    part = {v: {v} for e, allowed in enumerate(mask) if allowed for v in edges[:, e].tolist()}
    y = torch.zeros(len(costs))
    for e in sorted(range(len(costs)), key=lambda e: (costs[e].item(), e)):
        u, v = edges[:, e].tolist()
        if mask[e] and costs[e] < torch.inf and part[u] is not part[v]:
            y[e] = 1
            merged = part[u] | part[v]
            part.update(dict.fromkeys(merged, merged))
    return y if len({id(p) for p in part.values()}) <= 1 else None


def draw(family, shape, dtype, seed=0):
    u = torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    if not dtype.is_floating_point or family == "ties":
        return (u * 7 - 3).round().to(dtype)
    return {"uniform": u, "signed": u - 0.5, "magnitudes": torch.exp(60 * (u - 0.5)), "equal": 0 * u - 1}[family].to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["signed", "magnitudes", "ties", "equal"])
@pytest.mark.parametrize("nodes", [2, 25])
def test_the_tree_of_kruskal(backend, family, dtype, nodes):
    """Against one loop over the sorted edges, and NetworkX for the cost; parallel edges and loops included."""
    graph = nx.gnm_random_graph(nodes, min(3 * nodes, nodes * (nodes - 1) // 2), seed=nodes)
    edges = [*nx.path_graph(nodes).edges, *graph.edges, (0, 1), (nodes - 1, nodes - 1)]
    shared = Graph(torch.tensor(edges).T, nodes)
    scores = draw(family, (5, len(shared)), dtype)
    y, own = SpanningTree(shared)(scores), SpanningTree()(scores, edge_index=shared.edges.expand(5, 2, -1))
    assert y.dtype == dtype
    assert torch.equal(y, own)
    for row, tree in zip(scores, y):
        assert torch.equal(tree.float(), kruskal(row, shared.edges))
        multi = nx.MultiGraph()
        multi.add_nodes_from(range(nodes))
        for (u, v), cost in zip(edges, row.tolist()):
            multi.add_edge(u, v, weight=cost)
        best = nx.minimum_spanning_tree(multi).size("weight")
        assert (row.double() * tree.double()).sum().item() == pytest.approx(best, rel=1e-9)
    assert torch.equal(MaxSpanningTree(shared)(-scores), y)


@pytest.mark.parametrize("size", [399, 401, 3000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_lists_of_edges(backend, size, dtype):
    """Sorted by digits, against SciPy."""
    edges = torch.randint(0, 60, (2, size), generator=generator(size))
    edges[:, :59] = torch.stack([torch.arange(59), torch.arange(1, 60)])
    for family in ("signed", "ties", "magnitudes"):
        scores = draw(family, (3, size), dtype)
        y = SpanningTree(Graph(edges, 60))(scores)
        assert all(torch.equal(tree.float(), kruskal(row, edges)) for row, tree in zip(scores, y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 17, 40])
@pytest.mark.parametrize("family", ["uniform", "ties", "equal"])
def test_matrices(backend, n, dtype, family):
    """The same trees as in the complete graph, ties included, and SciPy's cost."""
    scores = draw(family, (4, n, n), dtype, n)
    pairs = torch.triu_indices(n, n, 1)
    y = DenseSpanningTree()(scores)
    assert y.dtype == dtype
    assert torch.equal(y, y.mT)
    sums = scores + scores.mT
    assert torch.equal(y[:, pairs[0], pairs[1]], SpanningTree(Graph(pairs))(sums[:, pairs[0], pairs[1]]))
    assert torch.equal(MaxDenseSpanningTree()(-scores), y)
    shifted = sums.double() - sums.double().min() + 1  # SciPy takes zeros for missing edges
    for matrix, tree in zip(shifted, y):
        best = csgraph.minimum_spanning_tree(matrix.triu(1).numpy()).sum()
        assert (matrix * tree.double()).sum().item() / 2 == pytest.approx(best)


def test_padded_matrices(backend):
    """Nodes outside the mask do not count, wherever they are, and what they hold does not matter."""
    scores = torch.randn(3, 9, 9, generator=generator(0), dtype=torch.float64)
    mask = torch.ones(3, 9, 9, dtype=torch.bool)
    for b, lost in enumerate(([7, 8], [0, 4], [])):
        mask[b, lost] = mask[b, :, lost] = False
        kept = [v for v in range(9) if v not in lost]
        garbage = scores[b].where(mask[b], torch.nan)[None]
        y = DenseSpanningTree()(garbage, mask=mask[b : b + 1])[0]
        assert torch.equal(y[kept][:, kept], DenseSpanningTree()(scores[b, kept][:, kept][None])[0])
        assert y.sum() == 2 * (len(kept) - 1)
    one_sided = torch.ones(1, 3, 3, dtype=torch.bool).triu()
    one_sided[0, 1, 0] = True
    assert DenseSpanningTree()(torch.rand(1, 3, 3), mask=one_sided).tolist() == [[[0, 1, 0], [1, 0, 0], [0, 0, 0]]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 8), size=st.integers(0, 20), levels=st.sampled_from([1, 3, 1000]))
def test_random_graphs_with_masks(seed, nodes, size, levels):
    """Graphs of each instance, some not connected, in torch and in the kernel."""
    g = generator(seed)
    edges = torch.randint(0, nodes, (4, 2, size), generator=g)
    scores = torch.randint(-levels, levels + 1, (4, size), generator=g).double()
    mask = torch.rand(4, size, generator=g) < 0.8
    expected = [kruskal(scores[b], edges[b], mask[b]) for b in range(4)]
    broken = torch.tensor([tree is None for tree in expected])
    edges = edges.where(mask[:, None], -(10**9))
    for name in ("torch", *BUILDS[-1:]):
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            if broken.any():
                with pytest.raises(InfeasibleError) as caught:
                    SpanningTree()(scores, mask=mask, edge_index=edges)
                assert torch.equal(caught.value.instances, broken)
            else:
                y = SpanningTree()(scores, mask=mask, edge_index=edges)
                assert torch.equal(y.float(), torch.stack(expected))


def test_infinite_costs_take_edges_away(backend):
    square = Graph([[0, 1, 2, 3], [1, 2, 3, 0]])
    inf = torch.inf
    assert SpanningTree(square)(torch.tensor([[1.0, inf, 2.0, 3.0]])).tolist() == [[1, 0, 1, 1]]
    assert MaxSpanningTree(square)(torch.tensor([[1.0, -inf, inf, 3.0]])).tolist() == [[1, 0, 1, 1]]
    matrix = torch.tensor([[[0, 1, inf], [1, 0, 2], [5, 2, 0]]])
    assert DenseSpanningTree()(matrix).tolist() == [[[0, 1, 0], [1, 0, 1], [0, 1, 0]]]


def test_a_graph_that_is_not_connected(backend):
    message = (
        "SpanningTree: instance 1 is not connected (1 of 2 instances), so no tree spans it. Add edges, or allow more of "
        "them in `mask`."
    )
    path = SpanningTree(Graph([[0, 1], [1, 2]]))
    mask = torch.tensor([[True, True], [True, False]])
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as caught:
        path(torch.rand(2, 2), mask=mask)
    assert caught.value.instances.tolist() == [False, True]
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        path(torch.tensor([[1.0, 2.0], [1.0, torch.inf]]))
    with pytest.raises(InfeasibleError, match=r"^MaxSpanningTree: instance 0 is not connected"):
        MaxSpanningTree(Graph([[0], [1]], nodes=3))(torch.rand(1, 1))
    scores = torch.rand(2, 3, 3)
    scores[1, 2, :] = torch.inf
    with pytest.raises(InfeasibleError, match=f"^Dense{re.escape(message)}$"):
        DenseSpanningTree()(scores)


def test_degenerate_graphs(backend):
    assert SpanningTree(Graph([], nodes=1))(torch.rand(2, 0)).shape == (2, 0)
    assert SpanningTree(Graph([[0], [0]]))(torch.rand(2, 1)).tolist() == [[0], [0]]
    assert SpanningTree()(torch.rand(2, 0), edge_index=torch.zeros(2, 2, 0, dtype=torch.long)).shape == (2, 0)
    assert SpanningTree(grid_graph(2, 2))(torch.rand(0, 4)).shape == (0, 4)
    assert DenseSpanningTree()(torch.rand(2, 1, 1)).tolist() == [[[0]], [[0]]]
    assert DenseSpanningTree()(torch.rand(2, 0, 0)).shape == (2, 0, 0)
    assert DenseSpanningTree()(torch.rand(0, 4, 4)).shape == (0, 4, 4)


def test_wrong_arguments():
    def refuses(error, message, call):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            call()

    scores, edges = torch.rand(2, 3), torch.zeros(2, 2, 3, dtype=torch.long)
    refuses(
        TypeError,
        "SpanningTree: graph is a list; expected a Graph. Use `Graph(edge_index)` or `Graph.from_networkx(graph)`.",
        lambda: SpanningTree([[0], [1]]),
    )
    advice = "Give the solver a `graph` that all instances share, or each call the `edge_index` (B, 2, E) of its instances."
    refuses(ValueError, f"SpanningTree: there are no edges. {advice}", lambda: SpanningTree()(scores))
    refuses(
        ValueError,
        f"SpanningTree: there are two sets of edges, `graph` and `edge_index`. {advice}",
        lambda: SpanningTree(Graph([[0], [1]]))(scores, edge_index=edges),
    )
    refuses(
        ValueError,
        "SpanningTree: the scores are for 3 edges, but the graph has 1.",
        lambda: SpanningTree(Graph([[0], [1]]))(scores),
    )
    refuses(
        ValueError,
        "SpanningTree: `edge_index` is torch.float32 of shape (2, 2, 3); expected integers of shape (2, 2, 3), both ends of "
        "each edge that has a score.",
        lambda: SpanningTree()(scores, edge_index=edges.float()),
    )
    refuses(
        InfeasibleError,
        "SpanningTree: `edge_index` of instance 0 names negative nodes; nodes count from 0. Use `mask` for edges that are "
        "padding.",
        lambda: SpanningTree()(scores, edge_index=edges - 1),
    )
    refuses(
        TypeError,
        "SpanningTree: scores are torch.bool; use real or integer numbers, such as `scores.float()`.",
        lambda: SpanningTree()(scores > 0, edge_index=edges),
    )
    refuses(
        ValueError,
        "DenseSpanningTree: scores have shape (1, 2, 3); expected square matrices (B, n, n), a score for each pair of nodes.",
        lambda: DenseSpanningTree()(torch.rand(1, 2, 3)),
    )
    with pytest.raises(InstanceError, match=r"^DenseSpanningTree: instance 0 has NaN scores"):
        DenseSpanningTree()(torch.full((1, 3, 3), torch.nan))


def test_trees_are_proved_the_best(backend):
    """No edge outside a tree costs less than one on the path in the tree between its ends, which proves the tree."""
    graph = grid_graph(5, 5, neighbours=8)
    costs = torch.randn(3, len(graph), generator=generator(0))
    info = SpanningTree(graph).solve_with_info(costs)
    assert info.optimal.all()
    assert torch.allclose(info.bound, info.objective)
    assert torch.allclose(info.objective, (costs.double() * info.solution).sum(1))
    for row, y in zip(costs.tolist(), info.solution.tolist()):
        edges = list(zip(graph.edges.T.tolist(), row, y))
        tree = nx.Graph()
        tree.add_weighted_edges_from([(u, v, cost) for (u, v), cost, taken in edges if taken])
        for (u, v), cost, taken in edges:
            path = nx.shortest_path(tree, u, v)
            assert taken or cost >= max(tree[a][b]["weight"] for a, b in pairwise(path))


def test_decoding():
    graph = Graph([[0, 1, 2], [1, 2, 0]])
    solver = SpanningTree(graph)
    pairs = solver.decode(solver(torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 1.0]])))
    assert [one.tolist() for one in pairs] == [[[1, 2], [2, 0]], [[0, 1], [1, 2]]]
    own = SpanningTree().decode(torch.tensor([[0.0, 1.0, 1.0]]), edge_index=graph.edges[None])
    assert own[0].tolist() == [[1, 2], [2, 0]]
    dense = DenseSpanningTree()
    assert dense.decode(dense(torch.tensor([[[0.0, 1, 5], [1, 0, 2], [5, 2, 0]]])))[0].tolist() == [[0, 1], [1, 2]]


def test_threads_change_nothing(backend):
    scores = torch.rand(200, 40, 40, generator=generator(0))
    edges = grid_graph(12, 12)
    costs = torch.rand(200, len(edges), generator=generator(1))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append((DenseSpanningTree()(scores), SpanningTree(edges)(costs)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert np.isclose(results[0][1].sum().item(), 200 * 143)
