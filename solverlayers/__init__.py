"""Combinatorial solvers as differentiable PyTorch layers, with any backward rule."""

from pathlib import Path as _Path

# A wheel installs `solvers/` and `tasks/` inside this package; in a checkout they sit beside it.
_here = _Path(__file__).resolve().parent
if not (_here / "solvers").is_dir():
    __path__.append(str(_here.parent))

from .errors import InfeasibleError as InfeasibleError
from .errors import InstanceError as InstanceError
from .errors import SolverTimeoutError as SolverTimeoutError
from .layer import SolverLayer as SolverLayer
from .oracle import Oracle as Oracle
from .solver import InstanceSolver as InstanceSolver
from .solver import Solution as Solution
from .solver import Solver as Solver
