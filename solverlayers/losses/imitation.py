"""Losses that compare a true solution with the best one at shifted scores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_numbers
from ..noise import Gaussian, Noise
from ..oracle import OnFailure, Oracle
from ..rules.base import distance_centre
from ..rules.differences import check_samples, draw
from ..rules.regularized import Regularized
from ..solver import Solver
from .base import SolverLoss, forbidden, lead


class ImitationLoss(SolverLoss):
    """How far a true solution is from optimal: `max_y <eta, y> - <eta, y_true>`, never negative, at scores `eta` of its own.

    With `eta = theta` it is the structured perceptron's; `StructuredHingeLoss`, `SPOPlusLoss` and `FenchelYoungLoss` shift
    `theta` by a margin, by the true scores, and by noise. The gradient is `y(eta) - y_true` times the derivative of `eta`.
    """

    def __init__(self, solver: Solver, on_failure: OnFailure = "raise"):
        super().__init__(solver, on_failure)
        self._needs_objective()

    def forward(self, scores: Tensor, y_true: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each instance, beside its true solution.  # (B, *E), (B, *E) -> (B,)"""
        oracle, theta = self._bind(scores, instance)
        y_true = self._target(oracle, "y_true", y_true, theta)
        return self._finish(oracle, self.imitate(oracle, theta, y_true))

    def imitate(self, oracle: Oracle, theta: Tensor, y_true: Tensor) -> Tensor:
        """The loss, of scores to maximise.  # (*S, B, *E), (B, *E) -> (*S, B)"""
        return _suboptimality(oracle, theta, y_true)


def _suboptimality(oracle: Oracle, eta: Tensor, y_true: Tensor) -> Tensor:
    return lead(oracle, eta, oracle(eta), y_true)


class FenchelYoungLoss(ImitationLoss):
    """Perturbed Fenchel-Young loss (Blondel et al., JMLR 2020; Berthet et al., NeurIPS 2020).

    `E max_y <theta + sigma Z, y> - <theta, y_true>`, estimated from `samples` draws in one call of the solver; gradient
    `E y(theta + sigma Z) - y_true`. Convex in `theta`. The Fenchel-Young loss proper also has the conjugate term
    `Omega(y_true)`, which is constant in `theta`, cannot be computed from a solver alone, and is left out; the least value is
    therefore not zero. For noise of mean zero no sample is negative, since each draw also shifts `<theta, y_true>`: a control
    variate, which leaves the expectation and the gradient as they are. For a noise whose mean is not zero, it is added exactly.

    `multiplicative=True` perturbs `theta exp(sigma Z - sigma^2 / 2)`, which keeps the sign of costs (Dalle et al., 2022). These
    factors `W` have mean one for the standard normal `Z`, the only noise that may be used, so all else holds: the loss is
    `E max_y <W theta, y> - <theta, y_true>`, convex in `theta`, no sample is negative, and the gradient is `E W y - y_true`.

    >>> from solverlayers.solvers import Argmax
    >>> _ = torch.manual_seed(0)
    >>> loss = FenchelYoungLoss(Argmax(), sigma=0.1, samples=100)
    >>> loss(torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 1.0]])) > 4.9
    tensor([True])
    """

    def __init__(
        self,
        solver: Solver,
        sigma: float = 1.0,
        samples: int = 10,
        noise: Noise | None = None,
        multiplicative: bool = False,
        on_failure: OnFailure = "raise",
    ):
        super().__init__(solver, on_failure)
        self.sigma, self.samples, self.multiplicative = sigma, samples, multiplicative
        self.noise = Gaussian() if noise is None else noise
        check_samples(self, samples, sigma, self.noise)
        if multiplicative and self.noise != Gaussian():
            raise ValueError(
                f"FenchelYoungLoss: multiplicative=True with noise={self.noise!r}, whose factors do not have mean one. Leave "
                f"`noise` out, which is Gaussian(), and say with `sigma` how large it is."
            )
        _ = self.noise.mean  # refuses noise without one

    def imitate(self, oracle: Oracle, theta: Tensor, y_true: Tensor) -> Tensor:
        eta = draw(theta, self.sigma, self.samples, self.noise, self.multiplicative)
        loss = _suboptimality(oracle, eta, y_true).mean(0)
        mean = self.sigma * self.noise.mean
        return loss + mean * y_true.flatten(-oracle.event_dim).sum(-1) if mean else loss


