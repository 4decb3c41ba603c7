"""Distributions over solutions, against enumeration."""

import copy
import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from solverlayers.distributions import KSubset, PerturbedSolution, PlackettLuce
from solverlayers.noise import Gumbel
from solverlayers.solvers import Argmax, Ranking, TopK

close = torch.testing.assert_close


def logits_of(seed: int, *shape: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def subsets(n: int, k: int) -> torch.Tensor:
    """All subsets, made independently of the class.  # (count, n)"""
    return torch.tensor([y for y in itertools.product((0.0, 1.0), repeat=n) if sum(y) == k], dtype=torch.float64)


def orders_log_prob(logits: torch.Tensor, ranks: tuple[int, ...]) -> float:
    """Plackett-Luce by drawing without replacement, one by one."""
    left, total = list(range(len(ranks))), 0.0
    for item in sorted(left, key=lambda i: -ranks[i]):
        total += float(logits[item]) - math.log(sum(math.exp(float(logits[i])) for i in left))
        left.remove(item)
    return total


def assert_frequencies(samples: torch.Tensor, support: torch.Tensor, probabilities: torch.Tensor) -> None:
    """Every solution is drawn as often as it should be, within five standard errors.  # (S, n), (count, n), (count,)"""
    seen = (samples[:, None] == support).all(-1).double()
    assert (seen.sum(-1) == 1).all()
    error = (probabilities * (1 - probabilities) / len(samples)).sqrt()
    assert ((seen.mean(0) - probabilities).abs() <= 5 * error + 1e-12).all()


# ---- k-subsets ----


@given(seed=st.integers(0, 2**31), n=st.integers(1, 6), data=st.data())
@settings(max_examples=40, deadline=None)
def test_k_subset_against_enumeration(seed, n, data):
    k = data.draw(st.integers(0, n))
    logits, other = logits_of(seed, 2, n), logits_of(seed + 1, 2, n)
    d, y = KSubset(logits, k), subsets(n, k)[:, None]
    weights = (y * logits).sum(-1)
    p = weights.softmax(0)
    close(d.log_partition, weights.logsumexp(0))
    close(d.log_prob(y), p.log())
    close(d.marginals, (p[..., None] * y).sum(0))
    close(d.mean, d.marginals)
    close(d.variance, (p[..., None] * y**2).sum(0) - d.marginals**2)
    close(d.entropy(), -(p * p.log()).sum(0))
    close(kl_divergence(d, KSubset(other, k)), (p * (p.log() - KSubset(other, k).log_prob(y))).sum(0))
    close(kl_divergence(d, d.uniform()), math.log(math.comb(n, k)) - d.entropy())
    close(d.mode, TopK(k)(logits))
    listed = d.enumerate_support()
    assert listed.shape == (math.comb(n, k), 2, n)
    close(listed[:, 0].sort(0).values, y[:, 0].sort(0).values)
    close(d.log_prob(listed).logsumexp(0), torch.zeros(2, dtype=torch.float64))


def test_k_subset_samples_follow_the_law():
    torch.manual_seed(0)
    logits = logits_of(1, 2, 5)
    d = KSubset(logits, torch.tensor([2, 4]))
    samples = d.sample((20_000,))
    assert samples.shape == (20_000, 2, 5)
    for b, k in enumerate((2, 4)):
        support = subsets(5, k)
        assert_frequencies(samples[:, b], support, (support * logits[b]).sum(-1).softmax(0))


def test_k_subset_with_masks_is_the_smaller_problem():
    logits = logits_of(2, 3, 7)
    mask = torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    mask[:, :2] = True
    k = torch.tensor([1, 2, 0])
    garbage = torch.where(mask, logits, torch.tensor([math.nan, math.inf, -math.inf, 5.0, math.nan, 1e30, 0.0]).double())
    torch.manual_seed(0)
    d = KSubset(garbage.requires_grad_(), k, mask)
    y = d.sample((50,))
    assert (y[:, ~mask] == 0).all()
    assert (y.sum(-1) == k).all()
    (gradient,) = torch.autograd.grad(d.entropy().sum() + d.log_prob(y).sum(), garbage)
    assert (gradient[~mask] == 0).all()
    assert gradient.isfinite().all()
    for b in range(3):
        small = KSubset(logits[b, mask[b]], int(k[b]))
        close(d.marginals[b, mask[b]], small.marginals)
        close(d.entropy()[b], small.entropy())
        close(d.log_prob(y)[:, b], small.log_prob(y[:, b, mask[b]]))
        close(d.mode[b, mask[b]], small.mode)
    assert (d.marginals[~mask] == 0).all()


def test_k_subset_minus_infinity_is_never_chosen():
    d = KSubset(torch.tensor([0.0, -math.inf, 1.0, 2.0]), 2)
    small = KSubset(torch.tensor([0.0, 1.0, 2.0]), 2)
    close(d.marginals, small.marginals[[0, 0, 1, 2]] * torch.tensor([1.0, 0, 1, 1]))
    close(d.entropy(), small.entropy())
    assert float(d.log_prob(torch.tensor([1.0, 1.0, 0.0, 0.0])).exp()) == 0.0
    assert math.isinf(kl_divergence(d.uniform().expand(()), KSubset(torch.tensor([-math.inf, 0.0, 0.0, 0.0]), 2)))


def test_k_subset_large_problems_against_polynomials():
    logits = logits_of(3, 60, scale=1.0)
    polynomial = np.ones(1)
    for odds in np.exp(logits.numpy()):
        polynomial = np.convolve(polynomial, [1, odds])
    for k in (0, 1, 17, 60):
        d = KSubset(logits, k)
        assert float(d.log_partition) == pytest.approx(math.log(polynomial[k]), rel=1e-12)
        single = KSubset(logits.float(), k).marginals
        close(single.double(), d.marginals, rtol=1e-5, atol=1e-7)
    many = KSubset(torch.zeros(3, 1000), 250)
    close(many.marginals, torch.full((3, 1000), 0.25))
    assert (many.sample((2,)).sum(-1) == 250).all()


def test_k_subset_extreme_logits_are_stable():
    logits = torch.tensor([5e4, -5e4, 1e-3, 0.0, 5e4], requires_grad=True)
    d = KSubset(logits, 3)
    close(d.marginals, torch.tensor([1.0, 0.0, 0.50025, 0.49975, 1.0]))
    (gradient,) = torch.autograd.grad(d.entropy(), logits)
    assert gradient.isfinite().all()


def test_k_subset_derivatives_of_two_orders():
    x = logits_of(4, 2, 4).requires_grad_()
    mask = torch.tensor([[True] * 4, [True, False, True, True]])
    for quantity in ("marginals", "log_partition", "entropy"):

        def f(t, quantity=quantity):
            value = getattr(KSubset(t, torch.tensor([1, 2]), mask, validate_args=False), quantity)
            return value() if callable(value) else value

        assert torch.autograd.gradcheck(f, x)
        assert torch.autograd.gradgradcheck(f, x)


def test_k_subset_edges_and_shapes():
    assert KSubset(torch.zeros(2, 0), 0).sample((3,)).shape == (3, 2, 0)
    assert KSubset(torch.zeros(0, 4), 2).marginals.shape == (0, 4)
    d = KSubset(torch.zeros(4), torch.tensor([1, 2, 3]))
    assert (d.batch_shape, d.event_shape) == ((3,), (4,))
    wide = d.expand((5, 3))
    assert wide.sample((2,)).shape == (2, 5, 3, 4)
    close(wide.entropy()[0], d.entropy())
    half = KSubset(torch.zeros(4, dtype=torch.bfloat16), 2)
    assert half.marginals.dtype == half.sample().dtype == torch.bfloat16
    close(copy.deepcopy(d).marginals, d.marginals)


def test_k_subset_under_vmap():
    logits, k = logits_of(5, 3, 5), torch.tensor([0, 2, 5])
    d = KSubset(logits, k)
    close(torch.func.vmap(lambda t, c: KSubset(t, c).marginals)(logits, k), d.marginals)
    hessian = torch.func.vmap(torch.func.jacrev(torch.func.grad(lambda t: KSubset(t, 2).log_partition)))(logits)
    y = subsets(5, 2)
    for b in range(3):
        p = (y * logits[b]).sum(-1).softmax(0)
        close(hessian[b], torch.einsum("s,si,sj->ij", p, y, y) - torch.outer(p @ y, p @ y))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: KSubset(torch.zeros(3), 4), ValueError, "KSubset: k=4 of 3 items; choose k from 0 to 3."),
        (
            lambda: KSubset(torch.zeros(2, 3), torch.tensor([1, -2])),
            ValueError,
            "KSubset: k=-2 but instance (1,) has 3 items that can be chosen (1 of 2 instances are impossible). "
            "Choose k from 0 to that number.",
        ),
        (
            lambda: KSubset(torch.zeros(2, 3), 2, torch.tensor([[True, True, True], [True, False, False]])),
            ValueError,
            "KSubset: k=2 but instance (1,) has 1 items that can be chosen (1 of 2 instances are impossible). "
            "Choose k from 0 to that number.",
        ),
        (
            lambda: KSubset(torch.zeros(3), torch.tensor(1.0)),
            TypeError,
            "KSubset: k is torch.float32; it is an integer, or one integer per instance. Use `k.long()`.",
        ),
        (
            lambda: KSubset(torch.zeros(3, dtype=torch.long), 1),
            TypeError,
            "KSubset: logits are torch.int64; they are floating-point numbers. Use `logits.float()`.",
        ),
        (
            lambda: KSubset(torch.tensor([0.0, math.inf]), 1),
            ValueError,
            "KSubset: some logits are +inf; an item that is always chosen needs a large finite logit.",
        ),
        (
            lambda: PlackettLuce(torch.zeros(3), torch.ones(3)),
            TypeError,
            "PlackettLuce: mask is torch.float32; a mask is torch.bool, True for items that exist. Use `mask.bool()`.",
        ),
        (
            lambda: PlackettLuce(torch.zeros(3), torch.ones(4, dtype=torch.bool)),
            ValueError,
            "PlackettLuce: mask has shape (4,) but logits have shape (3,); a mask has the shape of the logits, or one that "
            "broadcasts to it.",
        ),
        (
            lambda: PlackettLuce(torch.tensor(0.0)),
            ValueError,
            "PlackettLuce: logits are a single number; the last dimension holds the items. Use shape (*batch, n).",
        ),
        (
            lambda: PlackettLuce(torch.tensor([0.0, -math.inf])),
            ValueError,
            "PlackettLuce: some logits are infinite; use finite ones, and `mask` for items that do not exist.",
        ),
        (
            lambda: PlackettLuce(torch.zeros(17)).entropy(),
            NotImplementedError,
            "PlackettLuce: this sums over all subsets of 17 items; at most 16 are allowed. Estimate it from samples, for "
            "instance the entropy as `-d.log_prob(d.sample((1000,))).mean(0)`.",
        ),
        (
            lambda: kl_divergence(PlackettLuce(torch.zeros(2)), PlackettLuce(torch.zeros(2), torch.tensor([True, False]))),
            ValueError,
            "kl_divergence(PlackettLuce, PlackettLuce): the masks differ, so the orders are of different items.",
        ),
        (
            lambda: PerturbedSolution(TopK(1), torch.zeros(3)),
            ValueError,
            "PerturbedSolution: scores have shape (3,); TopK(k=1, largest=True) takes a batch dimension and 1 more.",
        ),
        (
            lambda: PerturbedSolution(TopK(1), torch.zeros(1, 3), sigma=0.0),
            ValueError,
            "PerturbedSolution: sigma=0.0; it must be positive.",
        ),
        (
            lambda: PerturbedSolution(TopK(1), torch.zeros(1, 3)).log_prob(torch.zeros(1, 3)),
            NotImplementedError,
            "PerturbedSolution: the probability of a solution is that of its cone, which has no closed form. The estimators "
            "ScoreFunction and LAX need none; KSubset and PlackettLuce have one.",
        ),
    ],
)
def test_errors_say_what_to_do(build, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        build()


@pytest.mark.parametrize(
    ("d", "value"),
    [
        (KSubset(torch.zeros(3), 2), [1.0, 0.0, 0.0]),
        (KSubset(torch.zeros(3), 2), [2.0, 0.0, 0.0]),
        (KSubset(torch.zeros(3), 1, torch.tensor([True, True, False])), [0.0, 0.0, 1.0]),
        (PlackettLuce(torch.zeros(3)), [1.0, 1.0, 2.0]),
        (PlackettLuce(torch.zeros(3)), [0.0, 1.0, 2.0]),
        (PlackettLuce(torch.zeros(3), torch.tensor([True, True, False])), [0.0, 1.0, 2.0]),
    ],
)
def test_values_outside_the_support_are_refused(d, value):
    with pytest.raises(ValueError, match="Expected value argument"):
        d.log_prob(torch.tensor(value))
    assert bool(d.support.check(d.sample()))


# ---- Plackett-Luce ----


@given(seed=st.integers(0, 2**31), n=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_plackett_luce_against_enumeration(seed, n):
    logits = logits_of(seed, 2, n)
    d, other = PlackettLuce(logits), PlackettLuce(logits_of(seed + 1, 2, n))
    orders = list(itertools.permutations(range(1, n + 1)))
    y = torch.tensor(orders, dtype=torch.float64)[:, None]
    log_p = torch.tensor([[orders_log_prob(row, order) for row in logits] for order in orders], dtype=torch.float64)
    p = log_p.exp()
    close(d.log_prob(y), log_p)
    close(d.mean, (p[..., None] * y).sum(0))
    close(d.entropy(), -(p * log_p).sum(0))
    places = (y[..., None] == torch.arange(1, n + 1)).double()  # (n!, 1, n, n)
    close(d.rank_probabilities, (p[..., None, None] * places).sum(0))
    close(kl_divergence(d, other), (p * (log_p - other.log_prob(y))).sum(0))
    close(kl_divergence(d, d.uniform()), math.lgamma(n + 1) - d.entropy())
    close(d.mode, Ranking()(logits))
    assert torch.equal(d.enumerate_support()[:, 0], y[:, 0])


def test_plackett_luce_samples_follow_the_law():
    torch.manual_seed(0)
    d = PlackettLuce(logits_of(1, 4, scale=1.0))
    support = d.enumerate_support()
    assert_frequencies(d.sample((20_000,)), support, d.log_prob(support).exp())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        y = d.sample((7,))
        torch.manual_seed(3)
        assert torch.equal(y, Ranking()(d.logits + Gumbel().sample(d.logits.expand(7, 4))))


def test_plackett_luce_with_masks_is_the_smaller_problem():
    logits = logits_of(2, 3, 6)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0]]).bool()
    garbage = torch.where(mask, logits, torch.tensor([math.nan, math.inf, -math.inf, 5.0, math.nan, 1e30]).double())
    torch.manual_seed(0)
    d = PlackettLuce(garbage.requires_grad_(), mask)
    y = d.sample((20,))
    close(y, Ranking()(y.flatten(0, 1), mask=mask.repeat(20, 1)).view_as(y))  # the ranks of ranks are the ranks
    for b in range(3):
        small = PlackettLuce(logits[b, mask[b]])
        close(d.log_prob(y)[:, b], small.log_prob(y[:, b, mask[b]]))
        close(d.mean[b, mask[b]], small.mean)
        close(d.entropy()[b], small.entropy())
        close(d.mode[b, mask[b]], small.mode)
        close(d.rank_probabilities[b][mask[b]][:, : int(mask[b].sum())], small.rank_probabilities)
    (gradient,) = torch.autograd.grad(d.entropy().sum() + d.log_prob(y).sum() + d.mean.square().sum(), garbage)
    assert (gradient[~mask] == 0).all()
    assert gradient.isfinite().all()


