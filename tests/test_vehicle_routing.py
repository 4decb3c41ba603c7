"""Vehicle routing, against enumeration, an integer program, and the exact solver against the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builds import refused
from cases import routes
from scipy.optimize import Bounds, LinearConstraint, milp

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.rules import Blackbox
from solverlayers.solvers.tsp import TSP
from solverlayers.solvers.vehicle_routing import ExactVehicleRouting, VehicleRouting

KINDS = (VehicleRouting, ExactVehicleRouting)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
each_direction = pytest.mark.parametrize("directed", [False, True])


def towns(batch: int, n: int, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Distances without symmetry, demands from 1 to 4, capacities and fleets that are enough."""
    g = torch.Generator().manual_seed(seed)
    distances = torch.rand(batch, n, n, generator=g, dtype=torch.float64)
    demands = torch.randint(1, 5, (batch, n), generator=g).double()
    capacity = 5 + torch.arange(batch) % 4
    return distances, {"demands": demands, "capacity": capacity, "vehicles": torch.full((batch,), n - 1)}


def check_routes(solver, y: torch.Tensor, demands: torch.Tensor, capacity: torch.Tensor, vehicles: torch.Tensor) -> None:
    """Every customer once, no load above the capacity, no more routes than vehicles, and steps that are those of the routes."""
    for b, found in enumerate(solver.decode(y)):
        assert sorted(node for route in found for node in route) == list(range(1, y.shape[1]))
        assert len(found) <= vehicles[b]
        steps = torch.zeros_like(y[b])
        for route in found:
            assert demands[b, route].sum() <= capacity[b] * (1 + 1e-9)
            for tail, head in zip([0, *route], [*route, 0]):
                steps[tail, head] += 1
        assert torch.equal(y[b], steps if solver.directed else steps + steps.T)


@each_kind
@each_direction
def test_routes_serve_every_customer(kind, directed):
    solver = kind(directed)
    for n in (2, 3, 7):
        distances, data = towns(5, n)
        check_routes(solver, solver(distances, **data), **data)


@each_direction
@pytest.mark.parametrize("n", [2, 4, 5])
def test_best_of_all_routes(directed, n):
    distances, data = towns(6, n)
    data["vehicles"] = 1 + torch.arange(6) % (n - 1)
    data["capacity"] = data["demands"][:, 1:].sum(1) / data["vehicles"] + 3
    distances[0] -= 0.5
    for solver in (ExactVehicleRouting(directed), VehicleRouting(directed)):
        info = solver.solve_with_info(distances, **data)
        check_routes(solver, info.solution, **data)
        for b in range(6):
            every = routes(directed=directed, **{key: value[b] for key, value in data.items()}).double()
            best = (every * distances[b]).sum((1, 2)).min()
            assert info.objective[b] >= best - 1e-9
            assert info.bound[b] <= best + 1e-9
            assert not info.optimal[b] or info.objective[b].item() == pytest.approx(best.item())
            if solver.exact:
                assert info.optimal[b]
                assert info.objective[b].item() == pytest.approx(best.item())


def by_integer_program(distances: np.ndarray, demands: np.ndarray, capacity: float, vehicles: int) -> float:
    """The two-index formulation with loads (Miller, Tucker and Zemlin)."""
    n = len(distances)
    arcs = [(i, j) for i in range(n) for j in range(n) if i != j]
    width = len(arcs) + n

    def row(pairs, load=()):
        out = np.zeros(width)
        for k, arc in enumerate(arcs):
            out[k] = arc in pairs
        for node, factor in load:
            out[len(arcs) + node] = factor
        return out

    constraints = []
    for k in range(1, n):
        constraints.append(LinearConstraint([row({a for a in arcs if a[0] == k})], 1, 1))
        constraints.append(LinearConstraint([row({a for a in arcs if a[1] == k})], 1, 1))
    constraints.append(LinearConstraint([row({a for a in arcs if a[0] == 0})], 0, vehicles))
    for i, j in arcs:
        if i and j:  # load[j] >= load[i] + demand[j] if the arc is used
            bound = row((), [(j, 1), (i, -1)]) - capacity * row({(i, j)})
            constraints.append(LinearConstraint([bound], demands[j] - capacity, np.inf))
    lower = np.concatenate([np.zeros(len(arcs)), [0], demands[1:]])
    upper = np.concatenate([np.ones(len(arcs)), np.full(n, capacity)])
    costs = np.concatenate([[distances[a] for a in arcs], np.zeros(n)])
    whole = np.concatenate([np.ones(len(arcs)), np.zeros(n)])
    return milp(costs, integrality=whole, bounds=Bounds(lower, upper), constraints=constraints).fun


