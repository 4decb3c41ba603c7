"""Flows, cuts and transport against NetworkX, SciPy's linear programs and each other, with their proofs."""

import ctypes
import re

import networkx as nx
import numpy as np
import pytest
import scipy.optimize
import torch
from builds import BUILDS, generator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solverlayers import InfeasibleError, InstanceError, SolverLayer
from solverlayers.rules import Blackbox
from solverlayers.solvers import (
    Assignment,
    Graph,
    MaxFlow,
    MinCostFlow,
    MinCut,
    Transport,
    cost_flow,
    cuts,
    flow_family,
    flow_search,
    grid_graph,
    kernels,
    pushed_flows,
)
from solverlayers.solvers.flow_family import as_units
from solverlayers.solvers.kernels import flow as kernel

DIAMOND = Graph([[0, 0, 1, 2, 1], [1, 2, 3, 3, 2]])


@pytest.fixture(params=["torch", "ortools", *BUILDS])
def backend(request, monkeypatch):
    """Torch, OR-Tools, and each build of the kernels that runs here."""
    found = {"torch": pushed_flows, "ortools": flow_search}.get(request.param, kernel)
    for module in (cuts, cost_flow):
        monkeypatch.setattr(module, "backend", lambda whole: found)
    monkeypatch.setattr(cost_flow, "usable", lambda scores: found is kernel)
    if found is kernel:
        build = ctypes.CDLL(str(kernels._find(request.param)))
        monkeypatch.setattr(kernel, "library", lambda: build)
    return found


def test_what_serves_where(monkeypatch):
    whole = torch.zeros(1, 1, dtype=torch.int64)
    assert flow_family.backend(whole.to("meta")) is pushed_flows
    monkeypatch.setattr(flow_family, "library", lambda: kernels)
    assert flow_family.backend(whole) is kernel
    monkeypatch.setattr(flow_family, "library", lambda: None)
    assert flow_family.backend(whole) is flow_search


def numbers(shape, seed, real, top=8):
    whole = torch.randint(0, top, shape, generator=generator(seed)).double()
    return whole + torch.rand(shape, generator=generator(seed + 1), dtype=torch.float64) if real else whole


def random_edges(nodes, size, seed):
    return torch.randint(0, nodes, (2, size), generator=generator(seed))


def cut_value(capacity, edges, nodes, directed, source, target):
    """By NetworkX; parallel edges are one."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(nodes))
    for (u, v), c in zip(edges.T.tolist(), capacity.tolist()):
        for a, b in [(u, v)] if directed else [(u, v), (v, u)]:
            if a != b:
                graph.add_edge(a, b, capacity=graph.get_edge_data(a, b, {"capacity": 0})["capacity"] + c)
    return nx.maximum_flow_value(graph, source, target)


def out_of(flow, edges, nodes):
    """What leaves each node beyond what enters it.  # (B, E) -> (B, nodes)"""
    out = flow.new_zeros(len(flow), nodes)
    return out.index_add(1, edges[0], flow).index_add(1, edges[1], -flow)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), nodes=st.integers(2, 8), size=st.integers(0, 20), directed=st.booleans(), real=st.booleans())
def test_cuts_and_flows(backend, seed, nodes, size, directed, real):
    """Loops, parallel edges, graphs in pieces: the value is NetworkX's, the flow proves the cut and the cut the flow."""
    edges, capacity = random_edges(nodes, size, seed), numbers((2, size), seed, real)
    graph = Graph(edges, nodes, directed)
    cut = MinCut(graph, 0, nodes - 1).solve_with_info(capacity)
    most = MaxFlow(graph, 0, nodes - 1).solve_with_info(capacity)
    for row, value in zip(capacity, cut.objective):
        assert value.item() == pytest.approx(cut_value(row, edges, nodes, directed, 0, nodes - 1), abs=1e-9)
    for flow in (cut.duals["flow"], most.solution):
        assert (flow <= capacity).all()
        assert (flow >= (0 if directed else -capacity)).all()
        out = out_of(flow, edges, nodes)
        assert torch.allclose(out[:, 0], cut.objective)
        assert torch.allclose(out[:, 1:-1], torch.zeros(2, nodes - 2, dtype=torch.float64))
    assert torch.allclose(cut.bound, cut.objective)
    assert torch.allclose(most.objective, cut.objective)
    assert torch.equal(most.duals["cut"], cut.solution)
    own = MinCut(directed=directed)(
        capacity, edge_index=edges.expand(2, 2, -1), source=torch.zeros(2).long(), target=torch.full((2,), nodes - 1)
    )
    assert torch.equal(own, cut.solution)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("top", [2, 1000])
