"""What the score function subtracts from the loss: less variance, no bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..arguments import check_numbers
from ..describe import constructor_call
from .latents import parameters


class Baseline(nn.Module):
    """A guess of each loss that does not depend on the sample it is subtracted from."""

    least_samples = 1

    def forward(self, losses: Tensor, distribution: Distribution) -> Tensor:
        """The guesses.  # (S, *B) -> broadcasts to (S, *B)"""
        raise NotImplementedError

    def __repr__(self) -> str:
        return constructor_call(self)


class LeaveOneOut(Baseline):
    """The mean loss of the other samples (Kool, van Hoof & Welling, 2019); needs two samples or more, and no state."""

    least_samples = 2

    def forward(self, losses: Tensor, distribution: Distribution) -> Tensor:
        return (losses.sum(0) - losses) / (len(losses) - 1)


class MovingAverage(Baseline):
    """The exponentially weighted mean of the losses of earlier calls; the first call sees zero.

    Updated after each call in training mode. A state, hence not for `torch.func` transforms.
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.9):
        super().__init__()
        self.decay = decay
        check_numbers(self, "decay")
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverage: decay={decay!r}; it must be at least 0 and less than 1.")
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, losses: Tensor, distribution: Distribution) -> Tensor:
        if torch._C._are_functorch_transforms_active():
            raise RuntimeError("MovingAverage keeps a state, which a torch.func transform cannot update; use LeaveOneOut.")
        guess = (self.mean / self.weight.clamp_min(torch.finfo(self.weight.dtype).tiny)).to(losses)
        if self.training and losses.numel():
            self.mean.mul_(self.decay).add_((1 - self.decay) * losses.detach().mean())
            self.weight.mul_(self.decay).add_(1 - self.decay)
        return guess


class LearnedBaseline(Baseline):
    """A network that guesses the loss from the parameters of the distribution (Mnih & Gregor, ICML 2014).

    `network` maps the logits or scores `(*B, *E)`, without gradient, to `(*B)` or `(*B, 1)`. It is trained by the estimator's
    own `backward`, on the squared error.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"LearnedBaseline: network is {network!r}; expected an nn.Module from logits or scores to numbers.")
        self.network = network

    def forward(self, losses: Tensor, distribution: Distribution) -> Tensor:
        return one_number("LearnedBaseline: the network", self.network(parameters(distribution)), losses.shape[1:])


def one_number(what: str, value: Tensor, shape: torch.Size) -> Tensor:
    """A number per instance from a network, whose last layer may leave a dimension of one.  # (*B) or (*B, 1) -> (*B)"""
    if value.shape == (*shape, 1):
        return value.squeeze(-1)
    if value.shape != shape:
        raise ValueError(
            f"{what} returned shape {tuple(value.shape)}; it must return one number per instance, shape {tuple(shape)} or "
            f"{(*shape, 1)}. For events of several dimensions begin it with `nn.Flatten(-2)`."
        )
    return value
