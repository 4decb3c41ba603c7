"""Integer programs, with the scores as the objective: any problem that can be written with linear constraints."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from solverlayers.errors import InstanceError, first_instance

from .constant import keep_constants
from .engines import Engine, HiGHS, Program
from .program_family import ProgramSolver

if TYPE_CHECKING:
    from ortools.math_opt.python import mathopt
    from typing_extensions import Self

_ROWS = ("A", "b", "A_eq", "b_eq")


@dataclass(frozen=True)
class LinearConstraints(ProgramSolver):
    """What linear and integer programs share: constraints of all instances, as fields, or of each, by keyword."""

    A: Any = None
    b: Any = None
    A_eq: Any = None
    b_eq: Any = None
    lower: Any = 0.0
    upper: Any = 1.0
    sense: Literal["min", "max"] = "min"  # type: ignore[misc]

    integer: ClassVar[Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lower", "upper", "integer"):
            if getattr(self, name) is None:
                raise TypeError(f"{type(self).__name__}: {name} is None; give numbers: an infinite one is no bound.")
        keep_constants(self, *_ROWS, "lower", "upper", "integer")
        for rows, sides in (("A", "b"), ("A_eq", "b_eq")):
            matrix, side = getattr(self, rows), getattr(self, sides)
            if matrix is not None and (matrix.array.ndim != 2 or (side and side.array.shape != matrix.array.shape[:1])):
                raise ValueError(
                    f"{type(self).__name__}: {rows} has shape {matrix.array.shape}"
                    f"{f' and {sides} has shape {side.array.shape}' if side else ''}; expected a row for each constraint, and "
                    f"a number in {sides} for each row."
                )
        for name in ("A", "A_eq", "b_eq"):
            data = getattr(self, name)
            if data is not None and not np.isfinite(data.stored).all():
                raise ValueError(f"{type(self).__name__}: {name} has an infinite number. Only b and bounds may be infinite.")
        if self.sense not in ("min", "max"):
            raise ValueError(f"{type(self).__name__}: sense={self.sense!r}; scores are costs ('min') or gains ('max').")

    @classmethod
    def from_mathopt(cls, model: mathopt.Model, variables: list[mathopt.Variable] | None = None, **options: Any) -> Self:
        """The program of a model of OR-Tools' MathOpt, `ortools.math_opt.python.mathopt`.

        Args:
            model: variables with bounds, linear constraints, and an objective of which only the sense counts: the scores take
                the place of its coefficients.
            variables: those that have a score, in the order of the scores; by default all variables of the model, in its own
                order. The others are auxiliary, and must not be in the objective.
            options: `engine` and `time_limit`.

        Raises ValueError for what is not linear.
        """
        from .mathopt_model import fields_of

        given = fields_of(model, variables)
        if "integer" not in {one.name for one in fields(cls)} and any(given.pop("integer")):
            raise ValueError(f"{cls.__name__}: the model has whole variables. Use IntegerProgram.from_mathopt.")
        return cls(**given, **options)

    def tangent(self, direction: Tensor, A_eq: Tensor | None = None, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """The part of `direction` along which the equations stay true.  # (*S, B, n) -> (*S, B, n)"""
        n = direction.shape[-1]
        kept = direction if mask is None else torch.where(mask, direction, 0)
        if A_eq is None and self.A_eq is None:
            return kept
        matrix = torch.tensor(self.A_eq.array, device=direction.device) if A_eq is None else A_eq.double()
        alone = (matrix[..., n:] == 0).all(-1, keepdim=True)  # an auxiliary variable would move with the others
        matrix = (matrix[..., :n] * alone) if mask is None else matrix[..., :n] * alone * mask.unsqueeze(-2)
        into = (torch.linalg.pinv(matrix) @ matrix).to(direction.dtype)
        return kept - (into @ kept.unsqueeze(-1)).squeeze(-1)

    @cached_property
    def constant_sum(self) -> bool:
        """Whether the equations that all instances share fix the sum of a solution."""
        if self.A_eq is None:
            return False
        ones = torch.ones(1, self.A_eq.array.shape[1], dtype=torch.float64)
        return bool((self.tangent(ones).abs() < 1e-9).all())

    @cached_property
    def binary(self) -> bool:
        """Whether variables are whole, and 0 or 1."""
        return bool(self.integer.array.all() and (self.lower.array >= 0).all() and (self.upper.array <= 1).all())

    def check(self, scores: Tensor, **instance: Tensor) -> None:
        """Besides what every program checks: NaN and infinite numbers in the constraints (InstanceError)."""
        super().check(scores, **instance)
        if unknown := instance.keys() - {*_ROWS, "mask", "warm_start"}:
            raise TypeError(
                f"{type(self).__name__}: there is no instance data `{min(unknown)}`; use {', '.join(_ROWS)}, mask or "
                f"warm_start. Bounds are fields, which all instances share."
            )
        for name in _ROWS:
            if name not in instance:
                continue
            wrong = instance[name].isnan() if name == "b" else ~instance[name].isfinite()
            bad = wrong.flatten(1).any(1)
            if bad.any():
                first = first_instance(bad)
                what = "NaN" if instance[name][first].isnan().any() else "an infinite number"
                advice = "" if what == "NaN" else " Only `b` may be infinite, for a constraint that does not bind."
                raise InstanceError(
                    f"{type(self).__name__}: instance {first} has {what} in `{name}` ({int(bad.sum())} of {len(bad)} "
                    f"instances).{advice}",
                    bad,
                )

    def _program(self, shape: tuple[int, ...], mask: np.ndarray | None = None, **rows: np.ndarray) -> Program:
        program = self._build(shape[0], rows) if rows else self._shared(shape[0])
        if mask is None:
            return program
        there = np.concatenate([mask, np.ones(len(program.lower) - shape[0], dtype=bool)])
        return program._replace(lower=np.where(there, program.lower, 0.0), upper=np.where(there, program.upper, 0.0))

    def _shared(self, n: int) -> Program:
        """The program that all instances with `n` scores share."""
        if n not in self._built:
            self._built[n] = self._build(n, {})
        return self._built[n]

    @cached_property
    def _built(self) -> dict[int, Program]:
        return {}

    def _build(self, n: int, own: dict[str, np.ndarray]) -> Program:
        """The program of the fields and of what an instance has for itself."""
        from scipy.sparse import csr_array, vstack

        A, b = self._rows("A", "b", own)
        A_eq, b_eq = self._rows("A_eq", "b_eq", own)
        parts = [part for part in (A, A_eq) if part is not None]
        variables = parts[0].shape[1] if parts else max(n, *(c.array.size for c in (self.lower, self.upper, self.integer)))
        if variables < n or any(part.shape[1] != variables for part in parts):
            raise ValueError(
                f"{type(self).__name__}: there are {n} scores, and constraints on "
                f"{' and '.join(str(part.shape[1]) for part in parts) or variables} variables. Matrices have a column for each "
                f"score, in their order, and after them for each auxiliary variable."
            )
        matrix = csr_array(vstack(parts)) if parts else csr_array((0, variables))
        lower = np.concatenate([np.full(len(b), -np.inf), b_eq])
        bounds = (self._each(name, variables) for name in ("lower", "upper", "integer"))
        return Program(matrix, lower, np.concatenate([b, b_eq]), next(bounds), next(bounds), next(bounds).astype(bool))

    def _rows(self, matrix: str, side: str, own: dict[str, np.ndarray]) -> tuple[Any, np.ndarray]:
        """A matrix and the numbers beside its rows, None and none if there are no rows."""
        from scipy.sparse import csr_array

        given = {}
        for name in (matrix, side):
            shared = getattr(self, name)
            if shared is not None and name in own:
                raise ValueError(f"{type(self).__name__}: {name} is a field, which all instances share, and given again.")
            given[name] = own.get(name, None if shared is None else shared.array)
        rows, sides = given[matrix], given[side]
        if rows is None and sides is None:
            return None, np.zeros(0)
        if rows is None or sides is None:
            present, absent = (matrix, side) if sides is None else (side, matrix)
            raise ValueError(f"{type(self).__name__}: there is {present} without {absent}.")
        if rows.ndim != 2 or sides.shape != rows.shape[:1]:
            raise ValueError(
                f"{type(self).__name__}: `{matrix}` has shape {rows.shape} and `{side}` {sides.shape} for one instance; "
                f"expected a row for each constraint, and a number for each row."
            )
        return csr_array(rows, dtype=np.float64), sides.astype(np.float64)

    def _each(self, name: str, variables: int) -> np.ndarray:
        """A number for each variable."""
        data = getattr(self, name).array
        if data.shape not in ((), (1,), (variables,)):
            raise ValueError(
                f"{type(self).__name__}: {name} has shape {data.shape}; expected one number, or one for each of {variables} "
                f"variables."
            )
        return np.broadcast_to(data, (variables,)).astype(np.float64)


