"""Graph matching and quadratic assignment, against enumeration, SciPy, published optima, and two implementations."""

import ctypes
import json
import os
import re
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import without_kernels
from cases import flows as random_flows
from cases import matchings, pad_flows
from scipy.optimize import linear_sum_assignment, quadratic_assignment

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError, SolverTimeoutError
from solverlayers.rules import IMLE, Blackbox, Identity, Perturbed
from solverlayers.solvers import graph_proof, graph_search, kernels, matching_messages, nearest_edges
from solverlayers.solvers.graph_matching import ExactGraphMatching, GraphMatching
from solverlayers.solvers.kernels import graph_matching as kernel
from solverlayers.solvers.kernels.graph_matching import LIMIT, Effort
from solverlayers.solvers.matching_messages import message_bound
from solverlayers.solvers.quadratic_assignment import ExactQuadraticAssignment, QuadraticAssignment
from solverlayers.testing import check_solver

BUILDS = [name for name in ("baseline", "avx2", "avx512") if kernels._find(name)]
compiled = pytest.mark.skipif(not BUILDS or os.environ.get("SOLVERLAYERS_KERNELS") == "off", reason="no compiled kernels")
QUICK = {"restarts": 2, "exchanges": 10}
SHAPES = [(1, 1), (2, 2), (4, 4), (5, 5), (3, 5), (5, 3), (1, 4)]

# nug5: five facilities on a 2 x 3 grid (Nugent, Vollmann, Ruml, 1968), optimum 50
FLOWS = torch.tensor([[0, 5, 2, 4, 1], [5, 0, 3, 0, 2], [2, 3, 0, 0, 0], [4, 0, 0, 0, 5], [1, 2, 0, 5, 0]])
DISTANCES = torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 1, 2], [1, 2, 0, 1, 2], [2, 1, 1, 0, 1], [3, 2, 2, 1, 0]])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assignment_data(batch, n, m, seed=0):
    """Scores, flows and distances without any symmetry, some negative, none of the diagonals zero."""
    g = generator(seed)
    return tuple(torch.randn(batch, *shape, generator=g, dtype=torch.float64) for shape in ((n, m), (n, n), (m, m)))


def graph_data(batch, n, m, e1=7, e2=8, seed=0):
    """Scores of vertices and edges, and edges among which are padding, loops and repetitions."""
    g = generator(seed)
    vertices = torch.randn(batch, n, m, generator=g, dtype=torch.float64)
    edges = torch.randn(batch, e1, e2, generator=g, dtype=torch.float64)
    index1 = torch.randint(-1, n, (batch, 2, e1), generator=g)
    index2 = torch.randint(-1, m, (batch, 2, e2), generator=g)
    return (vertices, edges), {"edge_index1": index1, "edge_index2": index2}


def random_mask(batch, n, m, seed=0):
    """Forbidden pairs and padding, with a matching that is possible: pairs (i, i + 1) are allowed."""
    mask = torch.rand(batch, n, m, generator=generator(seed)) < 0.7
    for i in range(min(n, m)):
        mask[:, i, (i + 1) % m if n <= m else i] = True
    if min(n, m) > 2:
        mask[::2, -1], mask[::2, :, -1] = False, False
        for i in range(min(n, m) - 1):
            mask[::2, i, i] = True
    return mask


def cost(y, flows, distances):
    """By its definition, with a loop."""
    return sum(flows[i, j] * distances[p, q] for i, p in y.nonzero().tolist() for j, q in y.nonzero().tolist())


def edges_of(y, index1, index2):
    """By its definition, with a loop."""
    z = torch.zeros(index1.shape[1], index2.shape[1], dtype=y.dtype)
    for a, (i, j) in enumerate(index1.T.tolist()):
        for b, (p, q) in enumerate(index2.T.tolist()):
            if min(i, j, p, q) >= 0:
                z[a, b] = y[i, p] * y[j, q]
    return z


