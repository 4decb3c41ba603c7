"""Match the keypoints of two images: deep graph matching after Rolínek et al. (ECCV 2020), on geometry or with images.

Message passing on Delaunay graphs gives vertices and edges features; their inner products are scores of pairs of vertices and
of pairs of edges; the solver matches; the loss is the Hamming distance to the true matching. Trained on made clouds of points,
or on real pairs, and measured at the end on all published sets that are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from solverlayers import Solver
from solverlayers.autograd import watch_gradient
from solverlayers.relaxations import Sinkhorn
from solverlayers.solvers import GraphMatching as Solve
from solverlayers.solvers import MaxAssignment
from solverlayers.solvers.graph_data import pair_mask

from . import base, keypoints, report
from .data import DataError
from .keypoints import PATCH, Pair, PairBatch
from .specs import choose

SOURCES = ("synthetic", "willow", "spair", "voc")


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings; the paper's are those of the authors' code, martius-lab/blackbox-deep-graph-matching."""

    epochs: int = 10  # paper 10
    batch: int = 16  # pairs; paper 8
    lr: float = 2e-3  # of Adam; paper 2e-3, halved every 2 epochs
    one_cycle: bool = True
    train_size: int = 1_000  # pairs in an epoch; paper 16,000
    fresh: bool = False
    test_size: int = 200  # pairs
    source: str = "synthetic"  # of training pairs: synthetic, willow, spair, voc, or several in equal parts, synthetic+willow
    folder: str = ""  # that of spair or voc
    images: bool = False  # see what is around a keypoint, by a small network of its own; paper: a pretrained VGG16
    low: int = 8  # made points of a pair, at least
    high: int = 20  # and at most
    noise: float = 0.04  # of made points, which lie between -1 and 1
    outliers: int = 2  # made points without partner on each side, at most
    turn: float = 0.3  # training pairs are turned by up to this angle, each side on its own,
    jitter: float = 0.1  # and their points moved by this much, in units of their spread
    partial: bool = False  # points may stay without partner
    edges: bool = True  # False: the assignment of the scores of vertices alone, a baseline
    margin: float = 1.0  # the informed margin of the paper: true pairs lose half of it in training, others gain it
    width: int = 48  # of features
    layers: int = 3  # of message passing
    restarts: int = 1  # of the solver, while training; published sets are matched with its own settings
    iterations: int = 5  # of its Frank-Wolfe steps

    def __post_init__(self) -> None:
        super().__post_init__()
        sources = [choose("source of keypoints", name, SOURCES) for name in self.source.split("+")]
        object.__setattr__(self, "source", "+".join(sources))
        if self.images and not {"spair", "voc"}.issuperset(sources):
            raise ValueError(f"setting images=True; there are no images with source={self.source!r}.")
        if self.partial and not self.edges:
            raise ValueError("settings partial=True and edges=False; the assignment matches all points of the smaller set.")
        if not {"spair", "voc"}.isdisjoint(sources) and not self.folder:
            raise ValueError(f"setting source={self.source!r} needs the folder of the data set: --set folder=DIR.")


