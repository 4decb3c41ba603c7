"""Read the costs of terrain off an image of it, taught only by shortest paths: after Vlastelica et al. (ICLR 2020), section 4.

A network sees a map as an RGB image and gives every cell a cost; the solver finds the cheapest way from one corner to the
opposite one; the loss is its Hamming distance to the truly cheapest way. Costs themselves are never shown. A map counts if
the path found has the optimal true cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from solverlayers import Solver
from solverlayers.solver import inner
from solverlayers.solvers import GridShortestPath

from . import base, report
from .terrain import paint_tiles, photograph, terrain_costs, terrain_maps


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings; the paper's are those of its Warcraft experiment, k = 12."""

    epochs: int = 35  # paper 50
    batch: int = 50  # paper 70
    lr: float = 5e-3  # of Adam; paper 5e-4
    one_cycle: bool = True  # paper: steps down, see `milestones`
    milestones: tuple[int, ...] = ()  # epochs after which the rate falls to a tenth; paper 30 and 40
    train_size: int = 5_000  # maps; paper 10,000
    fresh: bool = True  # paper: one set, made once
    test_size: int = 1_000  # paper 1,000
    side: int = 12  # cells along one side of a map; paper 12 to 30
    pixels: int = 8  # of a cell, along one side
    variants: int = 6  # tiles for one terrain; paper 142 tiles in all
    resnet18: bool = False  # paper: the first five layers of a ResNet18


class ShortestPath(base.Task):
    """Image -> residual network -> costs -> cheapest path."""

    presets = {
        "quick": Config(),
        "paper": Config(
            epochs=50,
            batch=70,
            lr=5e-4,
            one_cycle=False,
            milestones=(30, 40),
            train_size=10_000,
            fresh=False,
            variants=28,
            resnet18=True,
        ),
    }
    default_rule = "blackbox(step=20)"

    def __init__(self, config: Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self.encoder = resnet18_costs(config.side) if config.resnet18 else patch_costs(config.pixels)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return GridShortestPath(neighbours=8)

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.side, config.side)

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        if not self.config.milestones:
            return super().make_schedule(optimizer)
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [m * self.steps for m in self.config.milestones])

    def sample(self, size: int, generator: torch.Generator) -> base.Batch:
        c = self.config
        tiles = paint_tiles(c.variants, c.pixels, self.generator("tiles"))  # all maps are laid with the same tiles
        maps = terrain_maps(size, c.side, c.side, generator)
        costs = terrain_costs(maps)
        return photograph(maps, tiles, generator), costs, self.make_solver(c)(costs)  # images, costs, cheapest paths

    def costs(self, images: Tensor) -> Tensor:
        """What a step on each cell seems to cost.  # (B, 3, H * P, W * P) uint8 -> (B, H, W)"""
        return self.encoder(images.float() / 255)

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images, costs, truth = batch
        path = self.solve(self.costs(images))
        # On {0, 1} this is the Hamming distance, and unlike y (1 - y*) + (1 - y) y* its gradient is zero where y is right.
        distance = (path - truth).abs().flatten(1).sum(1)
        found, best = inner(costs, path, 2), inner(costs, truth, 2)
        hamming = distance.detach() / truth[0].numel()
        return distance.mean(), {
            "exact_match": found <= best * (1 + 1e-5),  # several paths may have the optimal cost
            "hamming": hamming,
            "regret": found - best,
            "cost_ratio": found / best,
            "cell_accuracy": 1 - hamming,
        }

    def draw(self, folder: Path) -> None:
        images, costs, truth = (column[:4] for column in self.test_data)
        seen = self.costs(images)
        path = self.layer.solver(seen)
        report.draw_maps(folder / "predictions.png", *(x.cpu() for x in (images, seen, costs, path, truth)))


class Residual(nn.Module):
    """Two 3 x 3 convolutions around which the input passes (He et al., 2016)."""

    def __init__(self, width: int):
        super().__init__()
        self.inside = nn.Sequential(*convolution(width, width, 3), *list(convolution(width, width, 3))[:2])

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return functional.relu(x + self.inside(x))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; an odd kernel is padded."""
    padding = kernel // 2 if kernel % 2 else 0
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def patch_costs(pixels: int, width: int = 16) -> nn.Sequential:
    """Quarters of cells, then cells, a residual block each: small enough for two cores.  # (B, 3, H * P, W * P) -> (B, H, W)"""
    return nn.Sequential(
        nn.BatchNorm2d(3),
        convolution(3, width, pixels // 2, stride=pixels // 2),
        Residual(width),
        convolution(width, 2 * width, 2, stride=2),
        Residual(2 * width),
        nn.Conv2d(2 * width, 1, 1),
        nn.Flatten(1, 2),
        nn.Softplus(),
    )


def resnet18_costs(side: int) -> nn.Sequential:
    """The first five layers of a ResNet18, pooled to cells, the mean of 64 channels.  # (B, 3, H * P, W * P) -> (B, H, W)"""
    return nn.Sequential(
        convolution(3, 64, 7, stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),
        Residual(64),
        Residual(64),
        nn.AdaptiveMaxPool2d(side),
        ChannelMean(),
    )


class ChannelMean(nn.Module):
    """The mean over channels, which is not negative after a ReLU.  # (B, C, H, W) -> (B, H, W)"""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)
