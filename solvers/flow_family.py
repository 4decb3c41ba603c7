"""What flows and cuts share: graphs, terminals, and numbers as whole units, in which flows are exact."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance

from . import flow_search, pushed_flows
from .common import native
from .edge_family import EdgeSolver
from .graph import Graph
from .kernels import flow as kernel
from .kernels import library

PROVED = 1e-6
"""How far the bound may be from an objective that counts as proved, relative to what its edges cost: numbers far apart are
rounded to common units."""
_BITS = 60
"""Sums of all numbers stay below two to this."""


class Units(NamedTuple):
    """Numbers as whole multiples of `2 ** -shift`, one shift for each instance."""

    whole: Tensor  # (B, n) int64
    shift: Tensor  # (B, 1) int64

    def numbers(self, whole: Tensor) -> Tensor:
        """Multiples as numbers.  # (B, m) int64 -> (B, m) float64"""
        return whole * _power(-self.shift)


def as_units(numbers: Tensor, room: Tensor | float = 1.0) -> Units:
    """`numbers`, finite, rounded to multiples of a power of two: to one so small that `room` times their sum fits 60 bits.

    Nothing is lost of integers whose sum does so, and below 2**-50 of the sum otherwise, for a room of 2**10.  # (B, n) ->
    Units
    """
    values = numbers.double()
    total = (values.abs().sum(1, keepdim=True) * room).clamp_min(torch.finfo(torch.float64).tiny)
    shift = (_BITS - torch.frexp(total).exponent.long()).clamp_max(1022)
    return Units((values * _power(shift)).round().long(), shift)


def _power(exponent: Tensor) -> Tensor:
    """Two to the power of `exponent`, exactly, which `torch.ldexp` is not beyond single precision."""
    return ((exponent + 1023) << 52).view(torch.float64)


def backend(whole: Tensor) -> ModuleType:
    """What finds flows where these numbers are: on the CPU the compiled kernels, or OR-Tools where they were not built."""
    if not whole.is_cpu:
        return pushed_flows
    return flow_search if library() is None else kernel


class FlowSolver(EdgeSolver):
    """Scores and solutions `(B, E)` on the edges of a graph that all instances share, or of `edge_index (B, 2, E)`."""

    binary = False

    def _numbers(self, name: str, scores: Tensor, mask: Tensor | None) -> Tensor:
        """The scores in float64, zero outside the mask.  # (B, E) -> (B, E)"""
        values = native(self, scores).double()
        values = values if mask is None else values.where(mask, 0)
        self._refuse(values == -torch.inf, name, "of minus infinity")
        return values

    def _refuse(self, wrong: Tensor, name: str, what: str, advice: str = "") -> None:
        """# (B, n)"""
        bad = wrong.any(1)
        if bad.any():
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(bad)} has {name} {what} ({int(bad.sum())} of {len(bad)} "
                f"instances).{advice and ' ' + advice}",
                bad,
            )

    def _check_ends(self, source: Tensor, target: Tensor, nodes: int) -> None:
        outside = (torch.minimum(source, target) < 0) | (torch.maximum(source, target) >= nodes)
        for wrong, text in ((outside, f"its graph has nodes 0 to {nodes - 1}"), (source == target, "they must differ")):
            if wrong.any():
                first = first_instance(wrong)
                raise InfeasibleError(
                    f"{type(self).__name__}: instance {first} goes from node {int(source[first])} to node "
                    f"{int(target[first])}, but {text} ({int(wrong.sum())} of {len(wrong)} instances).",
                    wrong,
                )


def real_edges(graph: Graph | None, edges: Tensor, mask: Tensor | None) -> Tensor:
    """`edges`, loops at node 0 where the mask leaves one out that an instance has for itself."""
    return edges if mask is None or graph is not None else edges.where(mask[:, None], 0)


def batched(edges: Tensor, count: int) -> Tensor:
    """# (2, E) or (B, 2, E) -> (B, 2, E)"""
    return edges if edges.ndim == 3 else edges.expand(count, *edges.shape)
