"""Matchings in general graphs, against NetworkX, and ways to solve them against each other."""

import re

import builds
import networkx as nx
import pytest
import torch
from builds import BUILDS, generator
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers import matching_methods as methods
from solverlayers.solvers.bipartite import bipartition, match_by_assignment
from solverlayers.solvers.graph import Graph, grid_graph
from solverlayers.solvers.matching import MaxCardinalityMatching, MaxWeightMatching, PerfectMatching
from solverlayers.solvers.matching_diagrams import complete_graph, matching_diagram

CLASSES = (PerfectMatching, MaxWeightMatching, MaxCardinalityMatching)


BACKENDS = ("networkx", "torch", *BUILDS)


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """NetworkX, which serves without kernels where torch does not, torch, and each build of the kernels that runs here."""
    use(request.param, monkeypatch)
    return request.param


def use(name, monkeypatch):
    monkeypatch.setattr(methods, "usable", lambda *tensors: name in BUILDS)
    if name in BUILDS:
        builds.use(name, monkeypatch)
    else:
        monkeypatch.setattr(methods, "library", lambda: None)
    if name == "networkx":
        without_diagrams(monkeypatch)


def forbidden(cls, graph, scores, mask):
    """Scores that forbid what the mask leaves out, and which instances have no matching; the solver refuses just these."""
    plain = scores.where(mask, torch.inf if cls is PerfectMatching else -torch.inf)
    failed = torch.tensor([best(cls, row, graph.edges, range(graph.nodes)) is None for row in plain])
    if failed.any():
        with pytest.raises(InfeasibleError) as caught:
            cls(graph)(scores, mask=mask)
        assert torch.equal(caught.value.instances, failed)
    return plain, failed


def without_diagrams(monkeypatch):
    """Every graph as if it were wide and had many nodes."""
    monkeypatch.setattr(methods, "matching_diagram", lambda *arguments: None)
    monkeypatch.setattr(methods, "SMALL", -1)


def best(cls, scores, edges, nodes):
    """Score and number of edges of the best matching, by NetworkX; None where no perfect one exists."""
    sign = -1 if cls is PerfectMatching else 1
    graph = nx.Graph()
    graph.add_nodes_from(nodes)
    for e, (u, v) in enumerate(edges.T.tolist()):
        weight = sign * scores[e].item()
        if u != v and weight > -torch.inf and (not graph.has_edge(u, v) or weight > graph[u][v]["weight"]):
            graph.add_edge(u, v, weight=weight)
    pairs = nx.max_weight_matching(graph, maxcardinality=cls is not MaxWeightMatching)
    if cls is PerfectMatching and 2 * len(pairs) < len(graph):
        return None
    return sign * sum(graph[u][v]["weight"] for u, v in pairs), len(pairs)


