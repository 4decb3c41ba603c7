"""The shape of the project: arrows between folders, what an import costs, where autograd is taught, public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"solverlayers": "solverlayers", "solvers": "solverlayers.solvers", "tasks": "solverlayers.tasks"}
FORBIDDEN = {
    "solverlayers": ("solverlayers.solvers", "solverlayers.tasks", "solvers", "tasks"),
    "solvers": ("solverlayers.tasks", "solvers", "tasks"),
    "tasks": ("solvers", "tasks"),
}
HEAVY = (
    "scipy",
    "networkx",
    "joblib",
    "ortools",
    "torch_geometric",
    "lightning",
    "matplotlib",
    "pandas",
    "sympy",
    "torch._dynamo",
)


def modules(folder):
    """Paths and syntax trees of a folder's modules; the built kernels and caches hold none."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(), str(path))


def imported(path, folder, tree):
    """Full names of everything that a module imports, at any place in it."""
    package = [FOLDERS[folder], *path.relative_to(ROOT / folder).parent.parts]
    base = ".".join(package).split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_downwards(folder):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, tree in modules(folder)
        for name in imported(path, folder, tree)
        if any(name == other or name.startswith(f"{other}.") for other in FORBIDDEN[folder])
    ]
    assert not wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_heavy_packages_are_imported_where_they_are_used(folder):
    """Not at the top of a module; the tasks' own training modules may, since they are themselves imported late."""
    if folder == "tasks":
        return
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in modules(folder)
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name and name.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_importing_is_light():
    """Neither the package nor its solvers, rules and kit load a heavy package that torch itself does not load."""
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import solverlayers, solverlayers.rules, solverlayers.solvers, solverlayers.testing\n"
        f"print([name for name in {HEAVY!r} if name in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["solvers", "tasks"])
def test_the_short_names_are_refused(name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert f"ImportError: Import `solverlayers.{name}`, not `{name}`" in done.stderr


def test_the_list_of_packages_is_complete():
    """A folder that is missing in pyproject.toml would be missing in the wheel."""
    listed = ast.literal_eval((ROOT / "pyproject.toml").read_text().split("\npackages = ")[1].split("]")[0] + "]")
    found = [
        ".".join([FOLDERS[folder], *path.parent.relative_to(ROOT / folder).parts])
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(found)


def test_autograd_functions_live_in_one_file():
    def is_function(node):
        return isinstance(node, ast.ClassDef) and any("autograd.Function" in ast.unparse(base) for base in node.bases)

    found = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path, tree in modules(folder)
        for node in ast.walk(tree)
        if is_function(node)
    }
    assert found == {"solverlayers/autograd.py"}


def test_no_file_is_unfinished():
    """Nobody left a note for later, or a body that says that it is not there."""
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    wrong = [str(p) for folder in FOLDERS for p, _ in modules(folder) if any(mark in p.read_text() for mark in marks)]
    assert not wrong


PUBLIC = {
    "solverlayers": """
        InfeasibleError InstanceError InstanceSolver Oracle Solution Solver SolverLayer SolverTimeoutError
    """,
    "solverlayers.rules": """
        AIMLE Blackbox CategoricalStraightThrough DAB GappedStraightThrough GumbelRao GumbelSoftmax IMLE Identity LPGD Perturbed
        ReinMax Regularized Rule StraightThrough SurrogateRule
    """,
    "solverlayers.testing": "check_rule check_solver pad_at_end",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module):
    """A name that comes or goes is a decision: it is written down here, and in the changelog."""
    tree = ast.parse(Path(sys.modules[__import__(module, fromlist=["x"]).__name__].__file__).read_text())
    public = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and not alias.asname.startswith("_")
    }
    public |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    assert public == set(PUBLIC[module].split())
