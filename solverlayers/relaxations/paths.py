"""Relaxations of a shortest path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import check_counts, check_positive
from .base import BIG, Relaxation, usable

_FOUR = ((-1, 0), (0, -1), (0, 1), (1, 0))
_EIGHT = (*_FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True)
class SoftMinPath(Relaxation):
    """Expected visits of the cells of a grid by a random walk from the top left to the bottom right; a smoothed shortest path.

    A walk of at most `steps` steps to a neighbouring cell has probability proportional to `exp(theta(walk) / temperature)`, its
    `theta` being the sum over its cells, the start and the end included, each counted as often as it is met; it stops when it
    meets the end. `steps=None` allows `h w - 1`, so that every path without a circle counts. The visits are the gradient of the
    soft minimum of the costs, which as many sweeps of Bellman and Ford with `logsumexp` for the maximum give (Mensch & Blondel,
    ICML 2018); they follow from its transition probabilities, forwards. Instance data: `source` and `target` (B, 2), integers
    (row, column), in place of the corners; `mask` (B, h, w), False for walls. Where walls leave no walk, the output is 0.

    As the temperature goes to zero, walks become the shortest path, provided `theta <= 0` (costs are not negative). At a
    temperature near the cost of a step or above, long walks with circles win by their number, and visits above one show it.

    >>> import torch
    >>> SoftMinPath(temperature=0.01)(torch.tensor([[[-1.0, -9.0], [-1.0, -1.0]]]), None).round()
    tensor([[[1., 0.],
             [0., 1.]]])
    """

    temperature: float = 1.0
    steps: int | None = None
    neighbours: int = 8

    event_dim = 2
    hull = "paths of cells"
    constant_sum = False
    binary = True
    shared = ("neighbours",)
    takes = ("source", "target")

    def __post_init__(self) -> None:
        check_positive(self, "temperature")
        if self.neighbours not in (4, 8):
            raise ValueError(f"SoftMinPath: neighbours={self.neighbours!r}; a cell of the grid has 4 or 8.")
        if self.steps is not None:
            check_counts(self, steps=0)

    def relax(  # type: ignore[override]  # (*S, B, h, w) -> (*S, B, h, w)
        self, theta: Tensor, mask: Tensor | None, source: Tensor | None = None, target: Tensor | None = None
    ) -> Tensor:
        h, w = theta.shape[-2:]
        used = usable(theta, mask)
        x = torch.where(used, theta / self.temperature, -BIG)
        corners = torch.tensor([[0, 0], [h - 1, w - 1]], device=theta.device)
        start = _cell(corners[0] if source is None else source, h, w)
        end = _cell(corners[1] if target is None else target, h, w)
        steps = h * w - 1 if self.steps is None else self.steps
        best = torch.where(end, x, -BIG)  # log of the weight of all walks to the end in at most 0, 1, 2, ... steps
        moves = []
        for _ in range(steps):
            shifted = self._shift(best, -BIG)
            onward = torch.logsumexp(shifted, 0)
            moves.append((shifted - onward).exp())
            best = torch.where(end, x, torch.where(used, (x + onward).clamp_min(-BIG), -BIG))
        here = torch.where(start & (best > -BIG / 2), torch.ones_like(x), 0)
        visits = here
        for move in reversed(moves):
            here = self._gather(torch.where(end, 0, here), move)
            visits = visits + here
        return torch.where(used, visits, 0)

    def _shift(self, x: Tensor, fill: float) -> Tensor:
        """The values of the neighbours of each cell.  # (..., h, w) -> (neighbours, ..., h, w)"""
        return torch.stack([_moved(x, i, j, fill) for i, j in (_FOUR if self.neighbours == 4 else _EIGHT)])

    def _gather(self, here: Tensor, move: Tensor) -> Tensor:
        """Where the walk is one step later.  # (..., h, w), (neighbours, ..., h, w) -> (..., h, w)"""
        directions = _FOUR if self.neighbours == 4 else _EIGHT
        return sum(_moved(here * move[d], -i, -j, 0.0) for d, (i, j) in enumerate(directions))  # type: ignore[return-value]


def _cell(place: Tensor, h: int, w: int) -> Tensor:
    """Whether a cell is the one at `place` (row, column).  # (..., 2) -> (..., h, w)"""
    row = torch.arange(h, device=place.device) == place[..., :1]
    column = torch.arange(w, device=place.device) == place[..., 1:]
    return row.unsqueeze(-1) & column.unsqueeze(-2)


def _moved(x: Tensor, i: int, j: int, fill: float) -> Tensor:
    """Each cell holds the value of the cell `(i, j)` further, or `fill` outside the grid.  # (..., h, w) -> (..., h, w)"""
    h, w = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), value=fill)
    return padded[..., 1 + i : 1 + i + h, 1 + j : 1 + j + w]