@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 4)])
def test_contract_of_the_exact_solver(n, m):
    check_solver(ExactQuadraticAssignment(**QUICK), (n, m), random_flows(n, m), matchings(n, m), pad=pad_flows)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_exact_assignment_is_the_best_of_all(n, m, masked, partial):
    scores, flows, distances = assignment_data(4, n, m)
    instance = {"flows": flows, "distances": distances}
    masks = random_mask(4, n, m) if masked else torch.ones(4, n, m, dtype=torch.bool)
    if masked:
        instance["mask"] = masks
    info = ExactQuadraticAssignment(partial, **QUICK).solve_with_info(scores, **instance)
    found = QuadraticAssignment(partial, **QUICK).solve_with_info(scores, **instance)
    for b in range(4):
        every = matchings(n, m, masks[b], partial=partial).double()
        values = torch.stack([(scores[b] * y).sum() + cost(y, flows[b], distances[b]) for y in every])
        assert torch.equal(info.solution[b], every[values.argmin()])
        assert torch.isclose(info.objective[b], values.min())
        assert (every == found.solution[b]).flatten(1).all(1).any()
        assert found.bound[b] <= values.min() + 1e-9


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 3), (4, 4), (2, 4), (4, 3)])
def test_exact_matching_is_the_best_of_all(n, m, masked, partial):
    (vertices, edges), instance = graph_data(4, n, m)
    masks = random_mask(4, n, m) if masked else torch.ones(4, n, m, dtype=torch.bool)
    if masked:
        instance["mask"] = masks
    info = ExactGraphMatching(partial, **QUICK).solve_with_info(vertices, edges, **instance)
    for b in range(4):
        every = matchings(n, m, masks[b], partial=partial).double()
        pairs = [edges_of(y, instance["edge_index1"][b], instance["edge_index2"][b]) for y in every]
        values = torch.stack([(vertices[b] * y).sum() + (edges[b] * z).sum() for y, z in zip(every, pairs)])
        best = values.argmax()
        assert torch.isclose(info.objective[b], values.max())
        assert torch.equal(info.solution[0][b], every[best])
        assert torch.equal(info.solution[1][b], pairs[best])


@compiled
def test_integer_scores_and_a_published_optimum():
    scores = torch.zeros(1, 5, 5, dtype=torch.int64)
    instance = {"flows": FLOWS[None], "distances": DISTANCES[None]}
    for solver in (QuadraticAssignment(), ExactQuadraticAssignment()):
        info = solver.solve_with_info(scores, **instance)
        assert info.solution.dtype == torch.int64
        assert info.objective.item() == 50
        assert info.optimal.item()
    orders = torch.tensor(list(permutations(range(5))))
    assert min((FLOWS * DISTANCES[p][:, p]).sum().item() for p in orders) == 50


def test_ties_everywhere():
    """All matchings are equally good, and still one is returned, with a proof."""
    flat = torch.ones(2, 6, 6)
    info = ExactQuadraticAssignment().solve_with_info(flat, flows=flat, distances=flat)
    assert info.objective.tolist() == [42.0, 42.0]
    assert (info.solution.sum(1) == 1).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n", [5, 17, 30])
def test_frank_wolfe_is_as_good_as_scipys(n, symmetric):
    _, flows, distances = (x.abs() for x in assignment_data(12, n, n))
    if symmetric:
        flows, distances = flows + flows.mT, distances + distances.mT
    info = QuadraticAssignment(restarts=1, exchanges=0).solve_with_info(
        torch.zeros_like(flows), flows=flows, distances=distances
    )
    options = {"rng": np.random.default_rng(0)}
    theirs = [quadratic_assignment(a, b, method="faq", options=options).fun for a, b in zip(flows.numpy(), distances.numpy())]
    assert info.objective.mean() <= np.mean(theirs)
    longer = QuadraticAssignment().solve_with_info(torch.zeros_like(flows), flows=flows, distances=distances)
    assert (longer.objective <= info.objective + 1e-9).all()
    assert (longer.bound <= longer.objective + 1e-9).all()


