"""Read the costs of terrain off an image of it, taught only by shortest paths: after Vlastelica et al. (ICLR 2020), section 4.

A network sees a map as an RGB image and gives every cell a cost; the solver finds the cheapest way from one corner to the
opposite one; the loss is its Hamming distance to the truly cheapest way. Costs themselves are never shown. A map counts if
the path found has the optimal true cost. A loss of `solverlayers.losses` may take the place of the rule, such as
`--rule "fenchel_young(samples=4)"`, or `two_stage`, which is taught by the true costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from solverlayers import Solver
from solverlayers.oracle import Oracle
from solverlayers.solver import inner
from solverlayers.solvers import GridShortestPath

from . import base, report
from .maps import MAPS
from .specs import choose


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings; the paper's are those of its Warcraft experiment, k = 12."""

    epochs: int = 35  # paper 50
    batch: int = 50  # paper 70
    lr: float = 5e-3  # of Adam; paper 5e-4
    one_cycle: bool = True  # paper: steps down, see `milestones`
    milestones: tuple[int, ...] = ()  # epochs after which the rate falls to a tenth; paper 30 and 40
    train_size: int = 5_000  # maps; paper 10,000
    fresh: bool = True  # maps drawn and seen anew in every step; paper: one set
    maps: str = "made"  # one of `maps.MAPS`; paper "warcraft"
    folder: str = ""  # of the Warcraft files, above 12x12/
    test_size: int = 1_000  # paper 1,000
    measured: str = "test"  # part of the maps; "val" to choose settings by
    side: int = 12  # cells along one side of a map; paper 12 to 30
    pixels: int = 8  # of a cell, along one side
    variants: int = 6  # tiles for one terrain; paper 142 tiles in all
    context: bool = True  # residual blocks, which see beyond a cell
    resnet18: bool = False  # paper: the first five layers of a ResNet18

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "maps", choose("source of maps", self.maps, MAPS))
        object.__setattr__(self, "measured", choose("part of the maps", self.measured, ("val", "test")))
        if self.fresh and not MAPS[self.maps].changes:
            raise ValueError(f"setting fresh=True; the images of {self.maps!r} are what they are, so it must be False.")


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
    presets["terrain"] = replace(
        presets["quick"],
        maps="terrain",
        epochs=3,
        batch=25,
        lr=2e-2,
        train_size=4_000,
        fresh=False,
        test_size=500,
        context=False,
    )
    presets["warcraft"] = replace(presets["paper"], maps="warcraft")
    default_rule = "blackbox(step=20)"
    takes_losses = True
    columns = ("exact_match", "label_share", "cost_ratio", "cell_accuracy", "regret", "moved")

    def __init__(self, config: Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self.maps = MAPS[config.maps](config.side, config.pixels, config.variants, config.folder)
        self.note = self.maps.note
        self.encoder = resnet18_costs(config.side) if config.resnet18 else patch_costs(config.pixels, config.context)

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
        """Training maps, drawn with replacement where there are only so many."""
        known = self.maps.count("train")
        if known is None:
            rows = torch.arange(size, device=self.device)
        else:
            rows = torch.randint(known, (size,), generator=generator, device=self.device)
        return self.look("train", rows, generator)

    def data(self, part: str) -> base.Batch:
        """Images, costs and cheapest paths of a part, drawn without replacement."""
        source = self.config.measured if part == "test" else part
        size, known = self.config.size(part), self.maps.count(source)
        if known is not None and size > known:
            raise ValueError(f"setting {part}_size={size}; there are {known} maps in that part: {self.maps.note}.")
        generator = self.generator(source)
        if known is None:
            rows = torch.arange(size, device=self.device)
        else:
            rows = torch.randperm(known, generator=generator, device=self.device)[:size]
        pieces = rows.split(max(1, 1024 * 144 // self.config.side**2))  # painting takes memory
        return tuple(torch.cat(column) for column in zip(*(self.look(source, piece, generator) for piece in pieces)))

    def look(self, part: str, rows: Tensor, generator: torch.Generator) -> base.Batch:
        """The maps of these rows of a part, as they look now."""
        return self.maps.sample(part, rows, self.generator("tiles"), generator)

    def costs(self, images: Tensor) -> Tensor:
        """What a step on each cell seems to cost.  # (B, 3, H * P, W * P) uint8 -> (B, H, W)"""
        return self.encoder(images.float() / 255)

    def cheapest(self, costs: Tensor) -> Tensor:
        """Cheapest paths, without gradient.  # (B, H, W) -> (B, H, W)"""
        oracle = Oracle(self.stopwatch.solver)
        return oracle(oracle.pack((costs,)))

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images, costs, truth = batch
        seen = self.costs(images)
        if self.loss is None:
            path = self.solve(seen)
            # On {0, 1} this is the Hamming distance, and unlike y (1 - y*) + (1 - y) y* its gradient is zero where y is right.
            loss = (path - truth).abs().flatten(1).sum(1)
        else:
            path = self.cheapest(seen.detach())
            loss = self.compare(seen, true_scores=costs, y_true=truth)
        return loss.mean(), measurements(path.detach(), costs, truth)

    def draw(self, folder: Path) -> None:
        images, costs, truth = (column[:4] for column in self.test_data)
        seen = self.costs(images)
        path = self.cheapest(seen)
        report.draw_maps(folder / "predictions.png", *(x.cpu() for x in (images, seen, costs, path, truth)))


def measurements(path: Tensor, costs: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """How good paths are, by what they cost and by the label.  # (B, H, W) x 3 -> (B,) each"""
    hamming = (path - truth).abs().flatten(1).mean(1)
    found, best = inner(costs, path, 2), inner(costs, truth, 2)
    return {
        "exact_match": found <= best * (1 + 1e-5),  # several paths may have the optimal cost
        "label_share": hamming == 0,
        "hamming": hamming,
        "regret": found - best,
        "cost_ratio": found / best,
        "cell_accuracy": 1 - hamming,
    }


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


def patch_costs(pixels: int, context: bool, width: int = 16) -> nn.Sequential:
    """Quarters of cells, then cells, for context a residual block each: small enough for two cores.

    Shapes: (B, 3, H * P, W * P) -> (B, H, W).
    """
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=False),  # the convolution scales; without a gradient to the image it is twice as fast
        convolution(3, width, pixels // 2, stride=pixels // 2),
        *([Residual(width)] if context else []),
        convolution(width, 2 * width, 2, stride=2),
        *([Residual(2 * width)] if context else []),
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
