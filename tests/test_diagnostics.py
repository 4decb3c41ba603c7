"""The measured quality of gradients, on problems whose exact gradient is known."""

import pytest
import torch

from solverlayers import SolverLayer
from solverlayers.diagnostics import _differences, gradient_quality, smoothed_gradient
from solverlayers.noise import Gumbel
from solverlayers.oracle import Oracle
from solverlayers.rules import Blackbox, Identity, Perturbed
from solverlayers.solvers import Argmax, Ranking

SCORES = torch.tensor([[0.3, -0.2, 0.9, 0.0], [1.0, 1.1, -0.5, 0.2]], dtype=torch.float64)
WEIGHTS = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 1.0, 2.0, -1.0]], dtype=torch.float64)


def linear(y):
    return (y * WEIGHTS).sum(-1)


def quadratic(y):
    return (y - WEIGHTS).pow(2).sum(-1)


def test_reference_is_the_softmax_gradient_for_gumbel_noise():
    theta = SCORES.clone().requires_grad_()
    expected = torch.autograd.grad(((theta / 0.7).softmax(-1) * WEIGHTS).sum(), theta)[0]
    found = smoothed_gradient(Argmax(), linear, SCORES, sigma=0.7)
    assert torch.allclose(found.gradient, expected)
    assert (found.standard_error == 0).all()


def test_differences_agree_with_enumeration():
    torch.manual_seed(0)
    exact = smoothed_gradient(Argmax(), quadratic, SCORES).gradient
    found, error = _differences(Oracle(Argmax(), {}), SCORES, quadratic, 1.0, Gumbel(), 200_000)
    assert (error > 0).all()
    assert ((found - exact).abs() < 5 * error + 0.02).all()  # a half-width of 1/4 has a bias of about one percent


def test_quality_of_an_unbiased_rule():
    torch.manual_seed(0)
    reference = smoothed_gradient(Argmax(), linear, SCORES)
    layer = SolverLayer(Argmax(), Perturbed(sigma=1.0, samples=50, noise=Gumbel()))
    quality = gradient_quality(layer, linear, SCORES, reference, repeats=400)
    assert quality.bias < 0.05
    assert quality.cosine > 0.99
    assert 0.1 < quality.std < 2
    assert quality.moved == 1.0
    assert quality.solves == 50
    assert quality.rule == repr(layer.rule)


def test_quality_of_deterministic_rules():
    reference = smoothed_gradient(Argmax(), linear, SCORES)
    identity = gradient_quality(SolverLayer(Argmax(), Identity()), linear, SCORES, reference, repeats=3)
    assert (identity.std, identity.solves, identity.moved) == (0.0, 1.0, 1.0)
    blackbox = gradient_quality(SolverLayer(Argmax(), Blackbox(step=1e-6)), linear, SCORES, reference, repeats=3)
    assert (blackbox.moved, blackbox.solves) == (0.0, 2.0)  # so small a step never reaches another solution


def test_costs_have_the_opposite_sign():
    torch.manual_seed(0)
    gains = smoothed_gradient(Ranking(), linear, SCORES, samples=20_000).gradient
    torch.manual_seed(0)
    costs = smoothed_gradient(Ranking(descending=True), linear, -SCORES, samples=20_000).gradient
    assert torch.allclose(costs, -gains)


def test_radial_part_tells_shrinking_scores():
    reference = smoothed_gradient(Argmax(), linear, SCORES)
    layer = SolverLayer(Argmax(), Identity())

    def along_the_scores(y):
        return (y * SCORES).sum(-1)

    assert gradient_quality(layer, along_the_scores, SCORES, reference, repeats=1).radial == pytest.approx(-1.0)
