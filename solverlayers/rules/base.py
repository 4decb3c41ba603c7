"""What a backward rule is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..autograd import replace_gradient
from ..describe import constructor_call
from ..oracle import Oracle
from ..solver import Solver


class Rule(nn.Module):
    """How a gradient passes through an oracle. In `eval()` the output is `oracle(theta)`, the solver's own solution."""

    either_sense: ClassVar[bool] = False
    """Whether the rule does as well with costs and an oracle that minimises (`Oracle.sense`), which saves turning them."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:  # (*S, B, *E) -> (*S, B, *E)
        raise NotImplementedError

    def auxiliary_loss(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        """A loss that trains the rule's own parameters, a scalar; zero without any."""
        return theta.new_zeros(())

    def agreement(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        """How well a learned stand-in agrees with the solver, in [0, 1]; NaN without one."""
        return theta.new_full((), torch.nan)

    def check(self, solver: Solver) -> None:
        """Raises ValueError, with advice, where the rule has no meaning for the solver."""

    def __repr__(self) -> str:
        """The constructor call, which is also the rule's name on the command line."""
        return constructor_call(self)


def needs_objective(rule: Rule, solver: Solver) -> None:
    """Refuses a solver that maximises nothing."""
    if not solver.linear:
        raise ValueError(
            f"{type(rule).__name__} solves again with shifted scores, which needs a solver that maximises <scores, y>; "
            f"{solver!r} is a general hard function. Use DAB, Perturbed, or StraightThrough with a relaxation."
        )


def distance_centre(asker: object, solver: Solver) -> float:
    """The number `c` that makes a squared distance of solutions linear: `|y - y0|^2 = const - 2 <y0 - c, y>`.

    It is 1/2 for solutions of zeros and ones, where `|y|^2 = sum(y)` and the distance is Hamming's, and 0 for solutions of
    constant norm. Other solvers are refused, with `asker` in the message.
    """
    if solver.binary:
        return 0.5
    if solver.constant_norm:
        return 0.0
    raise ValueError(
        f"{type(asker).__name__} needs distances of solutions that are linear in the solution: solutions of zeros and ones, "
        f"or of one norm; {solver!r} declares neither. If its solutions are such, set `binary = True` or "
        f"`constant_norm = True` in its class. Otherwise use a rule or a loss without distances, such as Blackbox or Identity, "
        f"SPOPlusLoss or FenchelYoungLoss."
    )


class SurrogateRule(Rule):
    """Forward: the solution. Backward: a differentiable stand-in for it."""

    def hard(self, oracle: Oracle, theta: Tensor) -> Tensor:
        """What the forward pass returns while training."""
        return oracle(theta)

    def surrogate(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        """A differentiable function of `theta` in the shape of `y`."""
        raise NotImplementedError

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        y = self.hard(oracle, theta) if self.training else oracle(theta)
        return replace_gradient(y, self.surrogate(oracle, theta, y))
