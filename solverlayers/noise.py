"""Noise for scores: what perturbation rules draw, and what a layer adds while training.

A `Noise` draws `sample(theta)` in the shape, dtype and device of `theta`. Those with a smooth density also know their
`log_prob`, which the score-function gradient of `Perturbed` needs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .describe import constructor_call


class Noise:
    """A law of independent entries."""

    has_score = False
    """Whether `log_prob` is defined and differentiable."""

    def sample(self, like: Tensor) -> Tensor:
        """Independent draws.  # (...) -> (...)"""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each entry, up to a constant.  # (...) -> (...)"""
        raise TypeError(f"{self!r} has no differentiable density; use Gaussian or Gumbel where one is needed.")

    def __repr__(self) -> str:
        return constructor_call(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}={value!r}; it must be positive.")
    return value


class Gaussian(Noise):
    """Normal noise `N(0, scale^2)`."""

    has_score = True

    def __init__(self, scale: float = 1.0):
        self.scale = _positive("scale", scale)

    def sample(self, like: Tensor) -> Tensor:
        return (torch.randn_like(like, dtype=_wide(like)) * self.scale).to(like)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (value / self.scale) ** 2


class Gumbel(Noise):
    """Gumbel noise with location 0: the argmax of `theta + noise` is distributed as `softmax(theta / scale)`."""

    has_score = True

    def __init__(self, scale: float = 1.0):
        self.scale = _positive("scale", scale)

    def sample(self, like: Tensor) -> Tensor:
        uniform = torch.rand_like(like, dtype=_wide(like))
        exponential = -torch.log1p(-uniform)
        return (-self.scale * exponential.clamp_min(torch.finfo(exponential.dtype).tiny).log()).to(like)

    def log_prob(self, value: Tensor) -> Tensor:
        z = value / self.scale
        return -z - torch.exp(-z)


class SumOfGamma(Noise):
    """Sum-of-Gamma noise: the sum over the `k` ones of a k-subset is Gumbel(0, scale) (Niepert et al., NeurIPS 2021, Theorem 1).

    `scale / k * (sum_{i=1..terms} Gamma(shape 1/k, scale k/i) - log terms)`. The *scale* of the i-th term is `k / i`; some
    published code passes it as a rate, which shrinks the variance about forty times.
    """

    def __init__(self, k: int, scale: float = 1.0, terms: int = 10):
        self.k, self.scale, self.terms = int(_positive("k", k)), _positive("scale", scale), int(_positive("terms", terms))

    def sample(self, like: Tensor) -> Tensor:
        shape = torch.full_like(like, 1.0 / self.k, dtype=_wide(like))
        total = sum(torch._standard_gamma(shape) * (self.k / i) for i in range(1, self.terms + 1))
        return ((total - math.log(self.terms)) * (self.scale / self.k)).to(like)


class TwoPointMargin(Noise):
    """`-alpha/2` or `+alpha/2` with equal chances: a margin without labels (Sahoo et al., ICLR 2023, section 3.3)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = _positive("alpha", alpha)

    def sample(self, like: Tensor) -> Tensor:
        return torch.where(torch.rand_like(like, dtype=_wide(like)) < 0.5, -self.alpha / 2, self.alpha / 2).to(like)


def _wide(like: Tensor) -> torch.dtype:
    """Draws need at least single precision: in half precision the tails would be a handful of values."""
    return torch.promote_types(like.dtype, torch.float32)