def check(cls, y, scores, edges, nodes):
    """`y (E,)` is a matching as good as the best."""
    value, size = best(cls, scores, edges, nodes)
    degree = torch.zeros(max(nodes, default=0) + 1).index_add_(0, edges.flatten(), y.float().repeat(2))
    assert (degree <= 1).all()
    assert (y.double() * scores.double().where(y != 0, 0)).sum().item() == pytest.approx(value, abs=1e-9, rel=1e-12)
    assert cls is MaxWeightMatching or y.sum() == size


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    nodes=st.integers(1, 12),
    size=st.integers(0, 36),
    levels=st.sampled_from([1, 3, 1000]),
    real=st.booleans(),
)
@pytest.mark.parametrize("cls", CLASSES)
def test_random_graphs(cls, seed, nodes, size, levels, real):
    """Ties, negative scores, loops, parallel edges, masks, forbidden edges, graphs in several pieces, odd ones."""
    g = generator(seed)
    edges = torch.randint(0, nodes, (2, 2, size), generator=g)
    scores = torch.randint(-levels, 2 * levels, (2, size), generator=g).double()
    scores += real * torch.rand(2, size, generator=g)
    scores[torch.rand(2, size, generator=g) < 0.1] = torch.inf if cls is PerfectMatching else -torch.inf
    mask = torch.rand(2, size, generator=g) < 0.8
    named = [sorted(set(edges[b][:, mask[b]].flatten().tolist())) for b in range(2)]
    expected = [best(cls, scores[b][mask[b]], edges[b][:, mask[b]], named[b]) for b in range(2)]
    failed = [one is None for one in expected]
    data = {"mask": mask, "edge_index": edges.where(mask[:, None], -7)}
    for name in BACKENDS:
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            if any(failed):
                with pytest.raises(InfeasibleError) as caught:
                    cls()(scores.where(mask, torch.nan), **data)
                assert caught.value.instances.tolist() == failed
                continue
            y = cls()(scores.where(mask, torch.nan), **data)
            assert (y[~mask] == 0).all()
            for b in range(2):
                check(cls, y[b][mask[b]], scores[b][mask[b]], edges[b][:, mask[b]], named[b])


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("family", ["uniform", "geometric", "ties", "magnitudes", "offset"])
@pytest.mark.parametrize("n", [21])
def test_dense_graphs(cls, family, n, monkeypatch):
    """Many nested blossoms, against NetworkX, in every build."""
    n += n % 2 if cls is PerfectMatching else 0
    edges = torch.triu_indices(n, n, 1)
    g = generator(n)
    points = torch.rand(2, n, 2, generator=g, dtype=torch.float64)
    u = torch.rand(2, edges.shape[1], generator=g, dtype=torch.float64)
    scores = {
        "uniform": u - 0.3,
        "geometric": torch.cdist(points, points)[:, edges[0], edges[1]],
        "ties": (4 * u).round() - 1,
        "magnitudes": torch.exp(20 * u),
        "offset": u + 1e6,
    }[family]
    for name in BUILDS:
        use(name, monkeypatch)
        y = cls(Graph(edges))(scores)
        for b in range(2):
            check(cls, y[b], scores[b], edges, range(n))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("graph", [grid_graph(4, 5), grid_graph(6, 6), grid_graph(2, 7)], ids=["4x5", "6x6", "2x7"])
@pytest.mark.parametrize("levels", [2, 1000])
def test_bipartite_graphs(cls, graph, levels):
    """As assignment, against NetworkX, and against the general algorithm on the same edges."""
    scores = torch.randint(-levels, levels, (4, len(graph)), generator=generator(0)).float()
    assert bipartition(graph) is not None
    y, general = cls(graph)(scores), cls()(scores, edge_index=graph.edges.expand(4, 2, -1))
    assert torch.equal((y * scores).sum(1), (general * scores).sum(1))
    for row, one in zip(scores, y):
        check(cls, one, row, graph.edges, range(graph.nodes))


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("cls", [PerfectMatching, MaxWeightMatching])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_sparse_bipartite_graphs(build, cls, levels, monkeypatch):
    """By lists of edges, against NetworkX and as assignment, some edges forbidden."""
    use(build, monkeypatch)
    graph, g = scrambled(grid_graph(12, 13), 1), generator(levels)
    assert bipartition(graph).sparse
    assert matching_diagram(graph, cls is PerfectMatching, methods.LARGEST_DIAGRAM) is None
    scores = torch.randint(-levels, levels, (6, len(graph)), generator=g).double()
    mask = torch.rand(6, len(graph), generator=g) < 0.97
    scores = scores.where(mask, torch.nan)
    plain, failed = forbidden(cls, graph, scores, mask)
    assert not failed.all()
    y = cls(graph)(scores[~failed], mask=mask[~failed])
    assert torch.equal(y, cls(graph)(plain[~failed]))
    for row, one in zip(plain[~failed], y):
        check(cls, one, row, graph.edges, range(graph.nodes))
    other, _ = match_by_assignment(plain[~failed], bipartition(graph), cls is PerfectMatching, cls is not PerfectMatching)
    assert torch.equal((y * scores[~failed].nan_to_num()).sum(1), (other * scores[~failed].nan_to_num()).sum(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64])
def test_types(backend, dtype):
    triangle_with_tail = Graph([[0, 1, 2, 2], [1, 2, 0, 3]])
    y = MaxWeightMatching(triangle_with_tail)(torch.tensor([[6, 7, 1, 5]], dtype=dtype))
    assert y.dtype == dtype
    assert y.tolist() == [[1, 0, 0, 1]]


