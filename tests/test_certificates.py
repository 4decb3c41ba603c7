"""Solvers that give dual values are proved by them alone, without being trusted: matchings and spanning trees.

Assignment, shortest paths and flows prove themselves in the tests of their own families.
"""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from solverlayers.solvers import Graph, MaxCardinalityMatching, MaxWeightMatching, PerfectMatching, grid_graph, kernels

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
