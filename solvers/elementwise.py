"""Hard functions of each entry, and any hard function of the user's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.arguments import check_counts, check_numbers
from solverlayers.solver import Solver, widened

from .common import check_mask


class Elementwise(Solver):
    """A hard function of each entry by itself; `mask=` (B, *E) gives 0 outside.

    `event_dim` says how many trailing dimensions an instance has: 3 for feature maps `(B, C, H, W)`. The values do not depend
    on it, only what is summed in an objective or normalised by a projection does.
    """

    separable = True
    torch_native = True

    def __post_init__(self) -> None:
        check_counts(self, event_dim=1)

    @abstractmethod
    def harden(self, scores: Tensor) -> Tensor:
        """The hard values of all entries.  # (B, *E) -> (B, *E)"""

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        check_mask(self, scores, mask)
        y = self.harden(scores)
        return y if mask is None else torch.where(mask, y, 0)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        return direction if mask is None else torch.where(mask, direction, 0)

    def _sum(self, y: Tensor, power: int = 1) -> Tensor:  # (*S, B, *E) -> (*S, B)
        wide = widened(y) if y.is_floating_point() else y.double()
        return (wide**power).flatten(-self.event_dim).sum(-1)


@dataclass(frozen=True)
class Sign(Elementwise):
    """The sign, with three levels where a margin is given: the hard function of DAB (Ramapuram & Webb, 2020).

    With `margin` 0 the values are -1 and +1; with a positive margin, -1 (below -margin), 0, and +1 (above margin). A value is
    +1 only strictly above the margin, so `sign(0)` is -1 without a margin, and both ends of the margin give 0 with one. That is
    `argmax <x, y> - margin |y|_1` over {-1, 1}^n, or {-1, 0, 1}^n. Shapes: `(B, *E) -> (B, *E)`. Raises TypeError for unsigned
    integers.

    >>> Sign()(torch.tensor([[-2.0, 0.0, 0.3]]))
    tensor([[-1., -1.,  1.]])
    >>> Sign(margin=0.5)(torch.tensor([[-2.0, 0.0, 0.3]]))
    tensor([[-1.,  0.,  0.]])
    """

    margin: float = 0.0
    event_dim: int = 1  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "margin")
        if not self.margin >= 0:
            raise ValueError(f"Sign: margin is {self.margin}; it is the distance from 0 where values change, so 0 or more.")

    @property
    def scale_free(self) -> bool:
        return self.margin == 0

    @property
    def constant_norm(self) -> bool:
        return self.margin == 0

    def harden(self, scores: Tensor) -> Tensor:
        if not scores.dtype.is_signed:
            raise TypeError(
                f"Sign: scores are {scores.dtype}, which cannot hold -1. Convert them, for instance with `scores.float()`."
            )
        wide = widened(scores)  # a margin has more digits than a score of half precision
        above = wide > self.margin
        below = wide < -self.margin if self.margin else ~above
        return above.to(scores.dtype) - below.to(scores.dtype)

    def offset(self, y: Tensor, **instance: Tensor) -> Tensor:
        return -self.margin * self._sum(y.abs()) if self.margin else super().offset(y, **instance)


@dataclass(frozen=True)
class Threshold(Elementwise):
    """1 where a score is greater than `at`, else 0 (also where it is equal).

    That is `argmax <x, y> - at * sum(y)` over {0, 1}^n. Shapes: `(B, *E) -> (B, *E)`.

    >>> Threshold(at=0.5)(torch.tensor([[0.2, 0.5, 0.9]]))
    tensor([[0., 0., 1.]])
    """

    at: float = 0.0
    event_dim: int = 1  # type: ignore[misc]

    binary = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "at")

    @property
    def scale_free(self) -> bool:
        return self.at == 0

    def harden(self, scores: Tensor) -> Tensor:
        return (widened(scores) > self.at).to(scores.dtype)

    def offset(self, y: Tensor, **instance: Tensor) -> Tensor:
        return -self.at * self._sum(y) if self.at else super().offset(y, **instance)


@dataclass(frozen=True)
class Round(Elementwise):
    """The nearest integer; halves go to the even one, as everywhere in torch.

    That is `argmax <x, y> - |y|^2 / 2` over the integers. Shapes: `(B, *E) -> (B, *E)`. Raises TypeError for booleans.

    >>> Round()(torch.tensor([[0.4, 0.5, 1.5, -2.7]]))
    tensor([[ 0.,  0.,  2., -3.]])
    """

    event_dim: int = 1  # type: ignore[misc]

    @property
    def scale_free(self) -> bool:
        return False

    def harden(self, scores: Tensor) -> Tensor:
        if scores.dtype == torch.bool:
            raise TypeError("Round: scores are torch.bool; use real or integer numbers, such as `scores.float()`.")
        return scores.round()

    def offset(self, y: Tensor, **instance: Tensor) -> Tensor:
        return -self._sum(y, 2) / 2


@dataclass(frozen=True)
class HardFunction(Solver):
    """Any function of tensors, without a gradient of its own, also one whose output has another shape than its input.

    `fn(scores, **instance)` maps `(B, *E)` to `(B, *F)` and gets the instance data of the call as they are; its output is
    converted to the dtype of the scores. It optimises nothing, so rules that solve again with shifted scores refuse it: bridge
    it with DAB, or use Perturbed. `same_shape=True` declares that the output has the shape of the input, for rules that need
    it. Functions defined at the top of a module pickle, lambdas do not. Raises TypeError or ValueError when the output is
    no tensor with one row per instance.

    >>> count = HardFunction(lambda x: (x > 0).sum(-1, keepdim=True))
    >>> count(torch.tensor([[0.5, -1.0, 2.0]]))
    tensor([[2.]])
    """

    fn: Callable[..., Tensor]
    event_dim: int = 1  # type: ignore[misc]
    same_shape: bool = False  # type: ignore[misc]

    linear = False
    torch_native = True

    def __post_init__(self) -> None:
        check_counts(self, event_dim=1)
        if not callable(self.fn):
            raise TypeError(f"HardFunction: fn is {self.fn!r}; expected a function of a tensor, such as `torch.sign`.")

    @property
    def scale_free(self) -> bool:
        return False

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:  # (B, *E) -> (B, *F)
        y = self.fn(scores, **instance)
        if not isinstance(y, Tensor):
            raise TypeError(f"HardFunction: {_name(self.fn)} returned a {type(y).__name__}; expected a tensor.")
        if y.ndim == 0 or len(y) != len(scores):
            raise ValueError(
                f"HardFunction: {_name(self.fn)} returned shape {tuple(y.shape)} for scores of shape {tuple(scores.shape)}; "
                f"expected {len(scores)} rows, one per instance. Reduce over the trailing dimensions only."
            )
        return y.to(scores.dtype)


def _name(fn: Callable[..., Tensor]) -> str:
    return getattr(fn, "__name__", type(fn).__name__)