def test_no_perfect_matching(backend):
    message = (
        "PerfectMatching: instance 0 has no matching that leaves no node out (2 of 2 instances). Its graph has an odd number "
        "of nodes, 3. Allow more edges, or use MaxCardinalityMatching, which matches as many nodes as it can."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        PerfectMatching(Graph([[0, 1, 2], [1, 2, 0]]))(torch.rand(2, 3))
    path = PerfectMatching(Graph([[0, 1, 2], [1, 2, 3]]))
    message = (
        "PerfectMatching: instance 1 has no matching that leaves no node out (1 of 2 instances). Allow more edges, or use "
        "MaxCardinalityMatching, which matches as many nodes as it can."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as caught:
        path(torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, torch.inf]]))
    assert caught.value.instances.tolist() == [False, True]
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        path(torch.rand(2, 3), mask=torch.tensor([[True, True, True], [False, True, True]]))
    with pytest.raises(InfeasibleError, match=r"^PerfectMatching: instance 0 has no matching"):
        PerfectMatching(Graph([[0, 0, 0], [1, 2, 3]]))(torch.rand(1, 3))


@pytest.mark.parametrize("graph", [grid_graph(2, 2), grid_graph(12, 12), complete_graph(18)], ids=["narrow", "sparse", "dense"])
def test_numbers_that_mean_nothing(backend, graph):
    """Algorithms that report them, instead of a pass over the scores before; the mask hides them."""
    scores = torch.rand(3, len(graph), generator=generator(0))
    mask = torch.ones_like(scores, dtype=torch.bool)
    for number, cls, text in (
        (torch.nan, PerfectMatching, "NaN scores"),
        (torch.nan, MaxWeightMatching, "NaN scores"),
        (-torch.inf, PerfectMatching, "-inf among its scores"),
        (torch.inf, MaxWeightMatching, "+inf among its scores"),
    ):
        wrong, hidden = scores.clone(), mask.clone()
        wrong[1, 0], hidden[1, 0] = number, False
        with pytest.raises(InstanceError, match=f"^{cls.__name__}: instance 1 has {re.escape(text)}") as caught:
            cls(graph)(wrong)
        assert caught.value.instances.tolist() == [False, True, False]
        assert torch.equal(cls(graph)(wrong, mask=hidden), cls(graph)(scores, mask=hidden))
        with pytest.raises(InstanceError, match=f"^{cls.__name__}: instance 1 has {re.escape(text)}"):
            cls()(wrong, edge_index=graph.edges.expand(3, 2, -1))


