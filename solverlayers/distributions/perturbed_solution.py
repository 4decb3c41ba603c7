"""Solutions of perturbed scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..arguments import check_positive
from ..noise import Gaussian, Noise
from ..oracle import Oracle
from ..solver import Solver, widened
from .common import NO_SHAPE


class PerturbedSolution(Distribution):
    """The solution of any solver under noise, `y = solver(scores + sigma Z)`.

    Its probabilities are those of the cones of the solver, which have no closed form, so there is no `log_prob`; estimators use
    the density of the perturbed scores instead (Berthet et al., NeurIPS 2020, and LAX of Grathwohl et al., ICLR 2018).

    Args:
        solver: any `Solver`; the sign of costs is taken care of.
        scores: `(B, *E)`.
        sigma: scale of the noise.
        noise: `Gaussian()` by default.
        instance: instance data by keyword, leading dimension `B`.

    Shapes: batch `(B,)`, samples `(*S, B, *E)`; all of them are one call of the solver.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, solver: Solver, scores: Tensor, sigma: float = 1.0, noise: Noise | None = None, **instance: Tensor):
        if not isinstance(solver, Solver):
            raise TypeError(f"PerturbedSolution: solver is {solver!r}; expected an instance of Solver, such as TopK(2).")
        if not isinstance(scores, Tensor):
            raise TypeError(f"PerturbedSolution: the scores are a {type(scores).__name__}; expected a tensor.")
        if noise is not None and not isinstance(noise, Noise):
            raise TypeError(f"PerturbedSolution: noise is {noise!r}; expected an instance of Noise, such as Gumbel(), or None.")
        self.sigma = sigma
        check_positive(self, "sigma")
        if scores.ndim != solver.event_dim + 1:
            raise ValueError(
                f"PerturbedSolution: scores have shape {tuple(scores.shape)}; {solver!r} takes a batch dimension and "
                f"{solver.event_dim} more."
            )
        self.solver, self.noise = solver, Gaussian() if noise is None else noise
        self.oracle = Oracle(solver, instance)
        self.theta = self.oracle.inside(self.oracle.pack((scores,)))
        super().__init__(scores.shape[:1], scores.shape[1:], validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Any = NO_SHAPE) -> Tensor:  # -> (*S, B, *E)
        noise = self.noise.sample(widened(self.theta).expand(self._extended_shape(sample_shape)))
        return self.oracle(self.perturbed(noise)).to(self.theta.dtype)

    def perturbed(self, noise: Tensor) -> Tensor:
        """The scores that the solver sees, turned to be maximised.  # (*S, B, *E) -> (*S, B, *E)"""
        return widened(self.theta) + self.sigma * noise

    def log_prob(self, value: Tensor) -> Tensor:
        raise NotImplementedError(
            "PerturbedSolution: the probability of a solution is that of its cone, which has no closed form. The estimators "
            "ScoreFunction and LAX need none; KSubset and PlackettLuce have one."
        )

    def __repr__(self) -> str:
        return f"PerturbedSolution({self.solver!r}, sigma={self.sigma!r}, noise={self.noise!r})"
