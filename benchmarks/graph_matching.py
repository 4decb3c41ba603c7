"""Quadratic assignment beside SciPy's FAQ, at an objective at least as good, and the gap on published instances.

The gap needs a folder with `qaplib_dev`, named by SOLVERLAYERS_DATA. Run `python benchmarks/graph_matching.py --quick`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import quadratic_assignment
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.quadratic_assignment import ExactQuadraticAssignment, QuadraticAssignment

FAST = QuadraticAssignment(restarts=1, exchanges=0)
SIZES = ((10, 1), (10, 64), (20, 32), (30, 16), (50, 8), (100, 2))
QUICK = ((10, 64), (30, 16))


def instances(batch: int, n: int, symmetric: bool) -> dict[str, Tensor]:
    """Uniform flows and distances, nothing on the diagonals."""
    out = {}
    for key in ("flows", "distances"):
        matrix = torch.rand(batch, n, n, dtype=torch.float64)
        matrix = matrix + matrix.mT if symmetric else matrix
        out[key] = matrix * (1 - torch.eye(n))
    return out


def by_scipy(data: dict[str, Tensor]) -> Tensor:
    """The solutions of SciPy's loop, as ours: from tensors to a 0/1 tensor."""
    flows, distances = (matrix.numpy() for matrix in data.values())
    y = np.zeros(flows.shape)
    for b, (a, d) in enumerate(zip(flows, distances)):
        y[b, np.arange(len(a)), quadratic_assignment(a, d, method="faq").col_ind] = 1
    return torch.from_numpy(y)


def race_faq(board: Board) -> None:
    for n, batch in QUICK if board.quick else SIZES:
        for symmetric in (True, False):
            data = instances(batch, n, symmetric)
            scores = torch.zeros(batch, n, n, dtype=torch.float64)
            contestants = {"scipy": partial(by_scipy, data), "ours": partial(FAST, scores, **data)}
            if not board.quick:
                contestants["default"] = partial(QuadraticAssignment(), scores, **data)
            times = race(contestants, "scipy", board.rounds)
            mean = {name: FAST.offset(solve(), **data).mean().item() for name, solve in contestants.items()}
            label = f"{'symmetric' if symmetric else 'general'}, n={n}, B={batch}"
            board.row(f"{label}; mean cost " + ", ".join(f"{name} {value:.1f}" for name, value in mean.items()), times)
            board.check(label, times["ours"].ratio, 0.15)


def published_gaps(folder: Path) -> None:
    """Means over the instances: gap to the best known cost, and seconds of an instance."""
    arrays, optima = np.load(folder / "qaplib_dev.npz"), json.loads((folder / "optima.json").read_text())
    solvers = {"one start": FAST, "default": QuadraticAssignment(), "50 restarts": QuadraticAssignment(restarts=50)}
    for label, solver in {**solvers, "exact, n <= 12": ExactQuadraticAssignment()}.items():
        gaps, seconds = [], []
        for name, entry in optima.items():
            flows, distances = (torch.as_tensor(arrays[f"{name}__{key}"])[None] for key in "AB")
            if isinstance(solver, ExactQuadraticAssignment) and entry["n"] > 12:
                continue
            start = time.process_time()
            y = solver(torch.zeros_like(flows), flows=flows, distances=distances)
            seconds.append(time.process_time() - start)
            excess = solver.offset(y, flows=flows, distances=distances).item() - entry["optimum"]
            gaps.append(excess / max(entry["optimum"], 1))  # one optimum is zero
        print(f"{label}: mean gap {np.mean(gaps):.3%}, worst {max(gaps):.3%}, {1000 * np.mean(seconds):.1f} ms")


def main() -> None:
    board = Board("Quadratic assignment")
    torch.manual_seed(0)
    race_faq(board)
    folder = Path(os.environ.get("SOLVERLAYERS_DATA", "")) / "qaplib_dev"
    if folder.exists():
        published_gaps(folder)
    board.finish()


if __name__ == "__main__":
    main()
