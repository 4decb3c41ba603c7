"""Spanning arborescences, against NetworkX, with their own proofs, and kernels against torch."""

import re

import networkx as nx
import pytest
import torch
from builds import BUILDS, generator, serve
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers import arborescence
from solverlayers.solvers.arborescence import Arborescence, DenseArborescence, MaxArborescence, MaxDenseArborescence
from solverlayers.solvers.graph import Graph, grid_graph

BACKENDS = ("torch", *BUILDS)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Each implementation in turn: batched torch, and each build of the kernels that runs here."""
    use(request.param, monkeypatch)
    return request.param


def use(name, monkeypatch):
    serve(name, monkeypatch, arborescence)


def best(costs, edges, nodes, root=None):
    """The least cost, by NetworkX; None if there is none."""
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    for cost, (u, v) in zip(costs.tolist(), edges.T.tolist()):
        better = not graph.has_edge(u, v) or cost < graph[u][v]["weight"]
        if u != v and v != root and cost < torch.inf and better:
            graph.add_edge(u, v, weight=cost)
    if len(graph) < 2:
        return 0
    try:
        return nx.minimum_spanning_arborescence(graph).size("weight")
    except nx.NetworkXException:
        return None


def check(y, costs, edges, nodes, root=None):
    """`y (E,)` leads from the root to all nodes, at the least cost."""
    tails, heads = edges[:, y != 0]
    assert len(set(heads.tolist())) == len(heads) == max(len(nodes) - 1, 0)
    tree = nx.DiGraph(list(zip(tails.tolist(), heads.tolist())))
    tree.add_nodes_from(nodes)
    start = [v for v in nodes if v not in set(heads.tolist())]
    assert root is None or start == [root]
    assert not nodes or nx.descendants(tree, start[0]) | {start[0]} == set(nodes)
    assert costs[y != 0].sum().item() == pytest.approx(best(costs, edges, nodes, root), abs=1e-9)


def check_proof(info, costs, edges, root):
    """The duals of one instance bound the cost of any arborescence, and add up to that of the solution."""
    entry, parent = info.duals["entry"][0].tolist(), info.duals["parent"][0].tolist()
    n = len(entry) // 2
    sets = [{v} for v in range(n)] + [set() for _ in range(n)]
    for v in range(n):
        k = v
        while parent[k] >= 0:
            k = parent[k]
            sets[k].add(v)
    assert all(value >= 0 for value, inside in zip(entry[n:], sets[n:]) if inside)
    assert all(value == 0 for value, inside in zip(entry, sets) if not inside or root in inside)
    for cost, (u, v) in zip(costs.tolist(), edges.T.tolist()):
        if u != v and v != root:
            paid = sum(value for value, inside in zip(entry, sets) if v in inside and u not in inside)
            assert cost >= paid - 1e-9
    assert info.objective.item() == pytest.approx(sum(entry), abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    nodes=st.integers(1, 9),
    size=st.integers(0, 40),
    levels=st.sampled_from([1, 3, 1000]),
    rooted=st.booleans(),
)
def test_random_graphs(seed, nodes, size, levels, rooted):
    """Ties, negative costs, loops, parallel edges, masks, forbidden edges, nodes that cannot be reached, roots of their own."""
    g = generator(seed)
    edges = torch.randint(0, nodes, (3, 2, size), generator=g)
    costs = torch.randint(-levels, levels + 1, (3, size), generator=g).double()
    costs[torch.rand(3, size, generator=g) < 0.1] = torch.inf
    mask = torch.rand(3, size, generator=g) < 0.9
    roots = torch.randint(0, nodes, (3,), generator=g)
    named = [set(edges[b][:, mask[b]].flatten().tolist()) | ({int(roots[b])} if rooted else set()) for b in range(3)]
    root = [int(r) if rooted else None for r in roots]
    failed = [best(costs[b][mask[b]], edges[b][:, mask[b]], named[b], root[b]) is None for b in range(3)]
    data = {"mask": mask, "edge_index": edges.where(mask[:, None], -7)} | ({"root": roots} if rooted else {})
    for name in ("torch", *BUILDS[-1:]):
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            if any(failed):
                with pytest.raises(InfeasibleError) as caught:
                    Arborescence()(costs.where(mask, torch.nan), **data)
                assert caught.value.instances.tolist() == failed
                continue
            y = Arborescence()(costs.where(mask, torch.nan), **data)
            assert (y[~mask] == 0).all()
            for b in range(3):
                check(y[b][mask[b]], costs[b][mask[b]], edges[b][:, mask[b]], named[b], root[b])


@pytest.mark.parametrize("root", [None, 0, 7])
@pytest.mark.parametrize("n", [8, 19])
@pytest.mark.parametrize("family", ["uniform", "ties", "nested", "negative"])
def test_matrices(backend, n, root, family):
    """Against NetworkX, the lists of the same arcs, and the proof."""
    u = torch.rand(3, n, n, generator=generator(n), dtype=torch.float64)
    place = torch.arange(n, dtype=torch.float64)
    costs = {
        "uniform": u,
        "ties": (4 * u).round(),
        "nested": (place[:, None] - place).abs() + u / 8,  # neighbours close cycles within cycles
        "negative": u - 2,
    }[family]
    edges = (~torch.eye(n, dtype=torch.bool)).nonzero().T
    y = DenseArborescence(root)(costs)
    assert torch.equal(MaxDenseArborescence(root)(-costs), y)
    lists = costs[:, edges[0], edges[1]]
    other = Arborescence(Graph(edges), root)(lists)
    for b in range(3):
        check(y[b, edges[0], edges[1]], lists[b], edges, range(n), root)
        check(other[b], lists[b], edges, range(n), root)
        if root is not None:
            check_proof(DenseArborescence(root).solve_with_info(costs[b : b + 1]), lists[b], edges, root)
    info = DenseArborescence(root).solve_with_info(costs)
    assert torch.allclose(info.duals["entry"].sum(1), info.objective)
    assert torch.equal(info.solution, y)
    assert info.optimal.all()


@pytest.mark.parametrize("density", [2, 5, 20])
@pytest.mark.parametrize("root", [None, 3])
def test_lists(backend, density, root):
    """Sparse ones, which are kept in heaps, and others."""
    nodes, g = 60, generator(density)
    ring = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
    edges = torch.cat([ring, torch.randint(0, nodes, (2, density * nodes), generator=g)], 1)
    costs = torch.rand(2, edges.shape[1], generator=g, dtype=torch.float64) - 0.2
    solver = Arborescence(Graph(edges), root)
    y = solver(costs)
    assert torch.equal(MaxArborescence(Graph(edges), root)(-costs), y)
    for b in range(2):
        check(y[b], costs[b], edges, range(nodes), root)
        if root is not None:
            check_proof(solver.solve_with_info(costs[b : b + 1]), costs[b], edges, root)


def test_long_paths(backend):
    """Cycles within cycles, a thousand deep."""
    n = 1000 if backend != "torch" else 60
    forth, back = torch.stack([torch.arange(n - 1), torch.arange(1, n)]), torch.stack([torch.arange(1, n), torch.arange(n - 1)])
    edges = torch.cat([forth, back], 1)
    costs = torch.cat([torch.arange(n - 1.0, 0, -1), torch.zeros(n - 1)])[None]
    y = Arborescence(Graph(edges), root=0)(costs)
    assert torch.equal(y, torch.cat([torch.ones(n - 1), torch.zeros(n - 1)])[None])
    y = Arborescence(Graph(edges))(costs)
    assert torch.equal(y, 1 - torch.cat([torch.ones(n - 1), torch.zeros(n - 1)])[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64])
def test_types(backend, dtype):
    costs = torch.tensor([[[0, 5, 4], [9, 0, 1], [9, 2, 0]]], dtype=dtype)
    y = DenseArborescence(root=0)(costs)
    assert y.dtype == dtype
    assert y.tolist() == [[[0, 1, 0], [0, 0, 1], [0, 0, 0]]]


def test_padded_matrices(backend):
    """Nodes without arcs do not count, wherever they are, and what stands there does not matter."""
    costs = torch.randn(2, 9, 9, generator=generator(0), dtype=torch.float64)
    for root in (None, 2):
        for lost in ([7, 8], [0, 4]):
            mask = torch.ones(2, 9, 9, dtype=torch.bool)
            mask[:, lost] = mask[:, :, lost] = False
            kept = [v for v in range(9) if v not in lost]
            y = DenseArborescence(root)(costs.where(mask, torch.nan), mask=mask)
            inner = None if root is None else kept.index(root)
            assert torch.equal(y[:, kept][:, :, kept], DenseArborescence(inner)(costs[:, kept][:, :, kept]))
            assert y.sum() == 2 * (len(kept) - 1)
    one_way = torch.ones(1, 3, 3, dtype=torch.bool).triu()
    assert DenseArborescence()(torch.rand(1, 3, 3), mask=one_way).sum(2)[0, 2] == 0


def test_nodes_that_cannot_be_reached(backend):
    message = (
        "Arborescence: instance 1 has nodes that no path reaches from its root, 0 (1 of 2 instances). Add edges, allow more of "
        "them in `mask`, or choose another root."
    )
    path = Arborescence(Graph([[0, 1], [1, 2]]), root=0)
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as caught:
        path(torch.rand(2, 2), mask=torch.tensor([[True, True], [False, True]]))
    assert caught.value.instances.tolist() == [False, True]
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        path(torch.tensor([[1.0, 1.0], [1.0, torch.inf]]))
    message = "MaxArborescence: instance 0 has nodes that no path reaches from any one of them (2 of 2 instances)."
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}"):
        MaxArborescence(Graph([[0, 1], [2, 2]]))(torch.rand(2, 2))
    with pytest.raises(
        InfeasibleError, match=r"^DenseArborescence: instance 0 has nodes that no path reaches from its root, 1"
    ):
        DenseArborescence(root=1)(torch.tensor([[[0.0, 1.0], [torch.inf, 0.0]]]))


def test_degenerate_graphs(backend):
    assert Arborescence(Graph([], nodes=1))(torch.rand(2, 0)).shape == (2, 0)
    assert Arborescence(Graph([[0], [0]]), root=0)(torch.rand(2, 1)).tolist() == [[0], [0]]
    assert Arborescence()(torch.rand(2, 0), edge_index=torch.zeros(2, 2, 0, dtype=torch.long)).shape == (2, 0)
    assert Arborescence(grid_graph(2, 2, directed=True))(torch.rand(0, 8)).shape == (0, 8)
    assert DenseArborescence()(torch.rand(2, 1, 1)).tolist() == [[[0]], [[0]]]
    assert DenseArborescence()(torch.rand(2, 0, 0)).shape == (2, 0, 0)
    assert DenseArborescence()(torch.rand(0, 4, 4)).shape == (0, 4, 4)


def test_wrong_arguments():
    def refuses(error, message, call):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            call()

    graph = Graph([[0, 1], [1, 2]])
    refuses(
        ValueError,
        "Arborescence: the graph is not directed. Use `Graph(edges)`, with an edge each way where both are allowed, or "
        "SpanningTree.",
        lambda: Arborescence(grid_graph(2, 2)),
    )
    refuses(
        ValueError,
        "Arborescence: root=3 is not a node of a graph of 3 nodes; nodes count from 0.",
        lambda: Arborescence(graph, 3),
    )
    refuses(
        ValueError, "DenseArborescence: root=-1 is not a node of a graph; nodes count from 0.", lambda: DenseArborescence(-1)
    )
    refuses(
        ValueError,
        "DenseArborescence: root=5 is not a node of a graph of 3 nodes; nodes count from 0.",
        lambda: DenseArborescence(5)(torch.rand(1, 3, 3)),
    )
    refuses(
        ValueError,
        "Arborescence: `root` is torch.float32 of shape (2,); expected integers of shape (2,), the root of each instance.",
        lambda: Arborescence(graph)(torch.rand(2, 2), root=torch.zeros(2)),
    )
    refuses(
        InfeasibleError,
        "Arborescence: instance 1 has root 3, but its graph has nodes 0 to 2.",
        lambda: Arborescence(graph)(torch.rand(2, 2), root=torch.tensor([0, 3])),
    )
    refuses(
        ValueError,
        "DenseArborescence: scores have shape (1, 2, 3); expected square matrices (B, n, n), a score for each pair of nodes.",
        lambda: DenseArborescence()(torch.rand(1, 2, 3)),
    )
    refuses(
        InstanceError,
        "Arborescence: instance 0 has -inf among its scores (1 of 1 instances). A score of +inf forbids an edge; -inf would "
        "outweigh everything.",
        lambda: Arborescence(graph)(torch.tensor([[-torch.inf, 1.0]])),
    )


def test_decoding():
    graph = Graph([[0, 0, 1, 2], [1, 2, 2, 1]])
    y = Arborescence(graph, 0)(torch.tensor([[5.0, 4.0, 1.0, 2.0]]))
    assert Arborescence(graph, 0).decode(y)[0].tolist() == [[0, 1], [1, 2]]
    dense = DenseArborescence(root=1)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[:, 3] = mask[:, :, 3] = False
    y = dense(torch.tensor([[[0.0, 9, 1, 0], [2, 0, 9, 0], [9, 9, 0, 0], [0, 0, 0, 0]]]), mask=mask)
    assert dense.decode(y)[0].tolist() == [1, -1, 0, -1]


def test_threads_change_nothing():
    costs = torch.rand(200, 40, 40, generator=generator(0))
    graph = grid_graph(12, 12, directed=True)
    scores = torch.rand(200, len(graph), generator=generator(1))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append((DenseArborescence()(costs), Arborescence(graph)(scores)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))
