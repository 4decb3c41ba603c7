"""The contract of every rule with every solver for which it has a meaning, and refusals of the others."""

from __future__ import annotations

import re

import pytest
import torch
from cases import PAIRS, REFUSED, RULES, SOLVERS

from solverlayers import SolverLayer
from solverlayers.rules import DAB
from solverlayers.testing import check_rule

pairs = pytest.mark.parametrize(("solver", "rule"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


def _check(solver, rule, device):
    case = SOLVERS[solver]
    draw = (lambda batch: torch.rand(batch, *case.shape) + 0.1) if RULES[rule].positive else None
    torch.manual_seed(0)
    check_rule(
        RULES[rule].build(case),
        case.solver,
        case.shape,
        case.instance,
        scores=draw,
        batch=2 if case.slow else 3,
        device=device,
        skip=RULES[rule].skip,
    )


@pairs
def test_contract(solver, rule):
    _check(solver, rule, "cpu")


@pytest.mark.gpu
def test_contract_on_the_gpu(gpu):
    for solver, rule in PAIRS:
        _check(solver, rule, gpu)


@pytest.mark.parametrize("rule", dict.fromkeys(rule for _, rule in REFUSED))
def test_refused(rule):
    """A pair without meaning is refused when the layer is built, or at the latest in its first call, with advice."""
    answers = {solver: _refusal(solver, rule) for solver, other in REFUSED if other == rule}
    advice = re.compile("Use|must|keeps|declares|relax")
    assert not {solver: answer for solver, answer in answers.items() if not advice.search(answer)}


def _refusal(solver, rule):
    case = SOLVERS[solver]
    scores, instance = case.build(2)
    try:
        SolverLayer(case.solver, RULES[rule].build(case))(scores, **instance)
    except ValueError as error:
        return str(error)
    return "nothing"


def _build(rule, case, batch):
    scores, instance = case.build(batch)
    return (scores.detach().abs() + 0.1).requires_grad_() if RULES[rule].positive else scores, instance


def _train(layer, case, batch):
    """Teaches a rule with parameters to imitate the solver."""
    optimizer = torch.optim.Adam(layer.parameters(), 2e-2)
    for _ in range(60):
        scores, instance = case.build(batch)
        optimizer.zero_grad()
        layer.auxiliary_loss(scores, layer(scores, **instance), **instance).backward()
        optimizer.step()


@pairs
def test_step_along_the_mean_gradient_improves(solver, rule):
    """For a loss linear in the solution."""
    torch.manual_seed(0)
    case = SOLVERS[solver]
    layer = SolverLayer(case.solver, RULES[rule].build(case))
    batch, repeats = (32, 2) if case.slow else (256, 4)
    if list(layer.parameters()):
        _train(layer, case, batch // 4)
    scores, instance = _build(rule, case, batch)
    weights = torch.randn_like(case.solver(scores, **instance))
    gradient = sum(torch.autograd.grad((layer(scores, **instance) * weights).sum(), scores)[0] for _ in range(repeats))
    step = scores.detach() - gradient / gradient.pow(2).mean().sqrt()
    before, after = ((case.solver(case.solver.clip(x), **instance) * weights).sum() for x in (scores, step))
    assert after < before - 0.02 * weights.abs().sum()


def test_batch_approximator_takes_an_empty_batch():
    rule = DAB("batch", shape=(2, 3))
    assert rule.approximator(torch.zeros(0, 2, 3)).shape == (0, 2, 3)
