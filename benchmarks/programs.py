"""Integer and linear programs: every engine beside a plain loop over SciPy, from tensors to tensors; all optima are the same.

Which engine suits which problem, and what the layer adds to the engine. Run `python benchmarks/programs.py --quick`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers import CPSAT, GLOP, SCIP, Graph, HiGHS, IntegerProgram, KMedoids, LinearProgram, MaxCut
from solverlayers.solvers.engines import Program
from solverlayers.solvers.program_family import ProgramSolver

BATCH = 2


def scipy_loop(program: Program, costs: np.ndarray) -> np.ndarray:
    """The optima of a batch, each program as it stands.  # (B, n) -> (B,)"""
    rows = LinearConstraint(program.matrix, program.row_lower, program.row_upper)
    bounds, integrality = Bounds(program.lower, program.upper), program.integer.astype(int)
    data = {"integrality": integrality, "bounds": bounds, "constraints": rows, "options": {"mip_rel_gap": 0.0}}
    more = np.zeros(len(program.lower) - costs.shape[1])
    return np.array([milp(np.append(row, more), **data).fun for row in costs])


def problems() -> dict[str, tuple[ProgramSolver, Tensor]]:
    """A solver and scores, by name; small enough for every engine."""
    weights = torch.randint(1, 50, (2, 12))
    points = torch.rand(BATCH, 8, 2)
    pairs = torch.triu_indices(6, 6, 1)
    rows = torch.rand(40, 60)
    return {
        "packing, 2 rows, n=12": (IntegerProgram(weights, weights.sum(1) // 3, sense="max"), torch.rand(BATCH, 12)),
        "3 medoids of 8 points": (KMedoids(3), torch.cdist(points, points)),
        "cut of 6 nodes, all pairs": (MaxCut(Graph(pairs)), torch.randn(BATCH, pairs.shape[1])),
        "linear, 40 rows, n=60": (LinearProgram(rows, rows.sum(1) / 3, sense="max"), torch.rand(BATCH, 60)),
    }


def main() -> None:
    board = Board("Integer and linear programs")
    torch.manual_seed(0)
    for name, (solver, scores) in problems().items():
        scores = scores.double()
        sign = 1 if solver.sense == "min" else -1
        program = solver._program(tuple(scores.shape[1:]))
        costs = (sign * scores).flatten(1).numpy()
        engines = (HiGHS(), GLOP()) if isinstance(solver, LinearProgram) else (HiGHS(), SCIP(), CPSAT())
        contestants = {"SciPy": lambda p=program, c=costs: scipy_loop(p, c)}
        best = sign * contestants["SciPy"]()
        for engine in engines:
            own = replace(solver, engine=engine)  # type: ignore[type-var]
            assert np.allclose(own.solve_with_info(scores).objective.numpy(), best, rtol=1e-6), (name, engine)
            contestants[type(engine).__name__] = lambda s=own, x=scores: s(x)
        times = race(contestants, "SciPy", board.rounds)
        board.row(f"{name}, B={BATCH}", times)
        board.check(f"{name}: HiGHS", times["HiGHS"].ratio, 1.5)
    board.finish()


if __name__ == "__main__":
    main()
