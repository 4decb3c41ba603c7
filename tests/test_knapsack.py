"""Knapsacks, against enumeration and OR-Tools, and kernels against torch."""

import re
from itertools import product

import pytest
import torch
from builds import BUILDS, generator, serve
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers import knapsack
from solverlayers.solvers.knapsack import BoundedKnapsack, Knapsack


@pytest.fixture(params=["torch", *BUILDS])
def backend(request, monkeypatch):
    """Each implementation in turn: batched torch, and each build of the kernels that runs here."""
    use(request.param, monkeypatch)
    return request.param


def use(name, monkeypatch):
    serve(name, monkeypatch, knapsack)
    if name == "torch":
        monkeypatch.setattr(knapsack, "library", lambda: None)


def best_value(values, weights, capacity, most):
    """By enumeration.  # (n,), (n, d), (d,), (n,)"""
    every = torch.tensor(list(product(*[range(m + 1) for m in most.tolist()])), dtype=torch.float64)
    fits = (every @ weights.double() <= capacity.double() + 1e-12).all(1)
    return (every @ values.double())[fits].max()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 8),
    dimensions=st.integers(1, 3),
    kind=st.sampled_from(["integer", "real", "huge"]),
    levels=st.sampled_from([2, 1000]),
)
def test_all_are_optimal(seed, n, dimensions, kind, levels):
    """Values of both signs and with ties, weights and capacities of zero, masks with garbage, tables too large."""
    g = generator(seed)
    values = torch.randint(-levels // 2, levels, (4, n), generator=g).double()
    weights = torch.randint(0, 20, (4, n, dimensions), generator=g)
    capacity = torch.randint(0, 60, (4, dimensions), generator=g)
    if kind == "real":
        weights, capacity = weights + 0.3 * torch.rand(weights.shape, generator=g), capacity + 0.5
    if kind == "huge":
        weights, capacity = weights * 10**9 + 7, capacity * 10**9 + 7 * n
    mask = torch.rand(4, n, generator=g) < 0.8
    solutions = []
    for name in ("torch", *BUILDS):
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            y = Knapsack()(values.where(mask, torch.nan), weights=weights, capacity=capacity, mask=mask)
            solutions.append(y)
            assert (y[~mask] == 0).all()
            assert (torch.einsum("bn,bnd->bd", y, weights.double()) <= capacity.double() + 1e-9).all()
            for b in range(4):
                best = best_value(values[b], weights[b], capacity[b], mask[b].long())
                assert (values[b] * y[b]).sum().item() == pytest.approx(best.item())
    if kind == "integer":
        assert all(torch.equal(y, solutions[0]) for y in solutions)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_rounding_keeps_nothing_out(backend, dimensions):
    """The sum of all weights is capacity for all items, in whatever order they are added up, and so is what is more."""
    g = generator(dimensions)
    values, weights = torch.rand(200, 6, generator=g), torch.rand(200, 6, dimensions, generator=g, dtype=torch.float64)
    capacities = (weights.sum(1), weights.flip(1).cumsum(1)[:, -1], 2 * weights.sum(1))
    for capacity in capacities:
        assert (Knapsack()(values, weights=weights, capacity=capacity) == 1).all()
    tenths = torch.tensor([[0.1, 0.2]], dtype=torch.float64)  # in binary they add up to a little more than 0.3
    assert Knapsack()(torch.ones(1, 2), weights=tenths, capacity=torch.tensor([0.3], dtype=torch.float64)).tolist() == [[1, 1]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 4), dimensions=st.integers(1, 2), real=st.booleans())
def test_bounded_are_optimal(seed, n, dimensions, real):
    g = generator(seed)
    values = torch.randint(-2, 9, (3, n), generator=g).double()
    weights = torch.randint(0, 9, (3, n, dimensions), generator=g)
    weights = weights + 0.25 if real else weights
    capacity = torch.randint(0, 30, (3, dimensions), generator=g)
    limits = torch.randint(0, 6, (3, n), generator=g)
    for name in ("torch", *BUILDS[-1:]):
        with pytest.MonkeyPatch.context() as patch:
            use(name, patch)
            y = BoundedKnapsack()(values, weights=weights, capacity=capacity, limits=limits)
            assert ((y >= 0) & (y <= limits) & (y == y.round())).all()
            assert (torch.einsum("bn,bnd->bd", y, weights.double()) <= capacity.double() + 1e-9).all()
            for b in range(3):
                best = best_value(values[b], weights[b], capacity[b], limits[b])
                assert (values[b] * y[b]).sum().item() == pytest.approx(best.item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1, 97])
@pytest.mark.parametrize("kind", ["uncorrelated", "correlated", "real"])
def test_many_items_against_ortools(backend, kind, scale, dtype):
    """Whole weights with small tables, and with large ones, where a search is over sooner or gives up."""
    from ortools.algorithms.python import knapsack_solver

    g = generator(0)
    n = 40 if backend == "torch" or scale > 1 else 90
    weights = torch.randint(1, 100 * scale, (3, n), generator=g)
    values = weights + 10 * scale if kind == "correlated" else torch.randint(1, 100, (3, n), generator=g)
    capacity = torch.tensor([300, 801, 10**9]) * scale
    given = weights.double() if kind == "real" else weights
    y = Knapsack()(values.to(dtype), weights=given, capacity=capacity)
    peer = knapsack_solver.KnapsackSolver(
        knapsack_solver.SolverType.KNAPSACK_MULTIDIMENSION_BRANCH_AND_BOUND_SOLVER, "independent"
    )
    for b in range(3):
        peer.init(values[b].tolist(), [weights[b].tolist()], [capacity[b].item()])
        assert (values[b] * y[b]).sum().item() == peer.solve()
        assert (weights[b] * y[b]).sum() <= capacity[b]


