"""Pairs of keypoint sets in correspondence: made ones, those of published sets, and those of a user's official folders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from solverlayers.solvers.graph_data import delaunay_edges

from .data import DataError, require

PATCH = 16  # side in pixels of what is seen of an image around a keypoint


@dataclass(frozen=True)
class Keypoints:
    """Points `(n, 2)` of one image, and what is seen around them `(n, 3, P, P)`, nothing where there is no image."""

    points: Tensor
    patches: Tensor | None = None


@dataclass(frozen=True)
class Pair:
    """Two sets of points; row `(i, k)` of `matches (c, 2)` says that `i` of the first is `k` of the second."""

    first: Keypoints
    second: Keypoints
    matches: Tensor


class PairBatch(NamedTuple):
    """Padded pairs. Points `(B, n, 2)` have mean 0 and unit variance; edges `(B, 2, E)` are Delaunay's, padded with -1:
    first one way, then the other."""

    points1: Tensor
    points2: Tensor
    mask1: Tensor  # (B, n)
    mask2: Tensor
    edges1: Tensor
    edges2: Tensor
    patches1: Tensor  # (B, n, 3, P, P), of no size where images are not used
    patches2: Tensor
    truth: Tensor  # (B, n, m)


def pad(pairs: Sequence[Pair], images: bool = False) -> PairBatch:
    """Pairs as one batch."""
    sides = [[pair.first for pair in pairs], [pair.second for pair in pairs]]
    (points1, mask1, edges1, patches1), (points2, mask2, edges2, patches2) = (_pad_side(side, images) for side in sides)
    truth = torch.zeros(len(pairs), points1.shape[1], points2.shape[1])
    for row, pair in zip(truth, pairs):
        row[pair.matches[:, 0], pair.matches[:, 1]] = 1
    return PairBatch(points1, points2, mask1, mask2, edges1, edges2, patches1, patches2, truth)


def _pad_side(sets: Sequence[Keypoints], images: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = max(len(s.points) for s in sets)
    points = torch.zeros(len(sets), n, 2)
    mask = torch.zeros(len(sets), n, dtype=torch.bool)
    patches = torch.zeros(len(sets), n, 3, PATCH, PATCH) if images else torch.zeros(len(sets), 0)
    for index, one in enumerate(sets):
        count = len(one.points)
        points[index, :count] = normalised(one.points)
        mask[index, :count] = True
        if images:
            if one.patches is None:
                raise DataError("these keypoints have no images; set images=False, or give a data set that has them.")
            patches[index, :count] = one.patches
    return points, mask, both_ways(delaunay_edges(points, mask)), patches


def both_ways(edges: Tensor) -> Tensor:
    """Edges in two halves: those from a lower to a higher number, and the same the other way.  # (B, 2, E) -> (B, 2, E)"""
    up = edges[:, 0] < edges[:, 1]
    order = up.int().argsort(dim=1, descending=True, stable=True)[:, : int(up.sum(1).max())]
    once = edges.gather(2, order.unsqueeze(1).expand(-1, 2, -1)).masked_fill(~up.gather(1, order).unsqueeze(1), -1)
    return torch.cat([once, once.flip(1)], 2)


def normalised(points: Tensor) -> Tensor:
    """Points moved and scaled to mean 0 and unit variance.  # (n, 2) -> (n, 2) float32"""
    centred = points.double() - points.double().mean(0)
    spread = centred.pow(2).mean().sqrt()
    return (centred / spread if spread > 0 else centred).float()


# ---- made pairs ----


