"""What tasks share that put grey images through hard latents: data, networks, the loss of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import base
from .data import DataError
from .images import load_images

SIDE = 28
PIXELS = SIDE * SIDE


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings of autoencoders with hard latents."""

    dataset: str = "mnist"  # or mnist_binarized, fashion_mnist, omniglot
    hidden: tuple[int, ...] = (512, 256)  # units of the encoder; the decoder has them in reverse
    leak: float = 0.0  # slope of a hidden unit below zero


def network(sizes: tuple[int, ...], leak: float) -> nn.Sequential:
    """Linear layers with rectifiers between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(leak)]
    return nn.Sequential(*layers[:-1])


class LatentImages(base.Task):
    """Pixels -> scores of `shape(config)`-ed groups -> a hard code -> logits of pixels."""

    def __init__(self, config: Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        width = torch.Size(self.code_shape(config)).numel()
        self.encoder = network((PIXELS, *config.hidden, width), config.leak)
        self.decoder = network((width, *reversed(config.hidden), PIXELS), config.leak)

    @staticmethod
    def code_shape(config: Config) -> tuple[int, int]:
        """The shape of an image's code: groups, and entries of a group."""
        raise NotImplementedError

    def data(self, part: str) -> base.Batch:
        images = load_images(self.config.dataset)
        self.note = images.note
        chosen, size = (images.train, self.config.train_size) if part == "train" else (images.test, self.config.test_size)
        if chosen.shape[1:] != (1, SIDE, SIDE) or len(chosen) < size:
            raise DataError(
                f"{self.config.dataset} has {len(chosen)} {part} images of shape {tuple(chosen.shape[1:])}; needed are {size} of "
                f"shape (1, {SIDE}, {SIDE}). Choose another data set or {part}_size."
            )
        return (chosen[:size].flatten(1).to(self.device),)

    def encode(self, pixels: Tensor) -> Tensor:
        """Scores of the groups.  # (B, PIXELS) uint8 -> (B, groups, entries)"""
        return self.encoder(pixels / 255).unflatten(-1, self.code_shape(self.config))

    def decode(self, codes: Tensor) -> Tensor:
        """Logits of pixels.  # (*S, B, groups, entries) -> (*S, B, PIXELS)"""
        return self.decoder(codes.flatten(-2))

    def distortion(self, codes: Tensor, pixels: Tensor) -> Tensor:
        """The cross-entropy of the pixels of an image, summed, in nats.  # (*S, B, groups, entries), (B, PIXELS) -> (*S, B)"""
        logits = self.decode(codes)
        target = (pixels / 255).expand_as(logits)
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
