"""Noise: the laws that are promised, and the scores that gradients rest on."""

import math
import re
import time

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.layers import peak_memory
from solverlayers import SolverLayer, gamma_sums, native
from solverlayers.noise import Gaussian, Gumbel, Noise, SumOfGamma, TwoPointMargin, draw_samples
from solverlayers.rules import IMLE, Perturbed
from solverlayers.solvers import Argmax, Assignment, TopK

SUMS = [(1, 1), (1, 10), (2, 5), (5, 10), (5, 11), (10, 10), (10, 30), (3, 200)]


def draws(noise: Noise, n: int = 100_000, dtype=torch.float64) -> torch.Tensor:
    torch.manual_seed(0)
    return noise.sample(torch.empty(n, dtype=dtype))


def greatest_of_ten(z):
    """The distribution function of twice the greatest of ten exponential numbers, less 2 log(10)."""
    return (-np.expm1(-(z / 2 + math.log(10)).clip(0))) ** 10


@pytest.mark.parametrize(
    ("noise", "distribution"),
    [
        (Gaussian(2.0), stats.norm(scale=2).cdf),
        (Gumbel(2.0), stats.gumbel_r(scale=2).cdf),
        (SumOfGamma(1, 2.0, 10), greatest_of_ten),
        (SumOfGamma(4, 4.0, 1), stats.gamma(0.25, scale=4).cdf),
    ],
)
def test_law_and_mean(noise, distribution):
    z = draws(noise)
    assert stats.kstest(z.numpy(), distribution).pvalue > 1e-3
    assert abs(z.mean() - noise.mean) < 5 * z.std() / len(z) ** 0.5


def test_two_point_margin():
    z = draws(TwoPointMargin(0.4))
    assert set(z.tolist()) == {-0.2, 0.2}
    assert abs(z.mean()) < 0.003


