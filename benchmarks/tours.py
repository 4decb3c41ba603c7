"""Round trips beside elkai (LKH) and OR-Tools routing, one instance after the other in a loop, from distances to adjacency.

Needs the peer: `pip install elkai`. Goal: up to 12 cities, exactly, in at most 0.01 of the time of elkai, for 32 instances or
more. The mean length of the trips over that of the shortest known ones stands in the label of each row.
"""

from __future__ import annotations

import sys
from pathlib import Path

import elkai
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.tsp import TSP, RoutingTSP, TourSearch

SIZES = ((5, 256), (10, 1), (10, 32), (10, 256), (12, 32), (15, 16), (20, 16), (40, 4))
QUICK = ((10, 32), (12, 32))
MOST_EXACT = 15
SCALE = 1e6
"""LKH cuts distances to integers."""


def by_elkai(costs: Tensor) -> Tensor:
    y = torch.zeros_like(costs)
    for adjacency, matrix in zip(y, (SCALE * costs).round().tolist()):
        order = elkai.DistanceMatrix(matrix).solve_tsp()
        adjacency[order[:-1], order[1:]] = adjacency[order[1:], order[:-1]] = 1
    return y


def main() -> None:
    board = Board("Round trips")
    torch.manual_seed(0)
    for n, batch in QUICK if board.quick else SIZES:
        places = torch.rand(batch, n, 2)
        costs = torch.cdist(places, places)
        solvers = {"elkai": by_elkai, "search": TourSearch(), "search, n starts": TourSearch(starts=n)}
        if batch * n <= 320:
            solvers["OR-Tools routing"] = RoutingTSP()
        if n <= MOST_EXACT:
            solvers["exact"] = TSP()
        lengths = {name: (costs * solve(costs)).double().sum((1, 2)) for name, solve in solvers.items()}
        best = torch.stack(list(lengths.values())).amin(0)
        gaps = ", ".join(f"{name} {100 * ((length / best).mean().item() - 1):.2f} %" for name, length in lengths.items())
        times = race(
            {name: (lambda solve=solve, costs=costs: solve(costs)) for name, solve in solvers.items()}, "elkai", board.rounds
        )
        board.row(f"n={n}, B={batch} (longer by: {gaps})", times)
        if n <= 12 and batch >= 32:
            board.check(f"exact, n={n}, B={batch}", times["exact"].ratio, 0.01)
    board.finish()


if __name__ == "__main__":
    main()
