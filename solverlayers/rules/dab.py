"""Differentiable approximation bridges and ready approximators for them."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..arguments import check_numbers
from ..oracle import Oracle
from ..solver import Solver
from .base import SurrogateRule


class BatchApproximator(nn.Module):
    """Dense layers `D -> D/2 -> D/2 -> D'` with tanh on the flattened scores, as in the authors' code.

    `shape` is that of one instance's scores, `output_shape` that of its solution.  # (*S, B, *E) -> (*S, B, *F)
    """

    def __init__(self, shape: tuple[int, ...], output_shape: tuple[int, ...] | None = None):
        super().__init__()
        self.shape, self.output_shape = tuple(shape), tuple(shape if output_shape is None else output_shape)
        inputs, outputs = math.prod(self.shape), math.prod(self.output_shape)
        hidden = max(inputs // 2, 1)
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, outputs)
        )

    def forward(self, scores: Tensor) -> Tensor:
        lead = scores.shape[: scores.ndim - len(self.shape)]
        if scores.shape[len(lead) :] != self.shape:
            raise ValueError(
                f"BatchApproximator: scores have shape {tuple(scores.shape)}, but it was built for instances of shape "
                f"{self.shape}. Give `DAB` the shape of an instance, or take the 'equivariant' approximator, which fits any."
            )
        return self.network(scores.reshape(*lead, math.prod(self.shape))).reshape(*lead, *self.output_shape)


class IndependentApproximator(nn.Module):
    """One network `1 -> width -> width -> 1` with tanh, shared by all entries, as in the authors' code; elementwise."""

    def __init__(self, shape: tuple[int, ...], output_shape: tuple[int, ...] | None = None, width: int = 32):
        super().__init__()
        _same(type(self).__name__, shape, output_shape)
        self.network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, scores: Tensor) -> Tensor:  # (*S, B, *E) -> (*S, B, *E)
        return self.network(scores.unsqueeze(-1)).squeeze(-1)


class EquivariantApproximator(nn.Module):
    """A network that commutes with permutations of the entries along every axis of one instance; any size.

    Each layer mixes an entry with the means over each axis and over the whole instance (Zaheer et al., NeurIPS 2017;
    Hartford et al., ICML 2018), so it fits sorting, top-k and assignment, where relabelling the input relabels the output.
    Means are those of the entries inside a mask, so padding changes nothing.
    """

    def __init__(self, shape: tuple[int, ...], output_shape: tuple[int, ...] | None = None, width: int = 32):
        super().__init__()
        _same(type(self).__name__, shape, output_shape)
        self.axes = len(shape)
        features = self.axes + 1 + (self.axes > 1)  # the entry, its mean along each axis, and the mean of all
        sizes = [1, width, width, 1]
        self.layers = nn.ModuleList(nn.Linear(features * a, b) for a, b in pairwise(sizes))

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:  # (*S, B, *E), (B, *E) -> (*S, B, *E)
        x, inside = scores.unsqueeze(-1), None if mask is None else mask.unsqueeze(-1)
        for k, layer in enumerate(self.layers):
            x = layer(self._pool(torch.tanh(x) if k else x, inside))
        return x.squeeze(-1)

    def _pool(self, x: Tensor, inside: Tensor | None) -> Tensor:
        axes = [[-2 - a] for a in range(self.axes)]
        if self.axes > 1:
            axes.append([-2 - a for a in range(self.axes)])
        return torch.cat([x, *(_mean(x, inside, a).expand_as(x) for a in axes)], -1)


def _mean(x: Tensor, inside: Tensor | None, axes: list[int]) -> Tensor:
    if inside is None:
        return x.mean(axes, keepdim=True)
    return torch.where(inside, x, 0).sum(axes, keepdim=True) / inside.sum(axes, keepdim=True).clamp_min(1)


