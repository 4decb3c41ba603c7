"""A solver bound to its instances."""

from __future__ import annotations

import math
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from . import compiled
from .autograd import is_transformed, solve
from .errors import InstanceError
from .noise import Draw, Seeded
from .samples import Samples, mean_and_record
from .solver import Sense, Solver, check_answer, inner, packed, refuse_data, refuse_kind, widened

OnFailure = Literal["raise", "skip", "last"]
_SIGN = {"max": 1.0, "min": -1.0}


class Oracle:
    """`theta -> argmax_y <theta, y>` over the solutions of the instances.

    A maximum (a cost is a negative score), never differentiable, and happy with any number of sample dimensions in front of the
    batch. Rules see an oracle and one tensor, nothing else. Several score tensors are packed into one vector per instance, so
    `event_dim` is then 1. With `turns=False`, for rules that say `either_sense`, `theta` are the scores as the solver takes
    them, and a minimum is sought where they are costs.
    """

    def __init__(
        self,
        solver: Solver,
        instance: dict[str, Tensor] | None = None,
        shapes: tuple[torch.Size, ...] = (),
        on_failure: OnFailure = "raise",
        turns: bool = True,
    ):
        if on_failure not in get_args(OnFailure):
            raise ValueError(f'on_failure={on_failure!r}; use one of "raise", "skip", "last".')
        self.solver, self.shapes, self.on_failure = solver, shapes, on_failure
        self.names = tuple(instance or ())
        self.tensors = tuple((instance or {}).values())
        for name, tensor in zip(self.names, self.tensors):
            refuse_kind(solver, name, tensor)
        if solver.sense not in _SIGN:
            raise ValueError(f"{type(solver).__name__}: sense is {solver.sense!r}; it is 'max' for gains and 'min' for costs.")
        self.sense: Sense = "max" if turns else solver.sense
        """Whether `theta` are gains or costs."""
        self.sign = _SIGN[solver.sense] if turns else 1.0
        """What makes `theta` of scores."""
        self.event_dim = 1 if len(shapes) > 1 else solver.event_dim
        self.failed: Tensor | None = None  # (B,), filled by solves while `on_failure` is not "raise"
        self.restarts = False
        """Whether solves after the first one start where that ended, if the solver can."""
        self._start: Tensor | None = None
        self._support: Tensor | None = None

    @property
    def instance(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.tensors))

    @property
    def mask(self) -> Tensor | None:
        """The entries that may be used, or None for all.  # (B, *E)"""
        if len(self.shapes) < 2:
            return self.instance["mask"].bool() if "mask" in self.names else None
        if self._support is None:
            self._support = self._packed_support()
        return self._support

    def _packed_support(self) -> Tensor | None:
        """`Solver.support` of the score tensors, packed as they are.  # -> (B, N)"""
        parts = self.solver.support(*self.shapes, **self.instance)
        known = [part for part in parts if part is not None]
        if not known:
            return None
        if any(part is not None and part.shape[1:] != shape for part, shape in zip(parts, self.shapes)):
            shapes, masks = (", ".join(str(tuple(s)) for s in side) for side in (self.shapes, [m.shape[1:] for m in known]))
            raise ValueError(
                f"{type(self.solver).__name__}: the score tensors have shapes {shapes} for each instance, but entries that may "
                f"be used are known for shapes {masks}. Score tensors and `mask` have to fit each other."
            )
        count = len(known[0])
        return packed(known[0].new_ones(count, *s) if part is None else part for part, s in zip(parts, self.shapes))

    def usable(self, theta: Tensor) -> Tensor | None:
        """The finite entries in the mask, or None for all: an infinite score forbids an entry, which has no part in norms.

        # (*S, B, *E) -> (B, *E) or (*S, B, *E)
        """
        mask = self.mask
        if not is_transformed() and math.isfinite(theta.sum().item()):
            return mask
        return theta.isfinite() if mask is None else theta.isfinite() & mask

    def inside(self, scores: Tensor) -> Tensor:
        """Scores, or solutions, zero outside the mask: garbage in the padding goes no further, nor does a gradient.

        ValueError for a mask of another shape, also for one that would broadcast.  # (*S, B, *E) -> (*S, B, *E)
        """
        mask = self.mask
        if mask is None:
            return scores
        if mask.ndim <= self.event_dim or mask.shape != scores.shape[-mask.ndim :]:
            raise ValueError(
                f"{type(self.solver).__name__}: `mask` has shape {tuple(mask.shape)} but the scores have shape "
                f"{tuple(scores.shape)}; a mask has the shape of the scores. Use `mask.expand_as(scores)` for one that all "
                f"instances share."
            )
        return torch.where(mask, scores, 0)

    def pack(self, parts: tuple[Tensor, ...]) -> Tensor:
        """Score tensors as one tensor `theta`.  # ((B, *E1), (B, *E2), ...) -> (B, *E)"""
        theta = parts[0] if len(parts) == 1 else packed(parts)
        return theta if self.sign > 0 else -theta

    def unpack(self, y: Tensor) -> tuple[Tensor, ...]:
        """One packed tensor as one per score tensor.  # (*S, B, *E) -> ((*S, B, *E1), ...)"""
        if len(self.shapes) < 2:
            return (y,)
        parts = y.split([shape.numel() for shape in self.shapes], -1)
        return tuple(part.reshape(*y.shape[:-1], *shape) for part, shape in zip(parts, self.shapes))

    def __call__(self, theta: Tensor) -> Tensor:  # (*S, B, *E) -> (*S, B, *E)
        y, failed = solve(self, theta)
        self.note(failed)
        return y

    def note(self, failed: Tensor | None) -> None:
        """Remember which instances failed.  # (B,)"""
        if failed is not None:
            self.failed = failed if self.failed is None else self.failed | failed

    def without_nan(self, theta: Tensor) -> Tensor:
        """Zero scores for instances with NaN, which count as failed: zero times NaN, in a gradient, would still be NaN."""
        nan = theta.isnan().flatten(-self.event_dim).any(-1)
        self.note(nan.flatten(0, -2).any(0) if nan.ndim > 1 else nan)
        return torch.where(self.expand(nan), 0, theta)

    def argmax(self, theta: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """Solve all samples of all instances in one call.  # (*S, B, *E) -> (*S, B, *E), (B,)"""
        if torch._C._is_any_autocast_enabled() and torch.is_autocast_enabled(theta.device.type):
            with torch.autocast(theta.device.type, enabled=False):
                return self.argmax(theta, tensors)
        dtype = theta.dtype
        lead = theta.shape[: theta.ndim - self.event_dim]
        if len(lead) != 1:
            theta = theta.reshape(-1, *theta.shape[len(lead) :])
            samples = math.prod(lead[:-1])
            tensors = tuple(t.repeat(samples, *[1] * (t.ndim - 1)) for t in tensors)
        y, failed = self.solve(self.unpack(widened(theta)), tensors)
        if len(lead) != 1:
            y = y.reshape(*lead, *y.shape[1:])
            failed = None if failed is None else failed.reshape(samples, lead[-1]).any(0)
        return y if y.dtype == dtype else y.to(dtype), failed

    def mean_argmax(
        self, theta: Tensor, tensors: tuple[Tensor, ...], noise: Draw, sigma: float
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The mean of `argmax <theta + sigma z_s, y>` over samples, in plain eager mode; what is kept of these solutions, see
        `samples`; and which instances failed.  # (*B, *E) -> (*B, *E), kept, (B,)
        """
        batch = theta.shape[: theta.ndim - self.event_dim]
        record = self.solver.binary and isinstance(noise, Seeded)
        if record and self.on_failure == "raise" and len(self.shapes) < 2 and len(batch) == 1 and theta.numel():
            samples = Samples(cast(Seeded, noise), theta.contiguous(), sigma, self._start, self.restarts)
            instance = dict(zip(self.names, tensors))
            try:
                done = self.solver.maximise_samples(samples, **instance)
            except TypeError as error:
                refuse_data(self.solver, error, 1, instance)
                raise
            if done:
                self._start = samples.start
                return samples.mean, samples.record, None
        y, failed = self.argmax(noise.added_to(theta, sigma), tensors)
        mean, kept = mean_and_record(y, batch) if record else (y.mean(0), y)
        return mean, kept, failed

    def solve(self, parts: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """Packed solutions of one batch of `theta`, and which instances failed.  # ((B, *E), ...) -> (B, *E), (B,)"""
        if compiled.needs_operator(self.solver):
            return compiled.solve(self, parts, tensors)
        if self.on_failure == "raise":
            return self._run(parts, dict(zip(self.names, tensors)), self.restarts), None
        return self._solve_what_can_be(parts, tensors)

    def _solve_what_can_be(self, parts: tuple[Tensor, ...], tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The solutions of the instances that do not fail, with zeros (or the incumbent) for those that do."""
        left = torch.arange(len(parts[0]), device=parts[0].device)
        failed = torch.zeros_like(left, dtype=torch.bool)
        incumbents: list[tuple[Tensor, Tensor]] = []
        while True:
            restarts = self.restarts and len(left) == len(failed)  # a start has a row for each instance
            try:
                y = self._run(tuple(p[left] for p in parts), dict(zip(self.names, (t[left] for t in tensors))), restarts)
                break
            except InstanceError as error:
                bad = error.instances.to(left.device)
                if not bad.any():
                    raise  # it names no instance that could be left out
                if self.on_failure == "last" and error.incumbent is not None:
                    incumbents.append((left[bad], error.incumbent[bad]))
                else:
                    failed[left[bad]] = True
                left = left[~bad]
        out = y.new_zeros(len(failed), *y.shape[1:])
        for where, solution in [(left, y), *incumbents]:
            out[where] = solution.to(out)
        return out, failed

    def _run(self, parts: tuple[Tensor, ...], instance: dict[str, Tensor], restarts: bool) -> Tensor:
        try:
            y = self._restart(parts, instance) if restarts else self._anew(parts, instance)
        except TypeError as error:
            refuse_data(self.solver, error, len(parts), instance)
            raise
        check_answer(self.solver, parts, y)
        ys = y if isinstance(y, tuple) else (y,)
        return ys[0] if len(ys) == 1 else packed(ys)

    def _restart(self, parts: tuple[Tensor, ...], instance: dict[str, Tensor]) -> Tensor:
        """The first time `_anew`, noting where it ended; after that the same, started there."""
        if self._start is None:
            y, self._start = self.solver.optimise_with_start(*parts, sense=self.sense, **instance)
            return y
        start, count = self._start, len(parts[0])
        if not len(start) or count % len(start):
            return self._anew(parts, instance)
        if count > len(start):
            start = start.repeat(count // len(start), *[1] * (start.ndim - 1))
        return self._anew(parts, {**instance, "warm_start": start})

    def _anew(self, parts: tuple[Tensor, ...], instance: dict[str, Tensor]) -> Tensor:
        return self.solver.optimise(*parts, sense=self.sense, **instance)

    def tangent(self, direction: Tensor) -> Tensor:
        """`direction` projected on the span of differences of solutions.  # (*S, B, *E) -> (*S, B, *E)"""
        out = self.solver.tangent(*self.unpack(direction), **self.instance)
        return torch.cat([o.flatten(direction.ndim - 1) for o in out], -1) if isinstance(out, tuple) else out

    def dot(self, theta: Tensor, y: Tensor) -> Tensor:
        """`<theta, y>` of each instance.  # (*S, B, *E) -> (*S, B)"""
        return inner(theta, y, self.event_dim)

    def expand(self, per_instance: Tensor, event_dim: int | None = None) -> Tensor:
        """A number per instance, with dimensions of size one to broadcast.  # (*S, B) -> (*S, B, 1, ...)"""
        return per_instance[(...,) + (None,) * (self.event_dim if event_dim is None else event_dim)]
