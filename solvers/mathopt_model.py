"""Models written with OR-Tools' MathOpt, as constraints of a linear or integer program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ortools.math_opt.python import mathopt


def fields_of(model: mathopt.Model, variables: list[mathopt.Variable] | None) -> dict[str, Any]:
    """The fields `A`, `b`, `A_eq`, `b_eq`, `lower`, `upper`, `integer` and `sense` that say the same as the model.

    `variables` come first, in this order, then those of the model that have no score.
    """
    from scipy.sparse import csr_array, vstack

    scored = list(model.variables()) if variables is None else list(variables)
    ordered = scored + [v for v in model.variables() if v not in set(scored)]
    _refuse(model, ordered[len(scored) :])
    column = {v: j for j, v in enumerate(ordered)}
    row = {constraint: i for i, constraint in enumerate(model.linear_constraints())}
    entries = [(row[e.linear_constraint], column[e.variable], e.coefficient) for e in model.linear_constraint_matrix_entries()]
    i, j, data = zip(*entries) if entries else ((), (), ())
    matrix = csr_array(
        (np.array(data, dtype=float), (np.array(i, dtype=int), np.array(j, dtype=int))), (len(row), len(ordered))
    )
    low, high = (np.array([getattr(c, name) for c in row], dtype=float) for name in ("lower_bound", "upper_bound"))
    equal = low == high
    above, below = np.isfinite(low) & ~equal, np.isfinite(high) & ~equal
    return {
        "A": vstack([matrix[below], -matrix[above]]) if (above | below).any() else None,
        "b": np.concatenate([high[below], -low[above]]) if (above | below).any() else None,
        "A_eq": matrix[equal] if equal.any() else None,
        "b_eq": high[equal] if equal.any() else None,
        "lower": [v.lower_bound for v in ordered],
        "upper": [v.upper_bound for v in ordered],
        "integer": [v.integer for v in ordered],
        "sense": "max" if model.objective.is_maximize else "min",
    }


def _refuse(model: mathopt.Model, auxiliary: list[mathopt.Variable]) -> None:
    """Refuses models that are not linear, and costs of variables that have no score (ValueError)."""
    parts = {
        "quadratic objectives": bool(list(model.objective.quadratic_terms())),
        "several objectives": bool(list(model.auxiliary_objectives())),
        "quadratic constraints": bool(list(model.get_quadratic_constraints())),
        "indicator constraints": bool(list(model.get_indicator_constraints())),
    }
    found = [name for name, there in parts.items() if there]
    if found:
        raise ValueError(f"The model has {' and '.join(found)}; only linear objectives and constraints can be taken over.")
    priced = [v.name or f"number {v.id}" for v in auxiliary if model.objective.get_linear_coefficient(v) != 0]
    if priced:
        raise ValueError(
            f"The objective of the model has the variable {priced[0]}, which has no score; only scores may be in the "
            f"objective. Add it to `variables`, or take it out of the objective."
        )
