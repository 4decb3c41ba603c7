"""Solvers with a time limit, of which the best solution found in time counts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace

import torch
from torch import Tensor

from solverlayers.arguments import check_numbers
from solverlayers.errors import SolverTimeoutError
from solverlayers.solver import Solution, Solver, inner

from ..common import check_seconds
from .base import Answer, Wrapper, as_answer, parts_of, put_together, rows_of, some


@dataclass(frozen=True)
class Timed(Wrapper):
    """A solver with `seconds` for each instance; where these are not enough, the best solution found in time is returned.

    The limit is the solver's own: its field `time_limit` is set, in the solver itself or in the one that it wraps; ValueError
    for a solver that has none. `solve_with_info` says which solutions are proved (`optimal`). An instance for which nothing at
    all was found raises SolverTimeoutError. What is found in time depends on the machine, so `exact` is False.

    >>> from solverlayers.solvers import TSP
    >>> places = torch.tensor([[0.0, 0.0], [2.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
    >>> Timed(TSP(), 5.0).solve_with_info(torch.cdist(places, places)[None]).optimal
    tensor([True])
    """

    seconds: float
    _limited: Solver = field(init=False, repr=False, compare=False)

    exact = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "seconds")
        check_seconds(self, "seconds")
        object.__setattr__(self, "_limited", _with_limit(self.solver, self.seconds))

    def solve(self, *scores: Tensor, **instance: Tensor) -> Answer:
        """The best solutions found in time.  # (B, *E) -> (B, *E)"""
        return self.solve_with_info(*scores, **instance).solution

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """The best solutions found in time, and which of them are proved.  # (B, *E) -> Solution"""
        try:
            return self._limited.solve_with_info(*scores, **instance)
        except SolverTimeoutError as error:
            if error.incumbent is None or not error.instances.any():
                raise
            return self._with_incumbents(error.instances.cpu(), error.incumbent, scores, instance)

    def _with_incumbents(
        self, late: Tensor, incumbent: Tensor, scores: tuple[Tensor, ...], instance: dict[str, Tensor]
    ) -> Solution:
        """The incumbents of the instances that are late, and the solutions of the others, which are solved again."""
        rows, others = late.nonzero()[:, 0], (~late).nonzero()[:, 0]
        own, data = rows_of(scores, rows), some(instance, rows)
        (found,) = rows_of((incumbent,), rows)
        y = as_answer(_unpacked(found, own), scores if len(scores) > 1 else own[0])
        objective = sum(
            (inner(s.double(), part.double(), s.ndim - 1) for s, part in zip(own, parts_of(y))), torch.zeros(len(rows)).double()
        )
        if not isinstance(y, tuple):
            objective = objective + self.offset(y.double(), **data)
        unknown = torch.full_like(objective, torch.nan)
        info = Solution(y, objective, torch.zeros(len(rows), dtype=torch.bool), unknown)
        if not len(others):
            return info
        return put_together([info, self.solve_with_info(*rows_of(scores, others), **some(instance, others))], [rows, others])


def _with_limit(solver: Solver, seconds: float) -> Solver:
    """The solver with its time limit set, or the wrapper around such a one."""
    if isinstance(solver, Wrapper):
        return replace(solver, solver=_with_limit(solver.solver, seconds))
    if is_dataclass(solver) and "time_limit" in {f.name for f in fields(solver)}:
        return replace(solver, time_limit=seconds)
    raise ValueError(
        f"Timed: {solver!r} has no time limit: there is no field `time_limit` in its class. Use a solver that has one, such as "
        f"TSP; a solver that always takes about as long needs none."
    )


def _unpacked(packed: Tensor, scores: tuple[Tensor, ...]) -> list[Tensor]:
    """An incumbent, flat if the solver has several score tensors, in the shapes of the scores."""
    if len(scores) == 1:
        return [packed.to(scores[0])]
    parts = packed.flatten(1).split([s[0].numel() for s in scores], 1)
    return [part.reshape(s.shape).to(s) for part, s in zip(parts, scores)]
