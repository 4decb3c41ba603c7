"""Corrupted images, to measure how robust a classifier is.

In the style of CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019): single corruptions of unseen images, each at severities 1 to 5.
The formulas and severities are our own, for images of about 28 pixels, and are not those of CIFAR-10-C.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

SEVERITIES = range(1, 6)


def gaussian_noise(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """`x + N(0, s^2)`."""
    sigma = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    return images + sigma * torch.randn(images.shape, generator=generator, device=images.device)


def shot_noise(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """`Poisson(x n) / n`: few photons, `n` for a white pixel."""
    photons = (40, 20, 10, 5, 2)[severity - 1]
    return torch.poisson(images * photons, generator=generator) / photons


def impulse_noise(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """A share of the pixels is black or white, as chance has it."""
    share = (0.03, 0.06, 0.12, 0.2, 0.3)[severity - 1]
    shape = (len(images), 1, *images.shape[2:])  # all colours of a pixel at once
    chance = torch.rand(shape, generator=generator, device=images.device)
    return torch.where(chance < share, (chance < share / 2).to(images.dtype), images)


def blur(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Convolution with a Gaussian, images reflected at their borders."""
    sigma = (0.5, 0.75, 1.0, 1.5, 2.0)[severity - 1]
    reach = int(3 * sigma + 0.5)
    place = torch.arange(-reach, reach + 1, device=images.device)
    weights = (-0.5 * (place / sigma) ** 2).exp().to(images.dtype)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    padded = functional.pad(images, (reach,) * 4, mode="reflect")
    rows = functional.conv2d(padded, weights, groups=images.shape[1])
    return functional.conv2d(rows, weights.mT, groups=images.shape[1])


def contrast(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """`m + c (x - m)` around the mean `m` of each colour."""
    left = (0.7, 0.5, 0.35, 0.25, 0.15)[severity - 1]
    mean = images.mean((2, 3), keepdim=True)
    return mean + left * (images - mean)


def brightness(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """`x + b`."""
    return images + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]


def pixelate(images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Means over blocks of pixels."""
    block = (2, 3, 4, 5, 6)[severity - 1]
    means = functional.avg_pool2d(images, block, ceil_mode=True)
    height, width = images.shape[2:]
    return means.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width]


Corruption = Callable[[Tensor, int, Generator], Tensor]
CORRUPTIONS: dict[str, Corruption] = {
    kind.__name__: kind for kind in (gaussian_noise, shot_noise, impulse_noise, blur, contrast, brightness, pixelate)
}


def corrupt(name: str, images: Tensor, severity: int, generator: Generator) -> Tensor:
    """Images after one of `CORRUPTIONS`, at a severity from 1 to 5; clipped.  # (B, C, H, W) in [0, 1] -> the same

    >>> corrupt("brightness", torch.tensor([[[[0.0, 0.9]]]]), 2, torch.Generator())
    tensor([[[[0.2000, 1.0000]]]])
    """
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}; it is one of {', '.join(map(str, SEVERITIES))}.")
    return CORRUPTIONS[name](images, severity, generator).clamp(0, 1)
