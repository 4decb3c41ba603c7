"""Rules that sample a category: the solution while training is a draw from `softmax(theta)`.

They apply to one-hot solvers. The draw is `argmax(theta + Gumbel noise)`, by the solver itself, so one solve a call, masks
included. With `g` the gradient at the draw `D`, `pi = softmax(theta)` and `J(p) g = p * g - p <p, g>` the Jacobian of a softmax
that takes the value `p`, each rule is a choice of the matrix that takes `g` back to `theta`. Derivatives of second order are
those of the surrogate of each rule with `D` and the noise held, and say nothing of those of the expected loss. In `eval()` the
output is the solver's own solution, the most likely category, without gradient.

Several latents of C categories are scores `(B, L, C)`: sample dimensions in front of the batch cost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_counts, check_numbers, check_positive
from ..autograd import replace_gradient
from ..noise import Gumbel
from ..oracle import Oracle
from ..relaxations.base import masked_softmax, usable
from ..solver import Solver
from .base import Rule


class _Categorical(Rule):
    """What rules for one-hot solvers share."""

    temperature: float

    def check(self, solver: Solver) -> None:
        name = type(self).__name__
        if not solver.one_hot:
            raise ValueError(
                f"{name} draws one category from softmax(scores), which needs a solver with one-hot solutions such as Argmax; "
                f"{solver!r} has others. Use Perturbed or IMLE, which draw solutions of any solver, or Identity."
            )
        check_positive(self, "temperature")


class _Sampled(_Categorical):
    """Forward: a draw. Backward: a surrogate that depends on the draw."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        y = oracle(theta + Gumbel().sample(theta))
        return replace_gradient(y, self.surrogate(theta, y, oracle.mask))

    def surrogate(self, theta: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """A function of `theta`, differentiable, given the draw `y`.  # (*S, B, C) -> (*S, B, C)"""
        raise NotImplementedError


class GumbelSoftmax(_Categorical):
    """Gumbel-softmax, straight-through or relaxed (Jang, Gu & Poole; Maddison, Mnih & Teh, both ICLR 2017).

    With `G` Gumbel noise and `s = softmax((theta + G) / temperature)`: the output is the argmax of `theta + G` with the
    gradient `J(s) g / temperature` of `s` (`hard=True`), or `s` itself, which is a point of the simplex with its true gradient
    (`hard=False`). Low temperatures have little bias and much variance. One solve when hard, none when soft.

    >>> import torch
    >>> from solverlayers import SolverLayer
    >>> from solverlayers.solvers import Argmax
    >>> SolverLayer(Argmax(), GumbelSoftmax())(torch.tensor([[1000.0, 0.0]]))
    tensor([[1., 0.]])
    """

    def __init__(self, temperature: float = 1.0, hard: bool = True):
        super().__init__()
        self.temperature, self.hard = temperature, hard

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        eta = theta + Gumbel().sample(theta)
        relaxed = masked_softmax(eta / self.temperature, oracle.mask)
        return replace_gradient(oracle(eta), relaxed) if self.hard else relaxed


class CategoricalStraightThrough(_Sampled):
    """Straight-through for a draw (Bengio, Leonard & Courville, 2013), the baseline of the ReinMax paper: "ST" there.

    Backward: `J(softmax(theta / temperature)) g / temperature`. At temperature 1 the mean gradient is exact for losses linear
    in the draw, and first-order for others (Liu et al., 2023). Not the same as Gumbel noise on the layer's scores with
    `StraightThrough(Softmax())`, which is `GumbelSoftmax`.
    """

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature

    def surrogate(self, theta: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return masked_softmax(theta / self.temperature, mask)


class ReinMax(_Sampled):
    """ReinMax: straight-through of second order (Liu, Dong, Liu, Yu & Gao, NeurIPS 2023).

    Backward: `2 J((softmax(theta / temperature) + D) / 2) g - J(pi) g / 2`, Heun's method where straight-through is Euler's. At
    temperature 1 the mean gradient is exact for losses quadratic in the draw, and the rule is then the limit of `GumbelRao` at
    temperature zero (ZGR: Shekhovtsov, 2023): `J(pi) g / 2 + <g, D - pi> (D - pi) / 2`. A temperature above 1 (the paper tunes
    it up to 1.5) gives that up for a flatter distribution; it acts inside the mean with `D` alone, never on the draw or as a
    factor. No evaluation of the loss beyond the one at the draw.
    """

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature

    def surrogate(self, theta: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        held = theta.detach()
        middle = (masked_softmax(held / self.temperature, mask) + y) / 2
        shift = torch.where(usable(held, mask), middle.log() - held, 0)  # a constant that makes the softmax take that value
        return 2 * masked_softmax(theta + shift, mask) - masked_softmax(theta, mask) / 2

    def check(self, solver: Solver) -> None:
        super().check(solver)
        if self.temperature < 1:
            raise ValueError(
                f"ReinMax: temperature={self.temperature!r}; it must be at least 1. Unlike that of GumbelSoftmax it does not "
                f"sharpen the draw: it flattens the distribution that is averaged with the draw, and 1 already has no bias for "
                f"quadratic losses. Use 1 up to about 1.5."
            )


class GumbelRao(_Sampled):
    """Straight-through Gumbel-softmax, Rao-Blackwellised: GR-MCK (Paulus, Maddison & Krause, ICLR 2021).

    Backward: `mean_s J(softmax(eta_s / temperature)) g / temperature` over `samples` noisy scores `eta_s` drawn given that
    their argmax is `D`, their noise held constant. The mean over all draws is that of `GumbelSoftmax` (`samples=1` is the same
    in law) and the variance is lower, at no further solve or evaluation of the loss. Given the winner `i`, `eta_i =
    logsumexp(theta) + Gumbel` and the others are Gumbel at `theta_j`, truncated at `eta_i`.
    """

    def __init__(self, temperature: float = 0.5, samples: int = 100):
        super().__init__()
        self.temperature, self.samples = temperature, samples

    def surrogate(self, theta: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        held, used = theta.detach(), usable(theta, mask)
        noise = (self._conditional(held, y, used) - held).where(used, 0)
        return masked_softmax((theta + noise) / self.temperature, mask).mean(0)

    def _conditional(self, theta: Tensor, y: Tensor, used: Tensor) -> Tensor:
        """Noisy scores given their argmax.  # (*B, C) -> (S, *B, C)"""
        gumbel = Gumbel().sample(theta.expand(self.samples, *theta.shape))
        total = torch.where(used, theta, -torch.inf).logsumexp(-1, keepdim=True)
        best = total + (gumbel * y).sum(-1, keepdim=True)
        others = -torch.logaddexp(-(theta + gumbel), -best)
        return torch.where(y > 0, best, others)

    def check(self, solver: Solver) -> None:
        super().check(solver)
        check_counts(self, samples=1)


class GappedStraightThrough(_Sampled):
    """Gapped straight-through, GST-1.0 at `gap=1` (Fan, Chi, Rudnicky & Ramadge, ICML 2022).

    Backward: `J(s) g / temperature` of `s = softmax(theta' / temperature)`, where the scores are shifted by constants so that
    the drawn category has the largest score and all others stay at least `gap` below it: `theta'_D = max theta`, `theta'_j =
    min(theta_j, max theta - gap)`. It has the two properties of Gumbel-softmax that matter, without the variance of its noise.
    """

    def __init__(self, temperature: float = 1.0, gap: float = 1.0):
        super().__init__()
        self.temperature, self.gap = temperature, gap

    def surrogate(self, theta: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        held, used = theta.detach(), usable(theta, mask)
        best = torch.where(used, held, torch.finfo(theta.dtype).min).amax(-1, keepdim=True)
        shifted = torch.where(y > 0, best, torch.minimum(held, best - self.gap))
        return masked_softmax((theta + torch.where(used, shifted - held, 0)) / self.temperature, mask)

    def check(self, solver: Solver) -> None:
        super().check(solver)
        check_numbers(self, "gap")
        if self.gap < 0:
            raise ValueError(f"GappedStraightThrough: gap={self.gap!r}; it must not be negative.")