@dataclass(frozen=True)
class IntegerProgram(LinearConstraints):
    """An integer or mixed-integer linear program, whose objective are the scores.

    Minimises (`sense="min"`) or maximises `<scores, y>` over `A y <= b`, `A_eq y = b_eq`, `lower <= y <= upper`, `y` whole
    where `integer`. Shapes: `(B, n) -> (B, n)`. Matrices with more than n columns have auxiliary variables, after those with
    scores; they cost nothing and are not part of the solution.

    Args:
        A, b, A_eq, b_eq: what all instances share, `(m, n)` and `(m,)`: nested sequences, arrays, tensors, sparse matrices.
        lower, upper: bounds, a number or one for each variable, also infinite; by default 0 and 1.
        sense: whether scores are costs ("min") or gains ("max").
        integer: which variables are whole; by default all.
        engine, time_limit: who solves, and how long at most; see ProgramSolver and `engines`.

    Instance data: `A` (B, m, n), `b` (B, m), `A_eq`, `b_eq`, for what is not a field; `mask` (B, n), False for a variable that
    is 0; `warm_start`, see ProgramSolver. Raises InfeasibleError, naming the instance, where there is no solution;
    InstanceError where the objective is unbounded; SolverTimeoutError, with the best solutions found, when time is up.

    >>> solver = IntegerProgram(A=[[2, 3, 4]], b=[6], sense="max")
    >>> solver(torch.tensor([[3.0, 4.0, 5.0], [1.0, 9.0, 2.0]]))
    tensor([[1., 0., 1.],
            [1., 1., 0.]])
    >>> IntegerProgram(A=[[2, 3, 4]], sense="max")(torch.tensor([[3.0, 4.0, 5.0]]), b=torch.tensor([[4]]))
    tensor([[0., 0., 1.]])
    """

    integer: Any = True  # type: ignore[misc]
    engine: Engine = field(default_factory=HiGHS)
    time_limit: float | None = 60.0

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The numbers of the variables that are not zero.  # (B, n) -> B tensors"""
        return [one.nonzero()[:, 0] for one in y]
