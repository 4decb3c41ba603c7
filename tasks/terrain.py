"""Terrain maps made from random fields, and what they look like from above."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Terrain:
    """One kind of ground: what a step on it costs, its share of a map, and how its tiles are painted."""

    name: str
    cost: float
    share: float
    colour: tuple[float, float, float]
    grain: float  # size in pixels of the spots of its texture
    contrast: float


# From the valley to the top. Costs are those of the Warcraft maps of Vlastelica et al. (ICLR 2020), between 0.8 and 9.2.
# Colours lie closer together than the texture spreads, so that single pixels do not tell the terrain.
TERRAINS = (
    Terrain("water", 7.7, 0.16, (0.22, 0.38, 0.55), 2.4, 0.08),
    Terrain("sand", 1.2, 0.20, (0.58, 0.52, 0.36), 0.6, 0.09),
    Terrain("grass", 0.8, 0.28, (0.36, 0.50, 0.26), 1.0, 0.08),
    Terrain("forest", 5.3, 0.20, (0.24, 0.40, 0.20), 1.6, 0.12),
    Terrain("rock", 9.2, 0.16, (0.46, 0.45, 0.42), 2.0, 0.13),
)


def smooth(noise: Tensor, width: float) -> Tensor:
    """`noise` blurred by a Gaussian, with unit variance again, its border cut off.  # (B, H, W) -> (B, H - 2r, W - 2r)"""
    radius = blur_radius(width)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=noise.device) / width) ** 2)
    taps = taps / taps.norm()  # a sum of independent unit normals with weights of unit norm is a unit normal
    image = noise.unsqueeze(1)
    image = functional.conv2d(functional.conv2d(image, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return image.squeeze(1)


def blur_radius(width: float) -> int:
    """How many pixels `smooth` cuts off on each side."""
    return max(1, round(2.5 * width))


def field(size: int, height: int, width: int, scale: float, generator: torch.Generator) -> Tensor:
    """Smooth Gaussian random fields, features about `scale` wide.  # -> (B, H, W)"""
    r = 2 * blur_radius(scale)
    return smooth(torch.randn(size, height + r, width + r, generator=generator, device=generator.device), scale)


def terrain_maps(size: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Maps of terrain classes: large hills and small bumps, cut at shares around those of `TERRAINS`.  # -> (B, H, W) int64"""
    ground = field(size, height, width, 2.0, generator) + 0.6 * field(size, height, width, 0.8, generator)
    rank = ground.flatten(1).argsort(1).argsort(1).view_as(ground) / (height * width)  # (B, H, W) in [0, 1)
    share = torch.tensor([t.share for t in TERRAINS], device=generator.device)
    share = share * (0.6 + 0.8 * torch.rand(size, len(TERRAINS), generator=generator, device=generator.device))
    cuts = (share / share.sum(1, keepdim=True)).cumsum(1)[:, :-1]  # (B, T - 1)
    return (rank.unsqueeze(-1) >= cuts[:, None, None, :]).sum(-1)


def terrain_costs(maps: Tensor) -> Tensor:
    """What a step on each cell costs.  # (B, H, W) int64 -> (B, H, W)"""
    return torch.tensor([t.cost for t in TERRAINS], device=maps.device)[maps]


def paint_tiles(variants: int, pixels: int, generator: torch.Generator) -> Tensor:
    """Square tiles for every terrain: its colour, with spots of its grain and contrast.  # -> (T, V, 3, P, P) in [0, 1]"""
    tiles = []
    for terrain in TERRAINS:
        spots = field(variants, pixels, pixels, terrain.grain, generator).unsqueeze(1)
        tint = field(3 * variants, pixels, pixels, 1.0, generator).view(variants, 3, pixels, pixels)
        base = torch.tensor(terrain.colour, device=generator.device).view(1, 3, 1, 1)
        tiles.append(base + terrain.contrast * spots + 0.03 * tint)
    return torch.stack(tiles).clamp(0, 1)


def photograph(maps: Tensor, tiles: Tensor, generator: torch.Generator) -> Tensor:
    """Maps as images: a random tile of its terrain on each cell, the light of the day, and noise of the camera.

    Shapes: maps (B, H, W) int64, tiles (T, V, 3, P, P) -> images (B, 3, H * P, W * P) uint8.
    """
    size, height, width = maps.shape
    _, variants, _, pixels, _ = tiles.shape
    device = generator.device
    variant = torch.randint(variants, maps.shape, generator=generator, device=device)
    image = tiles[maps, variant]  # (B, H, W, 3, P, P)
    image = image.permute(0, 3, 1, 4, 2, 5).reshape(size, 3, height * pixels, width * pixels)
    light = 0.95 + 0.1 * torch.rand(size, 1, 1, 1, generator=generator, device=device)
    noise = 0.02 * torch.randn(image.shape, generator=generator, device=device)
    return (255 * (light * image + noise)).clamp(0, 255).to(torch.uint8)
