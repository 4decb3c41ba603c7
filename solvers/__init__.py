"""Combinatorial solvers: one problem per file, batched, forward only."""

if __name__ != "solverlayers.solvers":
    raise ImportError(f"Import `solverlayers.solvers`, not `{__name__}`: the short name would load a second copy.")

from .assignment import Assignment as Assignment
from .assignment import MaxAssignment as MaxAssignment
from .elementwise import HardFunction as HardFunction
from .elementwise import Round as Round
from .elementwise import Sign as Sign
from .elementwise import Threshold as Threshold
from .selection import Argmax as Argmax
from .selection import TopK as TopK
from .sorting import Ranking as Ranking
