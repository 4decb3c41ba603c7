"""Sort numbers through a layer of hard signs: the neural sorting of Ramapuram & Webb (2020), section 4.1.

`n` numbers, each uniform in (0, 1), pass a network whose last hidden layer knows only -1, 0 and +1; a linear layer then says
for every position of the sorted sequence which element belongs there. A sequence counts only if every position is right.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from solverlayers import Solver
from solverlayers.solvers import HardFunction, Sign

from . import base, report
from .sorting_networks import NETWORKS
from .specs import choose


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
    hard: bool = True  # False: the decoder sees the tanh units themselves, for reference
    network: str = "dense"  # one of `sorting_networks.NETWORKS`; paper dense

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("n", "width", "bits")
        object.__setattr__(self, "network", choose("network", self.network, NETWORKS))


RECIPE = Config(n=10, network="relation", width=64, bits=200, epochs=6, batch=256, lr=1e-2, train_size=51_200)
"""The paper's accuracy on ten numbers in seconds, because the network compares elements and treats all of them alike."""


class Sorting(base.Task):
    """Numbers -> network of tanh units -> hard signs -> which element stands at which position."""

    presets = {
        "quick": Config(),
        "ten": Config(n=10, epochs=5, batch=256, lr=5e-3, train_size=128_000),
        "recipe": RECIPE,
        "recipe_15": dataclasses.replace(RECIPE, n=15, bits=300),
        "paper": Config(
            n=10, epochs=15_000, batch=1024, lr=1e-4, one_cycle=False, train_size=2_000_000, fresh=False, test_size=400_000
        ),
    }
    default_rule = "dab"

    def __init__(self, config: Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        self.network = NETWORKS[config.network](config.n, config.width, config.bits)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return Sign(margin=config.margin) if config.hard else HardFunction(torch.clone, same_shape=True)

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.bits,)

    def sample(self, size: int, generator: torch.Generator) -> base.Batch:
        numbers = torch.rand(size, self.config.n, generator=generator, device=generator.device)
        return numbers, numbers.argsort(1)  # (B, n), and the element at each position (B, n)

    def logits(self, numbers: Tensor) -> Tensor:
        """How likely an element stands at a position.  # (B, n) -> (B, element, position)"""
        return self.network.logits(self.solve(self.network.scores(numbers)))

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
