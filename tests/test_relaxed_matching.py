"""Spectral matching, random walks and fixed points, against the same algorithms on dense matrices in NumPy."""

import os
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import without_kernels
from cases import matchings
from scipy.optimize import linear_sum_assignment
from test_graph_matching import edges_of, graph_data, random_mask

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.rules import Identity
from solverlayers.solvers import IPFP, RRWM, ExactGraphMatching, GraphMatching, SpectralMatching, delaunay_edges
from solverlayers.tasks import compatibility

SOLVERS = (SpectralMatching, RRWM, IPFP)
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda c: c.__name__)


def positive_data(batch, n, m, seed=0):
    """Scores of vertices and edges in general position, none negative."""
    (vertices, edges), index = graph_data(batch, n, m, e1=12, e2=14, seed=seed)
    return (vertices.abs(), edges.abs()), index


def affinities(vertices, edges, index1, index2):
    """All of one instance, a symmetric matrix of pairs of vertices, by a loop."""
    m = vertices.shape[1]
    found = np.diag(vertices.numpy().ravel())
    for (a, (i, j)), (b, (k, l)) in product(enumerate(index1.T.tolist()), enumerate(index2.T.tolist())):  # noqa: E741
        if min(i, j, k, l) < 0:
            continue
        if (i == j) != (k == l):  # a loop never goes where another edge goes
            continue
        one, two = i * m + k, j * m + l
        found[one, two] += edges[a, b] / 2
        found[two, one] += edges[a, b] / 2
    return found


def best_matching(soft):
    y = np.zeros(soft.shape)
    y[linear_sum_assignment(-soft)] = 1
    return y


def by_eigenvector(w, n, m):
    return np.abs(np.linalg.eigh(w)[1][:, -1]).reshape(n, m)


def by_walking(w, n, m, alpha=0.2, beta=30.0):
    """The pseudo-code of Cho, Lee and Lee; the longer side of a rectangle has sums of 1 at most."""
    x = np.full(n * m, 1 / (n * m))
    for _ in range(50):
        step = w @ x / w.sum(1).max()
        jump = np.exp(beta * (step / step.max() - 1)).reshape(n, m)
        for _ in range(10):
            for axis in (1, 0):
                total = jump.sum(axis, keepdims=True)
                jump = jump / (total if n == m or (axis == 1) == (n < m) else np.maximum(total, 1))
        x = alpha * step + (1 - alpha) * jump.ravel() / jump.sum()
        x /= x.sum()
    return x.reshape(n, m)


def by_fixed_points(w, n, m):
    """The pseudo-code of Leordeanu, Hebert and Sukthankar, with the gradient as the direction."""
    linear = np.diag(w)
    quadratic = w - np.diag(linear)
    x, best, best_value = np.full(n * m, 1 / max(n, m)), None, -np.inf
    for _ in range(50):
        slope = linear + 2 * quadratic @ x
        y = best_matching(slope.reshape(n, m)).ravel()
        value = linear @ y + y @ quadratic @ y
        if value > best_value:
            best, best_value = y, value
        rise, bend = slope @ (y - x), 2 * (y - x) @ quadratic @ (y - x)
        if rise <= 0:
            break
        x = x + (min(max(-rise / bend, 0), 1) if bend < 0 else 1) * (y - x)
    return best.reshape(n, m)


@pytest.mark.parametrize(
    ("solver", "reference"),
    [(SpectralMatching(iterations=2000), by_eigenvector), (RRWM(), by_walking), (IPFP(), by_fixed_points)],
)
@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 6), (6, 4)])
def test_as_on_dense_matrices(solver, reference, n, m):
    """The solution is the best matching of the reference's soft one, which may leave several."""
    scores, index = positive_data(8, n, m)
    y, _ = solver(*scores, **index)
    for b in range(8):
        soft = reference(affinities(scores[0][b], scores[1][b], index["edge_index1"][b], index["edge_index2"][b]), n, m)
        assert (soft * y[b].numpy()).sum() == pytest.approx((soft * best_matching(soft)).sum(), rel=1e-9)


@every_solver
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (2, 4), (4, 3)])
def test_solutions_are_matchings(solver, n, m, masked, partial):
    """Of any sign, with masks and padding; objective, edges and bound belong to them."""
    (vertices, edges), instance = graph_data(4, n, m)
    masks = random_mask(4, n, m) if masked else torch.ones(4, n, m, dtype=torch.bool)
    if masked:
        instance["mask"] = masks
        vertices = torch.where(masks, vertices, torch.nan)
    info = solver(partial).solve_with_info(vertices, edges, **instance)
    best = ExactGraphMatching(partial).solve_with_info(vertices, edges, **instance).objective
    for b in range(4):
        every = matchings(n, m, masks[b], partial=partial).double()
        y, z = (part[b] for part in info.solution)
        assert (every == y).flatten(1).all(1).any()
        assert torch.equal(z, edges_of(y, instance["edge_index1"][b], instance["edge_index2"][b]))
        value = torch.where(masks[b], vertices[b] * y, 0).sum() + (edges[b] * z).sum()
        assert info.objective[b].item() == pytest.approx(value.item())
    assert (info.objective <= best + 1e-9).all()
    assert (info.bound >= best - 1e-9).all()
    assert not solver.exact


