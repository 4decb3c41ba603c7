"""What an estimator is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..arguments import real_numbers
from ..describe import constructor_call
from ..solver import widened

Loss = Callable[[Tensor], Tensor]
"""Solutions `(S, *B, *E)` to losses `(S, *B)`; it need not be differentiable in the solutions."""


class Estimator(nn.Module):
    """`estimator(loss, distribution)` is `E[loss(y)]` for `y` drawn from the distribution, per instance, with a gradient.

    The value is the mean loss of the samples. Backward: the parameters of the distribution get the estimate; whatever else the
    loss is computed from, such as a decoder, gets the mean of its ordinary gradients; and parameters of the estimator itself
    (a baseline, a surrogate) get the gradient of *their* objective, the variance they are there to reduce. One
    `backward` and one optimiser train everything, and none of the three reaches the others.

    Distributions: `Bernoulli`, `OneHotCategorical` of `torch.distributions`, also under `Independent`, and `PlackettLuce`,
    `KSubset`, `PerturbedSolution` of `solverlayers.distributions`. The loss sees all samples at once.

    Shapes: `loss` maps `(S, *batch, *event)` to `(S, *batch)`; the result has shape `(*batch)`.
    """

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return constructor_call(self)


def evaluate(estimator: Estimator, loss: Loss, y: Tensor, batch_shape: torch.Size) -> Tensor:
    """The losses of samples; refuses a loss of the wrong shape.  # (S, *B, *E) -> (S, *B)"""
    losses = loss(y)
    if not isinstance(losses, Tensor):
        raise TypeError(f"{type(estimator).__name__}: the loss returned a {type(losses).__name__}; expected a tensor.")
    losses = real_numbers(f"{type(estimator).__name__}: the loss", losses, widened(y))
    if losses.shape != y.shape[:1] + batch_shape:
        raise ValueError(
            f"{type(estimator).__name__}: the loss has shape {tuple(losses.shape)} for solutions of shape {tuple(y.shape)}; it "
            f"must have one number per sample and instance, shape {tuple(y.shape[:1] + batch_shape)}. Do not average over "
            f"instances in the loss; entries that make one instance together belong to one event: "
            f"`torch.distributions.Independent(distribution, 1)`."
        )
    return losses


def check_distribution(estimator: Estimator, distribution: Distribution) -> None:
    """Refuses what is no distribution, such as the two arguments in the wrong order."""
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"{type(estimator).__name__}: the distribution is a {type(distribution).__name__}; call `estimator(loss, "
            f"distribution)` with one of torch.distributions or solverlayers.distributions."
        )


def check_samples(estimator: Estimator, samples: int, least: int = 1, advice: str = "") -> int:
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < least:
        raise ValueError(f"{type(estimator).__name__}: samples={samples!r}; it must be an integer of at least {least}{advice}.")
    return samples
