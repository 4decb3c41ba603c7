"""Rules that put a differentiable stand-in behind the solution."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..autograd import solve_as_identity
from ..oracle import Oracle
from ..relaxations import Relaxation
from ..solver import Solver
from .base import SurrogateRule


def _needs_same_shape(rule: SurrogateRule, solver: Solver) -> None:
    if not solver.same_shape:
        raise ValueError(
            f"{type(rule).__name__} passes the gradient of the solution on to the scores unchanged, so both need one shape; "
            f"{solver!r} may return another. Use DAB, Perturbed, or StraightThrough with a relaxation of that shape."
        )


class Identity(SurrogateRule):
    """Negative identity: the solver counts as the identity of `theta` (Sahoo et al., ICLR 2023).

    Backward, for gradients `g` of the solution: `+g` for gains and `-g` for costs. No extra solve, no parameter. The paper's
    method is this rule with `projection="std"` on the layer, or `"mean"` or `"norm"`. Second derivatives are those of the
    surrogate program, in which the solution is `theta` plus a constant.

    >>> import torch
    >>> from solverlayers import SolverLayer
    >>> from solverlayers.solvers import Argmax
    >>> x = torch.tensor([[1.0, 3.0]], requires_grad=True)
    >>> (SolverLayer(Argmax(), Identity())(x) * torch.tensor([5.0, 7.0])).sum().backward()
    >>> x.grad
    tensor([[5., 7.]])
    """

    either_sense = True

    def surrogate(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        return theta if oracle.sense == "max" else -theta

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return solve_as_identity(oracle, theta)

    def check(self, solver: Solver) -> None:
        _needs_same_shape(self, solver)


class StraightThrough(SurrogateRule):
    """Straight-through estimator (Bengio, Leonard & Courville, 2013), plain or through a relaxation of the solver.

    `relaxation` maps `theta`, the scores turned to be maximised, into the convex hull of the solutions: one of
    `solverlayers.relaxations`, which is checked against the solver and gets the instances' mask (and `k`, `source`, ... where
    it can use them), or any function or module, such as `torch.sigmoid`. Backward: `J^T g` with the relaxation's Jacobian `J`;
    without one, `g` itself, which for linear objectives is the same as `Identity`. No extra solve. Second derivatives are those
    of the relaxation.

    >>> import torch
    >>> from solverlayers import SolverLayer
    >>> from solverlayers.relaxations import Softmax
    >>> from solverlayers.solvers import Argmax
    >>> x = torch.tensor([[0.0, 0.0]], requires_grad=True)
    >>> (SolverLayer(Argmax(), StraightThrough(Softmax()))(x) * torch.tensor([4.0, 0.0])).sum().backward()
    >>> x.grad
    tensor([[ 1., -1.]])
    """

    def __init__(self, relaxation: Relaxation | Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        if relaxation is not None and (isinstance(relaxation, type) or not callable(relaxation)):
            raise TypeError(
                f"StraightThrough: relaxation is {relaxation!r}; expected a relaxation such as Softmax() (with the brackets), "
                f"a function or module of the scores, or None."
            )
        self.relaxation = relaxation

    def surrogate(self, oracle: Oracle, theta: Tensor, y: Tensor) -> Tensor:
        if self.relaxation is None:
            return theta
        if not isinstance(self.relaxation, Relaxation):
            return self.relaxation(theta)
        return self.relaxation.of_checked(theta, oracle.mask, **{k: v for k, v in oracle.instance.items() if k != "mask"})

    def check(self, solver: Solver) -> None:
        if self.relaxation is None:
            _needs_same_shape(self, solver)
        elif isinstance(self.relaxation, Relaxation):
            self.relaxation.check(solver)