@compiled
def test_bound_of_large_instances_is_that_of_gilmore_and_lawler():
    """Each row's least scalar product, as in the textbook."""
    n = 33
    flows, distances = (torch.rand(n, n, generator=generator(s), dtype=torch.float64).fill_diagonal_(0) for s in (0, 1))
    flows, distances = flows + flows.T, distances + distances.T
    scores = torch.rand(n, n, generator=generator(2), dtype=torch.float64)
    off = ~torch.eye(n, dtype=torch.bool)
    small, large = flows[off].view(n, n - 1).sort().values, distances[off].view(n, n - 1).sort(descending=True).values
    costs = (scores + small @ large.T).numpy()
    expected = costs[linear_sum_assignment(costs)].sum()
    info = QuadraticAssignment(**QUICK).solve_with_info(scores[None], flows=flows[None], distances=distances[None])
    assert info.bound.item() == pytest.approx(expected, rel=1e-9)
    assert not info.optimal.item()


# ---- bounds by messages ----


def bound_data(n, m, masked, partial):
    (vertices, edges), instance = graph_data(6, n, m, e1=9, e2=10)
    if masked:
        instance["mask"] = random_mask(6, n, m)
    best = ExactGraphMatching(partial, **QUICK).solve_with_info(vertices, edges, **instance).objective
    return best, GraphMatching(partial)._problem(vertices, edges, **instance)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (5, 5), (3, 6), (6, 3)])
def test_messages_prove_a_bound(monkeypatch, n, m, masked, partial):
    """Never below the optimum, whatever the number of rounds, and more rounds never make it worse; cost is the negative."""
    best, problem = bound_data(n, m, masked, partial)
    bounds = []
    for rounds in (1, 2, 5, 50):
        monkeypatch.setattr(matching_messages, "_ROUNDS", rounds)
        bounds.append(message_bound(problem))
        assert (bounds[-1] >= best - 1e-9).all()
    for worse, better in pairwise(bounds):
        assert (better <= worse + 1e-9).all()
    cost = problem._replace(scores=-problem.scores, pairs=-problem.pairs, maximize=False)
    torch.testing.assert_close(message_bound(cost), -bounds[-1])
    monkeypatch.setattr(matching_messages, "_ENTRIES", 1)  # one instance at a time
    torch.testing.assert_close(message_bound(problem), bounds[-1])


def test_messages_alone_prove_what_edges_do_not_touch():
    """Without edges the bound is an assignment's, and with edges that form a tree it is exact for labels without a conflict."""
    (vertices, _), _ = graph_data(3, 4, 4)
    none = torch.zeros(3, 2, 0, dtype=torch.int64)
    info = GraphMatching().solve_with_info(vertices, torch.zeros(3, 0, 0), edge_index1=none, edge_index2=none)
    assert info.optimal.all()
    star = torch.tensor([[0, 0, 0], [1, 2, 3]]).expand(3, 2, 3)
    edges = torch.rand(3, 3, 3, generator=generator(), dtype=torch.float64)
    problem = GraphMatching()._problem(10 * torch.eye(4, dtype=torch.float64).expand(3, 4, 4), edges, star, star)
    torch.testing.assert_close(message_bound(problem), 40 + edges.diagonal(dim1=1, dim2=2).sum(1))


def test_messages_are_nearer_than_dual_ascent_on_sparse_graphs():
    """Half of the gap of large, sparse, random graphs, at most; without kernels it is the only bound."""
    points = torch.rand(4, 2, 36, 2, generator=generator())
    index1, index2 = (nearest_edges(points[:, k], 3) for k in (0, 1))
    (vertices, edges), _ = graph_data(4, 36, 36, index1.shape[2], index2.shape[2])
    solver = GraphMatching()
    info = solver.solve_with_info(vertices, edges, edge_index1=index1, edge_index2=index2)
    assert (info.bound >= info.objective).all()
    problem = solver._problem(vertices, edges, index1, index2)
    other = graph_proof.prove(problem, solver.partners(info.solution[0]), 0).bound
    assert ((info.bound - info.objective) <= 0.5 * (other - info.objective).nan_to_num(torch.inf)).all()


