"""k-subset autoencoder: codes of groups with exactly k ones, by identity with projections or I-MLE (Sahoo et al., 2023).

An image is encoded as `groups` subsets of `k` out of `entries` each, `TopK` of scores plus noise, and decoded from the subsets
alone. The loss is that of Niepert et al. (2021) and Sahoo et al. (2023): the cross-entropy of the pixels plus the KL of the
softmax of the scores from the uniform law. It is no bound of the likelihood, since subsets do not follow that softmax.

The noise comes before the projection of the layer, as in the authors' code; a rule that draws noise of its own, such as
`imle(step=10, noise=sum_of_gamma(10, scale=10))`, gets no other in training. Unseen images are encoded with noise, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from solverlayers import Solver
from solverlayers.noise import Noise, SumOfGamma
from solverlayers.rules import Rule
from solverlayers.solvers import TopK

from . import base, bounds, image_pictures, latent_images


@dataclass(frozen=True, kw_only=True)
class Config(latent_images.Config):
    """Settings; the paper's are those of Sahoo et al. (2023), appendix, and of the authors' notebook."""

    epochs: int = 12  # paper 100
    train_size: int = 20_000  # images of an epoch; paper 50,000, its notebook 60,000
    test_size: int = 2_000  # paper 10,000
    hidden: tuple[int, ...] = (256, 128)  # paper (512, 256)
    groups: int = 20
    entries: int = 20
    k: int = 10
    noise_scale: float = 10.0  # of sum-of-Gamma noise, without --noise
    noise_terms: int = 10


class SubsetVAE(latent_images.LatentImages):
    """Pixels -> scores -> noise -> projection -> the k greatest of every group -> logits of pixels."""

    presets = {
        "quick": Config(),
        "paper": Config(epochs=100, train_size=60_000, test_size=10_000, hidden=(512, 256), mean_start=False),
    }
    default_rule = "identity"
    headline = "bce_plus_kl"
    columns = ("bce_plus_kl", "train_bce_plus_kl", "bce", "kl", "score_size", "moved", "solver_share")

    def __init__(self, config: Config, rule: Rule, projection: str | None, noise: Noise | None, seed: int = 0):
        super().__init__(config, rule, projection, None, seed)
        self.noise = noise or SumOfGamma(config.k, config.noise_scale, config.noise_terms)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return TopK(config.k)

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.entries,)

    @staticmethod
    def code_shape(config: latent_images.Config) -> tuple[int, int]:
        assert isinstance(config, Config)
        return config.groups, config.entries

    def codes(self, scores: Tensor) -> Tensor:
        """The subsets of noisy scores.  # (B, groups, entries) -> (B, groups, entries)"""
        if self.training and hasattr(self.rule, "noise"):
            return self.solve(scores)
        assert self.noise is not None
        return self.solve(scores + self.noise.sample(scores))

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch[0]
        scores = self.encode(images)
        bce = self.distortion(self.codes(scores), images)
        kl = bounds.rate(scores, torch.zeros_like(scores[0]))
        size = scores.detach().flatten(1).norm(dim=1)
        return (bce + kl).mean(), {"bce_plus_kl": bce + kl, "bce": bce, "kl": kl, "score_size": size}

    def draw(self, folder: Path) -> None:
        images = self.data("test")[0][:12]
        with torch.random.fork_rng():
            torch.manual_seed(self.generator("pictures").initial_seed())
            scores = self.encode(images)
            seen = {f"decoded, draw {k}": self.show(self.codes(scores)).cpu() for k in (1, 2)}
        rows = {"image": self.pixels(images).cpu(), **seen}
        image_pictures.draw_rows(folder / "predictions.png", rows, "images, and what is decoded from two draws of their codes")