def test_plackett_luce_derivatives_of_two_orders():
    x = logits_of(3, 2, 4).requires_grad_()
    mask = torch.tensor([[True] * 4, [True, False, True, True]])
    y = PlackettLuce(x.detach(), mask).mode
    for f in (
        lambda t: PlackettLuce(t, mask, validate_args=False).log_prob(y),
        lambda t: PlackettLuce(t, mask, validate_args=False).entropy(),
        lambda t: PlackettLuce(t, mask, validate_args=False).mean,
    ):
        assert torch.autograd.gradcheck(f, x)
        assert torch.autograd.gradgradcheck(f, x)


def test_plackett_luce_edges_and_shapes():
    extreme = PlackettLuce(torch.tensor([1e4, 0.0, -1e4]))
    close(extreme.log_prob(torch.tensor([3.0, 2.0, 1.0])), torch.tensor(0.0))
    close(extreme.entropy(), torch.tensor(0.0))
    d = PlackettLuce(torch.zeros(3, 4)).expand((2, 3))
    assert (d.batch_shape, d.event_shape, d.sample((5,)).shape) == ((2, 3), (4,), (5, 2, 3, 4))
    assert PlackettLuce(torch.zeros(0, 4)).sample().shape == (0, 4)
    logits = logits_of(6, 3, 4)
    close(torch.func.vmap(lambda t: PlackettLuce(t).entropy())(logits), PlackettLuce(logits).entropy())


# ---- any solver ----


def test_perturbed_argmax_under_gumbel_noise_is_categorical():
    torch.manual_seed(0)
    scores = logits_of(7, 1, 3)
    mask = torch.tensor([[True, True, False]])
    for sense, instance in ((1, {}), (1, {"mask": mask})):
        d = PerturbedSolution(Argmax(), sense * scores, sigma=2.0, noise=Gumbel(), **instance)
        y = d.sample((20_000,))
        assert (d.batch_shape, d.event_shape, y.shape) == ((1,), (3,), (20_000, 1, 3))
        p = torch.where(mask, scores, -math.inf if instance else scores).div(2).softmax(-1)[0]
        support = torch.eye(3, dtype=torch.float64)
        assert_frequencies(y[:, 0], support, p)


def test_perturbed_costs_are_minimised():
    torch.manual_seed(0)
    y = PerturbedSolution(TopK(1, largest=False), torch.tensor([[0.0, 50.0]]), sigma=0.1).sample((100,))
    assert torch.equal(y, torch.tensor([1.0, 0.0]).expand(100, 1, 2))
