"""Linear programs, with the scores as the objective, and their duals, in which the right-hand sides are the scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .constant import Constant
from .engines import GLOP, Answer, Engine
from .integer_program import LinearConstraints


@dataclass(frozen=True)
class LinearProgram(LinearConstraints):
    """A linear program, whose objective are the scores; the solution is a vertex.

    Minimises (`sense="min"`) or maximises `<scores, y>` over `A y <= b`, `A_eq y = b_eq`, `lower <= y <= upper`. Fields,
    shapes, instance data and errors are those of IntegerProgram, but bounds are 0 and infinity by default, and no variable has
    to be whole. Solutions hold constraints up to about 1e-7.

    With an engine that has prices (GLOP, Gurobi), `solve_with_info` gives `duals`: what the optimum gains for each unit of
    `inequalities (B, m)`, that is of b, of `equalities (B, k)`, that is of b_eq, and of `bounds (B, n)`. They certify it:
    `scores = A^T inequalities + A_eq^T equalities + bounds`, and a number is only other than zero where its constraint is
    tight.

    >>> solver = LinearProgram(A=[[1, 2], [3, 1]], b=[4, 6], sense="max")
    >>> info = solver.solve_with_info(torch.tensor([[1.0, 1.0]]))
    >>> info.solution, info.duals["inequalities"]
    (tensor([[1.6000, 1.2000]]), tensor([[0.4000, 0.2000]], dtype=torch.float64))
    """

    upper: Any = np.inf
    engine: Engine = field(default_factory=GLOP)
    time_limit: float | None = 60.0

    integer: ClassVar[Any] = Constant(False)

    def dual(self, costs: Any) -> LinearProgram:
        """The dual program for fixed costs `(n,)`: its scores are the right-hand sides, its solutions their prices.

        The scores `(B, m + k)` are `b` and then `b_eq`, the solution is the gradient of the optimum with respect to them, and
        their product is the optimum: a network that predicts demands or capacities gets a layer like any other, and exact
        gradients of the optimum. Variables have to be bounded by 0 and infinity; write other bounds as rows. An instance for
        which the program has no solution has an unbounded dual.

        >>> program = LinearProgram(A=[[1, 2], [3, 1]], b=[4, 6], sense="max")
        >>> program.dual(costs=[1.0, 1.0])(torch.tensor([[4.0, 6.0], [9.0, 1.0]]))
        tensor([[0.4000, 0.2000],
                [0.0000, 1.0000]])
        """
        if (self.lower.array != 0).any() or (self.upper.array != np.inf).any():
            raise ValueError("LinearProgram.dual: variables have bounds other than 0 and infinity. Write them as rows of A.")
        parts = [part.dense() for part in (self.A, self.A_eq) if part is not None]
        if not parts:
            raise ValueError(
                "LinearProgram.dual: there are no constraints that all instances share; give A or A_eq as a field."
            )
        rows = np.concatenate(parts).T
        free = np.full(rows.shape[1], np.inf)
        free[: 0 if self.A is None else len(parts[0])] = 0.0
        sign = 1.0 if self.sense == "min" else -1.0
        bounds = {"lower": -np.full_like(free, np.inf), "upper": free} if sign > 0 else {"lower": -free, "upper": np.inf}
        sense: Any = "max" if sign > 0 else "min"
        right = sign * np.asarray(Constant(costs).array)
        return LinearProgram(sign * rows, right, **bounds, sense=sense, engine=self.engine, time_limit=self.time_limit)

    def _duals(self, answers: list[Answer], scores: Tensor, instance: dict[str, Tensor]) -> dict[str, Tensor]:
        if not answers or any(answer.prices is None for answer in answers):
            return {}
        sign = 1.0 if self.sense == "min" else -1.0
        rows, bounds = (
            torch.as_tensor(sign * np.stack([answer.prices[i] for answer in answers if answer.prices]), device=scores.device)
            for i in range(2)
        )
        equations = instance["A_eq"].shape[1] if "A_eq" in instance else 0 if self.A_eq is None else self.A_eq.shape[0]
        first = rows.shape[1] - equations
        return {"inequalities": rows[:, :first], "equalities": rows[:, first:], "bounds": bounds}
