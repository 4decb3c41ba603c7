"""Ranking layers, forward and backward, beside torchsort's soft ranks (Blondel et al., 2020).

torchsort is compiled when it is installed: `pip install torchsort --no-build-isolation`. Without it the race runs without a
gate. Run `python benchmarks/ranking.py --quick`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import BATCHES, Board, in_turn, race
from solverlayers import SolverLayer
from solverlayers.rules import Blackbox, Identity
from solverlayers.solvers import Ranking

SIZES = ((10, 32), (10, 256), (100, 32), (100, 256), (1000, 32), (1000, 256), (10000, 32))
QUICK = ((10, 256), (100, 256), (1000, 32))


def trained(layer: Callable[[Tensor], Tensor], gradient: Tensor) -> Callable[[Tensor], Tensor]:
    """Forward and backward of a layer."""

    def run(scores: Tensor) -> Tensor:
        x = scores.detach().requires_grad_()
        return torch.autograd.grad(layer(x), x, gradient)[0]

    return run


def main() -> None:
    board = Board("Ranking")
    try:
        from torchsort import soft_rank
    except ImportError:
        soft_rank = None
        print("\ntorchsort is not installed: no gate; the reference is torch.sort, twice.")
    for n, batch in QUICK if board.quick else SIZES:
        gradient, *batches = torch.randn(1 + BATCHES, batch, n, generator=torch.Generator().manual_seed(n))
        contestants: dict[str, Callable[[Tensor], object]] = {
            "torch argsort of argsort, forward": lambda x: x.argsort(-1).argsort(-1),
            "ranks, forward": Ranking(),
            "identity": trained(SolverLayer(Ranking(), Identity()), gradient),
            "identity, std": trained(SolverLayer(Ranking(), Identity(), projection="std"), gradient),
            "blackbox": trained(SolverLayer(Ranking(), Blackbox(step=1.0)), gradient),
        }
        reference = "torch argsort of argsort, forward"
        if soft_rank is not None:
            reference = "torchsort soft_rank"
            contestants = {reference: trained(soft_rank, gradient), **contestants}
        times = race({name: in_turn(call, batches) for name, call in contestants.items()}, reference, board.rounds)
        board.row(f"n={n}, B={batch}", times)
        if soft_rank is not None and n >= 100:
            board.check(f"identity ranking, n={n}, B={batch}", times["identity"].ratio, 0.3)
    board.finish()


if __name__ == "__main__":
    main()
