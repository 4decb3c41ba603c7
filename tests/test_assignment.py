"""Assignment, against SciPy, enumeration, and its own two implementations against each other."""

import ctypes
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers import augmenting_paths, kernels
from solverlayers.solvers.assignment import Assignment, GatedAssignment, MaxAssignment, PartialAssignment
from solverlayers.solvers.kernels import assignment as kernel

DTYPES = [torch.float32, torch.float64, torch.int32, torch.int64]
SHAPES = [
    (1, 1),
    (2, 2),
    (5, 5),
    (8, 8),
    (9, 9),
    (16, 16),
    (17, 17),
    (33, 33),
    (50, 50),
    (1, 6),
    (6, 1),
    (4, 7),
    (7, 4),
    (20, 33),
    (34, 9),
]
BUILDS = [name for name in ("baseline", "avx2", "avx512") if kernels._find(name)]
compiled = pytest.mark.skipif(not BUILDS or os.environ.get("SOLVERLAYERS_KERNELS") == "off", reason="no compiled kernels")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def costs(family: str, batch: int, n: int, m: int, seed: int = 0) -> torch.Tensor:
    """Costs of very different structure, which lead the algorithm along different ways."""
    g = generator(seed)
    if family == "uniform":
        return torch.rand(batch, n, m, generator=g)
    if family == "offset":
        return torch.rand(batch, n, m, generator=g) + 1e5 * torch.randn(batch, n, 1, generator=g)
    if family == "geometric":
        return torch.cdist(torch.rand(batch, n, 2, generator=g), torch.rand(batch, m, 2, generator=g))
    if family == "low rank":
        return torch.randn(batch, n, 3, generator=g) @ torch.randn(batch, 3, m, generator=g)
    if family == "line":
        return (torch.rand(batch, n, 1, generator=g) - torch.rand(batch, 1, m, generator=g)) ** 2
    return torch.randint(0, 10, (batch, n, m), generator=g).float()


FAMILIES = ["uniform", "offset", "geometric", "low rank", "line", "ties"]


def best(scores: torch.Tensor, maximize: bool) -> np.ndarray:
    """The optimal objectives, by SciPy."""
    matrices = scores.double().numpy()
    return np.array([c[linear_sum_assignment(c, maximize=maximize)].sum() for c in matrices])


