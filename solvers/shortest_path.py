"""Shortest paths: in grids, with costs on cells or on steps, and in general graphs."""

from .graph import Graph, grid_graph
from .graph_path import GraphShortestPath
from .grid_path import GridEdgeShortestPath, GridShortestPath

__all__ = ["Graph", "GraphShortestPath", "GridEdgeShortestPath", "GridShortestPath", "grid_graph"]