@every_solver
def test_no_pair_of_a_partial_matching_costs_more_than_it_brings(solver):
    (vertices, edges), index = graph_data(16, 5, 5)
    y, _ = solver(partial=True)(vertices - 0.5, edges, **index)
    assert 0 < y.sum() < 16 * 5
    for b, i, k in y.nonzero().tolist():
        less = y[b].clone()
        less[i, k] = 0
        value = [
            ((vertices[b] - 0.5) * x).sum() + (edges[b] * edges_of(x, index["edge_index1"][b], index["edge_index2"][b])).sum()
            for x in (y[b], less)
        ]
        assert value[0] >= value[1] - 1e-9


@every_solver
def test_padding_and_company_change_nothing(solver):
    (vertices, edges), index = graph_data(3, 4, 5)
    y, z = solver()(vertices, edges, **index)
    pad = torch.nn.functional.pad
    more = {key: pad(value, (0, 3), value=-1) for key, value in index.items()}
    mask = pad(torch.ones_like(vertices, dtype=torch.bool), (0, 2, 0, 1))
    y2, z2 = solver()(
        pad(vertices, (0, 2, 0, 1), value=torch.nan), pad(edges, (0, 3, 0, 3), value=torch.nan), **more, mask=mask
    )
    assert torch.equal(y2, pad(y, (0, 2, 0, 1)))
    assert torch.equal(z2, pad(z, (0, 3, 0, 3)))
    alone, _ = solver()(vertices[1:2], edges[1:2], **{key: value[1:2] for key, value in index.items()})
    assert torch.equal(alone, y[1:2])


@every_solver
def test_scale_and_types(solver):
    (vertices, edges), index = graph_data(6, 4, 5)
    y, _ = solver()(vertices, edges, **index)
    scaled, _ = solver()(64 * vertices, 64 * edges, **index)
    assert torch.equal(scaled, y)
    small, small_z = solver()(vertices.float(), edges.float(), **index)
    assert (small.dtype, small_z.dtype) == (torch.float32, torch.float32)
    whole, _ = solver()((8 * vertices).long(), (8 * edges).long(), **index)
    assert whole.dtype == torch.int64


@every_solver
def test_without_kernels(monkeypatch, solver):
    (vertices, edges), index = graph_data(3, 4, 4)
    expected = solver()(vertices, edges, **index)
    without_kernels(monkeypatch)
    assert all(map(torch.equal, solver()(vertices, edges, **index), expected))


@every_solver
def test_empty_and_equal(solver):
    index = torch.zeros(2, 2, 0, dtype=torch.int64)
    for shape in ((0, 3, 4), (2, 0, 3), (2, 3, 0)):
        y, _ = solver()(
            torch.zeros(shape), torch.zeros(shape[0], 0, 0), edge_index1=index[: shape[0]], edge_index2=index[: shape[0]]
        )
        assert y.shape == shape
    info = solver().solve_with_info(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 0, 0), edge_index1=index, edge_index2=index)
    assert torch.equal(info.solution[0], torch.eye(3).expand(2, 3, 3))
    assert info.optimal.all()
    y, _ = solver()(torch.zeros(2, 3, 3), torch.zeros(2, 0, 0), edge_index1=index, edge_index2=index)
    assert (y.sum(1) == 1).all()


@every_solver
@pytest.mark.parametrize("rule", compatibility.rules("RRWM"))
def test_every_rule_works_or_is_refused_with_advice(solver, rule):
    """Gradients reach both score tensors."""
    built, scores, instance = compatibility.example(solver.__name__)
    chosen = compatibility.rules(solver.__name__)[rule]
    reason = compatibility.refusal(built, chosen)
    if reason is not None:
        assert "Use" in reason or "use" in reason
        return
    torch.manual_seed(0)
    vertices, edges = ((torch.rand_like(part) + part).requires_grad_() for part in scores)
    y, z = SolverLayer(built, chosen)(vertices, edges, **instance)
    assert (y.shape, z.shape) == (vertices.shape, edges.shape)
    (y * torch.rand_like(y)).sum().add((z * torch.rand_like(z)).sum()).backward()
    assert vertices.grad.isfinite().all()
    assert edges.grad.isfinite().all()


@every_solver
def test_a_step_along_the_gradient_improves(solver):
    torch.manual_seed(0)
    (vertices, edges), index = positive_data(32, 4, 4)
    vertices, edges = vertices.requires_grad_(), edges.requires_grad_()
    weights = torch.randn(32, 4, 4, dtype=torch.float64)
    layer = SolverLayer(solver(), Identity())
    before = (layer(vertices, edges, **index)[0] * weights).sum()
    before.backward()
    after = (solver()(vertices - vertices.grad, edges, **index)[0] * weights).sum()
    assert after < before - 0.1 * weights.abs().sum()


