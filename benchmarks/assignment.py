"""Linear assignment beside SciPy, lapx and lapjv, from a float32 tensor of costs to a 0/1 tensor, and a layer around it.

Several batches are solved in turn, since a processor learns the branches of one batch that is solved again and again. Needs
the peers: `pip install lapx lapjv`. Run `python benchmarks/assignment.py --quick`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import lap
import lapjv
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, Time, in_turn, keep_memory, race
from solverlayers import SolverLayer
from solverlayers.rules import Blackbox
from solverlayers.solvers.assignment import Assignment

INSTANCES = 512
"""How many different matrices each contestant goes through, fewer where they are large."""
SIZES = ((5, 256), (10, 32), (10, 256), (20, 32), (20, 256), (50, 32), (100, 32), (200, 32))
QUICK = ((10, 32), (50, 32))
STEP = 0.01
"""Of the layer: what a pair of the target gains, and other pairs lose, by the gradient of the Hamming loss."""


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


SCIPY = by_loop(lambda c: linear_sum_assignment(c)[1])


def check(board: Board, label: str, n: int, times: dict[str, Time]) -> None:
    """Up to n = 5 beside SciPy, as are n = 10 and 20; from 50 on beside the best of all, and never far from SciPy."""
    ours = times["ours"].ratio
    if n < 50:
        board.check(label, ours, 0.03 if n <= 5 else 0.25)
    else:
        board.check(
            f"{label}: to the best of the others", ours / min(t.ratio for name, t in times.items() if name != "ours"), 0.2
        )
        board.check(f"{label}: to SciPy", ours, 0.3)


def race_solvers(board: Board, n: int, batch: int) -> None:
    solvers = {
        "scipy": SCIPY,
        "lapx": by_loop(lambda c: lap.lapjv(c)[1]),
        "lapjv": by_loop(lambda c: lapjv.lapjv(c)[0]),
        "ours": Assignment(),
    }
    for family in ("uniform", "geometric", "low rank", "ties"):
        batches = [costs(family, batch, n) for _ in range(max(2, INSTANCES // batch // (1 + n // 50)))]
        optima = {name: (batches[0] * solve(batches[0])).double().sum() for name, solve in solvers.items()}
        # lapjv takes many times as long as the others on structured costs, which would slow the race without news.
        racers = {name: s for name, s in solvers.items() if name != "lapjv" or n <= 50 or family in ("uniform", "ties")}
        assert abs(optima["ours"] - optima["scipy"]) <= 1e-5 * abs(optima["scipy"]), f"ours is not optimal: {optima}"
        times = race({name: in_turn(s, batches) for name, s in racers.items()}, "scipy", board.rounds)
        label = f"{family}, n={n}, B={batch}"
        board.row(label, times)
        check(board, label, n, times)


def race_layer(board: Board, n: int, batch: int) -> None:
    """Blackbox differentiation, forward and backward with the gradient of a Hamming loss, beside its two solves by SciPy."""
    layer = SolverLayer(Assignment(), Blackbox(step=STEP))

    def ours(data: tuple[Tensor, Tensor]) -> Tensor:
        scores, weight = data[0].detach().requires_grad_(), data[1]
        return torch.autograd.grad(layer(scores), scores, weight)[0]

    def solves(data: tuple[Tensor, Tensor]) -> Tensor:
        scores, weight = data
        y, start = Assignment().optimise_with_start(scores)
        return (Assignment().optimise(scores + STEP * weight, warm_start=start) - y) / STEP

    def theirs(data: tuple[Tensor, Tensor]) -> Tensor:
        scores, weight = data
        return (SCIPY(scores + STEP * weight) - SCIPY(scores)) / STEP

    for family in ("geometric", "low rank"):
        batches = [costs(family, batch, n) for _ in range(3)]
        data = [(c, 1 - 2 * SCIPY(c + 0.1 * torch.randn(c.shape))) for c in batches]  # targets of costs that are a bit other
        assert torch.allclose(ours(data[0]), theirs(data[0])), "the gradients differ"
        assert torch.allclose(solves(data[0]), theirs(data[0])), "the gradients differ"
        racers = {"two solves by scipy": theirs, "two solves, the second from duals": solves, "layer": ours}
        label = f"layer, {family}, n={n}, B={batch}"
        times = race({name: in_turn(call, data) for name, call in racers.items()}, "two solves by scipy", board.rounds)
        board.row(label, times)
        board.check(f"{label}: two solves", times["two solves, the second from duals"].ratio, 0.1)
        board.check(label, times["layer"].ratio, 0.1)


def main() -> None:
    board = Board("Linear assignment")
    keep_memory()
    torch.manual_seed(0)
    for n, batch in QUICK if board.quick else SIZES:
        race_solvers(board, n, batch)
    for n in (100,) if board.quick else (100, 200):
        race_layer(board, n, 32)
    board.finish()


if __name__ == "__main__":
    main()
