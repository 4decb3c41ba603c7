"""Relaxations of decisions that are free for each entry."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..arguments import check_positive
from .base import Relaxation


@dataclass(frozen=True)
class _Elementwise(Relaxation):
    temperature: float = 1.0

    event_dim = None
    constant_sum = False
    separable = True

    def __post_init__(self) -> None:
        check_positive(self, "temperature")


@dataclass(frozen=True)
class Sigmoid(_Elementwise):
    """`1 / (1 + exp(-theta / temperature))`: each entry between 0 and 1.

    The mean of a threshold at zero under logistic noise, or the maximum of `<theta, y> + temperature H(y)` over the cube.

    >>> import torch
    >>> Sigmoid()(torch.tensor([0.0, 100.0]))
    tensor([0.5000, 1.0000])
    """

    binary = True

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, *E) -> (*S, B, *E)
        return (theta / self.temperature).sigmoid()


@dataclass(frozen=True)
class Tanh(_Elementwise):
    """`tanh(theta / temperature)`: each entry between -1 and 1, for a sign.

    >>> import torch
    >>> Tanh()(torch.tensor([0.0, -100.0]))
    tensor([ 0., -1.])
    """

    binary = False

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, *E) -> (*S, B, *E)
        return (theta / self.temperature).tanh()


@dataclass(frozen=True)
class HardTanh(_Elementwise):
    """`theta / temperature` cut off at -1 and 1, for a sign: straight-through where it is not saturated.

    The gradient of the binarised networks of Hubara et al. (NeurIPS 2016); its second derivative is zero almost everywhere.

    >>> import torch
    >>> HardTanh()(torch.tensor([0.5, -100.0]))
    tensor([ 0.5000, -1.0000])
    """

    binary = False

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, *E) -> (*S, B, *E)
        return (theta / self.temperature).clamp(-1, 1)
