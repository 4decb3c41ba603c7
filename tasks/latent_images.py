"""What tasks share that decode images from hard codes: networks, and the loss of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import image_task


@dataclass(frozen=True, kw_only=True)
class Config(image_task.Config):
    """Settings of autoencoders whose codes are groups of entries."""

    batch: int = 100
    lr: float = 1e-3
    one_cycle: bool = False
    hidden: tuple[int, ...] = (512, 256)  # units of the encoder; the decoder has them in reverse
    leak: float = 0.0  # slope of a hidden unit below zero
    mean_start: bool = True  # the decoder starts at the mean image


def network(sizes: tuple[int, ...], leak: float) -> nn.Sequential:
    """Linear layers with rectifiers between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(leak)]
    return nn.Sequential(*layers[:-1])


def start_at(mean: Tensor, last: nn.Module) -> None:
    """Has the last linear layer of a decoder give the logits of the mean image before it learns from codes.

    Without that the first steps of training are spent on the mean, and wipe out most of the code.  # (pixels,)
    """
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.copy_(mean.clamp(1e-3, 1 - 1e-3).logit())


class LatentImages(image_task.ImageTask):
    """Images -> scores of groups of entries -> hard codes -> logits of pixels."""

    def __init__(self, config: Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        pixels, width = (torch.Size(shape).numel() for shape in (config.facts.shape, self.code_shape(config)))
        self.encoder = network((pixels, *config.hidden, width), config.leak)
        self.decoder = network((width, *reversed(config.hidden), pixels), config.leak)

    @staticmethod
    def code_shape(config: Config) -> tuple[int, int]:
        """The shape of an image's code: groups, and entries of a group."""
        raise NotImplementedError

    def start(self) -> None:
        if self.config.mean_start:
            start_at(self.pixels(self.data("train")[0]).mean(0).flatten(), self.decoder[-1])

    def encode(self, images: Tensor) -> Tensor:
        """Scores of the groups.  # (B, C, H, W) uint8 -> (B, groups, entries)"""
        return self.encoder(self.pixels(images).flatten(1)).unflatten(-1, self.code_shape(self.config))

    def decode(self, codes: Tensor) -> Tensor:
        """Logits of pixels.  # (*S, B, groups, entries) -> (*S, B, pixels)"""
        return self.decoder(codes.flatten(-2))

    def show(self, codes: Tensor) -> Tensor:
        """The images that codes stand for, in [0, 1].  # (B, groups, entries) -> (B, C, H, W)"""
        return self.decode(codes).sigmoid().unflatten(-1, self.config.facts.shape)

    def distortion(self, codes: Tensor, images: Tensor) -> Tensor:
        """The cross-entropy of an image's pixels, summed, in nats.  # (*S, B, groups, entries), (B, C, H, W) -> (*S, B)"""
        logits = self.decode(codes)
        target = self.pixels(images).flatten(1).expand_as(logits)
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
