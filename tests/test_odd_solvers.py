"""Solvers at the edges of what they are given: small types, nothing to decide, padding, infinite data, what is no tensor."""

from __future__ import annotations

import pytest
import torch
from builds import compiled, without_kernels

from solverlayers import InfeasibleError, InstanceError
from solverlayers.solvers import (
    CPSAT,
    SCIP,
    TSP,
    Argmax,
    Assignment,
    BoundedKnapsack,
    EditDistance,
    ExactQuadraticAssignment,
    Graph,
    GraphMatching,
    GraphShortestPath,
    GridShortestPath,
    HiGHS,
    IntegerProgram,
    KMedoids,
    Knapsack,
    LabelledSegmentation,
    LinearOrdering,
    LinearProgram,
    MaxCut,
    MaxFlow,
    MaxIndependentSet,
    MaxWeightMatching,
    MinCostFlow,
    MinCut,
    MultiGraphMatching,
    PartialAssignment,
    PerfectMatching,
    Permutation,
    QuadraticAssignment,
    Round,
    Scheduling,
    SetCover,
    Sign,
    Sort,
    SpanningTree,
    Threshold,
    TopK,
    Transport,
    Viterbi,
    flow_family,
    knapsack,
)

_PAIRS = torch.combinations(torch.arange(8)).T
COMPLETE = Graph(_PAIRS, directed=False)

# ---- bounds ----