def problems():
    """Small problems of all kinds."""
    for n, m in ((4, 4), (3, 5), (4, 3)):
        scores, flows, distances = assignment_data(2, n, m)
        (vertices, edges), index = graph_data(2, n, m)
        for mask in (None, random_mask(2, n, m)):
            yield QuadraticAssignment(partial=n < m)._problem(scores, flows, distances, mask)
            yield QuadraticAssignment()._problem(scores, flows + flows.mT, distances, mask)
            for partial in (False, True):
                yield GraphMatching(partial)._problem(vertices, edges, **index, mask=mask)


@compiled
def test_kernel_and_torch_agree():
    for problem in problems():
        one, two = (module.search(problem, Effort(3, 30, 15, 5)) for module in (kernel, graph_search))
        assert one.status is None
        assert two.status is None
        assert torch.equal(one.partners, two.partners)
        worse = kernel.search(problem, Effort(1, 0, 0, 0)).partners
        proofs = [module.branch_and_bound(problem, worse, 10_000) for module in (kernel, graph_proof)]
        for proof in proofs:
            assert proof.status is None
        assert torch.equal(proofs[0].partners, proofs[1].partners)
        torch.testing.assert_close(proofs[0].bound, proofs[1].bound)


@compiled
def test_all_builds_agree(monkeypatch):
    level = {"DEFAULT": 1, "AVX2": 2, "AVX512": 3}.get(torch.backends.cpu.get_cpu_capability(), 1)
    found = []
    for name in BUILDS[:level]:
        build = ctypes.CDLL(str(kernels._find(name)))
        monkeypatch.setattr(kernel, "library", lambda build=build: build)
        _, flows, distances = assignment_data(3, 21, 21)
        large = QuadraticAssignment()._problem(flows, flows, distances)
        all_problems = [*problems(), large]
        found.append([kernel.search(p, Effort(2, 30, 50, 0)).partners for p in all_problems])
        found[-1] += [kernel.branch_and_bound(p, q, 0).bound for p, q in zip(all_problems, found[-1])]
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_without_kernels(monkeypatch):
    (vertices, edges), index = graph_data(3, 4, 4)
    expected = ExactGraphMatching(**QUICK).solve_with_info(vertices, edges, **index)
    without_kernels(monkeypatch)
    got = ExactGraphMatching(**QUICK).solve_with_info(vertices, edges, **index)
    assert torch.equal(got.solution[0], expected.solution[0])
    torch.testing.assert_close(got.bound, expected.bound)


def test_padding_changes_nothing():
    """Garbage included, for flows and edges as well."""
    scores, flows, distances = assignment_data(3, 5, 6)
    y = QuadraticAssignment(**QUICK)(scores, flows=flows, distances=distances)
    pad = lambda t: torch.nn.functional.pad(t, (2, 1, 1, 2), value=torch.nan)  # noqa: E731
    square = lambda t: torch.nn.functional.pad(t, (1, 2, 1, 2), value=torch.nan)  # noqa: E731
    columns = lambda t: torch.nn.functional.pad(t, (2, 1, 2, 1), value=torch.nan)  # noqa: E731
    padded = pad(scores)
    info = QuadraticAssignment(**QUICK).solve_with_info(
        padded, flows=square(flows), distances=columns(distances), mask=~padded.isnan()
    )
    assert torch.equal(info.solution[:, 1:-2, 2:-1], y)
    assert info.solution.sum() == y.sum()
    plain = QuadraticAssignment(**QUICK).solve_with_info(scores, flows=flows, distances=distances)
    torch.testing.assert_close(info.objective, plain.objective)
    torch.testing.assert_close(info.bound, plain.bound)
    (vertices, edges), index = graph_data(3, 4, 5)
    y, z = GraphMatching(**QUICK)(vertices, edges, **index)
    more = {key: torch.nn.functional.pad(value, (0, 3), value=-1) for key, value in index.items()}
    mask = torch.nn.functional.pad(torch.ones_like(vertices, dtype=torch.bool), (0, 2, 0, 1))
    y2, z2 = GraphMatching(**QUICK)(
        torch.nn.functional.pad(vertices, (0, 2, 0, 1), value=torch.nan),
        torch.nn.functional.pad(edges, (0, 3, 0, 3), value=torch.nan),
        **more,
        mask=mask,
    )
    assert torch.equal(y2[:, :-1, :-2], y)
    assert torch.equal(z2[:, :-3, :-3], z)
    assert y2.sum() == y.sum()
    assert z2.sum() == z.sum()


