"""Combinatorial solvers: one problem per file, batched, forward only."""

if __name__ != "solverlayers.solvers":
    raise ImportError(f"Import `solverlayers.solvers`, not `{__name__}`: the short name would load a second copy.")

from .assignment import Assignment as Assignment
from .assignment import GatedAssignment as GatedAssignment
from .assignment import MaxAssignment as MaxAssignment
from .assignment import PartialAssignment as PartialAssignment
from .elementwise import HardFunction as HardFunction
from .elementwise import Round as Round
from .elementwise import Sign as Sign
from .elementwise import Threshold as Threshold
from .selection import Argmax as Argmax
from .selection import TopK as TopK
from .shortest_path import Graph as Graph
from .shortest_path import GraphShortestPath as GraphShortestPath
from .shortest_path import GridEdgeShortestPath as GridEdgeShortestPath
from .shortest_path import GridShortestPath as GridShortestPath
from .shortest_path import grid_graph as grid_graph
from .sorting import Permutation as Permutation
from .sorting import Ranking as Ranking
from .sorting import argsort as argsort
from .sorting import assignment_scores as assignment_scores
from .sorting import sort as sort
