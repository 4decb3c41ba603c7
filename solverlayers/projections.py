"""Projections of the scores that leave the solution unchanged (Sahoo et al., ICLR 2023, section 3.2).

They remove directions in which a solver cannot move, from the scores and, through their Jacobian, from every gradient. Without
them scores drift along those directions without bound.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .autograd import normalise
from .oracle import Oracle
from .solver import Solver


class Projection(nn.Module):
    """Scores to scores: `projection(oracle, theta)`.  # (*S, B, *E) -> (*S, B, *E)"""

    preserves_solution = True
    """Whether the solution is unchanged; then `eval()` leaves the projection out."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        raise NotImplementedError

    def check(self, solver: Solver) -> None:
        """Raises ValueError where the projection would change the solution."""


class Mean(Projection):
    """`theta - mean(theta)`, over the entries in the mask; for solvers whose solutions have a constant sum."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return _centre(oracle, theta)

    def check(self, solver: Solver) -> None:
        if not solver.constant_sum:
            raise ValueError(
                f"projection 'mean' changes the solutions of {type(solver).__name__}: they differ in their sums, so a constant "
                f"added to all scores matters. Use 'norm', 'std' (which is then the norm alone) or 'tangent'."
            )


class Norm(Projection):
    """`theta / |theta|`; for every solver whose solutions do not depend on a positive scale."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return _normalise(oracle, theta)

    def check(self, solver: Solver) -> None:
        if not solver.scale_free:
            raise ValueError(
                f"a norm projection changes the solutions of {solver}: they depend on the scale of the scores (a margin or a "
                f"threshold). Use projection=None or 'tangent'."
            )


class Std(Norm):
    """`norm(mean(theta))`; the norm alone where the solutions have no constant sum, since the mean would change them."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return _normalise(oracle, _centre(oracle, theta) if oracle.solver.constant_sum else theta)


class Tangent(Projection):
    """The solver's own `tangent`: only the directions in which its solutions differ are left."""

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        usable = oracle.usable(theta)
        if usable is None:
            return oracle.tangent(theta)
        return torch.where(usable, oracle.tangent(torch.where(usable, theta, 0)), theta.detach())


class _Applied(Projection):
    """A user's module or function of the scores alone; it may change the solution, so it also runs in `eval()`."""

    preserves_solution = False

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        return oracle.sign * self.function(oracle.sign * theta)


PROJECTIONS: dict[str, type[Projection]] = {"mean": Mean, "norm": Norm, "std": Std, "tangent": Tangent}


def make_projection(projection: str | Projection | Callable[[Tensor], Tensor]) -> Projection:
    """A projection from its name, itself, or any module or function of the scores."""
    if isinstance(projection, Projection):
        return projection
    if isinstance(projection, str):
        if projection not in PROJECTIONS:
            raise ValueError(f"unknown projection {projection!r}; use one of {', '.join(map(repr, PROJECTIONS))}, or a module.")
        return PROJECTIONS[projection]()
    if isinstance(projection, type) or not callable(projection):
        raise TypeError(
            f"projection is {projection!r}; expected one of {', '.join(map(repr, PROJECTIONS))}, or a module or function of "
            f"the scores."
        )
    return _Applied(projection)


def _centre(oracle: Oracle, theta: Tensor) -> Tensor:
    dims, usable = tuple(range(-oracle.event_dim, 0)), oracle.usable(theta)
    if usable is None:
        return theta - theta.mean(dims, keepdim=True)
    total = torch.where(usable, theta, 0).sum(dims, keepdim=True)
    return torch.where(usable, theta - total / usable.sum(dims, keepdim=True).clamp_min(1), theta.detach())


def _normalise(oracle: Oracle, theta: Tensor) -> Tensor:
    usable = oracle.usable(theta)
    if usable is None:
        return normalise(theta, oracle.event_dim)
    return torch.where(usable, normalise(torch.where(usable, theta, 0), oracle.event_dim), theta.detach())
