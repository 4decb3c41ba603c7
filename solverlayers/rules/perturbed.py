"""The mean solution under noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autograd import replace_gradient
from ..noise import Gaussian, Noise
from ..oracle import Oracle
from ..solver import Solver
from .base import Rule
from .differences import check_samples, perturb


class Perturbed(Rule):
    """Perturbed optimiser: the mean solution under noise, differentiable in law (Berthet et al., NeurIPS 2020).

    Forward while training: `mean_s y(theta + sigma z_s)` over `samples` draws, all solved in one call; the value lies in the
    convex hull of the solutions. Backward: the score function of the noise, `mean_s <g, y_s - b_s> grad log p(eta_s | theta)`,
    with the leave-one-out baseline `b_s` (the mean of the other samples), which costs nothing and keeps it unbiased; a single
    sample has no baseline. For Gaussian noise it is formula (3) of the paper. Derivatives of every order are unbiased
    estimates of those of the smoothed solution.

    `multiplicative=True` perturbs `theta exp(sigma z - sigma^2 / 2)`, which keeps the sign of costs (Dalle et al., 2022).
    """

    def __init__(
        self, sigma: float = 1.0, samples: int = 10, noise: Noise | None = None, multiplicative: bool = False
    ):
        super().__init__()
        self.sigma, self.samples, self.multiplicative = sigma, samples, multiplicative
        self.noise = Gaussian() if noise is None else noise

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        eta, log_prob = perturb(theta, self.sigma, self.samples, self.noise, self.multiplicative)
        y = oracle(eta)
        return replace_gradient(y.mean(0), _score_weighted(y, log_prob.flatten(-oracle.event_dim).sum(-1)))

    def check(self, solver: Solver) -> None:
        check_samples(self, self.samples, self.sigma)
        if not self.noise.has_score:
            raise ValueError(
                f"Perturbed needs noise with a differentiable density, and {self.noise!r} has none. "
                f"Use Gaussian or Gumbel, or the rule IMLE, which takes any noise."
            )


def _score_weighted(y: Tensor, log_prob: Tensor) -> Tensor:
    """A surrogate whose derivatives of every order are those of E[y].  # (S, *B, *E), (S, *B) -> (*B, *E)

    `exp(log p - stop(log p))` is one in value and carries all derivatives of the density (Foerster et al., ICML 2018); the
    baseline of a sample does not depend on it, so it leaves every expectation alone.
    """
    weight = torch.exp(log_prob - log_prob.detach())
    samples = len(y)
    baseline = (y.sum(0) - y) / max(samples - 1, 1)
    return ((y - baseline) * weight[(...,) + (None,) * (y.ndim - weight.ndim)]).mean(0)
