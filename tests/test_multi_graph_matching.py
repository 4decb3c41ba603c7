"""Multi-graph matching: against enumeration, planted matchings, and a sequence of real frames."""

import re
from itertools import permutations, product

import pytest
import torch
from builds import generator, without_kernels
from cases import consistent_matchings, matchings
from test_relaxed_matching import house, sides

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.rules import Identity
from solverlayers.solvers import GraphMatching, MultiGraphMatching, delaunay_edges


def noise(batch, graphs, n, seed=0):
    return torch.randn(batch, graphs, graphs, n, n, generator=generator(seed), dtype=torch.float64)


def vertex_mask(sizes, n):
    """Graphs of these sizes in n places.  # (B, N) -> (B, N, N, n, n)"""
    real = torch.arange(n) < torch.tensor(sizes).unsqueeze(2)
    return real[:, :, None, :, None] & real[:, None, :, None, :]


def planted(batch, graphs, n, wrong, seed=0):
    """Consistent matchings, and the same with a share of every two graphs' rows drawn anew."""
    g = generator(seed)
    place = torch.rand(batch, graphs, n, generator=g).argsort(2)
    true = (place[:, :, None, :, None] == place[:, None, :, None, :]).double()
    other = torch.eye(n, dtype=torch.float64)[torch.rand(true.shape[:4], generator=g).argsort(3)]
    return true, torch.where(torch.rand(true.shape[:4], generator=g).unsqueeze(4) < wrong, other, true)


def contradictions(y):
    """How many pairs that two steps make are not made by one.  # (B, N, N, n, n) -> int"""
    two = torch.einsum("xabij,xbcjk->xabcik", y, y)
    return int(((two > 0) & (y[:, :, None] == 0)).sum())


@pytest.mark.parametrize(("graphs", "n", "share"), [(2, 3, 1.0), (3, 2, 1.0), (4, 2, 0.95), (3, 3, 0.95), (4, 3, 0.9)])
def test_nearly_always_the_best_of_all(graphs, n, share):
    """For scores that are nothing but noise; the bound is never below the best."""
    every = consistent_matchings(torch.ones(graphs, graphs, n, n, dtype=torch.bool)).double()
    assert len(every) == len(list(permutations(range(n)))) ** (graphs - 1)
    scores = noise(200, graphs, n)
    info = MultiGraphMatching().solve_with_info(scores)
    best = (scores.flatten(1) @ every.flatten(1).T).amax(1)
    torch.testing.assert_close(info.objective, (scores * info.solution).flatten(1).sum(1))
    assert (info.objective >= best - 1e-9).double().mean() >= share
    assert (info.bound >= best - 1e-9).all()
    assert (info.objective[info.optimal] >= best[info.optimal] - 1e-9).all()
    for y in info.solution[:20]:
        assert (every == y).flatten(1).all(1).any()


@pytest.mark.parametrize("universe", [None, 3, 4])
def test_graphs_of_several_sizes_and_outliers(universe):
    """Points that not all graphs have."""
    sizes = [[2, 2, 1], [2, 1, 2], [1, 2, 2], [2, 2, 0]] * 4
    scores, mask = noise(16, 3, 2), vertex_mask(sizes, 2)
    info = MultiGraphMatching(universe).solve_with_info(torch.where(mask, scores, torch.nan), mask=mask)
    exact = 0
    for b, size in enumerate(sizes):
        points = max(size) if universe is None else universe
        each = [[x for x in matchings(2, points, partial=True).double() if x.sum(1).tolist() == [1.0] * s + [0.0] * (2 - s)]
                for s in size]  # fmt: skip
        every = torch.stack([torch.einsum("aip,bjp->abij", x, x) for x in map(torch.stack, product(*each))])
        values = (scores[b] * every).flatten(1).sum(1)
        assert (every == info.solution[b]).flatten(1).all(1).any()
        assert info.bound[b] >= values.max() - 1e-9
        exact += int(info.objective[b] >= values.max() - 1e-9)
    assert exact >= 15


