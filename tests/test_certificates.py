"""Solvers that give dual values are proved by them alone, without being trusted: matchings and spanning trees.

Assignment, shortest paths and flows prove themselves in the tests of their own families.
"""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import pytest
import torch

from solverlayers.solvers import (
    DenseSpanningTree,
    Graph,
    MaxCardinalityMatching,
    MaxDenseSpanningTree,
    MaxSpanningTree,
    MaxWeightMatching,
    PerfectMatching,
    SpanningTree,
    grid_graph,
    kernels,
)

compiled = pytest.mark.skipif(kernels.variant() == "none", reason="the kernel has the duals")
COMPLETE = Graph(list(zip(*combinations(range(18), 2))), directed=False)
TRIANGLES = Graph([[0, 1, 2, 3, 4, 5, 2, 6, 7, 8, 5], [1, 2, 0, 4, 5, 3, 3, 7, 8, 6, 6]], directed=False)
GRID = grid_graph(4, 13)


def drawn(graph: Graph, whole: bool, batch: int = 6) -> torch.Tensor:
    g = torch.Generator().manual_seed(len(graph))
    scores = torch.randn(batch, len(graph), generator=g, dtype=torch.float64)
    return (3 * scores).round() if whole else scores


@compiled
@pytest.mark.parametrize("whole", [False, True], ids=["real", "tied"])
@pytest.mark.parametrize("graph", [COMPLETE, TRIANGLES, GRID], ids=["complete", "triangles", "grid"])
@pytest.mark.parametrize("solver", [MaxWeightMatching, PerfectMatching, MaxCardinalityMatching])
def test_matchings_are_proved_by_their_duals(solver, graph, whole):
    """Weak duality, edge by edge: whatever the kernel did, no matching can be better than the bound."""
    if solver is PerfectMatching and graph.nodes % 2:
        graph = COMPLETE
    scores = drawn(graph, whole)
    info = solver(graph).solve_with_info(scores)
    sign = -1 if solver.sense == "min" else 1
    nodes, blossoms, members = (info.duals[name] for name in ("nodes", "blossoms", "members"))
    u, v = graph.edges
    around = torch.einsum("bk,bke->be", blossoms, (members[..., u] & members[..., v]).double())
    slack = sign * (nodes[:, u] + nodes[:, v]) + around - sign * scores
    assert (blossoms >= 0).all()
    assert (members.sum(2)[blossoms > 0] % 2 == 1).all()  # odd sets, of which one node is left over
    assert (slack[:, u != v] > -1e-9).all()
    y = info.solution
    alone = 1 - torch.zeros(len(y), graph.nodes, dtype=y.dtype).index_add_(1, u, y).index_add_(1, v, y)
    most = sign * nodes.sum(1) + (blossoms * (members.sum(2) - 1).clamp_min(0) / 2).sum(1)
    if solver is MaxWeightMatching:
        assert (nodes > -1e-9).all()
    elif solver is MaxCardinalityMatching:
        least = nodes.amin(1, keepdim=True)
        assert torch.allclose((nodes - least) * alone, torch.zeros(()).double(), atol=1e-9)
        most = most - (least * alone).sum(1)  # all matchings that are as large leave so many alone
    torch.testing.assert_close(sign * info.bound, most)
    torch.testing.assert_close(info.objective, info.bound, rtol=1e-10, atol=1e-10)
    assert info.optimal.all()
    assert (info.gap < 1e-9).all()


@compiled
def test_odd_sets_are_needed():
    """Two triangles: without blossoms, halves of edges would be the bound."""
    info = MaxWeightMatching(Graph([[0, 1, 2], [1, 2, 0]], directed=False)).solve_with_info(torch.tensor([[2.0, 2.0, 2.0]]))
    assert info.objective.item() == info.bound.item() == 2
    assert info.duals["blossoms"].tolist() == [[2.0]]
    assert info.duals["members"].tolist() == [[[True, True, True]]]
    assert info.duals["nodes"].tolist() == [[0.0, 0.0, 0.0]]


