"""Compress images to discrete codes and tell digits from the codes: after the first experiment of Ramapuram & Webb (2020).

An image passes a network whose last layer is a solver: signs with a margin, thresholds, the k greatest of a group, the best of
a group, or the nearest of learned centroids (k-means, one codebook for each group). Another network reconstructs the image
from that code alone. Measured are the error of the reconstruction, and how well a logistic regression on the frozen code tells
the classes apart, which nobody told the code about. Networks and sizes are ours: the paper's are not known to us.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from solverlayers import Solver

from . import image_task
from .image_pictures import draw_rows
from .latent_images import network, start_at
from .probe import linear_accuracy
from .specs import make_solver


@dataclass(frozen=True, kw_only=True)
class Config(image_task.Config):
    """Settings, all of them ours."""

    epochs: int = 8
    batch: int = 100
    lr: float = 1e-3  # of Adam
    one_cycle: bool = True
    train_size: int = 10_000
    test_size: int = 2_000
    code: str = "sign(margin=0.5)"  # any solver of solutions in the shape of its scores, one instance to a group
    groups: int = 16
    width: int = 16  # units of a group
    centroid: int = 0  # dimensions of a learned centroid; then scores are squared distances to centroids, negative. 0: none
    hidden: tuple[int, ...] = (256, 128)  # widths of the encoder; the decoder has them in reverse
    mean_start: bool = True  # the decoder starts at the mean image, else at grey

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centroid and not make_solver(self.code).one_hot:
            raise ValueError(f"setting centroid={self.centroid}: a group takes one of its centroids, so set code=argmax.")


class Autoencoder(image_task.ImageTask):
    """Image -> dense network -> solver -> dense network -> image."""

    presets = {"quick": Config(), "paper": Config(epochs=100, train_size=60_000, test_size=10_000, hidden=(512, 256))}
    default_rule = "dab(independent)"
    headline = "reconstruction_error"
    columns = ("reconstruction_error", "linear_accuracy", "active_share", "loss", "moved", "agreement")

    def __init__(self, config: Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        pixels = torch.Size(config.facts.shape).numel()
        scored = config.groups * (config.centroid or config.width)
        self.encoder = network((pixels, *config.hidden, scored), leak=0.0)
        self.decoder = network((scored, *reversed(config.hidden), pixels), leak=0.0).append(nn.Sigmoid())
        if config.centroid:
            self.centroids = nn.Parameter(torch.randn(config.groups, config.width, config.centroid))

    def start(self) -> None:
        if self.config.mean_start:
            start_at(self.pixels(self.data("train")[0]).mean(0).flatten(), self.decoder[-2])

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return make_solver(config.code)

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.groups, config.width)[-make_solver(config.code).event_dim :]

    def scores(self, images: Tensor) -> Tensor:
        """What the solver chooses by.  # (B, C, H, W) in [0, 1] -> (B, groups, width)"""
        z = self.encoder(images.flatten(1)).unflatten(1, (self.config.groups, -1))
        if not self.config.centroid:
            return z
        return -(z.unsqueeze(2) - self.centroids).square().sum(-1)

    def features(self, code: Tensor) -> Tensor:
        """What the decoder sees: the solutions, or the centroids that they choose.  # (B, groups, width) -> (B, D)"""
        chosen = torch.einsum("bgw,gwd->bgd", code, self.centroids) if self.config.centroid else code
        return chosen.flatten(1)

    def measure(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.pixels(batch[0])
        error = (self.decoder(self.features(self.solve(self.scores(x)))) - x.flatten(1)).square()
        return error.sum(1).mean(), {"reconstruction_error": error.mean(1)}

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """The codes of images, in pieces that do not need much memory.  # (N, C, H, W) uint8 -> (N, groups, width)"""
        return torch.cat([self.layer(self.scores(self.pixels(part))) for part in images.split(1000)])

    def finish(self) -> dict[str, float]:
        (train, labels), (test, truth) = self.train_data, self.test_data
        code, unseen = self.codes(train), self.codes(test)
        pairs = ((self.features(code).detach(), labels), (self.features(unseen).detach(), truth))
        active = (unseen != unseen[:1]).any(0).double().mean().item()
        return {"linear_accuracy": linear_accuracy(*pairs, self.config.facts.classes), "active_share": active}

    def draw(self, folder: Path) -> None:
        images = self.test_data[0][:16]
        rebuilt = self.decoder(self.features(self.codes(images))).view(images.shape)
        rows = {"image": self.pixels(images).cpu(), "from its code": rebuilt.cpu()}
        title = f"{self.note}: unseen images, and what is left of them in a code by {self.layer.solver}"
        draw_rows(folder / "predictions.png", rows, title)
