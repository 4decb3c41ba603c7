"""Transport of least cost between the rows and columns of a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from solverlayers.solver import Solution

from .common import check_mask, in_type_of
from .constant import keep_constants
from .cost_flow import CostFlow, circulation
from .flow_family import batched


@dataclass(frozen=True)
class Transport(CostFlow):
    """The cheapest way to carry supplies to demands, also known as optimal transport (Hitchcock, 1941; Kantorovich, 1942).

    Minimises `<scores, y>` over non-negative matrices whose rows sum to the supplies and whose columns to the demands. Shapes:
    `(B, n, m) -> (B, n, m)`; the solution is a vertex, with at most n + m - 1 entries that are not zero.

    Args:
        supply, demand: what all instances share, n and m numbers that are 0 or greater, of equal sum.

    Instance data: `supply` (B, n) and `demand` (B, m), in place of the fields; `mask` (B, n, m), False for a pair that is not
    allowed. An infinite cost forbids a pair, too. Raises InfeasibleError, naming the instance, where supplies and demands
    have different sums (by more than 1e-6 of them) or the allowed pairs do not suffice, InstanceError for negative ones
    (ValueError if all instances share them).
    `duals["potential"]` of `solve_with_info` are those of the rows and then of the columns.

    >>> Transport(supply=[2, 1], demand=[1, 2])(torch.tensor([[[1.0, 3.0], [2.0, 5.0]]]))
    tensor([[[0., 2.],
             [1., 0.]]])
    """

    supply: Any = None
    demand: Any = None

    event_dim = 2
    graph = None
    constant_sum = True
    hull = "transport plans"

    def __post_init__(self) -> None:
        keep_constants(self, "supply", "demand")
        for name in ("supply", "demand"):
            if getattr(self, name) is not None and (getattr(self, name).dense() < 0).any():
                raise ValueError(f"Transport: {name} has an amount that is negative. Amounts are 0 or greater.")

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The transport plans.  # (B, n, m) -> (B, n, m)"""
        return in_type_of(self, self._solved(*self._arguments(scores, **instance)), scores).reshape(scores.shape)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The transport plans, with potentials that prove them."""
        self.check(scores, **instance)
        found = self._flows(*self._arguments(scores, **instance))
        y = in_type_of(self, found.y, scores).reshape(scores.shape)
        info = self._info(scores.flatten(1), y.flatten(1), found)
        return Solution(y, info.objective, info.optimal, info.bound, info.duals)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """The part of `direction` whose rows and columns sum to zero.  # (*S, B, n, m) -> (*S, B, n, m)"""
        if mask is None:
            centred = direction - direction.mean(-1, keepdim=True)
            return centred - centred.mean(-2, keepdim=True)
        n, m = direction.shape[-2:]
        edges = batched(_pairs(n, m, direction.device), direction.shape[-3])
        return circulation(direction.flatten(-2), edges, n + m, mask.flatten(1)).reshape(direction.shape)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The pairs of row and column between which something is carried.  # (B, n, m) -> B tensors (2, number)"""
        return [one.nonzero().T for one in y]

    def _arguments(
        self, scores: Tensor, supply: Tensor | None = None, demand: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, None, Tensor, Tensor]:
        check_mask(self, scores, mask)
        count, n, m = scores.shape
        amounts = [self._amounts("supply", supply, (count, n), scores), self._amounts("demand", demand, (count, m), scores)]
        balance = torch.cat([amounts[0], -amounts[1]], 1)
        flat = None if mask is None else mask.flatten(1)
        return scores.flatten(1), flat, None, balance, _pairs(n, m, scores.device)

    def _amounts(self, name: str, given: Tensor | None, shape: tuple[int, int], scores: Tensor) -> Tensor:
        amounts = self._each(name, given, scores).double()
        if amounts.shape != shape:
            raise ValueError(
                f"Transport: `{name}` has shape {tuple(amounts.shape)} for scores of shape {tuple(scores.shape)}; expected "
                f"{shape} (as a field: without the first {shape[0]})."
            )
        if given is not None:
            self._refuse(~(amounts >= 0), f"a {name}", "that is negative or NaN", "Amounts are 0 or greater.")
        return amounts

    _advice = "pairs between them are missing. Allow more pairs."


@lru_cache(maxsize=16)
def _pairs(n: int, m: int, device: torch.device) -> Tensor:
    """Edges from each row to each column, row-major; columns are numbered after the rows.  # (2, n m)"""
    pair = torch.arange(n * m, device=device)
    return torch.stack([pair // max(m, 1), n + pair % max(m, 1)])
