"""What distributions over solutions share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

NEVER = -1e20
"""The logarithm of zero, finite so that no derivative of a log-sum is NaN; sums of a million of them still fit float32."""


def transforms_active() -> bool:
    """Whether values cannot be looked at, because a `torch.func` transform or the compiler is running."""
    return torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling()


def validates(validate_args: bool | None) -> bool:
    """Whether arguments are checked: by default, wherever values can be looked at.

    Not torch's global default, which `torch.compile` switches off for the whole process.
    """
    return not transforms_active() if validate_args is None else validate_args


def checked_logits(name: str, logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Logits with zeros outside the mask, and the mask; both broadcast against each other.  # (*B, n), (*B, n)"""
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name}: logits are a {type(logits).__name__}; expected a tensor. Use `torch.as_tensor`.")
    if not logits.is_floating_point():
        raise TypeError(f"{name}: logits are {logits.dtype}; they are floating-point numbers. Use `logits.float()`.")
    if logits.ndim < 1:
        raise ValueError(f"{name}: logits are a single number; the last dimension holds the items. Use shape (*batch, n).")
    if mask is None:
        return logits, None
    if mask.dtype != torch.bool:
        raise TypeError(f"{name}: mask is {mask.dtype}; a mask is torch.bool, True for items that exist. Use `mask.bool()`.")
    try:
        logits, mask = torch.broadcast_tensors(logits, mask)
    except RuntimeError as error:
        raise ValueError(
            f"{name}: mask has shape {tuple(mask.shape)} but logits have shape {tuple(logits.shape)}; a mask has the shape of "
            f"the logits, or one that broadcasts to it."
        ) from error
    return torch.where(mask, logits, 0), mask


class _Numbers(constraints.Constraint):
    """Vectors without NaN, also of a batch of none."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value == value).all(-1)


NUMBERS = _Numbers()
NO_SHAPE = torch.Size()


def gumbel(like: Tensor, shape: torch.Size | None = None) -> Tensor:
    """Standard Gumbel noise in the dtype and device of `like`."""
    wide = torch.promote_types(like.dtype, torch.float32)
    exponential = -torch.log1p(-torch.rand(like.shape if shape is None else shape, dtype=wide, device=like.device))
    return -exponential.clamp_min(torch.finfo(exponential.dtype).tiny).log().to(like.dtype)


def where_available(mask: Tensor | None, value: Tensor, other: float) -> Tensor:
    """`value` inside the mask and `other` outside; without a mask, `value`."""
    return value if mask is None else torch.where(mask, value, other)
