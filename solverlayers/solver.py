"""What a combinatorial solver is."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from .compiled import register
from .errors import InstanceError, first_instance

if TYPE_CHECKING:
    from typing_extensions import Self

    from .samples import Samples


@dataclass(frozen=True)
class Solution:
    """What `Solver.solve_with_info` returns.

    `solution` has the shape of the scores (a tuple for several score tensors); `objective (B,)` is in the solver's own sense;
    `optimal (B,)` says whether optimality is proved; `bound (B,)` is the best proved bound on the objective (NaN where none is
    known); `duals` holds dual values by name where the algorithm has them.
    """

    solution: Any
    objective: Tensor
    optimal: Tensor
    bound: Tensor
    duals: dict[str, Tensor] = field(default_factory=dict)

    @property
    def gap(self) -> Tensor:
        """How far the objective may be from the optimum: `|bound - objective| / |objective|`, 0 where both are equal, NaN
        where no bound is known.  # (B,)

        >>> one = torch.ones(3)
        >>> Solution(None, 4 * one, one > 1, torch.tensor([5.0, 4.0, torch.nan])).gap
        tensor([0.2500, 0.0000,    nan])
        """
        relative = (self.bound - self.objective).abs() / self.objective.abs()
        return torch.where(self.bound == self.objective, 0, relative)


def inner(a: Tensor, b: Tensor, event_dim: int) -> Tensor:
    """`<a, b>` over the last `event_dim` dimensions; entries where `b` is zero never count.  # (..., *E) -> (...)"""
    product = torch.where(b == 0, 0, a * b)  # a score of -inf is a legal way to forbid an entry, and -inf * 0 is NaN
    return product.flatten(-event_dim).sum(-1)


def widened(t: Tensor) -> Tensor:
    """Numbers of half precision in single: sums, norms and noise need more digits. Others as they are."""
    return t.float() if t.dtype in HALF else t


def summable(t: Tensor) -> Tensor:
    """Numbers in a type with room for sums of their products: half precision in single, integers in 64 bits."""
    return widened(t) if t.is_floating_point() else t.long()


def packed(parts: Iterable[Tensor]) -> Tensor:
    """Score tensors, or parts of a solution, side by side.  # ((B, *E1), (B, *E2), ...) -> (B, N)"""
    return torch.cat([part.flatten(1) for part in parts], 1)


HALF = (torch.float16, torch.bfloat16)
Sense = Literal["max", "min"]
"""Whether scores are gains or costs."""
SHORT_WAYS = ("optimise", "optimise_with_start", "maximise_samples")
"""The ways in which layers ask a solver, which may answer them without `solve`."""


