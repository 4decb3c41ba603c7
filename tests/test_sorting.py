"""Ranks and permutations, against scipy.stats.rankdata and NumPy; the compiled kernel against plain torch."""

import re
from itertools import permutations

import numpy as np
import pytest
import torch
from builds import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from solverlayers import SolverLayer
from solverlayers.relaxations import ProjectedSort
from solverlayers.rules import Blackbox, Identity, StraightThrough
from solverlayers.solvers.kernels import library, ranking
from solverlayers.solvers.sorting import Permutation, Ranking, Sort, _torch_ranks, argsort, assignment_scores, sort

needs_kernel = pytest.mark.skipif(library() is None, reason="the compiled kernels are not built")
DTYPES = [torch.float32, torch.float64, torch.int32, torch.int64]


def scores_of(kind: str, batch: int, n: int, seed: int = 0) -> torch.Tensor:
    """Scores of several characters, as float64."""
    g = generator(seed)
    normal = torch.randn(batch, n, generator=g, dtype=torch.float64)
    return {
        "normal": normal,
        "shifted": torch.rand(batch, n, generator=g, dtype=torch.float64) * 100 + 1e5,
        "tied": torch.randint(-3, 3, (batch, n), generator=g).double(),
        "constant": torch.zeros(batch, n, dtype=torch.float64),
        "skewed": (4 * normal).exp(),
        "two clusters": normal * 10 + 1e9 * (torch.rand(batch, n, generator=g) < 0.5),
        "ordered": torch.arange(n, dtype=torch.float64).expand(batch, n),
        "reversed": -torch.arange(n, dtype=torch.float64).expand(batch, n),
        "infinite": torch.where(normal > 0.5, torch.inf, torch.where(normal < -0.5, -torch.inf, normal)),
        "zeros": torch.zeros(batch, n, dtype=torch.float64) * normal.sign(),
    }[kind]


KINDS = ["normal", "shifted", "tied", "constant", "skewed", "two clusters", "ordered", "reversed", "infinite", "zeros"]


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype) if dtype.is_floating_point else x.clamp(-2e9, 2e9).to(dtype)


def expected(scores: np.ndarray, mask: np.ndarray, descending: bool) -> np.ndarray:
    """Ordinal ranks of the entries in the mask; `~x` turns the order of integers, `-x` that of floats."""
    ranks = np.zeros(len(scores))
    valid = scores[mask]
    if descending:
        valid = -valid if valid.dtype.kind == "f" else ~valid
    ranks[mask] = rankdata(valid, method="ordinal")
    return ranks


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_ordinal_ranks(kind, dtype):
    for n in (1, 2, 3, 7, 16, 17, 48, 49, 64, 100, 200):
        x = cast(scores_of(kind, 3, n, seed=n), dtype)
        mask = torch.rand(3, n, generator=generator(n)) < 0.7
        mask[0], mask[1] = True, False
        for descending in (False, True):
            y = Ranking(descending)(x, mask=mask)
            assert y.dtype == dtype
            want = [expected(row, one, descending) for row, one in zip(x.numpy(), mask.numpy())]
            np.testing.assert_array_equal(y.numpy(), want, err_msg=f"n={n}, descending={descending}")


@needs_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_kernel_equals_torch(kind, dtype):
    for n in (1, 5, 31, 48, 49, 63, 64, 65, 97, 128, 200, 1000, 3001):
        x = cast(scores_of(kind, 4, n, seed=n), dtype)
        mask = torch.rand(4, n, generator=generator(n)) < 0.8
        for descending in (False, True):
            assert torch.equal(ranking.ranks(x, None, descending), _torch_ranks(x, None, descending)), n
            assert torch.equal(ranking.ranks(x, mask, descending), _torch_ranks(x, mask, descending)), n


@needs_kernel
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_on_all_bit_patterns(dtype):
    """Scores over the whole range of the dtype, which needs every level of dealing."""
    g = generator(0)
    whole = torch.int32 if dtype in (torch.float32, torch.int32) else torch.int64
    bits = torch.randint(torch.iinfo(whole).min, torch.iinfo(whole).max, (6, 2000), generator=g, dtype=torch.int64).to(whole)
    bits[3:] >>= torch.randint(0, 31, (3, 2000), generator=g).to(whole)
    x = bits.view(dtype).nan_to_num(0) if dtype.is_floating_point else bits
    for descending in (False, True):
        assert torch.equal(ranking.ranks(x, None, descending), _torch_ranks(x, None, descending))


@needs_kernel
@given(
    data=st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=150),
    descending=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_kernel_on_any_floats(data, descending):
    x = torch.tensor([data, data[::-1]])
    assert torch.equal(ranking.ranks(x, None, descending), _torch_ranks(x, None, descending))


@needs_kernel
def test_kernel_with_threads():
    x = scores_of("normal", 300, 500).float()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        y = ranking.ranks(x)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(y, _torch_ranks(x, None, False))