@pytest.mark.parametrize(("k", "terms"), SUMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_table_of_sums_has_the_law_of_the_definition(k, terms, dtype):
    noise = SumOfGamma(k, 2.0, terms)
    torch.manual_seed(1)
    like = torch.empty(20_000 if terms > 100 else 100_000, dtype=dtype)
    z, defined = noise.sample(like), noise.sample_gammas(like)
    assert z.dtype == dtype
    assert stats.ks_2samp(z.numpy(), defined.numpy()).pvalue > 1e-3
    assert z.min() >= noise.lowest - 1e-6
    assert abs(z.double().mean() - noise.mean) < 5 * z.std() / len(z) ** 0.5


def test_sums_over_k_are_gumbel():
    noise = SumOfGamma(7, 1.5, 500)
    z = noise.sample(torch.empty(50_000, 7, dtype=torch.float64)).sum(-1)
    assert stats.kstest(z.numpy(), stats.gumbel_r(scale=1.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("terms", [1, 2, 10, 100, 500])
def test_inversion_is_exact_for_the_greatest_exponential(terms):
    log_x = np.linspace(*gamma_sums._range(1, terms), 200)
    x = np.exp(log_x)
    one = np.where(x < 1, np.log(-np.expm1(-x.clip(0, 1))), np.log1p(-np.exp(-x)))  # log F of one of them
    assert np.abs(gamma_sums._log_density(log_x, 1, terms) - (math.log(terms) - x + (terms - 1) * one)).max() < 1e-10
    below = terms * one
    odds = below - np.log(-np.expm1(below))
    assert np.abs(gamma_sums._log_odds(log_x, 1, terms) - odds)[below > -37].max() < 1e-9


@pytest.mark.parametrize("k", [2, 5, 10, 50])
def test_inversion_is_exact_for_one_gamma(k):
    log_x = np.linspace(*gamma_sums._range(k, 1), 200)
    law, x = stats.gamma(1 / k), np.exp(log_x)
    assert np.abs(gamma_sums._log_density(log_x, k, 1) - law.logpdf(x)).max() < 1e-10
    assert np.abs(gamma_sums._log_odds(log_x, k, 1) - law.logcdf(x) + law.logsf(x)).max() < 1e-9


@pytest.mark.parametrize(("k", "terms"), [(1, 10), (5, 12), (3, 200), (5, 40)])
def test_log_density_is_normalised_and_smooth(k, terms):
    noise = SumOfGamma(k, 2.0, terms)
    # X = (z - lowest) / scale has the density exp(log_prob); its moments by quadrature in log X
    log_x = torch.linspace(-14, 4, 20_000, dtype=torch.float64)
    x = log_x.exp()
    mass = (noise.log_prob(noise.lowest + 2 * x) + log_x).exp() * (log_x[1] - log_x[0])
    assert abs(mass.sum() - 1) < 1e-6
    assert abs((mass * x).sum() - sum(1 / i for i in range(1, terms + 1)) / k) < 1e-5
    z = (noise.lowest + 2 * torch.tensor([1e-7, 0.01, 0.3, 1.0, 5.0, 40.0, 200.0], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(noise.log_prob, z, eps=1e-9, rtol=1e-4)
    assert torch.autograd.gradgradcheck(noise.log_prob, z[1:], eps=1e-7, rtol=1e-3)


@pytest.mark.parametrize(
    "noise", [Gaussian(2.0), Gumbel(2.0), SumOfGamma(5, 2.0, 20), SumOfGamma(1, 1.0, 5), SumOfGamma(10, 1.0, 40)], ids=repr
)
def test_score_identities(noise):
    """Of every density that vanishes at the ends: E score = 0, E score z = -1."""
    assert noise.has_score
    z = draws(noise, 400_000).requires_grad_()
    score = torch.autograd.grad(noise.log_prob(z).sum(), z)[0]
    for value, expected in ((score, 0), (score * z.detach(), -1)):
        assert abs(value.mean() - expected) < 5 * value.std() / len(z) ** 0.5


def test_a_density_that_jumps_has_no_usable_score():
    """With `terms = k` the density starts with a jump, and the score's mean is far from zero: refused, and rightly."""
    noise = SumOfGamma(10, 1.0, 10)
    z = draws(noise).requires_grad_()
    assert torch.autograd.grad(noise.log_prob(z).sum(), z)[0].mean() < -1
    assert not noise.has_score
    assert not SumOfGamma(5, 1.0, 10).has_score  # vanishes like x: the variance is infinite
    message = (
        "Perturbed needs noise with a differentiable density, and SumOfGamma(k=10, scale=1.0, terms=10) has none. "
        "Use Gaussian or Gumbel, SumOfGamma with terms > 2 k, or the rule IMLE, which takes any noise."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(TopK(2), Perturbed(noise=noise))
    SolverLayer(TopK(2), IMLE(noise=noise))


def test_table_is_fast():
    noise, like = SumOfGamma(5), torch.empty(20_000)

    def seconds(sample):
        times = []
        for _ in range(5):
            start = time.process_time()
            sample(like)
            times.append(time.process_time() - start)
        return min(times)

    noise.sample(like)
    assert seconds(noise.sample_gammas) > 10 * seconds(noise.sample)  # 60 when measured alone


@pytest.mark.parametrize("noise", [Gaussian(), Gumbel(), SumOfGamma(2), TwoPointMargin()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shapes_and_types(noise, dtype):
    for shape in ((), (0, 3), (2, 3, 4)):
        z = noise.sample(torch.empty(shape, dtype=dtype))
        assert z.shape == shape
        assert z.dtype == dtype
        assert z.isfinite().all()
    assert eval(repr(noise)) == noise


def test_transforms_and_compilation():
    noise = SumOfGamma(2)
    z = torch.vmap(noise.sample, randomness="different")(torch.empty(3, 1000))
    assert z.shape == (3, 1000)
    assert len(z.unique()) > 2000
    x = torch.linspace(-1, 5, 50)
    compiled = torch.compile(noise.log_prob, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), noise.log_prob(x), atol=1e-5)
    sample = torch.compile(noise.sample, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    expected = noise.sample(x)
    torch.manual_seed(0)
    assert torch.allclose(sample(x), expected, atol=1e-5)


def test_a_noise_without_a_mean_says_so():
    with pytest.raises(TypeError, match=r"^Noise\(\) does not say what its mean is; define the property `mean`\.$"):
        _ = Noise().mean


def two_classes(theta: torch.Tensor, sigma: float) -> torch.Tensor:
    """The exact gradient of the chance of the first of two classes under Gaussian noise."""
    spread = sigma * math.sqrt(2)
    density = stats.norm.pdf(((theta[0] - theta[1]) / spread).item()) / spread
    return torch.tensor([density, -density], dtype=theta.dtype)


@pytest.mark.parametrize(("samples", "antithetic"), [(1, False), (2, False), (5, False), (2, True), (4, True), (10, True)])
def test_perturbed_is_unbiased(samples, antithetic):
    theta, sigma = torch.tensor([0.3, -0.2], dtype=torch.float64), 0.7
    x = theta.repeat(40_000, 1).requires_grad_()
    torch.manual_seed(0)
    layer = SolverLayer(Argmax(), Perturbed(sigma, samples, antithetic=antithetic))
    g = torch.autograd.grad(layer(x)[:, 0].sum(), x)[0]
    assert ((g.mean(0) - two_classes(theta, sigma)).abs() < 4 * g.std(0) / len(g) ** 0.5).all()


def test_what_pairs_gain():
    x = torch.tensor([[0.3, -0.2]]).repeat(20_000, 1).requires_grad_()
    torch.manual_seed(0)
    single, paired = (SolverLayer(Argmax(), Perturbed(1.0, 2, antithetic=pairs))(x)[:, 0] for pairs in (False, True))
    assert paired.var() < 0.5 * single.var()
    spread = [torch.autograd.grad(y.sum(), x)[0].var() for y in (single, paired)]
    assert spread[1] < 0.8 * spread[0]


def test_second_derivative_with_pairs():
    """The Hessian of the chance of the first class, exactly -d pdf(d) / spread^2."""
    theta, sigma = torch.tensor([0.3, -0.2], dtype=torch.float64), 0.7
    x = theta.repeat(200_000, 1).requires_grad_()
    torch.manual_seed(0)
    layer = SolverLayer(Argmax(), Perturbed(sigma, 4, antithetic=True))
    g = torch.autograd.grad(layer(x)[:, 0].sum(), x, create_graph=True)[0]
    h = torch.autograd.grad(g[:, 0].sum(), x)[0][:, 0]
    spread = sigma * math.sqrt(2)
    d = 0.5 / spread
    assert abs(h.mean() + d * stats.norm.pdf(d) / spread**2) < 4 * h.std() / len(h) ** 0.5


@pytest.mark.parametrize("noise", [SumOfGamma(2, terms=20), Gumbel(), Gaussian()], ids=repr)
def test_perturbed_against_differences_of_the_smoothed_value(noise):
    theta, cost, sigma, h = torch.tensor([0.5, 0.0, -0.4, 0.2]), torch.tensor([1.0, -2.0, 0.5, 3.0]), 0.8, 0.2
    solver = TopK(2)
    torch.manual_seed(0)
    z = sigma * noise.sample(torch.empty(200_000, 4))
    sides = [torch.stack([solver(theta + s * h * e + z) @ cost for e in torch.eye(4)], 1) for s in (1, -1)]
    reference = (sides[0] - sides[1]) / (2 * h)
    x = theta.repeat(40_000, 1).requires_grad_()
    g = torch.autograd.grad((SolverLayer(solver, Perturbed(sigma, 8, noise))(x) @ cost).sum(), x)[0]
    error = (g.var(0) / len(g) + reference.var(0) / len(reference)).sqrt()
    assert ((g.mean(0) - reference.mean(0)).abs() < 4 * error + 0.02).all()  # the difference itself is of second order in h


def test_pairs_need_symmetric_noise_and_an_even_number():
    for rule in (Perturbed(samples=4, noise=Gumbel(), antithetic=True), Perturbed(samples=3, antithetic=True)):
        message = (
            f"Perturbed: antithetic pairs z, -z need symmetric noise and an even number of samples, but noise={rule.noise!r} "
            f"and samples={rule.samples!r}. Use Gaussian and an even number, or antithetic=False."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            SolverLayer(Argmax(), rule)


KERNEL_LAWS = [Gaussian(2.0), Gumbel(0.5), SumOfGamma(5, 2.0, 20), SumOfGamma(2, 1.0, 10)]
needs_kernel = pytest.mark.skipif(native.library() is None, reason="no compiled kernels")


@pytest.mark.parametrize("noise", KERNEL_LAWS, ids=repr)
def test_single_precision_has_the_same_law(noise):
    z = draws(noise, 200_000, torch.float32)
    assert stats.ks_2samp(z.numpy(), draws(noise, 200_000).numpy()).pvalue > 1e-3
    assert abs(z.double().mean() - noise.mean) < 5 * z.std() / len(z) ** 0.5
    pairs = z.double().reshape(-1, 2).T.corrcoef()[0, 1], z.double().reshape(2, -1).corrcoef()[0, 1]
    assert all(abs(r) < 5 / len(z) ** 0.5 for r in pairs)


@needs_kernel
@pytest.mark.parametrize("noise", KERNEL_LAWS, ids=repr)
def test_numbers_of_a_seed(noise):
    """The same whatever the number of threads; the sum of weighted scores is that of the numbers that were added."""
    base, weights = torch.randn(300, 70, generator=torch.Generator().manual_seed(1)), torch.rand(6, 300)
    threads = torch.get_num_threads()
    made = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(3)
            draw = draw_samples(noise, base, 6)
            made.append((draw.added_to(base, 0.7), draw.weighted_score(weights, base)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*made))
    torch.manual_seed(3)
    z = noise.sample(torch.empty(6, *base.shape))
    assert torch.equal(made[0][0], base + 0.7 * z)
    assert torch.allclose(draw.added_to(torch.zeros_like(base), 1.0), z)
    expected = (weights.double().unsqueeze(-1) * noise.score(z.double())).sum(0)
    assert torch.allclose(made[0][1].double(), expected, rtol=1e-3, atol=2e-3 * expected.abs().mean())


@needs_kernel
@pytest.mark.parametrize(
    ("noise", "law"), [(Gumbel(2.0), stats.gumbel_r(scale=2)), (SumOfGamma(4, 4.0, 1), stats.gamma(0.25, scale=4))]
)
def test_laws_agree_about_the_probability(noise, law):
    """A seed gives the same quantile of each law, be it in the registers of a kernel or, one in 256, further out."""
    z, number = (draws(one, 1_000_000, torch.float32).double().numpy() for one in (Gaussian(), noise))
    expected = np.where(z < 0, law.ppf(stats.norm.cdf(z)), law.isf(stats.norm.sf(z)))
    assert (stats.norm.cdf(-abs(z)) < 1 / 512).sum() > 1000
    assert abs(number - expected).max() < 1e-4
    assert abs(number - expected).mean() < 2e-6


@needs_kernel
@pytest.mark.parametrize("noise", [Gaussian(), Gumbel(), SumOfGamma(2, 1.0, 10)], ids=repr)
def test_a_perturbed_layer_keeps_one_copy_of_scores_and_solutions(noise):
    """Forward and backward, in bytes; the tenth beyond two copies is the batch's own scores, mean and gradient."""
    scores, samples = torch.rand(16, 20, 20, requires_grad=True), 20
    layer = SolverLayer(Assignment(), Perturbed(0.1, samples, noise))
    weights = torch.randn(16, 20, 20)
    copy = samples * scores.numel() * scores.element_size()
    assert peak_memory(lambda: torch.autograd.grad(layer(scores), scores, weights)) < 2.25 * copy


@pytest.mark.parametrize("antithetic", [False, True])
def test_the_short_way_is_the_gradient_of_the_surrogate(antithetic):
    scores, weights = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    layer = SolverLayer(TopK(2), Perturbed(0.5, 4, antithetic=antithetic))
    made = []
    for create_graph in (False, True):
        torch.manual_seed(0)
        made.append(torch.autograd.grad(layer(scores), scores, weights, create_graph=create_graph)[0])
    assert torch.allclose(*made, atol=1e-4)
    assert made[1].requires_grad
