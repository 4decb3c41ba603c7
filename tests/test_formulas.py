"""Rules, projections and noise against their formulas: closed forms, finite differences, quadrature."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from cases import RULES, SOLVERS
from scipy import stats

from solverlayers import Oracle, SolverLayer
from solverlayers.noise import Gaussian, Gumbel, SumOfGamma, TwoPointMargin
from solverlayers.rules import DAB, IMLE, Blackbox, Identity, Perturbed, StraightThrough
from solverlayers.solver import inner
from solverlayers.solvers import Argmax, Assignment, GridShortestPath, HardFunction, MaxAssignment, Ranking, Threshold, TopK

LINEAR = {name: case for name, case in SOLVERS.items() if case.solver.linear}


def gradient(layer, x, weights, /, **instance):
    """The gradient of `<weights, y>`."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad((layer(x, **instance) * weights).sum(), x)[0]


def agree(samples, expected, errors=5.0, precision=0.2):
    """The mean over the first dimension is `expected`, within so many standard errors, and those are small."""
    mean, error = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    assert ((mean - expected).abs() <= errors * error + 1e-12).all(), f"{mean} is not {expected} (standard error {error})"
    assert error.max() < precision * expected.abs().max()


# Blackbox


@pytest.mark.parametrize("case", LINEAR.values(), ids=LINEAR)
def test_blackbox_is_the_gradient_of_the_interpolated_loss(case):
    """`<g, y'> + (<theta, y> - <theta, y'>) / step` with `y' = y(theta - step g)`: f_lambda of Vlastelica et al., for gains."""
    torch.manual_seed(0)
    step, h = 2.0, 1e-7
    x, instance = case.build(4, torch.float64)
    oracle = Oracle(case.solver, instance)
    theta, g, direction = oracle.sign * x.detach(), torch.randn_like(x), torch.randn_like(x)
    if not torch.equal(case.solver.clip(-x.detach()), -x.detach()):
        g = -oracle.sign * g.abs()  # shifted costs stay costs, so that nothing is clipped

    def value(t, y):
        return inner(t, y, oracle.event_dim) + oracle.sign * case.solver.offset(y, **instance)

    def interpolated(t):
        y, shifted = oracle(t), oracle(t - step * g)
        return inner(g, shifted, oracle.event_dim) + (value(t, y) - value(t, shifted)) / step

    slope = (interpolated(theta + h * direction) - interpolated(theta - h * direction)) / (2 * h)
    got = gradient(SolverLayer(case.solver, Blackbox(step)), x, g, **instance) * oracle.sign
    assert torch.allclose(inner(direction, got, oracle.event_dim), slope, atol=1e-6)


def test_blackbox_of_costs():
    """The table's sign for costs: `(y(w + step g) - y(w)) / step`."""
    torch.manual_seed(0)
    w, g = torch.rand(6, 5, 5, dtype=torch.float64), torch.rand(6, 5, 5, dtype=torch.float64)
    solver = GridShortestPath()
    assert torch.equal(gradient(SolverLayer(solver, Blackbox(3.0)), w, g), (solver(w + 3.0 * g) - solver(w)) / 3.0)


# I-MLE


@pytest.mark.parametrize(("solver", "sign"), [(TopK(2), 1), (TopK(2, largest=False), -1)])
def test_imle_shares_its_noise(solver, sign):
    """`mean_s (y(theta + sigma e_s) - y(theta - step g + sigma e_s)) / step`, each sample with one draw in both."""
    torch.manual_seed(0)
    x, g = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    rule = IMLE(step=3.0, sigma=0.7, samples=5)
    torch.manual_seed(1)
    got = gradient(SolverLayer(solver, rule), x, g)
    torch.manual_seed(1)
    eta = sign * x + 0.7 * Gumbel().sample(x.expand(5, 4, 6))
    expected = torch.zeros_like(x)
    for one in eta:
        expected += sign * (solver(sign * one) - solver(sign * (one - 3.0 * g))) / 3.0 / 5
    assert torch.allclose(got, expected, atol=1e-12)
    assert (got != 0).any()


# Identity and straight-through


