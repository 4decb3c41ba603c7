"""Rules that solve again at shifted scores."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from ..arguments import check_numbers
from ..autograd import Scheme, finite_difference, is_mapped, is_plain, is_transformed
from ..noise import Gumbel, Noise, draw_samples
from ..oracle import Oracle
from ..solver import Solver
from .base import Rule, distance_centre, needs_objective

Step = float | Literal["auto"]
"""A number, or "auto": the rule of thumb `step = mean |theta| / mean |g|` of Vlastelica et al., anew in each backward pass.

The means are over the batch, with `theta` before noise; all-zero scores count as ones. Gradients then do not depend on the
scale of the loss except in proportion, and are zero where `g` is.
"""


class _DifferenceRule(Rule):
    step: Step
    two_sided: bool

    def check(self, solver: Solver) -> None:
        needs_objective(self, solver)
        if self.step != "auto" and not (
            isinstance(self.step, Real) and not isinstance(self.step, bool) and 0 < self.step < math.inf
        ):
            raise ValueError(f"{type(self).__name__}: step={self.step!r}; it must be a positive number or 'auto'.")

    def _difference(self, oracle: Oracle, theta: Tensor, scheme: Scheme) -> Tensor:
        """`y(theta)`, with the noise of the scheme.  # (*S, B, *E) -> (*S, B, *E)"""
        if self.step == "auto":
            return _relative_difference(oracle, theta, _size(theta, 1), scheme._replace(norm=1))
        return finite_difference(oracle, theta, self.step, scheme)


def _size(theta: Tensor, norm: float) -> Tensor:
    """A norm over the batch, at least in single precision; one if it is zero.  # (*S, B, *E) -> ()"""
    theta = torch.where(theta.detach().isinf(), 0, theta.detach())  # an infinite score forbids an entry
    size = torch.linalg.vector_norm(theta, norm, dtype=torch.promote_types(theta.dtype, torch.float32))
    return torch.where(size == 0, theta.numel() ** (1 / norm), size)


def _relative_difference(oracle: Oracle, theta: Tensor, size: Tensor, scheme: Scheme) -> Tensor:
    """`y(theta)`, with the step `size / |g|`; gradients of the padding, and of infinite scores, stay out of the norm."""
    y = finite_difference(oracle, theta, size, scheme)
    return oracle.inside(torch.where(theta.detach().isinf(), y.detach(), y))


class Blackbox(_DifferenceRule):
    """Interpolated solver (Vlastelica et al., ICLR 2020): one more solve in the backward pass.

    Backward, for gradients `g` of the solution and scores to maximise: `(y(theta) - y(theta - step g)) / step`, the exact
    gradient of a piecewise affine interpolation. `step` is lambda, in units of scores per unit of gradient: choose it so that
    `step * |g|` is of the order of `|theta|`, or let "auto" do so. `two_sided` takes
    `(y(theta + step g) - y(theta - step g)) / (2 step)`, for two more solves. A second derivative is refused.

    >>> import torch
    >>> from solverlayers import SolverLayer
    >>> from solverlayers.solvers import Argmax
    >>> x = torch.tensor([[1.0, 3.0]], requires_grad=True)
    >>> (SolverLayer(Argmax(), Blackbox(step=2.0))(x) * torch.tensor([0.0, 2.0])).sum().backward()
    >>> x.grad
    tensor([[-0.5000,  0.5000]])
    """

    either_sense = True

    def __init__(self, step: Step = 10.0, two_sided: bool = False):
        super().__init__()
        self.step, self.two_sided = step, two_sided

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return self._difference(oracle, theta, Scheme(self.two_sided))


