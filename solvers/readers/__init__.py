"""Files of public benchmarks as tensors for the solvers: TSPLIB, QAPLIB, the OR-Library and DIMACS."""

from .dimacs import AssignmentProblem as AssignmentProblem
from .dimacs import MaxFlowProblem as MaxFlowProblem
from .dimacs import MinCostFlowProblem as MinCostFlowProblem
from .dimacs import ShortestPathProblem as ShortestPathProblem
from .dimacs import read_dimacs_assignment as read_dimacs_assignment
from .dimacs import read_dimacs_coordinates as read_dimacs_coordinates
from .dimacs import read_dimacs_max_flow as read_dimacs_max_flow
from .dimacs import read_dimacs_min_cost_flow as read_dimacs_min_cost_flow
from .dimacs import read_dimacs_shortest_path as read_dimacs_shortest_path
from .orlib import KnapsackProblem as KnapsackProblem
from .orlib import read_knapsack as read_knapsack
from .orlib import read_orlib_assignment as read_orlib_assignment
from .orlib import read_orlib_knapsacks as read_orlib_knapsacks
from .orlib import read_orlib_sparse_assignment as read_orlib_sparse_assignment
from .qaplib import QAPLIBProblem as QAPLIBProblem
from .qaplib import QAPLIBSolution as QAPLIBSolution
from .qaplib import read_qaplib as read_qaplib
from .qaplib import read_qaplib_solution as read_qaplib_solution
from .text import ReadError as ReadError
from .tsplib import TSPLIBProblem as TSPLIBProblem
from .tsplib import read_tsplib as read_tsplib
from .tsplib import read_tsplib_tour as read_tsplib_tour
