"""Sort photographed numbers, taught by their order alone: the task of NeuralSort (Grover et al., ICLR 2019).

A number is a row of MNIST digits. One network sees one number and gives it one score; the layer sorts or ranks the scores of
`n` numbers, and its solution is to be that of the true numbers. No number is ever told, only which of `n` are greater. Measured
as by Petersen et al. (ICML 2021): the share of sequences that are right at every position, and the share of right positions.

Two things are not the papers': the numbers of a sequence are all different, and the loss is the squared distance of the hard
solution, where the papers have the cross-entropy of a relaxed one. Scores that are all alike are a trivial minimum of such a
loss for rules that are linear in them; a projection, noise or a relaxation with a temperature of its own keeps them away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solverlayers import Solver
from solverlayers.solvers import MaxAssignment, Permutation, Ranking
from solverlayers.solvers.sorting import assignment_scores

from . import base
from .digit_networks import NETWORKS
from .image_pictures import Row, draw_answers
from .image_task import ImageTask
from .images import load_images
from .specs import choose

SOLVERS: dict[str, type[Solver]] = {"ranking": Ranking, "permutation": Permutation, "max_assignment": MaxAssignment}


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings; the paper's, and its network, are those of the code of Petersen et al., Felix-Petersen/diffsort."""

    epochs: int = 6  # paper 100,000 steps in all
    batch: int = 40  # sequences; paper 100
    lr: float = 5e-3  # of Adam; paper 10 ** -3.5
    one_cycle: bool = True  # paper: a steady rate
    train_size: int = 4_000  # sequences in an epoch
    fresh: bool = True
    test_size: int = 1_000  # sequences of unseen digits; paper 10,000
    n: int = 5  # numbers in a sequence; paper 3 to 15
    digits: int = 1  # of a number; paper 4
    network: str = "whole"  # one of `NETWORKS`, whole (paper) or shared, the same for every digit
    channels: int = 4  # of the first convolution, twice as many of the second; paper 32
    solver: str = "ranking"  # one of `SOLVERS`; the last gets the outer product of places and scores

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("n", "digits", "channels")
        object.__setattr__(self, "solver", choose("solver", self.solver, SOLVERS))
        object.__setattr__(self, "network", choose("network", self.network, NETWORKS))
        if not 1 < self.n <= 10**self.digits:
            raise ValueError(
                f"setting n={self.n}; a sequence has 2 to {10**self.digits} different numbers of {self.digits} digits."
            )


class Digits:
    """Images (N, 1, H, W) in the order of their classes, of which numbers are put together."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images = images[labels.argsort(stable=True)]
        self.count = torch.bincount(labels, minlength=10)
        self.start = self.count.cumsum(0) - self.count

    def photograph(self, numbers: Tensor, digits: int, generator: torch.Generator) -> Tensor:
        """An image of each number, any image of each of its digits.  # (B, n) -> (B, n, 1, H, digits * W)"""
        powers = 10 ** torch.arange(digits - 1, -1, -1, device=numbers.device)
        digit = numbers.unsqueeze(-1) // powers % 10  # (B, n, digits)
        chance = torch.rand(digit.shape, generator=generator, device=generator.device, dtype=torch.float64)
        chosen = self.start[digit] + (chance * self.count[digit]).long()
        return torch.cat(self.images[chosen].unbind(2), -1)


class SortingDigits(base.Task):
    """Images of numbers -> a score each -> solver -> ranks, or the permutation that sorts."""

    presets = {
        "quick": Config(),
        "recipe": Config(epochs=16, batch=100, train_size=20_000, digits=4, network="shared", channels=8),
        "paper": Config(
            epochs=100, batch=100, lr=10**-3.5, one_cycle=False, train_size=100_000, test_size=10_000, digits=4, channels=32
        ),
    }
    default_rule = "perturbed(sigma=0.3, samples=8)"
    columns = ("exact_match", "element_accuracy", "loss", "moved")

    def __init__(self, config: Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        network = NETWORKS[config.network](config.digits, config.channels)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
        self.solver = self.make_solver(config)  # of the true numbers, whose seconds do not count

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return SOLVERS[config.solver]()

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.n,) * SOLVERS[config.solver].event_dim

    def on_fit_start(self) -> None:
        found = load_images("mnist")
        self.note = f"{found.note}, {self.config.digits} of its images to a number"
        images = {"train": (found.train, found.train_labels), "test": (found.test, found.test_labels)}
        self.parts = {part: Digits(*(t.to(self.device) for t in tensors)) for part, tensors in images.items()}
        super().on_fit_start()

    def data(self, part: str) -> base.Batch:
        if part == "train":
            return super().data(part)
        return self.make(self.parts[part], self.config.test_size, self.generator(part))

    def sample(self, size: int, generator: torch.Generator) -> base.Batch:
        return self.make(self.parts["train"], size, generator)

    def make(self, part: Digits, size: int, generator: torch.Generator) -> base.Batch:
        """Sequences of different numbers with their solutions.  # -> (size, n, 1, H, W) uint8, (size, n), (size, *E)"""
        numbers = different_numbers(size, self.config.n, 10**self.config.digits, generator)
        return part.photograph(numbers, self.config.digits, generator), numbers, self.solver.solve(self.seen(numbers.float()))

    def scores(self, images: Tensor) -> Tensor:
        """How great each number seems.  # (B, n, 1, H, W) uint8 -> (B, n)"""
        return self.network(ImageTask.pixels(images.flatten(0, 1))).view(images.shape[:2])

    def seen(self, scores: Tensor) -> Tensor:
        """The scores as the solver takes them.  # (B, n) -> (B, *E)"""
        return assignment_scores(scores) if self.solver.event_dim == 2 else scores

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images, _, truth = batch
        y = self.solve(self.seen(self.scores(images)))
        right = self.order(y) == self.order(truth)  # (B, n)
        loss = (y - truth).square().flatten(1).sum(1).mean()
        return loss, {"exact_match": right.all(1), "element_accuracy": right.float().mean(1)}

    def order(self, y: Tensor) -> Tensor:
        """The element at each position, from the least.  # (B, *E) -> (B, n)"""
        return y.argmax(-1) if y.ndim == 3 else y.argsort(1)

    def draw(self, folder: Path) -> None:
        """Sequences in the order that is seen."""
        images, numbers, _ = (column[:6] for column in self.test_data)
        order = self.order(self.solve(self.seen(self.scores(images)))).cpu()
        rows = []
        for k, (ours, right) in enumerate(zip(numbers.cpu().gather(1, order).tolist(), numbers.sort(1).values.tolist()), 1):
            rows.append(Row(f"sequence {k}", ImageTask.pixels(images[k - 1].cpu()[order[k - 1]]), ours, right))
        draw_answers(folder / "predictions.png", rows, f"{self.note}\nin the order that is seen; red: wrong")


def different_numbers(size: int, n: int, below: int, generator: torch.Generator) -> Tensor:
    """Sequences of `n` different numbers, each as likely as any other (Floyd's sampling, then shuffled).  # -> (size, n)"""
    chosen = torch.full((size, n), -1, device=generator.device)
    for place, last in enumerate(range(below - n, below)):
        drawn = torch.randint(last + 1, (size,), generator=generator, device=generator.device)
        chosen[:, place] = torch.where((chosen == drawn.unsqueeze(1)).any(1), last, drawn)
    return chosen.gather(1, torch.rand(size, n, generator=generator, device=generator.device).argsort(1))
