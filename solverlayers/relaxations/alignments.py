"""Relaxations of an alignment of two sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_positive
from .base import BIG, Relaxation, usable


@dataclass(frozen=True)
class SoftAlignment(Relaxation):
    """The expected alignment of two sequences: the smoothed dynamic time warping of Cuturi & Blondel (ICML 2017).

    An alignment, as in the solver DTW, has probability proportional to `exp(theta(alignment) / temperature)`, its `theta` being
    the sum over its cells; each entry of the result is the probability that its cell is met, the gradient of the soft minimum
    of the costs. Forbidden cells by `mask (B, n, m)`; an alignment goes from the first row and column with an allowed cell to
    the last ones, and where there is none the result is 0.

    >>> import torch
    >>> SoftAlignment(temperature=0.01)(torch.tensor([[[-1.0, -9.0], [-1.0, -1.0]]])).round()
    tensor([[[1., 0.],
             [0., 1.]]])
    """

    temperature: float = 1.0

    event_dim = 2
    hull = "alignments"
    constant_sum = False
    binary = True

    def __post_init__(self) -> None:
        check_positive(self, "temperature")

    def relax(self, theta: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]  # (*S, B, n, m) -> (*S, B, n, m)
        n, m = theta.shape[-2:]
        used = usable(theta, mask)
        start, end = _corner(used), _corner(used.flip(-1, -2)).flip(-1, -2)
        x = torch.where(used, theta / self.temperature, -BIG)
        x, start, end = _skewed(x, -BIG), _skewed(start, False), _skewed(end, False)
        none = torch.full_like(x[..., 0], -BIG)
        best = [none, none]  # log of the weight of all ways from a cell to the end; two diagonals behind the last
        moves = []
        for d in reversed(range(n + m - 1)):
            ways = torch.stack([_up(best[-1], -BIG), best[-1], _up(best[-2], -BIG)])  # down, to the right, both
            onward = torch.logsumexp(ways, 0)
            moves.append((ways - onward).exp())
            best.append(torch.where(end[..., d], x[..., d], (x[..., d] + onward).clamp_min(-BIG)))
        moves.reverse()
        best.reverse()
        visits: list[Tensor] = []
        for d in range(n + m - 1):
            here = torch.where(start[..., d] & (best[d] > -BIG / 2), 1.0, torch.zeros_like(none))
            if d >= 1:
                onward = torch.where(end[..., d - 1], 0, visits[d - 1])
                here = here + _down(onward * moves[d - 1][0]) + onward * moves[d - 1][1]
            if d >= 2:
                here = here + _down(torch.where(end[..., d - 2], 0, visits[d - 2]) * moves[d - 2][2])
            visits.append(here)
        return torch.where(used, _unskewed(torch.stack(visits, -1), m), 0)


def _corner(used: Tensor) -> Tensor:
    """The cell in the first row and the first column that have a usable one.  # (*B, n, m) -> (*B, n, m)"""
    row, column = used.any(-1), used.any(-2)
    first = row & (row.cumsum(-1) == 1), column & (column.cumsum(-1) == 1)
    return first[0].unsqueeze(-1) & first[1].unsqueeze(-2)


def _skewed(x: Tensor, fill: float) -> Tensor:
    """Diagonals as columns: entry (i, i + k) is that of (i, k).  # (*B, n, m) -> (*B, n, n + m - 1)"""
    n, m = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (0, n), value=fill).flatten(-2)
    return padded[..., : n * (n + m - 1)].unflatten(-1, (n, n + m - 1))


def _unskewed(x: Tensor, m: int) -> Tensor:
    """The inverse of `_skewed`.  # (*B, n, n + m - 1) -> (*B, n, m)"""
    n = x.shape[-2]
    return torch.nn.functional.pad(x.flatten(-2), (0, n)).unflatten(-1, (n, n + m))[..., :m]


def _up(x: Tensor, fill: float) -> Tensor:
    """Each entry is that of the next row.  # (*B, n) -> (*B, n)"""
    return torch.nn.functional.pad(x[..., 1:], (0, 1), value=fill)


def _down(x: Tensor) -> Tensor:
    """Each entry is that of the row before.  # (*B, n) -> (*B, n)"""
    return torch.nn.functional.pad(x[..., :-1], (1, 0))
