"""Score function, with baselines, and the sum over all solutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from ..autograd import replace_gradient
from .base import Estimator, Loss, check_distribution, check_samples, evaluate
from .baselines import Baseline, LeaveOneOut
from .latents import draw

_LEAVE_ONE_OUT = LeaveOneOut()
_MOST_SOLUTIONS = 1 << 16


class ScoreFunction(Estimator):
    """REINFORCE: `mean_s (f(y_s) - b_s) grad log p(y_s)` (Williams, 1992). Unbiased, for any loss and any distribution.

    `baseline=None` subtracts nothing; `MovingAverage()` and `LearnedBaseline(network)` serve for a single sample, for which
    the default, the mean loss of the other samples, has none. For a `PerturbedSolution` the density is that of the perturbed
    scores. Derivatives of every order are unbiased (Foerster et al., ICML 2018).

    >>> import torch
    >>> from torch.distributions import Bernoulli
    >>> theta = torch.zeros(3, requires_grad=True)
    >>> value = ScoreFunction(samples=100)(lambda b: (b - 0.499) ** 2, Bernoulli(logits=theta))
    >>> value.sum().backward()
    >>> theta.grad.shape
    torch.Size([3])
    """

    def __init__(self, samples: int = 8, baseline: Baseline | None = _LEAVE_ONE_OUT):
        super().__init__()
        if baseline is not None and not isinstance(baseline, Baseline):
            raise TypeError(f"ScoreFunction: baseline is {baseline!r}; expected a Baseline such as LeaveOneOut(), or None.")
        least = 1 if baseline is None else baseline.least_samples
        advice = f" with {baseline!r}; fewer samples go with None, MovingAverage() or LearnedBaseline(network)"
        self.samples, self.baseline = check_samples(self, samples, least, advice if least > 1 else ""), baseline

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        check_distribution(self, distribution)
        y, log_prob = draw(distribution, self.samples)
        losses = evaluate(self, loss, y, distribution.batch_shape)
        weight = torch.exp(log_prob - log_prob.detach())
        if self.baseline is None:
            return replace_gradient(losses.mean(0), (losses * weight).mean(0))
        guess = self.baseline(losses.detach(), distribution)
        misfit = (losses.detach() - guess) ** 2
        return replace_gradient(losses.mean(0), ((losses - guess.detach()) * weight + misfit).mean(0))


class Exact(Estimator):
    """The sum over all solutions, `sum_y p(y) f(y)`, for distributions with few of them; exact in value and every derivative.

    At most 65536 solutions: a reference to measure others by, and the best choice where it is cheap.
    """

    def forward(self, loss: Loss, distribution: Distribution) -> Tensor:
        check_distribution(self, distribution)
        y = _support(distribution)
        log_prob = distribution.log_prob(y)
        return (log_prob.exp() * evaluate(self, loss, y, distribution.batch_shape)).sum(0)


def _support(distribution: Distribution) -> Tensor:
    """All solutions, those of independent parts in every combination.  # (count, *B, *E)"""
    parts = 1
    base = distribution
    if isinstance(distribution, Independent):
        base, dims = distribution.base_dist, distribution.reinterpreted_batch_ndims
        parts = base.batch_shape[len(base.batch_shape) - dims :].numel()
    if not base.has_enumerate_support:
        raise TypeError(f"Exact: the solutions of {distribution!r} cannot be listed; use ScoreFunction.")
    if parts == 1 and base is distribution:
        return base.enumerate_support()
    values = base.enumerate_support(expand=False)
    values = values.reshape(len(values), *base.event_shape)
    if len(values) ** parts > _MOST_SOLUTIONS:
        raise ValueError(
            f"Exact: {len(values)} solutions of each of {parts} parts make {len(values)}^{parts} together, more than "
            f"{_MOST_SOLUTIONS}; use an estimator that samples."
        )
    choice = torch.cartesian_prod(*[torch.arange(len(values), device=values.device)] * parts).reshape(-1, parts)
    grid = values[choice].reshape(len(choice), *[1] * len(distribution.batch_shape), *distribution.event_shape)
    return grid.expand(-1, *distribution.batch_shape, *distribution.event_shape)
