"""Round trips, against enumeration, NetworkX, integer programs, and the two implementations against each other."""

from __future__ import annotations

import re
from itertools import pairwise, permutations

import networkx
import numpy as np
import pytest
import torch
from builds import compiled, each_build, each_dtype, use
from cases import trips
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError, SolverTimeoutError
from solverlayers.rules import Blackbox
from solverlayers.solvers import subset_paths, tour_moves, tsp
from solverlayers.solvers.kernels import held_karp, tour_search
from solverlayers.solvers.tour_bounds import assignment_bound, one_tree_bound, useful_steps
from solverlayers.solvers.tsp import TSP, RoutingTSP, TourSearch
from solverlayers.testing import check_solver

SOLVERS = (TSP(), TSP(directed=True), TourSearch(), TourSearch(directed=True), RoutingTSP(), RoutingTSP(directed=True))
each_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


def places(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    """Distances in the plane.  # (B, n, n)"""
    points = torch.rand(batch, n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cdist(points, points)


def uniform(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lengths(costs: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return costs[torch.arange(len(costs))[:, None], order, order.roll(-1, 1)].sum(1)


def with_gaps(costs: torch.Tensor) -> torch.Tensor:
    """Forbidden steps, an instance without any, ties, and a cost of minus infinity."""
    costs = costs.clone()
    costs[1] = torch.inf
    costs[2, 0, -1] = torch.inf
    costs[3] = costs[3].round(decimals=1)
    costs[4, -1, 0] = -torch.inf
    costs[5] = 0
    return costs


@pytest.mark.parametrize("n", [1, 2, 3])
@each_solver
def test_few_cities(solver, n):
    check_solver(solver, (n, n), vertices=trips(n, directed=solver.directed))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("n", [4, 6, 7])
def test_shortest_of_all_orders(n, directed):
    costs = uniform(6, n, seed=n)
    costs[:2] = costs[:2].round(decimals=1)
    y = TSP(directed)(costs)
    orders = torch.tensor([[0, *rest] for rest in permutations(range(1, n))])
    both = costs if directed else costs + costs.mT
    for b in range(len(costs)):
        least = both[b][orders, orders.roll(-1, 1)].sum(1).min()
        assert torch.isclose((costs[b] * y[b]).sum(), least, rtol=1e-12)


def test_length_is_counted_twice_unless_directed():
    costs = places(3, 6)
    order = torch.tensor(TSP().decode(TSP()(costs)))
    assert torch.allclose((costs * TSP()(costs)).sum((1, 2)), 2 * lengths(costs, order))
    assert torch.allclose((costs * TSP(directed=True)(costs)).sum((1, 2)), lengths(costs, order))


@pytest.mark.parametrize("directed", [False, True])
def test_decode_gives_the_trip_from_the_lowest_city(directed):
    solver = TSP(directed)
    mask = torch.zeros(3, 6, 6, dtype=torch.bool)
    for b, cities in enumerate(([1, 3, 4, 5], [2], [0, 5])):
        mask[b, torch.tensor(cities)[:, None], cities] = True
    costs = uniform(3, 6)
    y = solver(costs, mask=mask)
    trip_of_four, one, two = solver.decode(y, mask=mask)
    assert (one, two) == ([2], [0, 5])
    assert trip_of_four[0] == 1
    assert sorted(trip_of_four) == [1, 3, 4, 5]
    assert directed or trip_of_four[1] < trip_of_four[-1]
    for tail, head in zip(trip_of_four, trip_of_four[1:] + trip_of_four[:1]):
        assert y[0, tail, head] == 1
    assert y.sum((1, 2)).tolist() == ([4, 0, 2] if directed else [8, 0, 2])


@compiled
@each_build
@each_dtype
@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 10])
def test_compiled_and_torch_versions_are_equal(build, dtype, n, monkeypatch):
    """Every tour and status, ties included, for batches that do not fill the lanes."""
    use(build, monkeypatch)
    for costs in (uniform(19, n), places(6, n)):
        costs = with_gaps(costs)
        for steps, symmetric in ((costs, False), (costs + costs.mT, True)):
            a, b = (f.shortest_tours(steps.to(dtype), symmetric) for f in (held_karp, subset_paths))
            assert torch.equal(a.status.long(), b.status.long())
            assert torch.equal(a.order[a.status == 0], b.order[a.status == 0])
        a, b = tour_search.short_tours(costs, 3), tour_moves.short_tours(costs, 3)
        assert torch.equal(a.status.long(), b.status.long())
        assert torch.equal(a.order[a.status == 0], b.order[a.status == 0])


@compiled
def test_searches_of_long_trips_are_equal():
    for costs in (uniform(3, 41), places(3, 38)):
        assert torch.equal(tour_search.short_tours(costs, 4).order, tour_moves.short_tours(costs, 4).order)


def test_threads_change_nothing():
    costs = places(300, 9)
    threads = torch.get_num_threads()
    try:
        answers = []
        for count in (1, 3):
            torch.set_num_threads(count)
            answers.append((TSP()(costs), TourSearch()(costs)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][1], answers[1][1])


def dantzig(costs: np.ndarray) -> float:
    """The length of the shortest undirected trip by an integer program, with constraints for the subtours met."""
    n = len(costs)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    degree = np.array([[float(k in pair) for pair in pairs] for k in range(n)])
    constraints = [LinearConstraint(degree, 2, 2)]
    while True:
        found = milp([costs[p] for p in pairs], integrality=np.ones(len(pairs)), bounds=Bounds(0, 1), constraints=constraints)
        graph = networkx.Graph([pair for pair, x in zip(pairs, found.x) if x > 0.5])
        parts = list(networkx.connected_components(graph))
        if len(parts) == 1:
            return found.fun
        for part in parts:
            inside = [float(i in part and j in part) for i, j in pairs]
            constraints.append(LinearConstraint([inside], -np.inf, len(part) - 1))


@pytest.mark.parametrize("n", [10, 18, 25])
def test_optimal_against_an_integer_program(n):
    costs = places(2, n, seed=n)
    info = TSP().solve_with_info(costs)
    assert info.optimal.all()
    for b in range(2):
        assert info.objective[b].item() == pytest.approx(2 * dantzig(costs[b].numpy()), rel=1e-7)
        assert info.bound[b] <= info.objective[b]


@pytest.mark.parametrize("directed", [False, True])
def test_circuits_agree_with_sets_of_cities(directed, monkeypatch):
    """The same trips by CP-SAT as by Held-Karp: costs of both signs, integers, forbidden steps."""
    monkeypatch.setattr(tsp, "_STARTS_OF_A_HINT", 1)  # so that there is something left to find
    for costs in (
        uniform(3, 9) - 0.5,
        (uniform(3, 8) * 9).round().long(),
        torch.where(uniform(2, 9) < 0.2, torch.inf, places(2, 9)),
    ):
        monkeypatch.setattr(tsp, "MOST_BY_SUBSETS", 15)
        best = TSP(directed).solve_with_info(costs)
        monkeypatch.setattr(tsp, "MOST_BY_SUBSETS", 2)
        info = TSP(directed).solve_with_info(costs)
        assert info.optimal.all()
        assert torch.allclose(info.objective.double(), best.objective.double(), rtol=1e-7)
        assert torch.allclose(info.bound, info.objective.double(), atol=1e-6)


def test_time_limit_gives_the_trip_found_so_far():
    costs = uniform(2, 40).float()
    solver = TSP(time_limit=1e-4)
    message = (
        "TSP: instance 0 (2 of 2 instances) was not solved to optimality within the time limit. Raise `time_limit`, take the "
        'best trip found with `SolverLayer(..., on_failure="last")`, or use TourSearch.'
    )
    with pytest.raises(SolverTimeoutError, match=f"^{re.escape(message)}$") as error:
        solver(costs)
    assert error.value.instances.tolist() == [True, True]
    assert all(sorted(trip) == list(range(40)) for trip in solver.decode(error.value.incumbent))
    info = solver.solve_with_info(costs)
    assert torch.equal(info.solution, error.value.incumbent)
    assert not info.optimal.any()
    layer = SolverLayer(solver, Blackbox(step=1.0), on_failure="last")
    assert torch.equal(layer(costs), error.value.incumbent)


def test_local_search_is_near_the_optimum():
    """Gaps measured: 0 with all starts for distances in the plane, below 1 % for costs without structure."""
    for directed, costs, gap in ((False, places(40, 11), 1e-4), (True, uniform(40, 11), 0.02)):
        best, found = TSP(directed).solve_with_info(costs).objective, TourSearch(directed, starts=11).solve_with_info(costs)
        assert (found.objective >= best - 1e-9).all()
        assert (found.bound <= best + 1e-9).all()
        assert (best[found.optimal] >= found.objective[found.optimal] * (1 - 1e-9)).all()
        assert (found.objective / best).mean() < 1 + gap


def test_local_search_beats_christofides():
    costs = places(3, 40)
    for matrix, objective in zip(costs, TourSearch().solve_with_info(costs).objective):
        graph = networkx.from_numpy_array(matrix.numpy())
        trip = networkx.approximation.christofides(graph)
        assert objective < 2 * sum(matrix[a, b] for a, b in pairwise(trip))


def test_more_starts_are_never_worse_than_the_first():
    costs = uniform(20, 15)
    one, more = ((costs * TourSearch(True, starts)(costs)).sum((1, 2)) for starts in (1, 15))
    assert (more <= one).all()
    assert (more < one).any()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_local_search_ends_whatever_the_scale(scale, dtype):
    """Equal distances and rounding must not let it go round in circles."""
    points = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij"), -1).reshape(1, -1, 2).to(dtype)
    costs = torch.cdist(points, points) * scale + 1e3 * scale
    trip = TourSearch().decode(TourSearch()(costs))[0]
    assert sorted(trip) == list(range(30))
    assert TourSearch().solve_with_info(costs).objective.item() <= 2 * 30 * 1001.03 * scale  # at most two steps of length 2^0.5


def test_routing_with_time_is_no_worse():
    costs = uniform(1, 25, seed=3)
    quick, long = (RoutingTSP(True, seconds).solve_with_info(costs) for seconds in (None, 0.5))
    assert long.objective <= quick.objective
    assert (quick.bound <= long.objective).all()


def test_bounds_hold():
    """Below the optimum, exact for a trip that is a tree, and without the steps that they exclude nothing is lost."""
    costs = places(30, 9)
    y = TSP()(costs)
    best = (costs * y).sum((1, 2))
    bound = one_tree_bound(2 * costs, best)
    assert (bound <= best + 1e-9).all()
    assert (bound / best).mean() > 0.98
    kept = useful_steps(2 * costs, best)
    assert (kept | (y == 0)).all()
    assert kept.double().mean() < 0.5
    directed = TSP(directed=True).solve_with_info(uniform(30, 9)).objective
    below = assignment_bound(uniform(30, 9))
    assert (below <= directed + 1e-9).all()
    assert (below / directed).mean() > 0.8


def test_forbidden_steps_are_avoided():
    """A ring among forbidden steps is found; the large distances are finite."""
    n = 8
    ring = torch.zeros(n, n, dtype=torch.bool)
    order = torch.tensor([0, 3, 6, 1, 4, 7, 2, 5])
    ring[order, order.roll(-1)] = True
    costs = torch.where(ring | ring.T, 1e6, torch.inf)[None]
    assert TSP().decode(TSP()(costs)) == [[0, 3, 6, 1, 4, 7, 2, 5]]
    y = TSP(directed=True)(torch.ones(1, n, n), mask=ring[None])
    assert torch.equal(y[0].bool(), ring)


@each_solver
def test_the_diagonal_does_not_matter(solver):
    costs = places(2, 6)
    infinite = costs.clone()
    infinite.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    assert torch.equal(solver(infinite), solver(costs))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), directed=st.booleans(), n=st.integers(1, 7))
