"""Relaxations: the right point of the hull, derivatives of two orders, masks, limits, and refusals."""

from __future__ import annotations

import pickle
import re
from itertools import permutations

import numpy as np
import pytest
import torch
from cases import SOLVERS, matchings, rank_vectors, subsets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from solverlayers import SolverLayer
from solverlayers.relaxations import (
    Entmax,
    EntropicRank,
    EntropicSort,
    EntropicTopK,
    HardTanh,
    NeuralSort,
    ProjectedSort,
    Ranks,
    Sigmoid,
    Sinkhorn,
    SoftAlignment,
    Softmax,
    SoftMinPath,
    SoftRank,
    SoftSort,
    SoftTopK,
    Sparsemax,
    Tanh,
)
from solverlayers.relaxations.isotonic import pooled_logsumexps, pooled_means
from solverlayers.rules import Identity, StraightThrough
from solverlayers.solvers.assignment import Assignment, GatedAssignment, MaxAssignment
from solverlayers.solvers.dynamic_programs import DTW
from solverlayers.solvers.elementwise import Sign, Threshold
from solverlayers.solvers.grid_path import GridShortestPath
from solverlayers.solvers.selection import Argmax, TopK
from solverlayers.solvers.sorting import Permutation, Ranking, Sort
from solverlayers.testing import check_rule

VECTORS = [
    Sigmoid(0.7),
    Tanh(0.7),
    HardTanh(0.7),
    Softmax(0.7),
    Sparsemax(0.7),
    Entmax(1.5, 0.7),
    Entmax(1.2, 0.7),
    Entmax(1.8, 0.7),
    SoftTopK(2, 0.7),
    EntropicTopK(2, 0.7),
    SoftRank(0.7),
    EntropicRank(0.7),
    Ranks(SoftSort(0.7)),
    Ranks(NeuralSort(0.7)),
    ProjectedSort(0.7),
    EntropicSort(0.7),
]
MATRICES = [NeuralSort(0.7), SoftSort(0.7), NeuralSort(0.7, descending=True)]
GRIDS = [Sinkhorn(0.7, 6), SoftMinPath(0.7, 3), SoftAlignment(0.7)]
EVERY = [(r, (3, 6)) for r in VECTORS + MATRICES] + [(r, (2, 3, 4)) for r in GRIDS]
every = pytest.mark.parametrize(("relaxation", "shape"), EVERY, ids=[repr(r) for r, _ in EVERY])