def test_what_goes_round_a_cycle_comes_back():
    scores, mask = noise(8, 6, 5), vertex_mask([[5, 4, 5, 3, 2, 5]] * 8, 5)
    for universe in (None, 7):
        y = MultiGraphMatching(universe)(scores, mask=mask)
        assert contradictions(y) == 0
        assert torch.equal(y, y.transpose(1, 2).mT)
        assert torch.equal(
            y.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2), mask.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2).double()
        )
        assert (y.sum(4) <= 1).all()
        assert (y[~mask] == 0).all()


def test_planted_matchings_are_recovered():
    """Though 40 % of the rows between every two graphs are wrong; from clean scores with a proof."""
    true, observed = planted(8, 8, 6, wrong=0.4)
    assert contradictions(observed) > 1000
    y = MultiGraphMatching()(observed)
    assert torch.equal(y, true)
    info = MultiGraphMatching().solve_with_info(true)
    assert torch.equal(info.solution, true)
    assert info.optimal.all()
    assert info.bound.tolist() == [8 * 8 * 6] * 8


def test_more_starts_are_never_worse():
    scores = noise(64, 5, 4)
    values = [MultiGraphMatching(starts=starts).solve_with_info(scores).objective for starts in (1, 3, 5)]
    assert (values[1] >= values[0] - 1e-9).all()
    assert (values[2] >= values[1] - 1e-9).all()
    assert values[2].mean() > values[0].mean()


def test_padding_changes_nothing():
    """Graphs and vertices, wherever they stand."""
    scores = noise(4, 3, 4)
    y = MultiGraphMatching()(scores)
    at = torch.tensor([0, 2, 3, 5])
    padded = torch.full((4, 5, 5, 6, 6), torch.nan, dtype=torch.float64)
    graphs = torch.tensor([0, 2, 3])
    inside = (graphs[:, None, None, None], graphs[:, None, None], at[:, None], at)
    mask = torch.zeros(4, 5, 5, 6, 6, dtype=torch.bool)
    padded[:, inside[0], inside[1], inside[2], inside[3]] = scores
    mask[:, inside[0], inside[1], inside[2], inside[3]] = True
    more = MultiGraphMatching()(padded, mask=mask)
    assert torch.equal(more[:, inside[0], inside[1], inside[2], inside[3]], y)
    assert more.sum() == y.sum()


def test_points_by_number():
    """The first vertex of each point gives it its number."""
    true, _ = planted(3, 4, 5, wrong=0.0)
    numbers = MultiGraphMatching().decode(true)
    assert numbers[:, 0].tolist() == [[0, 1, 2, 3, 4]] * 3
    assert torch.equal((numbers[:, :, None, :, None] == numbers[:, None, :, None, :]).double(), true)
    y = MultiGraphMatching()(noise(1, 2, 2), mask=vertex_mask([[1, 2]], 2))
    assert MultiGraphMatching().decode(y)[0, 0].tolist() == [0, -1]
    assert sorted(MultiGraphMatching().decode(y)[0, 1].tolist()) == [0, 1]


def test_without_kernels(monkeypatch):
    scores = noise(4, 3, 3)
    expected = MultiGraphMatching().solve_with_info(scores)
    without_kernels(monkeypatch)
    got = MultiGraphMatching().solve_with_info(scores)
    assert torch.equal(got.solution, expected.solution)
    torch.testing.assert_close(got.bound, expected.bound)


def test_empty():
    for shape in ((0, 2, 2, 3, 3), (2, 0, 0, 3, 3), (2, 2, 2, 0, 0), (2, 1, 1, 3, 3)):
        info = MultiGraphMatching().solve_with_info(torch.ones(shape))
        assert info.solution.shape == shape
        assert info.optimal.all()
        assert MultiGraphMatching().decode(info.solution).shape == shape[:1] + shape[2:4]
    nobody = vertex_mask([[0, 0]], 2)
    assert MultiGraphMatching()(torch.ones(1, 2, 2, 2, 2), mask=nobody).sum() == 0


def test_scores_learn_what_is_consistent():
    """A step along the gradient improves a linear loss, and what contradicts itself has no gradient."""
    torch.manual_seed(0)
    scores = noise(64, 3, 3).requires_grad_()
    weights = torch.randn_like(scores)
    (SolverLayer(MultiGraphMatching(), Identity())(scores) * weights).sum().backward()
    step = MultiGraphMatching().tangent(scores.grad)
    torch.testing.assert_close(step, step.transpose(1, 2).mT)
    before, after = ((MultiGraphMatching()(x) * weights).sum() for x in (scores.detach(), scores.detach() - 2 * step))
    assert after < before - 0.1 * weights.abs().sum()


