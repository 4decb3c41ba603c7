"""How good is a gradient: a rule's gradient beside the exact gradient of the smoothed loss.

The loss of a discrete solution is piecewise constant in the scores, so its own gradient is zero wherever it exists. What rules
approximate is the gradient of a smoothed loss, `F(theta) = E loss(y(theta + sigma Z))`, and that can be computed: exactly for
one-hot solvers under Gumbel noise, where solutions have softmax probabilities, and by central differences with common random
numbers otherwise.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .layer import SolverLayer
from .noise import Gumbel, Noise
from .oracle import Oracle
from .solver import Solver

Loss = Callable[[Tensor], Tensor]
"""Solutions `(*S, B, *E)` to losses `(*S, B)`."""

_CHUNK = 1 << 22
"""How many numbers one call of the solver gets at most while a reference is computed."""


@dataclass(frozen=True)
class Reference:
    """The gradient of the smoothed loss at some scores, in the solver's sense, and its standard error (zero if exact)."""

    gradient: Tensor
    standard_error: Tensor


@dataclass(frozen=True)
class GradientQuality:
    """A rule's gradient beside the reference; all relative figures are averages over instances.

    Attributes:
        bias: `|E g - reference| / |reference|`; the squared distance of the sample mean is corrected for the variance of the
            mean and of the reference, so that it does not grow with a rule's noise.
        std: standard deviation of `g` around its mean, `/ |reference|`; zero for a deterministic rule.
        cosine: between the mean gradient and the reference; free of scale.
        moved: share of instances whose gradient is not zero, averaged over repeats.
        radial: cosine between a descent step and the scores; negative where training shrinks the scores (norm collapse),
            positive where it inflates them.
        seconds: wall time of one forward and backward pass.
        solves: solver calls per instance in one forward and backward pass.
    """

    rule: str
    bias: float
    std: float
    cosine: float
    moved: float
    radial: float
    seconds: float
    solves: float


def smoothed_gradient(
    solver: Solver,
    loss: Loss,
    scores: Tensor,
    sigma: float = 1.0,
    noise: Noise | None = None,
    samples: int = 20_000,
    **instance: Tensor,
) -> Reference:
    """The gradient of `E loss(y(scores + sigma Z))`, the mean over no batch: one gradient per instance.  # (B, *E)

    By enumeration for a one-hot solver with Gumbel noise; otherwise by central differences of half-width `sigma / 4` with the
    same `samples` draws on both sides, whose bias is of second order in that width.
    """
    noise = Gumbel() if noise is None else noise
    oracle = Oracle(solver, instance)
    theta = oracle.pack((scores.detach(),))
    if solver.one_hot and isinstance(noise, Gumbel):
        return Reference(oracle.sign * _enumerated(theta, loss, sigma * noise.scale), torch.zeros_like(scores))
    gradient, error = _differences(oracle, theta, loss, sigma, noise, samples)
    return Reference(oracle.sign * gradient, error)


def _enumerated(theta: Tensor, loss: Loss, temperature: float) -> Tensor:
    """The gradient of `sum_v softmax(theta / temperature)_v loss(v)` over one-hot `v`.  # (B, n) -> (B, n)"""
    count = theta.shape[-1]
    vertices = torch.eye(count, dtype=theta.dtype, device=theta.device)[:, None].expand(count, *theta.shape)
    values = loss(vertices).detach().movedim(0, -1)
    with torch.enable_grad():
        theta = theta.requires_grad_()
        expected = ((theta / temperature).softmax(-1) * values).sum()
        return torch.autograd.grad(expected, theta)[0]