def value(scores: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    return torch.where(y != 0, scores.double(), 0.0).sum((1, 2)).numpy()


def assert_matching(y: torch.Tensor, size: int) -> None:
    assert ((y == 0) | (y == 1)).all()
    assert (y.sum(1) <= 1).all()
    assert (y.sum(2) <= 1).all()
    assert (y.sum((1, 2)) == size).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_as_good_as_scipy(n, m, family):
    for dtype in DTYPES:
        scores = costs(family, 6, n, m)
        scores = scores.to(dtype) if dtype.is_floating_point else (1000 * scores).round().to(dtype)
        for solver in (Assignment(), MaxAssignment()):
            y = solver(scores)
            assert_matching(y, min(n, m))
            assert y.dtype == dtype
            np.testing.assert_allclose(value(scores, y), best(scores, solver.sense == "max"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [100, 200])
def test_large(n, family):
    scores = costs(family, 2, n, n)
    y = Assignment()(scores)
    assert_matching(y, n)
    np.testing.assert_allclose(value(scores, y), best(scores, False), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16])
def test_narrow_types(dtype):
    scores = (20 * costs("uniform", 4, 6, 6)).to(dtype)
    y = Assignment()(scores)
    assert y.dtype == dtype
    np.testing.assert_allclose(value(scores, y), best(scores, False))


def every_matching(n: int, m: int, sizes: range) -> torch.Tensor:
    """All matchings of n rows and m columns with a number of pairs in `sizes`.  # -> (V, n, m)"""
    out = []
    for size in sizes:
        for rows in combinations(range(n), size):
            for columns in permutations(range(m), size):
                y = torch.zeros(n, m, dtype=torch.float64)
                y[list(rows), list(columns)] = 1
                out.append(y)
    return torch.stack(out)


@given(seed=st.integers(0, 2**31), n=st.integers(1, 4), m=st.integers(1, 4), tied=st.booleans())
@settings(max_examples=60, deadline=None)
def test_masked_against_enumeration(seed, n, m, tied):
    g = generator(seed)
    scores = costs("ties" if tied else "uniform", 5, n, m, seed)
    mask = torch.rand(5, n, m, generator=g) < 0.7
    garbage = torch.where(mask, scores, torch.nan)
    for b in range(5):
        real_rows, real_columns = int(mask[b].any(1).sum()), int(mask[b].any(0).sum())
        size = min(real_rows, real_columns)
        all_y = every_matching(n, m, range(size, size + 1))
        all_y = all_y[(all_y * ~mask[b]).sum((1, 2)) == 0]
        one = slice(b, b + 1)
        if len(all_y) == 0:
            with pytest.raises(InfeasibleError):
                Assignment()(garbage[one], mask=mask[one])
            continue
        info = Assignment().solve_with_info(garbage[one], mask=mask[one])
        assert_matching(info.solution, size)
        assert not (info.solution.bool() & ~mask[one]).any()
        want = (all_y * scores[b].double()).sum((1, 2)).min()
        torch.testing.assert_close(info.objective[0], want)
        torch.testing.assert_close(info.bound[0], want)
        assert info.optimal.all()


@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), m=st.integers(1, 4), tied=st.booleans(), masked=st.booleans())
@settings(max_examples=60, deadline=None)
def test_partial_against_enumeration(seed, n, m, tied, masked):
    g = generator(seed)
    scale = 5.0 if tied else 0.6
    pairs = costs("ties" if tied else "uniform", 4, n, m, seed).double()
    rows, columns = scale * torch.rand(4, n, generator=g).double(), scale * torch.rand(4, m, generator=g).double()
    mask = (torch.rand(4, n, m, generator=g) < 0.7) if masked else torch.ones(4, n, m, dtype=torch.bool)
    instance = {"mask": mask} if masked else {}
    real_rows, real_columns = mask.any(2).double(), mask.any(1).double()
    all_y = every_matching(n, m, range(min(n, m) + 1))
    pairs_cost = (all_y * pairs.unsqueeze(1)).sum((2, 3)) + 1e9 * (all_y * ~mask.unsqueeze(1)).sum((2, 3))
    rows_cost = ((real_rows.unsqueeze(1) - all_y.sum(2)) * rows.unsqueeze(1)).sum(2)
    columns_cost = ((real_columns.unsqueeze(1) - all_y.sum(1)) * columns.unsqueeze(1)).sum(2)

    gated = GatedAssignment().solve_with_info(pairs, unmatched=rows, **instance)
    torch.testing.assert_close(gated.objective, (pairs_cost + rows_cost).amin(1))
    torch.testing.assert_close(gated.bound, gated.objective)
    assert gated.optimal.all()
    partial = PartialAssignment().solve_with_info(pairs, rows, columns, **instance)
    torch.testing.assert_close(partial.objective, (pairs_cost + rows_cost + columns_cost).amin(1))
    torch.testing.assert_close(partial.bound, partial.objective)
    assert partial.optimal.all()
    y, alone, left = partial.solution
    assert torch.equal(alone, real_rows - y.sum(2))
    assert torch.equal(left, real_columns - y.sum(1))


def test_one_price_for_all_rows_of_an_instance():
    scores = costs("uniform", 3, 5, 6)
    price = torch.tensor([0.1, 0.3, 2.0])
    one = GatedAssignment()(scores, unmatched=price)
    assert torch.equal(one, GatedAssignment()(scores, unmatched=price[:, None].expand(3, 5)))
    assert one.sum((1, 2)).tolist() == sorted(one.sum((1, 2)).tolist())
    assert one[2].sum() == 5