def test_empty():
    for shape in ((0, 3, 4), (2, 0, 3), (2, 3, 0), (2, 0, 0)):
        count, n, m = shape
        for solver in (QuadraticAssignment(), ExactQuadraticAssignment()):
            y = solver(torch.zeros(shape), flows=torch.zeros(count, n, n), distances=torch.zeros(count, m, m))
            assert y.shape == shape
            assert y.sum() == 0 or count == 0
    index = torch.zeros(2, 2, 0, dtype=torch.int64)
    y, z = GraphMatching()(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 0, 0), edge_index1=index, edge_index2=index)
    assert torch.equal(y, torch.eye(3).expand(2, 3, 3))
    assert z.shape == (2, 0, 0)


def test_outliers_stay_alone():
    """Two points of each graph have a partner; the third pair does not pay."""
    vertices = torch.tensor([[[1.0, -9, -9], [-9, 1, -9], [-9, -9, -1]]])
    index = torch.tensor([[[0, 1], [1, 2]]])
    edges = torch.tensor([[[1.0, 0], [0, 0.5]]])
    y, z = GraphMatching(partial=True)(vertices, edges, edge_index1=index, edge_index2=index)
    assert GraphMatching().partners(y).tolist() == [[0, 1, -1]]
    assert z.tolist() == [[[1, 0], [0, 0]]]
    y, z = GraphMatching(partial=True)(vertices, 4 * edges, edge_index1=index, edge_index2=index)
    assert GraphMatching().partners(y).tolist() == [[0, 1, 2]]
    assert GraphMatching().decode((y, z))[0][1].tolist() == [0, 1, 2]


def test_facilities_that_cost_more_than_they_bring_have_no_place():
    """The second is worth its own place, but not what its flow to the first costs wherever it goes."""
    scores = torch.tensor([[[-5.0, -4.0, -4.0], [-1.0, -1.0, -1.0]]])
    flows, distances = torch.tensor([[[0.0, 2], [0, 0]]]), torch.ones(1, 3, 3)
    for solver in (QuadraticAssignment(partial=True), ExactQuadraticAssignment(partial=True)):
        info = solver.solve_with_info(scores, flows=flows, distances=distances)
        assert solver.partners(info.solution).tolist() == [[0, -1]]
        assert info.objective.item() == -5
    assert QuadraticAssignment().constant_sum
    assert not QuadraticAssignment(partial=True).constant_sum
    with pytest.raises(ValueError, match="mean"):
        SolverLayer(QuadraticAssignment(partial=True), Identity(), projection="mean")


# ---- real instances ----


@pytest.fixture(scope="module")
def qaplib():
    folder = Path(os.environ.get("SOLVERLAYERS_DATA", "/nonexistent")) / "qaplib_dev"
    if not folder.exists():
        pytest.skip("SOLVERLAYERS_DATA does not name a folder with qaplib_dev")
    arrays, optima = np.load(folder / "qaplib_dev.npz"), json.loads((folder / "optima.json").read_text())
    return {
        name: (torch.as_tensor(arrays[f"{name}__A"])[None], torch.as_tensor(arrays[f"{name}__B"])[None], entry["optimum"])
        for name, entry in optima.items()
    }


def test_gap_on_qaplib(qaplib):
    gaps = {}
    for name, (flows, distances, optimum) in qaplib.items():
        info = QuadraticAssignment().solve_with_info(torch.zeros_like(flows), flows=flows, distances=distances)
        assert info.bound <= optimum <= info.objective
        gaps[name] = info.objective.item() / optimum - 1 if optimum else info.objective.item()
    assert np.mean(list(gaps.values())) < 0.002
    assert max(gaps.values()) < 0.02


