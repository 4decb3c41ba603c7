"""Cheapest paths in grids, with costs on the cells (such as the terrain maps of the Warcraft experiments) or on the steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.samples import Samples
from solverlayers.solver import Solver

from . import grid_sweeps
from .common import check_mask
from .graph import Graph, grid_graph
from .graph_path import NOT_CONNECTED, in_order, shared_paths
from .kernels import grid_path as kernel
from .kernels import usable
from .kernels.grid_path import Paths, Reading
from .path_family import ShortestPath

Cell = tuple[int, int]


@dataclass(frozen=True)
class GridShortestPath(ShortestPath):
    """The cheapest path of cells through each grid, where entering a cell costs its score.

    Minimises `sum of c[v] over the cells v of a path`, source and target included, as in Vlastelica et al. (ICLR 2020). A step
    goes to one of the `neighbours` cells beside a cell: 8, or 4 without diagonals. The solution is 1 on the path. Paths go from
    the top left to the bottom right cell. Shapes: `(B, H, W) -> (B, H, W)`.

    Instance data: `source` and `target` (B, 2), integers (row, column); `mask` (B, H, W), False for a wall or padding. An
    infinite cost is a wall, too. Raises InstanceError for a negative cost (a layer clips them at zero, see `clip`),
    InfeasibleError where walls leave no path.

    Ties: read backwards from the target, the next cell is the neighbour nearest to the source; of equally near ones the one
    from which the fewest cells lead on to a nearer one (cells may cost nothing), and then the first in row-major order. So
    cells of a path that are not consecutive are never neighbours, and `decode` finds their order.

    >>> costs = torch.tensor([[[1.0, 5.0, 1.0], [9.0, 1.0, 1.0], [1.0, 9.0, 1.0]]])
    >>> GridShortestPath()(costs)
    tensor([[[1., 0., 0.],
             [0., 1., 0.],
             [0., 0., 1.]]])
    >>> GridShortestPath(neighbours=4).decode(GridShortestPath(neighbours=4)(costs))
    [[(0, 0), (0, 1), (0, 2), (1, 2), (2, 2)]]
    """

    neighbours: int = 8

    event_dim = 2
    hull = "paths of cells"

    def __post_init__(self) -> None:
        if self.neighbours not in (4, 8):
            raise ValueError(f"GridShortestPath: neighbours={self.neighbours!r}; use 8, or 4 for steps without diagonals.")

    def maximise_samples(
        self,
        samples: Samples,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
    ) -> bool:
        given = {"mask": mask, "source": source, "target": target}
        self.check(samples.theta, **{name: tensor for name, tensor in given.items() if tensor is not None})
        check_mask(self, samples.theta, mask)
        return kernel.find_mean(samples, self.neighbours, mask, *self._ends(samples.theta, source, target))

    def _ends(self, scores: Tensor, source: Tensor | None, target: Tensor | None) -> list[Tensor | None]:
        """The numbers of the cells where paths start and end."""
        return [
            None if cells is None else _numbers(self, name, cells, scores, *scores.shape[1:])
            for name, cells in (("source", source), ("target", target))
        ]

    def _paths(  # type: ignore[override]
        self,
        scores: Tensor,
        distances: bool,
        reading: Reading,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
    ) -> Paths:
        check_mask(self, scores, mask)
        if scores.shape[1] * scores.shape[2] == 0:
            raise ValueError(
                f"GridShortestPath: grids of shape {tuple(scores.shape[1:])} have no cell; a path needs one at least."
            )
        start, end = self._ends(scores, source, target)
        given = self._native(scores), self.neighbours, mask, start, end, distances
        paths = kernel.find(*given, reading) if usable(scores) else grid_sweeps.find(*given)
        return self._finish(paths, scores, mask, "Walls (`mask`, infinite costs) part them, or one of them is a wall.")

    def decode(self, y: Tensor, source: Tensor | None = None, **instance: Tensor) -> list[list[Cell]]:
        """The cells (row, column) of each path, from source to target.  # (B, H, W) -> B lists"""
        starts = [(0, 0)] * len(y) if source is None else [tuple(cell) for cell in source.tolist()]
        return [self._in_order(set(map(tuple, path.nonzero().tolist())), start) for path, start in zip(y.cpu(), starts)]

    def _in_order(self, cells: set[Cell], start: Cell) -> list[Cell]:
        """`cells` in the order of the steps from `start`; none if `start` is not one of them."""
        order: list[Cell] = []
        near = [start] if start in cells else []
        while near:
            order.append(near[0])
            cells.discard(near[0])
            near = [cell for cell in self._beside(*order[-1]) if cell in cells]
        return order

    def _beside(self, row: int, column: int) -> list[Cell]:
        steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        return [(row + i, column + j) for i, j in steps if self.neighbours == 8 or i * j == 0]


