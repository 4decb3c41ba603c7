"""Control variates for the score function: REBAR, RELAX and LAX."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from ..arguments import check_numbers, check_positive
from ..autograd import given_gradient
from .base import Estimator, Loss, check_samples, evaluate
from .baselines import one_number
from .latents import ConditionalLatent, Latent, conditional_latent, latent, uniform_like

Control = Callable[[Tensor], Tensor]
"""A control variate: perturbed scores `(K, S, *B, *E)` to numbers `(K, S, *B)`."""


class Relaxed(nn.Module):
    """The control of REBAR, `eta f(relaxed solution)`, with both parameters learned."""

    def __init__(self, temperature: float, eta: float):
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.eta = nn.Parameter(torch.tensor(float(eta)))

    def forward(self, loss: Loss, found: ConditionalLatent, scores: Tensor) -> Tensor:
        relaxed = found.relax(scores, self.log_temperature.exp().to(scores.dtype))
        value = loss(relaxed.flatten(0, 1)).unflatten(0, scores.shape[:2])
        return self.eta.to(scores.dtype) * value


class Sum(nn.Module):
    """A relaxed loss and a network, or one of them."""

    def __init__(self, relaxed: Relaxed | None, surrogate: nn.Module | None):
        super().__init__()
        self.relaxed, self.surrogate = relaxed, surrogate

    def forward(self, loss: Loss, found: Latent, scores: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        if self.surrogate is not None:
            shape = scores.shape[: scores.ndim - found.event_dim]
            total = total + one_number("the surrogate", self.surrogate(scores), shape)
        if self.relaxed is not None:
            assert isinstance(found, ConditionalLatent)
            total = total + self.relaxed(loss, found, scores)
        assert isinstance(total, Tensor)
        return total


class _ControlVariate(Estimator):
    """An estimate that is a function of a control `c`, whose parameters are trained to make its second moment small.

    The estimate has the same mean whatever `c` is, so the gradient of `E |estimate|^2` with respect to the parameters of `c`
    is that of the variance, and one sample of it is enough (Grathwohl et al., 2018, section 3.3).
    """

    control: Sum

    @abstractmethod
    def _estimate(self, found: Latent, control: Control, losses: Tensor, y: Tensor, noise: Tensor, again: Tensor) -> Tensor:
        """The gradients with respect to theta of each sample, differentiable in the control.  # -> (S, *B, *E)"""

    def _run(self, loss: Loss, distribution: Distribution, found: Latent, samples: int) -> Tensor:
        with torch.no_grad():
            noise, again = found.noise(samples), uniform_like(found.theta, samples)
            y = found.solution(found.scores(found.theta, noise))
        losses = evaluate(self, loss, y, distribution.batch_shape)
        trained: dict[str, Tensor] = {name: p for name, p in self.control.named_parameters() if p.requires_grad}

        def second_moment(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            control = partial(functional_call, self.control, parameters)
            estimate = self._estimate(found, lambda z: control((loss, found, z)), losses.detach(), y, noise, again)
            return found.sum(estimate.square()).mean(), estimate

        with torch.no_grad():  # of the outer graph: what leaves here are numbers
            if trained and self.training:
                slopes, estimate = torch.func.grad(second_moment, has_aux=True)(trained)
            else:
                slopes, estimate = {}, second_moment(trained)[1]
        value = given_gradient(losses.mean(0), found.theta, estimate.mean(0))
        for name, slope in slopes.items():
            value = value + given_gradient(value.new_zeros(()), trained[name], slope)
        return value


class _Conditional(_ControlVariate):
    """`[f(y) - c(z~)] grad log p(y) + grad c(z) - grad c(z~)`."""

    def _estimate(self, found: Latent, control: Control, losses: Tensor, y: Tensor, noise: Tensor, again: Tensor) -> Tensor:
        assert isinstance(found, ConditionalLatent)

        def paths(theta: Tensor) -> tuple[Tensor, Tensor]:
            scores = torch.stack([found.scores(theta, noise), found.conditional(theta, y, again)])
            return found.log_prob(theta, y), scores

        (_, scores), pull_theta = torch.func.vjp(paths, found.theta.detach().expand(noise.shape))  # type: ignore[misc]
        value, pull_scores = torch.func.vjp(control, scores)  # type: ignore[misc]
        sign = torch.tensor([1.0, -1.0], dtype=value.dtype, device=value.device)
        (slopes,) = pull_scores(sign.view(2, *[1] * (value.ndim - 1)).expand_as(value))
        return pull_theta((losses - value[1], slopes))[0]


class REBAR(_Conditional):
    """Score function with the relaxed loss as control variate (Tucker et al., NeurIPS 2017).

    `[f(y) - c(z~)] grad log p(y) + grad c(z) - grad c(z~)` with `c(z) = eta f(relax(z / temperature))`, `z` the perturbed
    scores and `z~` drawn again given `y`. Unbiased for every temperature and `eta`; both are parameters, trained by `backward`
    to reduce the variance. The loss must be differentiable and make sense in the convex hull of the solutions; it is
    evaluated at three points per sample.

    For Bernoulli, one-hot categorical and Plackett-Luce latents. First derivatives only.
    """

    def __init__(self, temperature: float = 0.5, eta: float = 1.0, samples: int = 1):
        super().__init__()
        self.temperature, self.eta = temperature, eta
        check_positive(self, "temperature")
        check_numbers(self, "eta")
        self.samples = check_samples(self, samples)
        self.control = Sum(Relaxed(temperature, eta), None)

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        return self._run(loss, distribution, conditional_latent(distribution, "REBAR"), self.samples)


class RELAX(_Conditional):
    """Score function with a learned control variate, REBAR with a network for the relaxed loss (Grathwohl et al., ICLR 2018).

    `surrogate` maps perturbed scores `(*S, *batch, *event)` to a number each, `(*S, *batch)` or `(*S, *batch, 1)`; the loss is
    only evaluated at solutions, so it may be a black box. With a `temperature` the relaxed loss is added, `c(z) = eta
    f(relax(z / temperature)) + surrogate(z)`, as in the paper's variational autoencoder. Unbiased whatever the surrogate is; it
    is trained by `backward` to reduce the variance.

    For Bernoulli, one-hot categorical and Plackett-Luce latents. First derivatives only.

    >>> from torch.distributions import Bernoulli
    >>> surrogate = nn.Sequential(nn.Unflatten(-1, (-1, 1)), nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> theta = torch.zeros(4, requires_grad=True)
    >>> RELAX(surrogate)(lambda b: (b - 0.499) ** 2, Bernoulli(logits=theta)).mean().backward()
    >>> theta.grad.shape
    torch.Size([4])
    """

    def __init__(self, surrogate: nn.Module, temperature: float | None = None, eta: float = 1.0, samples: int = 1):
        super().__init__()
        self.temperature, self.eta = temperature, eta
        check_numbers(self, "eta")
        if temperature is not None:
            check_positive(self, "temperature")
        self.samples = check_samples(self, samples)
        self.control = Sum(None if temperature is None else Relaxed(temperature, eta), _module(self, surrogate))

    @property
    def surrogate(self) -> nn.Module | None:
        return self.control.surrogate

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        return self._run(loss, distribution, conditional_latent(distribution, "RELAX"), self.samples)


class LAX(_ControlVariate):
    """`[f(y) - c(z)] grad log p(z) + grad c(z)` with a learned `c`, for any perturbed solver (Grathwohl et al., ICLR 2018).

    Needs no second draw given the solution, so it also serves for `PerturbedSolution`, that is for every solver. `surrogate` is
    as in `RELAX`. Unbiased. First derivatives only.
    """

    def __init__(self, surrogate: nn.Module, samples: int = 1):
        super().__init__()
        self.samples = check_samples(self, samples)
        self.control = Sum(None, _module(self, surrogate))

    @property
    def surrogate(self) -> nn.Module | None:
        return self.control.surrogate

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        return self._run(loss, distribution, latent(distribution, "LAX"), self.samples)

    def _estimate(self, found: Latent, control: Control, losses: Tensor, y: Tensor, noise: Tensor, again: Tensor) -> Tensor:
        theta = found.theta.detach()
        scores = found.scores(theta, noise)

        def paths(theta: Tensor) -> tuple[Tensor, Tensor]:
            return found.log_density(theta, scores), found.scores(theta, noise)

        _, pull_theta = torch.func.vjp(paths, theta.expand(noise.shape))  # type: ignore[misc]
        value, pull_scores = torch.func.vjp(control, scores.unsqueeze(0))  # type: ignore[misc]
        (slopes,) = pull_scores(torch.ones_like(value))
        return pull_theta((losses - value[0], slopes[0]))[0]


def _module(estimator: Estimator, surrogate: object) -> nn.Module:
    if not isinstance(surrogate, nn.Module):
        raise TypeError(
            f"{type(estimator).__name__}: surrogate is {surrogate!r}; expected an nn.Module from perturbed scores to one "
            f"number per instance, such as nn.Sequential(nn.Linear(n, 32), nn.Tanh(), nn.Linear(32, 1))."
        )
    return surrogate
