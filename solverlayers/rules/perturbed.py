"""The mean solution under noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..autograd import is_plain, replace_gradient, shortcut
from ..noise import Draw, Gaussian, Noise, draw_samples
from ..oracle import Oracle
from ..samples import advantages, baseline, solutions
from ..solver import Solver
from .base import Rule
from .differences import check_samples, perturbed


class Perturbed(Rule):
    """Perturbed optimiser: the mean solution under noise, differentiable in law (Berthet et al., NeurIPS 2020).

    Forward while training: `mean_s y(theta + sigma z_s)` over `samples` draws, all solved in one call; the value lies in the
    convex hull of the solutions. Backward: the score function of the noise, `mean_s <g, y_s - b_s> grad log p(eta_s | theta)`,
    with the leave-one-out baseline `b_s` (the mean of the other samples), which costs nothing and keeps it unbiased; a single
    sample has no baseline. For Gaussian noise it is formula (3) of the paper. Derivatives of every order are unbiased
    estimates of those of the smoothed solution.

    `multiplicative=True` perturbs `theta exp(sigma z - sigma^2 / 2)`, which keeps the sign of costs (Dalle et al., 2022).
    `antithetic=True` draws half of the samples and takes each with both signs; it needs symmetric noise and an even number of
    samples, and the baseline then leaves out both of a pair. It makes the output less noisy; the gradient, measured, only for
    two samples (about 0.65 times the variance), equally so for four, and more noisy beyond, where the baseline does better.
    """

    def __init__(
        self,
        sigma: float = 1.0,
        samples: int = 10,
        noise: Noise | None = None,
        multiplicative: bool = False,
        antithetic: bool = False,
    ):
        super().__init__()
        self.sigma, self.samples, self.multiplicative, self.antithetic = sigma, samples, multiplicative, antithetic
        self.noise = Gaussian() if noise is None else noise

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        if is_plain() and not self.multiplicative:
            noise = draw_samples(self.noise, theta.detach(), self.samples, self.antithetic)
            with torch.no_grad():
                mean, kept, failed = oracle.mean_argmax(theta.detach(), oracle.tensors, noise, self.sigma)
            oracle.note(failed)
            batch = theta.shape[: theta.ndim - oracle.event_dim]
            way = _ScoreGradient(self, noise, batch, mean.shape[len(batch) :])
            return shortcut(mean, theta, kept, way.pullback, way.surrogate)
        eta, log_prob = perturb(theta, self.sigma, self.samples, self.noise, self.multiplicative, self.antithetic)
        y = oracle(eta)
        log_prob = log_prob.flatten(-oracle.event_dim).sum(-1)
        return replace_gradient(y.mean(0), score_weighted(y, log_prob, pairs=self.antithetic))

    def check(self, solver: Solver) -> None:
        check_perturbation(self, self.sigma, self.samples, self.noise, self.antithetic)


class _ScoreGradient:
    """The score-function gradient of a mean of solutions under additive noise, of solutions or their record."""

    def __init__(self, rule: Perturbed, noise: Draw, batch: torch.Size, event: torch.Size):
        self.rule, self.noise, self.batch, self.event = rule, noise, batch, event

    def pullback(self, theta: Tensor, kept: Tensor, grad: Tensor) -> Tensor:
        """`-mean_s <grad, y_s - b_s> score(z_s) / sigma`.  # (*B, *E), kept, (*B, *F) -> (*B, *E)"""
        scale = -1 / (self.rule.sigma * len(kept))
        weight = advantages(kept, grad, self.batch, scale, self.rule.antithetic)
        out = self.noise.weighted_score(weight, theta).to(theta.dtype)
        if not math.isfinite(theta.sum()):  # infinite scores forbid entries, whatever the noise
            out = torch.where(theta.isinf(), 0, out)
        return out

    def surrogate(self, theta: Tensor, kept: Tensor) -> Tensor:
        """What `pullback` is the gradient of, in plain autograd."""
        z = self.noise.added_to(torch.zeros_like(theta), 1.0)
        log_prob = self.rule.noise.log_prob(z + _zero(theta.detach() - theta) / self.rule.sigma)
        y = solutions(kept, self.event, theta.dtype)
        return score_weighted(y, log_prob.flatten(1 + len(self.batch)).sum(-1), self.rule.antithetic)


def check_perturbation(asker: object, sigma: float, samples: int, noise: Noise, antithetic: bool) -> None:
    """Refuses noise without a usable score, pairs of noise that is not symmetric, and odd numbers of paired samples."""
    name = type(asker).__name__
    check_samples(asker, samples, sigma, noise)
    if not noise.has_score:
        raise ValueError(
            f"{name} needs noise with a differentiable density, and {noise!r} has none. "
            f"Use Gaussian or Gumbel, SumOfGamma with terms > 2 k, or the rule IMLE, which takes any noise."
        )
    if antithetic and (samples % 2 or not noise.symmetric):
        raise ValueError(
            f"{name}: antithetic pairs z, -z need symmetric noise and an even number of samples, but noise={noise!r} and "
            f"samples={samples!r}. Use Gaussian and an even number, or antithetic=False."
        )


def perturb(
    theta: Tensor, sigma: float, samples: int, noise: Noise, multiplicative: bool = False, antithetic: bool = False
) -> tuple[Tensor, Tensor]:
    """Perturbed scores, held constant, and the log-density of each given `theta`.  # (*E) -> (S, *E), (S, *E)

    Additive: `eta = theta + sigma z`. Multiplicative, which keeps signs: `eta = theta exp(sigma z - sigma^2 / 2)`.
    """
    start = theta.detach()
    if antithetic:
        half = noise.sample(start.expand(samples // 2, *theta.shape))
        z = torch.cat([half, -half])
    else:
        z = noise.sample(start.expand(samples, *theta.shape))
    eta = perturbed(start, sigma, z, multiplicative)
    if not multiplicative:
        # the argument is z exactly, with the derivatives of (eta - theta) / sigma
        return eta, noise.log_prob(z + _zero(start - theta) / sigma)
    size = torch.where(theta == 0, 1, theta).abs().log()  # a score of exactly zero stays zero whatever the noise
    return eta, noise.log_prob(z - _zero(size - size.detach()) / sigma)  # log|eta| = log|theta| + sigma z - sigma^2/2 is held


def _zero(difference: Tensor) -> Tensor:
    """A difference that is zero in value, also of infinite scores, which forbid entries and get no gradient."""
    return difference.nan_to_num(0.0)


def score_weighted(y: Tensor, log_prob: Tensor, pairs: bool = False) -> Tensor:
    """A surrogate whose derivatives of every order are those of E[y].  # (S, *B, *E), (S, *B) -> (*B, *E)

    `exp(log p - stop(log p))` is one in value and carries all derivatives of the density (Foerster et al., ICML 2018); the
    baseline of a sample does not depend on it, so it leaves every expectation alone. With `pairs` the two halves of the
    samples mirror each other, and the baseline leaves out a sample and its mirror image.
    """
    weight = torch.exp(log_prob - log_prob.detach())
    return ((y - baseline(y.detach(), pairs)) * weight[(...,) + (None,) * (y.ndim - weight.ndim)]).mean(0)
