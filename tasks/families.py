"""What each solver can do, found by trying and by reading: `python -m solverlayers.tasks.families > docs/families.md`."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from solverlayers import Solver
from solverlayers.solvers import kernels
from solverlayers.solvers.program_family import ProgramSolver
from solverlayers.solvers.wrappers.base import Wrapper

from .catalogue import solvers
from .compatibility import example, table

_TESTS = Path(__file__).resolve().parent.parent / "tests"
_REFERENCES = (
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "networkx",
    "ortools",
    "rustworkx",
    "lap",
    "lapjv",
    "elkai",
    "itertools",
)
_HEAD = """# What each solver can do

Generated from the code, each solver on its smallest example: `python -m solverlayers.tasks.families > docs/families.md`.
Wrappers stand with what they wrap in that example.

* **kernel**: the compiled CPU kernels that run, all instances of a batch in one call; without them the torch version serves,
  or, on the CPU, OR-Tools for flows.
* **on the device**: with scores on a GPU nothing leaves it: no copy to the host while it solves. Larger instances than the
  example's may be solved otherwise; the class says so.
* **exact**: solutions are optimal. **certificate**: what `solve_with_info` returns to check that with: duals by name, or a
  bound; "by its algorithm" where optimality rests on the algorithm alone.
* **warm start**: takes `warm_start=`, of programs a solution with CP-SAT, SCIP and Gurobi. "second solve": that of a finite
  difference starts where the first one ended. **ragged**: takes `mask=`, for instances of different sizes in one batch.
* **checked against**: what its tests compare it with that was not written here (`enumeration`: all solutions, one by one).
"""


class _Elsewhere(TorchFunctionMode):
    """Tensors that say they are not on the CPU; counts how often numbers are fetched from where they are."""

    def __init__(self, many: int) -> None:
        super().__init__()
        self.many, self.fetched = many, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == _IS_CPU:
            return False
        lists = func is Tensor.tolist and args[0].numel() >= self.many  # a few sizes are no solution
        self.fetched += lists or func in _FETCHES
        return func(*args, **(kwargs or {}))


_IS_CPU = Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_FETCHES = (Tensor.cpu, Tensor.numpy, Tensor.__array__)


def kernels_of(solver: Solver, scores: list[Tensor], instance: dict[str, Tensor]) -> list[str]:
    """The compiled kernels that run when an instance is solved."""
    files: set[str] = set()

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        solver(*scores, **instance)
    finally:
        sys.setprofile(before)
    folder = Path(kernels.__file__).parent
    return sorted(path.stem for path in map(Path, files) if path.parent == folder and path.stem != "__init__")


def stays_on_the_device(solver: Solver, scores: list[Tensor], instance: dict[str, Tensor]) -> bool:
    """Whether two instances are solved without fetching them from the device of the scores."""
    import joblib

    both = [torch.cat([s, s]) for s in scores], {key: torch.cat([value, value]) for key, value in instance.items()}
    with joblib.parallel_config(backend="threading"), _Elsewhere(max(2 * scores[0].numel(), 2)) as elsewhere:
        solver.solve(*both[0], **both[1])
    return not elsewhere.fetched


def certificate(solver: Solver, scores: list[Tensor], instance: dict[str, Tensor]) -> str:
    """What `solve_with_info` proves with."""
    if not solver.linear:
        return "-"
    info = solver.solve_with_info(*scores, **instance)
    if info.duals:
        return ", ".join(f"`{name}`" for name in info.duals)
    if solver.exact:
        return "by its algorithm"
    return "bound" if info.bound.isfinite().all() else "-"


def takes(solver: Solver, name: str) -> bool:
    """Whether `solve`, or what it hands its keywords on to, has a parameter of that name."""
    while isinstance(solver, Wrapper):
        solver = solver.solver
    if name == "warm_start" and isinstance(solver, ProgramSolver):
        return True
    names = ("solve", "_paths", "_cuts", "_arguments", "_program", "solve_instance")
    methods = (getattr(solver, method, None) for method in names)
    return any(name in inspect.signature(method).parameters for method in methods if callable(method))


def starts(solver: Solver) -> str:
    """Who can give it a start: nobody, its caller, or the first solve of a finite difference, too."""
    return "second solve" if takes(solver, "warm_start") and _says_where(solver) else _yes(takes(solver, "warm_start"))


def _says_where(solver: Solver) -> bool:
    own = type(solver).optimise_with_start is not Solver.optimise_with_start
    return own and (not isinstance(solver, Wrapper) or _says_where(solver.solver))


@cache
def independent_checks(folder: Path) -> dict[str, frozenset[str]]:
    """Of each class, what the tests that use it compare it with, by reading the tests."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        libraries = dict(_imported(tree))
        uses = {name: _names(node) for node in tree.body for name in _defined(node)}
        for test in (name for name in uses if name.startswith("test_")):
            reached = _closure(test, uses)
            references = {libraries[name] for name in reached & libraries.keys()}
            for name in reached if references else ():
                found.setdefault(name, set()).update(references)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "SolverCase" and _lists_solutions(call):
                for name in _names(call.args[0]):
                    found.setdefault(name, set()).add("enumeration")
    return {name: frozenset(references) for name, references in found.items()}


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that a test module has from a reference, and what to call that."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                module = alias.name if isinstance(node, ast.Import) else node.module or ""
                if any(module == known or module.startswith(f"{known}.") for known in _REFERENCES):
                    top = module.partition(".")[0]
                    yield alias.asname or alias.name.partition(".")[0], "enumeration" if top == "itertools" else top


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _closure(start: str, uses: dict[str, set[str]]) -> set[str]:
    """All names that a function reaches, through what its module defines."""
    reached, new = set(), {start}
    while new:
        reached |= new
        new = set().union(*(uses.get(name, set()) for name in new)) - reached
    return reached


def _lists_solutions(call: ast.Call) -> bool:
    listed = call.args[2:3] + [keyword.value for keyword in call.keywords if keyword.arg == "vertices"]
    return any(not (isinstance(node, ast.Constant) and node.value is None) for node in listed)


def row(name: str) -> list[str]:
    """The line of a solver."""
    found = example(name)
    solver = found[0]
    checks = sorted(independent_checks(_TESTS).get(name, ()))
    return [
        f"`{name}`",
        ", ".join(f"`{kernel}`" for kernel in kernels_of(*found)) or "-",
        _yes(stays_on_the_device(*found)),
        _yes(solver.exact and solver.linear),
        certificate(*found),
        starts(solver),
        _yes(takes(solver, "mask")),
        ", ".join(checks) or "-",
    ]


def _yes(fact: bool) -> str:
    return "yes" if fact else "-"


def page(of: Callable[[], dict[str, type[Solver]]] = solvers) -> str:
    """The page as Markdown."""
    header = ["solver", "kernel", "on the device", "exact", "certificate", "warm start", "ragged", "checked against"]
    torch.manual_seed(0)
    return "\n".join([_HEAD, *table(header, [row(name) for name in of()])])


if __name__ == "__main__":
    sys.stdout.write(page() + "\n")