def house(frames):
    folder = Path(os.environ.get("SOLVERLAYERS_DATA", "/nonexistent")) / "graph_matching"
    if not folder.exists():
        pytest.skip("SOLVERLAYERS_DATA does not name a folder with graph_matching")
    return torch.as_tensor(np.load(folder / "cmu_house_hotel.npz")["house"])[frames]


def sides(points, index):
    """The vectors along edges.  # (B, n, 2), (B, 2, E) -> (B, E, 2)"""
    ends = points.gather(1, index.clamp(min=0).flatten(1).unsqueeze(2).expand(-1, -1, 2)).view(len(points), 2, -1, 2)
    return ends[:, 0] - ends[:, 1]


@every_solver
@pytest.mark.parametrize(("partial", "least"), [(False, 0.95), (True, 0.8)])
def test_landmarks_of_a_house(solver, partial, least):
    """Frames 60 apart; with `partial`, each view lacks two of the thirty landmarks that the other has."""
    first, second = house([0, 10, 20, 30]), house([60, 70, 80, 90])
    first, second = (first[:, :-2], second[:, 2:]) if partial else (first, second)
    index1, index2 = delaunay_edges(first), delaunay_edges(second)
    apart = (sides(first, index1).unsqueeze(2) - sides(second, index2).unsqueeze(1)).square().sum(3)
    vertices = torch.full((4, first.shape[1], second.shape[1]), -0.5 if partial else 0.0, dtype=torch.float64)
    info = solver(partial).solve_with_info(vertices, (-apart / 500).exp(), edge_index1=index1, edge_index2=index2)
    right = torch.eye(30)[: first.shape[1], 30 - second.shape[1] :]
    assert (info.solution[0] * right).sum() >= least * 4 * right.sum()
    assert (info.bound >= info.objective - 1e-9).all()
    best = GraphMatching(partial).solve_with_info(vertices, (-apart / 500).exp(), edge_index1=index1, edge_index2=index2)
    assert (info.objective >= 0.95 * best.objective).all()


INDEX = torch.tensor([[0, 1], [1, 2]]).expand(2, 2, 2)
FLAT, EDGES = torch.zeros(2, 3, 3), torch.zeros(2, 2, 2)
SECOND = torch.tensor(1)
IMPOSSIBLE = torch.tensor([[[True] * 3] * 3, [[True, False, False], [True, False, False], [True, True, True]]])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: RRWM()(FLAT, EDGES.index_fill(0, SECOND, torch.inf), edge_index1=INDEX, edge_index2=INDEX),
            InstanceError,
            "RRWM: instance 1 has NaN or infinite numbers in its scores of edges (1 of 2 instances). Only scores of single "
            "pairs may be infinite, to forbid them.",
        ),
        (
            lambda: IPFP()(FLAT.index_fill(0, SECOND, torch.nan), EDGES, edge_index1=INDEX, edge_index2=INDEX),
            InstanceError,
            "IPFP: instance 1 has NaN scores (1 of 2 instances). Look for a diverged network, or train on with "
            '`SolverLayer(..., on_failure="skip")`.',
        ),
        (
            lambda: SpectralMatching()(FLAT, EDGES, edge_index1=INDEX, edge_index2=INDEX, mask=IMPOSSIBLE),
            InfeasibleError,
            "SpectralMatching: instance 1 has no matching of the pairs that are allowed that leaves nobody out (1 of 2 "
            "instances). All rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes "
            "altogether are padding. Allow more pairs.",
        ),
        (
            lambda: RRWM()(FLAT.where(IMPOSSIBLE, -torch.inf), EDGES, edge_index1=INDEX, edge_index2=INDEX),
            InfeasibleError,
            "RRWM: instance 1 has no matching of the pairs that are allowed that leaves nobody out (1 of 2 instances). All "
            "rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes altogether are "
            "padding. Allow more pairs.",
        ),
        (
            lambda: SpectralMatching()(FLAT, EDGES, edge_index1=INDEX + 1, edge_index2=INDEX),
            InstanceError,
            "SpectralMatching: instance 0 has an edge at vertex 3 in `edge_index1`, but the scores have 3 vertices, numbered "
            "from 0 (2 of 2 instances). Negative numbers mark padding.",
        ),
        (lambda: IPFP(iterations=0), ValueError, "IPFP: iterations=0; it must be at least 1."),
        (lambda: RRWM(alpha=0.0), ValueError, "RRWM: alpha=0.0; it is the weight of walking, more than 0 and at most 1."),
        (lambda: RRWM(beta=0.0), ValueError, "RRWM: beta=0.0; it must be positive."),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as error:
        call()
    assert type(error.value) is kind