class LPGD(Rule):
    """Lagrangian proximal gradient descent for linear objectives (Paulus, Martius & Musil, ICML 2024).

    The gradient of the lower Lagrange-Moreau envelope of the linearised loss, for scores to maximise:
    `(y(theta) - y_rho(theta - tau g)) / tau`, where `y_rho` maximises `<theta - tau g, y> - rho/2 |y - y(theta)|^2`. A negative
    `tau` gives the upper envelope, `(y_rho(theta + |tau| g) - y(theta)) / |tau|`; `two_sided` the average of both, for two
    more solves. With `rho = 0` it is `Blackbox(step=tau)`.

    With `rho > 0` the distance has to be linear in `y`, so that the solver itself can solve the proximal problem at scores
    `theta - tau g + rho (y(theta) - c)`: `c = 1/2` for solvers that declare `binary`, `c = 0` for those that declare
    `constant_norm`; others are refused. A second derivative is refused.
    """

    either_sense = True

    def __init__(self, tau: float = 1.0, rho: float = 0.0, two_sided: bool = False):
        super().__init__()
        self.tau, self.rho, self.two_sided = tau, rho, two_sided

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        centre = distance_centre(self, oracle.solver) if self.rho else 0.0
        return finite_difference(oracle, theta, self.tau, Scheme(self.two_sided, pull=self.rho, centre=centre))

    def check(self, solver: Solver) -> None:
        needs_objective(self, solver)
        real = isinstance(self.tau, Real) and isinstance(self.rho, Real)
        if not real or not math.isfinite(self.tau) or self.tau == 0 or not 0 <= self.rho < math.inf:
            raise ValueError(
                f"LPGD: tau={self.tau!r} and rho={self.rho!r}; tau is a number other than zero, and rho not negative."
            )
        if self.rho:
            distance_centre(self, solver)


class IMLE(_DifferenceRule):
    """Implicit maximum-likelihood estimation (Niepert et al., NeurIPS 2021), perturb-and-MAP with a shared perturbation.

    Forward: the mean of `y(theta + sigma e_s)` over `samples` draws, all solved in one call. Backward:
    `mean_s (y(theta + sigma e_s) - y(theta - step g + sigma e_s)) / step`. The division by `step` is not in the paper's
    Algorithm 1, which leaves it to the learning rate. `step` may be "auto", `two_sided` takes central differences, as in
    `Blackbox`. A second derivative is refused.
    """

    def __init__(
        self,
        step: Step = 10.0,
        sigma: float = 1.0,
        samples: int = 1,
        noise: Noise | None = None,
        two_sided: bool = False,
    ):
        super().__init__()
        self.step, self.sigma, self.samples, self.two_sided = step, sigma, samples, two_sided
        self.noise = Gumbel() if noise is None else noise

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        if is_plain():
            noise = draw_samples(self.noise, theta.detach(), self.samples)
            return self._difference(oracle, theta, Scheme(self.two_sided, noise=noise, sigma=self.sigma))
        return self._mean_difference(oracle, theta, draw(theta, self.sigma, self.samples, self.noise))

    def _mean_difference(self, oracle: Oracle, theta: Tensor, eta: Tensor) -> Tensor:
        """The same with noisy scores at hand, as transforms need it.  # (*S, B, *E), (samples, *S, B, *E) -> (*S, B, *E)

        The mean hands each sample `g / samples`, so the step is stretched to make every target `eta - step g`.
        """
        if self.step == "auto":
            scheme = Scheme(self.two_sided, norm=1)
            return _relative_difference(oracle, eta, _size(theta.expand_as(eta), 1), scheme).mean(0)
        return finite_difference(oracle, eta, self.step * len(eta), Scheme(self.two_sided)).mean(0)

    def check(self, solver: Solver) -> None:
        super().check(solver)
        check_samples(self, self.samples, self.sigma, self.noise)