def test_padding_changes_nothing():
    """A ragged batch gives what its instances give alone, wherever the padding stands."""
    g = generator(3)
    for n, m in [(4, 4), (3, 5), (5, 3), (9, 12), (12, 9)]:
        scores = costs("uniform", 1, n, m, n)
        padded = torch.full((1, 14, 15), torch.nan)
        rows, columns = torch.randperm(14, generator=g)[:n].sort().values, torch.randperm(15, generator=g)[:m].sort().values
        padded[0, rows[:, None], columns] = scores[0]
        y = Assignment()(padded, mask=~padded.isnan())
        assert torch.equal(y[0, rows[:, None], columns], Assignment()(scores)[0])
        assert y.sum() == min(n, m)


def test_an_infinite_cost_forbids_but_makes_no_padding():
    scores = torch.tensor([[[torch.inf, 1.0, 2.0], [1.0, 5.0, torch.inf], [3.0, torch.inf, 4.0]]])
    assert Assignment().partners(Assignment()(scores)).tolist() == [[1, 0, 2]]
    assert MaxAssignment().partners(MaxAssignment()(-scores)).tolist() == [[1, 0, 2]]
    scores[0, 2] = torch.inf
    with pytest.raises(InfeasibleError) as error:
        Assignment()(scores)
    assert error.value.instances.tolist() == [True]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_duals_are_a_proof(n, m, family):
    scores = costs(family, 4, n, m)
    for solver in (Assignment(), MaxAssignment()):
        info = solver.solve_with_info(scores)
        sign = 1 if solver.sense == "min" else -1
        rows, columns = sign * info.duals["rows"], sign * info.duals["columns"]
        slack = sign * scores.double() - rows.unsqueeze(2) - columns.unsqueeze(1)
        scale = scores.abs().max().double()
        assert slack.min() >= -1e-12 * scale
        longer = rows if n > m else columns
        assert n == m or longer.max() <= 1e-12 * scale
        torch.testing.assert_close(sign * (rows.sum(1) + columns.sum(1)), info.objective, rtol=1e-9, atol=1e-9)
        assert info.optimal.all()
        assert torch.equal(info.solution, solver(scores))


@compiled
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 12), m=st.integers(1, 12),
    masked=st.booleans(), skips=st.booleans(), maximize=st.booleans(), family=st.sampled_from(FAMILIES),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_kernel_and_torch_agree(seed, n, m, masked, skips, maximize, family):
    g = generator(seed + 1)
    scores = costs(family, 3, n, m, seed)
    if family == "uniform":  # in float64 the optimum is unique
        scores = scores + torch.rand(3, n, m, generator=g).double()
    mask = (torch.rand(3, n, m, generator=g) < 0.7) if masked else None
    prices = torch.rand(3, n, generator=g).double() if skips else None
    ours, theirs = (b.assign(scores, maximize, mask, prices, duals=True) for b in (kernel, augmenting_paths))
    solved = torch.zeros(3, dtype=torch.uint8)
    status = solved if ours.status is None else ours.status
    assert torch.equal(status, solved if theirs.status is None else theirs.status)
    for matching in (ours, theirs):
        assert (matching.solution[status != 0] == 0).all()
    dual_sums = [sum(d.sum(1) for d in matching.duals) for matching in (ours, theirs)]
    torch.testing.assert_close(*dual_sums, rtol=1e-9, atol=1e-9)
    if family == "uniform":
        assert torch.equal(ours.solution, theirs.solution)
        assert torch.equal(ours.solution, kernel.assign(scores, maximize, mask, prices).solution)
    alone = 1 - ours.solution.sum(2) if mask is None else mask.any(2).float() - ours.solution.sum(2)
    objective = value(scores, ours.solution) + (0 if prices is None else (prices * alone).sum(1).numpy())
    np.testing.assert_allclose(np.where(status == 0, objective, 0), dual_sums[0], rtol=1e-9, atol=1e-9)


def load(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(kernels._find(name)))