def test_exact_on_small_qaplib(qaplib):
    small = {name: data for name, data in qaplib.items() if data[0].shape[1] <= 12}
    assert small
    for flows, distances, optimum in small.values():
        info = ExactQuadraticAssignment().solve_with_info(torch.zeros_like(flows), flows=flows, distances=distances)
        assert info.objective.item() == optimum
        assert info.bound.item() == optimum


# ---- layers ----


@pytest.mark.parametrize(
    "rule", [Identity(), Blackbox(step=5.0), IMLE(step=5.0, samples=4), Perturbed(sigma=0.5, samples=16)], ids=repr
)
def test_gradients_reach_both_scores(rule):
    """A step along the gradient brings the solution nearer to a target."""
    torch.manual_seed(0)
    (vertices, edges), index = graph_data(6, 4, 4, e1=9, e2=9)
    target = GraphMatching(**QUICK)(*graph_data(6, 4, 4, 9, 9, seed=9)[0], **index)
    layer = SolverLayer(GraphMatching(**QUICK), rule)
    vertices.requires_grad_(), edges.requires_grad_()

    def loss(y):
        return sum(((a - b) ** 2).sum() for a, b in zip(y, target))

    losses = []
    optimizer = torch.optim.SGD([vertices, edges], lr=0.2)
    for _ in range(40):
        optimizer.zero_grad()
        now = loss(layer(vertices, edges, **index))
        now.backward()
        losses.append(loss(layer.eval()(vertices, edges, **index)).item())
        layer.train()
        assert vertices.grad.isfinite().all()
        assert edges.grad.isfinite().all()
        assert edges.grad.abs().sum() > 0 or losses[-1] == 0
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_tangent_of_both_parts():
    (vertices, edges), index = graph_data(5, 3, 4)
    for solver, mask in ((GraphMatching(**QUICK), None), (GraphMatching(True, **QUICK), random_mask(5, 3, 4))):
        extra = {} if mask is None else {"mask": mask}
        one, two = solver(vertices, edges, **index, **extra), solver(*graph_data(5, 3, 4, seed=3)[0], **index, **extra)
        difference = [a - b for a, b in zip(one, two)]
        for part, same in zip(solver.tangent(*difference, **index, **extra), difference):
            torch.testing.assert_close(part, same)


def test_a_bad_instance_is_skipped_alone():
    scores, flows, distances = assignment_data(3, 4, 4)
    expected = QuadraticAssignment()(scores, flows=flows, distances=distances)
    flows[1, 2, 0] = torch.nan
    layer = SolverLayer(QuadraticAssignment(), Identity(), on_failure="skip")
    y = layer(scores, flows=flows, distances=distances)
    expected[1] = 0
    assert torch.equal(y, expected)
    assert layer.failures == 1


def hard():
    g = generator(1)
    return [torch.randint(0, 50, (2, 12, 12), generator=g).double() for _ in range(3)]


@compiled
def test_the_incumbent_of_a_time_out():
    scores, flows, distances = hard()
    solver = ExactQuadraticAssignment(nodes=3)
    with pytest.raises(SolverTimeoutError) as error:
        solver(scores, flows=flows, distances=distances)
    assert error.value.instances.tolist() == [True, True]
    found = QuadraticAssignment()(scores, flows=flows, distances=distances)
    assert torch.equal(error.value.incumbent, found)
    assert str(error.value) == (
        "ExactQuadraticAssignment: instance 0 is not solved after 3 nodes (2 of 2 instances). Raise `nodes`, or use "
        "QuadraticAssignment, which is as good on nearly all instances without the proof."
    )
    layer = SolverLayer(solver, Identity(), on_failure="last")
    assert torch.equal(layer(scores, flows=flows, distances=distances), found)
    problem = solver._problem(scores, flows, distances)
    assert (kernel if BUILDS else graph_proof).branch_and_bound(problem, solver.partners(found), 3).status.tolist() == [
        LIMIT
    ] * 2