class RegularizedFenchelYoungLoss(ImitationLoss):
    """Fenchel-Young loss of the quadratic regulariser (SparseMAP loss: Niculae et al., ICML 2018; Blondel et al., JMLR 2020).

    `max_mu (<theta, mu> - strength/2 |mu|^2) - (<theta, y_true> - strength/2 |y_true|^2)` over the hull of the solutions;
    gradient `mu - y_true`, with the maximiser `mu` as `Regularized` finds it. The full loss: never negative, and zero exactly
    where `mu` is `y_true`, a margin away from all other solutions.

    >>> from solverlayers.solvers import Argmax
    >>> loss = RegularizedFenchelYoungLoss(Argmax())
    >>> loss(torch.tensor([[1.0, 0.0], [0.5, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([0.0000, 0.0625])
    """

    def __init__(self, solver: Solver, strength: float = 1.0, iterations: int = 20, on_failure: OnFailure = "raise"):
        super().__init__(solver, on_failure)
        self.strength, self.iterations = strength, iterations
        Regularized(strength, iterations).check(solver)

    def imitate(self, oracle: Oracle, theta: Tensor, y_true: Tensor) -> Tensor:
        mixture = Regularized(self.strength, self.iterations)(oracle, theta.detach())
        square = (mixture.square() - y_true.square()).flatten(-oracle.event_dim).sum(-1)
        return oracle.dot(theta, mixture - y_true) - self.strength / 2 * square


class StructuredHingeLoss(ImitationLoss):
    """Structured hinge loss with the Hamming margin (structured SVM: Tsochantaridis et al., JMLR 2005).

    `max_y (<theta, y> + margin |y - y_true|^2) - <theta, y_true>`; gradient `y_aug - y_true`, `y_aug` being the maximiser. For
    solutions of zeros and ones the distance is Hamming's. It has to be linear in `y`, so that the solver itself solves the
    augmented problem: solvers that declare neither `binary` nor `constant_norm` are refused.

    >>> from solverlayers.solvers import Argmax
    >>> loss = StructuredHingeLoss(Argmax(), margin=0.5)  # two one-hot solutions differ in two entries
    >>> loss(torch.tensor([[2.0, 0.0], [0.2, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([0.0000, 0.8000])
    """

    def __init__(self, solver: Solver, margin: float = 1.0, on_failure: OnFailure = "raise"):
        super().__init__(solver, on_failure)
        self.margin = margin
        check_numbers(self, "margin")
        if margin < 0:
            raise ValueError(f"StructuredHingeLoss: margin={margin!r}; it must not be negative.")
        distance_centre(self, solver)

    def imitate(self, oracle: Oracle, theta: Tensor, y_true: Tensor) -> Tensor:
        away = oracle.inside(distance_centre(self, self.solver) - y_true)  # |y - y_true|^2 = const + 2 <away, y>
        return _suboptimality(oracle, theta + 2 * self.margin * away, y_true)


class SPOPlusLoss(SolverLoss):
    """SPO+ (Elmachtoub & Grigas, Management Science 2022): a convex upper bound of the regret of predicted costs.

    For scores to maximise `max_y <2 theta - true, y> - <2 theta - true, y*>` with `y*` the best solution under the true scores:
    the suboptimality of `y*` at `2 theta - true`, which is the authors' formula for both senses. Subgradient
    `2 (y(2 theta - true) - y*)`. Two solves, in one call. What infinite scores forbid, true ones or not, stays forbidden.

    >>> from solverlayers.solvers import Argmax
    >>> scores = torch.tensor([[2.0, 1.0]], requires_grad=True)
    >>> loss = SPOPlusLoss(Argmax())(scores, torch.tensor([[1.0, 4.0]]))
    >>> loss, torch.autograd.grad(loss.sum(), scores)[0]
    (tensor([5.], grad_fn=<SumBackward1>), tensor([[ 2., -2.]]))
    """

    def __init__(self, solver: Solver, on_failure: OnFailure = "raise"):
        super().__init__(solver, on_failure)
        self._needs_objective()

    def forward(self, scores: Tensor, true_scores: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each instance, under its true scores.  # (B, *E), (B, *E) -> (B,)"""
        oracle, theta = self._bind(scores, instance)
        true = oracle.sign * self._target(oracle, "true_scores", true_scores, theta)
        eta = torch.where(forbidden(theta, true), -torch.inf, 2 * theta - true)
        y, y_true = oracle(torch.stack([eta, true.expand_as(eta)]))
        return self._finish(oracle, lead(oracle, eta, y, y_true))
