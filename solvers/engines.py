"""Packages that solve linear and integer programs, one instance at a time, on the CPU, behind one method."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_TOP = 1024.0
"""Costs are scaled so that the largest is about this: engines have absolute tolerances, of about 1e-6 at worst."""
_DIGITS = 2**30
_EXACT = 2**52


class Program(NamedTuple):
    """`row_lower <= matrix x <= row_upper`, `lower <= x <= upper`, and `x` whole where `integer` says so."""

    matrix: csr_array  # (m, N)
    row_lower: np.ndarray  # (m,)
    row_upper: np.ndarray
    lower: np.ndarray  # (N,)
    upper: np.ndarray
    integer: np.ndarray  # (N,), boolean


class Status(IntEnum):
    """What an engine found out about an instance."""

    OPTIMAL = 0
    STOPPED = 1  # a time limit passed; there is a solution
    NOTHING = 2  # a time limit passed; there is none
    INFEASIBLE = 3
    UNBOUNDED = 4


class Answer(NamedTuple):
    """`x` is None unless the status is OPTIMAL or STOPPED; `prices` are those of rows and bounds, where the engine has them."""

    status: Status
    x: np.ndarray | None = None  # (N,)
    bound: float = math.nan
    prices: tuple[np.ndarray, np.ndarray] | None = None  # (m,), (N,)


class Engine(ABC):
    """A package that minimises `<costs, x>` over a Program. Frozen, without state: each call stands for itself.

    Objectives are optimal up to about 1e-9 of the largest cost for each unit of `x`; rows hold up to 1e-6, exactly where all
    numbers are small integers. The same call gives the same answer, unless the time limit cuts it short.
    """

    hints: ClassVar[bool] = False
    """Whether the engine can start from a solution."""
    hints_pay: ClassVar[bool] = False
    """Whether it saves time to start from one that is nearly optimal, as measured; else rules leave that be."""

    def minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None = None) -> Answer:
        """The best `x`, after `seconds` at most; NaN in `start` is unknown."""
        if start is not None and not self.hints:
            raise ValueError(
                f"{type(self).__name__} takes no solution as `warm_start`. Use CPSAT(), SCIP() or Gurobi(), or leave it out."
            )
        if not len(costs):
            return _without_variables(program)
        largest = np.abs(costs).max(initial=0.0)
        shift = 0 if largest == 0 else math.floor(math.log2(_TOP)) - math.frexp(largest)[1]
        answer = self._minimise(program, np.ldexp(costs, shift), seconds, start)
        if answer.status in (Status.INFEASIBLE, Status.UNBOUNDED):
            return self._which(program, largest > 0, seconds)
        prices = answer.prices and (np.ldexp(answer.prices[0], -shift), np.ldexp(answer.prices[1], -shift))
        return answer._replace(x=_rounded(program, answer.x), bound=math.ldexp(answer.bound, -shift), prices=prices)

    def _which(self, program: Program, costs: bool, seconds: float | None) -> Answer:
        """Infeasible or unbounded? Presolving often cannot tell; a program without costs is never unbounded."""
        bounded = bool(np.isfinite(program.lower).all() and np.isfinite(program.upper).all())
        if bounded or not costs:
            return Answer(Status.INFEASIBLE)
        answer = self._minimise(program, np.zeros_like(program.lower), seconds, None)
        return Answer(Status.INFEASIBLE if answer.x is None else Status.UNBOUNDED)

    @abstractmethod
    def _minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None) -> Answer:
        """As `minimise`, for costs of which the largest is about a thousand, or zero."""


def _without_variables(program: Program) -> Answer:
    """No variable is a solution, unless a row asks for more; engines fail or differ."""
    if (program.row_lower > 0).any() or (program.row_upper < 0).any():
        return Answer(Status.INFEASIBLE)
    return Answer(Status.OPTIMAL, np.zeros(0), 0.0, (np.zeros(len(program.row_lower)), np.zeros(0)))


def _rounded(program: Program, x: np.ndarray | None) -> np.ndarray | None:
    """`x` within its bounds, whole where it has to be."""
    if x is None:
        return None
    return np.clip(np.where(program.integer, np.rint(x), x), program.lower, program.upper)


@dataclass(frozen=True)
class HiGHS(Engine):
    """HiGHS, as SciPy ships it (`scipy.optimize.milp`): mixed-integer programs of any kind. No hints, no prices."""

    def _minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None) -> Answer:
        from scipy.optimize import Bounds, LinearConstraint, milp

        rows = LinearConstraint(program.matrix, program.row_lower, program.row_upper)
        found = milp(
            costs,
            integrality=program.integer.astype(int),
            bounds=Bounds(program.lower, program.upper),
            constraints=rows if len(program.row_lower) else None,
            options={"mip_rel_gap": 0.0, **({} if seconds is None else {"time_limit": seconds})},
        )
        if found.status == 0:
            return Answer(Status.OPTIMAL, found.x, found.fun)
        if found.status == 1:
            bound = -math.inf if found.mip_dual_bound is None else found.mip_dual_bound
            return Answer(Status.NOTHING if found.x is None else Status.STOPPED, found.x, bound)
        if found.status in (2, 3, 4):
            return Answer(Status.INFEASIBLE)
        raise RuntimeError(f"HiGHS: {found.message}")


class _ORTools(Engine):
    """Engines behind the linear solver of OR-Tools."""

    _name: ClassVar[str]
    _parameters: ClassVar[str] = ""

    def _minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None) -> Answer:
        from ortools.linear_solver.python.model_builder_helper import ModelSolverHelper, SolveStatus

        model = self._model(program, costs, start)
        solver = ModelSolverHelper(self._name)
        solver.set_solver_specific_parameters(self._parameters)
        if seconds is not None:
            solver.set_time_limit_in_seconds(seconds)
        solver.solve(model)
        status = solver.status()
        if status in (SolveStatus.INFEASIBLE, SolveStatus.UNBOUNDED):
            return Answer(Status.INFEASIBLE)
        if not solver.has_solution():
            if seconds is not None and status in (SolveStatus.NOT_SOLVED, SolveStatus.FEASIBLE, SolveStatus.CANCELLED_BY_USER):
                return Answer(Status.NOTHING)
            raise RuntimeError(f"{type(self).__name__}: the model was not solved: {status.name}. {solver.status_string()}")
        found = Status.OPTIMAL if status == SolveStatus.OPTIMAL else Status.STOPPED
        return Answer(found, np.array(solver.variable_values()), solver.best_objective_bound(), self._prices(solver))

    def _model(self, program: Program, costs: np.ndarray, start: np.ndarray | None) -> Any:
        from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper
        from scipy.sparse import csr_matrix

        model: Any = ModelBuilderHelper()
        model.fill_model_from_sparse_data(
            program.lower, program.upper, costs, program.row_lower, program.row_upper, csr_matrix(program.matrix)
        )
        for i in np.flatnonzero(program.integer).tolist():
            model.set_var_integrality(i, True)
        if start is not None:
            for i in np.flatnonzero(~np.isnan(start)).tolist():
                model.add_hint(i, start[i])
        return model

    def _prices(self, solver: Any) -> tuple[np.ndarray, np.ndarray] | None:
        return None


@dataclass(frozen=True)
class SCIP(_ORTools):
    """SCIP, by OR-Tools: mixed-integer programs of any kind, with warm starts."""

    hints = True
    _name = "scip"


@dataclass(frozen=True)
class GLOP(_ORTools):
    """GLOP, by OR-Tools: the simplex method for linear programs, with prices; several times faster to start than the others."""

    _name = "glop"

    def _minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None) -> Answer:
        if program.integer.any():
            raise ValueError("GLOP solves programs without whole numbers. Use HiGHS(), CPSAT() or SCIP().")
        answer = super()._minimise(program, costs, seconds, start)
        return answer if answer.x is None else answer._replace(bound=float(costs @ answer.x))

    def _prices(self, solver: Any) -> tuple[np.ndarray, np.ndarray] | None:
        return np.array(solver.dual_values()), np.array(solver.reduced_costs())


@dataclass(frozen=True)
class CPSAT(_ORTools):
    """CP-SAT, by OR-Tools: pure integer programs with whole coefficients and finite bounds, with warm starts.

    As a rule the fastest engine for 0/1 variables. Costs are exact where 52 bits hold all sums of them, as of whole numbers;
    others are rounded to about 9 digits of the largest, which the bound allows for. One worker, since several would make the
    answer depend on chance.
    """

    hints = True
    hints_pay = True
    _name = "sat"
    _parameters = "num_workers:1"

    def _minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None) -> Answer:
        self._refuse(program)
        reach = np.maximum(np.abs(program.lower), np.abs(program.upper))
        largest, most = np.abs(costs).max(initial=0.0), reach.sum()
        room = math.floor(math.log2(_EXACT / max(largest * most, 1.0)))
        kept, needed = min(math.floor(math.log2(_DIGITS / max(largest, 1.0))), room), _binary_places(costs)
        scale = 2.0 ** (needed if kept < needed <= room else kept)
        whole = np.rint(costs * scale)
        lost = float(np.abs(whole - costs * scale) @ reach)
        answer = super()._minimise(program, whole, seconds, start)
        return answer._replace(bound=(answer.bound - lost) / scale)

    @staticmethod
    def _refuse(program: Program) -> None:
        finite_rows = (rows[np.isfinite(rows)] for rows in (program.row_lower, program.row_upper))
        if not all((data == np.rint(data)).all() for data in (program.matrix.data, *finite_rows)):
            raise ValueError(
                "CPSAT takes whole coefficients, and these are not. Multiply the constraints, or use HiGHS() or SCIP()."
            )
        if not (program.integer.all() and np.isfinite(program.lower).all() and np.isfinite(program.upper).all()):
            raise ValueError("CPSAT takes whole variables with finite bounds. Use HiGHS() or SCIP() for others.")


def _binary_places(numbers: np.ndarray) -> int:
    """How many digits there are after the binary point of the number that has most of them, less than 0 for even numbers.

    >>> _binary_places(np.array([3.0, 0.0, 0.625])), _binary_places(np.array([12.0, 8.0]))
    (3, -2)
    """
    mantissa, exponent = np.frexp(numbers[numbers != 0])
    digits = np.ldexp(mantissa, 53).astype(np.int64)
    zeros = np.frexp((digits & -digits).astype(np.float64))[1] - 1
    return int((53 - exponent - zeros).max(initial=-1023))


@dataclass(frozen=True)
class Gurobi(Engine):
    """Gurobi, if `gurobipy` is installed and has a licence for the size of the program; with warm starts and prices.

    ImportError, once there is something to solve, where it is not installed.
    """

    hints = True

    def _minimise(self, program: Program, costs: np.ndarray, seconds: float | None, start: np.ndarray | None) -> Answer:
        gurobi = _gurobi()
        with (
            gurobi.Env(params={"OutputFlag": 0, "Threads": 1, "MIPGap": 0.0, "MIPGapAbs": 0.0}) as env,
            gurobi.Model(env=env) as model,
        ):
            kinds = np.where(program.integer, "I", "C")
            x = model.addMVar(len(costs), lb=program.lower, ub=program.upper, obj=costs, vtype=kinds)
            below, above = (np.flatnonzero(np.isfinite(rows)) for rows in (program.row_upper, program.row_lower))
            model.addMConstr(program.matrix[below], x, "<", program.row_upper[below])
            model.addMConstr(program.matrix[above], x, ">", program.row_lower[above])
            if seconds is not None:
                model.Params.TimeLimit = seconds
            if start is not None:
                x.Start = np.where(np.isnan(start), gurobi.GRB.UNDEFINED, start)
            model.optimize()
            return self._answer(gurobi.GRB, model, x, below, above, program)

    def _answer(self, codes: Any, model: Any, x: Any, below: np.ndarray, above: np.ndarray, program: Program) -> Answer:
        if model.Status in (codes.INFEASIBLE, codes.UNBOUNDED, codes.INF_OR_UNBD):
            return Answer(Status.INFEASIBLE)
        if model.Status not in (codes.OPTIMAL, codes.TIME_LIMIT):
            raise RuntimeError(f"Gurobi: the model was not solved: status {model.Status}.")
        if not model.SolCount:
            return Answer(Status.NOTHING)
        prices = None
        if not program.integer.any():
            rows = np.zeros(len(program.row_upper))
            values = np.array(model.getAttr("Pi", model.getConstrs()))
            rows[below] += values[: len(below)]
            rows[above] += values[len(below) :]
            prices = rows, x.RC
        found = Status.OPTIMAL if model.Status == codes.OPTIMAL else Status.STOPPED
        return Answer(found, x.X, model.ObjBound if program.integer.any() else model.ObjVal, prices)


def _gurobi() -> Any:
    try:
        import gurobipy
    except ImportError as error:
        raise ImportError(
            "Gurobi needs the package gurobipy, which is not installed: `pip install gurobipy`, and a licence for large "
            "programs. HiGHS(), CPSAT() and SCIP() need neither."
        ) from error
    return gurobipy
