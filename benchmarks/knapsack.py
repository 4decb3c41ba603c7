"""0-1 knapsacks with integer weights beside the solvers of OR-Tools, from a float32 tensor of values to a 0/1 tensor.

Run `python benchmarks/knapsack.py --quick`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from ortools.algorithms.python import knapsack_solver
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.knapsack import Knapsack

SIZES = ((10, 30, 256, 10), (32, 100, 256, 20), (100, 1000, 64, 50))
"""Items, capacity, batch, and the greatest weight."""
PEERS = {
    "OR-Tools DP": "KNAPSACK_DYNAMIC_PROGRAMMING_SOLVER",
    "OR-Tools B&B": "KNAPSACK_MULTIDIMENSION_BRANCH_AND_BOUND_SOLVER",
}


def ortools(kind: str, values: Tensor, weights: list[int], capacity: int) -> Tensor:
    """Values are integers there."""
    y = torch.zeros_like(values)
    solver = knapsack_solver.KnapsackSolver(getattr(knapsack_solver.SolverType, kind), "race")
    for b, row in enumerate(values.long().tolist()):
        solver.init(row, [weights], [capacity])
        solver.solve()
        y[b] = torch.tensor([solver.best_solution_contains(i) for i in range(len(row))])
    return y


def main() -> None:
    board = Board("Knapsacks")
    torch.manual_seed(0)
    for n, capacity, batch, heaviest in SIZES[:2] if board.quick else SIZES:
        values = torch.randint(1, 1000, (batch, n)).float()
        weights = torch.randint(1, heaviest + 1, (n,)).tolist()
        ours = Knapsack(weights, capacity)
        contestants = {
            name: lambda kind=kind, v=values, w=weights, c=capacity: ortools(kind, v, w, c) for name, kind in PEERS.items()
        }
        contestants["ours"] = lambda solver=ours, v=values: solver(v)
        each = torch.tensor(weights).expand(batch, n), torch.full((batch,), capacity)
        contestants["ours, own weights"] = lambda v=values, e=each: Knapsack()(v, weights=e[0], capacity=e[1])
        optima = {name: (call() * values).sum(1) for name, call in contestants.items()}
        assert all(torch.equal(value, optima["ours"]) for value in optima.values())
        times = race(contestants, "OR-Tools DP", board.rounds)
        label = f"n={n}, capacity {capacity}, B={batch}"
        board.row(label, times)
        best = min(times[name].ratio for name in PEERS)
        board.check(label, times["ours"].ratio / best, 0.1)
    board.finish()


if __name__ == "__main__":
    main()
