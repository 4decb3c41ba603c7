"""Input augmentation of images: Patch Gaussian and the two that it lies between.

Each is called with images `(B, C, H, W)` in [0, 1] and returns such; every image gets noise of its own, from torch's generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from . import specs


class Augmentation(ABC):
    """Images to images of the same classes."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Augmented images.  # (B, C, H, W) in [0, 1] -> (B, C, H, W) in [0, 1]"""


@dataclass(frozen=True)
class PatchGaussian(Augmentation):
    """Gaussian noise inside one square (Lopes et al., 2019): `clip(x + mask * N(0, s^2))` with `s` uniform in (0, sigma).

    The square is `size` pixels wide and its centre is uniform over the pixels, so that its part outside the image is lost. A
    size of twice the image is noise everywhere, a large sigma is nearly Cutout. The paper: size 25 and sigma 0.1 for CIFAR-10
    with a WideResNet.
    """

    size: int = 25
    sigma: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "size", "sigma")

    def __call__(self, images: Tensor) -> Tensor:
        noise = _noise(images, self.sigma)
        return torch.where(patches(images, self.size), images + noise, images).clamp(0, 1)


@dataclass(frozen=True)
class GaussianNoise(Augmentation):
    """Gaussian noise in all pixels: `clip(x + N(0, s^2))` with `s` uniform in (0, sigma)."""

    sigma: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "sigma")

    def __call__(self, images: Tensor) -> Tensor:
        return (images + _noise(images, self.sigma)).clamp(0, 1)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """One square of `size` pixels set to 0 (DeVries & Taylor, 2017), placed as that of `PatchGaussian`."""

    size: int = 16

    def __post_init__(self) -> None:
        _positive(self, "size")

    def __call__(self, images: Tensor) -> Tensor:
        return images.masked_fill(patches(images, self.size), 0)


AUGMENTATIONS: dict[str, type[Augmentation]] = {specs.spec_name(kind): kind for kind in (PatchGaussian, GaussianNoise, Cutout)}


def make_augmentation(spec: str) -> Augmentation | None:
    """The augmentation that `spec` names, None for "none".

    >>> make_augmentation("patch_gaussian(size=16, sigma=0.5)")
    PatchGaussian(size=16, sigma=0.5)
    """
    return None if spec.lower() == "none" else specs.make("augmentation", spec, AUGMENTATIONS)


def patches(images: Tensor, size: int) -> Tensor:
    """One square per image, cut off at the borders: where it lies.  # (B, C, H, W) -> (B, 1, H, W)"""
    inside = []
    for length in images.shape[2:]:
        first = torch.randint(length, (len(images), 1), device=images.device) - size // 2
        pixel = torch.arange(length, device=images.device)
        inside.append((pixel >= first) & (pixel < first + size))
    return (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)


def _noise(images: Tensor, sigma: float) -> Tensor:
    scale = sigma * torch.rand(len(images), 1, 1, 1, device=images.device)
    return scale * torch.randn_like(images)


def _positive(augmentation: Augmentation, *names: str) -> None:
    for name in names:
        value = getattr(augmentation, name)
        if not value > 0:
            raise ValueError(f"{type(augmentation).__name__}: {name}={value!r}; it must be positive.")
