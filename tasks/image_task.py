"""What tasks on images share: which images, and how many of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import base
from .images import IMAGE_SETS, load_images
from .specs import choose


class Facts(NamedTuple):
    """What a network must know of a data set before it is read."""

    shape: tuple[int, int, int]  # of an image, (C, H, W)
    classes: int


FACTS = {name: Facts((1, 28, 28), 10) for name in IMAGE_SETS}
FACTS |= {"omniglot": Facts((1, 28, 28), 1623), "cifar10": Facts((3, 32, 32), 10)}


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings of a task on images: `train_size` and `test_size` images are drawn from the data set, by the seed."""

    fresh: bool = False
    dataset: str = "mnist"  # one of `images.IMAGE_SETS`

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dataset", choose("image data set", self.dataset, IMAGE_SETS))
        if self.fresh:
            raise ValueError("setting fresh=True; there are only so many images, so it must be False.")

    @property
    def facts(self) -> Facts:
        return FACTS[self.dataset]


class ImageTask(base.Task):
    """A task whose instances are images (B, C, H, W) uint8 with their classes (B,)."""

    def data(self, part: str) -> base.Batch:
        """Images drawn without replacement from a part of the data set, with their classes."""
        found = load_images(self.config.dataset)
        images, labels = (found.train, found.train_labels) if part == "train" else (found.test, found.test_labels)
        size = self.config.size(part)
        if size > len(images):
            raise ValueError(f"setting {part}_size={size}; {found.note} has {len(images)} images in that part.")
        self.note = found.note
        chosen = torch.randperm(len(images), generator=self.generator("images", part), device=self.device)[:size].cpu()
        return images[chosen].to(self.device), labels[chosen].to(self.device)

    @staticmethod
    def pixels(images: Tensor) -> Tensor:
        """Bytes as numbers in [0, 1].  # (B, C, H, W) uint8 -> (B, C, H, W)"""
        return images.float() / 255