def supported(name: str) -> bool:
    level = torch.backends.cpu.get_cpu_capability()
    return name in kernels._LEVELS.get(level, ("baseline",))


@compiled
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_all_builds_agree_bit_for_bit(n, m, family, monkeypatch):
    """Vector width must not matter, not even for ties and for the last bit of the duals."""
    scores = costs(family, 5, n, m)
    mask = torch.rand(5, n, m, generator=generator(1)) < 0.8
    prices = torch.rand(5, n, generator=generator(2)).double()
    results = []
    for name in filter(supported, BUILDS):
        monkeypatch.setattr(kernel, "library", lambda name=name: load(name))
        tries = [
            kernel.assign(scores, False),
            kernel.assign(scores, True, duals=True),
            kernel.assign(scores, False, mask, prices, duals=True),
        ]
        results.append([t for matching in tries for t in (matching.solution, *(matching.duals or ()))])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@compiled
def test_threads_change_nothing():
    scores = costs("geometric", 300, 24, 24)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = Assignment()(scores)
        torch.set_num_threads(4)
        assert kernel._chunks(300, 24 * 24)[1] == 4
        assert torch.equal(Assignment()(scores), alone)
    finally:
        torch.set_num_threads(before)


@compiled
def test_several_python_threads_at_once():
    batches = [costs("geometric", 200, 20, 20, seed) for seed in range(8)]
    alone = [Assignment()(scores) for scores in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(Assignment(), batches))
    assert all(map(torch.equal, alone, together))


FORK = """
import os, torch
from solverlayers.solvers.assignment import Assignment

torch.set_num_threads(4)
scores = torch.rand(300, 24, 24)
before = Assignment()(scores)  # starts workers, which the child does not have
child = os.fork()
same = (Assignment()(scores).numpy() == before.numpy()).all()  # torch itself may hang in the child of a fork
if child == 0:
    os._exit(0 if same else 1)
assert same
assert os.waitpid(child, 0)[1] == 0
"""


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_can_solve():
    root = str(Path(__file__).resolve().parents[1])
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60, cwd=root)


@compiled
def test_warm_start_keeps_the_optimum_and_what_is_used_of_it_may_be_anything():
    scores = costs("low rank", 6, 30, 30)
    duals = Assignment().solve_with_info(scores).duals["columns"]
    moved = scores + 0.01 * torch.randn(scores.shape, generator=generator(1))
    for start in (duals, duals.float(), torch.zeros_like(duals), torch.full_like(duals, torch.nan), 1e3 * torch.rand(6, 30)):
        assert torch.equal(Assignment()(moved, warm_start=start), Assignment()(moved))
    gains = MaxAssignment().solve_with_info(scores).duals["columns"]
    assert torch.equal(MaxAssignment()(moved, warm_start=gains), MaxAssignment()(moved))


def test_tangent_spans_the_differences_of_matchings():
    """Where it is exact: its rank is the dimension of the differences, and it keeps each of them."""
    whole = torch.zeros(1, 4, 5, dtype=torch.bool)
    whole[:, :3, 1:4] = True
    for solver, n, m, instance in [
        (Assignment(), 3, 3, {}), (Assignment(), 2, 4, {}), (Assignment(), 4, 2, {}), (Assignment(), 1, 1, {}),
        (Assignment(), 4, 5, {"mask": whole}), (Assignment(), 4, 5, {"mask": whole & (torch.arange(4) < 2)[:, None]}),
        (GatedAssignment(), 2, 3, {}),
    ]:  # fmt: skip
        partial = isinstance(solver, GatedAssignment)
        all_y = every_matching(n, m, range(min(n, m) + 1))
        if "mask" in instance:
            mask = instance["mask"][0]
            all_y = all_y[(all_y * ~mask).sum((1, 2)) == 0]
            size = min(mask.any(1).sum(), mask.any(0).sum())
        else:
            size = min(n, m)
        all_y = all_y if partial else all_y[all_y.sum((1, 2)) == size]
        differences = all_y - all_y[0]
        projector = torch.stack([solver.tangent(e.reshape(1, n, m), **instance).flatten() for e in torch.eye(n * m).double()])
        torch.testing.assert_close(projector, projector.T)
        torch.testing.assert_close(projector @ projector, projector)
        torch.testing.assert_close(differences.flatten(1) @ projector, differences.flatten(1))
        assert projector.trace().round() == torch.linalg.matrix_rank(differences.flatten(1))