def test_zeros_of_both_signs_tie():
    x = torch.tensor([[0.0, -0.0, 0.0, -0.0]])
    for descending in (False, True):
        assert Ranking(descending)(x).tolist() == [[1, 2, 3, 4]]
        assert Ranking(descending)(x.double()).tolist() == [[1, 2, 3, 4]]
        assert _torch_ranks(x, None, descending).tolist() == [[1, 2, 3, 4]]


def test_extreme_integers():
    for dtype in (torch.int32, torch.int64, torch.int8):
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        x = torch.tensor([[0, low, high, low]], dtype=dtype)
        assert Ranking()(x).tolist() == [[3, 1, 4, 2]]
        assert Ranking(descending=True)(x).tolist() == [[2, 3, 1, 4]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.uint8])
def test_small_dtypes(dtype):
    x = torch.tensor([[3, 1, 2, 2]]).to(dtype)
    assert Ranking()(x).tolist() == [[4, 1, 2, 3]]
    assert Ranking()(x).dtype == dtype
    assert Permutation()(x).dtype == dtype


@pytest.mark.parametrize("descending", [False, True])
def test_best_of_all_orders(descending):
    x = torch.randn(20, 5, dtype=torch.float64, generator=generator(1))
    solver = Ranking(descending)
    orders = torch.tensor(list(permutations([1.0, 2, 3, 4, 5])), dtype=torch.float64)
    objectives = x @ orders.T
    best = objectives.min(-1).values if solver.sense == "min" else objectives.max(-1).values
    torch.testing.assert_close(solver.solve_with_info(x).objective, best)


@pytest.mark.parametrize("descending", [False, True])
def test_padding_changes_nothing(descending):
    x = scores_of("tied", 4, 60).float()
    padded = torch.cat([torch.full((4, 3), torch.nan), x, torch.full((4, 5), -torch.inf)], 1)
    mask = torch.zeros(4, 68, dtype=torch.bool)
    mask[:, 3:63] = True
    y = Ranking(descending)(padded, mask=mask)
    assert torch.equal(y[:, 3:63], Ranking(descending)(x))
    assert not y[~mask].any()
    assert torch.equal(_torch_ranks(padded, mask, descending), y)
    p = Permutation(descending)(padded, mask=mask)
    assert torch.equal(p[:, :60, 3:63], Permutation(descending)(x))
    assert p.sum() == 4 * 60
    t = Ranking().tangent(padded, mask=mask)
    assert not t[~mask].any()
    torch.testing.assert_close(t[:, 3:63], Ranking().tangent(x))


@pytest.mark.parametrize("descending", [False, True])
def test_permutation_sorts(descending):
    x = scores_of("tied", 5, 12, seed=3)
    p = Permutation(descending)(x)
    assert p.shape == (5, 12, 12)
    assert torch.equal(p.sum(1), torch.ones(5, 12, dtype=p.dtype))
    assert torch.equal(p.sum(2), torch.ones(5, 12, dtype=p.dtype))
    want = torch.sort(x, stable=True, descending=descending, dim=-1)
    assert torch.equal(sort(p, x), want.values)
    assert torch.equal(Permutation().decode(p), want.indices)
    assert torch.equal(argsort(Ranking(descending)(x)), want.indices)
    assert torch.equal(Ranking(descending).decode(Ranking(descending)(x)), want.indices)


def test_decode_of_masked_entries():
    x = torch.tensor([[0.3, 9.0, 0.1, 0.2]])
    mask = torch.tensor([[True, False, True, True]])
    assert argsort(Ranking()(x, mask=mask)).tolist() == [[2, 3, 0, -1]]
    p = Permutation()(x, mask=mask)
    assert Permutation().decode(p).tolist() == [[2, 3, 0, -1]]
    torch.testing.assert_close(sort(p, x), torch.tensor([[0.1, 0.2, 0.3, 0.0]]))
    none = torch.zeros(1, 4, dtype=torch.bool)
    assert argsort(Ranking()(x, mask=none)).tolist() == [[-1] * 4]
    assert argsort(torch.stack([Ranking()(x)] * 2)).shape == (2, 1, 4)


def test_sort_is_differentiable_in_both():
    x = torch.tensor([[3.0, 1.0, 2.0]])
    p = Permutation()(x).requires_grad_()
    values = torch.tensor([[1.0, 10.0, 100.0]], requires_grad=True)
    y = sort(p, values)
    assert y.tolist() == [[10.0, 100.0, 1.0]]
    y.backward(torch.tensor([[1.0, 2.0, 3.0]]))
    assert values.grad.tolist() == [[3.0, 1.0, 2.0]]
    assert torch.equal(p.grad[0], torch.tensor([1.0, 2.0, 3.0]).outer(values.detach()[0]))
    rows = torch.randn(1, 3, 4)
    assert torch.equal(sort(p.detach(), rows), rows[:, [1, 2, 0]])


@pytest.mark.parametrize("descending", [False, True])
def test_sorting_as_an_assignment(descending):
    """Over all permutation matrices, the one that sorts is best for the lifted scores."""
    x = torch.randn(10, 5, dtype=torch.float64, generator=generator(2), requires_grad=True)
    lifted = assignment_scores(x, descending)
    matrices = torch.stack([torch.eye(5, dtype=torch.float64)[list(order)] for order in permutations(range(5))])
    best = torch.einsum("bri,vri->bv", lifted, matrices).argmax(-1)
    assert torch.equal(matrices[best], Permutation(descending)(x))
    assert torch.autograd.grad(lifted.square().sum(), x)[0].abs().min() > 0


