"""What there is: tasks, solvers, rules, relaxations, projections and noise, each in one line."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from solverlayers import Solver
from solverlayers import solvers as solvers_module
from solverlayers.projections import PROJECTIONS

from .running import TASKS
from .specs import ESTIMATORS, LOSSES, NOISES, RELAXATIONS, RULES, parameters


def summary(documented: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def solvers() -> dict[str, type[Solver]]:
    """The solvers that can be built: public and without abstract methods."""
    found = {name: c for name, c in vars(solvers_module).items() if inspect.isclass(c) and issubclass(c, Solver)}
    return {name: c for name, c in sorted(found.items()) if not inspect.isabstract(c) and not name.startswith("_")}


def task_summary(name: str) -> str:
    """The first line of a task's file, which is read and not run: importing it would import Lightning."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def listing() -> str:
    """Everything that `solverlayers list` prints."""
    parts = {
        "tasks (solverlayers run TASK)": {name: task_summary(name) for name in TASKS},
        "rules (--rule)": {call(name, c): summary(c) for name, c in RULES.items()},
        "estimators (--rule, of tasks that take them too)": {call(name, c): summary(c) for name, c in ESTIMATORS.items()},
        "losses (--rule, of tasks that take them too)": {call(name, c): summary(c) for name, c in LOSSES.items()},
        "projections (--projection)": {name: summary(c) for name, c in PROJECTIONS.items()},
        'relaxations (--rule "straight_through(RELAXATION)")': {call(name, c): summary(c) for name, c in RELAXATIONS.items()},
        "noise (--noise)": {call(name, c): summary(c) for name, c in NOISES.items()},
        "solvers (solverlayers.solvers)": {name: summary(c) for name, c in solvers().items()},
    }
    return "\n\n".join(f"{title}\n{_left(rows)}" for title, rows in parts.items())


def call(name: str, cls: type) -> str:
    """A name with its parameters, as a spec has them; the solver of a loss is that of the task."""
    known = ", ".join(p.name for p in parameters(cls) if p.name != "solver")
    return f"{name}({known})" if known else name


def _left(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name.ljust(width)}  {line}".rstrip() for name, line in rows.items())
