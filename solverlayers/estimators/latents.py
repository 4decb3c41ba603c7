"""Distributions as functions of noise: `z = T(theta, u)`, `y = H(z)`, and `z` given `y`.

What REBAR, RELAX and LAX need to know of a distribution. `T` is differentiable, `H` is a solver: a threshold, an argmax, a
ranking, or any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical
from torch.nn.functional import softplus

from ..distributions import PerturbedSolution, PlackettLuce
from ..distributions.common import NEVER, gumbel, where_available
from ..distributions.plackett_luce import ranks
from ..solver import widened

_CONDITIONAL = "Bernoulli, OneHotCategorical and PlackettLuce"


class Latent(ABC):
    """One kind of distribution, seen as scores that are perturbed and solved. Methods are pure functions of `theta`."""

    theta: Tensor  # (*B, *E), what gets the gradient
    event_dim: int

    @abstractmethod
    def noise(self, samples: int) -> Tensor:
        """Noise `u`.  # -> (S, *B, *E)"""

    @abstractmethod
    def scores(self, theta: Tensor, noise: Tensor) -> Tensor:
        """Perturbed scores `z`, differentiable in `theta`.  # (*B, *E), (S, *B, *E) -> (S, *B, *E)"""

    @abstractmethod
    def solution(self, scores: Tensor) -> Tensor:
        """`y = H(z)`.  # (S, *B, *E) -> (S, *B, *E)"""

    @abstractmethod
    def log_density(self, theta: Tensor, scores: Tensor) -> Tensor:
        """The log-density of perturbed scores, up to a constant.  # (*B, *E), (S, *B, *E) -> (S, *B)"""

    def sum(self, entries: Tensor) -> Tensor:
        """The sum over one event.  # (S, *B, *E) -> (S, *B)"""
        return entries.flatten(-self.event_dim).sum(-1) if self.event_dim else entries


