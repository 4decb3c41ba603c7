"""The cheapest set of a family on the CPU, compiled: see `decision_diagram.cpp` for the algorithm."""

from __future__ import annotations

from torch import Tensor

from ..decision_diagram import Diagram
from . import chooses

_choose = chooses("decision_diagram", flags=1)


def best_sets(scores: Tensor, diagram: Diagram, largest: bool, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The set of least cost (or greatest, if `largest`) of each instance, on the CPU.  # (B, E) -> (B, E)

    `scores`, float32 or float64, are of the elements; an infinite cost and False in `mask (B, E)` forbid an element. The second
    result says which instances have no set, or scores of NaN or of infinity the other way, None where all is well.
    """
    return _choose(diagram.record, scores, mask, largest)