def synthetic(size: int, low: int, high: int, noise: float, outliers: int, generator: torch.Generator) -> list[Pair]:
    """Two views each of clouds of `low` to `high` points in space, the second in another order.

    The second is from another side, turned and stretched, with noise; up to `outliers` points of each view have no partner.
    Geometry alone, as the synthetic training pairs of Fey et al. (ICLR 2020, section 4.2), which lie in the plane.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    def whole(most: int) -> int:
        return int(torch.randint(most + 1, (1,), generator=generator))

    pairs = []
    for _ in range(size):
        n = low + whole(high - low)
        plane, depth = uniform(n, 2), uniform(n, 1)
        view = plane + 0.3 * depth * uniform(2)  # what lies deeper moves further
        angle, (stretch, shear) = 0.4 * uniform(1).item(), 0.25 * uniform(2)
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        view = view @ (turn @ torch.tensor([[1 + stretch, shear], [0, 1 - stretch]])).T
        order = torch.randperm(n, generator=generator)
        first = torch.cat([plane, 1.2 * uniform(whole(outliers), 2)])
        second = torch.cat([view[order] + noise * torch.randn(n, 2, generator=generator), 1.2 * uniform(whole(outliers), 2)])
        matches = torch.stack([order, torch.arange(n)], 1)
        pairs.append(Pair(Keypoints(first), Keypoints(second), matches))
    return pairs


# ---- published sets ----


def same_order(sets: Iterable[Tensor], pairs: Iterable[tuple[int, int]]) -> list[Pair]:
    """Pairs of sets whose points have the same order."""
    points = [torch.as_tensor(s) for s in sets]
    return [Pair(Keypoints(points[i]), Keypoints(points[k]), _identity(len(points[i]))) for i, k in pairs]


def _identity(count: int) -> Tensor:
    return torch.arange(count)[:, None].expand(-1, 2)


@lru_cache(maxsize=4)
def _arrays(file: str, source: str) -> dict[str, np.ndarray]:
    with np.load(require("graph_matching", file, source)) as stored:
        return dict(stored)


def frames(name: str, gap: int) -> list[Pair]:
    """The `"house"` or the `"hotel"` of CMU, frames that lie `gap` apart; 30 points each (Caetano et al., 2009)."""
    sets = _arrays("cmu_house_hotel.npz", "the CMU VASC sequences with the landmarks of Caetano et al., 2009")[name]
    return same_order(sets, [(i, i + gap) for i in range(len(sets) - gap)])


WILLOW = ("duck", "winebottle")


def willow(name: str, part: str, seed: int = 0) -> list[Pair]:
    """Pairs of images of a class of WILLOW-ObjectClass (Cho et al., 2013), 10 points each.

    20 images, drawn by the seed, are for training, `part="train"`: all ordered pairs. The others are the test: every pair once.
    """
    sets = _willow(name, seed)
    if part == "train":
        return same_order(sets[:20], [(i, k) for i in range(20) for k in range(20) if i != k])
    rest = sets[20:]
    return same_order(rest, [(i, k) for i in range(len(rest)) for k in range(i + 1, len(rest))])


def _willow(name: str, seed: int) -> list[Tensor]:
    stored = _arrays("willow_duck_winebottle.npz", "WILLOW-ObjectClass, https://www.di.ens.fr/willow/research/graphlearning")
    return [normalised(torch.from_numpy(points)) for points in np.random.default_rng(seed).permutation(stored[name])]


def blended(name: str, size: int, seed: int, generator: torch.Generator) -> list[Pair]:
    """Pairs of shapes between, and a little beyond, those of the training images of a class of Willow, stretched at random.

    20 images show few of the poses of their kind; the line through two of them holds others.
    """
    shapes = torch.stack(_willow(name, seed)[:20])

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    chosen = torch.randint(20, (2, 2, size), generator=generator)
    share = 0.5 + 0.8 * uniform(2, size, 1, 1)
    sides = share * shapes[chosen[0]] + (1 - share) * shapes[chosen[1]]  # (2, size, n, 2)
    sides = sides @ (torch.eye(2) + 0.25 * uniform(2, size, 2, 2))
    return [Pair(Keypoints(a), Keypoints(b), _identity(shapes.shape[1])) for a, b in zip(*sides)]


def vehicles(kind: str, outliers: int) -> list[Pair]:
    """The pairs of `"car"` or `"motor"` images of Leordeanu et al. (2012), on each side this many points without partner."""
    stored = _arrays("cars_motorbikes.npz", "the cars and motorbikes of Leordeanu, Sukthankar & Hebert, 2012")
    names = sorted(key[:-3] for key in stored if key.startswith(kind) and key.endswith("_p1"))
    pairs = []
    for name in names:
        inliers = int(stored[f"{name}_ninlier"])
        sides = [torch.from_numpy(stored[f"{name}_p{side}"][: inliers + outliers, :2].copy()) for side in (1, 2)]
        pairs.append(Pair(Keypoints(sides[0]), Keypoints(sides[1]), _identity(inliers)))
    return pairs


def pf_pascal() -> list[Pair]:
    """The 194 test pairs of PF-PASCAL (Ham et al., 2018), 4 to 17 points each, 20 classes."""
    file = require(
        "graph_matching",
        "pf_pascal_pairs.csv",
        "the test pairs of PF-PASCAL, https://www.di.ens.fr/willow/research/proposalflow",
    )
    pairs = []
    for line in file.read_text().splitlines()[1:]:
        numbers = [torch.tensor([float(x) for x in column.split(";")]) for column in line.split(",")[4:8]]
        first, second = torch.stack(numbers[:2], 1), torch.stack(numbers[2:], 1)
        pairs.append(Pair(Keypoints(first), Keypoints(second), _identity(len(first))))
    return pairs


# ---- official folders of a user ----


def read_spair(folder: Path, part: str, images: bool) -> list[Pair]:
    """SPair-71k (Min et al., 2019) as it is distributed: `PairAnnotation/{trn,test}/*.json` and `JPEGImages/CLASS/*.jpg`."""
    listed = sorted((folder / "PairAnnotation" / {"train": "trn", "test": "test"}[part]).glob("*.json"))
    if not listed:
        raise DataError(f"{folder} holds no SPair-71k: there is nothing in PairAnnotation/.")
    pairs = []
    for file in listed:
        pair = json.loads(file.read_text())
        sides = []
        for side in ("src", "trg"):
            points = torch.tensor(pair[f"{side}_kps"], dtype=torch.float64)
            picture = folder / "JPEGImages" / pair["category"] / pair[f"{side}_imname"]
            sides.append(Keypoints(points, cut_patches(picture, points) if images else None))
        pairs.append(Pair(sides[0], sides[1], _identity(len(sides[0].points))))
    return pairs


def read_voc(folder: Path, part: str, images: bool, pairs_per_class: int = 1000, seed: int = 0) -> list[Pair]:
    """Pascal VOC with the keypoints of Berkeley (Bourdev & Malik, 2009) as they are distributed: `annotations/CLASS/*.xml` and
    `JPEGImages/*.jpg`.

    Pairs of objects of a class, drawn with a seed, with the keypoints that both have (at least 3). Every fifth object by name
    is for the test. `truncated` and `occluded` marks are not in these files, so no object is left out for them.
    """
    random = np.random.default_rng(seed)
    pairs: list[Pair] = []
    folders = sorted(path for path in (folder / "annotations").glob("*") if path.is_dir())
    if not folders:
        raise DataError(f"{folder} holds no keypoints of Pascal VOC: there is nothing in annotations/.")
    for kind in folders:
        files = [f for index, f in enumerate(sorted(kind.glob("*.xml"))) if (index % 5 == 4) == (part == "test")]
        objects = [(name, points) for name, points in map(_voc_object, files) if len(points) >= 3]
        every = [(i, k) for i in range(len(objects)) for k in range(len(objects)) if i != k]
        chosen = random.permutation(len(every))[:pairs_per_class]
        pairs += filter(
            None, (_voc_pair(folder, objects[i], objects[k], images) for i, k in (every[c] for c in sorted(chosen)))
        )
    return pairs


Named = tuple[str, dict[str, tuple[float, float]]]


def _voc_object(file: Path) -> Named:
    """The image of an annotated object, and its visible keypoints by name."""
    root = ElementTree.parse(file).getroot()
    seen = [k for k in root.iter("keypoint") if k.get("visible", "1") == "1"]
    return root.findtext("image", ""), {k.attrib["name"]: (float(k.attrib["x"]), float(k.attrib["y"])) for k in seen}


def _voc_pair(folder: Path, first: Named, second: Named, images: bool) -> Pair | None:
    common = sorted(first[1].keys() & second[1].keys())
    if len(common) < 3:
        return None
    sides = []
    for name, found in (first, second):
        points = torch.tensor([found[key] for key in common], dtype=torch.float64)
        sides.append(Keypoints(points, cut_patches(folder / "JPEGImages" / f"{name}.jpg", points) if images else None))
    return Pair(sides[0], sides[1], _identity(len(common)))


def cut_patches(file: Path, points: Tensor) -> Tensor:
    """What is seen around the points of an image, a tenth of its longer side wide.  # (n, 2) -> (n, 3, P, P) in [0, 1]"""
    from PIL import Image

    with Image.open(file) as opened:
        image = opened.convert("RGB")
    half = max(image.size) / 20
    patches = []
    for x, y in points.tolist():
        box = (x - half, y - half, x + half, y + half)
        cut = image.transform((PATCH, PATCH), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        patches.append(torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1) / 255)
    return torch.stack(patches)


def published(seed: int = 0) -> dict[str, Callable[[], list[Pair]]]:
    """The test sets by name; the frame gaps are all tens, and the seed is that of the split of Willow."""
    sets: dict[str, Callable[[], list[Pair]]] = {f"willow_{name}": partial(willow, name, "test", seed) for name in WILLOW}
    sets["pf_pascal"] = pf_pascal
    for scene in ("house", "hotel"):
        sets |= {f"{scene}_gap{gap}": partial(frames, scene, gap) for gap in range(10, 101, 10)}
    for kind in ("car", "motor"):
        sets |= {f"{kind}_outliers{count}": partial(vehicles, kind, count) for count in (0, 10, 20)}
    return sets
