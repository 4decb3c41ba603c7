"""Pairs of antithetic Bernoulli samples that share their noise."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..autograd import given_gradient
from .base import Estimator, Loss, check_samples, evaluate
from .latents import BernoulliLatent, latent, uniform_like


class _Antithetic(Estimator):
    """`mean_s (f(b_s) - f(b'_s)) w_s` with `b = [1 - u < p]`, `b' = [u < p]` and weights that need no derivative of `f`.

    Each sample is a pair, so the loss is evaluated `2 * samples` times. The value is the mean of both.
    """

    def __init__(self, samples: int = 1):
        super().__init__()
        self.samples = check_samples(self, samples)

    @abstractmethod
    def weight(self, logits: Tensor, uniform: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """What multiplies the difference of losses, per entry.  # (S, *B, *E)"""

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        found = latent(distribution, type(self).__name__)
        if not isinstance(found, BernoulliLatent):
            raise TypeError(
                f"{type(self).__name__} is for Bernoulli latents (also under Independent), not "
                f"{type(distribution).__name__}. Use REBAR, RELAX or ScoreFunction."
            )
        with torch.no_grad():
            uniform = uniform_like(found.theta, self.samples)
            p = torch.sigmoid(found.theta)
            first, second = (1 - uniform < p).to(p), (uniform < p).to(p)
            weight = self.weight(found.theta, uniform, first, second)
        losses = evaluate(self, loss, torch.cat([first, second]), distribution.batch_shape)
        difference = (losses[: self.samples] - losses[self.samples :]).detach()
        gradient = (difference[(...,) + (None,) * found.event_dim] * weight).mean(0)
        return given_gradient(losses.mean(0), found.theta, gradient)


class ARM(_Antithetic):
    """Augment-REINFORCE-merge: `(f(b) - f(b')) (u - 1/2)` (Yin & Zhou, ICLR 2019). Unbiased, for Bernoulli latents."""

    def weight(self, logits: Tensor, uniform: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return uniform - 0.5


class DisARM(_Antithetic):
    """ARM without its noise: `1/2 (f(b) - f(b')) (b - b') sigmoid(|logit|)` (Dong, Mnih & Tucker, NeurIPS 2020). Unbiased.

    The expectation of ARM given the pair, so its variance is never larger; for Bernoulli latents.
    """

    def weight(self, logits: Tensor, uniform: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return 0.5 * (first - second) * torch.sigmoid(logits.abs())