def _differences(oracle: Oracle, theta: Tensor, loss: Loss, sigma: float, noise: Noise, samples: int) -> tuple[Tensor, Tensor]:
    lead = theta.shape[: theta.ndim - oracle.event_dim]
    entries = theta[(0,) * len(lead)].numel()
    half = sigma / 4
    shifts = half * torch.eye(entries, dtype=theta.dtype, device=theta.device).reshape(
        entries, *[1] * len(lead), *theta.shape[len(lead) :]
    )
    both = torch.stack([shifts, -shifts])[:, :, None]  # (2, entries, 1, 1, *E)
    chunk = max(1, min(samples, _CHUNK // (2 * entries * theta.numel())))
    total = total_squares = torch.zeros(entries, *lead, dtype=torch.float64, device=theta.device)
    done = 0
    while done < samples:
        size = min(chunk, samples - done)
        eta = theta + sigma * noise.sample(theta.expand(size, *theta.shape))
        up, down = loss(oracle(eta + both))  # each (entries, size, B)
        slope = ((up - down) / (2 * half)).double()
        total, total_squares = total + slope.sum(1), total_squares + (slope**2).sum(1)
        done += size
    mean = total / samples
    error = ((total_squares / samples - mean**2).clamp_min(0) / samples).sqrt()
    return mean.movedim(0, -1).reshape(theta.shape).to(theta), error.movedim(0, -1).reshape(theta.shape).to(theta)


def gradient_quality(
    layer: SolverLayer, loss: Loss, scores: Tensor, reference: Reference, repeats: int = 100, **instance: Tensor
) -> GradientQuality:
    """Measures the layer's gradient of `loss` at `scores` (`repeats` times, for rules that draw) beside `reference`.

    >>> from solverlayers.rules import Identity
    >>> from solverlayers.solvers import Argmax
    >>> scores, prices = torch.tensor([[0.0, 1.0, 0.5]]), torch.tensor([3.0, 1.0, 2.0])
    >>> def loss(y):
    ...     return (y * prices).sum(-1)
    >>> reference = smoothed_gradient(Argmax(), loss, scores)
    >>> quality = gradient_quality(SolverLayer(Argmax(), Identity()), loss, scores, reference)
    >>> quality.moved, quality.std, round(quality.cosine, 2)
    (1.0, 0.0, 0.36)
    """
    layer, count = _counting(layer)
    scores = scores.detach().requires_grad_()
    gradients = []
    start = time.perf_counter()
    for _ in range(repeats):
        y = layer(scores, **instance)
        assert isinstance(y, Tensor)
        gradients.append(torch.autograd.grad(loss(y).sum(), scores)[0])
    seconds = (time.perf_counter() - start) / repeats
    event_dim = layer.solver.event_dim
    g = torch.stack(gradients).flatten(-event_dim)
    target, theta = reference.gradient.flatten(-event_dim), scores.detach().flatten(-event_dim)
    mean, scale = g.mean(0), target.norm(dim=-1)
    variance = (g - mean).pow(2).sum(-1).mean(0)
    uncertain = variance / max(repeats - 1, 1) + reference.standard_error.flatten(-event_dim).pow(2).sum(-1)
    bias = ((mean - target).pow(2).sum(-1) - uncertain).clamp_min(0).sqrt()
    return GradientQuality(
        rule=repr(layer.rule),
        bias=float((bias / scale).mean()),
        std=float((variance.sqrt() / scale).mean()),
        cosine=float(torch.cosine_similarity(mean, target, dim=-1).mean()),
        moved=float((g != 0).any(-1).double().mean()),
        radial=float(torch.cosine_similarity(-mean, theta, dim=-1).mean()),
        seconds=seconds,
        solves=count[0] / (repeats * len(scores)),
    )


def _counting(layer: SolverLayer) -> tuple[SolverLayer, list[int]]:
    """A copy of the layer whose solver counts the instances it solves."""
    count = [0]
    base = type(layer.solver)

    def solve(self: Solver, *parts: Tensor, **instance: Tensor) -> Tensor:
        count[0] += len(parts[0])
        return base.solve(self, *parts, **instance)

    solver: Solver = Solver.__new__(type(base.__name__, (base,), {"solve": solve}))
    vars(solver).update(vars(layer.solver))
    layer = copy.deepcopy(layer)
    layer.solver = solver
    return layer, count