@pytest.mark.parametrize("masked", [False, True])
def test_tangent_of_partial_assignment(masked):
    n, m = 3, 4
    mask = torch.ones(1, n, m, dtype=torch.bool)
    if masked:
        mask[:, 2], mask[:, :, 0] = False, False
    instance = {"mask": mask} if masked else {}
    all_y = every_matching(n, m, range(min(n, m) + 1))
    all_y = all_y[(all_y * ~mask).sum((1, 2)) == 0]
    parts = all_y, mask.any(2).double() - all_y.sum(2), mask.any(1).double() - all_y.sum(1)
    solutions = torch.cat([part.flatten(1) for part in parts], 1)
    size = solutions.shape[1]
    basis = torch.eye(size).double().split([n * m, n, m], 1)
    out = PartialAssignment().tangent(basis[0].reshape(size, 1, n, m), basis[1].unsqueeze(1), basis[2].unsqueeze(1), **instance)
    projector = torch.cat([part.reshape(size, -1) for part in out], 1)
    differences = solutions - solutions[0]
    torch.testing.assert_close(projector, projector.T)
    torch.testing.assert_close(projector @ projector, projector)
    torch.testing.assert_close(differences @ projector, differences)
    assert projector.trace().round() == torch.linalg.matrix_rank(differences)


def test_gradients_reach_all_three_score_tensors():
    from solverlayers.layer import SolverLayer
    from solverlayers.rules import Blackbox

    layer = SolverLayer(PartialAssignment(), Blackbox(step=2.0))
    torch.manual_seed(0)
    scores = [torch.rand(2, 3, 4), torch.rand(2, 3), torch.rand(2, 4)]
    scores = [s.requires_grad_() for s in scores]
    y = layer(*scores)
    assert [part.shape for part in y] == [s.shape for s in scores]
    weights = [torch.randn(part.shape, generator=generator(k)) for k, part in enumerate(y)]
    sum((w * part).sum() for w, part in zip(weights, y)).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in scores)