def test_against_an_integer_program():
    distances, data = towns(3, 7)
    data["vehicles"] = torch.tensor([6, 4, 3])
    data["capacity"] = torch.tensor([6.0, 7.0, 9.0])
    info = ExactVehicleRouting(directed=True).solve_with_info(distances, **data)
    for b in range(3):
        best = by_integer_program(
            *(data_b[b].numpy() for data_b in (distances, data["demands"])),
            data["capacity"][b].item(),
            int(data["vehicles"][b]),
        )
        assert info.objective[b].item() == pytest.approx(best, abs=1e-6)


@each_direction
def test_the_search_is_near_the_optimum(directed):
    distances, data = towns(20, 9)
    best, found = (kind(directed).solve_with_info(distances, **data) for kind in (ExactVehicleRouting, VehicleRouting))
    assert best.optimal.all()
    assert (found.objective >= best.objective - 1e-6).all()
    assert (found.bound <= best.objective + 1e-9).all()
    assert (found.bound / best.objective).mean() > 0.6
    assert (found.objective / best.objective).mean() < 1.05


@each_kind
@each_direction
def test_one_large_vehicle_makes_a_round_trip(kind, directed):
    distances, _ = towns(4, 7)
    distances = distances + distances.mT
    y = kind(directed, capacity=100.0, vehicles=1)(distances, demands=torch.ones(4, 7))
    trips = TSP(directed)(distances)
    assert ((distances * y).sum((1, 2)) >= (distances * trips).sum((1, 2)) - 1e-9).all()
    if kind is ExactVehicleRouting:
        assert torch.allclose((distances * y).sum((1, 2)), (distances * trips).sum((1, 2)))


@each_kind
@each_direction
def test_ragged_instances(kind, directed):
    """Padding, with garbage in it, changes nothing; an instance with a depot alone has no route."""
    solver = kind(directed)
    distances, data = towns(4, 6)
    sizes = (6, 4, 2, 1)
    mask = torch.zeros(4, 6, 6, dtype=torch.bool)
    demands = torch.full_like(data["demands"], torch.nan)
    for b, n in enumerate(sizes):
        mask[b, :n, :n] = True
        demands[b, :n] = data["demands"][b, :n]
    del data["vehicles"]
    padded = torch.where(mask, distances, torch.nan)
    y = solver(padded, mask=mask, demands=demands, capacity=data["capacity"])
    assert y[~mask].eq(0).all()
    assert y[3].eq(0).all()
    for b, n in enumerate(sizes):
        alone = solver(distances[b : b + 1, :n, :n], demands=demands[b : b + 1, :n], capacity=data["capacity"][b : b + 1])
        assert torch.equal(y[b, :n, :n], alone[0])
    bound = solver.solve_with_info(padded, mask=mask, demands=demands, capacity=data["capacity"]).bound
    assert bound[3] == 0


@each_kind
def test_demands_that_just_fit(kind):
    """Sums of tenths are not exact."""
    distances, _ = towns(1, 7)
    solver = kind(directed=True, capacity=0.3, vehicles=2)
    (found,) = solver.decode(solver(distances, demands=torch.full((1, 7), 0.1)))
    assert sorted(map(len, found)) == [3, 3]


def test_more_seconds_are_no_worse():
    distances, data = towns(1, 25)
    quick, long = (VehicleRouting(True, seconds=s).solve_with_info(distances, **data) for s in (None, 0.3))
    assert long.objective <= quick.objective
    assert (quick.bound <= long.objective).all()


@each_kind
def test_types_and_empty_batch(kind):
    distances, data = towns(3, 5)
    distances = (9 * distances).round()
    best = (distances * kind()(distances, **data)).sum((1, 2))
    for dtype in (torch.float32, torch.int64, torch.bfloat16):
        y = kind()(distances.to(dtype), **data)
        assert y.dtype == dtype
        assert torch.equal((distances * y.double()).sum((1, 2)), best)
    assert kind()(distances[:0], **{key: value[:0] for key, value in data.items()}).shape == (0, 5, 5)


@each_direction
def test_tangent_keeps_differences(directed):
    distances, data = towns(5, 6)
    a, b = (
        ExactVehicleRouting(directed)(distances + shift, **data) for shift in (0, 2 * torch.rand(6, 6, dtype=torch.float64))
    )
    assert (a != b).any()
    kept = ExactVehicleRouting(directed).tangent(a - b, **data)
    assert torch.allclose(kept, a - b)


