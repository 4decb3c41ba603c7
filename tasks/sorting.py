"""Sort numbers through a layer of hard signs: the neural sorting of Ramapuram & Webb (2020), section 4.1.

`n` numbers, each uniform in (0, 1), pass a network whose last hidden layer knows only -1, 0 and +1; a linear layer then says
for every position of the sorted sequence which element belongs there. A sequence counts only if every position is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from solverlayers import Solver
from solverlayers.solvers import Sign

from . import base, report


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings; the paper's are those of the authors' code, apple/ml-dab."""

    epochs: int = 20  # paper 15,000, with its 94.6 % after 2,168
    batch: int = 512  # paper 1,024
    lr: float = 3e-3  # of Adam; paper 1e-4
    one_cycle: bool = True  # paper: a steady rate
    train_size: int = 102_400  # sequences in an epoch; paper 2,000,000
    fresh: bool = True  # paper: one set, made once
    test_size: int = 20_000  # paper 400,000
    n: int = 5  # numbers in a sequence; paper 10
    width: int = 128  # hidden units of the encoder
    bits: int = 256  # hard units
    margin: float = 0.5  # a hard unit is 0 within this distance of 0


class Sorting(base.Task):
    """Numbers -> tanh network -> hard signs -> which element stands at which position."""

    presets = {
        "quick": Config(),
        "paper": Config(
            n=10, epochs=15_000, batch=1024, lr=1e-4, one_cycle=False, train_size=2_000_000, fresh=False, test_size=400_000
        ),
    }
    default_rule = "dab"

    def __init__(self, config: Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        n, width, bits = config.n, config.width, config.bits
        self.encoder = nn.Sequential(
            nn.Linear(n, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, bits), nn.Tanh()
        )
        self.decoder = nn.Linear(bits, n * n)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return Sign(margin=config.margin)

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.bits,)

    def sample(self, size: int, generator: torch.Generator) -> base.Batch:
        numbers = torch.rand(size, self.config.n, generator=generator, device=generator.device)
        return numbers, numbers.argsort(1)  # (B, n), and the element at each position (B, n)

    def logits(self, numbers: Tensor) -> Tensor:
        """How likely an element stands at a position.  # (B, n) -> (B, element, position)"""
        bits = self.solve(self.encoder(numbers))
        return self.decoder(bits).unflatten(1, (self.config.n, self.config.n))

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        numbers, order = batch
        logits = self.logits(numbers)
        wrong = logits.argmax(1) != order  # (B, n)
        loss = functional.cross_entropy(logits, order, reduction="none").sum(1).mean()
        return loss, {"exact_match": ~wrong.any(1), "hamming": wrong.float().mean(1)}

    def draw(self, folder: Path) -> None:
        numbers, order = (column[:6] for column in self.test_data)
        predicted = numbers.gather(1, self.logits(numbers).argmax(1))
        report.draw_sequences(folder / "predictions.png", numbers.gather(1, order).cpu(), predicted.cpu())