@compiled
def test_nodes_without_a_part_have_no_dual():
    edges = torch.tensor([[[0, 1, 2], [1, 2, 4]], [[0, 1, 0], [1, 3, 0]]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    for solver in (MaxWeightMatching(), MaxCardinalityMatching()):
        info = solver.solve_with_info(torch.tensor([[1.0, 5.0, 1.0], [2.0, 1.0, 9.0]]), edge_index=edges, mask=mask)
        assert info.duals["nodes"].isnan().tolist() == [[False] * 3 + [True, False], [False, False, True, False, True]]
        assert torch.equal(info.objective, info.bound)
        assert info.optimal.all()


@compiled
def test_single_precision_and_integers():
    for dtype in (torch.float32, torch.int64):
        info = MaxWeightMatching(COMPLETE).solve_with_info((100 * drawn(COMPLETE, False)).to(dtype))
        assert info.optimal.all()
        assert info.bound.dtype == torch.float64


def around(parent: list[int], node: int) -> list[int]:
    """The node and all sets that hold it, from the inside out."""
    found = [node]
    while parent[found[-1]] >= 0:
        found.append(parent[found[-1]])
    return found


def prove_tree(
    level: list[float], parent: list[int], edges: list[tuple[int, int, float]], tree: list[tuple[int, int]]
) -> float:
    """What no tree costs less than, by the sets alone; `tree` is held to be a tree of the same nodes."""
    nodes = {v for u, v, _ in edges for v in (u, v)}
    size = len(level) // 2
    sets = [s for s in range(size, 2 * size) if s in parent]
    assert all(parent.count(s) == 2 for s in sets)  # so that a set of k nodes holds k - 1 sets, itself among them,
    assert len(sets) == max(len(nodes) - 1, 0)
    assert [v for v in range(size) if parent[v] >= 0] == sorted(nodes if sets else [])
    assert all(
        level[s] <= level[parent[s]] for s in sets if parent[s] >= 0
    )  # which weigh what they cost more than those within
    assert sum(level) == sum(level[s] for s in sets)
    for u, v, cost in edges:
        others = around(parent, v)
        assert u == v or cost >= level[next(s for s in around(parent, u) if s in others)]
    assert len(nodes) <= 1 or nx.is_tree(nx.Graph(tree))
    assert {v for pair in tree for v in pair} == (nodes if len(nodes) > 1 else set())
    return sum(level)


@pytest.mark.parametrize("whole", [False, True], ids=["real", "tied"])
@pytest.mark.parametrize("solver", [SpanningTree, MaxSpanningTree])
def test_trees_are_proved_by_nested_sets(solver, whole):
    """Graphs that are shared, and each instance's own with padding, loops and parallel edges."""
    g = torch.Generator().manual_seed(3)
    sign = -1 if solver.sense == "max" else 1
    own = torch.randint(0, 7, (6, 2, 30), generator=g)
    own[:, :, :6] = torch.stack([torch.arange(6), torch.arange(1, 7)])
    mask = torch.rand(6, 30, generator=g) < 0.8
    mask[:, :6] = True
    mask[0] = torch.arange(30) == 8  # one edge
    mask[1] = False
    scores = drawn(Graph(own[2]), whole)
    cases = [(solver(graph), drawn(graph, whole), graph.edges, {}) for graph in (COMPLETE, GRID)]
    cases.append((solver(), scores, own, {"edge_index": own.where(mask[:, None], -5), "mask": mask}))
    for one, costs, edges, instance in cases:
        info = one.solve_with_info(costs, **instance)
        assert info.optimal.all()
        for b, row in enumerate(costs):
            use = instance["mask"][b] if instance else torch.ones_like(row, dtype=torch.bool)
            ends = (edges if edges.ndim == 2 else edges[b])[:, use].T.tolist()
            listed = [(u, v, sign * cost) for (u, v), cost in zip(ends, row[use].tolist())]
            tree = [(u, v) for (u, v), taken in zip(ends, info.solution[b][use].tolist()) if taken]
            level = [sign * x for x in info.duals["level"][b].tolist()]
            least = prove_tree(level, info.duals["parent"][b].tolist(), listed, tree)
            assert sign * info.bound[b].item() == pytest.approx(least, abs=1e-9)
            assert sign * info.objective[b].item() == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("whole", [False, True], ids=["real", "tied"])
@pytest.mark.parametrize("solver", [DenseSpanningTree, MaxDenseSpanningTree])
def test_trees_in_matrices_are_proved_by_nested_sets(solver, whole):
    g = torch.Generator().manual_seed(4)
    sign = -1 if solver.sense == "max" else 1
    scores = torch.randn(5, 9, 9, generator=g, dtype=torch.float64)
    scores = (2 * scores).round() if whole else scores
    mask = torch.ones(5, 9, 9, dtype=torch.bool)
    mask[0, 3] = mask[0, :, 3] = False
    mask[1, 5:, 7:] = mask[2, 1:, 1:] = False
    info = solver().solve_with_info(scores, mask=mask)
    assert info.optimal.all()
    for b, (costs, allowed) in enumerate(zip(scores + scores.mT, mask & mask.mT)):
        listed = [(u, v, sign * costs[u, v].item()) for u, v in combinations(range(9), 2) if allowed[u, v]]
        tree = info.solution[b].triu(1).nonzero().tolist()
        level = [sign * x for x in info.duals["level"][b].tolist()]
        least = prove_tree(level, info.duals["parent"][b].tolist(), listed, tree)
        assert sign * info.bound[b].item() == pytest.approx(least, abs=1e-9)
        assert sign * info.objective[b].item() == pytest.approx(least, abs=1e-9)


def test_infinite_gains_and_single_nodes():
    info = MaxSpanningTree(Graph([[0, 1, 2], [1, 2, 0]])).solve_with_info(torch.tensor([[1.0, torch.inf, 3.0]]))
    assert info.duals["level"].tolist() == [[0, 0, 0, torch.inf, 3, 0]]
    assert info.duals["parent"].tolist() == [[4, 3, 3, 4, -1, -1]]
    assert info.gap.tolist() == [0]
    assert SpanningTree(Graph([], nodes=1)).solve_with_info(torch.rand(2, 0)).duals["parent"].tolist() == [[-1, -1]] * 2
    assert DenseSpanningTree().solve_with_info(torch.rand(0, 4, 4)).duals["level"].shape == (0, 8)
