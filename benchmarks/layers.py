"""What a layer costs on top of its solver: forward and backward through each rule, beside the raw solve.

Goals: identity at most raw + 60 us, blackbox at most 2.5 raw + 80 us, where its second solve is about as hard as the first: the
step moves scores by a tenth of their spread. The perturbed rules solve all their samples in one call: Perturbed at most 20 raw,
IMLE at most 35 raw with ten samples, whatever the noise. "perturbed scores" and "imle scores" are the part of it that is
solving: one raw solve, for IMLE two, of ten times as many instances, with the rule's noise on their scores, which makes some
problems harder than they are.

Memory: what a forward and backward pass of Perturbed needs at most, in copies of all samples' scores. Where a solver makes the
samples itself, some at a time, neither they nor their solutions are ever there as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import BATCHES, Board, Time, in_turn, keep_memory, race
from solverlayers import Solver, SolverLayer
from solverlayers.noise import Gumbel, SumOfGamma
from solverlayers.rules import IMLE, Blackbox, Identity, Perturbed, Rule
from solverlayers.solvers import Assignment, GridShortestPath, Ranking

SAMPLES = 10
TURN = 0.03
"""Seconds: long beside what it costs to find the caches full of another contestant's data, which is as much as is measured."""


def forward_backward(layer: SolverLayer, batches: list[torch.Tensor]) -> Callable[[], object]:
    """One forward and one backward pass with a fixed gradient of the solution, for the next batch of scores."""
    grad = torch.randn_like(batches[0])
    scores = [batch.clone().requires_grad_() for batch in batches]
    return in_turn(lambda x: torch.autograd.grad(layer(x), x, grad), scores)


def race_layers(board: Board, solver: Solver, batches: list[torch.Tensor]) -> dict[str, Time]:
    """The raw solve and each rule's forward and backward pass."""
    rules: dict[str, Rule] = {
        "identity": Identity(),
        "blackbox": Blackbox(step=0.1),
        "perturbed": Perturbed(sigma=0.1, samples=SAMPLES),
        "perturbed, Gumbel": Perturbed(sigma=0.1, samples=SAMPLES, noise=Gumbel()),
        "perturbed, sum of Gamma": Perturbed(sigma=0.1, samples=SAMPLES, noise=SumOfGamma(5, terms=20)),
        "imle": IMLE(step=0.1, sigma=0.1, samples=SAMPLES),
    }
    layers = {name: forward_backward(SolverLayer(solver, rule), batches) for name, rule in rules.items()}
    sign = 1 if solver.sense == "max" else -1
    grad = torch.randn_like(batches[0])
    several = torch.empty(SAMPLES, *grad.shape)
    gaussian = [solver.clip((scores + 0.1 * torch.randn_like(several)).flatten(0, 1)) for scores in batches]
    gumbel = [scores + sign * 0.1 * Gumbel().sample(several) for scores in batches]
    pairs = [tuple(solver.clip(s.flatten(0, 1)) for s in (noisy, noisy - sign * 0.1 * grad)) for noisy in gumbel]
    alone: dict[str, Callable[[], object]] = {
        "raw": in_turn(solver.solve, batches),
        "perturbed scores": in_turn(solver.solve, gaussian),
        "imle scores": in_turn(lambda pair: [solver.solve(s) for s in pair], pairs),
    }
    return race({**alone, **layers}, reference="raw", rounds=board.rounds, turn=TURN)


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes of tensors that are there at once, beyond those that were there before."""
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns())))


def main() -> None:
    board = Board("Layers: forward and backward through a solver")
    torch.manual_seed(0)
    keep_memory()
    problems: dict[str, tuple[Solver, Callable[[], torch.Tensor]]] = {
        "ranking n=100, B=32": (Ranking(), lambda: torch.randn(32, 100)),
        "assignment n=20, B=64": (Assignment(), lambda: torch.rand(64, 20, 20)),
        "grid 12 x 12, B=32": (GridShortestPath(), lambda: torch.rand(32, 12, 12) + 0.1),
        "grid 12 x 12, B=256": (GridShortestPath(), lambda: torch.rand(256, 12, 12) + 0.1),
    }
    for label, (solver, draw) in problems.items():
        times = race_layers(board, solver, [draw() for _ in range(BATCHES)])
        board.row(label, times)
        raw = times["raw"].least  # limits in microseconds know nothing of what else the machine does
        board.check(f"identity, {label}: time / (raw + 60 us)", times["identity"].least / (raw + 60e-6), 1.0)
        board.check(f"blackbox, {label}: time / (2.5 raw + 80 us)", times["blackbox"].least / (2.5 * raw + 80e-6), 1.0)
        for name in ("perturbed", "perturbed, Gumbel", "perturbed, sum of Gamma"):
            board.check(f"{name}, {label}: raw solves", times[name].ratio, 20.0)
        board.check(f"imle, {label}: raw solves", times["imle"].ratio, 35.0)
    scores = torch.rand(32, 50, 50)
    copy = SAMPLES * scores.numel() * scores.element_size()
    peak = peak_memory(forward_backward(SolverLayer(Assignment(), Perturbed(sigma=0.1, samples=SAMPLES)), [scores]))
    board.check("memory of perturbed, assignment n=50, B=32: copies of all scores", peak / copy, 0.7)
    board.finish()


if __name__ == "__main__":
    main()
