"""Discrete variational autoencoder: categorical or Bernoulli codes of images, by any rule or estimator (Liu et al., 2023).

An image is encoded as `latents` independent draws of one of `categories` each, and decoded from the draws alone. The loss is
`D + beta R`: the distortion `D = -log p(x|z)`, and the rate `R = KL(q(z|x) || p(z))`; at `beta = 1` it is the negative of the
evidence lower bound. Whatever trains the encoder, the bounds on unseen images are those of hard draws from `q(z|x)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from solverlayers import Solver
from solverlayers.autograd import watch_gradient
from solverlayers.describe import constructor_call
from solverlayers.noise import Gumbel
from solverlayers.oracle import Oracle
from solverlayers.solvers import Argmax

from . import base, bounds, codes, gradient_study, image_pictures, latent_images, plane, report

CHUNK = 1 << 16
"""How many images are decoded at once where there is no gradient."""


@dataclass(frozen=True, kw_only=True)
class Config(latent_images.Config):
    """Settings; the paper's are those of the authors' code, LiyuanLucasLiu/ReinMax, there 10 seeds."""

    epochs: int = 15  # paper 160
    lr: float = 1e-3  # paper 5e-4
    train_size: int = 20_000  # images of an epoch; paper 60,000
    test_size: int = 2_000  # paper 10,000
    hidden: tuple[int, ...] = (256, 128)  # paper (512, 256)
    categories: int = 8
    latents: int = 4
    radam: bool = False  # RAdam (Liu et al., 2020) in the place of Adam
    beta: float = 1.0  # weight of the rate (Alemi et al., 2018)
    learned_prior: bool = False  # paper: uniform; that of Jang et al. (2017) is learned
    committed: float = 0.0  # the least probability of the likeliest category; 0 for none
    surrogate_width: int = 200  # hidden units, twice, of the network that some estimators train
    importance_samples: int = 1000  # of the importance-weighted bound
    importance_images: int = 200  # unseen images for it

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("categories", "latents")
        if self.committed and not 1 / self.categories <= self.committed < 1:
            raise ValueError(f"setting committed={self.committed!r}; it must be 0, or from 1/categories to below 1.")


SIZES = (4, 24), (8, 16), (16, 12), (64, 8), (10, 30)
"""The paper's categories and latents besides 8 x 4."""
BINARY: dict[str, Any] = {"dataset": "mnist_binarized", "leak": 0.3, "learned_prior": True}
"""What the paper has otherwise where latents are Bernoulli."""


def _paper(categories: int, latents: int, **settings: Any) -> Config:
    full = {"epochs": 160, "train_size": 60_000, "test_size": 10_000, "lr": 5e-4, "hidden": (512, 256), "mean_start": False}
    return Config(categories=categories, latents=latents, importance_images=1000, **{**full, **settings})


class Surrogate(nn.Sequential):
    """Perturbed scores of a code to a number, for estimators with a learned control variate or baseline."""

    def __init__(self, latents: int, categories: int, width: int):
        flatten, inputs = ([], latents) if categories == 2 else ([nn.Flatten(-2)], latents * categories)  # Bernoulli: one score
        super().__init__(*flatten, *latent_images.network((inputs, width, width, 1), leak=0.0))
        self.latents, self.categories, self.width = latents, categories, width

    def __repr__(self) -> str:
        return constructor_call(self)


