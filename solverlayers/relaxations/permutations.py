"""Relaxations of a permutation matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_counts, check_positive
from .base import BIG, Relaxation, masked_softmax, usable


@dataclass(frozen=True)
class Sinkhorn(Relaxation):
    """Entropic matching: the maximum of `<theta, y> + temperature H(y)` over doubly stochastic matrices (Cuturi, 2013).

    `iterations` rounds of scaling columns, then rows, in the logarithmic domain. In a rectangular matrix the lines of the
    longer side sum to at most one (their scaling factor is cut off at one, block coordinate ascent on the dual); the side that
    must sum to one is scaled last, so it does exactly. With a mask each instance has its own number of rows and columns, those
    with an entry that may be used; a score of minus infinity forbids a pair as the mask does. Derivatives are those of the
    iterations: exact for the value returned, whatever is left to convergence. The memory grows with `iterations`.

    >>> import torch
    >>> Sinkhorn(temperature=0.1)(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).round(decimals=3)
    tensor([[[1., 0.],
             [0., 1.]]])
    """

    temperature: float = 1.0
    iterations: int = 20

    event_dim = 2
    constant_sum = True
    binary = True
    hull = "matchings of rows and columns"

    def __post_init__(self) -> None:
        check_positive(self, "temperature")
        check_counts(self, iterations=1)

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, n, m) -> (*S, B, n, m)
        used = usable(theta, mask)
        x = torch.where(used, theta / self.temperature, -BIG)
        rows, columns = used.any(-1, keepdim=True), used.any(-2, keepdim=True)
        n, m = rows.sum((-2, -1), keepdim=True), columns.sum((-2, -1), keepdim=True)
        f = torch.zeros_like(x[..., :1])
        for _ in range(self.iterations):
            g = _scale(x + f, -2, columns, m <= n)
            f = _scale(x + g, -1, rows, n <= m)
        g = torch.where(n <= m, g, _scale(x + f, -2, columns, m <= n))
        return (x + f + g).exp()


def _scale(x: Tensor, dim: int, used: Tensor, exact: Tensor) -> Tensor:
    """The logarithm of the factor that makes lines along `dim` sum to one, or, where not `exact`, to at most one."""
    factor = -torch.where(used, x, 0).logsumexp(dim, keepdim=True)  # an unused line is all -BIG; it keeps the factor one
    return torch.where(used, torch.where(exact, factor, factor.clamp_max(0)), 0)


@dataclass(frozen=True)
class _Sorter(Relaxation):
    temperature: float = 1.0
    descending: bool = False

    same_shape = False
    shared = ("descending",)

    def __post_init__(self) -> None:
        check_positive(self, "temperature")

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, n) -> (*S, B, n, n)
        used = usable(theta, mask)
        theta = torch.where(used, theta, 0)
        logits = self._logits(-theta if self.descending else theta, used) / self.temperature
        position = torch.arange(theta.shape[-1], device=theta.device)
        row = position < used.sum(-1, keepdim=True)
        return masked_softmax(logits, row.unsqueeze(-1) & used.unsqueeze(-2))

    def _logits(self, theta: Tensor, used: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class NeuralSort(_Sorter):
    """The permutation matrix that sorts in ascending order, relaxed row by row (NeuralSort: Grover et al., ICLR 2019).

    Row `i = 1..n` is `softmax_j(((2i - n - 1) theta_j - sum_k |theta_j - theta_k|) / temperature)`: `P @ scores` is sorted in
    ascending order and `Ranks` turns it into ranks; `descending=True` sorts the other way. With a mask, the entries that may be
    used fill the first rows, and the other rows and columns are zero.  # (*S, B, n) -> (*S, B, n, n)

    >>> import torch
    >>> NeuralSort(0.01)(torch.tensor([3.0, 1.0])).round()
    tensor([[0., 1.],
            [1., 0.]])
    """

    def _logits(self, theta: Tensor, used: Tensor) -> Tensor:
        distance = (theta.unsqueeze(-1) - theta.unsqueeze(-2)).abs()
        total = torch.where(used.unsqueeze(-1), distance, 0).sum(-2)
        count = used.sum(-1, keepdim=True)
        weight = 2 * torch.arange(1, theta.shape[-1] + 1, device=theta.device) - count - 1
        return weight.unsqueeze(-1) * theta.unsqueeze(-2) - total.unsqueeze(-2)


@dataclass(frozen=True)
class SoftSort(_Sorter):
    """The permutation matrix that sorts in ascending order, relaxed (Prillo & Eisenschlos, ICML 2020).

    Row `i` is `softmax_j(-|s_i - theta_j| / temperature)` with `s` the scores in ascending order; `descending=True` sorts the
    other way. With a mask, the entries that may be used fill the first rows, and the other rows and columns are zero.
    # (*S, B, n) -> (*S, B, n, n)

    >>> import torch
    >>> SoftSort(0.01)(torch.tensor([3.0, 1.0])).round()
    tensor([[0., 1.],
            [1., 0.]])
    """

    def _logits(self, theta: Tensor, used: Tensor) -> Tensor:
        order = torch.where(used, theta.detach(), BIG).argsort(-1)
        return -(theta.gather(-1, order).unsqueeze(-1) - theta.unsqueeze(-2)).abs()


@dataclass(frozen=True)
class Ranks(Relaxation):
    """Ranks `1..n`, the highest score ranked `n`, from a relaxed permutation matrix `P`: `P^T (1, ..., n)`.

    >>> import torch
    >>> Ranks(SoftSort(0.01))(torch.tensor([3.0, 1.0, 2.0])).round()
    tensor([3., 1., 2.])
    """

    permutation: Relaxation = SoftSort()

    constant_sum = True
    hull = "ranks"

    def __post_init__(self) -> None:
        if not isinstance(self.permutation, _Sorter):
            raise TypeError(f"Ranks: permutation is {self.permutation!r}; expected NeuralSort or SoftSort.")
        if self.permutation.descending:
            raise ValueError(
                f"Ranks: {self.permutation!r} sorts in descending order, and ranks that maximise <theta, y> need the ascending "
                f"one. A ranking of costs has its sign turned by the layer already."
            )

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # (*S, B, n) -> (*S, B, n)
        ranks = torch.arange(1, theta.shape[-1] + 1, device=theta.device, dtype=theta.dtype)
        return (self.permutation.relax(theta, mask) * ranks.unsqueeze(-1)).sum(-2)
