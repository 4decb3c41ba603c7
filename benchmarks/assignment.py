"""Linear assignment beside SciPy, lapx and lapjv, from a float32 tensor of costs to a 0/1 tensor.

Several batches are solved in turn, since a processor learns the branches of one batch that is solved again and again. Needs
the peers: `pip install lapx lapjv`. Run `python benchmarks/assignment.py --quick`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import lap
import lapjv
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.assignment import Assignment

INSTANCES = 512
"""How many different matrices each contestant goes through, fewer where they are large."""
SIZES = ((5, 256), (10, 32), (10, 256), (20, 32), (20, 256), (50, 32), (100, 32), (200, 32))
QUICK = ((10, 32), (50, 32))


def costs(family: str, batch: int, n: int) -> Tensor:
    """Costs `(batch, n, n)` of four structures: none, distances in the plane, dot products, and many ties."""
    if family == "uniform":
        return torch.rand(batch, n, n)
    if family == "geometric":
        return torch.cdist(torch.rand(batch, n, 2), torch.rand(batch, n, 2))
    if family == "low rank":
        return torch.randn(batch, n, 4) @ torch.randn(batch, 4, n)
    return torch.randint(0, 10, (batch, n, n)).float()


def by_loop(columns_of: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
    """A solver that calls `columns_of` for one matrix after the other."""

    def solve(scores: Tensor) -> Tensor:
        y = np.zeros(scores.shape, dtype=np.float32)
        rows = np.arange(scores.shape[1])
        for b, matrix in enumerate(scores.numpy()):
            y[b, rows, columns_of(matrix)] = 1
        return torch.from_numpy(y)

    return solve


def in_turn(solve: Callable[[Tensor], Tensor], batches: list[Tensor]) -> Callable[[], Tensor]:
    supply = cycle(batches)
    return lambda: solve(next(supply))


def main() -> None:
    board = Board("Linear assignment")
    torch.manual_seed(0)
    solvers = {
        "scipy": by_loop(lambda c: linear_sum_assignment(c)[1]),
        "lapx": by_loop(lambda c: lap.lapjv(c)[1]),
        "lapjv": by_loop(lambda c: lapjv.lapjv(c)[0]),
        "ours": Assignment(),
    }
    for n, batch in QUICK if board.quick else SIZES:
        for family in ("uniform", "geometric", "low rank", "ties"):
            batches = [costs(family, batch, n) for _ in range(max(2, INSTANCES // batch // (1 + n // 50)))]
            optima = {name: (batches[0] * solve(batches[0])).double().sum() for name, solve in solvers.items()}
            # lapjv takes many times as long as the others on structured costs, which would slow the race without news.
            racers = {name: s for name, s in solvers.items() if name != "lapjv" or n <= 50 or family in ("uniform", "ties")}
            assert abs(optima["ours"] - optima["scipy"]) <= 1e-5 * abs(optima["scipy"]), f"ours is not optimal: {optima}"
            times = race({name: in_turn(s, batches) for name, s in racers.items()}, "scipy", board.rounds)
            label = f"{family}, n={n}, B={batch}"
            board.row(label, times)
            board.check(label, times["ours"].ratio, 0.05 if n <= 5 else 0.25)
    board.finish()


if __name__ == "__main__":
    main()