def test_masks_and_infinite_distances_agree(seed, directed, n):
    generator = torch.Generator().manual_seed(seed)
    costs = torch.rand(3, n, n, generator=generator)
    mask = torch.rand(3, n, n, generator=generator) < 0.7
    mask |= torch.eye(n) == 1  # so that no city is padding
    layers = [SolverLayer(TSP(directed), Blackbox(step=1.0), on_failure="skip") for _ in range(2)]
    answers = layers[0](torch.where(mask, costs, torch.inf)), layers[1](costs, mask=mask)
    assert torch.equal(*answers)


def test_errors_name_the_instance():
    costs = places(3, 5)
    costs[1, 2] = torch.inf
    costs[1, :, 2] = torch.inf
    message = (
        "TSP: instance 1 (1 of 3 instances) has no trip through all its cities along the steps that are allowed. Allow more "
        "steps: `mask` and infinite distances forbid them, and a city is left out only if both its row and its column are "
        "False in `mask`."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as error:
        TSP()(costs)
    assert error.value.instances.tolist() == [False, True, False]
    message = (
        "TourSearch: instance 1 (1 of 3 instances) has no known trip: the search found none along the steps that are allowed, "
        "though there may be one. Allow more steps, or use TSP, which is exact."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        TourSearch()(costs)
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message.replace('TourSearch', 'RoutingTSP'))}$"):
        RoutingTSP()(costs)
    mask = torch.ones(3, 5, 5, dtype=torch.bool)
    mask[2] = False
    message = (
        "TSP: instance 2 (1 of 3 instances) has no city: its mask is False everywhere. A city needs a True in its row or "
        "column; a single one, on the diagonal."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as error:
        TSP()(places(3, 5), mask=mask)
    assert error.value.instances.tolist() == [False, False, True]


@each_solver
def test_minus_infinity_is_refused(solver):
    costs = places(2, 5)
    costs[1, 0, 3] = -torch.inf
    message = (
        f"{type(solver).__name__}: instance 1 (1 of 2 instances) has a distance of minus infinity. An infinite distance "
        f"forbids a step; minus infinity would outweigh everything."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        solver(costs)


@pytest.mark.parametrize("directed", [False, True])
def test_circuits_without_a_trip_and_with_minus_infinity_are_refused(directed):
    costs = places(2, 17)
    costs[1, :, :4] = torch.inf
    costs[1, :4] = torch.inf
    with pytest.raises(InfeasibleError, match=r"instance 1 \(1 of 2 instances\) has no trip through all its cities"):
        TSP(directed)(costs)
    costs[0, 0, 1] = -torch.inf
    with pytest.raises(InstanceError, match=r"instance 0 \(1 of 2 instances\) has a distance of minus infinity"):
        TSP(directed)(costs)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (
            torch.zeros(2, 3, 4),
            ValueError,
            "TSP: scores have shape (2, 3, 4); expected (B, n, n), the distances between n cities, with at least one.",
        ),
        (
            torch.zeros(2, 0, 0),
            ValueError,
            "TSP: scores have shape (2, 0, 0); expected (B, n, n), the distances between n cities, with at least one.",
        ),
        (
            torch.zeros(2, 3, 3, dtype=torch.bool),
            TypeError,
            "TSP: scores are torch.bool; distances are real or integer numbers, such as `scores.float()`.",
        ),
    ],
)
def test_wrong_arguments(scores, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        TSP()(scores)


def test_a_search_needs_a_start():
    with pytest.raises(ValueError, match=r"^TourSearch: starts=0; it must be at least 1\.$"):
        TourSearch(starts=0)


def test_only_the_bad_instance_is_lost():
    costs = places(3, 5).requires_grad_()
    with torch.no_grad():
        costs[1, 2], costs[1, :, 2] = torch.inf, torch.inf
    layer = SolverLayer(TSP(), Blackbox(step=1.0), on_failure="skip")
    y = layer(costs)
    assert y[1].eq(0).all()
    assert torch.equal(y[[0, 2]], TSP()(costs.detach()[[0, 2]]))
    (y * uniform(3, 5)).sum().backward()
    assert costs.grad[1].eq(0).all()