class ConditionalLatent(Latent):
    """A latent whose perturbed scores can be drawn again, given the solution."""

    @abstractmethod
    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        """The log-probability of solutions.  # (*B, *E), (S, *B, *E) -> (S, *B)"""

    @abstractmethod
    def conditional(self, theta: Tensor, y: Tensor, uniform: Tensor) -> Tensor:
        """Scores `z~` given that their solution is `y`, differentiable in `theta`.  # -> (S, *B, *E)"""

    @abstractmethod
    def relax(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """A point in the convex hull of the solutions that tends to `H(z)` as the temperature tends to zero."""


class BernoulliLatent(ConditionalLatent):
    """`z = theta + logistic noise`, `y = [z > 0]`."""

    def __init__(self, theta: Tensor, event_dim: int):
        self.theta, self.event_dim = theta, event_dim

    def noise(self, samples: int) -> Tensor:
        u = uniform_like(self.theta, samples)
        return u.log() - (-u).log1p()

    def scores(self, theta: Tensor, noise: Tensor) -> Tensor:
        return theta + noise

    def solution(self, scores: Tensor) -> Tensor:
        return (scores > 0).to(scores.dtype)

    def log_density(self, theta: Tensor, scores: Tensor) -> Tensor:
        shifted = scores - theta
        return self.sum(-shifted - 2 * softplus(-shifted))

    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        return self.sum(y * theta - softplus(theta))

    def conditional(self, theta: Tensor, y: Tensor, uniform: Tensor) -> Tensor:
        # logit(p) + logit(v') with v' = v p + 1 - p for a one and v (1 - p) for a zero, rearranged so that nothing cancels.
        log_v, log_rest = uniform.log(), (-uniform).log1p()
        return torch.where(y > 0.5, softplus(theta + log_v) - log_rest, log_v - softplus(log_rest - theta))

    def relax(self, scores: Tensor, temperature: Tensor) -> Tensor:
        return torch.sigmoid(scores / temperature)


class CategoricalLatent(ConditionalLatent):
    """`z = log softmax(theta) + Gumbel noise`, `y` the indicator of the largest; zero for logits of minus infinity."""

    def __init__(self, theta: Tensor, event_dim: int):
        self.theta, self.event_dim = theta, event_dim
        self.mask = theta.detach() != -torch.inf

    def noise(self, samples: int) -> Tensor:
        return gumbel(self.theta, torch.Size([samples, *self.theta.shape]))

    def scores(self, theta: Tensor, noise: Tensor) -> Tensor:
        return torch.where(self.mask, self._log_probs(theta) + noise, 0)

    def solution(self, scores: Tensor) -> Tensor:
        best = torch.where(self.mask, scores, -torch.inf).argmax(-1, keepdim=True)
        return torch.zeros_like(scores).scatter(-1, best, 1)

    def log_density(self, theta: Tensor, scores: Tensor) -> Tensor:
        return self.sum(torch.where(self.mask, _gumbel_log_density(scores - self._log_probs(theta)), 0))

    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        return self.sum(y * self._log_probs(theta))

    def conditional(self, theta: Tensor, y: Tensor, uniform: Tensor) -> Tensor:
        # Of exponential clocks at rates p_i the first rings after a time at rate one; the others go on from there.
        log_time = log_exponential(uniform)
        first = (y * log_time).sum(-1, keepdim=True)
        others = torch.logaddexp(log_time - self._log_probs(theta), first)
        return torch.where(self.mask, -torch.where(y > 0.5, first, others), 0)

    def relax(self, scores: Tensor, temperature: Tensor) -> Tensor:
        return torch.where(self.mask, scores / temperature, -torch.inf).softmax(-1)

    def _log_probs(self, theta: Tensor) -> Tensor:
        """Finite even where the mask is not, so that no derivative is NaN."""
        return torch.where(self.mask, theta, NEVER).log_softmax(-1)


class PlackettLuceLatent(ConditionalLatent):
    """`z = log softmax(theta) + Gumbel noise`, `y` its ranks."""

    event_dim = 1

    def __init__(self, distribution: PlackettLuce):
        self.theta, self.mask = widened(distribution.logits), distribution.mask

    def noise(self, samples: int) -> Tensor:
        return gumbel(self.theta, torch.Size([samples, *self.theta.shape]))

    def scores(self, theta: Tensor, noise: Tensor) -> Tensor:
        return where_available(self.mask, self._law(theta).logits + noise, 0)

    def solution(self, scores: Tensor) -> Tensor:
        return ranks(scores, self.mask).to(self.theta.dtype)

    def log_density(self, theta: Tensor, scores: Tensor) -> Tensor:
        return self.sum(where_available(self.mask, _gumbel_log_density(scores - self._law(theta).logits), 0))

    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        return self._law(theta).log_prob(y)

    def conditional(self, theta: Tensor, y: Tensor, uniform: Tensor) -> Tensor:
        # The clocks ring in the order of the ranks, highest first; each wait is at the total rate of what has not rung.
        last_first = y.argsort(-1)
        rates = self._law(theta)._filled().expand_as(y).gather(-1, last_first).logcumsumexp(-1)
        waits = log_exponential(uniform) - rates
        times = waits.flip(-1).logcumsumexp(-1).flip(-1)
        scores = -times.gather(-1, last_first.argsort(-1))
        return where_available(self.mask, scores, 0)

    def relax(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """Ranks by soft comparisons: a sum of segments `[e_i, e_j]`, whose sum is the permutahedron."""
        wins = torch.sigmoid((scores.unsqueeze(-1) - scores.unsqueeze(-2)) / temperature)
        if self.mask is not None:
            wins = torch.where(self.mask.unsqueeze(-2), wins, 0)
        return where_available(self.mask, wins.sum(-1) + 0.5, 0)

    def _law(self, theta: Tensor) -> PlackettLuce:
        return PlackettLuce(theta, self.mask, validate_args=False)


class SolverLatent(Latent):
    """`z = theta + sigma noise`, `y` the solver's solution."""

    def __init__(self, distribution: PerturbedSolution):
        if not distribution.noise.has_score:
            raise TypeError(
                f"{distribution.noise!r} has no differentiable density, which estimators need; use Gaussian or Gumbel."
            )
        self.distribution, self.theta, self.event_dim = distribution, widened(distribution.theta), distribution.oracle.event_dim

    def noise(self, samples: int) -> Tensor:
        return self.distribution.noise.sample(self.theta.expand(samples, *self.theta.shape))

    def scores(self, theta: Tensor, noise: Tensor) -> Tensor:
        return theta + self.distribution.sigma * noise

    def solution(self, scores: Tensor) -> Tensor:
        return self.distribution.oracle(scores)

    def log_density(self, theta: Tensor, scores: Tensor) -> Tensor:
        return self.sum(self.distribution.noise.log_prob((scores - theta) / self.distribution.sigma))


def latent(distribution: Distribution, who: str) -> Latent:
    """The distribution as a function of noise; TypeError where it is none."""
    base, event_dim = distribution, 0
    if isinstance(distribution, Independent):
        base, event_dim = distribution.base_dist, distribution.reinterpreted_batch_ndims
    if isinstance(base, Bernoulli):
        return BernoulliLatent(widened(base.logits), event_dim)
    if isinstance(base, OneHotCategorical):
        return CategoricalLatent(widened(base.logits), event_dim + 1)
    if isinstance(distribution, PlackettLuce):
        return PlackettLuceLatent(distribution)
    if isinstance(distribution, PerturbedSolution):
        return SolverLatent(distribution)
    raise TypeError(
        f"{who} needs a distribution that is a solver of perturbed scores: {_CONDITIONAL} (also under Independent, except the "
        f"last), or PerturbedSolution; {type(base).__name__} is none. Use ScoreFunction."
    )


def conditional_latent(distribution: Distribution, who: str) -> ConditionalLatent:
    """The same, for estimators that draw the scores again given the solution."""
    found = latent(distribution, who)
    if not isinstance(found, ConditionalLatent):
        raise TypeError(
            f"{who} draws perturbed scores again, given their solution, which is known for {_CONDITIONAL}, but not for "
            f"{type(distribution).__name__}. Use LAX or ScoreFunction."
        )
    return found


def draw(distribution: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Samples and their log-probabilities, or those of perturbed scores where solutions have none.  # (S, *B, *E), (S, *B)"""
    base = distribution.base_dist if isinstance(distribution, Independent) else distribution
    if not isinstance(base, (OneHotCategorical, PerturbedSolution)) and not isinstance(distribution, PlackettLuce):
        y = distribution.sample(torch.Size([samples]))
        return y, distribution.log_prob(y)
    found = latent(distribution, "ScoreFunction")  # torch draws categories in a way that vmap cannot map
    with torch.no_grad():
        scores = found.scores(found.theta, found.noise(samples))
        y = found.solution(scores)
    if isinstance(found, ConditionalLatent):
        return y, found.log_prob(found.theta, y)
    return y, found.log_density(found.theta, scores)


def parameters(distribution: Distribution) -> Tensor:
    """What the distribution is a function of, without gradient: logits or scores.  # (*B, *E)"""
    base = distribution.base_dist if isinstance(distribution, Independent) else distribution
    theta = base.theta if isinstance(base, PerturbedSolution) else getattr(base, "logits", None)
    if theta is None:
        raise TypeError(f"LearnedBaseline: {type(base).__name__} has no logits to guess the loss from; use LeaveOneOut.")
    return theta.detach()


def uniform_like(theta: Tensor, samples: int) -> Tensor:
    """Uniform numbers strictly between zero and one.  # (*B, *E) -> (S, *B, *E)"""
    wide = torch.promote_types(theta.dtype, torch.float32)
    u = torch.rand((samples, *theta.shape), dtype=wide, device=theta.device)
    return u.clamp(torch.finfo(wide).tiny, 1 - torch.finfo(wide).eps / 2).to(theta.dtype)


def log_exponential(uniform: Tensor) -> Tensor:
    """The logarithm of an exponential time, `log(-log v)`."""
    return (-uniform.log()).log()


def _gumbel_log_density(x: Tensor) -> Tensor:
    return -x - torch.exp(-x)
