"""`torch.compile`: one graph for solvers in plain torch, the same answers with graph breaks for the others."""

from __future__ import annotations

import pytest
import torch
from cases import RULES, SOLVERS

from solverlayers import SolverLayer
from solverlayers.rules import Regularized

# of the compiler itself
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]
LATE = ("aimle",)  # refuses to be compiled: it changes in the backward pass
# everything else of these rules is compiled in the rows that are left; a compilation takes a second
TWINS = ("blackbox_auto", "lpgd_proximal", "imle_two_sided", "perturbed_gumbel", "perturbed_antithetic", "gumbel_softmax_soft")


def pairs(solvers, rules):
    return [(s, r) for s in solvers for r in rules if RULES[r].applies(SOLVERS[s]) and RULES[r].useful(SOLVERS[s])]


SAMPLED = [rule for rule in RULES if "softmax" in rule or "straight" in rule or rule in ("reinmax", "gumbel_rao")]
ALL = [rule for rule in RULES if rule not in (*LATE, *TWINS, "regularized")]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def both(layer, compiled, x, weights, instance):
    out = []
    for function in (layer, compiled):
        torch.manual_seed(0)
        z = x.detach().clone().requires_grad_()
        y = function(z, **instance)
        out.append((y.detach(), torch.autograd.grad((y * weights).sum(), z)[0]))
    return out


def check(solver, rule, fullgraph, built=None):
    torch.manual_seed(0)
    case = SOLVERS[solver]
    layer = SolverLayer(case.solver, RULES[rule].build(case) if built is None else built)
    x, instance = case.build(3)
    x = x.detach().abs() + 0.1 if RULES[rule].positive else x
    weights = torch.randn_like(layer(x, **instance))
    compiled = torch.compile(layer, fullgraph=fullgraph, backend="aot_eager", dynamic=False)
    (y, g), (compiled_y, compiled_g) = both(layer, compiled, x, weights, instance)
    assert torch.allclose(y, compiled_y)
    assert torch.allclose(g, compiled_g, atol=1e-5)


@pytest.mark.parametrize(("solver", "rule"), pairs(["topk"], ALL) + pairs(["argmax"], SAMPLED))
def test_one_graph_for_every_rule(solver, rule):
    check(solver, rule, fullgraph=True)


@pytest.mark.parametrize("solver", [name for name, case in SOLVERS.items() if case.native])
def test_one_graph_for_every_solver_in_torch(solver):
    check(solver, "identity" if SOLVERS[solver].solver.same_shape else "dab_batch", fullgraph=True)


@pytest.mark.parametrize(("solver", "rule"), [("assignment_mask", "blackbox"), ("grid_path", "identity")])
def test_graph_breaks_change_nothing(solver, rule):
    check(solver, rule, fullgraph=False)


def test_one_graph_for_few_iterations():
    """The graph grows with the square of the iterations."""
    check("topk", "regularized", fullgraph=True, built=Regularized(iterations=1))