def test_infinite_scores():
    message = (
        "MaxWeightMatching: instance 1 has +inf among its scores (1 of 2 instances). A score of -inf forbids an edge; +inf "
        "would outweigh everything."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        MaxWeightMatching(Graph([[0], [1]]))(torch.tensor([[1.0], [torch.inf]]))


def test_degenerate_graphs(backend):
    assert PerfectMatching()(torch.rand(2, 0), edge_index=torch.zeros(2, 2, 0, dtype=torch.long)).shape == (2, 0)
    assert MaxWeightMatching(Graph([], nodes=3))(torch.rand(2, 0)).shape == (2, 0)
    assert PerfectMatching(grid_graph(2, 2))(torch.rand(0, 4)).shape == (0, 4)
    assert MaxCardinalityMatching(Graph([[0, 0], [0, 1]]))(torch.tensor([[5.0, -5.0]])).tolist() == [[0, 1]]
    assert MaxWeightMatching(Graph([[0, 0, 1], [1, 1, 1]]))(torch.tensor([[1.0, 2.0, 9.0]])).tolist() == [[0, 1, 0]]
    assert bipartition(Graph([[0, 0], [1, 1]])) is None
    assert bipartition(Graph([[0, 1, 2], [1, 2, 0]])) is None


def test_threads_change_nothing():
    edges = torch.triu_indices(24, 24, 1)
    scores = torch.rand(200, edges.shape[1], generator=generator(0))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(PerfectMatching(Graph(edges))(scores))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def scrambled(graph, seed):
    """The same graph with its nodes in another order."""
    order = torch.randperm(graph.nodes, generator=generator(seed))
    return Graph(order[graph.edges], graph.nodes)


def without_cells(graph, *cells):
    """What is left of a grid; nodes keep their order."""
    kept = torch.ones(graph.nodes, dtype=torch.bool)
    kept[list(cells)] = False
    edges = graph.edges[:, kept[graph.edges].all(0)]
    return Graph((kept.cumsum(0) - 1)[edges], int(kept.sum()))


NARROW = {
    "grid": grid_graph(6, 6),
    "flat grid": grid_graph(4, 9),
    "scrambled grid": scrambled(grid_graph(5, 8), 0),
    "grid with holes": without_cells(grid_graph(6, 6), 0, 1, 14, 15),
    "eight neighbours": grid_graph(4, 6, neighbours=8),
    "complete": complete_graph(8),
    "parallel edges": Graph([[0, 1, 2, 0, 1, 3, 3], [1, 2, 3, 1, 0, 0, 3]]),
}


@pytest.mark.parametrize("cls", [PerfectMatching, MaxWeightMatching])
@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("batch", [1, 9])
def test_narrow_graphs(backend, cls, name, batch, monkeypatch):
    """By diagrams, where the back end has them, against NetworkX and the other ways."""
    graph, g = NARROW[name], generator(batch)
    assert matching_diagram(graph, cls is PerfectMatching, methods.LARGEST_DIAGRAM) is not None
    scores = torch.rand(batch, len(graph), generator=g, dtype=torch.float64) - 0.3
    mask = torch.rand(batch, len(graph), generator=g) < 0.95
    scores = scores.where(mask, torch.nan)
    plain, failed = forbidden(cls, graph, scores, mask)
    scores, mask, plain = scores[~failed], mask[~failed], plain[~failed]
    y = cls(graph)(scores, mask=mask)
    assert torch.equal(y, cls(graph)(plain))
    for row, one in zip(plain, y):
        check(cls, one, row, graph.edges, range(graph.nodes))
    without_diagrams(monkeypatch)
    other = cls(graph)(plain)
    assert torch.allclose((y * scores.nan_to_num()).sum(1), (other * scores.nan_to_num()).sum(1), rtol=1e-12)


def test_torch_and_kernels_find_the_same_matchings():
    """Ties included; float32 is summed in float64 by both."""
    graph = grid_graph(6, 7, neighbours=8)
    for dtype, levels in ((torch.float32, 3), (torch.float32, 10**6), (torch.float64, 10**6)):
        scores = torch.randint(-levels, levels, (19, len(graph)), generator=generator(levels)).to(dtype) / 7
        for cls in (PerfectMatching, MaxWeightMatching):
            found = []
            for name in BACKENDS[1:]:
                with pytest.MonkeyPatch.context() as patch:
                    use(name, patch)
                    found.append(cls(graph)(scores))
            assert all(torch.equal(found[0], y) for y in found)


def count(diagram):
    """How many sets a family has."""
    sets = [0, 1]
    for pair in zip(diagram.without, diagram.with_):
        sets.append(sum(sets[child] for child in pair))
    return sets[diagram.top]


def test_diagrams_hold_all_matchings():
    """The domino tilings of a chessboard (Kasteleyn, 1961), perfect matchings and all matchings of complete graphs."""
    assert count(matching_diagram(grid_graph(8, 8), True, 10**4)) == 12988816
    assert count(matching_diagram(complete_graph(10), True, 10**4)) == 9 * 7 * 5 * 3
    assert count(matching_diagram(complete_graph(6), False, 10**4)) == 76
    assert count(matching_diagram(grid_graph(3, 3), True, 10**4)) == 0


def test_wide_graphs_have_no_diagram():
    assert matching_diagram(grid_graph(40, 40), True, 10**4) is None
    assert matching_diagram(complete_graph(20), True, 10**4) is None
    assert matching_diagram(grid_graph(12, 12), True, 10**4) is None
    assert matching_diagram(grid_graph(300, 2), True, 10**4) is not None


def test_the_largest_small_graph(backend):
    """Sixteen nodes have a diagram; so have graphs of their own, which are not all named."""
    scores = torch.rand(2, 120, generator=generator(0), dtype=torch.float64)
    edges = complete_graph(16).edges
    for cls in (PerfectMatching, MaxWeightMatching):
        assert matching_diagram(complete_graph(16), cls is PerfectMatching, methods.LARGEST_DIAGRAM) is not None
        for y in (cls(Graph(edges))(scores), cls()(scores, edge_index=edges.expand(2, 2, -1))):
            for row, one in zip(scores, y):
                check(cls, one, row, edges, range(16))
    path = torch.tensor([[[2, 3, 2], [3, 2, 8]]])
    assert PerfectMatching()(torch.tensor([[2.0, 1.0, 0.0]]), edge_index=path, mask=path[:, 1] < 8).tolist() == [[0, 1, 0]]