SQUARE, LONG = torch.zeros(2, 3, 3), torch.zeros(1, 2, 33)
INDEX = torch.tensor([[0, 1], [1, 2]]).expand(2, 2, 2)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: QuadraticAssignment()(SQUARE, flows=SQUARE, distances=torch.zeros(2, 4, 4)),
            ValueError,
            "QuadraticAssignment: `distances` has shape (2, 4, 4); it needs shape (2, 3, 3), a number for every two columns of "
            "the scores, which have shape (2, 3, 3).",
        ),
        (
            lambda: QuadraticAssignment()(SQUARE, flows=SQUARE.index_fill(0, torch.tensor(1), torch.inf), distances=SQUARE),
            InstanceError,
            "QuadraticAssignment: instance 1 has NaN or infinite numbers in its flows or distances (1 of 2 instances). Only "
            "scores of single pairs may be infinite, to forbid them.",
        ),
        (
            lambda: QuadraticAssignment()(SQUARE.index_fill(0, torch.tensor(1), torch.nan), flows=SQUARE, distances=SQUARE),
            InstanceError,
            "QuadraticAssignment: instance 1 has NaN scores (1 of 2 instances). Look for a diverged network, or train on with "
            '`SolverLayer(..., on_failure="skip")`.',
        ),
        (
            lambda: QuadraticAssignment()(SQUARE, flows=SQUARE, distances=SQUARE, mask=torch.tensor(
                [[[True] * 3] * 3, [[True, False, False], [True, False, False], [True, True, True]]])),
            InfeasibleError,
            "QuadraticAssignment: instance 1 has no matching of the pairs that are allowed that leaves nobody out (1 of 2 "
            "instances). All rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes "
            "altogether are padding. Allow more pairs.",
        ),
        (
            lambda: GraphMatching()(SQUARE, torch.zeros(2, 2, 2), edge_index1=INDEX + 1, edge_index2=INDEX),
            InstanceError,
            "GraphMatching: instance 0 has an edge at vertex 3 in `edge_index1`, but the scores have 3 vertices, numbered from "
            "0 (2 of 2 instances). Negative numbers mark padding.",
        ),
        (
            lambda: GraphMatching()(SQUARE, torch.zeros(2, 2, 3), edge_index1=INDEX, edge_index2=INDEX),
            ValueError,
            "GraphMatching: `edge_index2` has shape (2, 2, 2); the scores of edges need (2, 2, 3): sources and targets of 3 "
            "edges of each instance.",
        ),
        (
            lambda: GraphMatching()(SQUARE, torch.zeros(2, 2, 2), edge_index1=INDEX.int(), edge_index2=INDEX),
            TypeError,
            "GraphMatching: `edge_index1` is torch.int32; vertex numbers are torch.int64. Use `edge_index1.long()`.",
        ),
        (
            lambda: GraphMatching()(SQUARE, edge_index1=INDEX, edge_index2=INDEX),
            ValueError,
            "GraphMatching: the scores have shapes (2, 3, 3); expected two tensors: scores of pairs of vertices (B, n, m) and "
            "of pairs of edges (B, E1, E2).",
        ),
        (
            lambda: ExactQuadraticAssignment(partial=True)(LONG, flows=SQUARE[:1, :2, :2], distances=torch.zeros(1, 33, 33)),
            ValueError,
            "ExactQuadraticAssignment: the scores have shape (1, 2, 33), which is 35 rows or columns, as any may stay alone; "
            "proofs reach 32. Use QuadraticAssignment, whose `solve_with_info` has a bound.",
        ),
        (
            lambda: ExactQuadraticAssignment()(LONG, flows=SQUARE[:1, :2, :2], distances=torch.zeros(1, 33, 33)),
            ValueError,
            "ExactQuadraticAssignment: the scores have shape (1, 2, 33), which is 33 rows or columns; proofs reach 32. Use "
            "QuadraticAssignment, whose `solve_with_info` has a bound.",
        ),
        (lambda: GraphMatching(restarts=0), ValueError, "GraphMatching: restarts=0; it must be at least 1."),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as error:
        call()
    assert type(error.value) is kind