def test_cuts_of_images(backend, real, top):
    """Grids whose cells have edges to source and target, as both trees grow deep in them; OR-Tools finds the same sides."""
    grid, cells = grid_graph(11, 9), torch.arange(99)
    ends = [torch.stack([torch.full_like(cells, 99), cells]), torch.stack([cells, torch.full_like(cells, 100)])]
    graph = Graph(torch.cat([grid.edges, grid.edges.flip(0), *ends, torch.tensor([[99, 100, 3], [100, 7, 99]])], 1), 101)
    capacity = numbers((5, len(graph)), top, real, top)
    info = MinCut(graph, 99, 100).solve_with_info(capacity)
    whole = as_units(capacity, 4.0).whole
    start = torch.full((5,), 99)
    _, side = flow_search.max_flow(whole, graph.edges, 101, True, start, start + 1)
    tails, heads = graph.edges
    assert torch.equal(info.solution != 0, side[:, tails] & ~side[:, heads])
    out = out_of(info.duals["flow"], graph.edges, 101)
    assert torch.allclose(out[:, :99], torch.zeros(5, 99, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(out[:, 99], info.objective)


def test_the_cut_nearest_to_the_source(backend):
    """All edges of a path cost the same; the first is cut."""
    path = Graph([[0, 1, 2], [1, 2, 3]])
    assert MinCut(path, 0, 3)(torch.ones(1, 3)).tolist() == [[1, 0, 0]]
    assert MinCut(path, 3, 0)(torch.ones(1, 3)).tolist() == [[0, 0, 0]]
    both_ways = Graph(path.edges, directed=False)
    assert MinCut(both_ways, 3, 0)(torch.ones(1, 3)).tolist() == [[0, 0, 1]]


def test_endless_capacities(backend):
    scores = torch.tensor([[torch.inf, 2.0, 1.0, torch.inf, 3.0], [torch.inf, 2.0, 1.0, torch.inf, torch.inf]])
    cut = MinCut(DIAMOND, 0, 3).solve_with_info(scores[:1])
    assert (cut.objective.item(), cut.bound.item(), cut.solution.tolist()) == (6, 6, [[0, 1, 1, 0, 1]])
    message = (
        "MinCut: instance 1 has a path of infinite capacity from its source to its target (1 of 2 instances), so that its flow "
        "has no limit and nothing cuts it. Give an edge of it a finite capacity."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as caught:
        MinCut(DIAMOND, 0, 3)(scores)
    assert caught.value.instances.tolist() == [False, True]


def test_cuts_leave_out_what_is_not_there(backend):
    """An edge outside the mask crosses nothing, as if the graph were without it."""
    scores = torch.rand(4, 5, generator=generator(0))
    mask = torch.tensor([True, True, True, False, True])
    less = MinCut(Graph(DIAMOND.edges[:, mask], 4), 0, 3).solve_with_info(scores[:, mask])
    for costs in (scores, scores.where(mask, torch.nan)):
        cut = MinCut(DIAMOND, 0, 3).solve_with_info(costs, mask=mask.expand(4, 5))
        assert torch.equal(cut.solution[:, mask], less.solution)
        assert (cut.solution[:, ~mask] == 0).all()
        assert torch.allclose(cut.bound, less.objective.double())
        assert torch.allclose(cut.bound, cut.objective.double())


def test_the_value_of_a_flow_has_the_cut_as_gradient():
    solver = MinCut(DIAMOND, 0, 3)
    capacity = torch.tensor([[3.0, 1.0, 2.5, 4.0, 0.25]], dtype=torch.float64, requires_grad=True)
    (capacity * solver(capacity.detach()).detach()).sum().backward()
    steps = 1e-4 * torch.eye(5, dtype=torch.float64)
    up, down = (solver.solve_with_info(capacity.detach() + sign * steps).objective for sign in (1, -1))
    slopes = ((up - down) / 2e-4).tolist()
    assert capacity.grad[0].tolist() == pytest.approx(slopes, abs=1e-6)


def test_cuts_that_are_refused():
    ones = torch.ones(2, 5)
    message = (
        "MinCut: instance 1 has a negative capacity (-1) (1 of 2 instances). Capacities are 0 or greater: end the network in "
        "softplus or abs, or use `solver.clip(scores)`, as a layer does."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        MinCut(DIAMOND, 0, 3)(torch.stack([ones[0], -ones[0]]))
    message = "MinCut: instance 1 goes from node 2 to node 2, but they must differ (1 of 2 instances)."
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        MinCut(DIAMOND)(ones, source=torch.tensor([0, 2]), target=torch.tensor([3, 2]))
    with pytest.raises(
        InfeasibleError, match=re.escape("instance 0 goes from node 0 to node 7, but its graph has nodes 0 to 3")
    ):
        MinCut(DIAMOND, 0)(ones, target=torch.tensor([7, 3]))
    with pytest.raises(
        ValueError, match=re.escape("MaxFlow: no target. Give `target=` to the solver, or (B,) integers to the")
    ):
        MaxFlow(DIAMOND, 0)(ones)
    with pytest.raises(ValueError, match=r"^MinCut: source=9 is not a node of a graph of 4 nodes; nodes count from 0.$"):
        MinCut(DIAMOND, 9)


def reference_flow(costs, edges, nodes, capacity, supply):
    """The least cost by SciPy's linear programs, None without a flow."""
    incidence = np.zeros((nodes, len(costs)))
    np.add.at(incidence, (edges[0], np.arange(len(costs))), 1)
    np.add.at(incidence, (edges[1], np.arange(len(costs))), -1)
    bounds = np.stack([np.zeros(len(costs)), capacity], 1)
    found = scipy.optimize.linprog(costs, A_eq=incidence, b_eq=supply, bounds=bounds, method="highs")
    return found.fun if found.status == 0 else None


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    nodes=st.integers(2, 7),
    size=st.integers(1, 20),
    real=st.booleans(),
    signed=st.booleans(),
    endless=st.booleans(),
)
def test_flows_of_least_cost(backend, seed, nodes, size, real, signed, endless):
    """SciPy's cost, a flow that keeps all constraints, and potentials that prove it; infeasible instances by name."""
    edges, capacity = random_edges(nodes, size, seed), numbers((3, size), seed, real)
    costs = numbers((3, size), seed + 5, real) - (3 if signed else 0)
    if endless:
        capacity = torch.where(
            costs >= 0, torch.where(torch.rand(3, size, generator=generator(seed)) < 0.3, torch.inf, capacity), capacity
        )
    inside = capacity.clamp_max(9) * torch.rand(3, size, generator=generator(seed + 2)).double()
    supply = out_of(inside if real else inside.round(), edges, nodes)
    if seed % 3 == 0:
        supply[1, 0] += 100
        supply[1, -1] -= 100
    expected = [
        reference_flow(*(part.numpy() for part in (costs[b], edges)), nodes, capacity[b].numpy(), supply[b].numpy())
        for b in range(3)
    ]
    solver, data = MinCostFlow(Graph(edges, nodes)), {"capacity": capacity, "supply": supply}
    if None in expected:
        with pytest.raises(InfeasibleError) as caught:
            solver(costs, **data)
        assert caught.value.instances.tolist() == [one is None for one in expected]
        return
    info = solver.solve_with_info(costs, **data)
    flow = info.solution
    assert info.objective.tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(info.bound, info.objective, atol=1e-9)
    assert ((flow >= 0) & (flow <= capacity)).all()
    assert torch.allclose(out_of(flow, edges, nodes), supply, atol=1e-9)
    assert real or torch.equal(flow, flow.round())
    height = info.duals["potential"]
    reduced = costs + height[:, edges[0]] - height[:, edges[1]]
    assert (reduced[flow > 1e-9] <= 1e-9).all()
    assert (reduced[flow < capacity - 1e-9] >= -1e-9).all()


def test_flows_that_are_refused(backend):
    solver = MinCostFlow(Graph([[0, 1, 2], [1, 2, 0]]), capacity=[torch.inf, 4, torch.inf])
    ones, supply = torch.ones(2, 3), torch.tensor([[1.0, 0.0, -1.0]]).repeat(2, 1)
    message = (
        "MinCostFlow: instance 1 has supplies of 2.33333 and demands of 0.333333 (1 of 2 instances). Scale them to the same "
        "sum, or let one more node take the rest."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        solver(ones, supply=supply + torch.tensor([[0.0], [2 / 3]]))
    message = (
        "MinCostFlow: instance 1 has supplies that cannot reach its demands (1 of 2 instances): the edges between them are "
        "missing, or too narrow. Add edges, or raise capacities."
    )
    big = supply * torch.tensor([[1.0], [9.0]])
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        solver(ones, supply=big)
    y = SolverLayer(solver, Blackbox(), on_failure="skip")(ones, supply=big)
    assert y.tolist() == [[1, 1, 0], [0, 0, 0]]
    wide = MinCostFlow(solver.graph, supply=[1, 0, -1])
    message = (
        "MinCostFlow: instance 0 has a cycle of negative cost and infinite capacity (1 of 2 instances), so that its cost has "
        "no limit. Give an edge of it a capacity, or make costs non-negative."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$") as caught:
        wide(torch.tensor([[1.0, 1.0, -3.0], [1.0, 1.0, -2.0]]), capacity=torch.full((2, 3), torch.inf))
    assert caught.value.instances.tolist() == [True, False]
    message = "MinCostFlow: instance 1 has a capacity that is negative or NaN (1 of 2 instances). Capacities are 0 or greater."
    for bad in (-1.0, torch.nan):
        with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
            wide(ones, capacity=torch.tensor([[1.0, 1.0, 1.0], [1.0, bad, 1.0]]))
    with pytest.raises(ValueError, match=r"^MinCostFlow: the graph is not directed. Give it an edge each way.$"):
        MinCostFlow(Graph([[0], [1]], directed=False))
    with pytest.raises(ValueError, match=r"^MinCostFlow: no supply. Give `supply=` to the solver, if all instances share it,"):
        solver(ones)
    with pytest.raises(
        ValueError, match=re.escape("`supply` (2, 2); expected (2, 3), a number for each edge, and (2, 3), one for")
    ):
        solver(ones, supply=ones[:, :2])


def test_flows_through_graphs_of_their_own(backend):
    """Numbered in other ways, with padding whose contents do not matter."""
    shared = MinCostFlow(DIAMOND, capacity=[2, 2, 1, 3, 1], supply=[2, 0, 0, -2])
    scores = torch.rand(3, 5, generator=generator(0))
    order = torch.stack([torch.randperm(4, generator=generator(b)) for b in range(3)])
    edges = torch.nn.functional.pad(torch.stack([one[DIAMOND.edges] for one in order]), (0, 2), value=-5)
    supply = torch.zeros(3, 4).scatter_(1, order, torch.tensor([[2.0, 0, 0, -2]]).repeat(3, 1))
    mask = torch.arange(7).expand(3, 7) < 5
    capacity = torch.nn.functional.pad(torch.tensor([[2.0, 2, 1, 3, 1]]).repeat(3, 1), (0, 2), value=torch.nan)
    padded = torch.nn.functional.pad(scores, (0, 2), value=torch.nan)
    y = MinCostFlow()(padded, edge_index=edges, mask=mask, capacity=capacity, supply=supply)
    assert torch.equal(y[:, :5], shared(scores))
    assert (y[:, 5:] == 0).all()


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6), m=st.integers(1, 6), real=st.booleans())
def test_transport(backend, seed, n, m, real):
    """Costs of the same program in SciPy, sums of rows and columns, and prices that are feasible."""
    costs = numbers((2, n, m), seed, real) - 2
    plan = numbers((2, n, m), seed + 3, real) + (not real)
    supply, demand = plan.sum(2), plan.sum(1)
    info = Transport().solve_with_info(costs, supply=supply, demand=demand)
    y = info.solution
    assert torch.allclose(y.sum(2), supply)
    assert torch.allclose(y.sum(1), demand)
    assert (y >= 0).all()
    assert ((y > 0).flatten(1).sum(1) <= n + m - 1).all()
    height = info.duals["potential"]
    reduced = costs + height[:, :n, None] - height[:, None, n:]
    assert (reduced >= -1e-9).all()
    assert (reduced[y > 1e-9].abs() <= 1e-9).all()
    pairs, wide = np.add(np.indices((n, m)).reshape(2, -1), [[0], [n]]), np.full(n * m, np.inf)
    programs = zip(costs.flatten(1).numpy(), torch.cat([supply, -demand], 1).numpy())
    expected = [reference_flow(row, pairs, n + m, wide, balance) for row, balance in programs]
    assert info.objective.tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(info.bound, info.objective, atol=1e-9)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("factor", [1e-200, 1e-3, 1.0, 1e200])
def test_kernels_round_as_torch_does(monkeypatch, build, factor):
    """The same flows, bit for bit, as from numbers that torch made whole; None where something is refused."""
    monkeypatch.setattr(kernel, "library", lambda: ctypes.CDLL(str(kernels._find(build))))
    edges = random_edges(12, 60, 0)
    costs, capacity = numbers((40, 60), 1, True) - 1, factor * numbers((40, 60), 2, True)
    supply = out_of(capacity * torch.rand(40, 60, generator=generator(3)).double(), edges, 12)
    capacity[20:, ::5] = torch.inf
    costs[:, ::5] = costs[:, ::5].abs()
    costs[30:, ::7] = torch.inf
    supply[30:] = out_of(torch.where(costs < torch.inf, capacity.clamp_max(factor) / 2, 0), edges, 12)[30:]
    flow = kernel.min_cost_flow_of_numbers(costs, capacity, supply, edges)
    assert torch.equal(flow, MinCostFlow(Graph(edges, 12))._flows(costs, None, capacity, supply, edges).y)
    right = {"costs": costs, "capacity": capacity, "supply": supply}
    faults = [("costs", torch.nan), ("costs", -torch.inf), ("capacity", -1), ("supply", torch.nan), ("supply", 99 * factor)]
    for name, value in faults:
        wrong = {**right, name: right[name].clone()}
        wrong[name][7, 3] = value
        assert kernel.min_cost_flow_of_numbers(**wrong, edges=edges) is None


@pytest.mark.parametrize(("n", "m"), [(6, 6), (3, 8), (15, 12)])
def test_plans_that_cost_the_same(backend, n, m):
    """Among them those with few entries that are not zero."""
    supply, demand = torch.randint(1, 50, (4, n), generator=generator(n)), torch.randint(1, 50, (4, m), generator=generator(m))
    over = (supply.sum(1) - demand.sum(1)).float()
    supply[:, 0] += (-over).clamp_min(0).long()
    demand[:, 0] += over.clamp_min(0).long()
    for costs in (torch.ones(4, n, m), torch.randint(0, 2, (4, n, m), generator=generator(0)).double()):
        info = Transport().solve_with_info(costs, supply=supply, demand=demand)
        assert ((info.solution > 0).flatten(1).sum(1) <= n + m - 1).all()
        assert torch.allclose(info.bound, info.objective)


def test_flows_that_cost_the_same(backend):
    """Edges that are neither empty nor full form no cycle; the costs are those of NetworkX."""
    grid = grid_graph(9, 7, directed=True)
    supply = torch.randint(-5, 6, (4, 63), generator=generator(1))
    supply[:, 0] -= supply.sum(1)
    info = MinCostFlow(grid, capacity=[200] * len(grid)).solve_with_info(torch.ones(4, len(grid)), supply=supply)
    for row, cost, amounts in zip(info.solution, info.objective, supply.tolist()):
        assert nx.is_forest(nx.MultiGraph(grid.edges[:, (row > 0) & (row < 200)].T.tolist()))
        other = nx.DiGraph()
        other.add_nodes_from((v, {"demand": -amount}) for v, amount in enumerate(amounts))
        other.add_edges_from(grid.edges.T.tolist(), weight=1, capacity=200)
        assert cost == nx.min_cost_flow_cost(other)


def test_transport_of_ones_is_assignment(backend):
    costs = torch.rand(5, 9, 9, generator=generator(0))
    assert torch.equal(Transport(supply=[1] * 9, demand=[1] * 9)(costs), Assignment()(costs))


def test_distributions_in_single_precision(backend):
    """Their sums differ by rounding, which is forgiven; and the plan has them to that rounding."""
    a, b = (torch.rand(4, 30, generator=generator(s)).softmax(1) for s in (0, 1))
    y = Transport()(torch.rand(4, 30, 30, generator=generator(2)), supply=a, demand=b)
    assert torch.allclose(y.sum(2), a, atol=1e-6)
    assert torch.allclose(y.sum(1), b, atol=1e-6)


def test_transport_that_is_refused():
    costs = torch.ones(2, 2, 2)
    message = (
        "Transport: instance 1 has supplies of 3 and demands of 2 (1 of 2 instances). Scale them to the same sum, or "
        "let one more node take the rest."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        Transport(demand=[1, 1])(costs, supply=torch.tensor([[1, 1], [2, 1]]))
    message = (
        "Transport: instance 0 has supplies that cannot reach its demands (1 of 2 instances): pairs between them are missing. "
        "Allow more pairs."
    )
    forbidden = costs.clone()
    forbidden[0, 0] = torch.inf
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$"):
        Transport([1, 1], [1, 1])(forbidden)
    message = "Transport: instance 1 has a demand that is negative or NaN (1 of 2 instances). Amounts are 0 or greater."
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        Transport(supply=[0, 0])(costs, demand=torch.tensor([[0, 0], [-1, 1]]))
    with pytest.raises(ValueError, match=r"^Transport: supply has an amount that is negative\. Amounts are 0 or greater\.$"):
        Transport(supply=[2, -1])
    with pytest.raises(
        ValueError, match=re.escape("Transport: `supply` has shape (2, 3) for scores of shape (2, 2, 2); expected (2, 2)")
    ):
        Transport(demand=[1, 1])(costs, supply=torch.ones(2, 3))


@pytest.mark.parametrize("factor", [1e-250, 1e-20, 1.0, 1e20, 1e290])
def test_units_of_all_sizes(factor):
    """Large and small numbers keep all their digits, and whole ones are themselves."""
    values = factor * torch.rand(3, 50, generator=generator(0), dtype=torch.float64)
    units = as_units(values, 8.0)
    assert torch.allclose(units.numbers(units.whole), values, rtol=0, atol=1e-14 * values.max().item())
    assert (units.whole.double().sum(1) * 8 < 2**60).all()
    whole = torch.randint(0, 2**30, (2, 100), generator=generator(1))
    assert torch.equal(as_units(whole).numbers(as_units(whole).whole), whole.double())


@pytest.mark.parametrize("nodes", [2, 9, 60])
@pytest.mark.parametrize("own", [False, True])
def test_backends_agree_on_larger_graphs(backend, nodes, own):
    """The same cuts and costs as OR-Tools, bit for bit, for numbers of 40 bits; in threads, too."""
    count, size = 64 if backend is kernel else 16, 5 * nodes
    edges = torch.randint(0, nodes, (count, 2, size) if own else (2, size), generator=generator(nodes))
    capacity, costs = (torch.randint(-(2**20), 2**40, (count, size), generator=generator(s)) for s in (1, 2))
    capacity = capacity.clamp_min(0)
    source, target = torch.zeros(count).long(), torch.full((count,), nodes - 1)
    ends = edges if own else edges.expand(count, 2, size)
    inside = (capacity * torch.rand(count, size, generator=generator(3))).long()
    supply = torch.zeros(count, nodes).long().scatter_add_(1, ends[:, 0], inside).scatter_add_(1, ends[:, 1], -inside)
    supply[::7, 0] += 2**50
    supply[::7, -1] -= 2**50
    for directed in (True, False):
        flow, side = backend.max_flow(capacity, edges, nodes, directed, source, target)
        assert torch.equal(side, flow_search.max_flow(capacity, edges, nodes, directed, source, target)[1])
        assert ((flow <= capacity) & (flow >= (0 if directed else -capacity))).all()
    flow, status = backend.min_cost_flow(costs, capacity, supply, edges)
    other, expected = flow_search.min_cost_flow(costs, capacity, supply, edges)
    assert torch.equal(status, expected)
    assert status[::7].all()
    exact = [sum(c * f for c, f in zip(*rows)) for rows in zip(costs.tolist(), flow.tolist())]
    assert exact == [sum(c * f for c, f in zip(*rows)) for rows in zip(costs.tolist(), other.tolist())]