def test_gradients_pass():
    distances, data = towns(3, 5)
    distances, roomy = distances.float().requires_grad_(), data["capacity"] + 9
    y = SolverLayer(ExactVehicleRouting(), Blackbox(step=9.0))(distances, demands=data["demands"], capacity=roomy)
    (y * torch.arange(25.0).reshape(5, 5).square()).sum().backward()
    assert distances.grad.isfinite().all()
    assert distances.grad.ne(0).any()


@each_kind
def test_instances_without_an_answer_are_named(kind):
    solver, name = kind(), kind.__name__
    distances, data = towns(3, 4)
    data["demands"][:] = 1
    where = f"{name}: instance 1 (1 of 3 instances)"

    def broken(text, error=InfeasibleError, scores=distances, **changes):
        refused(solver, (scores,), f"{where} {text}", error, [False, True, False], **{**data, **changes})

    def at(key, value, node=...):
        changed = data[key].clone()
        changed[(1, node)] = value
        return {key: changed}

    broken("has a negative demand. Demands are zero or more.", InstanceError, **at("demands", -1.0, 2))
    broken("has a negative capacity. Give each vehicle room for the largest demand.", InstanceError, **at("capacity", -1))
    broken(
        "has a demand above the capacity of a vehicle. Use larger vehicles, or split the demand between several nodes at the "
        "same place.",
        **at("demands", 99.0, 2),
    )
    broken(
        "has demands above what all its vehicles can take. Give it more vehicles.",
        **at("vehicles", 1),
        **at("capacity", 2),
    )
    broken("has demands above what all its vehicles can take. Give it more vehicles.", **at("vehicles", 0))
    mask = torch.ones(3, 4, 4, dtype=torch.bool)
    mask[1] = False
    broken("has no depot: node 0 is False everywhere in its mask. A node needs a True in its row or column.", mask=mask)
    wrong = distances.clone()
    wrong[1, 2, 3] = -torch.inf
    broken(
        "has a distance of minus infinity. An infinite distance forbids a step; minus infinity would outweigh everything.",
        InstanceError,
        scores=wrong,
    )
    wrong[1, 2] = torch.inf
    wrong[1, :, 2] = torch.inf
    broken(
        "has no routes that serve all its customers along the steps that are allowed. Allow more steps, or more or larger "
        "vehicles: the customers may not fit, though their total does."
        if solver.exact
        else "has no known routes: the search found none along the steps that are allowed, though there may be some. Allow "
        "more steps, more vehicles or more seconds, or use ExactVehicleRouting for few customers.",
        scores=wrong,
    )


def test_customers_that_do_not_fit_though_their_total_does():
    with pytest.raises(InfeasibleError, match="the customers may not fit, though their total does"):
        ExactVehicleRouting(capacity=5.0, vehicles=2)(torch.rand(1, 4, 4), demands=torch.tensor([[0.0, 3.0, 3.0, 3.0]]))


@pytest.mark.parametrize(
    ("shape", "data", "message"),
    [
        (
            (2, 3, 4),
            {"demands": torch.ones(2, 3)},
            "scores have shape (2, 3, 4); expected (B, n, n), the distances between a depot and n - 1 customers.",
        ),
        (
            (2, 3, 3),
            {"demands": torch.ones(2, 2)},
            "`demands` has shape (2, 2); expected (2, 3), one for each node, of which that of the depot does not count.",
        ),
        (
            (2, 3, 3),
            {"demands": torch.ones(2, 3)},
            "no capacity. Give `capacity=` to the solver, or a tensor (B,) to the call.",
        ),
        (
            (2, 3, 3),
            {"demands": torch.ones(2, 3), "capacity": torch.ones(2), "vehicles": torch.ones(2)},
            "`vehicles` is torch.float32 of shape (2,); expected integers of shape (2,), one for each instance.",
        ),
    ],
)
def test_wrong_arguments(shape, data, message):
    refused(VehicleRouting(), (torch.zeros(shape),), f"VehicleRouting: {message}", ValueError, **data)


def test_too_many_customers_for_enumeration():
    refused(
        ExactVehicleRouting(capacity=20.0),
        (torch.zeros(1, 12, 12),),
        "ExactVehicleRouting: there are 11 customers, but all sets of customers can be enumerated for 10 at most. Use "
        "VehicleRouting.",
        ValueError,
        demands=torch.ones(1, 12),
    )


def test_demands_are_needed():
    with pytest.raises(
        ValueError, match=r"^VehicleRouting: no demands\. Give `demands=` \(B, n\), a number for each node, to the "
    ):
        VehicleRouting(capacity=2)(torch.ones(1, 3, 3))
