"""Prediction first, decision later: the loss that asks no solver."""

from __future__ import annotations

from torch import Tensor

from solverlayers.losses import SolverLoss


class TwoStageLoss(SolverLoss):
    """The mean squared error of the scores themselves, the baseline of decision-focused learning; needs the true scores.

    >>> import torch
    >>> from solverlayers.solvers import Argmax
    >>> TwoStageLoss(Argmax())(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]]))
    tensor([2.5000])
    """

    def forward(self, scores: Tensor, true_scores: Tensor, **instance: Tensor) -> Tensor:  # (B, *E), (B, *E) -> (B,)
        oracle, theta = self._bind(scores, instance)
        error = theta - oracle.sign * self._target(oracle, "true_scores", true_scores, scores)
        return self._finish(oracle, error.square().flatten(-oracle.event_dim).mean(-1))
