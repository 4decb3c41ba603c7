"""Matchings in a sparse bipartite graph on the CPU, compiled: see `bipartite.cpp` for the algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from . import chooses

if TYPE_CHECKING:
    from ..bipartite import Sides

_choose = chooses("bipartite", flags=2)


def match(
    scores: Tensor, sides: Sides, perfect: bool, largest: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The matching of least cost (or greatest score, if `largest`) of each instance, on the CPU.  # (B, E) -> (B, E)

    `scores`, float32 or float64, are of the edges; an infinite cost and False in `mask (B, E)` forbid an edge. A matching that
    need not be `perfect` takes no edge of positive cost. The second result says which instances have none, or scores of NaN or
    of infinity the other way, None where all is well.
    """
    return _choose(sides.record, scores, mask, perfect, largest)