def test_identity_signs():
    g = torch.randn(3, 5)
    assert torch.equal(gradient(SolverLayer(TopK(2), Identity()), torch.randn(3, 5), g), g)
    assert torch.equal(gradient(SolverLayer(TopK(2, largest=False), Identity()), torch.randn(3, 5), g), -g)


def test_straight_through_a_threshold():
    x, g = torch.randn(3, 5), torch.randn(3, 5)
    assert torch.equal(gradient(SolverLayer(Threshold(), StraightThrough()), x, g), g)
    s = torch.sigmoid(x)
    assert torch.allclose(gradient(SolverLayer(Threshold(), StraightThrough(torch.sigmoid)), x, g), g * s * (1 - s))


@pytest.mark.parametrize("rule", [name for name in RULES if not name.startswith("dab")])
def test_costs_are_negative_gains(rule):
    """Every rule: the gradient for costs `x` is minus that for gains `-x`, with the same random numbers."""
    case = SOLVERS["topk"]
    if not RULES[rule].applies(case):
        return
    torch.manual_seed(0)
    x, g = torch.rand(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    costs, gains = (SolverLayer(TopK(2, largest=largest), RULES[rule].build(case)).double() for largest in (False, True))
    torch.manual_seed(1)
    of_costs = gradient(costs, x, g)
    torch.manual_seed(1)
    of_gains = gradient(gains, -x, g)
    assert torch.equal(of_costs, -of_gains)


@pytest.mark.parametrize("name", ["topk", "topk_smallest", "assignment", "ranking", "grid_path"])
def test_identity_theorem(name):
    """Following the update, the first other solution has a lower linear loss; without one, nothing changes (Theorem 1)."""
    torch.manual_seed(0)
    case, horizon, steps = SOLVERS[name], 6.0, 300
    layer = SolverLayer(case.solver, Identity())
    sign = 1 if case.solver.sense == "max" else -1
    x, g = (torch.randn(30, *case.shape, dtype=torch.float64) for _ in range(2))
    if sign < 0:
        x, g = x.abs() + 0.1, g.abs()  # costs stay costs all the way
    start = layer(x)
    lost = start - case.vertices.double()[:, None]  # (V, B, *E)
    gain, gap = (lost * g).flatten(2).sum(-1), sign * (lost * x).flatten(2).sum(-1)
    switch = torch.where(gain > 1e-12, gap / gain, torch.inf).amin(0)  # how far to the first better solution
    changed = torch.zeros(30, dtype=torch.bool)
    for _ in range(steps):
        x = x - horizon / steps * gradient(layer, x, g)
        y = layer(x)
        now = (y != start).flatten(1).any(1) & ~changed
        assert (((start - y) * g).flatten(1).sum(1)[now] > 1e-12).all()
        changed |= now
    assert torch.equal(changed, switch < horizon)
    assert changed.sum() > 0


# Projections


@pytest.mark.parametrize("projection", ["mean", "norm", "std", "tangent"])
@pytest.mark.parametrize("case", LINEAR.values(), ids=LINEAR)
def test_projections_leave_the_solution(case, projection):
    torch.manual_seed(0)
    x, instance = case.build(16, torch.float64)
    try:
        layer = SolverLayer(case.solver, Identity(), projection=projection)
    except ValueError:
        assert (projection == "mean" and not case.solver.constant_sum) or not case.solver.scale_free
        return
    assert torch.equal(layer(x, **instance), case.solver(x.detach(), **instance))


def test_norm_projection_has_the_jacobian_of_the_paper():
    """`P' = I / |w| - w w^T / |w|^3`; it kills the direction of the scores."""
    torch.manual_seed(0)
    w, g = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    got = gradient(SolverLayer(TopK(2), Identity(), projection="norm"), w, g)
    norm = w.norm(dim=1, keepdim=True)
    assert torch.allclose(got, g / norm - w * (w * g).sum(1, keepdim=True) / norm**3)
    assert torch.allclose((got * w).sum(1), torch.zeros(3, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("projection", ["mean", "std"])
def test_mean_projection_kills_constants(projection):
    torch.manual_seed(0)
    w, g = torch.randn(3, 4, 4, dtype=torch.float64), torch.randn(3, 4, 4, dtype=torch.float64)
    got = gradient(SolverLayer(MaxAssignment(), Identity(), projection=projection), w, g)
    assert torch.allclose(got.sum((1, 2)), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert (got != 0).all()


def test_tangent_projection_of_an_assignment_kills_rows_and_columns():
    torch.manual_seed(0)
    w, g = torch.randn(3, 4, 4, dtype=torch.float64), torch.randn(3, 4, 4, dtype=torch.float64)
    got = gradient(SolverLayer(MaxAssignment(), Identity(), projection="tangent"), w, g)
    for dim in (1, 2):
        assert torch.allclose(got.sum(dim), torch.zeros(3, 4, dtype=torch.float64), atol=1e-12)


# Perturbed

REPEATS = 20_000
THETA = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def perturbed_gradients(rule, theta=THETA, solver=None):
    torch.manual_seed(0)
    x = theta.expand(REPEATS, *theta.shape).clone()
    layer = SolverLayer(Argmax() if solver is None else solver, rule)
    return gradient(layer, x, WEIGHTS[: theta.shape[-1]])


def exact_gradient(probabilities, theta=THETA):
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad((probabilities(theta) * WEIGHTS[: theta.shape[-1]]).sum(), theta)[0]


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_perturbed_with_gumbel_noise_is_a_softmax(samples):
    got = perturbed_gradients(Perturbed(sigma=0.5, samples=samples, noise=Gumbel()))
    agree(got, exact_gradient(lambda t: (t / 0.5).softmax(-1)))


def test_perturbed_costs_with_gumbel_noise():
    got = perturbed_gradients(Perturbed(sigma=0.5, samples=4, noise=Gumbel()), solver=TopK(1, largest=False))
    agree(got, exact_gradient(lambda t: (-t / 0.5).softmax(-1)))


def gaussian_argmax(theta, sigma):
    """`P(theta_i + sigma z_i is the largest)` by quadrature over `z_i`."""
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    z, weight = torch.from_numpy(z), torch.from_numpy(weight / weight.sum())
    differences = (theta[..., :, None, None] - theta[..., None, :, None]) / sigma + z  # (i, j, z)
    others = torch.special.log_ndtr(differences).sum(-2) - torch.special.log_ndtr(z)
    return (others.exp() * weight).sum(-1)


@pytest.mark.parametrize("antithetic", [False, True])
def test_perturbed_with_gaussian_noise(antithetic):
    got = perturbed_gradients(Perturbed(sigma=0.5, samples=4, antithetic=antithetic))
    agree(got, exact_gradient(lambda t: gaussian_argmax(t, 0.5)))


def test_perturbed_multiplicative():
    """Two entries: `P(first) = Phi(log(theta_1 / theta_2) / (sigma sqrt 2))`."""
    theta = torch.tensor([[0.7, 1.1]], dtype=torch.float64)
    got = perturbed_gradients(Perturbed(sigma=0.8, samples=4, multiplicative=True), theta)

    def probabilities(t):
        first = torch.special.ndtr((t[..., 0] / t[..., 1]).log() / (0.8 * math.sqrt(2)))
        return torch.stack([first, 1 - first], -1)

    agree(got, exact_gradient(probabilities, theta))


def test_perturbed_second_derivative():
    """Averaged, the derivative of the gradient is the Hessian of the smoothed loss."""
    direction = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64)
    torch.manual_seed(0)
    x = THETA.expand(2 * REPEATS, 1, 3).clone().requires_grad_()
    layer = SolverLayer(Argmax(), Perturbed(sigma=1.0, samples=8, noise=Gumbel()))
    (g,) = torch.autograd.grad((layer(x) * WEIGHTS).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((g * direction).sum(), x)
    hessian = torch.func.jacrev(torch.func.grad(lambda t: (t.softmax(-1) * WEIGHTS).sum()))(THETA[0])
    agree(second[:, 0], hessian @ direction)


def test_the_baseline_lowers_the_variance():
    """A loss far from zero: eight samples with the leave-one-out baseline beat the mean of eight without by far."""
    variance = {}
    for samples in (1, 8):
        torch.manual_seed(0)
        layer = SolverLayer(Argmax(), Perturbed(sigma=0.5, samples=samples))
        got = gradient(layer, THETA.expand(REPEATS, 1, 3), WEIGHTS + 10)
        agree(got, exact_gradient(lambda t: gaussian_argmax(t, 0.5)), precision=0.3)
        variance[samples] = got.var(0).sum() * samples
    assert variance[8] < 0.1 * variance[1]


# Noise


def test_gumbel_noise_samples_a_softmax():
    torch.manual_seed(0)
    theta = torch.tensor([0.3, -0.2, 0.5, -torch.inf])
    count = 100_000
    drawn = (theta + Gumbel(0.7).sample(theta.expand(count, 4))).argmax(-1)
    frequency, expected = torch.bincount(drawn, minlength=4) / count, (theta / 0.7).softmax(-1)
    assert ((frequency - expected).abs() <= 4 * (expected * (1 - expected) / count).sqrt()).all()


def _sums(noise, k, count=20_000, draw=None):
    torch.manual_seed(0)
    return (draw or noise.sample)(torch.empty(count, k, dtype=torch.float64)).sum(1)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_sum_of_gamma_sums_to_gumbel(k):
    sums = _sums(SumOfGamma(k, scale=2.0, terms=max(300 // k, 100)), k, 5_000)
    assert stats.kstest(sums.numpy(), stats.gumbel_r(scale=2.0).cdf).pvalue > 1e-3


@pytest.mark.parametrize("method", ["sample", "sample_gammas"])
def test_sum_of_gamma_has_the_moments_of_its_formula(method):
    """At k = 10 and ten terms the sum has mean 0.630 and variance 1.556."""
    noise = SumOfGamma(10, terms=10)
    sums = _sums(noise, 10, draw=getattr(noise, method))
    mean = sum(1 / i for i in range(1, 11)) - math.log(10)
    variance = sum(1 / i**2 for i in range(1, 11))
    assert abs(sums.mean() - mean) < 4 * (variance / 20_000) ** 0.5
    assert abs(sums.var() / variance - 1) < 0.1


def test_inverted_rates_are_not_gumbel():
    """Rates k / i in place of scales k / i, as some published code has it: the variance is forty times too small."""
    torch.manual_seed(0)
    rates = 10 / torch.arange(1, 11, dtype=torch.float64)
    gammas = torch.distributions.Gamma(torch.full((10,), 0.1, dtype=torch.float64), rates).sample((20_000, 10)).sum(-1)
    sums = ((gammas - math.log(10)) / 10).sum(1)
    assert sums.var() < 1.6449 / 30
    assert stats.kstest(sums.numpy(), stats.gumbel_r().cdf).pvalue < 1e-10


@pytest.mark.parametrize("noise", [Gaussian(0.5), Gumbel(0.5), SumOfGamma(2, 0.5, terms=40)], ids=repr)
def test_density_belongs_to_the_draws(noise):
    """`E[d log p / dz] = 0` and `E[z d log p / dz] = -1`, integration by parts for any smooth density."""
    torch.manual_seed(0)
    z = noise.sample(torch.empty(400_000, dtype=torch.float64)).requires_grad_()
    (score,) = torch.autograd.grad(noise.log_prob(z).sum(), z)
    for values, expected in ((score, 0.0), (z.detach() * score, -1.0)):
        assert abs(values.mean() - expected) < 5 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_two_point_margin(dtype):
    torch.manual_seed(0)
    drawn = TwoPointMargin(0.5).sample(torch.empty(10_000, dtype=dtype))
    assert drawn.dtype == dtype
    assert set(drawn.tolist()) == {-0.25, 0.25}
    assert abs(drawn.double().mean()) < 4 * 0.25 / 100


# DAB


def bridge(commitment=0.0):
    torch.manual_seed(0)
    encoder = torch.nn.Linear(3, 4).double()
    layer = SolverLayer(Threshold(), DAB("batch", shape=(4,), weight=10.0, commitment=commitment)).double()
    decoder = torch.nn.Linear(4, 1).double()
    return encoder, layer, decoder, torch.randn(5, 3, dtype=torch.float64)


def test_dab_task_loss_never_reaches_the_approximator():
    encoder, layer, decoder, x = bridge()
    z = encoder(x)
    y = layer(z)
    decoder(y).pow(2).sum().backward()
    assert all(p.grad is None for p in layer.parameters())
    assert all((p.grad != 0).any() for p in [*encoder.parameters(), *decoder.parameters()])


def test_dab_backward_is_the_jacobian_of_the_approximator():
    _, layer, _, _ = bridge()
    z, g = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    (expected,) = torch.func.vjp(layer.rule.approximator, z)[1](g)
    assert torch.allclose(gradient(layer, z, g), expected)


@pytest.mark.parametrize(("solver", "sign"), [(Threshold(), 1), (Assignment(), -1)])
def test_dab_with_a_residual(solver, sign):
    """At first straight-through in the sense of the solver, then also the Jacobian of what it learns: `y - theta`."""
    layer = SolverLayer(solver, DAB("batch", shape=(3, 3)[: solver.event_dim], residual=True)).double()
    approximator = layer.rule.approximator
    z, g = (torch.randn(5, *layer.rule.shape, dtype=torch.float64) for _ in range(2))
    assert torch.equal(gradient(layer, z, g), sign * g)
    for p in approximator.parameters():
        torch.nn.init.normal_(p)
    assert torch.allclose(gradient(layer, z, g), sign * g + torch.func.vjp(approximator, z)[1](g)[0])
    y = layer(z)
    distance = approximator(z) - (y - sign * z)
    assert torch.allclose(layer.auxiliary_loss(z, y), 10.0 * distance.square().flatten(1).sum(1).mean())


def test_dab_with_a_residual_needs_solutions_in_the_shape_of_the_scores():
    solver = HardFunction(torch.sort)
    message = (
        "DAB(residual=True) adds to the scores what it has learned, so solutions need their shape; "
        f"{solver!r} may return another. Use residual=False."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(solver, DAB("batch", shape=(3,), residual=True))


@pytest.mark.parametrize("commitment", [0.0, 0.25])
def test_dab_bridge_loss(commitment):
    """`weight mean_batch sum (a(z) - y)^2` reaches the approximator alone; the commitment adds its share for the encoder."""
    encoder, layer, _, x = bridge(commitment)
    z = encoder(x)
    z.retain_grad()
    y = layer(z)
    loss = layer.auxiliary_loss(z, y)
    loss.backward()
    approximator = layer.rule.approximator
    distance = approximator(z.detach()) - y.detach()
    assert torch.allclose(loss, (10.0 + commitment) * distance.pow(2).sum(1).mean())
    copies = [p.detach().clone().requires_grad_() for p in approximator.parameters()]
    names = [name for name, _ in approximator.named_parameters()]
    out = torch.func.functional_call(approximator, dict(zip(names, copies)), (z.detach(),))
    own = torch.autograd.grad(10.0 * (out - y.detach()).pow(2).sum(1).mean(), copies)
    for p, expected in zip(approximator.parameters(), own):
        assert torch.allclose(p.grad, expected)
    if commitment:
        (to_encoder,) = torch.func.vjp(approximator, z.detach())[1](2 * commitment * distance.detach() / len(x))
        assert torch.allclose(z.grad, to_encoder)
    else:
        assert z.grad is None
        assert all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("approximator", ["independent", "equivariant"])
@pytest.mark.parametrize(("solver", "shape"), [(Ranking(), (4,)), (Assignment(), (3, 4))])
def test_dab_does_not_see_padding(solver, shape, approximator):
    """The gradient, the bridge loss with its own gradients, and the agreement are those of instances without padding."""
    layer = SolverLayer(solver, DAB(approximator, shape=shape)).double()
    z, g = (torch.randn(3, *shape, dtype=torch.float64) for _ in range(2))
    wide = torch.nn.functional.pad(z, (0, 2), value=torch.nan)
    instances = [(z, g, {}), (wide, torch.nn.functional.pad(g, (0, 2)), {"mask": ~wide.isnan()})]
    found = []
    for scores, upstream, instance in instances:
        y = layer(scores, **instance)
        loss = layer.auxiliary_loss(scores, y, **instance)
        own = torch.autograd.grad(loss, layer.rule.approximator.parameters())
        found.append(
            [gradient(layer, scores, upstream, **instance)[..., :4], loss, layer.agreement(scores, y, **instance), *own]
        )
    for plain, padded in zip(*found, strict=True):
        assert torch.allclose(plain, padded)
