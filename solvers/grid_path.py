"""Cheapest paths of cells in grids of vertex costs, such as the terrain maps of the Warcraft experiments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance

from . import grid_sweeps
from .common import check_mask
from .kernels import grid_path as kernel
from .kernels import usable
from .kernels.grid_path import Paths
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

    def __post_init__(self) -> None:
        if self.neighbours not in (4, 8):
            raise ValueError(f"GridShortestPath: neighbours={self.neighbours!r}; use 8, or 4 for steps without diagonals.")

    def _paths(  # type: ignore[override]
        self,
        scores: Tensor,
        distances: bool,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
    ) -> Paths:
        check_mask(self, scores, mask)
        if scores.shape[1] * scores.shape[2] == 0:
            raise ValueError(
                f"GridShortestPath: grids of shape {tuple(scores.shape[1:])} have no cell; a path needs one at least."
            )
        ends = [
            None if cells is None else self._numbers(name, cells, scores)
            for name, cells in (("source", source), ("target", target))
        ]
        backend = kernel if usable(scores) else grid_sweeps
        paths = backend.find(self._native(scores), self.neighbours, mask, *ends, distances=distances)
        return self._finish(paths, scores, mask, "Walls (`mask`, infinite costs) part them, or one of them is a wall.")

    def _numbers(self, name: str, cells: Tensor, scores: Tensor) -> Tensor:
        """Row-major numbers of the cells (row, column).  # (B, 2) -> (B,)"""
        height, width = scores.shape[1:]
        if cells.is_floating_point() or cells.dtype == torch.bool:
            raise TypeError(
                f"GridShortestPath: `{name}` is {cells.dtype}; cells are integers (row, column). Use `{name}.long()`."
            )
        if cells.shape != (len(scores), 2):
            raise ValueError(
                f"GridShortestPath: `{name}` has shape {tuple(cells.shape)}; expected {(len(scores), 2)}, the (row, "
                f"column) of each instance."
            )
        rows, columns = cells.long().unbind(1)
        outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        if outside.any():
            first = first_instance(outside)
            raise InfeasibleError(
                f"GridShortestPath: `{name}` of instance {first} is cell {tuple(cells[first].tolist())}, which is outside its "
                f"grid of {height} x {width} cells. Rows and columns count from 0.",
                outside,
            )
        return rows * width + columns

    def decode(self, y: Tensor, source: Tensor | None = None, **instance: Tensor) -> list[list[Cell]]:  # type: ignore[override]
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