class Solver(ABC):
    """Batched combinatorial solver: scores `(B, *E)` to solutions `(B, *E)`. Forward only, no gradient.

    A solver maximises (or minimises, see `sense`) `<scores, y> + offset(y)` over a set of solutions that does not depend on
    the scores. A solution has the shape of its scores. What differs from sample to sample is passed by keyword, as tensors
    with leading dimension `B`; what is common to all samples is a field of the (frozen) dataclass.

    Subclasses define `solve`; the other methods are facts with safe defaults. Ties go to the lowest index.
    """

    sense: ClassVar[Sense] = "max"
    """Whether scores are gains or costs."""
    event_dim: ClassVar[int] = 1
    """How many trailing dimensions of the scores belong to one instance."""
    exact: ClassVar[bool] = True
    """Whether solutions are optimal; a heuristic says False."""
    linear: ClassVar[bool] = True
    """Whether solutions maximise `<scores, y> + offset(y)` at all; False for a general hard function."""
    same_shape: ClassVar[bool] = True
    """Whether solutions have the shape of the scores; False only for a hard function such as a quantiser or a count."""
    scale_free: bool = True
    """Whether multiplying the scores of an instance by a positive number leaves its solution unchanged."""
    constant_sum: bool = False
    """Whether all solutions of an instance have the same sum, so that adding a constant to its scores changes nothing."""
    binary: bool = False
    """Whether all entries of a solution are 0 or 1."""
    one_hot: bool = False
    """Whether solutions are one-hot over the last dimension, so that `softmax(scores)` is a distribution over them."""
    constant_norm: bool = False
    """Whether all solutions of an instance have the same Euclidean norm, as rankings and spins have."""
    hull: ClassVar[str | None] = None
    """What the solutions are, in a word or two, such as "permutation matrices"; a relaxation of something else is refused."""
    separable: bool = False
    """Whether each entry of a solution depends on its own score alone."""
    torch_native: ClassVar[bool] = False
    """Whether `torch.compile` can trace `solve` into one graph; otherwise the solver is one operator of the graph."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        register(self)
        return self

    @abstractmethod
    def solve(self, *scores: Tensor, **instance: Tensor) -> Tensor:
        """The solutions of a batch of instances, in the shape of `scores`.  # (B, *E) -> (B, *E)"""

    def optimise(self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor) -> Tensor:
        """`solve` at the nearest scores that the solver accepts (see `clip`), which is what layers ask for.

        `sense` says what the scores are, gains ("max") or costs ("min"), and turns them where the solver takes the other; None
        for what it takes. A solver may override it to spare itself the copies; a class that defines `solve` or `clip` anew has
        this one again.  # (B, *E) -> (B, *E)
        """
        own = [self.clip(self._own(part, sense)) for part in scores]
        self.check(*own, **instance)
        return self.solve(*own, **instance)

    def optimise_with_start(
        self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What `optimise` returns, and what `optimise(..., warm_start=)` takes to solve similar scores faster, if anything.

        A start has leading dimension `B`, and `finite_difference` hands its second solve the start of the first one. It changes
        no solution; of several that are optimal it may lead to another, where the class says so.
        """
        return self.optimise(*scores, sense=sense, **instance), None

    def _own(self, part: Tensor, sense: Sense | None) -> Tensor:
        """What is given in some sense as the solver takes it."""
        return part if sense in (None, self.sense) else -part

    def maximise_samples(self, samples: Samples, **instance: Tensor) -> bool:
        """Fills in the mean of `argmax <theta + sigma z_s, y>` over samples, without tensors of the size of all of them.

        False where the solver has no such way, or an instance cannot be solved; `optimise`, of all samples, then takes over.
        """
        return False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not vars(cls).keys().isdisjoint(("solve", "clip")):
            for name in SHORT_WAYS:  # those of its bases know nothing of the new one
                setattr(cls, name, vars(cls).get(name, getattr(Solver, name)))
        if "solve_with_info" in vars(cls):
            cls.solve_with_info = torch.no_grad()(vars(cls)["solve_with_info"])  # type: ignore[method-assign]

    @torch.no_grad()
    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """The solutions with their objective, proof of optimality and bound, without gradient.  # (B, *E) -> Solution

        Objectives are of single precision at least. A general hard function, which optimises nothing, has a NaN objective and
        bound.
        """
        y = self(*scores, **instance)
        if not self.linear:  # it optimises nothing
            nan = torch.full((len(y),), torch.nan, device=y.device)
            return Solution(y, nan, torch.zeros(len(y), dtype=torch.bool, device=y.device), nan)
        if isinstance(y, tuple):
            first, *others = [inner(summable(part), summable(found), found.ndim - 1) for part, found in zip(scores, y)]
            objective = sum(others, first)
        else:
            wide = summable(y)
            objective = inner(summable(scores[0]), wide, self.event_dim) + self.offset(wide, **instance)
        unknown = torch.full_like(objective, torch.nan, dtype=torch.promote_types(objective.dtype, torch.float32))
        return Solution(
            y,
            objective,
            torch.full(objective.shape, self.exact, device=objective.device),
            objective if self.exact else unknown,
        )

    def offset(self, y: Tensor, **instance: Tensor) -> Tensor:
        """The part of the objective that does not depend on the scores.  # (*S, B, *E) -> (*S, B)"""
        return y.new_zeros(y.shape[: y.ndim - self.event_dim])

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        """Which entries of several score tensors may be used: a mask for each, or None for all.  # E1, ... -> (B, *E1), ...

        Elsewhere solutions are 0, scores may be anything and get no gradient. By default it is `mask` for tensors in its shape;
        what leaves padding in others, too, overrides it. A single score tensor has `mask` itself.
        """
        mask = instance.get("mask")
        return tuple(mask.bool() if mask is not None and mask.shape[1:] == shape else None for shape in shapes)

    def tangent(self, direction: Tensor, **instance: Tensor) -> Tensor:
        """`direction` projected on a space that holds all differences of solutions.  # (*S, B, *E) -> (*S, B, *E)

        Returning `direction` itself is always safe.
        """
        return direction

    def clip(self, scores: Tensor) -> Tensor:
        """The nearest scores that the solver accepts, such as non-negative costs.  # (B, *E) -> (B, *E)"""
        return scores

    def decode(self, y: Tensor, **instance: Tensor) -> object:
        """What people want to look at: indices, a node list, a tour."""
        return y

    def __call__(self, *scores: Tensor, **instance: Tensor) -> Tensor:
        """`solve`, without gradient, after the checks that every solver needs.  # (B, *E) -> (B, *E)

        Raises ValueError or TypeError for wrong shapes, devices or types, InstanceError for NaN scores.
        """
        recording = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # what `no_grad` does, in a tenth of the time
        try:
            self.check(*scores, **instance)
            y = self.solve(*scores, **instance)
            check_answer(self, scores, y)
            return y
        except TypeError as error:
            refuse_data(self, error, len(scores), instance)
            raise
        finally:
            torch._C._set_grad_enabled(recording)

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses wrong shapes, types and devices (ValueError, TypeError) and NaN scores (InstanceError)."""
        self._check_shapes(scores, instance)
        if not torch.compiler.is_compiling():
            self._check_kind(scores)
            self._check_nan(scores, instance)

    def _check_shapes(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        name = type(self).__name__
        if not scores or not all([isinstance(s, Tensor) for s in scores]):
            given = ", ".join(type(s).__name__ for s in scores) or "nothing"
            raise TypeError(f"{name}: the scores are {given}; expected a tensor with a batch dimension. Use `torch.as_tensor`.")
        first = scores[0]
        if len(scores) == 1 and first.ndim != self.event_dim + 1:
            raise ValueError(
                f"{name}: scores have shape {tuple(first.shape)}, which is {first.ndim} dimensions; expected a batch "
                f"dimension and {self.event_dim} more. Add one with `scores.unsqueeze(0)` or fold extra ones with `flatten`."
            )
        if len(scores) + len(instance) == 1:  # nothing that has to agree with the scores
            return
        for key, value in instance.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{name}: `{key}` is a {type(value).__name__}; instance data are tensors with leading dimension "
                    f"{len(first)} (one entry per instance). Use `torch.as_tensor`, or a field of the solver for what all "
                    f"share."
                )
            if value.ndim == 0 or len(value) != len(first):
                raise ValueError(
                    f"{name}: `{key}` has shape {tuple(value.shape)} but the scores have {len(first)} instances; instance "
                    f"data need leading dimension {len(first)}. Use `.expand({len(first)}, ...)` for data that all share."
                )
            refuse_kind(self, key, value)
        for key, value in [*(("scores", s) for s in scores[1:]), *instance.items()]:
            if value.device != first.device:
                raise ValueError(
                    f"{name}: `{key}` is on {value.device} but the scores are on {first.device}. "
                    f"Move it with `.to({str(first.device)!r})`."
                )

    def _check_kind(self, scores: tuple[Tensor, ...]) -> None:
        for s in scores:
            refuse_kind(self, "", s)

    def _check_nan(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        for place, s in enumerate(scores):
            total = s.sum().item()  # one pass; the sum of inf and -inf is sorted out below
            if total == total:
                continue
            nan = s.isnan()
            masks = self.support(*[part.shape[1:] for part in scores], **instance)
            if (mask := masks[place]) is not None and mask.shape == s.shape:
                nan &= mask
            bad = nan.flatten(1).any(1)
            if bad.any():
                raise InstanceError(
                    f"{type(self).__name__}: instance {first_instance(bad)} has NaN scores ({int(bad.sum())} of {len(bad)} "
                    f'instances). Look for a diverged network, or train on with `SolverLayer(..., on_failure="skip")`.',
                    bad,
                )


def refuse_kind(solver: Solver, key: str, t: Tensor) -> None:
    """Refuses complex numbers and tensors that are not dense (TypeError), in instance data or, without a key, in scores."""
    if t.is_complex() or t.layout != torch.strided:
        what = f"`{key}` is" if key else "the scores are"
        kind = f"of type {t.dtype}" if t.is_complex() else f"a tensor of layout {t.layout}"
        raise TypeError(f"{type(solver).__name__}: {what} {kind}; expected real numbers in a dense tensor.")


def refuse_data(solver: Solver, error: TypeError, parts: int, instance: dict[str, Tensor]) -> None:
    """Says which instance data a solver takes besides score tensors, in place of an error of Python's about others or none."""
    name = type(solver).__name__
    parameters = inspect.signature(solver.solve).parameters.values()
    data = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)][parts:]
    lacking = [f"`{p.name}`" for p in data if p.default is p.empty and p.name not in instance]
    if lacking and re.search(r"missing \d+ required", str(error)):
        raise TypeError(
            f"{name}: there is no {' and no '.join(lacking)}; give score tensors in their order, instance data by keyword."
        ) from error
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found and found[1] in instance and found[1] not in [p.name for p in data]:
        advice = f"It takes {', '.join(f'`{p.name}`' for p in data)}." if data else "See what its class says."
        raise TypeError(f"{name}: there is no instance data `{found[1]}`. {advice}") from error


