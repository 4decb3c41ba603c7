"""Elementwise hard functions, against enumeration of all values of an entry."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers.solver import inner
from solverlayers.solvers.elementwise import HardFunction, Round, Sign, Threshold

VALUES = [
    (Sign(), (-1, 1)),
    (Sign(margin=0.5), (-1, 0, 1)),
    (Threshold(), (0, 1)),
    (Threshold(at=-0.75), (0, 1)),
    (Round(), range(-5, 6)),
]
SOLVERS = [solver for solver, _ in VALUES]


@pytest.mark.parametrize(("solver", "values"), VALUES, ids=repr)
@given(scores=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_best_of_all_values(solver, values, scores):
    """Each entry maximises `x y + h(y)` over the values it may take."""
    x = torch.tensor([scores], dtype=torch.float64)
    y = solver(x)
    assert set(y.flatten().tolist()) <= {float(v) for v in values}
    entry = torch.tensor(list(values), dtype=torch.float64).reshape(-1, 1)
    objective = x[0, :, None] * entry[:, 0]
    objective = objective + solver.offset(entry.reshape(-1, 1, 1)).reshape(-1)
    best = objective.max(-1).values.sum()
    found = inner(x, y, 1) + solver.offset(y)
    torch.testing.assert_close(found[0], best, rtol=0, atol=1e-12)
    torch.testing.assert_close(solver.solve_with_info(x).objective, found)


def test_boundaries():
    x = torch.tensor([[-0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 1.5, 2.5]])
    assert Sign()(x).tolist() == [[-1, -1, -1, -1, 1, 1, 1, 1]]
    assert Sign(margin=0.5)(x).tolist() == [[0, 0, 0, 0, 0, 0, 1, 1]]
    assert Threshold()(x).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert Threshold(at=0.5)(x).tolist() == [[0, 0, 0, 0, 0, 0, 1, 1]]
    assert Round()(x).tolist() == [[0, 0, 0, 0, 0, 0, 2, 2]]


def test_margin_is_the_hard_function_of_dab():
    x = torch.randn(7, 50)
    expected = torch.where(x < -0.5, -1.0, torch.where(x > 0.5, 1.0, 0.0))
    assert torch.equal(Sign(margin=0.5)(x), expected)


def test_infinite_scores():
    x = torch.tensor([[-torch.inf, torch.inf]])
    for solver in (Sign(), Sign(0.5)):
        assert solver(x).tolist() == [[-1, 1]]
    assert Threshold(at=3.0)(x).tolist() == [[0, 1]]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64])
def test_dtypes(solver, dtype):
    x = torch.tensor([[-3, -1, 0, 1, 3]], dtype=dtype)
    y = solver(x)
    assert y.dtype == dtype
    assert y.double().tolist() == solver(x.double()).tolist()


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_masked_entries_are_zero_and_never_read(solver):
    x = torch.randn(3, 6)
    mask = torch.rand(3, 6) < 0.5
    mask[0], mask[1] = True, False
    garbage = torch.where(mask, x, torch.nan)
    y = solver(garbage, mask=mask)
    assert torch.equal(y, torch.where(mask, solver(x), 0))
    assert torch.equal(solver.tangent(garbage, mask=mask), torch.where(mask, x, 0))
    assert torch.equal(solver.tangent(x), x)


@pytest.mark.parametrize("solver", [Sign(0.5, event_dim=3), Threshold(0.1, event_dim=3), Round(event_dim=3)], ids=repr)
def test_images(solver):
    x = torch.randn(2, 3, 4, 5)
    flat = type(solver)(**{name: value for name, value in vars(solver).items() if name != "event_dim"})
    assert torch.equal(solver(x).flatten(1), flat(x.flatten(1)))
    torch.testing.assert_close(solver.solve_with_info(x).objective, flat.solve_with_info(x.flatten(1)).objective)


def test_facts():
    assert Sign().scale_free
    assert not Sign(margin=0.1).scale_free
    assert Threshold().scale_free
    assert not Threshold(at=1.0).scale_free
    assert not Round().scale_free
    assert not any(solver.constant_sum for solver in SOLVERS)
    assert all(fact for solver in SOLVERS for fact in (solver.linear, solver.same_shape, solver.exact))
    assert repr(Sign(margin=0.5, event_dim=3)) == "Sign(margin=0.5, event_dim=3)"
    assert Sign(0.5) == Sign(margin=0.5)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_shapes_and_layouts(solver):
    assert solver(torch.empty(0, 4)).shape == (0, 4)
    assert solver(torch.empty(2, 0)).shape == (2, 0)
    x = torch.randn(5, 4).T
    assert torch.equal(solver(x), solver(x.contiguous()))


@pytest.mark.parametrize(
    "solver",
    [*SOLVERS, pytest.param(HardFunction(torch.sign), id="HardFunction")],  # whose own repr has an address
    ids=repr,
)
def test_compiles_whole(solver):
    x = torch.randn(3, 5)
    assert torch.equal(torch.compile(solver.solve, fullgraph=True, backend="aot_eager")(x), solver(x))


def test_hard_function_of_another_shape():
    count = HardFunction(lambda x, over: (x > over).sum(-1, keepdim=True))
    y = count(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), over=torch.tensor([[1.5], [10.0]]))
    assert y.tolist() == [[2.0], [0.0]]
    assert y.dtype == torch.float32
    assert count(torch.empty(0, 3), over=torch.empty(0, 1)).shape == (0, 1)
    assert not any((count.linear, count.same_shape, count.scale_free, count.constant_sum))
    info = count.solve_with_info(torch.zeros(2, 3), over=torch.ones(2, 1))
    assert info.objective.isnan().all()
    assert info.bound.isnan().all()
    assert not info.optimal.any()


def test_hard_function_may_declare_its_shape():
    assert HardFunction(torch.sign, same_shape=True).same_shape
    assert HardFunction(torch.sign, event_dim=2)(torch.randn(2, 3, 4)).shape == (2, 3, 4)


def test_hard_function_gets_no_gradient():
    x = torch.randn(2, 3, requires_grad=True)
    assert not HardFunction(torch.tanh)(x).requires_grad


def first_row(x):
    return x[0]


MISTAKES = [
    (
        lambda: Sign(margin=-1.0),
        ValueError,
        "Sign: margin is -1.0; it is the distance from 0 where values change, so 0 or more.",
    ),
    (
        lambda: Sign(margin=float("nan")),
        ValueError,
        "Sign: margin is NaN.",
    ),
    (lambda: Round(event_dim=0), ValueError, "Round: event_dim=0; it must be at least 1."),
    (
        lambda: HardFunction(torch.sign, event_dim=0),
        ValueError,
        "HardFunction: event_dim=0; it must be at least 1.",
    ),
    (
        lambda: Sign()(torch.zeros(1, 2, dtype=torch.uint8)),
        TypeError,
        "Sign: scores are torch.uint8, which cannot hold -1. Convert them, for instance with `scores.float()`.",
    ),
    (
        lambda: Sign()(torch.zeros(2, 3), mask=torch.ones(2, 3)),
        TypeError,
        "Sign: `mask` is torch.float32; a mask is torch.bool, True where an entry may be used. Use `mask.bool()`.",
    ),
    (
        lambda: Round()(torch.zeros(2, 3), mask=torch.ones(2, 1, dtype=torch.bool)),
        ValueError,
        "Round: `mask` has shape (2, 1) but the scores have shape (2, 3); a mask has the shape of the scores. "
        "Use `mask.expand_as(scores)` for one that all instances share.",
    ),
    (
        lambda: HardFunction(3),
        TypeError,
        "HardFunction: fn is 3; expected a function of a tensor, such as `torch.sign`.",
    ),
    (
        lambda: HardFunction(torch.Tensor.tolist)(torch.zeros(2, 3)),
        TypeError,
        "HardFunction: tolist returned a list; expected a tensor.",
    ),
    (
        lambda: HardFunction(first_row)(torch.zeros(2, 3)),
        ValueError,
        "HardFunction: first_row returned shape (3,) for scores of shape (2, 3); expected 2 rows, one per instance. "
        "Reduce over the trailing dimensions only.",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()