def test_tangent():
    d = torch.randn(4, 3, 5, dtype=torch.float64)
    assert torch.equal(Ranking().tangent(d), d - d.mean(-1, keepdim=True))
    assert torch.equal(Permutation().tangent(d), d - d.mean(-1, keepdim=True))


def test_facts():
    assert Ranking().sense == "max"
    assert Ranking(descending=True).sense == "min"
    assert Ranking().constant_sum
    assert Ranking().linear
    assert Ranking().scale_free
    assert not Permutation().linear
    assert not Permutation().same_shape
    assert repr(Ranking()) == "Ranking(descending=False)"
    info = Permutation().solve_with_info(torch.randn(2, 3))
    assert info.solution.shape == (2, 3, 3)
    assert info.objective.isnan().all()


def test_shapes_and_layouts():
    assert Ranking()(torch.empty(0, 4)).shape == (0, 4)
    assert Ranking()(torch.empty(2, 0)).shape == (2, 0)
    assert Permutation()(torch.empty(0, 4)).shape == (0, 4, 4)
    assert Permutation()(torch.empty(2, 0)).shape == (2, 0, 0)
    x = torch.randn(70, 60).T
    mask = (torch.rand(70, 60) < 0.5).T
    assert torch.equal(Ranking()(x, mask=mask), Ranking()(x.contiguous(), mask=mask.contiguous()))
    every_other = torch.randn(4, 120)[:, ::2]
    assert torch.equal(Ranking()(every_other), _torch_ranks(every_other.contiguous(), None, False))
    assert not Ranking()(torch.randn(2, 3, requires_grad=True)).requires_grad


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_sorted_values(kind, dtype):
    """The values in the mask, sorted, fill the entries of the mask; against Python."""
    x = cast(scores_of(kind, 4, 9), dtype)
    mask = torch.rand(4, 9, generator=generator(1)) < 0.7
    mask[0], mask[1] = True, False
    for row, used, y in zip(x, mask, Sort()(x, mask=mask)):
        assert y[used].tolist() == sorted(row[used].tolist())
        assert y[~used].eq(0).all()
    assert Sort()(x).tolist() == [sorted(row) for row in x.tolist()]


def test_the_derivative_of_sorted_values():
    """Almost everywhere it is the permutation that sorts: that of a soft sort with a small strength."""
    x = scores_of("normal", 5, 8).float().requires_grad_()
    upstream = torch.randn(5, 8, generator=generator(3))
    order = x.detach().argsort(-1)
    true = torch.zeros(5, 8).scatter_(-1, order, upstream)
    strength = 0.99 / x.detach().sort(-1).values.diff(dim=-1).max().item()
    y = SolverLayer(Sort(), StraightThrough(ProjectedSort(strength)))(x)
    torch.testing.assert_close(torch.autograd.grad(y, x, upstream)[0], true)
    plain = torch.autograd.grad(SolverLayer(Sort(), StraightThrough())(x), x, upstream)[0]
    assert torch.equal(plain, upstream)  # to the entry that stands there, whatever value came to it


def test_sorted_values_are_no_optimum():
    message = (
        "Blackbox solves again with shifted scores, which needs a solver that maximises <scores, y>; Sort() is a general hard "
        "function. Use DAB, Perturbed, or StraightThrough with a relaxation."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(Sort(), Blackbox(step=1.0))
    with pytest.raises(ValueError, match="a norm projection changes the solutions of Sort"):
        SolverLayer(Sort(), Identity(), projection="std")


@pytest.mark.parametrize("solver", [Ranking(), Ranking(descending=True), Permutation(), Sort()], ids=repr)
def test_compiles_whole(solver):
    x = scores_of("tied", 4, 6).float()
    mask = torch.tensor([True, True, False, True, True, True]).expand(4, 6)
    compiled = torch.compile(solver.solve, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), solver(x))
    assert torch.equal(compiled(x, mask=mask), solver(x, mask=mask))


@pytest.mark.parametrize(
    ("dtype", "n", "limit"),
    [(torch.bfloat16, 257, 256), (torch.float16, 2049, 2048), (torch.int8, 128, 127), (torch.bool, 1, 0)],
)
def test_dtypes_that_cannot_number_all_entries(dtype, n, limit):
    if limit:
        assert Ranking()(torch.zeros(1, limit, dtype=dtype)).double().tolist() == [list(range(1, limit + 1))]
    message = (
        f"Ranking: {dtype} cannot tell {n} ranks apart, only {limit}. Convert the scores, for instance with `scores.float()`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Ranking()(torch.zeros(1, n, dtype=dtype))


def test_a_mask_of_another_type():
    message = "Ranking: `mask` is torch.int64; a mask is torch.bool, True where an entry may be used. Use `mask.bool()`."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Ranking()(torch.zeros(2, 3), mask=torch.ones(2, 3, dtype=torch.int64))
