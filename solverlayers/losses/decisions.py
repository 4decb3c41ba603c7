"""Losses of the decision itself: what the chosen solution costs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..arguments import check_positive, real_numbers
from ..autograd import replace_gradient
from ..noise import Gaussian, Noise
from ..oracle import OnFailure
from ..rules.perturbed import check_perturbation, perturb, score_weighted
from ..solver import Solver
from .base import SolverLoss, forbidden


class PerturbationGradientLoss(SolverLoss):
    """Perturbation gradient loss (Huang & Gupta, 2024): the true cost of the decision, as a difference quotient of the optimum.

    With `z(theta) = max_y <theta, y>`, whose derivative along the true scores is `<true, y(theta)>`:
    `(z(theta - sigma true) - z(theta)) / sigma`; if `two_sided`, `(z(theta - sigma true) - z(theta + sigma true)) / (2 sigma)`.
    As `sigma` goes to zero it tends to the true cost of the decision, where scores are gains to its negative; the one-sided
    loss is never below it. Gradient for scores to maximise: `(y(theta - sigma true) - y(theta)) / sigma`. A difference of
    convex functions, not convex. Two solves, in one call; needs an objective that is linear in the scores, without offset. What
    infinite scores forbid, true ones or not, is forbidden in both.

    >>> from solverlayers.solvers import Argmax
    >>> scores = torch.tensor([[2.0, 1.0]], requires_grad=True)
    >>> loss = PerturbationGradientLoss(Argmax(), sigma=2.0)(scores, torch.tensor([[4.0, 1.0]]))
    >>> loss, torch.autograd.grad(loss.sum(), scores)[0]
    (tensor([-1.5000], grad_fn=<DivBackward0>), tensor([[-0.5000,  0.5000]]))
    """

    def __init__(self, solver: Solver, sigma: float = 1.0, two_sided: bool = False, on_failure: OnFailure = "raise"):
        super().__init__(solver, on_failure)
        self.sigma, self.two_sided = sigma, two_sided
        check_positive(self, "sigma")
        self._needs_objective()
        self._needs_no_offset()

    def forward(self, scores: Tensor, true_scores: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each instance, under its true scores.  # (B, *E), (B, *E) -> (B,)"""
        oracle, theta = self._bind(scores, instance)
        true = oracle.sign * self._target(oracle, "true_scores", true_scores, theta)
        shift = self.sigma * true
        eta = torch.stack([theta - shift, theta + shift if self.two_sided else theta])
        eta = torch.where(forbidden(theta, true), -torch.inf, eta)
        less, more = oracle.dot(eta, oracle(eta))
        return self._finish(oracle, (less - more) / (2 * self.sigma if self.two_sided else self.sigma))


class Pushforward(SolverLoss):
    """The expectation of any cost of the solution under noise, with its gradient: `E cost(y(theta + sigma Z))`.

    `cost` maps solutions `(S, B, *E)` to numbers `(S, B)` and may be anything: another program, a simulation, a metric. Its
    gradient in the scores is the score function's, `mean_s (cost_s - b_s) grad log p(eta_s | theta)` with the leave-one-out
    baseline `b_s`, unbiased in every order. If `cost` is differentiable in parameters of its own, they get theirs too.
    Any solver will do, also one that is no optimiser. `noise`, `multiplicative` and `antithetic` are those of `Perturbed`.
    In `eval()` it is the cost of the solver's own solution.

    >>> from solverlayers.solvers import Argmax
    >>> price = torch.tensor([3.0, 1.0])
    >>> _ = torch.manual_seed(0)
    >>> expected = Pushforward(Argmax(), sigma=1.0, samples=1000)
    >>> scores = torch.tensor([[0.0, 0.0]], requires_grad=True)
    >>> value = expected(scores, lambda y: (y * price).sum(-1))
    >>> (value - 2).abs() < 0.2
    tensor([True])
    >>> torch.autograd.grad(value.sum(), scores)[0].sign()  # the dear one should have a lower score
    tensor([[ 1., -1.]])
    """

    def __init__(
        self,
        solver: Solver,
        sigma: float = 1.0,
        samples: int = 10,
        noise: Noise | None = None,
        multiplicative: bool = False,
        antithetic: bool = False,
        on_failure: OnFailure = "raise",
    ):
        super().__init__(solver, on_failure)
        self.sigma, self.samples, self.multiplicative, self.antithetic = sigma, samples, multiplicative, antithetic
        self.noise = Gaussian() if noise is None else noise
        check_perturbation(self, sigma, samples, self.noise, antithetic)

    def forward(self, scores: Tensor, cost: Callable[[Tensor], Tensor], **instance: Tensor) -> Tensor:
        """The expected cost of each instance.  # (B, *E) -> (B,)"""
        oracle, theta = self._bind(scores, instance)
        if not self.training:
            return self._finish(oracle, _costs(cost, oracle(theta.unsqueeze(0)), theta.ndim - oracle.event_dim + 1).squeeze(0))
        eta, log_prob = perturb(theta, self.sigma, self.samples, self.noise, self.multiplicative, self.antithetic)
        costs = _costs(cost, oracle(eta), eta.ndim - oracle.event_dim)
        surrogate = score_weighted(costs, log_prob.flatten(-oracle.event_dim).sum(-1), pairs=self.antithetic)
        return self._finish(oracle, replace_gradient(costs.mean(0), surrogate))


def _costs(cost: Callable[[Tensor], Tensor], y: Tensor, dimensions: int) -> Tensor:
    if not callable(cost):
        raise TypeError(f"Pushforward: cost is a {type(cost).__name__}; expected a function of solutions.")
    costs = cost(y)
    if not isinstance(costs, Tensor):
        raise TypeError(f"Pushforward: the cost is a {type(costs).__name__}; expected a tensor.")
    costs = real_numbers("Pushforward: the cost", costs, y)
    if costs.shape != y.shape[:dimensions]:
        raise ValueError(
            f"Pushforward: the cost of solutions of shape {tuple(y.shape)} has shape {tuple(costs.shape)}; expected one number "
            f"per sample and instance, {tuple(y.shape[:dimensions])}. Sum over the last dimensions of each solution."
        )
    return costs
