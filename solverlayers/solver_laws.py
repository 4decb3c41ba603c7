"""The laws of a solver, one function each; `solverlayers.testing.check_solver` runs them."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from .errors import InstanceError
from .oracle import Oracle
from .solver import Sense, Solver, inner

Vertices = Callable[..., Tensor]
"""From one instance's data, by keyword and without batch dimension, to all its solutions `(V, *E)`."""
Pad = Callable[[Tensor, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""From scores and instance data to the same instances with padding at the end of each event dimension, and a mask."""

_DRAWS = 6


@dataclass
class SolverTrial:
    """A solver, the instances it is tried on, and a draw of scores for them."""

    solver: Solver
    draw: Callable[[int], Tensor]
    batch: int
    instance: dict[str, Tensor]
    vertices: Vertices | None
    dtypes: Sequence[torch.dtype]
    pad: Pad | None
    tolerance: float
    law: str = ""

    def __post_init__(self) -> None:
        self.scores = self.draw(self.batch)
        self.given = self.scores.clone(), {key: value.clone() for key, value in self.instance.items()}
        self.mask = self.instance.get("mask")
        self.takes_mask = self.mask is not None or "mask" in inspect.signature(self.solver.solve).parameters

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        return self.solver(scores, **{**self.instance, **instance})

    def fail(self, text: str) -> NoReturn:
        raise AssertionError(f"{type(self.solver).__name__} breaks the law {self.law!r}: {text}")

    def same(self, got: Tensor, expected: Tensor, text: str) -> None:
        """Refuses solutions that differ, naming the first instance in which they do.  # (B, ...), (B, ...)"""
        if got.shape != expected.shape:
            self.fail(f"{text}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}.")
        differ = (got != expected).flatten(1).any(1) if got.numel() else got.new_zeros(len(got), dtype=torch.bool)
        if differ.any():
            b = int(differ.nonzero()[0, 0])
            self.fail(f"{text}: instance {b} gives {_short(got[b])}, expected {_short(expected[b])}.")

    def objective(self, scores: Tensor, y: Tensor) -> Tensor:  # (*S, B, *E), (*S, B, *E) -> (*S, B)
        return inner(scores, y, self.solver.event_dim) + self.solver.offset(y, **self.instance)

    def rows(self, keep: list[int]) -> dict[str, Tensor]:
        return {key: value[keep] for key, value in self.instance.items()}


def _short(tensor: Tensor) -> str:
    return str(tensor.tolist()) if tensor.numel() <= 40 else f"{tensor.flatten()[:40].tolist()}..."


def _facts(t: SolverTrial) -> None:
    solver = t.solver
    if solver.sense not in ("max", "min"):
        t.fail(f"sense is {solver.sense!r}; it is 'max' where scores are gains and 'min' where they are costs.")
    if t.scores.ndim != solver.event_dim + 1:
        t.fail(
            f"event_dim is {solver.event_dim}, but one instance's scores have shape {tuple(t.scores.shape[1:])}. "
            f"Set `event_dim = {t.scores.ndim - 1}`."
        )


def _declared(t: SolverTrial) -> None:
    """What the solver says of its solutions."""
    y, others = t.solve(t.scores), t.solve(t.draw(t.batch))
    if t.solver.binary and ((y != 0) & (y != 1)).any():
        t.fail(f"it says `binary = True`, but the solution has entries other than 0 and 1: {_short(y)}.")
    if t.solver.one_hot and not (((y != 0) & (y != 1)).sum() == 0 and (y.sum(-1) == 1).all()):
        t.fail(f"it says `one_hot = True`, but rows of the solution are not one-hot: {_short(y)}.")
    norms, other_norms = y.flatten(1).norm(dim=1), others.flatten(1).norm(dim=1)
    if t.solver.constant_norm and not torch.allclose(norms, other_norms):
        t.fail(
            f"it says `constant_norm = True`, but the norms of solutions are {norms.tolist()} and for other scores "
            f"{other_norms.tolist()}."
        )
    kept = torch.rand_like(t.scores) < 0.5
    if t.solver.separable and ((t.solve(torch.where(kept, t.scores, t.draw(t.batch))) != y) & kept).any():
        t.fail("it says `separable = True`, but an entry of the solution depends on scores of other entries.")


def _shape(t: SolverTrial) -> None:
    for dtype in t.dtypes:
        scores = _as(t.scores, dtype)
        y = t.solve(scores)
        if not isinstance(y, Tensor):
            t.fail(f"the solution of {dtype} scores is a {type(y).__name__}; it is a tensor.")
        if len(y) != t.batch:
            t.fail(f"{len(y)} solutions for {t.batch} instances.")
        if y.dtype != dtype or y.device != scores.device:
            t.fail(f"the solution is {y.dtype} on {y.device} but its scores are {dtype} on {scores.device}.")
        if not y.isfinite().all():
            t.fail(f"the solution of {dtype} scores is not finite: {_short(y)}.")


def _as(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return scores.to(dtype) if dtype.is_floating_point else (10 * scores).round().to(dtype)


def _no_gradient(t: SolverTrial) -> None:
    if t.solve(t.scores.clone().requires_grad_()).requires_grad:
        t.fail("the solution requires a gradient; a solver is forward only, and `solver(...)` must run without gradient.")


def _inputs(t: SolverTrial) -> None:
    scores, instance = t.given[0].clone(), {key: value.clone() for key, value in t.given[1].items()}
    y = t.solver(scores, **instance)
    if not torch.equal(scores, t.given[0]):
        t.fail("`solve` changes the scores in place. Work on a copy, `scores.clone()`.")
    for key, value in instance.items():
        if not torch.equal(value, t.given[1][key]):
            t.fail(f"`solve` changes `{key}` in place. Work on a copy, `{key}.clone()`.")
    before = y.clone()
    t.solve(t.draw(t.batch))
    if not torch.equal(y, before):
        t.fail("a second call changes the solution of the first: they share memory. Return a new tensor.")
    y += 1
    if not torch.equal(scores, t.scores):
        t.fail("the solution shares memory with the scores. Return a new tensor.")


def _determinism(t: SolverTrial) -> None:
    for scores in (t.scores, _ties(t)):
        first = t.solve(scores)
        torch.rand(3)
        t.same(t.solve(scores), first, "solved twice")


def _ties(t: SolverTrial) -> Tensor:
    return t.solver.clip(t.draw(t.batch).round())


def _optimality(t: SolverTrial) -> None:
    if not (t.solver.linear and t.solver.exact):
        return
    for scores in (t.scores, t.draw(t.batch), t.draw(t.batch) * 100, _ties(t), t.solver.clip(torch.zeros_like(t.scores))):
        if t.vertices is not None:
            _enumerated(t, scores)
    _compared(t)


def _enumerated(t: SolverTrial, scores: Tensor) -> None:
    assert t.vertices is not None
    y = t.solve(scores)
    value = t.objective(scores, y)
    for b in range(t.batch):
        rows = {key: data[b] for key, data in t.instance.items()}
        all_y = t.vertices(**{key: data.cpu() for key, data in rows.items()}).to(scores)
        if not (all_y == y[b]).flatten(1).all(1).any():
            t.fail(f"instance {b}: {_short(y[b])} is none of its {len(all_y)} solutions. Scores: {_short(scores[b])}.")
        repeated = {key: data[None].expand(len(all_y), *data.shape) for key, data in rows.items()}
        every = inner(scores[b].expand_as(all_y), all_y, t.solver.event_dim) + t.solver.offset(all_y, **repeated)
        _best(t, b, value[b], every, scores[b], "of all its solutions")


def _compared(t: SolverTrial) -> None:
    """Each solution is at least as good as the solutions for other scores."""
    scores = torch.stack([t.draw(t.batch) for _ in range(_DRAWS)])
    y = torch.stack([t.solve(one) for one in scores])
    for one, own in zip(scores, y):
        every, value = t.objective(one.expand_as(y), y), t.objective(one, own)
        for b in range(t.batch):
            _best(t, b, value[b], every[:, b], one[b], "of the solutions found for other scores")


def _best(t: SolverTrial, b: int, value: Tensor, every: Tensor, scores: Tensor, among: str) -> None:
    sign = 1 if t.solver.sense == "max" else -1
    best = sign * (sign * every).max()
    if sign * (best - value) > t.tolerance * (1 + scores[scores.isfinite()].abs().sum()):
        worst = sign * (sign * every).min()
        hint = f" It is the worst: is `sense = {t.solver.sense!r}` right?" if value == worst else ""
        t.fail(
            f"instance {b} has objective {value:.9g}, but the best {among} has {best:.9g} (sense {t.solver.sense!r}).{hint} "
            f"Scores: {_short(scores)}."
        )


def _batch(t: SolverTrial) -> None:
    y = t.solve(t.scores)
    for b in range(t.batch):
        one = t.solver(t.scores[b : b + 1], **t.rows([b]))
        t.same(y[b : b + 1], one, f"instance {b} solved in a batch and alone differ")
    back = list(reversed(range(t.batch)))
    t.same(t.solver(t.scores[back], **t.rows(back)), y[back], "solved in the opposite order")


def _empty_batch(t: SolverTrial) -> None:
    y, none = t.solve(t.scores), t.solver(t.scores[:0], **t.rows([]))
    if none.shape != (0, *y.shape[1:]) or none.dtype != y.dtype:
        t.fail(f"an empty batch gives {none.dtype} of shape {tuple(none.shape)}, expected {y.dtype} of {(0, *y.shape[1:])}.")


def _samples(t: SolverTrial) -> None:
    """The oracle folds sample dimensions into the batch, and a loop over them gives the same."""
    oracle = Oracle(t.solver, t.instance)
    theta = oracle.sign * torch.stack([t.draw(t.batch) for _ in range(3)])
    y, loop = oracle(theta), torch.stack([oracle(one) for one in theta])
    t.same(y.flatten(0, 1), loop.flatten(0, 1), "three samples in one call and in a loop differ")
    if t.solver.linear:
        direction, each = oracle.tangent(theta), torch.stack([oracle.tangent(one) for one in theta])
        if not torch.allclose(direction, each):
            t.fail("`tangent` of three samples in one call and in a loop differ; it takes (*S, B, *E).")


def _layouts(t: SolverTrial) -> None:
    y = t.solve(t.scores)
    strided = {key: torch.stack([value, value], -1)[..., 0] for key, value in t.instance.items()}
    for name, scores in (
        ("strided", torch.stack([t.scores, t.scores + 1], -1)[..., 0]),
        ("transposed", t.scores.movedim(0, -1).contiguous().movedim(-1, 0)),
    ):
        t.same(t.solver(scores, **strided), y, f"{name} scores and contiguous ones differ")
    one = t.scores[:1].expand_as(t.scores)
    rows = {key: value[:1].expand_as(value) for key, value in t.instance.items()}
    t.same(t.solver(one, **rows), y[:1].expand_as(y), "one instance expanded to a batch")


def _scale(t: SolverTrial) -> None:
    if not t.solver.scale_free:
        return
    y = t.solve(t.scores)
    factors = torch.tensor([0.125, 3.0, 64.0], dtype=t.scores.dtype, device=t.scores.device).repeat(t.batch)[: t.batch]
    scaled = t.scores * factors.reshape(-1, *[1] * t.solver.event_dim)
    t.same(t.solve(scaled), y, f"scores times {factors.tolist()} (if the scale matters, set `scale_free = False`)")


def _constant(t: SolverTrial) -> None:
    if not t.solver.constant_sum:
        return
    y = t.solve(t.scores)
    shifts = torch.tensor([0.5, 7.0, 100.0], dtype=t.scores.dtype, device=t.scores.device).repeat(t.batch)[: t.batch]
    shifted = t.scores + shifts.reshape(-1, *[1] * t.solver.event_dim)
    t.same(t.solve(shifted), y, f"scores plus {shifts.tolist()} (if a constant matters, set `constant_sum = False`)")
    sums, others = y.flatten(1).sum(1), t.solve(t.draw(t.batch)).flatten(1).sum(1)
    if not torch.allclose(sums, others):
        t.fail(f"the sums of solutions are {sums.tolist()} and for other scores {others.tolist()}. Set `constant_sum = False`.")


def _tangent(t: SolverTrial) -> None:
    if not t.solver.linear:
        return
    oracle = Oracle(t.solver, t.instance)
    a, b = torch.randn_like(t.scores), torch.randn_like(t.scores)
    pa, pb = oracle.tangent(a), oracle.tangent(b)
    if pa.shape != a.shape:
        t.fail(f"`tangent` gives shape {tuple(pa.shape)} for a direction of shape {tuple(a.shape)}.")
    _close(t, oracle.tangent(pa), pa, "`tangent` is not idempotent: projected twice and once differ")
    left, right = inner(pa, b, oracle.event_dim), inner(a, pb, oracle.event_dim)
    _close(t, left, right, "`tangent` is not self-adjoint: <Pa, b> and <a, Pb> differ")
    y, other = t.solve(t.scores), t.solve(t.draw(t.batch))
    _close(t, oracle.tangent(y - other), y - other, "`tangent` changes a difference of two solutions")
    projected = oracle.tangent(t.scores)
    if torch.equal(t.solver.clip(projected), projected):
        t.same(t.solve(projected), y, "what `tangent` removes from the scores changes the solution")


def _close(t: SolverTrial, got: Tensor, expected: Tensor, text: str, tolerance: float = 1e-9) -> None:
    differ = ((got - expected).abs() > tolerance * (1 + expected.abs())).reshape(t.batch, -1).any(1)
    if differ.any():
        b = int(differ.nonzero()[0, 0])
        t.fail(f"{text}: instance {b} gives {_short(got[b])} and {_short(expected[b])}.")


def _mask(t: SolverTrial) -> None:
    if t.mask is None:
        if t.solver.same_shape and t.takes_mask:
            everything = torch.ones_like(t.scores, dtype=torch.bool)
            t.same(t.solve(t.scores, mask=everything), t.solve(t.scores), "a mask of all entries and no mask differ")
        return
    y = t.solve(t.scores)
    if t.solver.same_shape and (y[~t.mask] != 0).any():
        t.fail(f"the solution is not 0 outside the mask: {_short(y[~t.mask])}.")
    for garbage in (torch.nan, torch.inf, -torch.inf, 1e30, -1e30):
        t.same(t.solve(torch.where(t.mask, t.scores, garbage)), y, f"{garbage} in the entries outside the mask")


def _padding(t: SolverTrial) -> None:
    per_instance = all(value.ndim == 1 for key, value in t.instance.items() if key != "mask")
    if not (t.solver.same_shape and t.takes_mask) or (t.pad is None and not per_instance):
        return
    y = t.solve(t.scores)
    scores, instance = (t.pad or pad_at_end)(t.scores, t.instance)
    expected = scores.new_zeros(scores.shape)
    expected[tuple(slice(size) for size in y.shape)] = y
    t.same(t.solver(scores, **instance), expected, "padded with entries outside the mask")


def pad_at_end(scores: Tensor, instance: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Two more entries, NaN and outside the mask, at the end of each event dimension; other instance data stay as they are."""
    widths = (0, 2) * (scores.ndim - 1)
    mask = instance.get("mask", torch.ones_like(scores, dtype=torch.bool))
    padded = torch.nn.functional.pad(scores, widths, value=math.nan)
    return padded, {**instance, "mask": torch.nn.functional.pad(mask, widths, value=False)}


def _refusals(t: SolverTrial) -> None:
    """Wrong input is refused, naming the instance."""
    use = t.scores[-1].isfinite() if t.mask is None else t.mask[-1]
    if use.any():
        scores = t.scores.clone()
        scores[-1][use] = torch.nan
        try:
            t.solve(scores)
        except InstanceError as error:
            if error.instances.tolist() != [False] * (t.batch - 1) + [True]:
                t.fail(f"NaN scores in instance {t.batch - 1}: the error names {error.instances.tolist()}.")
        else:
            t.fail(f"NaN scores in instance {t.batch - 1} are accepted; `check` raises InstanceError.")
    try:
        t.solve(t.scores.unsqueeze(0))
    except ValueError:
        return
    t.fail(f"scores of shape {(1, *t.scores.shape)}, one dimension too many, are accepted; `check` raises ValueError.")


def _info(t: SolverTrial) -> None:
    info, y = t.solver.solve_with_info(t.scores, **t.instance), t.solve(t.scores)
    t.same(info.solution, y, "the solution of `solve_with_info` and of `solve` differ")
    for name in ("objective", "optimal", "bound"):
        if getattr(info, name).shape != (t.batch,):
            t.fail(f"`{name}` has shape {tuple(getattr(info, name).shape)}, expected {(t.batch,)}.")
    if not t.solver.linear:
        return
    _close(t, info.objective.double(), t.objective(t.scores, y), "`objective` is not <scores, y> + offset(y)")
    sign = 1 if t.solver.sense == "max" else -1
    slack = t.tolerance * (1 + info.objective.abs())
    for b in range(t.batch):
        if sign * (info.objective[b] - info.bound[b]) > slack[b]:
            t.fail(f"instance {b}: the bound {info.bound[b]:.9g} is worse than the objective {info.objective[b]:.9g}.")
        if info.optimal[b] and (info.objective[b] - info.bound[b]).abs() > slack[b]:
            t.fail(f"instance {b} is called optimal, but its bound is {info.bound[b]:.9g}, not {info.objective[b]:.9g}.")


def _senses(t: SolverTrial) -> None:
    """Gains are solved as the costs that they are when turned, and the other way round."""
    other: Sense = "min" if t.solver.sense == "max" else "max"
    y = t.solve(t.scores)
    t.same(t.solver.optimise(t.scores, sense=None, **t.instance), y, "`optimise` and `solve` differ")
    turned = t.solver.optimise(-t.scores, sense=other, **t.instance)
    t.same(turned, y, f'`optimise(-scores, sense="{other}")` and `solve` differ')


def _starts(t: SolverTrial) -> None:
    """Solving similar scores from where a solve ended is as good as solving them anew."""
    if "warm_start" in t.instance:
        return
    y, start = t.solver.optimise_with_start(t.scores, sense=None, **t.instance)
    t.same(y, t.solve(t.scores), "`optimise_with_start` and `solve` differ")
    if start is None:
        return
    if len(start) != t.batch:
        t.fail(f"the start has shape {tuple(start.shape)}; its first dimension is the batch of {t.batch}.")
    for move in (0.0, 0.01, 1.0):
        moved = t.solver.clip(torch.where(t.scores.isfinite(), t.scores + move * torch.randn_like(t.scores), t.scores))
        anew, again = (
            t.objective(moved, t.solver.optimise(moved, sense=None, **t.instance, **more))
            for more in ({}, {"warm_start": start})
        )
        _close(t, again, anew, "from a start and anew, objectives differ", t.tolerance)


def _pickle(t: SolverTrial) -> None:
    copies = {"copied": copy.deepcopy(t.solver)}
    if _importable(type(t.solver)):
        copies["pickled"] = pickle.loads(pickle.dumps(t.solver))
    for how, other in copies.items():
        if other != t.solver or hash(other) != hash(t.solver):
            t.fail(f"{how}, {t.solver!r} is not equal to itself. Make the class a frozen dataclass.")
        t.same(other(t.scores, **t.instance), t.solve(t.scores), f"{how}, it gives other solutions")


def _importable(cls: type) -> bool:
    return getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls


def _repr(t: SolverTrial) -> None:
    if not repr(t.solver).startswith((f"{type(t.solver).__name__}(", f"{type(t.solver).__qualname__}(")):
        t.fail(f"repr is {t.solver!r}; it is the constructor call, as in a dataclass.")


SOLVER_LAWS: dict[str, Callable[[SolverTrial], None]] = {
    "facts": _facts,
    "shape": _shape,
    "declared": _declared,
    "no gradient": _no_gradient,
    "inputs unchanged": _inputs,
    "determinism": _determinism,
    "optimality": _optimality,
    "batch": _batch,
    "empty batch": _empty_batch,
    "samples": _samples,
    "layouts": _layouts,
    "scale": _scale,
    "constant": _constant,
    "tangent": _tangent,
    "mask": _mask,
    "padding": _padding,
    "refusals": _refusals,
    "info": _info,
    "senses": _senses,
    "starts": _starts,
    "pickle": _pickle,
    "repr": _repr,
}
"""The laws by name, in the order in which they are checked: later ones presume the earlier."""
