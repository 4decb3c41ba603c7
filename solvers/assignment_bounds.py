"""Bounds on the objectives of assignment problems, proved by dual values."""

from __future__ import annotations

import torch
from torch import Tensor

Duals = tuple[Tensor, Tensor]
"""Of rows `(B, n)` and of columns `(B, m)`, in the sense of the scores."""


def proved_bound(scores: Tensor, maximize: bool, duals: Duals, mask: Tensor | None, skips: Tensor | None = None) -> Tensor:
    """The bound on the objective that `duals` prove, whatever they are.  # (B, n, m), ((B, n), (B, m)) -> (B,)

    `skips (B, n)` is what `kernels.assignment.assign` calls `skip_rows`.
    """
    sign = -1.0 if maximize else 1.0
    rows, columns = sign * duals[0], sign * duals[1]
    costs = sign * scores.double()
    allowed = torch.ones_like(costs, dtype=torch.bool) if mask is None else mask
    costs = torch.where(allowed, costs, torch.inf)
    if skips is None:
        return sign * _complete_bound(costs, allowed, rows, columns)
    return sign * _row_bound(costs, allowed, columns.clamp(max=0), sign * skips)


def rounding(duals: Duals) -> Tensor:
    """How far objective and bound of an optimal matching may be apart, because sums are rounded.  # -> (B,)"""
    return 1e-11 * (duals[0].abs().sum(1) + duals[1].abs().sum(1))


def _complete_bound(costs: Tensor, allowed: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A lower bound on the cost of complete matchings, from any duals.  # (B, n, m), (B, n, m), (B, n), (B, m) -> (B,)

    Prices of the longer side may not be positive, because some of it stays unmatched.
    """
    n, m = allowed.any(2).sum(1, keepdim=True), allowed.any(1).sum(1, keepdim=True)
    by_row = _row_bound(costs, allowed, torch.where(n < m, columns.clamp(max=0), columns))
    by_column = _row_bound(costs.mT, allowed.mT, torch.where(n > m, rows.clamp(max=0), rows))
    return torch.where((n <= m).squeeze(1), by_row, by_column)


def _row_bound(costs: Tensor, allowed: Tensor, prices: Tensor, skips: Tensor | None = None) -> Tensor:
    """The sum of each row's least reduced cost, plus the prices.  # (B, n, m), (B, n, m), (B, m), (B, n) -> (B,)"""
    if costs.shape[2] == 0:
        return costs.new_zeros(len(costs))
    least = (costs - prices.unsqueeze(1)).amin(2)
    least = least if skips is None else torch.minimum(least, skips)
    return torch.where(allowed.any(2), least, 0.0).sum(1) + torch.where(allowed.any(1), prices, 0.0).sum(1)
