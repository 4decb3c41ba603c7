"""Rules that draw a category: exact by enumeration where theory says so, the right law, and refusals."""

from __future__ import annotations

import re

import pytest
import torch
from cases import SOLVERS

from solverlayers import SolverLayer
from solverlayers.relaxations import Softmax
from solverlayers.rules import (
    CategoricalStraightThrough,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
)
from solverlayers.solvers.assignment import Assignment
from solverlayers.solvers.selection import Argmax, TopK
from solverlayers.testing import check_rule

THETA = torch.tensor([0.7, -0.3, 0.2, -1.1, 0.4], dtype=torch.float64)
PI = THETA.softmax(-1)
SAMPLED = [CategoricalStraightThrough(), ReinMax(), ReinMax(1.3), GumbelRao(0.5, 8), GappedStraightThrough(0.5)]
ALL = [*SAMPLED, GumbelSoftmax(0.7), GumbelSoftmax(0.7, hard=False)]


def polynomial(degree, seed=0):
    """A random polynomial of five variables, not defined by its values at the vertices alone."""
    generator = torch.Generator().manual_seed(seed)
    matrices = [torch.randn(5, 5, dtype=torch.float64, generator=generator) for _ in range(degree)]
    return lambda y: sum((y @ m).pow(d + 1).sum(-1) for d, m in enumerate(matrices))


def exact_gradient(f):
    """The gradient of `sum_i pi_i f(e_i)`."""
    theta = THETA.clone().requires_grad_()
    (g,) = torch.autograd.grad((theta.softmax(-1) * f(torch.eye(5, dtype=torch.float64))).sum(), theta)
    return g


