"""What a relaxation is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..solver import Solver, widened

BIG = 1e30
"""Stands for infinity where an infinite score would make NaN of its own gradient; its sums still fit single precision."""


class Relaxation:
    """`theta`, the scores to maximise, to a point of the convex hull of the solutions, differentiable.

    Called as `relaxation(theta)` or `relaxation(theta, mask, **instance)`; subclasses define `relax`. Entries outside the mask
    are 0 in the output, whatever their scores, NaN included; NaN elsewhere makes NaN of its instance. Half precision is
    computed in single precision. Raises ValueError for instance data that the relaxation does not know, since what they change
    would be missed, TypeError for scores that are no tensor of floating point numbers.  # (*S, B, *E) -> (*S, B, *E)
    """

    event_dim: ClassVar[int | None] = 1
    """How many trailing dimensions belong to one instance; None for any number."""
    one_hot: ClassVar[bool] = False
    """Whether the solutions it relaxes are one-hot."""
    constant_sum: ClassVar[bool | None] = None
    """Whether all points of an instance have the same sum; None where it may be either."""
    binary: ClassVar[bool | None] = None
    """Whether the solutions it relaxes have entries 0 and 1 only; None where they may or may not."""
    separable: ClassVar[bool] = False
    """Whether each entry depends on its own score alone."""
    same_shape: ClassVar[bool] = True
    """Whether the output has the shape of `theta`."""
    hull: ClassVar[str | None] = None
    """The convex hull that it maps into, in the words of `Solver.hull`; None for whichever the other facts allow."""
    shared: ClassVar[tuple[str, ...]] = ()
    """Names of fields that the solver must have too, with the same value."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Names of the instance data, besides the mask, that `relax` takes."""

    def relax(self, theta: Tensor, mask: Tensor | None, **instance: Tensor) -> Tensor:
        """The relaxation; scores outside the mask are zero, and what is returned there is ignored."""
        raise NotImplementedError

    def __call__(self, theta: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        if not isinstance(theta, Tensor) or not theta.is_floating_point():
            kind = f"of type {theta.dtype}" if isinstance(theta, Tensor) else f"a {type(theta).__name__}"
            raise TypeError(f"{self!r}: the scores are {kind}; expected a tensor of floating point numbers.")
        if theta.ndim < (self.event_dim or 0):
            raise ValueError(
                f"{self!r}: the scores have shape {tuple(theta.shape)}; an instance has {self.event_dim} dimensions."
            )
        if mask is not None and mask.dtype != torch.bool:
            raise TypeError(f"{self!r}: `mask` is {mask.dtype}; a mask is torch.bool, True where an entry may be used.")
        y = self.of_checked(theta, mask, **instance)
        if self.event_dim is None or not theta.numel():
            return y
        seen = theta.detach() if mask is None else torch.where(mask, theta.detach(), 0)
        greatest = seen.flatten(-self.event_dim).amax(-1)  # NaN, if there is one
        return torch.where(greatest.isnan()[(...,) + (None,) * (y.ndim - greatest.ndim)], torch.nan, y)

    def of_checked(self, theta: Tensor, mask: Tensor | None, **instance: Tensor) -> Tensor:
        """What a call returns, of floating point numbers without NaN, as behind a solver that refuses these."""
        instance = {name: value for name, value in instance.items() if name != "warm_start"}  # which changes no solution
        for name in instance:
            if name not in self.takes:
                raise ValueError(
                    f"{self!r} got `{name}`, of which it knows nothing, so it would relax another problem. Use a rule that "
                    f"asks the solver itself, such as Identity, Perturbed, IMLE or Regularized."
                )
        wide = widened(theta)
        if self.same_shape and not theta.numel():
            return theta.clone()  # without entries there is nothing to relax
        if mask is None:
            return self.relax(wide, None, **instance).to(theta.dtype)
        y = self.relax(torch.where(mask, wide, 0), mask, **instance)
        return (torch.where(mask, y, 0) if self.same_shape else y).to(theta.dtype)

    def check(self, solver: Solver) -> None:
        """Raises ValueError, with advice, where the output cannot lie in the convex hull of the solver's solutions."""
        reason = self._mismatch(solver)
        if reason:
            raise ValueError(
                f"{self!r} does not relax {solver!r}: {reason}. Softmax, Sparsemax and Entmax relax an argmax; SoftTopK "
                f"and EntropicTopK a choice of k; SoftRank, EntropicRank and Ranks ranks; Sinkhorn a matching; SoftMinPath a "
                f"path on a grid; SoftAlignment an alignment; Sigmoid a free choice of each entry. For any solver there are "
                f"Identity, Perturbed and DAB."
            )

    def _mismatch(self, solver: Solver) -> str:
        if self.hull == "ranks" and hasattr(solver, "k"):
            return f"its points are ranks, and the solver chooses k={solver.k!r} entries"
        if self.hull == "ranks" and solver.one_hot:
            return "its points are ranks, and solutions of the solver are one-hot"
        if self.event_dim not in (None, solver.event_dim):
            return f"it works on the last {self.event_dim} dimensions of the scores, and an instance has {solver.event_dim}"
        if self.same_shape and not solver.same_shape:
            return "it keeps the shape of the scores, and the solver may return another"
        if not self.same_shape and solver.same_shape:
            return "it returns a permutation matrix, and solutions have the shape of the scores (Ranks turns it into ranks)"
        if self.one_hot and not solver.one_hot:
            return "its points are mixtures of one-hot vectors, and the solver has other solutions"
        if self.constant_sum is not None and self.constant_sum != solver.constant_sum and solver.same_shape:
            mine, theirs = ("have", "may not") if self.constant_sum else ("need not have", "do")
            return f"its points {mine} a constant sum, and solutions of the solver {theirs}"
        if solver.linear and self.binary is not None and self.binary != solver.binary:
            return f"it relaxes solutions {'of' if self.binary else 'other than'} zeros and ones, and the solver has others"
        if (solver.linear or solver.hull is not None) and self.separable and not solver.separable:
            return "it takes each entry by itself, and entries of the solver's solutions depend on all scores"
        for name in self.shared:
            if not hasattr(solver, name) or getattr(solver, name) != getattr(self, name):
                theirs = f"has {name}={getattr(solver, name)!r}" if hasattr(solver, name) else f"has no {name}"
                return f"it has {name}={getattr(self, name)!r}, and the solver {theirs}"
        if None not in (self.hull, solver.hull) and self.hull != solver.hull:
            return f"its points are mixtures of {self.hull}, and solutions of the solver are {solver.hull}"
        return ""


def usable(theta: Tensor, mask: Tensor | None) -> Tensor:
    """The entries that may be used: inside the mask, and with a score above minus infinity."""
    finite = theta > -torch.inf
    return finite if mask is None else finite & mask


def masked_softmax(theta: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last dimension among the entries of the mask; 0 outside it, also where no entry is inside.

    Scores that are all minus infinity count as equal.
    """
    lowest = torch.finfo(theta.dtype).min
    theta = theta.clamp_min(lowest / 2)
    return _softmax(theta) if mask is None else torch.where(mask, _softmax(torch.where(mask, theta, lowest)), 0)


def _softmax(theta: Tensor) -> Tensor:
    """Softmax over the last dimension; on the CPU torch takes a short one an entry at a time, but any other in vectors."""
    if theta.is_cpu and theta.shape[-1] < 16:
        return theta.movedim(-1, 0).softmax(0).movedim(0, -1)
    return theta.softmax(-1)
