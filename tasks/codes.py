"""Laws of one-hot codes `(*B, L, C)`: `L` independent latents of `C` categories each."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, OneHotCategorical
from torch.nn import functional

from solverlayers.estimators import Estimator


def law(logits: Tensor) -> Distribution:
    """Independent latents as estimators want them; those of two categories are Bernoulli, with events `(L,)`.  # (*B, L, C)"""
    if logits.shape[-1] == 2:
        return Independent(Bernoulli(logits=logits[..., 1] - logits[..., 0], validate_args=False), 1)
    return Independent(OneHotCategorical(logits=logits, validate_args=False), 1)


def expected(estimator: Estimator, loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """The expected loss of a one-hot code, by an estimator.  # (*B, L, C) -> (*B)"""
    if logits.shape[-1] == 2:
        return estimator(lambda ones: loss(torch.stack([1 - ones, ones], -1)), law(logits))
    return estimator(loss, law(logits))


def all_codes(latents: int, categories: int) -> Tensor:
    """Every code.  # -> (C^L, L, C)"""
    index = torch.tensor(list(itertools.product(range(categories), repeat=latents)))
    return functional.one_hot(index, categories).float()
