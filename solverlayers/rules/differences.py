"""Rules that solve again at shifted scores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autograd import finite_difference
from ..noise import Gumbel, Noise
from ..oracle import Oracle
from ..solver import Solver
from .base import Rule, needs_objective


class _DifferenceRule(Rule):
    step: float

    def check(self, solver: Solver) -> None:
        needs_objective(self, solver)
        if not self.step > 0:
            raise ValueError(f"{type(self).__name__}: step={self.step!r}; it must be positive.")


class Blackbox(_DifferenceRule):
    """Interpolated solver (Vlastelica et al., ICLR 2020): one more solve in the backward pass.

    Backward, for gradients `g` of the solution and scores to maximise: `(y(theta) - y(theta - step g)) / step`, the exact
    gradient of a piecewise affine interpolation. `step` is lambda, in units of scores per unit of gradient: choose it so that
    `step * |g|` is of the order of `|theta|`. A second derivative is refused.

    >>> import torch
    >>> from solverlayers import SolverLayer
    >>> from solverlayers.solvers import Argmax
    >>> x = torch.tensor([[1.0, 3.0]], requires_grad=True)
    >>> (SolverLayer(Argmax(), Blackbox(step=2.0))(x) * torch.tensor([0.0, 2.0])).sum().backward()
    >>> x.grad
    tensor([[-0.5000,  0.5000]])
    """

    def __init__(self, step: float = 10.0):
        super().__init__()
        self.step = step

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return finite_difference(oracle, theta, self.step)


class IMLE(_DifferenceRule):
    """Implicit maximum-likelihood estimation (Niepert et al., NeurIPS 2021), perturb-and-MAP with a shared perturbation.

    Forward: the mean of `y(theta + sigma e_s)` over `samples` draws, all solved in one call. Backward:
    `mean_s (y(theta + sigma e_s) - y(theta - step g + sigma e_s)) / step`. The division by `step` is not in the paper's
    Algorithm 1, which leaves it to the learning rate. A second derivative is refused.
    """

    def __init__(self, step: float = 10.0, sigma: float = 1.0, samples: int = 1, noise: Noise | None = None):
        super().__init__()
        self.step, self.sigma, self.samples = step, sigma, samples
        self.noise = Gumbel() if noise is None else noise

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        eta = theta + self.sigma * self.noise.sample(theta.expand(self.samples, *theta.shape))
        # the mean hands each sample g / samples, so the step is stretched to make every target theta - step g
        return finite_difference(oracle, eta, self.step * self.samples).mean(0)

    def check(self, solver: Solver) -> None:
        super().check(solver)
        check_samples(self, self.samples, self.sigma)


def check_samples(rule: Rule, samples: int, sigma: float) -> None:
    """Refuses a number of samples below one and a scale that is not positive."""
    if samples < 1 or not sigma > 0:
        raise ValueError(f"{type(rule).__name__}: samples={samples!r} and sigma={sigma!r}; both must be positive.")


def perturb(theta: Tensor, sigma: float, samples: int, noise: Noise, multiplicative: bool) -> tuple[Tensor, Tensor]:
    """Perturbed scores, held constant, and the log-density of each given `theta`.  # (*E) -> (S, *E), (S, *E)

    Additive: `eta = theta + sigma z`. Multiplicative, which keeps signs: `eta = theta exp(sigma z - sigma^2 / 2)`.
    """
    z = noise.sample(theta.detach().expand(samples, *theta.shape))
    if not multiplicative:
        eta = theta.detach() + sigma * z
        return eta, noise.log_prob((eta - theta) / sigma)
    eta = theta.detach() * torch.exp(sigma * z - sigma**2 / 2)
    size = torch.where(theta == 0, 1, theta).abs().log()  # a score of exactly zero stays zero whatever the noise
    return eta, noise.log_prob(z - (size - size.detach()) / sigma)  # log|eta| = log|theta| + sigma z - sigma^2/2 is held
