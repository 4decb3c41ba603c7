"""`torch.compile(fullgraph=True)`: one graph for every rule with every solver, and the answers of eager mode."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from dataclasses import dataclass

import pytest
import torch
from cases import PAIRS, RULES, SOLVERS

from solverlayers import InfeasibleError, InstanceError, InstanceSolver, SolverLayer
from solverlayers.losses import FenchelYoungLoss
from solverlayers.rules import AIMLE, DAB, Blackbox, Identity, Perturbed, Regularized
from solverlayers.solvers import Argmax, Assignment, GridShortestPath, PartialAssignment, Ranking, TopK

# of the compiler itself
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]
LATE = ("aimle",)  # refuses to be compiled: it changes in the backward pass
# everything else of these rules is compiled in the rows that are left; a compilation takes up to a second
TWINS = ("blackbox_auto", "lpgd_proximal", "imle_two_sided", "perturbed_gumbel", "perturbed_antithetic", "gumbel_softmax_soft")


def pairs(solvers, rules):
    return [(s, r) for s, r in PAIRS if s in solvers and r in rules]


SAMPLED = [rule for rule in RULES if "softmax" in rule or "straight" in rule or rule in ("reinmax", "gumbel_rao")]
ALL = [rule for rule in RULES if rule not in (*LATE, *TWINS)]
FOR_KERNELS = ["identity", "blackbox", "lpgd", "imle", "perturbed"]  # what else rules do with an oracle is the same
LAST_ROWS = {type(case.solver): name for name, case in SOLVERS.items()}.values()  # of each class, with instance data
ONE_RULE = [(s, next(r for r in ("identity", "dab_batch", "perturbed") if (s, r) in PAIRS)) for s in LAST_ROWS]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(function, backend="aot_eager"):
    return torch.compile(function, fullgraph=True, backend=backend, dynamic=False)


def both(layer, graph, x, weights, instance):
    out = []
    for function in (layer, graph):
        torch.manual_seed(0)
        z = x.detach().clone().requires_grad_()
        y = function(z, **instance)
        out.append((y.detach(), torch.autograd.grad((y * weights).sum(), z)[0]))
    return out


def check(solver, rule, backend="aot_eager"):
    torch.manual_seed(0)
    case = SOLVERS[solver]
    layer = SolverLayer(case.solver, RULES[rule].build(case))
    x, instance = case.build(3)
    x = x.detach().abs() + 0.1 if RULES[rule].positive else x
    weights = torch.randn_like(layer(x, **instance))
    (y, g), (compiled_y, compiled_g) = both(layer, compiled(layer, backend), x, weights, instance)
    assert torch.allclose(y, compiled_y)
    assert torch.allclose(g, compiled_g, atol=1e-5)


@pytest.mark.parametrize(("solver", "rule"), pairs(["topk"], ALL) + pairs(["argmax"], SAMPLED))
def test_every_rule_with_a_solver_in_torch(solver, rule):
    check(solver, rule)


@pytest.mark.parametrize(("solver", "rule"), pairs(["assignment_mask"], FOR_KERNELS))
def test_rules_with_a_kernel(solver, rule):
    check(solver, rule)


@pytest.mark.parametrize(("solver", "rule"), ONE_RULE)
def test_every_solver(solver, rule):
    check(solver, rule)


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "rule"), [(s, r) for s, r in PAIRS if r not in LATE])
def test_every_pair(solver, rule):
    check(solver, rule)


@pytest.mark.parametrize("rule", [Regularized(), Regularized(iterations=0)], ids=repr)
def test_mixtures_of_solutions(rule):
    """The search for the mixture is one operator, whatever its iterations are."""
    layer, sizes = SolverLayer(Assignment(), rule), []

    def measure(graph, inputs):
        sizes.append(len(graph.graph.nodes))
        return graph

    for shape in ((3, 3, 3), (2, 3, 3, 3)):
        x = torch.randn(shape)
        (y, g), (compiled_y, compiled_g) = both(layer, compiled(layer), x, torch.randn(shape), {})
        torch.testing.assert_close(y, compiled_y)
        torch.testing.assert_close(g, compiled_g)
    compiled(layer, measure)(x)
    assert max(sizes) < 100


def test_a_mixture_of_several_tensors():
    layer = SolverLayer(PartialAssignment(), Regularized())
    x = tuple(torch.randn(2, *shape) for shape in ((3, 2), (3,), (2,)))
    for part, other in zip(layer(*x), compiled(layer)(*x)):
        torch.testing.assert_close(part, other)


def test_a_mixture_of_what_can_be_solved(caplog):
    layer = SolverLayer(Assignment(), Regularized(), on_failure="skip")
    x = torch.randn(3, 3, 3)
    mask = torch.ones(3, 3, 3, dtype=torch.bool)
    mask[1, :2, 1:] = False
    (y, g), (compiled_y, compiled_g) = both(layer, compiled(layer), x, torch.randn(3, 3, 3), {"mask": mask})
    torch.testing.assert_close(y, compiled_y)
    torch.testing.assert_close(g, compiled_g)
    assert not compiled_y[1].any()
    assert layer.failed.tolist() == [False, True, False]
    assert "Assignment: skipped 1 of 3 instances (first: 1)." in caplog.text
    with pytest.raises(InfeasibleError, match="Assignment: instance 1 has no matching"):
        compiled(SolverLayer(Assignment(), Regularized()))(x, mask=mask)


@pytest.mark.slow  # a minute of a C++ compiler
def test_inductor():
    check("grid_path", "blackbox", backend="inductor")


def test_adaptive_steps_are_refused():
    with pytest.raises(RuntimeError, match=r"AIMLE adapts its step in the backward pass, which torch.func and torch.compile"):
        compiled(SolverLayer(Argmax(), AIMLE()))(torch.randn(2, 3, requires_grad=True))


def test_native_solvers_say_so():
    """Solvers whose cases are in plain torch are traced; the others are an operator."""
    assert {name: case.native for name, case in SOLVERS.items()} == {n: c.solver.torch_native for n, c in SOLVERS.items()}


@pytest.mark.parametrize("solver", ["topk", "assignment", "assignment_mask"])
@pytest.mark.parametrize("rule", ["identity", "blackbox", "imle", "perturbed"])
def test_scores_that_want_no_gradient(solver, rule):
    case = SOLVERS[solver]
    layer = SolverLayer(case.solver, RULES[rule].build(case))
    x, instance = case.build(3)
    found = []
    for function in (layer, compiled(layer)):
        torch.manual_seed(0)
        found.append(function(x.detach(), **instance))
    assert torch.equal(*found)
    with torch.no_grad():
        assert torch.equal(compiled(layer.eval())(x, **instance), case.solver(x, **instance))


def test_evaluation():
    layer = SolverLayer(Assignment(), Perturbed()).eval()
    x = torch.randn(3, 4, 4)
    assert torch.equal(compiled(layer)(x), Assignment()(x))


def test_several_score_tensors():
    layer = SolverLayer(PartialAssignment(), Blackbox(step=2.0))
    scores = [torch.randn(3, 2, 4), torch.randn(3, 2), torch.randn(3, 4)]
    weights = [torch.randn_like(s) for s in scores]
    found = []
    for function in (layer, compiled(layer)):
        x = [s.clone().requires_grad_() for s in scores]
        y = function(*x)
        found.append([*y, *torch.autograd.grad(sum((a * w).sum() for a, w in zip(y, weights)), x)])
    assert all(torch.equal(a, b) for a, b in zip(*found))


@dataclass(frozen=True)
class Best(InstanceSolver):
    """Foreign code: the largest entry that the budget pays for."""

    def solve_instance(self, scores, budget):
        y = 0 * scores
        if budget > 0:
            y[scores.argmax()] = 1
        return y


@dataclass(frozen=True)
class Itself(InstanceSolver):
    """Returns its input, which an operator must not."""

    def solve(self, scores):
        return scores

    def solve_instance(self, scores):
        return scores


def test_foreign_code():
    layer = SolverLayer(Best(), Identity(), projection="norm")
    x, budget = torch.randn(4, 5), torch.tensor([1.0, 0.0, 1.0, 0.0])
    (y, g), (compiled_y, compiled_g) = both(layer, compiled(layer), x, torch.randn(4, 5), {"budget": budget})
    assert torch.equal(y, compiled_y)
    assert y.sum(1).tolist() == budget.tolist()
    torch.testing.assert_close(g, compiled_g)
    x = torch.randn(4, 5)
    y = compiled(SolverLayer(Itself(), Identity()))(x)
    assert torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype):
    layer = SolverLayer(Assignment(), Identity())
    x = torch.randn(3, 4, 4).to(dtype).transpose(1, 2)  # not contiguous
    y = compiled(layer)(x)
    assert y.dtype == dtype
    assert torch.equal(y, layer(x))


def test_an_empty_batch():
    assert compiled(SolverLayer(Assignment(), Identity()))(torch.zeros(0, 3, 3)).shape == (0, 3, 3)


def test_two_solvers_in_one_graph():
    """And another solver of the same class in the same function makes a graph of its own."""
    x = torch.rand(2, 3, 3)

    def run(first, second):
        return first(x) + 10 * second(x)

    four, eight = (SolverLayer(GridShortestPath(neighbours=n), Identity()) for n in (4, 8))
    graph = compiled(run)
    assert torch.equal(graph(four, eight), run(four, eight))
    assert torch.equal(graph(eight, four), run(eight, four))


def test_a_batch_of_any_size():
    layer = SolverLayer(Assignment(), Identity())
    graph = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 5, 7):
        x = torch.randn(batch, 3, 3)
        assert torch.equal(graph(x), layer(x))


@pytest.mark.parametrize(
    ("solver", "rule", "shape"),
    [
        (Assignment(), DAB("equivariant", shape=(3, 3)), (3, 3)),
        (Ranking(), DAB("batch", shape=(5,)), (5,)),
        (GridShortestPath(), Blackbox("auto"), (3, 3)),
    ],
    ids=["assignment", "ranking", "grid_path"],
)
def test_a_step_of_training(solver, rule, shape):
    """A network, a layer behind it, and both losses in one graph."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, math.prod(shape)), torch.nn.Unflatten(1, shape))
    layer = SolverLayer(solver, rule)
    x, target = torch.randn(32, 4), torch.rand(32, *shape)

    def step(x):
        scores = network(x)
        y = layer(scores)
        return (y - target).square().mean() + layer.auxiliary_loss(scores, y)

    parameters = [*network.parameters(), *layer.parameters()]
    eager, graph = (torch.autograd.grad(f(x), parameters) for f in (step, compiled(step)))
    for ours, theirs in zip(eager, graph):
        torch.testing.assert_close(ours, theirs)
        assert ours.any()


