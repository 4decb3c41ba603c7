"""The regularised rule: the nearest point of the hull with its exact gradient, from solver calls alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import SOLVERS, matchings
from scipy.optimize import nnls

from solverlayers import Solver, SolverLayer
from solverlayers.relaxations import SoftRank, SoftTopK, Sparsemax
from solverlayers.rules import Regularized
from solverlayers.solvers.assignment import Assignment, GatedAssignment, MaxAssignment
from solverlayers.solvers.elementwise import HardFunction, Sign
from solverlayers.solvers.grid_path import GridShortestPath
from solverlayers.solvers.selection import Argmax, TopK
from solverlayers.solvers.sorting import Ranking
from solverlayers.testing import check_rule


def ragged(batch, n, least):
    return torch.arange(n) < torch.arange(batch)[:, None] % (n - least + 1) + least


@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0, 5.0])
@pytest.mark.parametrize(
    ("solver", "relaxation"),
    [
        (Argmax(), Sparsemax),
        (Ranking(), SoftRank),
        (Ranking(descending=True), SoftRank),
        (TopK(3), lambda strength: SoftTopK(3, strength)),
    ],
    ids=["argmax", "ranking", "ranking_descending", "topk"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_of_known_projections(solver, relaxation, strength, masked):
    """Whose own gradients are tested against finite differences."""
    x = torch.randn(24, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = ragged(24, 8, 3) if masked else None
    weights = torch.randn(24, 8, dtype=torch.float64)
    y = SolverLayer(solver, Regularized(strength, 60))(x, **({"mask": mask} if masked else {}))
    expected = relaxation(strength)(x if solver.sense == "max" else -x, mask)
    torch.testing.assert_close(y, expected, atol=1e-10, rtol=0)
    (g,) = torch.autograd.grad((y * weights).sum(), x)
    (exact,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(g, exact, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("solver", "n", "m"), [(Assignment(), 3, 3), (MaxAssignment(), 2, 4), (Assignment(), 4, 3)])
def test_nearest_mixture_of_matchings(solver, n, m):
    """Against non-negative least squares over all vertices, with a heavy row for the sum of the weights."""
    x = torch.randn(6, n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = SolverLayer(solver, Regularized(0.4, 40))(x)
    sign = 1 if solver.sense == "max" else -1
    v = matchings(n, m).flatten(1).double().numpy()
    for row, got in zip(x.detach(), y.detach()):
        target = np.append(sign * row.flatten().numpy() / 0.4, 1e5)
        weights, _ = nnls(np.vstack([v.T, np.full(len(v), 1e5)]), target)
        np.testing.assert_allclose(got.flatten(), weights @ v, atol=1e-7)
    torch.autograd.gradcheck(SolverLayer(solver, Regularized(0.4, 40)), (x,))
    torch.autograd.gradgradcheck(SolverLayer(solver, Regularized(0.4, 40)), (x,))


def test_path_costs_stay_legal_and_the_mixture_is_a_flow():
    costs = torch.rand(4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    y = SolverLayer(GridShortestPath(), Regularized(1.0, 40))(costs)
    torch.testing.assert_close(y[:, 0, 0], torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(y[:, -1, -1], torch.ones(4, dtype=torch.float64))
    hard = GridShortestPath()(costs.detach())
    # optimality: no path is better at the gradient of the regularised objective than the mixture itself
    gradient = costs.detach() + y.detach()
    best = GridShortestPath()(gradient)
    assert ((gradient * (y.detach() - best)).sum((1, 2)) < 1e-8).all()
    assert not torch.equal(y.detach(), hard)
    small = SolverLayer(GridShortestPath(), Regularized(1e-6, 10))(costs)
    torch.testing.assert_close(small, hard, atol=1e-9, rtol=0)


@dataclass(frozen=True)
class CountedArgmax(Solver):
    """One-hot argmax that writes down how often it is called."""

    calls: list

    def solve(self, scores):
        self.calls.append(len(scores))
        return Argmax()(scores)


def test_calls_end_with_the_mixture():
    calls = []
    layer = SolverLayer(CountedArgmax(calls), Regularized(1.0, 50))
    x = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.2, -9.0]], requires_grad=True)
    y = layer(x)
    assert len(calls) == 1 + 2 + 1  # the solution, two more vertices for the second instance, and one call that finds no other
    y.sum().backward()
    assert len(calls) == 4
    torch.testing.assert_close(y, Sparsemax()(x))


def test_too_few_iterations_give_the_nearest_point_of_what_was_seen():
    x = torch.tensor([[0.3, 0.2, 0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    y = SolverLayer(Argmax(), Regularized(1.0, 1))(x)
    torch.testing.assert_close(y, torch.tensor([[0.55, 0.45, 0.0, 0.0]], dtype=torch.float64))
    (g,) = torch.autograd.grad(y[0, 0], x)
    torch.testing.assert_close(g, torch.tensor([[0.5, -0.5, 0.0, 0.0]], dtype=torch.float64))
    assert torch.equal(SolverLayer(Argmax(), Regularized(1.0, 0))(x), Argmax()(x))


def test_evaluation_is_the_solver():
    x = torch.randn(5, 6)
    assert torch.equal(SolverLayer(Ranking(), Regularized()).eval()(x), Ranking()(x))


@pytest.mark.parametrize("forbidden", [-torch.inf, -1e30])
@pytest.mark.parametrize("strength", [1.0, 1e-3])
def test_forbidden_entries(forbidden, strength):
    x = torch.tensor([[1.0, forbidden, 0.9]], dtype=torch.float64, requires_grad=True)
    y = SolverLayer(Argmax(), Regularized(strength))(x)
    torch.testing.assert_close(y[:, [0, 2]], Sparsemax(strength)(x[:, [0, 2]]))
    (g,) = torch.autograd.grad(y[0, 0], x)
    assert g.isfinite().all()
    assert g[0, 1] == 0


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while it traces
def test_transforms():
    layer = SolverLayer(Ranking(), Regularized(0.5, 4))
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mapped = torch.func.vmap(torch.func.grad(lambda row: layer(row).sin().sum()))(x)
    x.requires_grad_()
    (plain,) = torch.autograd.grad(layer(x).sin().sum(), x)
    torch.testing.assert_close(mapped, plain)
    torch._dynamo.reset()
    short = SolverLayer(Ranking(), Regularized(0.5, 1))
    compiled = torch.compile(short, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(compiled, short(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(4)).to(dtype).requires_grad_()
    y = SolverLayer(Ranking(), Regularized(1.0, 30))(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), SoftRank(1.0)(x.double()), atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0)


@pytest.mark.parametrize(
    "name", ["argmax_mask", "topk_each", "topk_smallest", "ranking_mask", "assignment_tall", "assignment_mask"]
)
def test_contract(name):
    case = SOLVERS[name]
    torch.manual_seed(0)
    check_rule(Regularized(1.0, 6), case.solver, case.shape, case.instance)


@pytest.mark.parametrize(
    ("rule", "solver", "message"),
    [
        (
            Regularized(0.0),
            Argmax(),
            "Regularized: strength=0.0; it must be positive.",
        ),
        (
            Regularized(1.0, -1),
            Argmax(),
            "Regularized: iterations=-1; it must be at least 0.",
        ),
        (
            Regularized(),
            GatedAssignment(),
            "Regularized mixes solutions of a linear objective, and part of that of GatedAssignment() does not depend on "
            "the scores: of a mixture, that part has no value. Use Perturbed, Blackbox, IMLE or Identity.",
        ),
    ],
    ids=["strength", "iterations", "offset"],
)
def test_refused(rule, solver, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(solver, rule)


def test_refuses_a_general_hard_function():
    with pytest.raises(ValueError, match=r"^Regularized solves again with shifted scores, which needs a solver that maximises"):
        SolverLayer(HardFunction(torch.sign), Regularized())
    with pytest.raises(ValueError, match=r"^Regularized mixes solutions of a linear objective"):
        SolverLayer(Sign(margin=0.5), Regularized())