@pytest.mark.parametrize("landmarks", [30, 10])
def test_frames_of_a_house(landmarks):
    """Matchings of every two of twelve views by lengths of edges alone contradict each other; made consistent they do not,
    and are better."""
    frames = house(slice(None, None, 10))[:, :landmarks]
    count = len(frames)
    index = delaunay_edges(frames)
    lengths = sides(frames, index).norm(dim=2)
    first, second = (t.flatten() for t in torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij"))
    edges = (-(lengths[first].unsqueeze(2) - lengths[second].unsqueeze(1)).square() / 200).exp()
    solver = GraphMatching(restarts=1, exchanges=0)
    vertices = torch.zeros(count**2, landmarks, landmarks, dtype=torch.float64)
    y, _ = solver(vertices, edges, edge_index1=index[first], edge_index2=index[second])
    pairs = y.view(1, count, count, landmarks, landmarks)
    agreed = MultiGraphMatching()(pairs)
    right = [x.diagonal(dim1=3, dim2=4).mean().item() for x in (pairs, agreed)]
    assert contradictions(agreed) == 0
    assert right[1] == 1
    if landmarks == 30:
        assert contradictions(pairs) > 100
        assert right[0] < right[1]


LONG = torch.zeros(2, 2, 3, 4, 4)
SQUARE = torch.zeros(2, 2, 2, 3, 3)
ALL = torch.ones(2, 2, 2, 3, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: MultiGraphMatching()(LONG),
            ValueError,
            "MultiGraphMatching: scores have shape (2, 2, 3, 4, 4); they are (B, N, N, n, n), for every two of N graphs of n "
            "vertices. Pad smaller graphs, and say so with `mask`.",
        ),
        (
            lambda: MultiGraphMatching()(SQUARE, mask=ALL[:, 0]),
            ValueError,
            "MultiGraphMatching: `mask` is bool of shape (2, 2, 3, 3); it needs to be boolean, of shape (2, 2, 2, 3, 3) like "
            "the scores, and False where a vertex is padding.",
        ),
        (
            lambda: MultiGraphMatching()(SQUARE, mask=ALL.index_put((torch.tensor(1), *[torch.tensor(0)] * 2,
                                                                     torch.tensor(0), torch.tensor(2)), torch.tensor(False))),
            InstanceError,
            "MultiGraphMatching: instance 1 has a `mask` of single pairs (1 of 2 instances). It says which vertices are real: "
            "pairs are allowed if both are. Give pairs that shall not be matched low scores.",
        ),
        (
            lambda: MultiGraphMatching()(SQUARE.index_fill(0, torch.tensor(1), -torch.inf)),
            InstanceError,
            "MultiGraphMatching: instance 1 has infinite scores (1 of 2 instances). Give pairs that shall not be matched low "
            "scores.",
        ),
        (
            lambda: MultiGraphMatching(universe=2)(SQUARE, mask=ALL & vertex_mask([[2, 2], [2, 3]], 3)),
            InfeasibleError,
            "MultiGraphMatching: instance 1 has a graph with 3 vertices, but universe=2 (1 of 2 instances). Raise `universe`: "
            "vertices of a graph are different points.",
        ),
        (lambda: MultiGraphMatching(starts=0), ValueError, "MultiGraphMatching: starts=0; it must be at least 1."),
        (
            lambda: MultiGraphMatching(universe=0),
            ValueError,
            "MultiGraphMatching: universe=0; it must be at least 1.",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as error:
        call()
    assert type(error.value) is kind


def test_a_bad_instance_is_skipped_alone():
    scores = noise(3, 3, 2)
    expected = MultiGraphMatching()(scores)
    scores[1, 0, 1, 0, 0] = torch.inf
    layer = SolverLayer(MultiGraphMatching(), Identity(), on_failure="skip")
    expected[1] = 0
    assert torch.equal(layer(scores), expected)
    assert layer.failures == 1
