"""The noise of published k-subset notebooks, for runs beside theirs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solverlayers.noise import Noise


class NotebookSumOfGamma(Noise):
    """Sum-of-Gamma noise with its scales inverted: i-th term Gamma(shape 1/k, scale i/k).

    `scale / k * (sum_{i=1..terms} Gamma(shape 1/k, scale i/k) - log terms)`. The notebooks of Niepert et al. (NeurIPS 2021) and
    Sahoo et al. (ICLR 2023) pass the scale `k/i` of the formula as a rate. Summed over `k = 10` ones its variance is about a
    fortieth of the Gumbel law's, and its mean is far below zero. For reproductions; `SumOfGamma` is the formula.
    """

    def __init__(self, k: int, scale: float = 1.0, terms: int = 10):
        for name, value in (("k", k), ("scale", scale), ("terms", terms)):
            if not value > 0:
                raise ValueError(f"NotebookSumOfGamma: {name}={value!r}; it must be positive.")
        self.k, self.scale, self.terms = k, scale, terms

    @property
    def mean(self) -> float:
        """The mean of an entry."""
        return self.scale / self.k * ((self.terms + 1) * self.terms / 2 / self.k**2 - math.log(self.terms))

    def sample(self, like: Tensor) -> Tensor:
        wide = torch.promote_types(like.dtype, torch.float32)
        shape = torch.full((self.terms, *like.shape), 1.0 / self.k, dtype=wide, device=like.device)
        scales = torch.arange(1, self.terms + 1, dtype=wide, device=like.device) / self.k
        total = torch.tensordot(scales, torch._standard_gamma(shape), 1)
        return ((total - math.log(self.terms)) * (self.scale / self.k)).to(like)
