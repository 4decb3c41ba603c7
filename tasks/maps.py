"""Where the maps of the shortest-path task come from: made ones, terrain of real maps, and the Warcraft set of the authors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from solverlayers.solvers import GridShortestPath

from .data import DataError, require
from .terrain import TERRAINS, paint_tiles, photograph, terrain_costs, terrain_maps

Sample = tuple[Tensor, Tensor, Tensor]
"""Images (B, 3, H * P, W * P) uint8, costs of cells (B, H, W), cheapest paths (B, H, W)."""

SOURCE = "terrain of community maps from github.com/Wargus/wargus, GPL-2.0-or-later"
HELD_OUT = {"(2)one-way-through": "val", "(6)canyon-way": "test", "(4)coastal-crusade": "test"}  # by part; all others train
CROPS = {"train": 4_000, "val": 500, "test": 500}  # as many as there are of 12 x 12


@dataclass(frozen=True)
class Maps(ABC):
    """A source of maps of `side` by `side` cells, seen in `pixels` by `pixels` pixels each."""

    side: int
    pixels: int
    variants: int  # tiles for one terrain, where the images are painted here
    folder: str  # of files of the user

    changes: ClassVar[bool] = True
    """Whether a map looks new each time, on other tiles and in another light."""

    @property
    def note(self) -> str | None:
        """What the data are, None where they are made."""
        return None

    def count(self, part: str) -> int | None:
        """How many maps a part has; None for as many as one asks for."""
        return None

    @abstractmethod
    def sample(self, part: str, rows: Tensor, tiles: torch.Generator, generator: torch.Generator) -> Sample:
        """Maps of a part, those of these rows; `tiles` starts alike for all maps, which share them."""


class Painted(Maps):
    """Maps of terrain classes, seen by tiles that are painted here."""

    @abstractmethod
    def classes(self, part: str, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The terrain of each cell, an index of `TERRAINS`.  # (B,) -> (B, H, W) int64"""

    def sample(self, part: str, rows: Tensor, tiles: torch.Generator, generator: torch.Generator) -> Sample:
        maps = self.classes(part, rows, generator)
        costs = terrain_costs(maps)
        painted = paint_tiles(self.variants, self.pixels, tiles)
        return photograph(maps, painted, generator), costs, GridShortestPath()(costs)


class Made(Painted):
    """Maps from random fields."""

    def classes(self, part: str, rows: Tensor, generator: torch.Generator) -> Tensor:
        return terrain_maps(len(rows), self.side, self.side, generator)


class Crops(Painted):
    """Crops of maps that people made for a game; no map has crops in more than one part."""

    @property
    def note(self) -> str:
        return (
            f"{self.side} x {self.side} crops of {SOURCE}, on painted tiles, split by map: a substitute for the Warcraft maps"
        )

    def count(self, part: str) -> int:
        return len(terrain_crops(part, self.side))

    def classes(self, part: str, rows: Tensor, generator: torch.Generator) -> Tensor:
        return terrain_crops(part, self.side).to(rows.device)[rows].long()


class Warcraft(Maps):
    """The maps of Vlastelica et al. (ICLR 2020), from the authors' files."""

    changes = False

    @property
    def note(self) -> str:
        return f"{self.side} x {self.side} Warcraft maps of Vlastelica et al. (2020)"

    def count(self, part: str) -> int:
        return len(self._arrays(part)[0])

    def _arrays(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return warcraft_arrays(self._home(), part, self.side, self.pixels)

    def _home(self) -> Path:
        size = f"{self.side}x{self.side}"
        if self.folder:
            return Path(self.folder) / size
        where = "the authors' archive, doi.org/10.17617/3.YJCQ5S; or name the folder above its files with folder=..."
        return require("warcraft_maps", f"{size}/train_maps.npy", where).parent

    def sample(self, part: str, rows: Tensor, tiles: torch.Generator, generator: torch.Generator) -> Sample:
        chosen = rows.cpu().numpy()
        images, costs, paths = (torch.from_numpy(array[chosen]).to(rows.device) for array in self._arrays(part))
        return images.permute(0, 3, 1, 2), costs.float(), paths.float()


MAPS: dict[str, type[Maps]] = {"made": Made, "terrain": Crops, "warcraft": Warcraft}


@lru_cache(maxsize=4)
def terrain_crops(part: str, side: int) -> Tensor:
    """Crops of real maps, as indices of `TERRAINS`: the stored ones of 12 x 12, else cut here.  # -> (N, side, side) uint8"""
    if side == 12:
        with np.load(require("terrain_maps", "terrain_sp_12x12.npz", SOURCE)) as stored:
            names, maps = stored["class_names"].tolist(), stored[f"{part}_class"]
    else:
        with np.load(require("terrain_maps", "wargus_maps.npz", SOURCE)) as stored:
            names = ["grass", "earth", "forest", "water", "rock"]
            known = {key.removeprefix("class__"): stored[key] for key in sorted(stored.files) if key.startswith("class__")}
        whole = [terrain for name, terrain in known.items() if HELD_OUT.get(name, "train") == part]
        maps = cut(whole, side, CROPS[part], np.random.default_rng(side))
    order = {terrain.name: index for index, terrain in enumerate(TERRAINS)} | {
        "earth": [t.name for t in TERRAINS].index("sand")
    }
    return torch.tensor([order[name] for name in names], dtype=torch.uint8)[torch.from_numpy(maps).long()]


def cut(maps: list[np.ndarray], side: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Square crops at random places of maps, none of a single terrain; larger maps have more.  # -> (N, side, side)"""
    room = np.array([max(0, h - side + 1) * max(0, w - side + 1) for h, w in (terrain.shape for terrain in maps)])
    if not room.any():
        raise DataError(
            f"no map has {side} x {side} cells; the largest are {max(min(terrain.shape) for terrain in maps)} high."
        )
    crops: list[np.ndarray] = []
    while len(crops) < count:
        terrain = maps[random.choice(len(maps), p=room / room.sum())]
        i, j = (random.integers(length - side + 1) for length in terrain.shape)
        crop = terrain[i : i + side, j : j + side]
        if crop.min() < crop.max():
            crops.append(crop)
    return np.stack(crops)


@lru_cache(maxsize=2)
def warcraft_arrays(folder: Path, part: str, side: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images `(N, H * P, W * P, 3)` uint8, costs and paths `(N, H, W)` of a part, left on the disk until they are read."""
    found = []
    edge = side * pixels
    for name, shape in {"maps": (edge, edge, 3), "vertex_weights": (side, side), "shortest_paths": (side, side)}.items():
        file = folder / f"{part}_{name}.npy"
        if not file.exists():
            raise DataError(f"there is no {file}; a folder of {side} x {side} maps has train_, val_ and test_{name}.npy.")
        array = np.load(file, mmap_mode="r")
        if array.shape[1:] != shape:
            raise DataError(f"{file} holds arrays of shape {array.shape[1:]}; expected {shape} (side={side}, pixels={pixels}).")
        found.append(array)
    if len({len(array) for array in found}) > 1:
        raise DataError(
            f"{folder}: the {part} files hold {', '.join(str(len(array)) for array in found)} maps, not as many each."
        )
    return found[0], found[1], found[2]
