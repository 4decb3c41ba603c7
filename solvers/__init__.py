"""Combinatorial solvers: one problem per file, batched, forward only."""

if __name__ != "solverlayers.solvers":
    raise ImportError(f"Import `solverlayers.solvers`, not `{__name__}`: the short name would load a second copy.")

from .assignment import Assignment as Assignment
from .assignment import GatedAssignment as GatedAssignment
from .assignment import MaxAssignment as MaxAssignment
from .assignment import PartialAssignment as PartialAssignment
from .dynamic_programs import DTW as DTW
from .dynamic_programs import Viterbi as Viterbi
from .edit_distance import EditDistance as EditDistance
from .elementwise import HardFunction as HardFunction
from .elementwise import Round as Round
from .elementwise import Sign as Sign
from .elementwise import Threshold as Threshold
from .graph_data import PaddedGraphs as PaddedGraphs
from .graph_data import delaunay_edges as delaunay_edges
from .graph_data import from_pyg as from_pyg
from .graph_data import nearest_edges as nearest_edges
from .graph_data import pair_mask as pair_mask
from .graph_matching import ExactGraphMatching as ExactGraphMatching
from .graph_matching import GraphMatching as GraphMatching
from .knapsack import BoundedKnapsack as BoundedKnapsack
from .knapsack import Knapsack as Knapsack
from .longest_path import LongestPath as LongestPath
from .matching import MaxCardinalityMatching as MaxCardinalityMatching
from .matching import MaxWeightMatching as MaxWeightMatching
from .matching import PerfectMatching as PerfectMatching
from .multi_graph_matching import MultiGraphMatching as MultiGraphMatching
from .quadratic_assignment import ExactQuadraticAssignment as ExactQuadraticAssignment
from .quadratic_assignment import QuadraticAssignment as QuadraticAssignment
from .relaxed_matching import IPFP as IPFP
from .relaxed_matching import RRWM as RRWM
from .relaxed_matching import SpectralMatching as SpectralMatching
from .segmentation import LabelledSegmentation as LabelledSegmentation
from .segmentation import Segmentation as Segmentation
from .segmentation import segment_sums as segment_sums
from .selection import Argmax as Argmax
from .selection import TopK as TopK
from .shortest_path import Graph as Graph
from .shortest_path import GraphShortestPath as GraphShortestPath
from .shortest_path import GridEdgeShortestPath as GridEdgeShortestPath
from .shortest_path import GridShortestPath as GridShortestPath
from .shortest_path import grid_graph as grid_graph
from .sorting import Permutation as Permutation
from .sorting import Ranking as Ranking
from .sorting import Sort as Sort
from .sorting import argsort as argsort
from .sorting import assignment_scores as assignment_scores
from .sorting import sort as sort
from .spanning_tree import DenseSpanningTree as DenseSpanningTree
from .spanning_tree import MaxDenseSpanningTree as MaxDenseSpanningTree
from .spanning_tree import MaxSpanningTree as MaxSpanningTree
from .spanning_tree import SpanningTree as SpanningTree
from .tsp import TSP as TSP
from .tsp import RoutingTSP as RoutingTSP
from .tsp import TourSearch as TourSearch