def gradients(rule, f):
    """The gradient that a rule gives for each draw: row i given the draw i."""
    draws = torch.eye(5, dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(f(draws).sum(), draws)
    theta = THETA.expand(5, 5).clone().requires_grad_()
    surrogate = rule.surrogate(theta, draws.detach(), torch.ones(5, 5, dtype=torch.bool))
    return torch.autograd.grad((surrogate * g).sum(), theta)[0]


@pytest.mark.parametrize("degree", [1, 2])
def test_reinmax_is_exact_for_quadratic_losses(degree):
    for seed in range(3):
        f = polynomial(degree, seed)
        torch.testing.assert_close(PI @ gradients(ReinMax(), f), exact_gradient(f), atol=1e-12, rtol=0)


def test_reinmax_is_biased_beyond():
    f = polynomial(4)
    assert (PI @ gradients(ReinMax(), f) - exact_gradient(f)).norm() > 1e-2 * exact_gradient(f).norm()
    f = polynomial(2)
    assert (PI @ gradients(ReinMax(1.3), f) - exact_gradient(f)).norm() > 1e-2 * exact_gradient(f).norm()


def test_straight_through_is_exact_for_linear_losses_alone():
    linear, quadratic = polynomial(1), polynomial(2)
    rule = CategoricalStraightThrough()
    torch.testing.assert_close(PI @ gradients(rule, linear), exact_gradient(linear), atol=1e-12, rtol=0)
    error = (PI @ gradients(rule, quadratic) - exact_gradient(quadratic)).norm()
    assert error > 1e-2 * exact_gradient(quadratic).norm()


def jacobian(p):
    return torch.diag(p) - torch.outer(p, p)


@pytest.mark.parametrize("temperature", [1.0, 1.4])
def test_reinmax_by_its_formula(temperature):
    """`2 J((softmax(theta / tau) + D) / 2) g - J(pi) g / 2`, and at temperature 1 the mean of straight-through and DARN."""
    f = polynomial(3)
    got = gradients(ReinMax(temperature), f)
    for i, draw in enumerate(torch.eye(5, dtype=torch.float64)):
        x = draw.clone().requires_grad_()
        (g,) = torch.autograd.grad(f(x), x)
        middle = ((THETA / temperature).softmax(-1) + draw) / 2
        torch.testing.assert_close(got[i], 2 * jacobian(middle) @ g - jacobian(PI) @ g / 2, atol=1e-12, rtol=0)
        if temperature == 1:
            mean = (jacobian(PI) @ g + g @ (draw - PI) * (draw - PI)) / 2
            torch.testing.assert_close(got[i], mean, atol=1e-12, rtol=0)


def test_gapped_by_its_formula():
    rule, f = GappedStraightThrough(0.5, gap=1.0), polynomial(2)
    got = gradients(rule, f)
    for i, draw in enumerate(torch.eye(5, dtype=torch.float64)):
        x = draw.clone().requires_grad_()
        (g,) = torch.autograd.grad(f(x), x)
        shifted = torch.tensor([0.7 if j == i else min(float(t), 0.7 - 1.0) for j, t in enumerate(THETA)], dtype=torch.float64)
        torch.testing.assert_close(got[i], jacobian((shifted / 0.5).softmax(-1)) @ g / 0.5, atol=1e-12, rtol=0)


def test_cold_gumbel_rao_is_reinmax():
    """Its limit at temperature zero (Shekhovtsov, 2023), by many samples; a check of both from outside."""
    torch.manual_seed(0)
    f = polynomial(3)
    got, expected = gradients(GumbelRao(0.02, 200_000), f), gradients(ReinMax(), f)
    assert (got - expected).norm() < 0.05 * expected.norm()


def test_conditional_gumbel_noise_has_the_law_of_rejection():
    torch.manual_seed(1)
    rule = GumbelRao(1.0, 100_000)
    noisy = THETA - torch.empty(400_000, 5, dtype=torch.float64).exponential_().log()
    for i in (0, 3):
        kept = noisy[noisy.argmax(-1) == i]
        draw = torch.eye(5, dtype=torch.float64)[i : i + 1]
        given_draw = rule._conditional(THETA[None], draw, torch.ones(1, 5, dtype=torch.bool))[:, 0]
        assert (given_draw.argmax(-1) == i).all()
        error = (kept.var(0) / len(kept) + given_draw.var(0) / len(given_draw)).sqrt()
        assert ((kept.mean(0) - given_draw.mean(0)).abs() < 5 * error).all()
        torch.testing.assert_close(kept.std(0), given_draw.std(0), atol=0, rtol=0.05)


def sampled_gradients(rule, f, count=100_000):
    x = THETA.expand(count, 5).clone().requires_grad_()
    return torch.autograd.grad(f(SolverLayer(Argmax(), rule)(x)).sum(), x)[0]


def test_gumbel_rao_has_the_mean_of_gumbel_softmax_and_less_variance():
    torch.manual_seed(2)
    f = polynomial(2)
    plain, rao = sampled_gradients(GumbelSoftmax(0.4), f), sampled_gradients(GumbelRao(0.4, 16), f)
    error = ((plain.var(0) + rao.var(0)) / len(plain)).sqrt()
    assert ((plain.mean(0) - rao.mean(0)).abs() < 5 * error).all()
    assert rao.var(0).sum() < 0.7 * plain.var(0).sum()
    one = sampled_gradients(GumbelRao(0.4, 1), f)
    torch.testing.assert_close(one.var(0).sum(), plain.var(0).sum(), atol=0, rtol=0.1)


def test_temperature_trades_bias_for_variance():
    torch.manual_seed(3)
    f = polynomial(2)
    cold, warm = (sampled_gradients(GumbelSoftmax(t), f) for t in (0.1, 2.0))
    exact = exact_gradient(f)
    assert (cold.mean(0) - exact).norm() < 0.5 * (warm.mean(0) - exact).norm()
    assert cold.var(0).sum() > 5 * warm.var(0).sum()


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_draws_follow_the_softmax(rule):
    torch.manual_seed(4)
    y = SolverLayer(Argmax(), rule)(THETA.expand(100_000, 5))
    torch.testing.assert_close(y.sum(-1), torch.ones(100_000, dtype=torch.float64))
    hard = not isinstance(rule, GumbelSoftmax) or rule.hard
    assert hard == bool(((y == 0) | (y == 1)).all())
    chosen = torch.nn.functional.one_hot(y.argmax(-1), 5).double().mean(0)
    torch.testing.assert_close(chosen, PI, atol=0.01, rtol=0)


@pytest.mark.parametrize("rule", ALL, ids=repr)
@pytest.mark.parametrize("name", ["argmax", "argmax_mask"])
def test_contract(rule, name):
    case = SOLVERS[name]
    torch.manual_seed(0)
    check_rule(rule, case.solver, case.shape, case.instance)


@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_many_latents_and_forbidden_categories(rule):
    """(B, L, C) latents; scores of minus infinity and masks forbid, garbage under a mask goes nowhere."""
    torch.manual_seed(5)
    layer = SolverLayer(Argmax(), rule)
    x = torch.randn(64, 3, 5)
    mask = torch.rand(3, 5) < 0.6
    mask[:, 0] = True
    for scores, instance in ((torch.where(mask, x, torch.nan), {"mask": mask}), (torch.where(mask, x, -torch.inf), {})):
        scores = scores.requires_grad_()
        y = layer(scores, **instance)
        assert y.shape == (64, 3, 5)
        assert not y.expand(64, 3, 5)[:, ~mask].any()
        (g,) = torch.autograd.grad((y * torch.randn(5)).sum(), scores)
        assert g.isfinite().all()
        assert not g[:, ~mask].any()
        torch.testing.assert_close(g.sum(-1), torch.zeros(64, 3), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while it traces
@pytest.mark.parametrize("rule", ALL, ids=repr)
def test_evaluation_and_transforms(rule):
    x = torch.randn(6, 5)
    layer = SolverLayer(Argmax(), rule)
    assert torch.equal(layer.eval()(x), Argmax()(x))
    layer.train()

    def loss(row):
        return layer(row).square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss), randomness="different")(x)
    assert mapped.shape == x.shape
    torch._dynamo.reset()
    x.requires_grad_()
    y = torch.compile(layer, fullgraph=True, backend="eager")(x)
    assert torch.autograd.grad(y.square().sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("rule", SAMPLED, ids=repr)
def test_second_derivatives_are_those_of_the_surrogate(rule):
    """With the draw and the noise held; compared with finite differences of the first derivative."""
    draw, used = torch.eye(5, dtype=torch.float64)[1:2], torch.ones(1, 5, dtype=torch.bool)
    weights = torch.randn(5, dtype=torch.float64)
    if isinstance(rule, ReinMax | CategoricalStraightThrough):
        curvature = 2 if isinstance(rule, ReinMax) else 1

        def held(theta):
            """The same surrogate with its constants written out."""
            if isinstance(rule, CategoricalStraightThrough):
                return (theta / rule.temperature).softmax(-1)
            middle = ((THETA / rule.temperature).softmax(-1) + draw) / 2
            return curvature * (middle.log() - THETA + theta).softmax(-1) - theta.softmax(-1) / 2

    else:
        torch.manual_seed(6)
        noise = rule._conditional(THETA[None], draw, used) - THETA if isinstance(rule, GumbelRao) else None
        shift = torch.where(draw > 0, THETA.max(), torch.minimum(THETA, THETA.max() - 1)) - THETA

        def held(theta):
            if noise is not None:
                return ((theta + noise) / rule.temperature).softmax(-1).mean(0)
            return ((theta + shift) / rule.temperature).softmax(-1)

    def surrogate(theta):
        torch.manual_seed(6)
        return rule.surrogate(theta, draw, used)

    x = THETA[None].clone().requires_grad_()
    (g,) = torch.autograd.grad((surrogate(x) * weights).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((g * weights.flip(0)).sum(), x)

    def slope(theta):
        theta = theta.clone().requires_grad_()
        return (torch.autograd.grad((held(theta) * weights).sum(), theta)[0] * weights.flip(0)).sum()

    step = 1e-5
    for i in range(5):
        shifted = torch.zeros(1, 5, dtype=torch.float64)
        shifted[0, i] = step
        difference = (slope(THETA[None] + shifted) - slope(THETA[None] - shifted)) / (2 * step)
        torch.testing.assert_close(second[0, i], difference, atol=1e-7, rtol=1e-5)


def test_not_the_same_as_a_relaxation_of_noisy_scores():
    """`StraightThrough(Softmax())` on noisy scores is Gumbel-softmax: the Jacobian is at the noisy scores."""
    f = polynomial(1)
    torch.manual_seed(7)
    assert sampled_gradients(CategoricalStraightThrough(), f, 100).std(0).max() < 1e-12
    assert sampled_gradients(GumbelSoftmax(), f, 100).std(0).max() > 1e-2
    assert Softmax().one_hot


@pytest.mark.parametrize(
    ("rule", "solver", "message"),
    [
        (
            ReinMax(0.9),
            Argmax(),
            "ReinMax: temperature=0.9; it must be at least 1. Unlike that of GumbelSoftmax it does not sharpen the draw: it "
            "flattens the distribution that is averaged with the draw, and 1 already has no bias for quadratic losses. Use 1 "
            "up to about 1.5.",
        ),
        (GumbelSoftmax(0.0), Argmax(), "GumbelSoftmax: temperature=0.0; it must be positive."),
        (GumbelRao(1.0, 0), Argmax(), "GumbelRao: samples=0; it must be at least 1."),
        (GappedStraightThrough(1.0, -1.0), Argmax(), "GappedStraightThrough: gap=-1.0; it must not be negative."),
        (
            ReinMax(),
            TopK(2),
            "ReinMax draws one category from softmax(scores), which needs a solver with one-hot solutions such as Argmax; "
            "TopK(k=2, largest=True) has others. Use Perturbed or IMLE, which draw solutions of any solver, or Identity.",
        ),
        (
            GumbelSoftmax(),
            Assignment(),
            "GumbelSoftmax draws one category from softmax(scores), which needs a solver with one-hot solutions such as "
            "Argmax; Assignment() has others. Use Perturbed or IMLE, which draw solutions of any solver, or Identity.",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value),
)
def test_refused(rule, solver, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(solver, rule)
