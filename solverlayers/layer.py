"""Solver + rule = layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .autograd import is_transformed
from .compiled import log_failures
from .noise import Noise
from .oracle import OnFailure, Oracle
from .projections import Projection, make_projection
from .rules.base import Rule
from .solver import HALF, Solver, packed, widened

Parts = Tensor | tuple[Tensor, ...]


class SolverLayer(nn.Module):
    """Solves in the forward pass; `rule` says how the gradient passes.

    Training: `scores -> projection -> noise -> rule`. In `eval()` the layer is the solver itself: no noise, no
    solution-preserving projection, and every rule returns the solver's own solution.

    Args:
        solver: maps scores `(B, *E)` to solutions `(B, *E)`.
        rule: a `Rule` of `solverlayers.rules`.
        projection: `"mean"`, `"norm"`, `"std"`, `"tangent"`, a `Projection`, or any module applied to the scores.
        noise: a `Noise`, added to the scores while training.
        on_failure: what an instance that cannot be solved does. `"raise"`: an InstanceError that names it; `"skip"`: its
            solution and gradient are zero, it is counted in `failures` and logged, and `failed` says which of the last call
            it was, to leave it out of a loss; `"last"`: as skip, but the best solution known when a time limit passed is used.

    Shapes: scores `(B, *E)`, also `(*E)` for one instance or `(*S, B, *E)` with sample dimensions, to the same shape.
    Several score tensors, where the solver takes them, give a tuple of solutions. Instance data by keyword, leading dimension
    `B`; only scores get gradients.

    >>> import torch
    >>> from solverlayers.rules import Identity
    >>> from solverlayers.solvers import TopK
    >>> layer = SolverLayer(TopK(2), Identity(), projection="std")
    >>> layer(torch.tensor([[3.0, 1.0, 2.0]], requires_grad=True))
    tensor([[1., 0., 1.]], grad_fn=<_IdentitySolveBackward>)
    """

    def __init__(
        self,
        solver: Solver,
        rule: Rule,
        projection: str | Projection | Callable[[Tensor], Tensor] | None = None,
        noise: Noise | None = None,
        on_failure: OnFailure = "raise",
    ):
        super().__init__()
        if not isinstance(solver, Solver):
            raise TypeError(f"solver is {solver!r}; expected an instance of Solver, such as TopK(2).")
        if not isinstance(rule, Rule):
            raise TypeError(f"rule is {rule!r}; expected an instance of Rule, such as Identity() (with the brackets).")
        if noise is not None and not isinstance(noise, Noise):
            raise TypeError(f"noise is {noise!r}; expected an instance of Noise, such as Gaussian(0.1), or None.")
        self.solver, self.rule, self.noise = solver, rule, noise
        self.projection = None if projection is None else make_projection(projection)
        self.on_failure: OnFailure = on_failure
        self.failures = 0
        """How many instances were skipped so far."""
        self.failed: Tensor | None = None
        """Which instances the last call skipped, `(B,)`; None if `on_failure` is "raise", and under `vmap`."""
        rule.check(solver)
        if self.projection is not None:
            self.projection.check(solver)
        Oracle(solver, on_failure=on_failure)  # refuses an unknown policy now, not in the first batch

    def forward(self, *scores: Tensor, **instance: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The solutions, with the gradient of the rule; a tuple for several score tensors.  # (*S, B, *E) -> (*S, B, *E)"""
        if not scores or not all([isinstance(s, Tensor) for s in scores]):
            self.solver.check(*scores)  # which says what is wrong
        if self._is_one(scores):
            batch, instance = self._batch_of_one(scores, instance)
            y = self.forward(*batch, **instance)
            return y.squeeze(0) if isinstance(y, Tensor) else tuple(part.squeeze(0) for part in y)
        oracle, theta = self._prepare(scores, instance)
        if self.noise is not None and self.training:
            theta = oracle.inside(theta + self.noise.sample(theta))
        y = self.rule(oracle, theta) if theta.is_floating_point() else self._without_gradient(oracle, theta)
        if scores[0].dtype in HALF:
            y = y.to(scores[0].dtype)
        if oracle.failed is not None:
            y = self._blank(y, oracle.failed, theta.ndim - oracle.event_dim)
        return y if len(scores) == 1 else oracle.unpack(y)

    def _without_gradient(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if self.training:
            raise TypeError(
                f"SolverLayer: scores of type {theta.dtype} cannot carry a gradient. Pass `scores.float()`; without a "
                f"gradient, call the solver itself, or `layer.eval()` first."
            )
        return oracle(theta)

    def auxiliary_loss(self, scores: Parts, y: Parts, **instance: Tensor) -> Tensor:
        """The loss that trains the rule's own parameters, a scalar; zero for a rule without any. Pure: call it or not.

        `scores` and `y` are the input and output of the last `forward`, tuples where the solver takes several score tensors,
        with the same instance data. Instances that it skipped take no part.
        """
        return self.rule.auxiliary_loss(*self._solved(scores, y, instance))

    def agreement(self, scores: Parts, y: Parts, **instance: Tensor) -> Tensor:
        """How well a rule's learned stand-in agrees with the solver, in [0, 1]; NaN for a rule that has none."""
        oracle, theta, y = self._solved(scores, y, instance)
        return self.rule.agreement(oracle, theta.detach(), y.detach())

    def _solved(self, scores: Parts, y: Parts, instance: dict[str, Tensor]) -> tuple[Oracle, Tensor, Tensor]:
        """An oracle that knows what `forward` skipped, its scores to maximise, and its solutions, packed alike."""
        parts = (scores,) if isinstance(scores, Tensor) else tuple(scores)
        y = widened(y if isinstance(y, Tensor) else packed(y))
        if self._is_one(parts):
            parts, instance = self._batch_of_one(parts, instance)
            y = y.unsqueeze(0)
        oracle, theta = self._prepare(parts, instance)
        lead = theta.ndim - oracle.event_dim
        if self.failed is not None and lead and len(self.failed) == y.shape[lead - 1]:
            blank = (y == 0).unsqueeze(-1).flatten(lead).all(-1)  # another answer than zero is that of another batch
            oracle.note(self.failed.to(y.device) & (blank.flatten(0, -2).all(0) if lead > 1 else blank))
        return oracle, theta, y

    def _is_one(self, scores: tuple[Tensor, ...]) -> bool:
        """Whether these are the scores of an instance by itself."""
        return len(scores) == 1 and scores[0].ndim == self.solver.event_dim

    def _batch_of_one(
        self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        self._check_data(instance)
        return (scores[0].unsqueeze(0),), {key: value.unsqueeze(0) for key, value in instance.items()}

    def _prepare(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> tuple[Oracle, Tensor]:
        self._check_data(instance)
        if len({len(s) if s.ndim else 0 for s in scores}) > 1:
            given = ", ".join(str(tuple(s.shape)) for s in scores)
            raise ValueError(
                f"{type(self.solver).__name__}: the score tensors have shapes {given}, which are no batches of one length. "
                f"Add a batch dimension with `unsqueeze(0)`."
            )
        shapes = tuple(s.shape[1:] for s in scores) if len(scores) > 1 else ()
        turns = not self.rule.either_sense or self.noise is not None  # noise is added to what is maximised
        oracle = Oracle(self.solver, instance, shapes, self.on_failure, turns)
        theta = widened(oracle.inside(oracle.pack(scores)))
        if self.on_failure != "raise":
            theta = oracle.without_nan(theta)
        if self.projection is not None and (self.training or not self.projection.preserves_solution):
            theta = self.projection(oracle, theta)
        return oracle, theta

    def _check_data(self, instance: dict[str, Tensor]) -> None:
        for key, value in instance.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{type(self.solver).__name__}: `{key}` is a {type(value).__name__}; instance data are tensors with one "
                    f"entry per instance. Use `torch.as_tensor`, or a field of the solver for what all share."
                )
            if value.requires_grad:
                raise ValueError(
                    f"{type(self.solver).__name__}: `{key}` requires a gradient, but only scores get one; instance data are "
                    f"constants. Pass `{key}.detach()`, or use a solver that takes it as a second score tensor."
                )

    def _blank(self, y: Tensor, failed: Tensor, lead: int) -> Tensor:
        """Zero solutions and gradients for the instances that failed; `lead` counts the dimensions up to the batch."""
        self.failed = failed.detach() if torch.compiler.is_compiling() or not is_transformed() else None
        if not is_transformed():
            self.failures += log_failures(self.solver, failed)
        return torch.where(failed[(...,) + (None,) * (y.ndim - lead)], 0, y)

    def extra_repr(self) -> str:
        lines = [f"(solver): {self.solver}"]
        if self.noise is not None:
            lines.append(f"(noise): {self.noise}")
        if self.on_failure != "raise":
            lines.append(f"(on_failure): {self.on_failure!r}")
        return "\n".join(lines)
