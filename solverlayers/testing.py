"""The contract, as a function: does a solver, or a rule, keep the laws that the rest of the library relies on?

`check_solver(MySolver(), shape=(10,))` and `check_rule(MyRule(), MySolver(), shape=(10,))` return nothing when all laws hold,
and raise an AssertionError that names the class, the law, the instance and the numbers when one is broken. They need no test
framework: call them from a test, a notebook, or the last line of a script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .rule_laws import RULE_LAWS, RuleTrial
from .rules.base import Rule
from .solver import Solver
from .solver_laws import SOLVER_LAWS, Pad, SolverTrial, Vertices
from .solver_laws import pad_at_end as pad_at_end

Instance = Callable[[int], dict[str, Tensor]]
"""From the number of instances to their data, tensors with that leading dimension."""


def check_solver(
    solver: Solver,
    shape: Sequence[int] | None = None,
    instance: Instance | None = None,
    vertices: Tensor | Vertices | None = None,
    *,
    scores: Callable[[int], Tensor] | None = None,
    batch: int = 5,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64, torch.int64),
    pad: Pad | None = None,
    tolerance: float = 1e-7,
    device: torch.device | str = "cpu",
    seed: int = 0,
    skip: Iterable[str] = (),
) -> None:
    """Checks the laws of a solver on a batch of random instances; raises an AssertionError for the first one broken.

    Args:
        solver: the solver.
        shape: shape of the scores of one instance.
        instance: from a number of instances to their data; called once. Give a `mask` here to have the laws of masks checked.
        vertices: all solutions of an instance, `(V, *E)`, or a function of one instance's data that lists them. Optimality is
            then checked by enumeration; without it, each solution against the solutions for other scores.
        scores: from a number of instances to scores `(batch, *shape)`; by default standard normal, their absolute
            values where `solver.clip` changes them.
        batch: how many instances.
        dtypes: the types of scores that the solver takes.
        pad: from scores and instance data to the same with padding at the end of each event dimension, outside the `mask`.
            By default the scores and the mask alone are padded, if other data are at most a number per instance; say
            `pad=pad_at_end` where others fit as they are, too.
        tolerance: of objectives, relative.
        device: where scores and instance data go.
        seed: of the scores; the global generator of random numbers is left alone.
        skip: names of laws that are not meant to hold, such as "pickle" for a solver that holds a lambda.

    >>> from solverlayers.solvers import TopK
    >>> check_solver(TopK(2), shape=(4,))
    """
    laws = _chosen(SOLVER_LAWS, skip)
    with _seeded(seed, device):
        draw, data = _draw(solver, shape, scores, device), _data(instance, batch, device)
        trial = SolverTrial(solver, draw, batch, data, _listing(vertices), dtypes, pad, tolerance)
        for law, check in laws.items():
            _hold(trial, law, check)


def check_rule(
    rule: Rule,
    solver: Solver,
    shape: Sequence[int] | None = None,
    instance: Instance | None = None,
    *,
    scores: Callable[[int], Tensor] | None = None,
    batch: int = 3,
    tolerance: float = 1e-5,
    device: torch.device | str = "cpu",
    seed: int = 0,
    skip: Iterable[str] = (),
) -> None:
    """Checks the laws of a rule, in a layer with `solver`; raises an AssertionError for the first one broken.

    Args:
        rule: the rule.
        solver: a solver for which it has a meaning.
        shape, instance, scores, batch, device, seed: as in `check_solver`.
        tolerance: of gradients taken in two ways, relative, in double precision.
        skip: names of laws that are not meant to hold.

    >>> from solverlayers.rules import Identity
    >>> from solverlayers.solvers import TopK
    >>> check_rule(Identity(), TopK(2), shape=(4,))
    """
    laws = _chosen(RULE_LAWS, skip)
    with _seeded(seed, device):
        draw, data = _draw(solver, shape, scores, device), _data(instance, batch, device)
        trial = RuleTrial(rule, solver, draw, batch, data, tolerance)
        for law, check in laws.items():
            _hold(trial, law, check)


def _hold(trial: Any, law: str, check: Callable[[Any], None]) -> None:
    """One law; whatever else goes wrong while it is tried breaks it, too."""
    trial.law = law
    try:
        check(trial)
    except AssertionError:
        raise
    except Exception as error:
        try:
            trial.fail(f"{type(error).__name__}: {error}")
        except AssertionError as broken:
            raise broken from error


def _chosen(laws: dict[str, Callable], skip: Iterable[str]) -> dict[str, Callable]:
    skip = {skip} if isinstance(skip, str) else set(skip)
    if skip - laws.keys():
        raise ValueError(f"unknown law {min(skip - laws.keys())!r}; use some of {', '.join(map(repr, laws))}.")
    return {law: check for law, check in laws.items() if law not in skip}


@contextmanager
def _seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _data(instance: Instance | None, batch: int, device: torch.device | str) -> dict[str, Tensor]:
    return {} if instance is None else {key: value.to(device) for key, value in instance(batch).items()}


def _draw(
    solver: Solver, shape: Sequence[int] | None, scores: Callable[[int], Tensor] | None, device: torch.device | str
) -> Callable[[int], Tensor]:
    if scores is not None:
        return lambda batch: scores(batch).to(device, torch.float64)
    if shape is None:
        raise ValueError("give shape=, the shape of one instance's scores, such as shape=(10,), or scores=, a function.")
    return lambda batch: _accepted(solver, torch.randn(batch, *shape, dtype=torch.float64, device=device))


def _accepted(solver: Solver, scores: Tensor) -> Tensor:
    """Scores that the solver accepts; with all signs turned if negative ones are clipped, so that few scores are equal."""
    return scores if torch.equal(solver.clip(scores), scores) else solver.clip(scores.abs())


def _listing(vertices: Tensor | Vertices | None) -> Vertices | None:
    return (lambda **_: vertices) if isinstance(vertices, Tensor) else vertices
