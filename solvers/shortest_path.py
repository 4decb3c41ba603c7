"""Shortest paths: in grids with costs on cells or on edges, and in general graphs."""

from .grid_path import GridShortestPath

__all__ = ["GridShortestPath"]
