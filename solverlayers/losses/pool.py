"""Losses over a pool of known solutions: they solve nothing.

A `pool` holds `P` solutions, shared by all instances `(P, *E)` or of each instance `(P, B, *E)`; `torch.unique(dim=0)` of the
solutions of a training set is a good start. Values `v_p(theta) = <theta, y_p>` are those of scores to maximise, so the best
solution has the highest value in both senses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_numbers, check_positive
from ..autograd import is_transformed
from ..errors import first_instance
from ..oracle import Oracle
from ..solver import Solver
from .base import SolverLoss, has_offset


class _PoolLoss(SolverLoss):
    def __init__(self, solver: Solver):
        super().__init__(solver)
        self._needs_objective()

    def _values(self, oracle: Oracle, theta: Tensor, pool: Tensor) -> Tensor:
        """`v_p` of each solution for each instance.  # (*S, B, *E), (P, *E) or (P, B, *E) -> (P, *S, B)"""
        if not isinstance(pool, Tensor):
            raise TypeError(f"{type(self).__name__}: `pool` is a {type(pool).__name__}; expected a tensor of solutions.")
        lead = theta.ndim - oracle.event_dim
        if pool.shape[1:] not in (theta.shape[lead:], theta.shape[lead - 1 :], theta.shape) or not len(pool):
            one, each = (", ".join(map(str, shape)) for shape in (theta.shape[lead:], theta.shape[lead - 1 :]))
            raise ValueError(
                f"{type(self).__name__}: `pool` has shape {tuple(pool.shape)} but the scores have shape {tuple(theta.shape)}; "
                f"expected at least one solution for all, (P, {one}), or for each instance, (P, {each})."
            )
        pool = pool.detach().to(theta)
        if not is_transformed() and pool.sum().isnan() and (bad := pool.isnan().flatten(1).any(1)).any():
            raise ValueError(f"{type(self).__name__}: solution {first_instance(bad)} of `pool` has NaN.")
        pool = pool[(slice(None), *(None,) * (theta.ndim + 1 - pool.ndim))]
        pool = oracle.inside(pool.expand(-1, *theta.shape))
        finite = theta.nan_to_num(nan=torch.nan)  # a forbidden entry has score -inf and is zero in every solution
        values = torch.einsum("...e,p...e->p...", finite.flatten(lead), pool.flatten(lead + 1))
        if has_offset(self.solver):
            values = values + oracle.sign * self.solver.offset(pool, **oracle.instance)
        return values


class NCELoss(_PoolLoss):
    """Contrastive loss against all of a pool (Mulamba et al., IJCAI 2021): `mean_p <theta, y_p - y_true>`.

    Linear in the scores, so it has no minimum of its own: bound the scores, or pass `scores - true_scores`, the authors'
    second variant, which also penalises the distance from the true scores.
    """

    def forward(self, scores: Tensor, y_true: Tensor, pool: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each instance, over a pool for all or for each.  # (B, *E), (B, *E), (P, *E) or (P, B, *E) -> (B,)"""
        return self._contrasts(scores, y_true, pool, instance).mean(0)

    def _contrasts(self, scores: Tensor, y_true: Tensor, pool: Tensor, instance: dict[str, Tensor]) -> Tensor:
        """By how much each solution of the pool beats the true one.  # (P, B)"""
        oracle, theta = self._bind(scores, instance)
        y_true = self._target(oracle, "y_true", y_true, theta)
        return self._values(oracle, theta, pool) - self._values(oracle, theta, y_true.unsqueeze(0))


class MAPLoss(NCELoss):
    """Contrastive loss against the best of a pool (Mulamba et al., IJCAI 2021): `max_p <theta, y_p - y_true>`.

    With the true solution in the pool it is never negative; with all solutions it is `ImitationLoss`.
    """

    def forward(self, scores: Tensor, y_true: Tensor, pool: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each instance, over a pool for all or for each.  # (B, *E), (B, *E), (P, *E) or (P, B, *E) -> (B,)"""
        return self._contrasts(scores, y_true, pool, instance).max(0).values


class _RankingLoss(_PoolLoss):
    def forward(self, scores: Tensor, true_scores: Tensor, pool: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each instance, over a pool for all or for each.  # (B, *E), (B, *E), (P, *E) or (P, B, *E) -> (B,)"""
        oracle, theta = self._bind(scores, instance)
        true = (oracle.sign * self._target(oracle, "true_scores", true_scores, theta)).expand_as(theta)
        return self.compare(self._values(oracle, theta, pool), self._values(oracle, true, pool))

    def compare(self, values: Tensor, true_values: Tensor) -> Tensor:
        """The loss of values of a pool, given the true ones.  # (P, B), (P, B) -> (B,)"""
        raise NotImplementedError


class PointwiseRankingLoss(_RankingLoss):
    """Squared errors of the values of a pool (Mandi et al., ICML 2022): `mean_p (v_p(theta) - v_p(true))^2`."""

    def compare(self, values: Tensor, true_values: Tensor) -> Tensor:
        return (values - true_values).square().mean(0)


class PairwiseRankingLoss(_RankingLoss):
    """The best of a pool against each other one (Mandi et al., ICML 2022).

    `mean_p max(0, margin + v_p(theta) - v_best(theta))` over the others; `best` is the first of the best under the true scores.
    """

    def __init__(self, solver: Solver, margin: float = 0.0):
        super().__init__(solver)
        self.margin = margin
        check_numbers(self, "margin")

    def compare(self, values: Tensor, true_values: Tensor) -> Tensor:
        best = true_values.argmax(0, keepdim=True)
        excess = (self.margin + values - values.gather(0, best)).clamp_min(0).scatter(0, best, 0)
        return excess.sum(0) / max(len(values) - 1, 1)


class ListwiseRankingLoss(_RankingLoss):
    """Cross-entropy between the softmax of the true and of the predicted values of a pool (Mandi et al., ICML 2022).

    `-sum_p softmax(v(true) / temperature)_p log softmax(v(theta) / temperature)_p`: the weight is on the best solutions, in
    both senses.
    """

    def __init__(self, solver: Solver, temperature: float = 1.0):
        super().__init__(solver)
        self.temperature = temperature
        check_positive(self, "temperature")

    def compare(self, values: Tensor, true_values: Tensor) -> Tensor:
        weights = torch.softmax(true_values / self.temperature, 0)
        return -(weights * torch.log_softmax(values / self.temperature, 0)).sum(0)
