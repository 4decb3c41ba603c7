"""What a loss that calls a solver is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..autograd import is_transformed
from ..describe import constructor_call
from ..errors import InstanceError, first_instance
from ..oracle import OnFailure, Oracle
from ..solver import Solver, widened


class SolverLoss(nn.Module):
    """A loss per instance, `(B,)`, of scores `(B, *E)` in the solver's own sense; the smaller the better for both senses.

    The gradient is the true one where the loss has one, and a subgradient elsewhere: by Danskin's theorem the derivative of
    `max_y <theta, y>` is the maximiser held constant, so plain autograd serves and a loss is the same in `eval()`. Sample
    dimensions may precede the batch. Instance data by keyword; with a `mask`, scores and targets outside it do not matter. With
    `on_failure="skip"` an instance that cannot be solved has loss and gradient zero. Losses of half precision are in single.
    """

    def __init__(self, solver: Solver, on_failure: OnFailure = "raise"):
        super().__init__()
        if not isinstance(solver, Solver):
            raise TypeError(f"solver is {solver!r}; expected an instance of Solver, such as TopK(2).")
        self.solver, self.on_failure = solver, on_failure
        Oracle(solver, on_failure=on_failure)  # refuses an unknown policy now, not in the first batch

    def _needs_objective(self) -> None:
        if not self.solver.linear:
            raise ValueError(
                f"{type(self).__name__} compares the objectives of solutions, and {self.solver!r} is a general hard function "
                f"that maximises nothing. Use Pushforward, or a loss of your own on the output of a SolverLayer."
            )

    def _needs_no_offset(self) -> None:
        if has_offset(self.solver) and not self.solver.scale_free:  # an offset that is always zero does no harm
            raise ValueError(
                f"{type(self).__name__} scales the objective, and part of that of {self.solver!r} does not depend on the "
                f"scores. Use SPOPlusLoss or FenchelYoungLoss."
            )

    def _bind(self, scores: Tensor, instance: dict[str, Tensor]) -> tuple[Oracle, Tensor]:
        """The oracle of the instances, and the scores to maximise."""
        if isinstance(scores, tuple):
            raise TypeError(
                f"{type(self).__name__}: the scores are a tuple, and this loss is one of solvers with one tensor of scores. "
                f"For {self.solver!r} make a loss of the output of a SolverLayer."
            )
        if not isinstance(scores, Tensor):
            self.solver.check(scores)  # which says what is wrong
        for key, value in instance.items():
            if isinstance(value, Tensor) and value.requires_grad:
                raise ValueError(
                    f"{type(self).__name__}: `{key}` requires a gradient, but only scores get one; instance data are "
                    f"constants. Pass `{key}.detach()`."
                )
        oracle = Oracle(self.solver, instance, (), self.on_failure)
        theta = widened(oracle.inside(oracle.pack((scores,))))
        return oracle, theta if self.on_failure == "raise" else oracle.without_nan(theta)

    def _target(self, oracle: Oracle, name: str, target: Tensor, theta: Tensor) -> Tensor:
        """A target as a constant of its instances, zero outside the mask.  # (B, *E) -> (B, *E)"""
        if not isinstance(target, Tensor):
            raise TypeError(
                f"{type(self).__name__}: `{name}` is a {type(target).__name__}; expected a tensor. Use `torch.as_tensor`."
            )
        if target.shape != theta.shape[-target.ndim :] or target.ndim <= oracle.event_dim:
            raise ValueError(
                f"{type(self).__name__}: `{name}` has shape {tuple(target.shape)} but the scores have shape "
                f"{tuple(theta.shape)}; each instance needs a target of the shape of its scores."
            )
        target = oracle.inside(target.detach().to(theta.dtype))
        if is_transformed() or not target.sum().isnan():
            return target
        if self.on_failure == "raise":
            refuse_nan(type(self).__name__, name, target, oracle)
        return oracle.without_nan(target)

    def _finish(self, oracle: Oracle, loss: Tensor) -> Tensor:
        return loss if oracle.failed is None else torch.where(oracle.failed, 0, loss)

    def __repr__(self) -> str:
        return constructor_call(self)


def refuse_nan(asker: str, name: str, target: Tensor, oracle: Oracle) -> None:
    """Raises InstanceError, naming the instance, for NaN in a target whose numbers can be read.  # (*S, B, *E)"""
    if is_transformed():
        return
    nan = target.isnan().flatten(-oracle.event_dim).any(-1)
    bad = nan.flatten(0, -2).any(0) if nan.ndim > 1 else nan
    if bad.any():
        raise InstanceError(
            f"{asker}: instance {first_instance(bad)} has NaN in `{name}` ({int(bad.sum())} of {len(bad)} instances).", bad
        )


def forbidden(theta: Tensor, true: Tensor) -> Tensor:
    """The entries that scores to maximise, or the true ones, forbid by minus infinity.  # (*S, B, *E), (B, *E) -> (*S, B, *E)

    They stay forbidden in sums of both, where infinities would cancel, or turn round.
    """
    return torch.minimum(theta, true) == -torch.inf


def has_offset(solver: Solver) -> bool:
    """Whether a part of the objective may not depend on the scores."""
    return type(solver).offset is not Solver.offset


def lead(oracle: Oracle, theta: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """By how much `y` is better than `other` under `theta`, with the solver's offset.  # (*S, B, *E) x 3 -> (*S, B)"""
    difference = oracle.dot(theta, y - other)
    if has_offset(oracle.solver):
        first, second = (oracle.solver.offset(s, **oracle.instance) for s in (y, other))
        difference = difference + oracle.sign * (first - second)
    return difference


def regret(solver: Solver, scores: Tensor, true_scores: Tensor, **instance: Tensor) -> Tensor:
    """How much worse, under the true scores, the solution at `scores` is than the best one; no gradient.  # (B, *E) -> (B,)

    For both senses zero or more. Pessimists for ties get what the solver chooses.

    >>> from solverlayers.solvers import Argmax
    >>> regret(Argmax(), torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 4.0]]))
    tensor([3.])
    """
    if not (isinstance(scores, Tensor) and isinstance(true_scores, Tensor)):
        raise TypeError(
            f"regret: the scores are a {type(scores).__name__} and the true scores a {type(true_scores).__name__}; expected "
            f"tensors. Use `torch.as_tensor`."
        )
    if scores.shape != true_scores.shape:
        raise ValueError(
            f"regret: the scores have shape {tuple(scores.shape)} and the true scores {tuple(true_scores.shape)}; expected "
            f"one for each."
        )
    oracle = Oracle(solver, instance)
    refuse_nan("regret", "true_scores", oracle.inside(true_scores), oracle)
    with torch.no_grad():
        theta, true = (widened(oracle.pack((part,))) for part in (scores, true_scores))
        y, best = oracle(torch.stack([theta, true]))
        return lead(oracle, true, best, y)