def test_decode_is_scipys_format():
    scores = costs("uniform", 3, 4, 6)
    solver = Assignment()
    y = solver(scores)
    for matrix, (rows, columns) in zip(scores, solver.decode(y)):
        want = linear_sum_assignment(matrix.numpy())
        np.testing.assert_array_equal(rows, want[0])
        np.testing.assert_array_equal(columns, want[1])
    assert solver.partners(y).tolist() == [columns.tolist() for _, columns in solver.decode(y)]
    assert PartialAssignment().decode((y, y[:, 0], y[:, 0]))[0][0].tolist() == [0, 1, 2, 3]
    assert solver.partners(torch.zeros(2, 3, 0)).tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize("shape", [(0, 3, 3), (0, 9, 12), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_nothing_to_match(shape):
    for solver in (Assignment(), MaxAssignment()):
        assert torch.equal(solver(torch.zeros(shape)), torch.zeros(shape))
        assert solver.solve_with_info(torch.zeros(shape)).objective.tolist() == [0.0] * shape[0]
    count, n, m = shape
    assert torch.equal(GatedAssignment()(torch.zeros(shape), unmatched=torch.ones(count)), torch.zeros(shape))
    y, rows, columns = PartialAssignment()(torch.zeros(shape), torch.ones(count, n), torch.ones(count, m))
    assert (y.shape, rows.sum(), columns.sum()) == (shape, count * n, count * m)


def test_layout_of_memory_does_not_matter():
    scores = costs("uniform", 5, 12, 12)
    for view in (scores.mT.contiguous().mT, scores.permute(2, 0, 1).contiguous().permute(1, 2, 0), scores.repeat(2, 1, 1)[::2]):
        assert not view.is_contiguous() or view.shape == scores.shape
        assert torch.equal(Assignment()(view), Assignment()(view.contiguous()))
    mask = torch.ones(5, 12, 12, dtype=torch.bool).mT
    assert torch.equal(Assignment()(scores, mask=mask), Assignment()(scores))
    shared = torch.ones(12).expand(5, 12)
    assert torch.equal(GatedAssignment()(scores, unmatched=shared), GatedAssignment()(scores, unmatched=torch.ones(5)))


def test_an_instance_does_not_depend_on_its_batch():
    for n in (3, 8, 10, 20):
        scores = costs("ties", 21, n, n)
        together = Assignment()(scores)
        assert torch.equal(together, torch.cat([Assignment()(one) for one in scores.split(1)]))
        assert torch.equal(together, Assignment()(scores))


NOBODY_OUT = (
    "All rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes altogether are "
    "padding. "
    "Allow more pairs, or use GatedAssignment, which may leave rows unmatched at a price."
)
MASK = torch.ones(2, 2, 2, dtype=torch.bool)
BAD_COLUMN = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, torch.inf], [2.0, torch.inf]]])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: Assignment()(BAD_COLUMN),
            InfeasibleError,
            "Assignment: instance 1 has no matching of the pairs that are allowed that leaves nobody out (1 of 2 instances). "
            + NOBODY_OUT,
        ),
        (
            lambda: MaxAssignment()(torch.full((1, 9, 9), -torch.inf)),
            InfeasibleError,
            "MaxAssignment: instance 0 has no matching of the pairs that are allowed that leaves nobody out (1 of 1 "
            "instances). "
            + NOBODY_OUT,
        ),
        (
            lambda: GatedAssignment()(BAD_COLUMN, unmatched=torch.full((2,), torch.inf)),
            InfeasibleError,
            "GatedAssignment: instance 1 has no matching of the pairs that are allowed that leaves nobody out (1 of 2 "
            "instances). "
            "A row whose `unmatched` price is infinite needs a partner: make the price finite, or allow it more pairs.",
        ),
        (
            lambda: Assignment()(-BAD_COLUMN),
            InstanceError,
            "Assignment: instance 1 has NaN or -inf among its numbers (1 of 2 instances). A score of +inf forbids a pair; "
            "-inf would "
            "outweigh everything.",
        ),
        (
            lambda: Assignment()(torch.where(BAD_COLUMN.isinf(), torch.nan, BAD_COLUMN)),
            InstanceError,
            "Assignment: instance 1 has NaN scores (1 of 2 instances). Look for a diverged network, or train on with "
            '`SolverLayer(..., on_failure="skip")`.',
        ),
        (
            lambda: Assignment()(torch.zeros(2, 3)),
            ValueError,
            "Assignment: scores have shape (2, 3), which is 2 dimensions; expected a batch dimension and 2 more. Add one with "
            "`scores.unsqueeze(0)` or fold extra ones with `flatten`.",
        ),
        (
            lambda: Assignment()(torch.zeros(2, 2, 2, dtype=torch.bool)),
            TypeError,
            "Assignment: scores are bool; use real or integer numbers, such as `scores.float()`.",
        ),
        (
            lambda: Assignment()(torch.zeros(2, 2, 2), mask=MASK.float()),
            ValueError,
            "Assignment: `mask` is float32 of shape (2, 2, 2); it needs to be boolean, of shape (2, 2, 2) like the scores, "
            "and False "
            "where a pair may not be made.",
        ),
        (
            lambda: Assignment()(torch.zeros(2, 2, 3), mask=MASK),
            ValueError,
            "Assignment: `mask` is bool of shape (2, 2, 2); it needs to be boolean, of shape (2, 2, 3) like the scores, and "
            "False "
            "where a pair may not be made.",
        ),
        (
            lambda: Assignment()(torch.full((1, 2, 2), 2**60)),
            ValueError,
            "Assignment: scores of type int64 reach beyond 2**53, where float64, in which sums are formed, is not exact. "
            "Use smaller "
            "numbers, and `mask` for pairs that may not be made.",
        ),
        (
            lambda: Assignment()(torch.zeros(2, 2, 3), warm_start=torch.zeros(2, 2)),
            ValueError,
            "Assignment: `warm_start` has shape (2, 2); it needs one dual for each column, shape (2, 3), as in "
            "`solve_with_info(...).duals['columns']`.",
        ),
        (
            lambda: GatedAssignment()(torch.zeros(2, 2, 3), unmatched=torch.zeros(2, 3)),
            ValueError,
            "GatedAssignment: `unmatched` has shape (2, 3); it needs one price for each row, shape (2, 2), or one for each "
            "instance, "
            "shape (2,).",
        ),
        (
            lambda: PartialAssignment()(torch.zeros(2, 2, 3), torch.zeros(2, 3), torch.zeros(2, 2)),
            ValueError,
            "PartialAssignment: the scores have shapes (2, 2, 3), (2, 3), (2, 2); expected three tensors: costs of pairs "
            "(B, n, m), of "
            "unmatched rows (B, n) and of unmatched columns (B, m).",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as error:
        call()
    assert type(error.value) is kind


def test_large_integers_are_fine_where_the_mask_excludes_them():
    scores = torch.full((1, 2, 2), 2**60)
    scores[0, 0, 0] = scores[0, 1, 1] = 3
    mask = scores == 3
    assert Assignment()(scores, mask=mask).tolist() == [[[1, 0], [0, 1]]]


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
@pytest.mark.parametrize("kind", ["real", "ties", "low rank", "masked"])
@pytest.mark.parametrize("solver", [Assignment(), MaxAssignment()], ids=repr)
def test_a_start_changes_no_solution(solver, kind):
    """Also from duals of other costs, where several matchings are optimal, and with padding."""
    g = generator(7)
    for n in (3, 9, 20, 40):
        scores = torch.randn(12, n, 3, generator=g) @ torch.randn(12, 3, n, generator=g)
        if kind == "ties":
            scores = torch.randint(0, 4, (12, n, n), generator=g).float()
        elif kind == "real":
            scores = torch.rand(12, n, n, generator=g)
        instance = (
            {"mask": (torch.arange(n) < n - 2).expand(12, n, n) & (torch.arange(n) < n - 2)[:, None]}
            if kind == "masked"
            else {}
        )
        theta = scores if solver.sense == "max" else -scores
        y, start = solver.optimise_with_start(theta, sense="max", **instance)
        assert torch.equal(y, solver(scores, **instance))
        if start is None:
            start = torch.randn(12, n, generator=g).double()
        for step in (0.0, 0.01, 1.0):
            moved = scores + step * torch.randn(scores.shape, generator=g)
            for other in (start, start.flip(0), torch.randn(start.shape, generator=g).double()):
                assert torch.equal(solver(moved, warm_start=other, **instance), solver(moved, **instance))


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
def test_a_start_saves_time():
    """The second solve of a finite difference, on costs with structure: a third of the time or less, asserted at two thirds."""
    g = generator(8)
    scores = torch.randn(16, 80, 4, generator=g) @ torch.randn(16, 4, 80, generator=g)
    start = Assignment().optimise_with_start(scores)[1]
    moved = scores + 0.01 * torch.randn(scores.shape, generator=g)

    def seconds(**instance):
        begin = time.process_time()
        Assignment().solve(moved, **instance)
        return time.process_time() - begin

    times = [(seconds(warm_start=start), seconds()) for _ in range(9)]
    assert min(warm for warm, _ in times) < 2 / 3 * min(cold for _, cold in times)
