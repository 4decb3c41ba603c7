"""What a layer costs on top of its solver: forward and backward through each rule, beside the raw solve.

Goals: identity at most raw + 60 us, blackbox at most 2.5 raw + 80 us, where its second solve is about as hard as the first: the
step moves scores by a tenth of their spread. The perturbed rules solve all their samples in one call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, Time, race
from solverlayers import Solver, SolverLayer
from solverlayers.rules import IMLE, Blackbox, Identity, Perturbed, Rule
from solverlayers.solvers import Assignment, GridShortestPath, Ranking

SAMPLES = 10


def forward_backward(layer: SolverLayer, scores: torch.Tensor) -> Callable[[], object]:
    """One forward and one backward pass with a fixed gradient of the solution."""
    scores = scores.clone().requires_grad_()
    grad = torch.randn_like(scores)
    return lambda: torch.autograd.grad(layer(scores), scores, grad)


def race_layers(board: Board, solver: Solver, scores: torch.Tensor) -> dict[str, Time]:
    """The raw solve and each rule's forward and backward pass."""
    rules: dict[str, Rule] = {
        "identity": Identity(),
        "blackbox": Blackbox(step=0.1),
        f"perturbed M={SAMPLES}": Perturbed(sigma=0.1, samples=SAMPLES),
        f"imle M={SAMPLES}": IMLE(step=0.1, sigma=0.1, samples=SAMPLES),
    }
    layers = {name: forward_backward(SolverLayer(solver, rule), scores) for name, rule in rules.items()}
    return race({"raw": lambda: solver.solve(scores), **layers}, reference="raw", rounds=board.rounds)


def main() -> None:
    board = Board("Layers: forward and backward through a solver")
    torch.manual_seed(0)
    problems: dict[str, tuple[Solver, torch.Tensor]] = {
        "ranking n=100, B=32": (Ranking(), torch.randn(32, 100)),
        "assignment n=20, B=64": (Assignment(), torch.rand(64, 20, 20)),
        "grid 12 x 12, B=32": (GridShortestPath(), torch.rand(32, 12, 12) + 0.1),
        "grid 12 x 12, B=256": (GridShortestPath(), torch.rand(256, 12, 12) + 0.1),
    }
    for label, (solver, scores) in problems.items():
        times = race_layers(board, solver, scores)
        board.row(label, times)
        raw = times["raw"].seconds
        board.check(f"identity, {label}: time / (raw + 60 us)", times["identity"].seconds / (raw + 60e-6), 1.0)
        board.check(f"blackbox, {label}: time / (2.5 raw + 80 us)", times["blackbox"].seconds / (2.5 * raw + 80e-6), 1.0)
    board.finish()


if __name__ == "__main__":
    main()
