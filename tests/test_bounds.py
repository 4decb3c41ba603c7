"""Bounds of latent-variable models beside sums over all codes."""

import itertools
import math

import pytest
import torch
from torch.distributions import OneHotCategorical, kl_divergence

from solverlayers.tasks import bounds


def gumbel_codes(logits: torch.Tensor) -> torch.Tensor:
    return OneHotCategorical(logits=logits).sample()


def test_rate_is_the_kl_divergence() -> None:
    torch.manual_seed(0)
    logits, prior = torch.randn(5, 3, 4), torch.randn(3, 4)
    expected = kl_divergence(OneHotCategorical(logits=logits), OneHotCategorical(logits=prior)).sum(-1)
    torch.testing.assert_close(bounds.rate(logits, prior), expected)


def test_the_importance_bound_tends_to_the_likelihood() -> None:
    """Beside the sum over all 9 codes of a model whose distortion is a table."""
    torch.manual_seed(0)
    logits, prior, table = torch.randn(4, 2, 3), torch.randn(2, 3), 3 * torch.rand(4, 3, 3)
    log_prior = prior.log_softmax(-1)
    joint = log_prior[0][:, None] + log_prior[1] - table  # (B, 3, 3), log p(x, z)
    likelihood = -joint.flatten(1).logsumexp(1)

    def draw(samples: int) -> torch.Tensor:
        codes = gumbel_codes(logits.expand(samples, 4, 2, 3))
        distortion = torch.einsum("kbi,kbj,bij->kb", codes[:, :, 0], codes[:, :, 1], table)
        return bounds.log_weights(logits, prior, codes, distortion)

    many, single = bounds.importance_bound(draw, samples=200_000, chunk=30_000)
    torch.testing.assert_close(many, likelihood, atol=0.02, rtol=0)
    posterior = logits.log_softmax(-1)
    q = (posterior[:, 0, :, None] + posterior[:, 1, None, :]).exp()
    elbo = (q * (joint - posterior[:, 0, :, None] - posterior[:, 1, None, :])).sum((1, 2))
    torch.testing.assert_close(single, -elbo, atol=0.02, rtol=0)
    assert (single > many).all()


def test_the_importance_bound_does_not_depend_on_the_chunks() -> None:
    weights = torch.randn(7, 3)
    for chunk in (1, 3, 7, 100):
        left = list(weights)
        many, single = bounds.importance_bound(lambda k, left=left: torch.stack([left.pop(0) for _ in range(k)]), 7, chunk)
        torch.testing.assert_close(many, -weights.exp().mean(0).log())
        torch.testing.assert_close(single, -weights.mean(0))


def test_information_is_bracketed() -> None:
    """On average the lower bound is the information of the instances themselves, by a sum over all codes."""
    torch.manual_seed(0)
    logits = 2 * torch.randn(40, 2, 3)
    log_q = logits.log_softmax(-1)
    table = torch.stack([log_q[:, 0, i] + log_q[:, 1, j] for i, j in itertools.product(range(3), repeat=2)], 1)
    exact = float((table.exp() * (table - table.logsumexp(0) + math.log(40))).sum(1).mean())
    drawn = torch.tensor([bounds.information(logits, gumbel_codes(logits)) for _ in range(300)])
    lower, upper = drawn.mean(0).tolist()
    assert lower == pytest.approx(exact, abs=0.02)
    assert lower < upper
    assert lower < float(bounds.rate(logits, torch.zeros(2, 3)).mean())
    certain = 50 * torch.eye(6)[:, None]  # each instance has a code of its own
    assert bounds.information(certain, torch.eye(6)[:, None])[0] == pytest.approx(math.log(6), abs=1e-4)


def test_usage() -> None:
    alike = 50 * torch.eye(4)[[0] * 8][:, None]
    spread = 50 * torch.eye(4)[[0, 1, 2, 3] * 2][:, None]
    assert bounds.usage(alike, alike / 50) == pytest.approx((1, 0.25))
    assert bounds.usage(spread, spread / 50) == pytest.approx((4, 1))


@pytest.mark.parametrize("least", [0.5, 0.9])
def test_committed_posteriors_have_their_rate(least: float) -> None:
    torch.manual_seed(0)
    logits = torch.cat([torch.randn(200, 3, 5), 40 * torch.randn(50, 3, 5), torch.zeros(1, 3, 5)]).requires_grad_()
    committed = bounds.commit(logits, least)
    p, free = committed.softmax(-1), logits.softmax(-1)
    assert (p.amax(-1) >= least - 1e-6).all()
    already = free.amax(-1) >= least
    torch.testing.assert_close(p[already], free[already])
    torch.testing.assert_close(p[~already].amax(-1), torch.full_like(p[~already].amax(-1), least))
    assert torch.equal(p.argmax(-1), free.argmax(-1))
    rate = bounds.rate(committed, torch.zeros(3, 5))
    assert (rate >= 3 * bounds.committed_rate(least, 5) - 1e-5).all()
    assert rate[-1].item() == pytest.approx(3 * bounds.committed_rate(least, 5), abs=1e-5)  # equal others attain it
    (gradient,) = torch.autograd.grad(rate.sum(), logits)
    assert gradient.isfinite().all()
