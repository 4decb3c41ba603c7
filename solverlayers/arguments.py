"""The numbers that solvers, rules and losses are built with."""

from __future__ import annotations

import math
from numbers import Integral, Real

from torch import Tensor


def whole(asker: str, name: str, value: object) -> int:
    """A whole number, also one of NumPy, as Python's, which compiled kernels take; TypeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{asker}: {name}={value!r}; it is a whole number.")
    return int(value)


def check_counts(owner: object, **least: int) -> None:
    """Refuses attributes that are no whole numbers (TypeError), or less than is said (ValueError)."""
    asker = type(owner).__name__
    for name, bound in least.items():
        value = whole(asker, name, getattr(owner, name))
        if value < bound:
            raise ValueError(f"{asker}: {name}={value}; it must be at least {bound}.")
        object.__setattr__(owner, name, value)


def check_numbers(owner: object, *names: str) -> None:
    """Refuses attributes that are no real numbers (TypeError), or NaN (ValueError)."""
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, Real):
            raise TypeError(f"{type(owner).__name__}: {name}={value!r}; it is a number.")
        if value != value:
            raise ValueError(f"{type(owner).__name__}: {name} is NaN.")


def real_numbers(what: str, value: Tensor, like: Tensor) -> Tensor:
    """Numbers that have a mean: whole ones in the type of `like`, real ones as they are; TypeError for complex ones."""
    if value.is_complex():
        raise TypeError(f"{what} is {value.dtype}; expected real numbers.")
    return value if value.is_floating_point() else value.to(like.dtype)


def check_positive(owner: object, *names: str) -> None:
    """Refuses attributes that are no numbers, nor tensors of one (TypeError), not positive, or not finite (ValueError)."""
    for name in names:
        value = getattr(owner, name)
        if not (isinstance(value, Real) or (isinstance(value, Tensor) and value.ndim == 0)):
            raise TypeError(f"{type(owner).__name__}: {name}={value!r}; it is a number.")
        if not value > 0:  # type: ignore[operator]
            raise ValueError(f"{type(owner).__name__}: {name}={value!r}; it must be positive.")
        if not value < math.inf:  # type: ignore[operator]
            raise ValueError(f"{type(owner).__name__}: {name}={value!r}; it must be finite.")
