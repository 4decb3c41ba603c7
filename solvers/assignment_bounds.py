"""Bounds on the objectives of assignment problems, proved by dual values."""

from __future__ import annotations

import torch
from torch import Tensor

from .augmenting_paths import real_lines

Duals = tuple[Tensor, Tensor]
"""Of rows `(B, n)` and of columns `(B, m)`, in the sense of the scores."""


def proved_bound(scores: Tensor, maximize: bool, duals: Duals, mask: Tensor | None, skips: Tensor | None = None) -> Tensor:
    """The bound on the objective that `duals` prove, whatever they are.  # (B, n, m), ((B, n), (B, m)) -> (B,)

    `skips (B, n)` is what `kernels.assignment.assign` calls `skip_rows`.
    """
    sign = -1.0 if maximize else 1.0
    rows, columns = sign * duals[0], sign * duals[1]
    costs = sign * scores.double()
    costs = costs if mask is None else torch.where(mask, costs, torch.inf)
    real_rows, real_columns = real_lines(costs, mask)
    if skips is not None:
        return sign * _row_bound(costs, real_rows, real_columns, columns.clamp(max=0), sign * skips)
    # Prices of the longer side may not be positive, because some of it stays unmatched.
    n, m = real_rows.sum(1, keepdim=True), real_columns.sum(1, keepdim=True)
    by_row = _row_bound(costs, real_rows, real_columns, torch.where(n < m, columns.clamp(max=0), columns))
    by_column = _row_bound(costs.mT, real_columns, real_rows, torch.where(n > m, rows.clamp(max=0), rows))
    return sign * torch.where((n <= m).squeeze(1), by_row, by_column)


def rounding(duals: Duals) -> Tensor:
    """How far objective and bound of an optimal matching may be apart, because sums are rounded.  # -> (B,)"""
    return 1e-11 * (duals[0].abs().sum(1) + duals[1].abs().sum(1))


def _row_bound(costs: Tensor, real_rows: Tensor, real_columns: Tensor, prices: Tensor, skips: Tensor | None = None) -> Tensor:
    """The sum of each row's least reduced cost (or skip), plus the prices.  # (B, n, m) -> (B,)"""
    reduced = costs - prices.unsqueeze(1)
    skips = costs.new_full(costs.shape[:2], torch.inf) if skips is None else skips
    least = torch.cat([reduced, skips.unsqueeze(2)], 2).amin(2)
    return torch.where(real_rows, least, 0.0).sum(1) + torch.where(real_columns, prices, 0.0).sum(1)