@dataclass(frozen=True)
class GridEdgeShortestPath(ShortestPath):
    """The cheapest path of steps through a grid, where the step from one cell to another costs its score.

    Minimises `sum of c[e] over the edges e of a path`; the solution is 1 on the edges of the path. The edges are those of
    `grid_graph(height, width, neighbours, directed)`, in its order, which `edges` lists as cells. Paths go from the top left to
    the bottom right cell. Shapes: `(B, E) -> (B, E)`. Instance data: `source` and `target` (B, 2), integers (row, column), and
    `mask` (B, E), False for an edge that is not there. Errors and ties as with `GraphShortestPath`.

    >>> solver = GridEdgeShortestPath(2, 2)
    >>> solver.edges
    [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 1)), ((1, 0), (1, 1))]
    >>> solver.decode(solver(torch.tensor([[1.0, 3.0, 4.0, 1.0]])))
    [[(0, 0), (1, 0), (1, 1)]]
    """

    height: int
    width: int
    neighbours: int = 4
    directed: bool = False

    def __post_init__(self) -> None:
        _grid_graph(self.height, self.width, self.neighbours, self.directed)  # refuses a bad field now

    @property
    def graph(self) -> Graph:
        """The graph of the grid."""
        return _grid_graph(self.height, self.width, self.neighbours, self.directed)

    @property
    def edges(self) -> list[tuple[Cell, Cell]]:
        """The two cells (row, column) of each edge."""
        return [(divmod(tail, self.width), divmod(head, self.width)) for tail, head in self.graph.edges.T.tolist()]

    def _paths(  # type: ignore[override]
        self,
        scores: Tensor,
        distances: bool,
        reading: Reading,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
        warm_start: Tensor | None = None,
    ) -> Paths:
        check_mask(self, scores, mask)
        if scores.shape[1] != len(self.graph):
            raise ValueError(
                f"GridEdgeShortestPath: the scores are for {scores.shape[1]} edges, but the grid of {self.height} "
                f"x {self.width} cells has {len(self.graph)}; see `edges`."
            )
        start, end = self._number("source", source, 0, scores), self._number("target", target, -1, scores)
        order = self._order(warm_start, scores, self.graph.nodes)
        paths = shared_paths(self.graph, self._native(scores), start, end, mask, distances, order, reading)
        return self._finish(paths, scores, mask, NOT_CONNECTED)

    def _number(self, name: str, cells: Tensor | None, default: int, like: Tensor) -> Tensor:
        """The node of a cell of each instance.  # (B, 2) -> (B,)"""
        if cells is None:
            return torch.full((len(like),), default % self.graph.nodes, device=like.device)
        return _numbers(self, name, cells, like, self.height, self.width)

    def decode(self, y: Tensor, source: Tensor | None = None, **instance: Tensor) -> list[list[Cell]]:  # type: ignore[override]
        """The cells (row, column) of each path, from source to target.  # (B, E) -> B lists"""
        starts = self._number("source", source, 0, y).tolist()
        paths = (in_order(self.graph.edges[:, row], start, self.directed) for row, start in zip((y != 0).cpu(), starts))
        return [[divmod(node, self.width) for node in path] for path in paths]


_grid_graph = cache(grid_graph)


def _numbers(solver: Solver, name: str, cells: Tensor, scores: Tensor, height: int, width: int) -> Tensor:
    """Row-major numbers of the cells (row, column).  # (B, 2) -> (B,)"""
    kind = type(solver).__name__
    if cells.is_floating_point() or cells.dtype == torch.bool:
        raise TypeError(f"{kind}: `{name}` is {cells.dtype}; cells are integers (row, column). Use `{name}.long()`.")
    if cells.shape != (len(scores), 2):
        raise ValueError(
            f"{kind}: `{name}` has shape {tuple(cells.shape)}; expected {(len(scores), 2)}, the (row, column) of each instance."
        )
    rows, columns = cells.long().unbind(1)
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    if outside.any():
        first = first_instance(outside)
        raise InfeasibleError(
            f"{kind}: `{name}` of instance {first} is cell {tuple(cells[first].tolist())}, which is outside its grid of "
            f"{height} x {width} cells. Rows and columns count from 0.",
            outside,
        )
    return rows * width + columns
