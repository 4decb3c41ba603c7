"""Noise for scores: what perturbation rules draw, and what a layer adds while training.

A `Noise` draws `sample(theta)` in the shape, dtype and device of `theta`. Those with a smooth density also know their
`log_prob`, which the score-function gradient of `Perturbed` needs. Those that know their `quantiles` are drawn by a compiled
kernel (float32, on the CPU, in plain eager mode); other values of the same law come from torch, where that cannot serve.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from . import gamma_sums, seeded_noise
from .arguments import check_counts, check_positive
from .describe import constructor_call

T = TypeVar("T")

_EULER = 0.5772156649015329
"""The mean of the standard Gumbel law."""


class Noise:
    """A law of independent entries."""

    has_score = False
    """Whether `log_prob` is defined and its derivative estimates gradients without bias and with finite variance."""
    symmetric = False
    """Whether `z` and `-z` have the same law."""

    @property
    def mean(self) -> float:
        """The mean of an entry; Fenchel-Young losses need it for their value."""
        raise TypeError(f"{self!r} does not say what its mean is; define the property `mean`.")

    def sample(self, like: Tensor) -> Tensor:
        """Independent draws.  # (...) -> (...)"""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each entry, up to a constant.  # (...) -> (...)"""
        raise TypeError(f"{self!r} has no differentiable density; use Gaussian, Gumbel or SumOfGamma where one is needed.")

    def score(self, value: Tensor) -> Tensor:
        """The derivative of `log_prob`, without a graph.  # (...) -> (...)"""
        with torch.enable_grad():
            value = value.detach().requires_grad_()
            return torch.autograd.grad(self.log_prob(value).sum(), value)[0]

    def __repr__(self) -> str:
        return constructor_call(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class SmoothNoise(Noise):
    """A law that knows its quantiles, from which the compiled kernel draws.

    Values have the law to about 1e-5 of their own size, and no mass further out than the probability 2^-33.
    """

    @property
    def arguments(self) -> tuple[float, ...]:
        """What the constructor was called with."""
        raise NotImplementedError

    def quantiles(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers that the law is below, and above, with probability `p <= 1/2`, in float64.  # (P,) -> (P,), (P,)"""
        raise NotImplementedError

    def sample(self, like: Tensor) -> Tensor:
        if not seeded_noise.can_serve(like):
            return self.sample_torch(like)
        return seeded_noise.sample(_seeded_tables(type(self), *self.arguments)[0], like.shape)

    def sample_torch(self, like: Tensor) -> Tensor:
        """Independent draws by torch's own generator, on any device.  # (...) -> (...)"""
        raise NotImplementedError


class Gaussian(SmoothNoise):
    """Normal noise `N(0, scale^2)`."""

    has_score = True
    symmetric = True
    mean = 0.0

    def __init__(self, scale: float = 1.0):
        self.scale = scale
        check_positive(self, "scale")

    @property
    def arguments(self) -> tuple[float, ...]:
        return (self.scale,)

    def sample_torch(self, like: Tensor) -> Tensor:
        return (torch.randn_like(like, dtype=_wide(like)) * self.scale).to(like)

    def quantiles(self, p: Tensor) -> tuple[Tensor, Tensor]:
        lower = self.scale * torch.special.ndtri(p)
        return lower, -lower

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (value / self.scale) ** 2

    def score(self, value: Tensor) -> Tensor:
        return value / -(self.scale**2)


class Gumbel(SmoothNoise):
    """Gumbel noise with location 0: the argmax of `theta + noise` is distributed as `softmax(theta / scale)`."""

    has_score = True

    def __init__(self, scale: float = 1.0):
        self.scale = scale
        check_positive(self, "scale")

    @property
    def arguments(self) -> tuple[float, ...]:
        return (self.scale,)

    @property
    def mean(self) -> float:
        return self.scale * _EULER

    def sample_torch(self, like: Tensor) -> Tensor:
        uniform = torch.rand_like(like, dtype=_wide(like))
        exponential = -torch.log1p(-uniform)
        return (-self.scale * exponential.clamp_min(torch.finfo(exponential.dtype).tiny).log()).to(like)

    def log_prob(self, value: Tensor) -> Tensor:
        z = value / self.scale
        return -z - torch.exp(-z)

    def quantiles(self, p: Tensor) -> tuple[Tensor, Tensor]:
        return -self.scale * (-p.log()).log(), -self.scale * (-torch.log1p(-p)).log()

    def score(self, value: Tensor) -> Tensor:
        return (torch.exp(value / -self.scale) - 1) / self.scale


class SumOfGamma(SmoothNoise):
    """Sum-of-Gamma noise: summed over the `k` ones of a k-subset it is Gumbel(0, scale) (Niepert et al., NeurIPS 2021).

    `scale / k * (sum_{i=1..terms} Gamma(shape 1/k, scale k/i) - log terms)`; exactly so as `terms` grows. The *scale* of the
    i-th term is `k / i`; some published code passes it as a rate, which shrinks the variance about forty times.

    `sample` looks uniform numbers up in a table of quantiles (relative error about 1e-5, far faster than drawing the Gammas,
    at no extra cost for more terms). `sample_gammas` is the definition. `log_prob` is a cubic spline of the exact log-density
    to six digits, continued by its asymptotes where both tails together hold less than 1e-8 of the probability.

    The density starts at `-scale log(terms) / k` like a power `terms / k - 1`. Its score has a finite variance only if that
    power is above one, so `has_score` says `terms > 2 k`; at `terms <= k` it would even be biased, for the density jumps there.
    """

    def __init__(self, k: int, scale: float = 1.0, terms: int = 10):
        self.k, self.scale, self.terms = k, scale, terms
        check_positive(self, "scale")
        check_counts(self, k=1, terms=1)

    @property
    def arguments(self) -> tuple[float, ...]:
        return self.k, self.scale, self.terms

    @property
    def has_score(self) -> bool:  # type: ignore[override]
        return self.terms > 2 * self.k

    @property
    def mean(self) -> float:
        return self.scale / self.k * (sum(1 / i for i in range(1, self.terms + 1)) - math.log(self.terms))

    @property
    def lowest(self) -> float:
        """The end of the support."""
        return -self.scale * math.log(self.terms) / self.k

    def quantiles(self, p: Tensor) -> tuple[Tensor, Tensor]:
        log_odds = p.logit()
        lower, upper = (gamma_sums.quantile(self.k, self.terms, t.numpy()) for t in (log_odds, -log_odds))
        return torch.from_numpy(lower) * self.scale + self.lowest, torch.from_numpy(upper) * self.scale + self.lowest

    def sample_torch(self, like: Tensor) -> Tensor:
        start, spacing, values, increments = _quantiles(self.k, self.terms, _wide(like), like.device)
        log_odds = torch.rand_like(like, dtype=_wide(like)).logit_()
        position = log_odds.sub_(start).div_(spacing).clamp(0, len(increments) - 1)
        cell = position.to(torch.int64)
        x = torch.addcmul(values[cell], position - cell, increments[cell])
        return (x.mul_(self.scale) + self.lowest).to(like)

    def sample_gammas(self, like: Tensor) -> Tensor:
        """Independent draws as the definition says, one Gamma number per term.  # (...) -> (...)"""
        shape = torch.full_like(like, 1.0 / self.k, dtype=_wide(like))
        total = torch.zeros_like(shape)
        for i in range(1, self.terms + 1):
            total += torch._standard_gamma(shape) * (self.k / i)
        return ((total - math.log(self.terms)) * (self.scale / self.k)).to(like)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(_wide(value))
        start, spacing, coefficients = _log_density(self.k, self.terms, value.dtype, value.device)
        x = (value - self.lowest) / self.scale
        log_x = x.clamp_min(torch.finfo(x.dtype).tiny).log()
        inside = log_x.clamp(start, start + spacing * len(coefficients))
        cell = ((inside.detach() - start) / spacing).to(torch.int64).clamp(0, len(coefficients) - 1)
        offset = inside - (start + spacing * cell)
        c = coefficients[cell]
        slope = torch.where(log_x < start, coefficients[0, 1], _end_slope(coefficients, spacing))
        spline = c[..., 0] + offset * (c[..., 1] + offset * (c[..., 2] + offset * c[..., 3]))
        return spline + slope * (log_x - inside) - x


@lru_cache(maxsize=64)
def _tables(k: int, terms: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Quantiles, their increments (zero at the end), and the spline of the log-density."""
    values = torch.from_numpy(gamma_sums.quantiles(k, terms).values).to(device, dtype)
    spline = torch.from_numpy(gamma_sums.log_density(k, terms).coefficients).to(device, dtype)
    return values, torch.cat([values.diff(), values.new_zeros(1)]), spline


def _constant(function: Callable[..., T]) -> Callable[..., T]:
    """What `torch.compiler.assume_constant_result` does, which would import the whole compiler: the mark that it looks for."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant
def _quantiles(k: int, terms: int, dtype: torch.dtype, device: torch.device) -> tuple[float, float, Tensor, Tensor]:
    table = gamma_sums.quantiles(k, terms)
    return table.start, table.spacing, *_tables(k, terms, dtype, device)[:2]


@_constant
def _log_density(k: int, terms: int, dtype: torch.dtype, device: torch.device) -> tuple[float, float, Tensor]:
    table = gamma_sums.log_density(k, terms)
    return table.start, table.spacing, _tables(k, terms, dtype, device)[2]


def _end_slope(coefficients: Tensor, spacing: float) -> Tensor:
    _, b, c, d = coefficients[-1]
    return b + spacing * (2 * c + spacing * 3 * d)


@lru_cache(maxsize=64)
def _tables_of_law(kind: Callable[..., SmoothNoise], arguments: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    noise = kind(*arguments)
    lower, upper = noise.quantiles(seeded_noise.probabilities())
    return seeded_noise.table(lower, upper), seeded_noise.table(noise.score(lower), noise.score(upper))


@_constant
def _seeded_tables(kind: Callable[..., SmoothNoise], *arguments: float) -> tuple[Tensor, Tensor]:
    """The kernel's tables of the law's quantiles and of the scores there."""
    return _tables_of_law(kind, arguments)


class Draw(ABC):
    """Samples of noise for scores, kept or made anew each time they are asked for, always the same."""

    @abstractmethod
    def added_to(self, base: Tensor, scale: float) -> Tensor:
        """`base + scale z_s` for all samples.  # (*E) -> (S, *E)"""

    @abstractmethod
    def weighted_score(self, weights: Tensor, like: Tensor) -> Tensor:
        """`sum_s weights_s score(z_s)`.  # (S, *B), (*B, *E) -> (*B, *E)"""


class _Kept(Draw):
    """Numbers in a tensor."""

    def __init__(self, noise: Noise, z: Tensor):
        self.noise, self.z = noise, z

    def added_to(self, base: Tensor, scale: float) -> Tensor:
        return torch.add(base, self.z, alpha=scale)

    def weighted_score(self, weights: Tensor, like: Tensor) -> Tensor:
        out = torch.zeros_like(like, dtype=self.z.dtype)
        for weight, z in zip(weights, self.z):  # sample by sample, so that the scores of all are never there at once
            out.addcmul_(weight[(...,) + (None,) * (z.ndim - weight.ndim)].to(out.dtype), self.noise.score(z))
        return out


class Seeded(Draw):
    """A seed."""

    def __init__(self, noise: SmoothNoise, samples: int):
        self.values, self.scores = _seeded_tables(type(noise), *noise.arguments)
        self.seed, self.samples = int(seeded_noise.new_seed()), samples

    def added_to(self, base: Tensor, scale: float) -> Tensor:
        return seeded_noise.perturb(self.values, self.seed, scale, base, self.samples)

    def weighted_score(self, weights: Tensor, like: Tensor) -> Tensor:
        return seeded_noise.weigh(self.scores, self.seed, weights, like)


def draw_samples(noise: Noise, like: Tensor, samples: int, antithetic: bool = False) -> Draw:
    """Noise for `samples` copies of `like`; antithetic samples are pairs of opposite numbers.  # (*E)"""
    if antithetic:
        half = noise.sample(like.expand(samples // 2, *like.shape))
        return _Kept(noise, torch.cat([half, -half]))
    if isinstance(noise, SmoothNoise) and type(noise).sample is SmoothNoise.sample and seeded_noise.can_serve(like):
        return Seeded(noise, samples)
    return _Kept(noise, noise.sample(like.expand(samples, *like.shape)))


class TwoPointMargin(Noise):
    """`-alpha/2` or `+alpha/2` with equal chances: a margin without labels (Sahoo et al., ICLR 2023, section 3.3)."""

    symmetric = True
    mean = 0.0

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha
        check_positive(self, "alpha")

    def sample(self, like: Tensor) -> Tensor:
        half = torch.full_like(like, self.alpha / 2)
        return torch.where(torch.rand_like(like, dtype=_wide(like)) < 0.5, -half, half)


def _wide(like: Tensor) -> torch.dtype:
    """Draws need at least single precision: in half precision the tails would be a handful of values."""
    return torch.promote_types(like.dtype, torch.float32)