def test_ties_leave_later_items(backend):
    """An item is taken only if the items before it do not do as well."""
    y = Knapsack(weights=(1, 1, 2, 1), capacity=2)(torch.tensor([[1.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    assert y.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]


def test_what_weighs_nothing_is_taken(backend):
    y = Knapsack(weights=(0, 0, 5), capacity=0)(torch.tensor([[2, -1, 9]]))
    assert y.tolist() == [[1, 0, 0]]
    assert Knapsack(weights=((0.0, 0.0), (1.0, 0.0)), capacity=(0, 3))(torch.tensor([[2, 9]])).tolist() == [[1, 0]]


def test_fields_and_instance_data_agree(backend):
    weights, values = torch.randint(1, 9, (6, 2), generator=generator(1)), torch.rand(3, 6, generator=generator(2))
    shared = Knapsack(weights, capacity=[12, 15])
    assert shared == Knapsack(weights.tolist(), (12, 15))
    assert hash(shared) == hash(Knapsack(weights.tolist(), (12, 15)))
    own = Knapsack()(values, weights=weights.expand(3, 6, 2), capacity=torch.tensor([12.9, 15.9]).expand(3, 2))
    assert torch.equal(shared(values), own)
    assert torch.equal(BoundedKnapsack(weights, (12, 15), [1] * 6)(values), own)


def test_degenerate_shapes(backend):
    solver = Knapsack(capacity=3)
    assert solver(torch.rand(2, 0), weights=torch.ones(2, 0)).shape == (2, 0)
    assert Knapsack((1, 2), 3)(torch.rand(0, 2)).shape == (0, 2)
    assert BoundedKnapsack((1, 2), 3, (4, 5))(torch.rand(0, 2)).shape == (0, 2)
    assert BoundedKnapsack((1, 2), 3, (0, 0))(torch.rand(1, 2)).tolist() == [[0, 0]]


def test_threads_change_nothing(backend):
    values, weights = torch.rand(300, 30, generator=generator(0)), torch.randint(1, 50, (300, 30), generator=generator(1))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(Knapsack(capacity=200)(values, weights=weights))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_wrong_instances_are_named():
    def refuses(message, call, failed):
        with pytest.raises(InstanceError, match=f"^{re.escape(message)}$") as caught:
            call()
        assert caught.value.instances.tolist() == failed

    values, weights = torch.ones(4, 2), torch.ones(4, 2, dtype=torch.int64)
    refuses(
        "Knapsack: instance 3 has negative capacity (-2; 1 of 4 instances). Weights and capacities are 0 or greater.",
        lambda: Knapsack(weights=(1, 1))(values, capacity=torch.tensor([1, 0, 3, -2])),
        [False, False, False, True],
    )
    weights[1, 0] = -1
    refuses(
        "Knapsack: instance 1 has negative weights (-1; 1 of 4 instances). Weights and capacities are 0 or greater.",
        lambda: Knapsack(capacity=1)(values, weights=weights),
        [False, True, False, False],
    )
    mask = weights > 0
    assert Knapsack(capacity=1)(values, weights=weights, mask=mask)[1].tolist() == [0, 1]
    refuses(
        "Knapsack: instance 0 has NaN in capacity (nan; 4 of 4 instances). Weights and capacities are 0 or greater.",
        lambda: Knapsack((1, 1), float("nan"))(values),
        [True] * 4,
    )
    refuses(
        "Knapsack: instance 0 has an infinite value (4 of 4 instances), which would outweigh everything. Minus infinity "
        "forbids an item.",
        lambda: Knapsack((1, 1), 1)(values * torch.inf),
        [True] * 4,
    )
    refuses(
        "BoundedKnapsack: instance 0 has negative limits (4 of 4 instances). An item that is not there has limit 0.",
        lambda: BoundedKnapsack((1, 1), 1, (1, -1))(values),
        [True] * 4,
    )
    with pytest.raises(InfeasibleError):
        Knapsack((1, 1), -1)(values)


def test_wrong_arguments():
    def refuses(message, call):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()

    values = torch.ones(3, 2)
    refuses(
        "Knapsack: no weights. Give `weights=` to the solver, if all instances share it, or to the call.",
        lambda: Knapsack(capacity=1)(values),
    )
    refuses(
        "Knapsack: no capacity. Give `capacity=` to the solver, if all instances share it, or to the call.",
        lambda: Knapsack((1, 1))(values),
    )
    refuses(
        "Knapsack: `weights` have shape (3, 3) for scores of shape (3, 2); expected (3, 2), or (3, 2) and as many entries as "
        "there are dimensions (as a field: without the first 3).",
        lambda: Knapsack((1, 1, 1), 1)(values),
    )
    refuses(
        "Knapsack: `capacity` has shape (3, 2) but the weights (3, 2); expected (3,), a capacity for each dimension (as a "
        "field: without the first 3).",
        lambda: Knapsack((1, 1), (1, 2))(values),
    )
    refuses(
        "BoundedKnapsack: `limits` are torch.float64 of shape (3, 2); expected integers of shape (3, 2), a number of copies "
        "for each item.",
        lambda: BoundedKnapsack((1, 1), 1, (1.0, 2.0))(values),
    )
