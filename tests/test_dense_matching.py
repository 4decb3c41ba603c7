"""Matchings among nodes that are all joined, against NetworkX and brute force."""

import re

import networkx as nx
import pytest
import torch
from test_matching import BACKENDS, generator, use

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers.dense_matching import DenseMaxWeightMatching, DensePerfectMatching


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    use(request.param, monkeypatch)
    return request.param


def best(matrix, perfect):
    """The value of the best matching, by NetworkX; None if none is perfect and one has to be."""
    graph = nx.Graph()
    graph.add_nodes_from(range(len(matrix)))
    sign = -1 if perfect else 1
    sums = (matrix + matrix.T).tolist()
    for i in range(len(matrix)):
        for j in range(i):
            if abs(sums[i][j]) < torch.inf:
                graph.add_edge(i, j, weight=sign * sums[i][j])
    pairs = nx.max_weight_matching(graph, maxcardinality=perfect)
    return None if perfect and 2 * len(pairs) < len(matrix) else sum(sums[u][v] for u, v in pairs)


@pytest.mark.parametrize("cls", [DensePerfectMatching, DenseMaxWeightMatching])
@pytest.mark.parametrize("n", [2, 6, 16, 24])
def test_matrices(backend, cls, n):
    perfect = cls is DensePerfectMatching
    scores = torch.randn(5, n, n, generator=generator(n), dtype=torch.float64)
    y = cls()(scores)
    assert torch.equal(y, y.mT)
    assert ((y.sum(1) == 1) if perfect else (y.sum(1) <= 1)).all()
    assert (y.diagonal(dim1=1, dim2=2) == 0).all()
    for matrix, one in zip(scores, y):
        assert (matrix * one).sum().item() == pytest.approx(best(matrix, perfect), abs=1e-9)
    assert cls()(scores.float()).dtype == torch.float32


@pytest.mark.parametrize("cls", [DensePerfectMatching, DenseMaxWeightMatching])
@pytest.mark.parametrize("n", [5, 8, 19])
def test_padding_anywhere(backend, cls, n):
    """Nodes that the mask joins to none do not count, and what stands there does not matter."""
    scores = torch.randn(3, n, n, generator=generator(n), dtype=torch.float64)
    kept = torch.arange(n)[torch.arange(n) % 5 != 1][: n // 5 * 4 if n > 5 else 4]
    mask = torch.zeros(3, n, n, dtype=torch.bool)
    mask[:, kept[:, None], kept] = True
    y = cls()(scores.where(mask, torch.nan), mask=mask)
    assert y.shape == scores.shape
    assert (y[~mask] == 0).all()
    assert torch.equal(y[:, kept[:, None], kept], cls()(scores[:, kept[:, None], kept]))


def test_one_sided_masks_and_infinite_costs(backend):
    costs = torch.tensor([[[0.0, 1, 9, 9], [1, 0, 9, 9], [9, 9, 0, 1], [9, 9, 1, 0]]])
    across = torch.tensor([[[0.0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]])
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 1] = mask[0, 3, 0] = False
    assert torch.equal(DensePerfectMatching()(costs, mask=mask), across)
    infinite = costs.where(mask, torch.inf)
    assert torch.equal(DensePerfectMatching()(infinite), across)


def test_no_perfect_matching(backend):
    message = (
        "DensePerfectMatching: instance 0 has no matching that leaves no node out (2 of 2 instances). Its graph has an odd "
    )
    with pytest.raises(InfeasibleError, match=re.escape(message + "number of nodes, 3. Allow more edges")):
        DensePerfectMatching()(torch.rand(2, 3, 3))
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[1, 3, :] = False
    message = "DensePerfectMatching: instance 1 has no matching that leaves no node out (1 of 2 instances). Allow more edges"
    with pytest.raises(InfeasibleError, match=re.escape(message)) as caught:
        DensePerfectMatching()(torch.rand(2, 4, 4), mask=mask)
    assert caught.value.instances.tolist() == [False, True]


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"^DensePerfectMatching: scores have shape \(1, 2, 3\); expected square matrices"):
        DensePerfectMatching()(torch.rand(1, 2, 3))
    scores = torch.rand(2, 4, 4)
    scores[1, 2, 3] = torch.inf
    with pytest.raises(InstanceError, match=r"^DenseMaxWeightMatching: instance 1 has \+inf among its scores"):
        DenseMaxWeightMatching()(scores)
    scores[1, 3, 3] = scores[1, 2, 3]
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[1, 2, 3] = False
    assert DenseMaxWeightMatching()(scores, mask=mask).isfinite().all()


def test_degenerate_matrices(backend):
    assert DensePerfectMatching()(torch.rand(2, 0, 0)).shape == (2, 0, 0)
    assert DensePerfectMatching()(torch.rand(0, 4, 4)).shape == (0, 4, 4)
    assert DenseMaxWeightMatching()(torch.rand(2, 1, 1)).tolist() == [[[0]], [[0]]]
    with pytest.raises(InfeasibleError):
        DensePerfectMatching()(torch.rand(2, 1, 1))
    assert DensePerfectMatching()(torch.rand(1, 1, 1), mask=torch.zeros(1, 1, 1, dtype=torch.bool)).tolist() == [[[0]]]


def test_decoding():
    y = DensePerfectMatching()(torch.tensor([[[0.0, 5, 2, 3], [5, 0, 3, 2], [2, 3, 0, 5], [3, 2, 5, 0]]]))
    assert DensePerfectMatching().decode(y)[0].tolist() == [[0, 1], [2, 3]]
