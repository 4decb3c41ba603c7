"""Classify images through a layer without a derivative: after the third experiment of Ramapuram & Webb (2020).

A small convolutional network ends in hidden units that a solver makes hard: it sorts them, takes their signs, or marks the
greatest; a linear layer names the class from that alone. Inputs may be augmented, by Patch Gaussian (Lopes et al., 2019) for
one, and the trained classifier is also measured on corrupted images. Networks and sizes are ours: the papers' are larger, or
not known to us.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from solverlayers import Solver
from solverlayers.solvers import HardFunction

from . import image_task
from .augmentation import make_augmentation
from .corruption import CORRUPTIONS, SEVERITIES, corrupt
from .image_pictures import Row, draw_answers
from .specs import make_solver


@dataclass(frozen=True, kw_only=True)
class Config(image_task.Config):
    """Settings, all of them ours."""

    epochs: int = 12
    batch: int = 100
    lr: float = 2e-3  # of Adam
    one_cycle: bool = True
    train_size: int = 10_000
    test_size: int = 2_000
    hard: str = "sort"  # any solver of solutions in the shape of its scores; "none": the scores themselves, for reference
    units: int = 64  # that the solver sees
    channels: int = 8  # of the first convolution, twice as many of the second
    augmentation: str = "none"  # or patch_gaussian(size=16, sigma=0.5), gaussian_noise(sigma=0.5), cutout(size=8)
    corrupted: int = 1_000  # unseen images that are corrupted in every way


class Classification(image_task.ImageTask):
    """Image -> convolutions -> tanh units -> solver -> linear layer -> class."""

    presets = {
        "quick": Config(),
        "paper": Config(epochs=40, dataset="cifar10", train_size=50_000, test_size=10_000, units=256, channels=64),
    }
    default_rule = "dab"
    headline = "accuracy"
    columns = ("accuracy", "corrupted_accuracy", "loss", "moved", "agreement")

    def __init__(self, config: Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self.augment = make_augmentation(config.augmentation)
        self.encoder = convolutions(config.facts.shape, config.channels, config.units)
        self.decoder = nn.Linear(config.units, config.facts.classes)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return HardFunction(torch.clone, same_shape=True) if config.hard == "none" else make_solver(config.hard)

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.units,)

    def logits(self, images: Tensor) -> Tensor:
        """How likely each class is.  # (B, C, H, W) in [0, 1] -> (B, classes)"""
        return self.decoder(self.solve(self.encoder(images)))

    def measure(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = self.pixels(batch[0]), batch[1]
        if self.training and self.augment is not None:
            images = self.augment(images)
        logits = self.logits(images)
        return functional.cross_entropy(logits, labels), {"accuracy": logits.argmax(1) == labels}

    @torch.no_grad()
    def corrupted(self, images: Tensor) -> Iterator[tuple[str, int, Tensor, Tensor]]:
        """Every corruption at every severity: the corrupted images, and the classes that are seen in them."""
        for name in CORRUPTIONS:
            generator = self.generator("corruption", name)
            for severity in SEVERITIES:
                changed = corrupt(name, self.pixels(images), severity, generator)
                yield name, severity, changed, self.logits(changed).argmax(1)

    def finish(self) -> dict[str, float]:
        images, labels = (column[: self.config.corrupted] for column in self.test_data)
        right: dict[str, list[float]] = {name: [] for name in CORRUPTIONS}
        for name, _, _, answers in self.corrupted(images):
            right[name].append((answers == labels).double().mean().item())
        found = {f"accuracy_{name}": sum(values) / len(values) for name, values in right.items()}
        for place, severity in enumerate(SEVERITIES):
            found[f"accuracy_severity_{severity}"] = sum(values[place] for values in right.values()) / len(right)
        return {"corrupted_accuracy": sum(found[f"accuracy_{name}"] for name in right) / len(right), **found}

    def draw(self, folder: Path) -> None:
        """One image for each corruption, clean and at all severities, with the class that is seen."""
        images, labels = (column[: len(CORRUPTIONS)] for column in self.test_data)
        clean = self.pixels(images)
        row_of = {name: k for k, name in enumerate(CORRUPTIONS)}
        versions, answers = [[image.cpu()] for image in clean], [[int(a)] for a in self.logits(clean).argmax(1)]
        for name, _, changed, seen in self.corrupted(images):
            k = row_of[name]
            versions[k].append(changed[k].cpu())
            answers[k].append(int(seen[k]))
        truth = [[int(label)] * (1 + len(SEVERITIES)) for label in labels]
        rows = [Row(name.replace("_", " "), torch.stack(versions[k]), answers[k], truth[k]) for name, k in row_of.items()]
        title = f"{self.note}, clean and corrupted (severities 1 to 5): the class that is seen; red: wrong"
        draw_answers(folder / "predictions.png", rows, title, ["clean", *map(str, SEVERITIES)])


def convolutions(shape: tuple[int, int, int], channels: int, units: int) -> nn.Sequential:
    """Two convolutions, each of which halves the image, and tanh units.  # (B, C, H, W) -> (B, units)"""
    colours, height, width = shape
    return nn.Sequential(
        nn.Conv2d(colours, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * -(-height // 4) * -(-width // 4), units),
        nn.Tanh(),
    )