class GraphMatching(base.Task):
    """Points -> message passing -> scores of vertices and edges -> matching."""

    presets = {
        "quick": Config(),
        "paper": Config(batch=8, train_size=16_000, one_cycle=False, source="voc", folder="VOC2011", images=True, width=256),
    }
    default_rule = "blackbox(step=80)"
    headline = "accuracy"
    columns = ("accuracy", "exact_match", "hamming", "willow", "house_gap100", "hotel_gap100", "pf_pascal", "loss", "moved")

    def __init__(self, config: Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        if any(True for _ in self.layer.rule.parameters()):
            raise ValueError(
                f"{self.layer.rule!r} learns from scores of one shape, and graphs differ in size; choose another rule."
            )
        self.network = Affinities(config)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        if config.edges:
            return Solve(partial=config.partial, restarts=config.restarts, iterations=config.iterations, exchanges=10)
        return MaxAssignment()

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.high, config.high)  # of vertices; graphs differ, and rules that learn are refused

    def make_schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        if self.config.one_cycle:
            return super().make_schedule(optimizer)
        return torch.optim.lr_scheduler.StepLR(optimizer, 2 * self.steps, gamma=0.5)

    def data(self, part: str) -> base.Batch:
        """Pairs of a part; there are as many as the settings say, taken again where the source has fewer."""
        c = self.config
        size = c.size(part)
        generator = torch.Generator().manual_seed(self.generator("pairs", part).initial_seed())
        sources = [self.pairs(name, part, -(-size // len(c.source.split("+"))), generator) for name in c.source.split("+")]
        for name, pairs in zip(c.source.split("+"), sources):
            if not pairs:
                raise DataError(f"keypoints of {name}: no pairs for the {part} in {c.folder}.")
        orders = [torch.randperm(len(pairs), generator=generator).tolist() for pairs in sources]
        turns = range(-(-size // len(sources)))
        chosen = [pairs[order[i % len(pairs)]] for i in turns for pairs, order in zip(sources, orders)]
        return tuple(column.to(self.device) for column in keypoints.pad(chosen[:size], c.images))

    def pairs(self, source: str, part: str, size: int, generator: torch.Generator) -> Sequence[Pair]:
        """The pairs of a part of a source; `size` of them where they are made."""
        c = self.config
        if source == "synthetic":
            return keypoints.synthetic(size, c.low, c.high, c.noise, c.outliers, generator)
        if source == "willow":
            self.note = "WILLOW-ObjectClass, duck and winebottle alone (a substitute for its 5 classes)"
            if part == "train":
                kinds = [keypoints.blended(name, -(-size // 2), self.seed, generator) for name in keypoints.WILLOW]
                return [pair for both in zip(*kinds) for pair in both]
            return [pair for name in keypoints.WILLOW for pair in keypoints.willow(name, part, self.seed)]
        self.note = f"keypoints of {source}"
        return {"spair": keypoints.read_spair, "voc": keypoints.read_voc}[source](Path(c.folder), part, c.images)

    def moved(self, points: Tensor) -> Tensor:
        """Every set of points turned by an angle of its own, every point moved a little.  # (B, n, 2) -> (B, n, 2)"""
        angle = self.config.turn * (2 * torch.rand(len(points), 1, generator=self.stream, device=points.device) - 1)
        sine, cosine = angle.sin(), angle.cos()
        turned = torch.stack(
            [cosine * points[..., 0] - sine * points[..., 1], sine * points[..., 0] + cosine * points[..., 1]], -1
        )
        return turned + self.config.jitter * torch.randn(points.shape, generator=self.stream, device=points.device)

    def match(self, pairs: PairBatch, solver: Solve | None = None) -> tuple[Tensor, Tensor]:
        """The matchings, by another solver if one is given, and the scores of vertices.  # -> (B, n, m), (B, n, m)"""
        vertices, edges = self.network(pairs)
        scores = vertices
        if self.training:
            scores = vertices + self.config.margin * (0.5 - pairs.truth)
            scores = watch_gradient(scores, self.note_gradient)
        mask = pair_mask(pairs.mask1, pairs.mask2)
        if not self.config.edges:
            return self.layer(scores, mask=mask), vertices
        once = pairs.edges1[..., : edges.shape[1]]
        y, _ = (solver or self.layer)(scores, edges, edge_index1=once, edge_index2=pairs.edges2, mask=mask)
        return y, vertices

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = PairBatch(*batch)
        if self.training:
            pairs = pairs._replace(points1=self.moved(pairs.points1), points2=self.moved(pairs.points2))
        self.agreement = torch.full((len(pairs.truth),), torch.nan, device=self.device)
        y, _ = self.match(pairs)
        wrong = (y - pairs.truth).abs().flatten(1).sum(1)
        return wrong.mean(), {"exact_match": wrong.detach() == 0, **scored(y.detach(), pairs)}

    # ---- measured once ----

    def evaluate(self, pairs: Sequence[Pair]) -> dict[str, float]:
        """Accuracy on pairs: ours, and of the same scores of vertices by assignment and by Sinkhorn's iteration alone."""
        ways: dict[str, list[Tensor]] = {"": [], "_assignment": [], "_sinkhorn": []}
        for start in range(0, len(pairs), 64):
            padded = keypoints.pad(pairs[start : start + 64])
            batch = PairBatch(*(column.to(self.device) for column in padded))
            y, vertices = self.match(batch, Solve(partial=self.config.partial))  # which searches longer than in training
            mask = pair_mask(batch.mask1, batch.mask2)
            ways[""].append(scored(y, batch)["accuracy"])
            ways["_assignment"].append(scored(MaxAssignment()(vertices, mask=mask), batch)["accuracy"])
            ways["_sinkhorn"].append(scored(sinkhorn_rows(vertices, mask), batch)["accuracy"])
        return {way: float(torch.cat(found).mean()) for way, found in ways.items()}

    @torch.no_grad()
    def finish(self) -> dict[str, float]:
        """Accuracy on every published set at hand, and on both classes of Willow together."""
        if self.config.images:  # they have none
            return {}
        found: dict[str, float] = {}
        for name, load in keypoints.published(self.seed).items():
            try:
                pairs = load()
            except DataError:
                continue
            found |= {name + way: value for way, value in self.evaluate(pairs).items()}
        if "willow_duck" in found:  # classes count alike, however many pairs they have
            for way in ("", "_assignment", "_sinkhorn"):
                found[f"willow{way}"] = sum(found[f"willow_{name}{way}"] for name in keypoints.WILLOW) / len(keypoints.WILLOW)
        return found

    def draw(self, folder: Path) -> None:
        batch = PairBatch(*(column[:6] for column in self.test_data))
        y, _ = self.match(batch)
        report.draw_matchings(folder / "predictions.png", batch, y)


def scored(y: Tensor, pairs: PairBatch) -> dict[str, Tensor]:
    """The share of true pairs that were found, and of wrong entries of the matching.  # (B, n, m) -> (B,), (B,)"""
    true = pairs.truth.flatten(1).sum(1)
    right = (y * pairs.truth).flatten(1).sum(1)
    return {"accuracy": right / true.clamp(min=1), "hamming": (y - pairs.truth).abs().flatten(1).mean(1)}


def sinkhorn_rows(vertices: Tensor, mask: Tensor) -> Tensor:
    """For every row the column that Sinkhorn's doubly stochastic matrix likes best.  # (B, n, m) -> (B, n, m)"""
    soft = Sinkhorn(temperature=0.1)(vertices.masked_fill(~mask, -1e4))
    return torch.zeros_like(vertices).scatter_(2, soft.argmax(2, keepdim=True), 1) * mask


class Affinities(nn.Module):
    """Scores of pairs of vertices and of pairs of edges of two graphs, which pass through the same network."""

    def __init__(self, config: Config):
        super().__init__()
        self.features = Features(config)
        self.vertex_scale, self.edge_scale = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, pairs: PairBatch) -> tuple[Tensor, Tensor]:  # -> (B, n, m), (B, E1 / 2, E2)
        vertices1, edges1 = self.features(pairs.points1, pairs.edges1, pairs.patches1)
        vertices2, edges2 = self.features(pairs.points2, pairs.edges2, pairs.patches2)
        once = edges1[:, : edges1.shape[1] // 2]  # an edge and its reverse go to an edge and its reverse: one of them is enough
        return self.vertex_scale * vertices1 @ vertices2.mT, self.edge_scale * once @ edges2.mT


class Features(nn.Module):
    """Unit features of the vertices and edges of a graph, by message passing (Xu et al., 2019; Hu et al., 2020)."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.width
        seen = width if config.images else 0
        self.eye = eye(width) if config.images else None
        self.enter = perceptron(2 + seen, width)
        self.convolutions = nn.ModuleList(GINEConv(perceptron(width, width), edge_dim=3) for _ in range(config.layers))
        self.vertex = nn.Linear(width * (config.layers + 1), width)
        self.edge = perceptron(2 * width + 3, width)

    def forward(self, points: Tensor, edges: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        size, n, _ = points.shape
        x = points if self.eye is None else torch.cat([points, self.eye(patches.flatten(0, 1)).view(size, n, -1)], 2)
        ends = edges.clamp(min=0) + n * torch.arange(size, device=edges.device)[:, None, None]  # (B, 2, E)
        real = edges[:, 0] >= 0
        index, flat = ends.mT[real].T, points.flatten(0, 1)
        step = flat[ends[:, 1]] - flat[ends[:, 0]]  # (B, E, 2)
        step = torch.cat([step, step.norm(dim=2, keepdim=True)], 2)
        layers = [self.enter(x.flatten(0, 1))]
        for convolution in self.convolutions:
            layers.append(torch.relu(convolution(layers[-1], index, step[real])) + layers[-1])
        vertices = nn.functional.normalize(self.vertex(torch.cat(layers, 1)), dim=1).view(size, n, -1)
        both = torch.cat([layers[-1][ends[:, 0]], layers[-1][ends[:, 1]], step], 2)
        return vertices, nn.functional.normalize(self.edge(both), dim=2) * real.unsqueeze(2)


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))


def eye(width: int) -> nn.Sequential:
    """What is seen around a keypoint as features.  # (N, 3, P, P) -> (N, C)"""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (PATCH // 4) ** 2, width),
    )
