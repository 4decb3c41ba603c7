"""Argmax and top-k, against enumeration and stable sorting in NumPy."""

import re
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers.errors import InfeasibleError
from solverlayers.solvers.selection import Argmax, TopK

DTYPES = [torch.float32, torch.float64, torch.int32, torch.int64]


def expected(scores: np.ndarray, k: int, mask: np.ndarray) -> np.ndarray:
    """The k largest of the entries in the mask, by a stable sort."""
    valid = np.flatnonzero(mask)
    chosen = valid[np.argsort(-scores[valid].astype(np.float64), kind="stable")[:k]]
    y = np.zeros(len(scores))
    y[chosen] = 1
    return y


def few_values(batch: int, n: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Scores with many ties."""
    return torch.randint(-2, 3, (batch, n), generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(seed=st.integers(0, 2**31), n=st.integers(1, 6), data=st.data())
@settings(max_examples=60, deadline=None)
def test_best_of_all_subsets(seed, n, data):
    k = data.draw(st.integers(0, n))
    x = torch.rand(3, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for solver, sign in ((TopK(k), 1), (TopK(k, largest=False), -1)):
        info = solver.solve_with_info(x)
        best = torch.stack([sign * x[:, list(c)].sum(-1) for c in combinations(range(n), k)]).max(0).values
        torch.testing.assert_close(sign * info.objective, best)
        assert (info.solution.sum(-1) == k).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 33, 100, 200])
def test_ties_and_masks_against_a_stable_sort(n, dtype):
    x = few_values(8, n, dtype, seed=n)
    mask = torch.rand(8, n, generator=torch.Generator().manual_seed(n)) < 0.7
    mask[0], mask[:, 0] = True, True
    k = torch.randint(0, n + 1, (8,), generator=torch.Generator().manual_seed(n))
    within = torch.minimum(k, mask.sum(-1))
    for solver, scores in ((TopK(), x), (TopK(largest=False), -x)):
        for counts, where in ((k, torch.ones_like(mask)), (within, mask)):
            y = solver(scores, k=counts, mask=where)
            want = [expected(*row) for row in zip(x.numpy(), counts.tolist(), where.numpy())]
            np.testing.assert_array_equal(y.numpy(), want)
            assert y.dtype == dtype
        for one in {0, 1, n // 2, n}:
            y = TopK(one, largest=solver.largest)(scores)
            np.testing.assert_array_equal(y.numpy(), [expected(row, one, np.ones(n, bool)) for row in x.numpy()])
    np.testing.assert_array_equal(Argmax()(x).numpy(), [expected(row, 1, np.ones(n, bool)) for row in x.numpy()])
    np.testing.assert_array_equal(
        Argmax()(x, mask=mask).numpy(), [expected(*row) for row in zip(x.numpy(), [1] * 8, mask.numpy())]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int8])
def test_small_dtypes(dtype):
    x = torch.tensor([[3, 1, 2, 2]]).to(dtype)
    assert TopK(2)(x).tolist() == [[1, 0, 1, 0]]
    assert TopK(2, largest=False)(x).tolist() == [[0, 1, 1, 0]]
    assert Argmax()(x).dtype == dtype


def test_extreme_integers():
    low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    x = torch.tensor([[low, high, 0]])
    assert TopK(1)(x).tolist() == [[0, 1, 0]]
    assert TopK(1, largest=False)(x).tolist() == [[1, 0, 0]]
    assert TopK(1)(x, mask=torch.tensor([[True, False, False]])).tolist() == [[1, 0, 0]]


def test_infinite_scores_are_legal():
    inf = torch.inf
    x = torch.tensor([[-inf, 1.0, -inf, 2.0], [-inf, -inf, -inf, -inf], [inf, 0.0, inf, inf]])
    assert TopK(3)(x).tolist() == [[1, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]]
    assert Argmax()(x).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
    mask = torch.tensor([[False, True, True, False]]).expand(3, 4)
    assert Argmax()(x, mask=mask).tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert TopK(2)(x, mask=mask).tolist() == [[0, 1, 1, 0]] * 3
    assert Argmax().solve_with_info(x).objective.tolist() == [2.0, -inf, inf]


def test_zeros_of_both_signs_tie():
    x = torch.tensor([[-0.0, 0.0, -0.0], [0.0, -0.0, 0.0]])
    assert TopK(1)(x).tolist() == [[1, 0, 0]] * 2
    assert TopK(2, largest=False)(x).tolist() == [[1, 1, 0]] * 2
    assert Argmax()(x).tolist() == [[1, 0, 0]] * 2


@pytest.mark.parametrize("solver", [Argmax(), TopK(3), TopK(2, largest=False)], ids=repr)
def test_padding_changes_nothing(solver):
    x = few_values(6, 5, torch.float32)
    padded = torch.cat([torch.full((6, 2), torch.nan), x, torch.full((6, 3), torch.inf)], 1)
    mask = torch.zeros(6, 10, dtype=torch.bool)
    mask[:, 2:7] = True
    y = solver(padded, mask=mask)
    assert torch.equal(y[:, 2:7], solver(x))
    assert torch.equal(y[~mask], torch.zeros(30))
    assert torch.equal(solver.tangent(padded, mask=mask)[~mask], torch.zeros(30))
    torch.testing.assert_close(solver.tangent(padded, mask=mask)[:, 2:7], solver.tangent(x))


def test_tangent():
    d = torch.randn(4, 3, 5, dtype=torch.float64)  # samples in front
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [0, 1, 0, 0, 0]]).bool()
    t = Argmax().tangent(d, mask=mask)
    assert torch.allclose(t.sum(-1), torch.zeros(4, 3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(Argmax().tangent(t, mask=mask), t)
    assert not t[:, 2].any()
    k = torch.tensor([2, 3, 1])
    chosen = TopK().tangent(d, k=k, mask=mask)
    assert torch.allclose(chosen[:, 0], t[:, 0])
    assert not chosen[:, 1:].any()  # all valid entries are chosen, there is nothing to decide
    assert not TopK(5).tangent(d).any()
    assert not TopK(0).tangent(d).any()
    assert torch.equal(TopK(2).tangent(d), d - d.mean(-1, keepdim=True))


def test_decode():
    x = torch.tensor([[1.0, 3.0, 2.0], [3.0, 2.0, 1.0]])
    assert Argmax().decode(Argmax()(x)).tolist() == [1, 0]
    assert TopK(2).decode(TopK(2)(x)).tolist() == [[1, 2], [0, 1]]
    assert TopK().decode(TopK()(x, k=torch.tensor([3, 1]))).tolist() == [[0, 1, 2], [0, -1, -1]]
    assert TopK(2).decode(torch.stack([TopK(2)(x)] * 3)).shape == (3, 2, 2)
    assert TopK(0).decode(TopK(0)(x)).shape == (2, 0)
    assert TopK(2).decode(torch.zeros(0, 3)).shape == (0, 0)


def test_facts():
    assert TopK(2).sense == "max"
    assert TopK(2, largest=False).sense == "min"
    assert TopK(2).constant_sum
    assert Argmax().constant_sum
    assert TopK(2).scale_free
    assert repr(TopK(2)) == "TopK(k=2, largest=True)"


@pytest.mark.parametrize("solver", [Argmax(), TopK(2), TopK(1, largest=False)], ids=repr)
def test_shapes_and_layouts(solver):
    assert solver(torch.empty(0, 4)).shape == (0, 4)
    x = torch.randn(5, 4).T
    assert torch.equal(solver(x), solver(x.contiguous()))
    assert torch.equal(solver(torch.randn(4, 5, requires_grad=True)).sum(-1), torch.full((4,), float(getattr(solver, "k", 1))))
    assert TopK(0)(torch.empty(3, 0)).shape == (3, 0)


@pytest.mark.parametrize("solver", [Argmax(), TopK(2), TopK(2, largest=False)], ids=repr)
def test_compiles_whole(solver):
    x = few_values(4, 6, torch.float32)
    mask = torch.tensor([True, True, False, True, True, True]).expand(4, 6)
    compiled = torch.compile(solver.solve, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), solver(x))
    assert torch.equal(compiled(x, mask=mask), solver(x, mask=mask))
    if isinstance(solver, TopK):
        k = torch.tensor([0, 1, 2, 3])
        assert torch.equal(compiled(x, k=k), solver(x, k=k))


ASK = "Ask for 0 up to the number of entries that the mask allows."
FOUR = torch.zeros(3, 4)
MASK = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()


@pytest.mark.parametrize(
    ("call", "message", "instances"),
    [
        (
            lambda: TopK(5)(FOUR),
            f"TopK: instance 0 asks for 5 of 4 entries (3 of 3 instances are infeasible). {ASK}",
            [True, True, True],
        ),
        (
            lambda: TopK()(FOUR, k=torch.tensor([1, -2, 4])),
            f"TopK: instance 1 asks for -2 of 4 entries (1 of 3 instances are infeasible). {ASK}",
            [False, True, False],
        ),
        (
            lambda: TopK(2)(FOUR, mask=MASK),
            f"TopK: instance 1 asks for 2 of 0 entries (2 of 3 instances are infeasible). {ASK}",
            [False, True, True],
        ),
        (
            lambda: Argmax()(FOUR, mask=MASK),
            f"Argmax: instance 1 asks for 1 of 0 entries (1 of 3 instances are infeasible). {ASK}",
            [False, True, False],
        ),
        (
            lambda: Argmax()(torch.empty(2, 0)),
            f"Argmax: instance 0 asks for 1 of 0 entries (2 of 2 instances are infeasible). {ASK}",
            [True, True],
        ),
    ],
)
def test_infeasible_instances_are_named(call, message, instances):
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as caught:
        call()
    assert caught.value.instances.tolist() == instances


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TopK(-1), "TopK: k is -1; the number of chosen entries is 0 or more."),
        (
            lambda: TopK()(FOUR),
            "TopK: k is missing; give it to the solver, `TopK(k=3)`, or for each instance, `solver(scores, k=...)`.",
        ),
        (
            lambda: TopK()(FOUR, k=torch.ones(3, 1, dtype=torch.int64)),
            "TopK: `k` is torch.int64 of shape (3, 1); expected one integer per instance, shape (B,).",
        ),
        (
            lambda: TopK()(FOUR, k=torch.ones(3)),
            "TopK: `k` is torch.float32 of shape (3,); expected one integer per instance, shape (B,).",
        ),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
