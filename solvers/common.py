"""What several solvers share."""

from __future__ import annotations

import torch
from torch import Tensor

from solverlayers.solver import Solver


def check_mask(solver: Solver, scores: Tensor, mask: Tensor | None) -> None:
    """Refuses a mask that is not boolean (TypeError) or not in the shape of the scores (ValueError)."""
    if mask is None:
        return
    name = type(solver).__name__
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{name}: `mask` is {mask.dtype}; a mask is torch.bool, True where an entry may be used. Use `mask.bool()`."
        )
    if mask.shape != scores.shape:
        raise ValueError(
            f"{name}: `mask` has shape {tuple(mask.shape)} but the scores have shape {tuple(scores.shape)}; a mask has the "
            f"shape of the scores. Use `mask.expand_as(scores)` for one that all instances share."
        )


def remove_mean(direction: Tensor, mask: Tensor | None) -> Tensor:
    """`direction` less its mean over the entries in the mask; zero outside.  # (*S, B, n), (B, n) -> (*S, B, n)"""
    if mask is None:
        return direction - direction.mean(-1, keepdim=True)
    mean = torch.where(mask, direction, 0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(mask, direction - mean, 0)
