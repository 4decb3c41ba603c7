"""The second solve of a finite difference with programs, exact matchings and trips: anew, and from solutions of the first one.

The loss is Hamming's, towards solutions for other scores, which some instances have already; a step is in standard deviations
of the scores. "always a hint" gives the engine the solution as one whatever the moves are; all have the same optima. Run
`python benchmarks/second_solves.py --quick`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers import Solver
from solverlayers.solvers import (
    CPSAT,
    SCIP,
    TSP,
    ExactQuadraticAssignment,
    Graph,
    HiGHS,
    IntegerProgram,
    LinearOrdering,
    MaxIndependentSet,
    SetCover,
)
from solverlayers.solvers.engines import Engine

BATCH = 4


def programs(engine: Engine) -> dict[str, tuple[Solver, Tensor]]:
    """A solver and scores to maximise, by name; the same for all engines."""
    torch.manual_seed(0)
    weights, members = torch.randint(1, 60, (5, 20)), (torch.rand(30, 40) < 0.1).float()
    members[torch.arange(30), torch.randint(0, 40, (30,))] = 1.0
    pairs = torch.triu_indices(40, 40, 1)
    edges = pairs[:, torch.rand(pairs.shape[1]) < 0.15]
    return {
        "packing, 5 rows, n=20": (
            IntegerProgram(weights, weights.sum(1) // 3, sense="max", engine=engine),
            weights.float().mean(0) * (1 + 0.3 * torch.rand(BATCH, 20)),
        ),
        "independent set, 40 nodes": (MaxIndependentSet(Graph(edges, 40), engine=engine), torch.rand(BATCH, 40)),
        "cover of 30 by 40 sets": (SetCover(members, engine=engine), -torch.rand(BATCH, 40)),
        "order of 8": (LinearOrdering(engine=engine), torch.randn(BATCH, 8, 8)),
    }


def race_second(
    board: Board, name: str, solver: Solver, theta: Tensor, right: int, step: float, hint: bool = False, **instance: Tensor
) -> float:
    """With targets that the first `right` instances have already; returns the ratio with a start."""

    def best(theta: Tensor, **start: Tensor) -> Tensor:
        return solver.optimise(theta, sense="max", **instance, **start)

    theta = theta.double()
    y, start = solver.optimise_with_start(theta, sense="max", **instance)
    target = best(theta + theta.std() * torch.randn_like(theta))
    target[:right] = y[:right]
    moved = theta - step * theta.std() * (1 - 2 * target)
    contestants = {
        "anew": lambda: best(moved),
        "from the first": lambda: best(moved, warm_start=start),
    }
    if hint:
        contestants["always a hint"] = lambda: best(moved, warm_start=y)
    anew = contestants["anew"]()
    for solve in contestants.values():
        other = solve()
        assert torch.allclose((moved * (other - anew)).flatten(1).sum(1), torch.zeros(BATCH).double(), atol=1e-5), name
    times = race(contestants, "anew", board.rounds)
    board.row(f"{name}, {int((y == target).flatten(1).all(1).sum())} of {BATCH} right, step {step:g}", times)
    return times["from the first"].ratio


def main() -> None:
    board = Board("Second solves")
    cases = ((3, 1.0),) if board.quick else ((3, 1.0), (0, 1.0), (0, 0.02))
    for engine in (HiGHS(),) if board.quick else (HiGHS(), CPSAT(), SCIP()):
        for name, (solver, theta) in programs(engine).items():
            for right, step in cases:
                label = f"{type(engine).__name__}, {name}"
                ratio = race_second(board, label, solver, theta, right, step, hint=engine.hints)
                board.check(f"{label}, step {step:g}, {right} right at least", ratio, 0.5 if right else 1.2)
    for n in (6, 8, 10):
        torch.manual_seed(n)
        flows, distances = torch.rand(2, BATCH, n, n).double()
        for right, step in cases:
            data = {"flows": flows, "distances": distances}
            label = f"quadratic assignment, n={n}"
            ratio = race_second(board, label, ExactQuadraticAssignment(), torch.rand(BATCH, n, n), right, step, **data)
            board.check(f"{label}, step {step:g}, {right} right at least", ratio, 0.5 if right else 1.1)
    for n in (20, 30):
        torch.manual_seed(n)
        places = torch.rand(BATCH, n, 2)
        distances = torch.cdist(places, places)
        for right, step in ((3, 0.02),) if board.quick else ((3, 1.0), (3, 0.02), (0, 0.02)):
            ratio = race_second(board, f"round trip, n={n}", TSP(), -distances, right, step)
            board.check(f"round trip, n={n}, step {step:g}, {right} right at least", ratio, 1.0 if right else 1.1)
    board.finish()


if __name__ == "__main__":
    main()