def test_a_loss():
    loss = FenchelYoungLoss(Assignment(), samples=3)
    y = Assignment()(torch.randn(4, 3, 3))
    (value, g), (compiled_value, compiled_g) = both(loss, compiled(loss), torch.randn(4, 3, 3), torch.randn(4), {"y_true": y})
    torch.testing.assert_close(value, compiled_value)
    torch.testing.assert_close(g, compiled_g)


def test_an_operator_checks_its_scores():
    graph = compiled(SolverLayer(Assignment(), Identity()))
    graph(torch.randn(2, 3, 3))
    with pytest.raises(InstanceError, match="Assignment: instance 1 has NaN scores"):
        graph(torch.tensor([0.0, torch.nan])[:, None, None].expand(2, 3, 3))
    nowhere = torch.ones(2, 3, 3, dtype=torch.bool)
    nowhere[1, 1] = False
    nowhere[1, :, 1] = False
    layer = SolverLayer(GridShortestPath(neighbours=4), Identity())
    with pytest.raises(InfeasibleError, match="GridShortestPath: instance 1"):
        compiled(layer)(torch.rand(2, 3, 3), mask=nowhere)


def test_an_operator_skips_what_fails(caplog):
    layer = SolverLayer(Assignment(), Identity(), on_failure="skip")
    x = torch.randn(3, 3, 3)
    mask = torch.ones(3, 3, 3, dtype=torch.bool)
    mask[1, 0] = False
    mask[1, :2, :2] = torch.eye(2, dtype=torch.bool)
    mask[1, 2] = torch.tensor([True, False, False])
    with pytest.raises(InfeasibleError):
        Assignment()(x, mask=mask)
    with caplog.at_level(logging.WARNING, "solverlayers"):
        (y, g), (compiled_y, compiled_g) = both(layer, compiled(layer), x, torch.randn(3, 3, 3), {"mask": mask})
    assert [record.getMessage() for record in caplog.records] == ["Assignment: skipped 1 of 3 instances (first: 1)."] * 2
    assert layer.failures == 1  # a graph does not count
    assert torch.equal(y, compiled_y)
    assert torch.equal(g, compiled_g)
    assert not y[1].any()
    assert not g[1].any()
    assert g[0].any()


def test_a_graph_keeps_no_solver_alive():
    solver = TopK(2)
    reference = weakref.ref(solver)
    del solver
    gc.collect()
    assert reference() is None
    with pytest.raises(RuntimeError, match="the solver of this graph is not in this process"):
        torch.ops.solverlayers.solve(-1, "", "raise", True, [torch.zeros(1, 2)], [])


def test_the_operator_keeps_torchs_rules():
    """Shapes, strides and types of the fake kernel are those of the real one; no aliases, no changed inputs."""
    solver = Assignment()
    scores = torch.randn(2, 3, 4).transpose(1, 2)
    mask = torch.ones(2, 4, 3, dtype=torch.bool)
    torch.library.opcheck(torch.ops.solverlayers.solve.default, (id(solver), "mask", "raise", False, [scores], [mask]))