def draw(relaxation, shape, seed=0):
    """Scores, and a mask that leaves every instance something."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(shape, dtype=torch.float64, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.7
    mask.flatten(1)[:, [0, 2, -1]] = True
    return (-theta.abs() if isinstance(relaxation, SoftMinPath) else theta), mask


# ---------------------------------------------------------------------------------------------- execution and derivatives


@every
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_of_two_orders(relaxation, shape, masked):
    theta, mask = draw(relaxation, shape)

    def relaxed(x):
        return relaxation(x, mask if masked else None)

    theta.requires_grad_()
    assert torch.autograd.gradcheck(relaxed, (theta,))
    assert torch.autograd.gradgradcheck(relaxed, (theta,))


@every
def test_vmap_and_compile(relaxation, shape):
    theta, mask = draw(relaxation, shape)

    def loss(x, m):
        return relaxation(x, m).sin().sum()

    mapped = torch.func.vmap(torch.func.grad(loss))(theta, mask)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    x = theta.clone().requires_grad_()
    (plain,) = torch.autograd.grad(loss(x, mask), x)
    torch.testing.assert_close(mapped, plain)
    (traced,) = torch.autograd.grad(compiled(x, mask), x)
    torch.testing.assert_close(traced, plain)


@every
def test_garbage_in_the_mask_and_nothing_to_choose(relaxation, shape):
    theta, mask = draw(relaxation, shape)
    mask[0] = False
    results = []
    for garbage in (0.0, torch.nan, torch.inf, -torch.inf):
        x = torch.where(mask, theta, garbage).requires_grad_()
        y = relaxation(x, mask)
        (g,) = torch.autograd.grad((y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum(), x)
        assert torch.equal(y[0], torch.zeros_like(y[0]))
        assert torch.equal(g[~mask], torch.zeros_like(g[~mask]))
        results.append((y, g))
    for y, g in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(g, results[0][1])


@pytest.mark.parametrize("relaxation", VECTORS, ids=repr)
def test_a_mask_is_the_smaller_instance(relaxation):
    theta, mask = draw(relaxation, (20, 7), seed=1)
    y = relaxation(theta, mask)
    for b in range(20):
        torch.testing.assert_close(y[b, mask[b]], relaxation(theta[b, mask[b]][None])[0])
        assert not y[b, ~mask[b]].any()


@pytest.mark.parametrize("relaxation", [*MATRICES, *VECTORS[8:14]], ids=repr)
def test_minus_infinity_is_a_mask(relaxation):
    theta, mask = draw(relaxation, (8, 6))
    forbidden = torch.where(mask, theta, -torch.inf).requires_grad_()
    y = relaxation(forbidden)
    torch.testing.assert_close(y, relaxation(theta, mask))
    (g,) = torch.autograd.grad(y.sin().sum(), forbidden)
    assert g.isfinite().all()


@every
def test_shapes_and_dtypes(relaxation, shape):
    theta, _ = draw(relaxation, shape)
    out = relaxation(theta)
    torch.testing.assert_close(relaxation(theta.expand(2, *shape))[1], out)
    assert relaxation(theta[:0]).shape == (0, *out.shape[1:])
    half = relaxation(theta.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), out, atol=0.3, rtol=0.05)
    torch.testing.assert_close(relaxation(theta.float()), out.float(), atol=1e-4, rtol=1e-4)


@every
def test_named_by_its_constructor_call(relaxation, shape):
    names = {type(r).__name__: type(r) for r, _ in EVERY}
    assert eval(repr(relaxation), names) == relaxation
    assert pickle.loads(pickle.dumps(relaxation)) == relaxation
    assert hash(relaxation) == hash(eval(repr(relaxation), names))


# ----------------------------------------------------------------------------------------------------------- right points


def nearest_in_hull(vertices, z):
    """The nearest point of the hull, by non-negative least squares with a heavy row for the sum of the weights."""
    heavy = 1e5
    v = vertices.flatten(1).double().numpy()
    weights, _ = nnls(np.vstack([v.T, heavy * np.ones(len(v))]), np.append(z.flatten().numpy(), heavy))
    return torch.from_numpy(weights @ v).view_as(z)


@pytest.mark.parametrize(
    ("relaxation", "vertices"),
    [
        (Sparsemax(0.6), torch.eye(5)),
        (Entmax(2.0, 0.6), torch.eye(5)),
        (SoftTopK(2, 0.6), subsets(5, 2)),
        (SoftTopK(4, 0.6), subsets(5, 4)),
        (SoftRank(0.6), rank_vectors(5)),
        (SoftRank(3.0), rank_vectors(5)),
    ],
    ids=repr,
)
def test_nearest_point_of_the_hull(relaxation, vertices):
    scale = getattr(relaxation, "temperature", None) or relaxation.strength
    theta = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for row, y in zip(theta, relaxation(theta)):
        torch.testing.assert_close(y, nearest_in_hull(vertices, row / scale), atol=1e-6, rtol=0)


def test_projected_sort_is_the_nearest_order():
    theta = torch.tensor([[0.9, 0.2, 1.1, 0.5]], dtype=torch.float64)
    orders = theta[0][torch.tensor(list(permutations(range(4))))]
    for strength in (0.5, 3.0, 20.0):
        expected = nearest_in_hull(orders, torch.arange(1.0, 5, dtype=torch.float64) / strength)
        torch.testing.assert_close(ProjectedSort(strength)(theta)[0], expected, atol=1e-6, rtol=0)


def kl_nearest(vertices, logits):
    """`argmin_y <y, log y - logits - 1>` over the hull of `vertices`, by a general-purpose solver."""
    v = vertices.double().numpy()

    def objective(w):
        y = w @ v
        return (y * (np.log(y) - logits.numpy() - 1)).sum(), v @ (np.log(y) - logits.numpy())

    start = np.full(len(v), 1 / len(v))
    bounds, total = [(0, 1)] * len(v), {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(len(v))}
    found = minimize(objective, start, jac=True, bounds=bounds, constraints=[total], options={"ftol": 1e-14, "maxiter": 500})
    return torch.from_numpy(found.x @ v)


@pytest.mark.parametrize("strength", [0.3, 1.0, 4.0])
def test_entropic_permutahedron(strength):
    theta = torch.tensor([0.9, 0.2, 1.1, 0.5], dtype=torch.float64)
    expected = kl_nearest(rank_vectors(4), theta / strength)
    torch.testing.assert_close(EntropicRank(strength)(theta[None])[0], expected, atol=2e-4, rtol=0)
    orders = theta.exp()[torch.tensor(list(permutations(range(4))))]
    expected = kl_nearest(orders, torch.arange(1.0, 5, dtype=torch.float64) / strength).log()
    torch.testing.assert_close(EntropicSort(strength)(theta[None])[0], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("alpha", [1.05, 1.25, 1.5, 1.75, 2.0, 2.5])
def test_entmax_is_optimal(alpha):
    """Its Lagrange conditions: marginal entropy and score differ by a constant on the support, by less outside."""
    theta = 2 * torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = Entmax(alpha)(theta)
    torch.testing.assert_close(y.sum(-1), torch.ones(50, dtype=torch.float64))
    multiplier = theta - y.pow(alpha - 1) / (alpha - 1)
    support = y > 1e-9
    highest = multiplier.masked_fill(~support, -torch.inf).amax(-1, keepdim=True)
    torch.testing.assert_close(multiplier[support], highest.expand_as(y)[support], atol=1e-6, rtol=0)
    assert (multiplier <= highest + 1e-6).all()


def test_entmax_lies_between_softmax_and_sparsemax():
    theta = torch.randn(20, 5, dtype=torch.float64)
    torch.testing.assert_close(Entmax(1 + 1e-6)(theta), Softmax()(theta), atol=1e-4, rtol=0)
    torch.testing.assert_close(Entmax(2.0)(theta), Sparsemax()(theta))
    torch.testing.assert_close(Entmax(1.5 + 1e-9)(theta), Entmax(1.5)(theta), atol=1e-7, rtol=0)


def test_entropic_top_k_is_optimal():
    theta = 3 * torch.randn(50, 6, dtype=torch.float64)
    for k in (1, 3, 5):
        y = EntropicTopK(k, 0.7)(theta)
        torch.testing.assert_close(y.sum(-1), torch.full((50,), float(k), dtype=torch.float64))
        multiplier = theta / 0.7 - y.logit()
        assert (multiplier - multiplier.mean(-1, keepdim=True)).abs().max() < 1e-6


@pytest.mark.parametrize("relaxation", [SoftTopK, EntropicTopK])
def test_top_k_for_each_instance(relaxation):
    theta, k = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    y = relaxation()(theta, None, k=k)
    for b in range(4):
        torch.testing.assert_close(y[b], relaxation(b)(theta[b][None])[0])
    torch.testing.assert_close(y.sum(-1), k.double())
    with pytest.raises(ValueError, match=rf"^{relaxation.__name__}: k is missing; give it to the relaxation"):
        relaxation()(theta)


def pool_adjacent_violators(a, b):
    """Non-increasing block ratios, one entry at a time."""
    blocks = []
    for x, w in zip(a, b):
        blocks.append([x, w, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] < blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [p + q for p, q in zip(blocks[-1], last)]
    return np.concatenate([[x / w] * count for x, w, count in blocks])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-5, 5) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_isotonic_regression(values, random):
    y = torch.tensor(values, dtype=torch.float64)
    used = torch.ones_like(y, dtype=torch.bool)
    expected = pool_adjacent_violators(values, [1.0] * len(values))
    np.testing.assert_allclose(torch.sub(*pooled_means(y, torch.zeros_like(y), used)), expected, atol=1e-12)
    s = y.sort(descending=True).values
    w = torch.tensor([random.uniform(-3, 3) for _ in values], dtype=torch.float64).sort(descending=True).values
    expected = np.log(pool_adjacent_violators(s.exp().tolist(), w.exp().tolist()))
    np.testing.assert_allclose(torch.sub(*pooled_logsumexps(s, w, used)), expected, atol=1e-10)


def test_isotonic_regression_of_extremes():
    """Scores whose exponentials do not fit any number, and single precision."""
    s = torch.tensor([900.0, 899.0, -1e4, -1e4 - 3], dtype=torch.float64)
    w = torch.tensor([3.0, -1.0, -2.0, -6.0], dtype=torch.float64)
    fit = torch.sub(*pooled_logsumexps(s, w, torch.ones(4, dtype=torch.bool)))
    first = 899 + np.log1p(np.e) - np.logaddexp(3, -1)  # 900 - 3 < 899 + 1, so these pool; so do the others
    last = -1e4 + np.log1p(np.exp(-3)) - np.logaddexp(-2, -6)
    np.testing.assert_allclose(fit, [first, first, last, last], rtol=1e-12)


@pytest.mark.parametrize("relaxation", [SoftRank(1e-7), EntropicRank(1e-7)], ids=repr)
def test_ranks_are_sharp_where_scores_are_huge(relaxation):
    """Single precision has no digits left for the ranks beside scores of 1e7, so they must not be added to them."""
    scores = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(relaxation(scores), Ranking()(scores), rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_sinkhorn_is_the_entropic_matching(shape):
    """`theta - temperature log y` is a row price plus a column price, zero for lines that have room."""
    theta = torch.randn(8, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = Sinkhorn(0.3, 2000)(theta)
    n, m = shape
    one = torch.ones((), dtype=torch.float64)
    if n > m:
        y, theta, n, m = y.mT, theta.mT, m, n
    torch.testing.assert_close(y.sum(-1), one.expand(8, n))
    assert (y.sum(-2) <= 1 + 1e-8).all()
    prices = theta / 0.3 - y.log()
    inner = prices - prices.mean(-1, keepdim=True)
    assert (inner - inner.mean(-2, keepdim=True)).abs().max() < 1e-8
    column = prices.mean(-2) - prices.mean(-2).amin(-1, keepdim=True)
    room = y.sum(-2) < 1 - 1e-4
    assert n == m or room.any()
    assert (column[room] < 1e-6).all()


def test_sinkhorn_of_square_matrices_is_plain_scaling():
    theta = torch.randn(4, 4, dtype=torch.float64)
    k = (theta / 0.5).exp().numpy()
    u = np.ones(4)
    for _ in range(7):
        v = 1 / (k.T @ u)
        u = 1 / (k @ v)
    np.testing.assert_allclose(Sinkhorn(0.5, 7)(theta[None])[0], u[:, None] * k * v, rtol=1e-10)


def test_sinkhorn_with_padding_and_forbidden_pairs():
    theta = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 4, 5, dtype=torch.bool)
    for b, (n, m) in enumerate([(4, 3), (2, 5), (3, 3)]):
        mask[b, :n, :m] = True
        padded = Sinkhorn(0.5, 30)(theta, mask)[b]
        torch.testing.assert_close(padded[:n, :m], Sinkhorn(0.5, 30)(theta[b : b + 1, :n, :m])[0])
        assert not padded[n:].any()
        assert not padded[:, m:].any()
    mask[2, 0, 0] = False
    y = Sinkhorn(0.5, 1000)(theta, mask)[2, :3, :3]
    assert y[0, 0] == 0
    torch.testing.assert_close(y.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(y.sum(-2), torch.ones(3, dtype=torch.float64))


def test_neural_sort_and_soft_sort_by_their_definition():
    s = np.array([0.3, -1.0, 2.0, 0.9])
    n, t = 4, 0.6
    rows = []
    for i in range(1, n + 1):  # descending, as the paper writes it
        logits = ((n + 1 - 2 * i) * s - np.abs(s[:, None] - s).sum(1)) / t
        rows.append(np.exp(logits) / np.exp(logits).sum())
    np.testing.assert_allclose(NeuralSort(t, descending=True)(torch.tensor(s)[None])[0], rows)
    np.testing.assert_allclose(NeuralSort(t)(torch.tensor(s)[None])[0], rows[::-1])
    k = np.exp(-np.abs(np.sort(s)[:, None] - s) / t)
    np.testing.assert_allclose(SoftSort(t)(torch.tensor(s)[None])[0], k / k.sum(1, keepdims=True))
    np.testing.assert_allclose(Ranks(SoftSort(t))(torch.tensor(s)[None])[0], (k / k.sum(1, keepdims=True)).T @ np.arange(1, 5))


def walks(h, w, steps, neighbours, start, end, walls=()):
    """All walks of at most `steps` steps that stop when they meet the end."""
    moves = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i or j) and (neighbours == 8 or not (i and j))]

    def extend(walk):
        if walk[-1] == end:
            yield walk
        elif len(walk) <= steps:
            for i, j in moves:
                cell = (walk[-1][0] + i, walk[-1][1] + j)
                if 0 <= cell[0] < h and 0 <= cell[1] < w and cell not in walls:
                    yield from extend([*walk, cell])

    return list(extend([start]))


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize(("start", "end", "walls"), [((0, 0), (2, 2), ()), ((2, 1), (0, 2), ((1, 1),)), ((1, 1), (1, 1), ())])
def test_path_visits_are_those_of_all_walks(neighbours, start, end, walls):
    theta = -torch.rand(3, 3, dtype=torch.float64)
    mask = torch.ones(3, 3, dtype=torch.bool)
    for cell in walls:
        mask[cell] = False
    found = walks(3, 3, 5, neighbours, start, end, walls)
    visits = torch.zeros(len(found), 3, 3, dtype=torch.float64)
    for k, walk in enumerate(found):
        for cell in walk:
            visits[k][cell] += 1
    weight = ((visits * theta).sum((1, 2)) / 0.4).softmax(0)
    expected = (weight[:, None, None] * visits).sum(0)
    y = SoftMinPath(0.4, 5, neighbours)(theta[None], mask[None], source=torch.tensor([start]), target=torch.tensor([end]))
    torch.testing.assert_close(y[0], expected)


def test_path_behind_walls_is_empty():
    mask = torch.tensor([[[True, False], [False, True]]])
    assert torch.equal(SoftMinPath(neighbours=4)(torch.full((1, 2, 2), -1.0), mask), torch.zeros(1, 2, 2))
    assert torch.equal(SoftMinPath(neighbours=8)(torch.full((1, 2, 2), -1.0), mask), torch.eye(2)[None])


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (3, 1), (3, 4), (4, 4)])
def test_alignment_is_the_mean_of_all(n, m):
    theta = torch.randn(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(n + m))
    mask = torch.ones(n, m, dtype=torch.bool)
    mask[n // 2, m // 3] = n * m < 5  # a forbidden pair, where there are ways round it
    found = [[(0, 0)]]
    complete = []
    while found:
        way = found.pop()
        i, k = way[-1]
        if (i, k) == (n - 1, m - 1):
            complete.append(way)
        steps = [(i + 1, k), (i, k + 1), (i + 1, k + 1)]
        found += [[*way, cell] for cell in steps if cell[0] < n and cell[1] < m and mask[cell]]
    weight = (torch.stack([sum(theta[cell] for cell in way) for way in complete]) / 0.7).softmax(0)
    expected = torch.zeros_like(theta)
    for way, share in zip(complete, weight):
        for cell in way:
            expected[cell] += share
    torch.testing.assert_close(SoftAlignment(0.7)(theta[None], mask[None])[0], expected)
    padded = torch.nn.functional.pad(theta, (1, 2, 2, 1), value=9.0)[None]
    inside = torch.nn.functional.pad(mask, (1, 2, 2, 1))[None]
    torch.testing.assert_close(SoftAlignment(0.7)(padded, inside)[0, 2 : 2 + n, 1 : 1 + m], expected)


# ---------------------------------------------------------------------------------------------------- limits and solvers

LIMITS = [
    (Softmax(1e-4), Argmax(), (6,)),
    (Sparsemax(1e-4), Argmax(), (6,)),
    (Entmax(1.5, 1e-4), Argmax(), (6,)),
    (Entmax(1.3, 1e-4), Argmax(), (6,)),
    (SoftTopK(3, 1e-4), TopK(3), (6,)),
    (EntropicTopK(3, 1e-4), TopK(3), (6,)),
    (EntropicTopK(3, 1e-4), TopK(3, largest=False), (6,)),
    (SoftRank(1e-4), Ranking(), (6,)),
    (EntropicRank(1e-4), Ranking(), (6,)),
    (EntropicRank(1e-4), Ranking(descending=True), (6,)),
    (Ranks(NeuralSort(1e-4)), Ranking(), (6,)),
    (Ranks(SoftSort(1e-4)), Ranking(descending=True), (6,)),
    (NeuralSort(1e-4), Permutation(), (6,)),
    (SoftSort(1e-4, descending=True), Permutation(descending=True), (6,)),
    (ProjectedSort(1e-4), Sort(), (6,)),
    (EntropicSort(1e-4), Sort(), (6,)),
    (Sigmoid(1e-4), Threshold(), (6,)),
    (Tanh(1e-4), Sign(), (6,)),
    (HardTanh(1e-4), Sign(), (6,)),
    (SoftAlignment(1e-3), DTW(), (4, 5)),
    (SoftMinPath(1e-3), GridShortestPath(), (4, 4)),
    (SoftMinPath(1e-3, neighbours=4), GridShortestPath(neighbours=4), (4, 4)),
]


@pytest.mark.parametrize(("relaxation", "solver", "shape"), LIMITS, ids=[f"{r}-{s}" for r, s, _ in LIMITS])
def test_the_limit_is_the_solver(relaxation, solver, shape):
    """Scores are far apart, so that no tie is near."""
    generator = torch.Generator().manual_seed(5)
    count = int(np.prod(shape))
    scores = torch.stack([torch.randperm(count, generator=generator) for _ in range(5)]).double().sqrt() + 0.05
    scores = (scores - (scores.mean() if isinstance(solver, (Sign, Threshold)) else 0)).reshape(5, *shape)
    relaxation.check(solver)
    y = relaxation(scores if solver.sense == "max" else -scores)
    torch.testing.assert_close(y, solver(scores), atol=1e-2, rtol=0)


PAIRED = {
    "argmax_mask": Entmax(),
    "topk_each": SoftTopK(),
    "topk_smallest": EntropicTopK(2),
    "ranking_mask": SoftRank(),
    "ranking_descending": Ranks(),
    "permutation": NeuralSort(),
    "assignment_mask": Sinkhorn(),
    "sign_mask": Tanh(),
    "threshold": Sigmoid(),
}


@pytest.mark.parametrize("name", PAIRED)
def test_contract_of_straight_through(name):
    case = SOLVERS[name]
    check_rule(StraightThrough(PAIRED[name]), case.solver, case.shape, case.instance)


def test_straight_through_is_the_jacobian_of_the_relaxation():
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(4, 5) < 0.6
    mask[:, 0] = True
    weights = torch.randn(4, 5, dtype=torch.float64)
    y = SolverLayer(Argmax(), StraightThrough(Softmax(0.5)))(x, mask=mask)
    assert torch.equal(y, Argmax()(x.detach(), mask=mask))
    (got,) = torch.autograd.grad((y * weights).sum(), x)
    (expected,) = torch.autograd.grad((Softmax(0.5)(x, mask) * weights).sum(), x)
    assert torch.equal(got, expected)
    plain = SolverLayer(Argmax(), StraightThrough(lambda theta: theta.softmax(-1)))(x)
    (got,) = torch.autograd.grad((plain * weights).sum(), x)
    torch.testing.assert_close(got, torch.autograd.grad((x.softmax(-1) * weights).sum(), x)[0])


ADVICE = (
    "Softmax, Sparsemax and Entmax relax an argmax; SoftTopK and EntropicTopK a choice of k; SoftRank, EntropicRank and Ranks "
    "ranks; Sinkhorn a matching; SoftMinPath a path on a grid; SoftAlignment an alignment; Sigmoid a free choice of each "
    "entry. For any solver there are Identity, Perturbed and DAB."
)


@pytest.mark.parametrize(
    ("relaxation", "solver", "reason"),
    [
        (Softmax(), Assignment(), "it works on the last 1 dimensions of the scores, and an instance has 2"),
        (Softmax(), TopK(2), "its points are mixtures of one-hot vectors, and the solver has other solutions"),
        (SoftTopK(2), TopK(3), "it has k=2, and the solver has k=3"),
        (SoftTopK(2), Argmax(), "it has k=2, and the solver has no k"),
        (SoftRank(), TopK(3), "its points are ranks, and the solver chooses k=3 entries"),
        (Ranks(), Argmax(), "its points are ranks, and solutions of the solver are one-hot"),
        (Sigmoid(), TopK(3), "its points need not have a constant sum, and solutions of the solver do"),
        (SoftRank(), Sign(), "its points have a constant sum, and solutions of the solver may not"),
        (
            NeuralSort(),
            Ranking(),
            "it returns a permutation matrix, and solutions have the shape of the scores (Ranks turns it into ranks)",
        ),
        (Ranks(), Permutation(), "it keeps the shape of the scores, and the solver may return another"),
        (SoftSort(), Permutation(descending=True), "it has descending=False, and the solver has descending=True"),
        (SoftMinPath(), GridShortestPath(neighbours=4), "it has neighbours=8, and the solver has neighbours=4"),
        (SoftMinPath(), GatedAssignment(), "it has neighbours=8, and the solver has no neighbours"),
        (SoftTopK(), Argmax(), "it has k=None, and the solver has no k"),
        (SoftTopK(2), Ranking(), "it relaxes solutions of zeros and ones, and the solver has others"),
        (Tanh(), Threshold(), "it relaxes solutions other than zeros and ones, and the solver has others"),
        (
            Sigmoid(),
            GridShortestPath(),
            "it takes each entry by itself, and entries of the solver's solutions depend on all scores",
        ),
        (ProjectedSort(), TopK(2), "its points are sorted values, and solutions of the solver maximise an objective"),
        (Tanh(), Sort(), "it takes each entry by itself, and entries of the solver's solutions depend on all scores"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value),
)
def test_pairs_without_meaning(relaxation, solver, reason):
    message = f"{relaxation!r} does not relax {solver!r}: {reason}. {ADVICE}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(solver, StraightThrough(relaxation))
    SolverLayer(solver, Identity() if solver.same_shape else StraightThrough(lambda theta: theta))  # others are not refused


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Softmax(0.0), "Softmax: temperature=0.0; it must be positive."),
        (lambda: SoftRank(-1.0), "SoftRank: strength=-1.0; it must be positive."),
        (lambda: Sinkhorn(1.0, 0), "Sinkhorn: iterations=0; it must be at least 1."),
        (lambda: Entmax(1.0), "Entmax: alpha=1.0; it must be above 1. alpha = 1 is Softmax."),
        (lambda: SoftTopK(-1), "SoftTopK: k=-1; the number of chosen entries is 0 or more."),
        (lambda: SoftMinPath(neighbours=6), "SoftMinPath: neighbours=6; a cell of the grid has 4 or 8."),
        (lambda: SoftMinPath(steps=-1), "SoftMinPath: steps=-1; it must be at least 0."),
        (
            lambda: Ranks(SoftSort(descending=True)),
            "Ranks: SoftSort(temperature=1.0, descending=True) sorts in descending order, and ranks that maximise <theta, y> "
            "need the ascending one. A ranking of costs has its sign turned by the layer already.",
        ),
        (
            lambda: Softmax()(torch.zeros(2, 3), capacity=torch.zeros(2)),
            "Softmax(temperature=1.0) got `capacity`, of which it knows nothing, so it would relax another problem. Use a rule "
            "that asks the solver itself, such as Identity, Perturbed, IMLE or Regularized.",
        ),
    ],
    ids=lambda value: value.split(":")[0][:30] if isinstance(value, str) else "",
)
def test_wrong_arguments(build, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build()


@pytest.mark.parametrize("relaxation", [*VECTORS, *MATRICES, *GRIDS], ids=repr)
def test_nan_is_not_taken_for_a_forbidden_entry(relaxation):
    """It makes NaN of its instance (of its own entry, where each is for itself), of no other, and not from outside the mask."""
    x = draw(relaxation, (3, 4, 4) if relaxation.event_dim == 2 else (3, 4))[0]
    expected = relaxation(x)
    mask = torch.ones_like(x, dtype=torch.bool)
    x[1].view(-1)[2] = torch.nan
    y = relaxation(x)
    assert torch.equal(y[[0, 2]], expected[[0, 2]])
    assert y[1].isnan().all() or (relaxation.separable and y[1].isnan().tolist() == [False, False, True, False])
    assert relaxation(x, mask).isnan().equal(y.isnan())
    mask[1].view(-1)[2] = False
    assert relaxation(x, mask).isfinite().all()


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (np.ones(3), TypeError, "the scores are a ndarray; expected a tensor of floating point numbers."),
        (torch.arange(3), TypeError, "the scores are of type torch.int64; expected a tensor of floating point numbers."),
        (torch.tensor(1.0), ValueError, "the scores have shape (); an instance has 1 dimensions."),
    ],
    ids=["numpy", "whole numbers", "a number"],
)
def test_wrong_scores(scores, error, message):
    with pytest.raises(error, match=f"^{re.escape('SoftRank(strength=0.1): ' + message)}$"):
        SoftRank(0.1)(scores)


@pytest.mark.parametrize("relaxation", [3, Softmax], ids=repr)
def test_what_is_no_relaxation(relaxation):
    message = (
        f"StraightThrough: relaxation is {relaxation!r}; expected a relaxation such as Softmax() (with the brackets), a "
        f"function or module of the scores, or None."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        StraightThrough(relaxation)


def test_ranks_of_something_else():
    message = "Ranks: permutation is Softmax(temperature=1.0); expected NeuralSort or SoftSort."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Ranks(Softmax())


@pytest.mark.parametrize(("solver", "n", "m"), [(Assignment(), 3, 3), (MaxAssignment(), 3, 4), (Assignment(), 4, 3)])
def test_the_limit_of_sinkhorn_is_the_matching(solver, n, m):
    """On instances of whole numbers whose best matching is the only one: then it is better by one at least."""
    scores = torch.randint(0, 6, (40, n, m), generator=torch.Generator().manual_seed(0)).double()
    theta = scores if solver.sense == "max" else -scores
    values = (matchings(n, m).double() * theta[:, None]).sum((2, 3)).sort(-1).values
    unique = values[:, -1] > values[:, -2]
    assert unique.sum() > 10
    Sinkhorn().check(solver)
    torch.testing.assert_close(Sinkhorn(0.05, 1500)(theta[unique]), solver(scores[unique]), atol=0.02, rtol=0)
