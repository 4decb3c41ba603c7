"""Longest paths in acyclic graphs, against enumeration, NetworkX, and the two implementations against each other."""

from __future__ import annotations

import networkx
import pytest
import torch
from builds import compiled, each_build, each_dtype, refused, use
from cases import edge_paths

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers import dag
from solverlayers.solvers.graph import Graph
from solverlayers.solvers.graph_path import GraphShortestPath
from solverlayers.solvers.longest_path import LongestPath, _ordered


def acyclic(nodes: int, share: float, seed: int = 0) -> Graph:
    """Random edges from lower to higher nodes in a hidden order, in any order."""
    g = torch.Generator().manual_seed(seed)
    pairs = torch.triu_indices(nodes, nodes, 1)
    pairs = pairs[:, torch.rand(pairs.shape[1], generator=g) < share]
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=g)]
    return Graph(torch.randperm(nodes, generator=g)[pairs], nodes)


def normal(batch: int, graph: Graph, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(batch, len(graph), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def networkx_graph(graph: Graph, row: torch.Tensor) -> networkx.DiGraph:
    other = networkx.DiGraph()
    other.add_nodes_from(range(graph.nodes))
    other.add_weighted_edges_from((a, b, w) for (a, b), w in zip(graph.edges.T.tolist(), row.tolist()))
    return other


@pytest.mark.parametrize(("nodes", "share"), [(1, 0.5), (2, 1.0), (6, 0.5), (12, 1.0), (60, 0.1)])
def test_against_networkx(implementation, nodes, share):
    graph = acyclic(nodes, share)
    weights = normal(19, graph)
    solver = LongestPath(graph)
    info = solver.solve_with_info(weights)
    assert info.optimal.all()
    for row, y, objective, path in zip(weights, info.solution, info.objective, solver.decode(info.solution)):
        length = networkx.dag_longest_path_length(networkx_graph(graph, row))
        assert objective.item() == pytest.approx(max(length, 0.0))
        assert y.sum() == max(len(path) - 1, 0)


@pytest.mark.parametrize("seed", range(4))
def test_best_of_all_paths_between_two_nodes(implementation, seed):
    graph = acyclic(6, 0.7, seed)
    weights = (3 * normal(36, graph, seed)).round()
    source, target = torch.arange(36) // 6, torch.arange(36) % 6
    everywhere = torch.ones(len(graph), dtype=torch.bool)
    every = [edge_paths(graph.edges, a, b, everywhere, directed=True).double() for a, b in zip(source, target)]
    found = torch.tensor([len(paths) > 0 for paths in every])
    y = LongestPath(graph)(weights[found], source=source[found], target=target[found])
    paths = [p for p in every if len(p)]
    for row, chosen, options in zip(weights[found], y, paths):
        assert (options == chosen).all(1).any()
        assert (row * chosen).sum() == (options @ row).max()
    with pytest.raises(InfeasibleError) as error:
        LongestPath(graph)(weights, source=source, target=target)
    assert torch.equal(error.value.instances, ~found)


def test_shortest_paths_with_the_opposite_sign(implementation):
    """The fields `source` and `target`, or one of the two alone."""
    graph = acyclic(10, 0.6)
    costs = normal(8, graph).abs()
    order = _ordered(graph)[1]
    first, last = int(order.argmin()), int(order.argmax())
    y = LongestPath(graph, first, last)(-costs)
    assert torch.equal(y, GraphShortestPath(graph, first, last)(costs))
    assert LongestPath(graph, first)(-costs).eq(0).all()
    assert LongestPath(graph, target=last).decode(LongestPath(graph, target=last)(-costs)) == [[]] * 8
    assert LongestPath(graph, first).decode(LongestPath(graph, first)(-costs)) == [[first]] * 8


def test_masks_and_minus_infinity_agree(implementation):
    graph = acyclic(9, 0.6)
    weights = normal(20, graph)
    mask = torch.rand(weights.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    y = LongestPath(graph)(torch.where(mask, weights, torch.nan), mask=mask)
    assert torch.equal(y, LongestPath(graph)(torch.where(mask, weights, -torch.inf)))
    assert y[~mask].eq(0).all()


def test_ties(implementation):
    """Late starts, early ends, and the edge of lowest index."""
    solver = LongestPath(Graph([[0, 1, 1, 2, 2, 3], [1, 2, 2, 3, 3, 4]]))
    assert solver(torch.tensor([[0, 1, 1, 1, 1, 0]])).tolist() == [[0, 1, 0, 1, 0, 0]]


@compiled
@each_build
@each_dtype
@pytest.mark.parametrize(("nodes", "share"), [(1, 1.0), (4, 0.0), (9, 0.6), (40, 0.3)])
def test_compiled_and_torch_versions_are_equal(build, dtype, nodes, share, monkeypatch):
    """Every path and status, ties included, for batches that do not fill the lanes."""
    use(build, monkeypatch)
    graph = acyclic(nodes, share)
    plan, place = _ordered(graph)
    weights = normal(21, graph, dtype=dtype)
    weights[:7] = weights[:7].round()
    weights[3, :1], weights[4, ::2] = torch.inf, -torch.inf
    g = torch.Generator().manual_seed(1)
    mask = torch.rand(weights.shape, generator=g) < 0.8
    ends = place[torch.randint(nodes, (2, 21), generator=g)]
    free = torch.stack([torch.zeros(21, dtype=torch.int64), torch.full((21,), plan.nodes - 1)])
    for mask_, (source, target) in ((None, free), (mask, free), (None, ends), (mask, ends)):
        a, b = (f(plan, weights, mask_, source, target) for f in (dag.best_paths, dag.sweep))
        assert torch.equal(a.times, b.times)
        assert (a.status is None) == (b.status is None)
        assert a.status is None or torch.equal(a.status.long(), b.status.long())


def test_types_threads_and_empty_batch():
    graph = acyclic(30, 0.5)
    weights = (3 * normal(200, graph)).round()
    best = LongestPath(graph)(weights)
    for dtype in (torch.float32, torch.int32, torch.int64, torch.bfloat16):
        y = LongestPath(graph)(weights.to(dtype))
        assert y.dtype == dtype
        assert torch.equal(y.double(), best)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(LongestPath(graph)(weights), best)
    finally:
        torch.set_num_threads(threads)
    assert LongestPath(graph)(weights[:0]).shape == (0, len(graph))


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ([[0], [0]], "0 -> 0"),
        ([[0, 1, 2, 3, 1], [1, 2, 3, 1, 4]], "1 -> 2 -> 3 -> 1"),
        ([[4, 2, 3, 0], [2, 4, 4, 1]], "2 -> 4 -> 2"),
    ],
)
def test_a_cycle_is_named(edges, cycle):
    message = (
        f"LongestPath: the graph has the cycle {cycle}, along which paths could grow for ever. Take one of its edges away."
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        LongestPath(Graph(edges))


def test_wrong_fields():
    with pytest.raises(TypeError, match=r"^LongestPath: graph is a list; expected a Graph\. Use `Graph\(edge_index\)` or"):
        LongestPath([[0], [1]])
    with pytest.raises(ValueError, match=r"^LongestPath: the graph is not directed; longest paths are found in directed"):
        LongestPath(Graph([[0], [1]], directed=False))
    with pytest.raises(ValueError, match=r"^LongestPath: target=2 is not a node of a graph of 2 nodes; nodes count from 0\.$"):
        LongestPath(Graph([[0], [1]]), target=2)


def test_instances_without_an_answer_are_named(implementation):
    graph = Graph([[0, 1], [1, 2]])
    scores = torch.ones(3, 2)
    scores[1, 0] = -torch.inf
    refused(
        LongestPath(graph, 0, 2),
        (scores,),
        "LongestPath: instance 1 has no path from its source to its target (1 of 3 instances). The graph has none there, or "
        "the mask or scores of minus infinity take edges away that a path needs.",
        instances=[False, True, False],
    )
    refused(
        LongestPath(graph),
        (scores,),
        "LongestPath: instance 2 has source 3 (1 of 3 instances), but the graph has nodes 0 to 2.",
        instances=[False, False, True],
        source=torch.tensor([0, 1, 3]),
    )
    refused(
        LongestPath(graph),
        (scores,),
        "LongestPath: `target` is torch.float32 of shape (3,); expected integers of shape (3,), the node of each instance.",
        ValueError,
        target=torch.zeros(3),
    )
    scores[2, 1] = torch.inf
    refused(
        LongestPath(graph),
        (scores,),
        "LongestPath: instance 2 has a score of plus infinity (1 of 3 instances). A score of minus infinity forbids; plus "
        "infinity would outweigh everything.",
        InstanceError,
        [False, False, True],
    )
    refused(
        LongestPath(graph), (torch.ones(1, 3),), "LongestPath: the scores are for 3 edges, but the graph has 2.", ValueError
    )