def _same(name: str, shape: tuple[int, ...], output_shape: tuple[int, ...] | None) -> None:
    if output_shape is not None and tuple(output_shape) != tuple(shape):
        raise ValueError(
            f"{name} keeps the shape of its input, but shape={tuple(shape)} and output_shape={tuple(output_shape)}. "
            f"Use the 'batch' approximator or a module of your own."
        )


APPROXIMATORS: dict[str, type[nn.Module]] = {
    "batch": BatchApproximator,
    "independent": IndependentApproximator,
    "equivariant": EquivariantApproximator,
}


class DAB(SurrogateRule):
    """Differentiable approximation bridge (Ramapuram & Webb, 2020): a network learns to imitate the solver.

    Forward: the solution, exactly. Backward, for gradients `g` of the solution: `J_a(z)^T g` with the Jacobian of the
    approximator `a` at the scores `z`. The task's loss never reaches the approximator. Add `layer.auxiliary_loss(z, y)` to the
    training loss: `weight * mean_batch sum_features (a(z) - y)^2`, which reaches the approximator alone, as in the authors'
    code, and leaves out padding and instances that could not be solved; `commitment > 0` adds that multiple of the same
    distance with gradient to the encoder and not to the approximator, the variant that results when only the hard output is
    detached. With `residual` the imitation is `theta + a(z)` (He et al., 2016), and `g + J_a(z)^T g` flows back:
    straight-through, corrected where the network has learned how the solver differs from it. In directions in which scores
    never vary, `J_a` is what chance made it; straight-through remains there. An approximator by name begins at zero, so the
    first gradient is that of straight-through.

    Args:
        approximator: a module from scores `(B, *E)` to solutions, or "batch", "independent" or "equivariant"
            with the `shape` of one instance's scores (and `output_shape` of its solution where that differs). One whose
            `forward` has an argument `mask` is given the entries that may be used: in the mask of the instances, and without
            infinite scores, which others see as zero; None for all.
        weight: gamma of the paper; its code uses 10.
        residual: whether the approximator adds to the scores, turned to be maximised; solutions must have their shape.

    The approximator sees the scores in the solver's own sense. Second derivatives are those of the approximator.
    """

    def __init__(
        self,
        approximator: nn.Module | str,
        weight: float = 10.0,
        shape: tuple[int, ...] | None = None,
        output_shape: tuple[int, ...] | None = None,
        commitment: float = 0.0,
        residual: bool = False,
    ):
        super().__init__()
        if isinstance(approximator, str):
            if approximator not in APPROXIMATORS:
                raise ValueError(f"unknown approximator {approximator!r}; use one of {', '.join(map(repr, APPROXIMATORS))}.")
            if shape is None:
                raise ValueError(
                    f"DAB({approximator!r}) needs shape=, the shape of one instance's scores, such as shape=(10,)."
                )
            if isinstance(shape, int) or isinstance(output_shape, int):
                raise TypeError(f"DAB({approximator!r}): shape={shape!r}, output_shape={output_shape!r}; use tuples, as (10,).")
            network = APPROXIMATORS[approximator](tuple(shape), output_shape)
            if residual:
                _begin_at_zero(network)
        elif isinstance(approximator, nn.Module):
            network = approximator
        else:
            raise TypeError(
                f"DAB: approximator is {approximator!r}; expected a module, or one of {', '.join(map(repr, APPROXIMATORS))}."
            )
        self.name = approximator if isinstance(approximator, str) else None
        self.approximator = network
        self.masked = "mask" in inspect.signature(network.forward).parameters
        self.weight, self.shape, self.output_shape, self.commitment = weight, shape, output_shape, commitment
        check_numbers(self, "weight", "commitment")
        self.residual = residual

    def check(self, solver: Solver) -> None:
        if self.residual and not solver.same_shape:
            raise ValueError(
                f"DAB(residual=True) adds to the scores what it has learned, so solutions need their shape; "
                f"{solver!r} may return another. Use residual=False."
            )

    def surrogate(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        return self._frozen(oracle, *_without_infinite(oracle, theta))

    def auxiliary_loss(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        target = y.detach()
        theta, usable = _without_infinite(oracle, theta)
        seen = theta.detach()
        imitation = self._imitation(seen, self.approximator(*self._seen(oracle, seen, usable))).to(target.dtype)
        batch = theta.shape[: theta.ndim - oracle.event_dim]
        inside, count = _inside(oracle, usable, target.ndim - len(batch)), _solved(oracle, batch)
        loss = self.weight * _distance(imitation, target, inside, count)
        if self.commitment:
            loss = loss + self.commitment * _distance(self._frozen(oracle, theta, usable), target, inside, count)
        return loss

    def agreement(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        """The share of entries of the approximator's output that round to the solution."""
        theta, usable = _without_infinite(oracle, theta)
        agrees = (self._frozen(oracle, theta, usable) - y).abs() < 0.5
        inside = _inside(oracle, usable, y.ndim - theta.ndim + oracle.event_dim)
        return (agrees if inside is None else agrees[inside.expand_as(agrees)]).to(theta.dtype).mean()

    def _frozen(self, oracle: Oracle, theta: Tensor, usable: Tensor | None) -> Tensor:
        constants = {k: v.detach() for k, v in [*self.approximator.named_parameters(), *self.approximator.named_buffers()]}
        seen = self._seen(oracle, theta, usable)
        return self._imitation(theta, torch.func.functional_call(self.approximator, constants, seen))

    def _imitation(self, theta: Tensor, learned: Tensor) -> Tensor:
        learned = learned.to(theta.dtype)
        return theta + learned if self.residual else learned

    def _seen(self, oracle: Oracle, theta: Tensor, usable: Tensor | None) -> tuple[Tensor, ...]:
        """The scores in the solver's own sense and in the approximator's own precision, and the mask if it takes one."""
        parameter = next(self.approximator.parameters(), theta)
        scores = (oracle.sign * theta).to(parameter.dtype)
        return (scores, usable) if self.masked and usable is not None else (scores,)

    def __repr__(self) -> str:
        first = repr(self.name) if self.name else repr(self.approximator)
        shapes = f", shape={self.shape!r}" if self.shape is not None else ""
        shapes += f", output_shape={self.output_shape!r}" if self.output_shape is not None else ""
        residual = ", residual=True" if self.residual else ""
        return f"DAB({first}, weight={self.weight!r}{shapes}, commitment={self.commitment!r}{residual})"


def _begin_at_zero(network: nn.Module) -> None:
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _without_infinite(oracle: Oracle, theta: Tensor) -> tuple[Tensor, Tensor | None]:
    """Zero for scores that are infinite, and the entries that may be used.  # (*S, B, *E) -> (*S, B, *E), (*S, B, *E)"""
    usable = oracle.usable(theta)
    return (theta if usable is None else torch.where(usable, theta, 0)), usable


def _inside(oracle: Oracle, usable: Tensor | None, event_dim: int) -> Tensor | None:
    """Which entries of solutions count: usable ones, where solutions have the shape of scores, and of solved instances."""
    inside = usable if oracle.solver.same_shape else None
    if oracle.failed is None:
        return inside
    solved = oracle.expand(~oracle.failed, event_dim)
    return solved if inside is None else inside & solved


def _solved(oracle: Oracle, batch: torch.Size) -> int | Tensor:
    """How many solutions there are, of instances that did not fail; at least one."""
    if oracle.failed is None:
        return max(math.prod(batch), 1)
    return (math.prod(batch[:-1]) * (~oracle.failed).sum()).clamp_min(1)


def _distance(a: Tensor, b: Tensor, inside: Tensor | None, count: int | Tensor) -> Tensor:
    """Squared distance of `count` solutions, averaged over them.  # (*S, B, *F), (*S, B, *F), (B, *F) -> ()"""
    squares = (a - b).square()
    return (squares if inside is None else torch.where(inside, squares, 0)).sum() / count
