"""What all solvers that write their problem as an integer program share: the loop over instances, failures, bounds."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, SolverTimeoutError, first_instance
from solverlayers.solver import Sense, Solution, Solver, inner

from .common import check_mask, check_seconds, greatest_gain, in_type_of, native, remove_mean
from .engines import Answer, Engine, Program, Status


class InvalidInstance(Exception):
    """What is wrong with the data of one instance, raised by `_program`: the end of "Name: instance 3 has ..."."""


class Found(NamedTuple):
    y: Tensor  # (B, *E), zero where nothing was found
    answers: list[Answer]


class _Start(NamedTuple):
    """What an instance starts from."""

    y: np.ndarray | None = None  # (n,), for the engine to try
    settled: bool = False  # whether it is known to be optimal, which needs no engine


_NEAR = 0.05
"""The share of the objective by which a solution may miss the optimum at most for a hint of it to save time."""


class ProgramSolver(Solver):
    """A problem whose solutions are the first variables of an integer program, the scores being their part of the objective.

    A subclass says in `_program` what the program of an instance is; variables after those that have scores are auxiliary, and
    cost nothing. Everything else is here: an engine of `engines` solves one instance after the other, on the CPU.

    Fields of all subclasses:
        engine: the package that does the work: HiGHS(), CPSAT(), SCIP(), GLOP() or Gurobi().
        time_limit: seconds for each instance, or None. If it passes, `solve` raises SolverTimeoutError with the best solutions
            found as incumbent, and `solve_with_info` returns them with their bounds.

    Instance data of all subclasses: `warm_start`, in the shape of the scores: solutions to start from, for engines that can.
    Or `(B, 2, *E)`, for all engines: other scores of the same instances and their optimal solutions, as the second solve of a
    finite difference has them from the first one. An instance whose scores only moved in favour of its solution (of variables
    at their upper bound to the better, at their lower bound to the worse, of others not at all) is then not solved again; a
    Hamming loss moves instances that are right already in that way. Others are solved as ever, but CP-SAT gets the solution as
    a hint where the moves cannot have made it worse than the optimum by more than 5 %, since elsewhere, and with SCIP, hints
    saved no time. Where one solution is optimal the start changes nothing; of several it may choose another. That the solutions
    are optimal for those scores is taken on trust: what is not makes others wrong, too.

    `optimal` is what the engine says: up to its tolerance, about a billionth of the greatest cost, so that what is further
    below the greatest has no say. Raises InfeasibleError for an instance without a solution, InstanceError for one with
    infinite scores or an unbounded objective. Among several best solutions the one returned is always the same, but not
    specified.
    """

    engine: Engine
    time_limit: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.engine, Engine):
            raise TypeError(
                f"{type(self).__name__}: engine is {self.engine!r}; expected an Engine, such as HiGHS() or CPSAT() (with the "
                f"brackets)."
            )
        check_seconds(self, "time_limit")

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        super().check(*scores, **instance)
        check_mask(self, scores[0], instance.get("mask"))

    @abstractmethod
    def _program(self, shape: tuple[int, ...], **instance: np.ndarray) -> Program:
        """The program of one instance with scores of this shape; its first variables, row-major, are the solution.

        Raises InvalidInstance for data that make no sense.
        """

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The best solutions.  # (B, *E) -> (B, *E)"""
        found = self._search(scores, instance)
        self._refuse(found, scores)
        self._refuse_stopped(found, scores)
        return found.y

    def optimise_with_start(
        self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What `optimise` returns, and the scores with it as a start.  # (B, *E) -> (B, *E), (B, 2, *E)"""
        y = self.optimise(*scores, sense=sense, **instance)
        return y, torch.stack([self._own(scores[0], sense), y], 1)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The best solutions, or those found in time, with the bounds that the engine proves.  # (B, *E) -> Solution"""
        self.check(scores, **instance)
        found = self._search(scores, instance)
        self._refuse(found, scores)
        objective = inner(scores.double(), found.y.double(), self.event_dim)
        sign = 1 if self.sense == "min" else -1
        bound = torch.tensor([sign * answer.bound for answer in found.answers], dtype=torch.float64, device=scores.device)
        bound = bound.minimum(objective) if sign > 0 else bound.maximum(objective)
        optimal = torch.tensor([answer.status == Status.OPTIMAL for answer in found.answers], device=scores.device)
        return Solution(found.y, objective, optimal.bool(), bound, self._duals(found.answers, scores, instance))

    def _duals(self, answers: list[Answer], scores: Tensor, instance: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def _search(self, scores: Tensor, instance: dict[str, Tensor]) -> Found:
        self._refuse_infinite(scores, instance.get("mask"))
        costs = self._costs(scores, instance)
        programs = self._programs(tuple(costs.shape[1:]), len(costs), instance)
        starts = self._starts(costs, programs, instance)
        answers = []
        y = np.zeros(costs.shape)
        for b, (program, row, start) in enumerate(zip(programs, costs.numpy(), starts)):
            answers.append(self._answer(program, row.reshape(-1), start))
            x = answers[-1].x
            if x is not None:
                y[b] = x[: row.size].reshape(row.shape) + 0.0  # no negative zeros
        return Found(in_type_of(self, torch.as_tensor(y, device=scores.device), scores), answers)

    def _costs(self, scores: Tensor, instance: dict[str, Tensor]) -> Tensor:
        """What the programs minimise, on the CPU.  # (B, *E) -> (B, *E)"""
        signed = native(self, scores).double() * (1 if self.sense == "min" else -1)
        return (signed.where(instance["mask"], 0) if "mask" in instance else signed).cpu()

    def _starts(self, costs: Tensor, programs: list[Program], instance: dict[str, Tensor]) -> list[_Start]:
        start = instance.get("warm_start")
        if start is None:
            return [_Start()] * len(costs)
        count, *shape = costs.shape
        if start.isinf().any():
            raise ValueError(f"{type(self).__name__}: `warm_start` has infinite numbers; NaN stands for an unknown one.")
        if start.shape == costs.shape:
            return [_Start(y) for y in start.double().flatten(1).cpu().numpy()]
        if start.shape != (count, 2, *shape):
            raise ValueError(
                f"{type(self).__name__}: `warm_start` has shape {tuple(start.shape)}; solutions have the shape of the scores, "
                f"{tuple(costs.shape)}."
            )
        before, y = self._costs(start[:, 0], instance), start[:, 1].double().cpu()
        bounds = np.array([(p.lower[: y[0].numel()], p.upper[: y[0].numel()]) for p in programs])
        lower, upper = torch.as_tensor(bounds).view(count, 2, *shape).unbind(1)
        gain = greatest_gain(costs, before, y, lower, upper)
        useful = gain <= (_NEAR if self.engine.hints_pay else 0.0) * inner(costs, y, self.event_dim).abs()
        each = zip(y.flatten(1).numpy(), (gain == 0).tolist(), useful.tolist())
        return [_Start(best, settled) if use else _Start() for best, settled, use in each]

    def _programs(self, shape: tuple[int, ...], count: int, instance: dict[str, Tensor]) -> list[Program]:
        columns = {key: value.cpu().numpy() for key, value in instance.items() if key != "warm_start"}
        programs, wrong = [], {}
        for b in range(count):
            try:
                programs.append(self._program(shape, **{key: value[b] for key, value in columns.items()}))
            except InvalidInstance as error:
                wrong[b] = str(error)
        if wrong:
            bad = torch.tensor([b in wrong for b in range(count)])
            first = first_instance(bad)
            raise InstanceError(
                f"{type(self).__name__}: instance {first} has {wrong[first]} ({len(wrong)} of {count} instances).", bad
            )
        return programs

    def _answer(self, program: Program, costs: np.ndarray, start: _Start) -> Answer:
        if start.y is not None and start.settled:
            return Answer(Status.OPTIMAL, start.y, float(costs @ start.y))  # without auxiliary variables
        more = len(program.lower) - costs.size
        objective = np.concatenate([costs, np.zeros(more)])
        hint = None if start.y is None else np.concatenate([start.y, np.full(more, np.nan)])
        return self.engine.minimise(program, objective, self.time_limit, hint)

    def _refuse_infinite(self, scores: Tensor, mask: Tensor | None) -> None:
        infinite = (scores.isinf() if mask is None else scores.isinf() & mask).flatten(1).any(1)
        if infinite.any():
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(infinite)} has infinite scores ({int(infinite.sum())} of "
                f"{len(infinite)} instances). Take a variable away with `mask`, or by its bounds.",
                infinite,
            )

    def _refuse(self, found: Found, scores: Tensor) -> None:
        """Raises an error for instances without an answer."""
        for status, (error, text) in _FAILURES.items():
            failed = torch.tensor([answer.status == status for answer in found.answers], dtype=torch.bool, device=scores.device)
            if failed.any():
                name, count = type(self).__name__, f"{int(failed.sum())} of {len(failed)} instances"
                raise error(f"{name}: instance {first_instance(failed)} {text.format(count=count)}", failed)

    def _refuse_stopped(self, found: Found, scores: Tensor) -> None:
        late = torch.tensor([a.status == Status.STOPPED for a in found.answers], dtype=torch.bool, device=scores.device)
        if late.any():
            raise SolverTimeoutError(
                f"{type(self).__name__}: instance {first_instance(late)} was not solved to optimality in {self.time_limit:g} s "
                f"({int(late.sum())} of {len(late)} instances). Raise `time_limit`, take the best solution found with "
                f'`SolverLayer(..., on_failure="last")`, or look at it and its bound with `solve_with_info`.',
                late,
                found.y,
            )


class OneInEachRow(ProgramSolver):
    """Programs whose solutions of least score are 0/1 matrices with one 1 in each row that the mask does not leave out."""

    event_dim = 2
    sense = "min"
    binary = True
    constant_sum = True
    constant_norm = True

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """The part whose rows sum to zero.  # (*S, B, n, m) -> (*S, B, n, m)"""
        return remove_mean(direction, mask)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The column of each row, -1 for padding.  # (B, n, m) -> B tensors (n,)"""
        return list(torch.where((y != 0).any(2), (y != 0).to(torch.uint8).argmax(2), -1))


def zero_one(rows: Any, least: Any = -np.inf, most: Any = np.inf, upper: Any = 1.0) -> Program:
    """`least <= rows x <= most` for variables that are 0 or 1, and 0 where `upper` is.  # (m, N)"""
    from scipy.sparse import csr_array

    matrix = csr_array(rows, dtype=np.float64)
    count, size = matrix.shape
    low, high = (np.broadcast_to(np.asarray(side, dtype=np.float64), (count,)).copy() for side in (least, most))
    bounds = np.broadcast_to(np.asarray(upper, dtype=np.float64), (size,)).copy()
    return Program(matrix, low, high, np.zeros(size), bounds, np.ones(size, dtype=bool))


_FAILURES: dict[Status, tuple[type[InstanceError], str]] = {
    Status.INFEASIBLE: (
        InfeasibleError,
        "has no feasible solution ({count}): its constraints contradict each other. Relax them, or train on without such "
        'instances with `SolverLayer(..., on_failure="skip")`.',
    ),
    Status.UNBOUNDED: (
        InstanceError,
        "has an unbounded objective ({count}): there are solutions as good as one likes. Give the variables bounds.",
    ),
    Status.NOTHING: (
        SolverTimeoutError,
        "has no solution that was found in time ({count}), though there may be one. Raise `time_limit`.",
    ),
}