def check_answer(solver: Solver, scores: tuple[Tensor, ...], y: object) -> None:
    """Refuses what `solve` returned where it is no solution for each score tensor (TypeError, ValueError)."""
    if not solver.same_shape or (isinstance(y, Tensor) and len(scores) == 1 and y.shape == scores[0].shape):
        return
    parts = y if isinstance(y, tuple) else (y,)
    if len(parts) != len(scores):
        raise ValueError(
            f"{type(solver).__name__}.solve returned {len(parts)} tensors for {len(scores)} score tensors; there is a solution "
            f"for each. Score tensors are given in their order, without keyword."
        )
    for part, one in zip(scores, parts):
        if not isinstance(one, Tensor):
            raise TypeError(f"{type(solver).__name__}.solve returned a {type(one).__name__}; expected a tensor.")
        if part.shape != one.shape:
            raise ValueError(
                f"{type(solver).__name__}.solve returned shape {tuple(one.shape)} for scores of shape {tuple(part.shape)}; a "
                f"solution has the shape of its scores."
            )


class InstanceSolver(Solver):
    """A solver for one instance in NumPy, looped over the batch on the CPU: the shortest way to wrap foreign code.

    An instance without a solution is an `InfeasibleError(message)` that `solve_instance` raises; the others are still solved.
    """

    @abstractmethod
    def solve_instance(self, scores: np.ndarray, **instance: np.ndarray) -> np.ndarray:
        """The solution of one instance, in the shape of `scores` (float64).  # (*E) -> (*E)"""

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:  # (B, *E) -> (B, *E)
        columns = {key: value.cpu().numpy() for key, value in instance.items()}
        out = np.zeros(scores.shape)
        errors: dict[int, InstanceError] = {}
        for b, row in enumerate(scores.double().cpu().numpy()):
            try:
                y = np.asarray(self.solve_instance(row, **{key: value[b] for key, value in columns.items()}))
            except InstanceError as error:
                errors[b] = error
                continue
            except Exception as error:
                if hasattr(error, "add_note"):  # from Python 3.11 on
                    error.add_note(f"{type(self).__name__}: raised for instance {b} of {len(scores)}.")
                raise
            if y.shape != row.shape:
                raise ValueError(
                    f"{type(self).__name__}.solve_instance returned shape {y.shape} for scores of shape {row.shape}; a "
                    f"solution has the shape of its scores."
                )
            out[b] = y
        if errors:
            raise self._together(errors, scores) from next(iter(errors.values()))
        return torch.as_tensor(out, device=scores.device).to(scores)

    def _together(self, errors: dict[int, InstanceError], scores: Tensor) -> InstanceError:
        """One error for all instances that failed as the first one did, by type and by whether there is an incumbent."""
        first, error = next(iter(errors.items()))
        kind = type(error), error.incumbent is None
        alike = {b: e for b, e in errors.items() if (type(e), e.incumbent is None) == kind}
        failed = torch.zeros(len(scores), dtype=torch.bool)
        failed[list(alike)] = True
        incumbent = None if error.incumbent is None else torch.zeros_like(scores)
        for b, e in alike.items():
            if incumbent is not None and e.incumbent is not None:
                incumbent[b] = e.incumbent.to(incumbent)
        message = f"{type(self).__name__}: instance {first} failed ({len(alike)} of {len(scores)} instances): {error}"
        return type(error)(message, failed, incumbent)