class VAE(latent_images.LatentImages):
    """Pixels -> logits of the latents -> a draw of each -> logits of pixels."""

    presets = {
        "quick": Config(),
        **{f"quick_{c}x{latents}": Config(categories=c, latents=latents) for c, latents in SIZES},
        "quick_2x200": Config(categories=2, latents=200, **BINARY),
        "paper": _paper(8, 4),
        "4x24": _paper(4, 24, radam=True),
        "8x16": _paper(8, 16, radam=True, lr=7e-4),
        "16x12": _paper(16, 12, radam=True, lr=7e-4),
        "64x8": _paper(64, 8, radam=True),
        "10x30": _paper(10, 30, radam=True),
        "2x200": _paper(2, 200, radam=True, lr=3e-4, hidden=(200, 200), train_size=50_000, **BINARY),
    }
    default_rule = "reinmax(1.3)"  # the temperature that the paper found for 8 x 4
    takes_estimators = True
    headline = "negative_elbo"
    columns = (
        *("negative_elbo", "train_negative_elbo", "importance_bound", "rate", "distortion", "information_lower"),
        *("information_upper", "perplexity", "used_codes", "gradient_bias", "gradient_std", "gradient_cosine", "solver_share"),
    )

    prior: Tensor

    def __init__(self, config: Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        prior = torch.zeros(config.latents, config.categories)
        if config.learned_prior:
            self.prior = nn.Parameter(prior)
        else:
            self.register_buffer("prior", prior)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return Argmax()

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (config.categories,)

    @staticmethod
    def code_shape(config: latent_images.Config) -> tuple[int, int]:
        assert isinstance(config, Config)
        return config.latents, config.categories

    @staticmethod
    def surrogate(config: Config) -> nn.Module:
        return Surrogate(config.latents, config.categories, config.surrogate_width)

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.RAdam(parameters, lr=self.config.lr) if self.config.radam else super().make_optimizer(parameters)

    def posterior(self, images: Tensor) -> Tensor:
        """Logits of `q(z|x)`.  # (B, C, H, W) -> (B, L, C)"""
        logits = self.encode(images)
        return bounds.commit(logits, self.config.committed) if self.config.committed else logits

    def draws(self, logits: Tensor) -> Tensor:
        """Codes from `q`, without gradient.  # (*S, B, L, C) -> (*S, B, L, C)"""
        return Oracle(self.stopwatch.solver)((logits + Gumbel().sample(logits)).detach())

    def expected(self, logits: Tensor, images: Tensor) -> Tensor:
        """The distortion of draws with the gradient of its mean, by the layer or the estimator.  # (B, L, C) -> (B)"""
        if self.estimator is None:
            return self.distortion(self.solve(logits), images)
        logits = watch_gradient(logits, self.note_gradient)
        return codes.expected(self.estimator, lambda drawn: self.distortion(drawn, images), logits)

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images = batch[0]
        logits = self.posterior(images)
        rate = bounds.rate(logits, self.prior)
        distortion = self.expected(logits, images) if self.training else self.distortion(self.draws(logits), images)
        loss = (distortion + self.config.beta * rate).mean()
        return loss, {"negative_elbo": distortion + rate, "rate": rate, "distortion": distortion}

    # ---- measured once ----

    def finish(self) -> dict[str, float]:
        config = self.config
        with self._own_randomness("finish"), torch.no_grad():
            test, train = (self.data(part)[0][: config.test_size] for part in ("test", "train"))
            logits = self.posterior(test)
            drawn = self.draws(logits)
            lower, upper = bounds.information(logits, drawn)
            perplexity, used = bounds.usage(logits, drawn)
            found = {"information_lower": lower, "information_upper": upper, "perplexity": perplexity, "used_codes": used}
            found["train_negative_elbo"] = float(self.measure((train,))[1]["negative_elbo"].mean())
            found |= self._importance(test[: config.importance_images])
            if gradient_study.countable(config):
                way = self.layer if self.estimator is None else self.estimator
                quality = gradient_study.quality(self, way, test[: gradient_study.IMAGES])
                found |= {"gradient_bias": quality.bias, "gradient_std": quality.std, "gradient_cosine": quality.cosine}
        return found

    def _importance(self, images: Tensor) -> dict[str, float]:
        """The importance-weighted bound, and how much it gains over that of one sample for the same images."""
        logits = self.posterior(images)

        def draw(samples: int) -> Tensor:
            drawn = self.draws(logits.expand(samples, *logits.shape))
            return bounds.log_weights(logits, self.prior, drawn, self.distortion(drawn, images))

        many, single = bounds.importance_bound(draw, self.config.importance_samples, max(1, CHUNK // (4 * len(images))))
        return {"importance_bound": float(many.mean()), "importance_gain": float((single - many).mean())}

    @contextmanager
    def _own_randomness(self, purpose: str) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.manual_seed(self.generator(purpose).initial_seed())
            yield

    # ---- pictures ----

    def draw(self, folder: Path) -> None:
        with self._own_randomness("pictures"):
            images = self.data("test")[0][:12]
            decoded = self.show(self.draws(self.posterior(images)))
            dreams = self.show(self.draws(self.prior.expand(5 * 12, *self.prior.shape)))
        rows = {"image": self.pixels(images).cpu(), "decoded": decoded.cpu()}
        image_pictures.draw_rows(folder / "predictions.png", rows, "images, and what is decoded from draws of their codes")
        rows = {f"{12 * k + 1} to {12 * k + 12}": part for k, part in enumerate(dreams.cpu().split(12))}
        image_pictures.draw_rows(folder / "samples.png", rows, "decoded from codes of the prior")
        path = [(record["test"]["rate"], record["test"]["distortion"]) for record in self.history]
        names = [str(record["epoch"]) for record in self.history]
        plane.draw_plane(folder / "rate_distortion.png", {"after each epoch": (path, names)})

    @classmethod
    def draw_comparison(cls, results: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
        plane.draw_plane(folder / "rate_distortion.png", plane.sweeps(results))
        qualities = {label: _mean_quality(runs) for label, runs in results.items() if "gradient_bias" in runs[0]["metrics"]}
        if qualities:
            report.draw_quality(folder / "gradients.png", qualities, "gradients of the logits, each at its own trained network")


def _mean_quality(runs: Sequence[Mapping[str, Any]]) -> gradient_study.Quality:
    return gradient_study.Quality(
        *(sum(run["metrics"][f"gradient_{of}"] for run in runs) / len(runs) for of in ("bias", "std", "cosine"))
    )