@pytest.mark.parametrize(
    ("solver", "shape"),
    [
        (MaxWeightMatching(COMPLETE), (28,)),
        (PerfectMatching(COMPLETE), (28,)),
        (SpanningTree(COMPLETE), (28,)),
        (GraphShortestPath(COMPLETE, source=0, target=7), (28,)),
        (GridShortestPath(), (6, 6)),
        (Assignment(), (8, 8)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_proved_has_no_gap(solver, shape, dtype):
    torch.manual_seed(0)
    info = solver.solve_with_info(torch.rand(100, *shape, dtype=dtype))
    assert info.optimal.all()
    assert (info.gap == 0).all()


def test_the_bound_of_a_cut_is_at_most_its_capacity():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        info = MinCut(COMPLETE, source=0, target=7).solve_with_info(torch.rand(100, 28, dtype=dtype))
        assert (info.bound <= info.objective).all()
        assert (info.gap < 1e-12).all()


def test_partial_assignments_have_no_gap():
    torch.manual_seed(0)
    parts = [torch.rand(100, *shape, dtype=torch.float64) for shape in ((5, 6), (5,), (6,))]
    info = PartialAssignment().solve_with_info(*parts)
    assert torch.equal(info.bound, info.objective)


@compiled
def test_a_bound_is_on_its_side_of_the_objective():
    """Scores far apart are rounded, and so are the duals."""
    torch.manual_seed(0)
    costs = torch.randn(200, 28, dtype=torch.float64)
    costs = torch.where(torch.rand(200, 28) < 0.3, 1e12 * costs.abs(), costs)
    info = PerfectMatching().solve_with_info(costs, edge_index=_PAIRS.expand(200, 2, 28))
    assert (info.bound <= info.objective).all()


def test_small_numbers_are_not_taken_for_equal():
    """Where the bound is not reached, nothing is proved, however small the scores."""
    torch.manual_seed(0)
    scores, flows, distances = torch.zeros(5, 9, 9), torch.rand(5, 9, 9), torch.rand(5, 9, 9)
    solver = QuadraticAssignment()
    info = solver.solve_with_info(scores, flows=flows, distances=distances)
    small = solver.solve_with_info(scores, flows=1e-6 * flows, distances=1e-6 * distances)
    assert torch.equal(small.optimal, info.optimal)
    assert not info.optimal.all()


def test_objectives_of_flows_are_not_rounded_to_the_scores_type():
    torch.manual_seed(0)
    costs = torch.rand(20, 4, 4).half()
    info = Transport(supply=[3.0] * 4, demand=[3.0] * 4).solve_with_info(costs)
    assert info.optimal.all()
    assert torch.equal(info.objective, (costs.double() * info.solution.double()).sum((1, 2)))
    whole = Transport(supply=[3], demand=[3]).solve_with_info(torch.tensor([[[200]]], dtype=torch.uint8))
    assert whole.objective.tolist() == [600]


# ---- small types ----


def test_counts_that_a_type_has_no_room_for_are_refused():
    steps = 300
    unary, transitions = torch.zeros(1, steps, 1), torch.zeros(1, 1, 1, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"Viterbi: the scores are torch.uint8, too small"):
        Viterbi()(unary, transitions)
    assert Viterbi()(unary[:, :256], transitions)[1].tolist() == [[[255]]]
    with pytest.raises(TypeError, match=r"LabelledSegmentation: the scores are torch.int8, too small"):
        LabelledSegmentation()(unary[:, :, :, None], transitions.to(torch.int8))


def test_flows_beyond_half_precision_are_refused():
    edge = Graph([[0], [1]])
    costs = torch.ones(1, 1, dtype=torch.float16)
    with pytest.raises(TypeError, match=r"MinCostFlow: the scores are torch.float16, too small"):
        MinCostFlow(edge, capacity=[1e5], supply=[1e5, -1e5])(costs)
    two = Graph([[0, 0, 1], [1, 1, 2]])
    widths = torch.tensor([[6e4, 6e4, torch.inf]], dtype=torch.float16)
    with pytest.raises(TypeError, match=r"MaxFlow: the scores are torch.float16, too small"):
        MaxFlow(two, source=0, target=2)(widths)


UNSIGNED = [torch.uint16, torch.uint32]


@pytest.mark.parametrize("dtype", [torch.bool, *UNSIGNED])
@pytest.mark.parametrize("solver", [Argmax(), TopK(1), TopK(1, largest=False), Permutation(), Sort()])
@pytest.mark.parametrize("masked", [False, True])
def test_types_without_an_order_are_refused(solver, dtype, masked):
    scores = torch.tensor([[1, 0, 1]]).to(dtype)
    mask = {"mask": torch.tensor([[True, True, False]])} if masked else {}
    with pytest.raises(TypeError, match=f"{type(solver).__name__}: scores are {dtype}, .* use real or signed"):
        solver(scores, **mask)


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_unsigned_costs(dtype):
    costs = torch.tensor([[[0, 9, 1], [1, 0, 9], [9, 1, 0]]])
    assert TSP(directed=True)(costs.to(dtype)).tolist() == TSP(directed=True)(costs).tolist()
    flows = torch.rand(1, 3, 3)
    data = {"flows": flows, "distances": flows}
    assert QuadraticAssignment()(costs.to(dtype), **data).tolist() == QuadraticAssignment()(costs, **data).tolist()


def test_elementwise_functions_of_small_types():
    with pytest.raises(TypeError, match=r"Round: scores are torch\.bool"):
        Round()(torch.tensor([[True]]))
    assert Round().offset(torch.tensor([[100, 100]], dtype=torch.int8)).tolist() == [-10_000]
    assert Threshold(0.5).offset(torch.ones(1, 70_000, dtype=torch.float16)).tolist() == [-35_000]


@pytest.mark.parametrize("scale", [1.0, 1e-310])
def test_engines_take_numbers_of_any_size(scale):
    costs = scale * torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)
    for engine in (CPSAT(), SCIP()):
        info = IntegerProgram(A_eq=[[1, 1, 1]], b_eq=[1], engine=engine).solve_with_info(costs)
        assert info.solution.tolist() == [[0, 1, 0]]
        assert info.bound.item() == pytest.approx(scale)


def test_whole_costs_are_not_rounded_beside_a_large_one():
    """CP-SAT takes whole numbers: those of a cost that is there to forbid leave room for the others."""
    costs = torch.tensor([[2.0, 1e12, -2.0, -4.0], [1.0, 1e-300, 0.0, 0.0]], dtype=torch.float64)
    info = IntegerProgram(A=-torch.eye(4)[:2].sum(0, keepdim=True), b=[-1], engine=CPSAT()).solve_with_info(costs)
    assert info.solution[0].tolist() == [1, 0, 1, 1]
    assert info.solution[1, :2].tolist() == [0, 1]
    assert info.bound[0] == info.objective[0] == -4


# ---- nothing to decide ----


@pytest.mark.parametrize("engine", [CPSAT(), SCIP(), HiGHS()])
def test_programs_without_a_variable(engine):
    assert KMedoids(2, engine=engine)(torch.zeros(2, 0, 0)).shape == (2, 0, 0)
    with pytest.raises(InfeasibleError, match="KMedoids: instance 0 has no feasible solution"):
        KMedoids(2, engine=engine)(torch.zeros(1, 3, 0))
    assert IntegerProgram(A=torch.zeros(1, 0), b=[1], engine=engine)(torch.zeros(2, 0)).shape == (2, 0)


def test_no_jobs_or_items():
    assert Scheduling(durations=[])(torch.zeros(1, 0, 3)).shape == (1, 0, 3)
    assert BoundedKnapsack(weights=(), capacity=3, limits=())(torch.zeros(2, 0)).shape == (2, 0)
    info = LinearProgram(A=torch.zeros(2, 0), b=[1, 2]).solve_with_info(torch.zeros(1, 0))
    assert info.duals["inequalities"].tolist() == [[0, 0]]


# ---- padding, parts, infinite data ----


def test_edges_that_are_padding_may_be_anything_in_a_cut():
    edges, mask = torch.tensor([[[0, 1, 2, -1], [1, 2, 0, -1]]]), torch.tensor([[True, True, True, False]])
    scores = torch.tensor([[1.0, 2.0, 3.0, 9.0]])
    assert MaxCut()(scores, edge_index=edges, mask=mask).tolist() == [[0, 1, 1, 0]]
    with pytest.raises(TypeError, match=r"MaxCut: there is no `edge_mask`; .* `mask`"):
        MaxCut()(scores, edge_index=edges, edge_mask=mask)
    with pytest.raises(InstanceError, match="instance 0 has edges that name nodes from -1"):
        MaxCut()(scores, edge_index=edges)


@pytest.mark.parametrize("kernels", [True, False])
def test_each_part_of_a_network_is_balanced_by_itself(kernels, monkeypatch):
    """Amounts balance to single precision, in every block."""
    if not kernels:
        without_kernels(monkeypatch)
        monkeypatch.setattr(flow_family, "library", lambda: None)
    torch.manual_seed(0)
    supply, demand = torch.rand(10, 3, 3), torch.rand(10, 3, 4)
    demand *= (supply.sum(2) / demand.sum(2)).unsqueeze(2)
    mask = torch.block_diag(*[torch.ones(3, 4)] * 3).bool().expand(10, 9, 12)
    data = {"supply": supply.flatten(1), "demand": demand.flatten(1), "mask": mask}
    info = Transport().solve_with_info(torch.rand(10, 9, 12), **data)
    assert info.optimal.all()
    assert torch.allclose(info.solution.sum(2), data["supply"], atol=1e-5)
    assert torch.allclose(info.solution.sum(1), data["demand"], atol=1e-5)
    assert torch.equal(info.solution * mask, info.solution)


def test_parts_that_do_not_balance_are_refused():
    solver = MinCostFlow(Graph([[0, 2], [1, 3]]), capacity=[9, 9], supply=[1.0, -1.1, 1.1, -1.0])
    with pytest.raises(InfeasibleError, match="MinCostFlow: instance 0 has supplies that cannot reach its demands"):
        solver(torch.ones(1, 2))


@pytest.mark.parametrize("kernels", [True, False])
def test_what_is_infinitely_heavy(kernels, monkeypatch):
    if not kernels:
        without_kernels(monkeypatch)
        monkeypatch.setattr(knapsack, "library", lambda: None)
    values, inf = torch.ones(1, 3), torch.inf
    for weights, capacity, expected in (
        ((1.0, inf, 2.0), 3.0, [1, 0, 1]),
        ((1.0, inf, 2.0), inf, [1, 1, 1]),
        (((1.0, inf), (2.0, inf), (9.0, 0.0)), (3.0, inf), [1, 1, 0]),
        (((1.0, 1.0), (inf, 1.0), (1.0, 5.0)), (inf, 2.5), [1, 1, 0]),
    ):
        assert Knapsack(weights, capacity)(values).tolist() == [expected]
        assert BoundedKnapsack(weights, capacity, limits=(1, 1, 1))(values).tolist() == [expected]


def test_infinite_numbers_in_constraints_are_named():
    scores = torch.rand(2, 2)
    for program in (IntegerProgram(b=[1.0]), LinearProgram(b=[1.0])):
        with pytest.raises(InstanceError, match="Program: instance 1 has an infinite number in `A`"):
            program(scores, A=torch.tensor([[[1.0, 2.0]], [[torch.inf, 1.0]]]))
    with pytest.raises(InstanceError, match="instance 0 has NaN in `b_eq`"):
        IntegerProgram(A_eq=[[1, 1]])(scores, b_eq=torch.full((2, 1), torch.nan))
    with pytest.raises(ValueError, match="IntegerProgram: A_eq has an infinite number"):
        IntegerProgram(A_eq=[[1, torch.inf]], b_eq=[1])
    free = IntegerProgram(A=[[1, 1]], sense="max")
    assert free(torch.ones(2, 2), b=torch.tensor([[1.0], [torch.inf]])).sum(1).tolist() == [1, 2]
    for number in (torch.inf, torch.nan):
        with pytest.raises(InstanceError, match="SetCover: instance 1 has NaN or an infinite number among its members"):
            SetCover()(scores, members=torch.tensor([[[1.0, 1.0]], [[number, 1.0]]]))


# ---- what is no graph, no tensor, no start ----


@pytest.mark.parametrize("edges", [None, "ab", {}, [["a"]]])
def test_what_is_no_graph(edges):
    with pytest.raises(TypeError, match=f"Graph: edges are a {type(edges).__name__} that makes no tensor"):
        Graph(edges)


def test_graphs_of_small_integers():
    assert Graph(torch.tensor([[0], [1]], dtype=torch.uint16)) == Graph([[0], [1]])


def test_enormous_node_numbers_are_refused():
    scores, edges = torch.ones(2, 1), torch.tensor([[[0], [1]], [[0], [2**32 + 1]]])
    for solver in (PerfectMatching(), SpanningTree(), MaxFlow(source=0, target=1), GraphShortestPath(source=0, target=1)):
        with pytest.raises(InstanceError, match="`edge_index` of instance 1 names node 4294967297; a graph has"):
            solver(scores, edge_index=edges)
    for solver, nodes in ((MaxCut(), 1), (MaxIndependentSet(), 2)):
        with pytest.raises(InstanceError, match="instance 1 has edges that name node"):
            solver(torch.ones(2, nodes), edge_index=edges)
    with pytest.raises(ValueError, match="Graph: there are 4294967298 nodes"):
        Graph(edges[1])
    with pytest.raises(ValueError, match="target=4294967297 is not a node"):
        MinCut(source=0, target=2**32 + 1)
    for solver in (MinCut(source=0), GraphShortestPath(source=0)):
        with pytest.raises(ValueError, match="starts or ends at node 4294967297"):
            solver(scores[:1], edge_index=edges[:1], target=torch.tensor([2**32 + 1]))


@pytest.mark.parametrize(
    ("solver", "count"), [(MultiGraphMatching(), 1), (GraphMatching(), 2), (PartialAssignment(), 3), (EditDistance(), 3)]
)
def test_lists_are_no_scores(solver, count):
    with pytest.raises(TypeError, match=f"{type(solver).__name__}: the scores are list"):
        solver(*[[[1.0]]] * count)
    with pytest.raises((TypeError, ValueError), match=f"{type(solver).__name__}: the scores"):
        solver()


def test_a_list_is_no_mask():
    with pytest.raises(TypeError, match="MultiGraphMatching: `mask` is a list"):
        MultiGraphMatching()(torch.rand(1, 2, 2, 2, 2), mask=[True])


def test_infinite_starts_are_refused():
    for engine in (CPSAT(), SCIP()):
        with pytest.raises(ValueError, match="IntegerProgram: `warm_start` has infinite numbers"):
            IntegerProgram(engine=engine)(torch.ones(1, 2), warm_start=torch.full((1, 2), torch.inf))


@pytest.mark.parametrize("start", [torch.nan, torch.inf, -torch.inf, 1e300, 1])
def test_any_duals_may_start_an_assignment(start):
    torch.manual_seed(0)
    for n in (5, 40):
        costs = torch.rand(3, n, n)
        assert torch.equal(Assignment()(costs, warm_start=torch.full((3, n), start, dtype=torch.float64)), Assignment()(costs))


@pytest.mark.parametrize("number", [0, -5, 10**9])
def test_any_order_may_start_paths(number):
    torch.manual_seed(0)
    solver, costs = GraphShortestPath(COMPLETE, source=0, target=7), torch.rand(3, 28)
    assert torch.equal(solver(costs, warm_start=torch.full((3, 8), number)), solver(costs))


def test_proofs_refuse_starts_that_are_no_matching():
    costs = torch.rand(2, 4, 4)
    start = torch.stack([costs.flatten(1), torch.ones(2, 16)], 1)
    with pytest.raises(InstanceError, match="`warm_start` of instance 0 is no matching"):
        ExactQuadraticAssignment()(costs, flows=costs, distances=costs, warm_start=start)


def test_the_diagonal_of_an_ordering_has_no_meaning():
    x = torch.randn(2, 4, 4)
    odd = x.diagonal_scatter(torch.tensor([[torch.inf] * 4, [-torch.inf] * 4]), dim1=1, dim2=2)
    assert torch.equal(LinearOrdering()(odd), LinearOrdering()(x))


def test_levels_have_more_digits_than_scores_of_half_precision():
    x = torch.tensor([[0.3]]).bfloat16()  # 0.30078
    assert Threshold(at=0.3)(x).item() == Sign(margin=0.3)(x).item() == 1