class AIMLE(Rule):
    """Adaptive I-MLE (Minervini et al., AAAI 2023): a step that finds its own size.

    As `IMLE` with `step = alpha |theta| / |g|`, with norms over the batch. After each backward pass while training, `alpha`
    grows by `rate` if the running mean of the non-zeros of the gradient, per instance and sample, is below `target`, and
    shrinks by `rate` otherwise, never below zero, where the gradient is zero. `target` is a count of entries, so for large
    solutions it is well above one. `alpha` starts at `start`, the running mean (`nonzeros`, with decay 0.9) at `target`; both
    are buffers.

    A second derivative is refused, and so are `torch.func` and `torch.compile` while training: `alpha` changes in the backward
    pass, which they forbid. In `eval()` all work.
    """

    alpha: Tensor
    nonzeros: Tensor

    def __init__(
        self,
        target: float = 1.0,
        rate: float = 1e-3,
        sigma: float = 1.0,
        samples: int = 1,
        noise: Noise | None = None,
        two_sided: bool = False,
        start: float = 1.0,
    ):
        super().__init__()
        self.target, self.rate, self.sigma, self.samples = target, rate, sigma, samples
        self.noise = Gumbel() if noise is None else noise
        self.two_sided, self.start = two_sided, start
        check_numbers(self, "target", "rate", "start")
        self.register_buffer("alpha", torch.tensor(float(start)))
        self.register_buffer("nonzeros", torch.tensor(float(target)))

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        if is_transformed():
            raise RuntimeError(
                "AIMLE adapts its step in the backward pass, which torch.func and torch.compile forbid. Use it in plain eager "
                "mode, call eval() first, or use IMLE(step='auto')."
            )
        start = theta.detach()
        eta = theta + draw_samples(self.noise, start, self.samples).added_to(torch.zeros_like(start), self.sigma)
        if eta.requires_grad:
            solutions = max(math.prod(eta.shape[: eta.ndim - oracle.event_dim]), 1)
            eta.register_hook(lambda grad: self._adapt(grad, solutions))
        size = self.alpha * _size(theta.expand_as(eta), 2)
        return _relative_difference(oracle, eta, size, Scheme(self.two_sided, norm=2)).mean(0)

    @torch.no_grad()
    def _adapt(self, grad: Tensor, solutions: int) -> None:
        if is_mapped(grad):
            raise RuntimeError(
                "AIMLE adapts its step in each backward pass, and this one is mapped. Take gradients one by one, call eval() "
                "first, or use Blackbox(step='auto')."
            )
        self.nonzeros.lerp_((grad.count_nonzero() / solutions).to(self.nonzeros), 0.1)
        self.alpha.add_(torch.where(self.nonzeros < self.target, self.rate, -self.rate)).clamp_(min=0)

    def check(self, solver: Solver) -> None:
        needs_objective(self, solver)
        check_samples(self, self.samples, self.sigma, self.noise)
        if not (self.target > 0 and self.rate > 0 and self.start >= 0):
            raise ValueError(
                f"AIMLE: target={self.target!r}, rate={self.rate!r} and start={self.start!r}; target and rate must be "
                f"positive, and start not negative."
            )


def check_samples(asker: object, samples: int, sigma: float, noise: Noise) -> None:
    """Refuses a number of samples below one, a scale that is not positive, and what is no noise."""
    name = type(asker).__name__
    if isinstance(samples, bool) or not hasattr(samples, "__index__") or not isinstance(sigma, Real):
        raise TypeError(f"{name}: samples={samples!r} and sigma={sigma!r}; expected a whole number and a number.")
    if samples < 1 or not 0 < sigma < math.inf:
        raise ValueError(f"{name}: samples={samples!r} and sigma={sigma!r}; both must be positive.")
    if not isinstance(noise, Noise):
        raise TypeError(f"{name}: noise is {noise!r}; expected an instance of Noise, such as Gumbel(), or None.")


def draw(theta: Tensor, sigma: float, samples: int, noise: Noise, multiplicative: bool = False) -> Tensor:
    """`theta` as `perturbed` by `samples` draws.  # (*E) -> (S, *E)"""
    return perturbed(theta, sigma, noise.sample(theta.expand(samples, *theta.shape)), multiplicative)


def perturbed(theta: Tensor, sigma: float, z: Tensor, multiplicative: bool = False) -> Tensor:
    """`theta + sigma z`, or, which keeps signs, `theta exp(sigma z - sigma^2 / 2)`.  # (*E), (S, *E) -> (S, *E)"""
    return theta * torch.exp(sigma * z - sigma**2 / 2) if multiplicative else theta + sigma * z
