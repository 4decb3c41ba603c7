"""Gradients of an encoder's logits beside the exact ones, which a sum over all codes gives (Liu et al., 2023, appendix)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from solverlayers import SolverLayer
from solverlayers.estimators import Estimator
from solverlayers.oracle import Oracle

from . import report
from .codes import all_codes, expected
from .running import Run, is_finished, quiet
from .specs import SpecError, make_rule_or_estimator

if TYPE_CHECKING:
    from .vae import VAE, Config

MOST_CODES = 1 << 14
IMAGES = 16
DRAWS = 1024  # gradients per image, as in the paper
ADAPTATION = 500  # steps of Adam in which a rule's or an estimator's own network learns the model as it is
_CHUNK = 1 << 12
"""How many codes are decoded at once."""


@dataclass(frozen=True)
class Quality:
    """Gradients of the expected distortion beside the exact one, with norms over all images together.

    bias: `|E g - exact| / |exact|`, the squared distance corrected for the variance of the mean; std: the standard deviation of
    `g` around its mean, `/ |exact|`; cosine: between the mean gradient and the exact one. An image whose posterior is certain
    has next to no gradient, so relative errors of single images would have no mean.
    """

    bias: float
    std: float
    cosine: float


def countable(config: Config) -> bool:
    """Whether the codes are few enough for a sum over all of them."""
    return config.categories**config.latents < MOST_CODES


def exact_gradient(task: VAE, images: Tensor) -> Tensor:
    """The gradient of `E[distortion]` at the logits of each image.  # (B, C, H, W) -> (B, L, C)"""
    codes = all_codes(task.config.latents, task.config.categories).to(task.device)
    with torch.no_grad():
        decoded = torch.cat([task.decode(part) for part in codes.split(_CHUNK)])  # (M, pixels)
        losses = functional.softplus(decoded).sum(-1, keepdim=True) - decoded @ task.pixels(images).flatten(1).T  # (M, B)
    with torch.enable_grad():
        logits = task.posterior(images).detach().requires_grad_()
        chances = (codes.flatten(1) @ logits.log_softmax(-1).flatten(1).T).exp()  # (M, B)
        return torch.autograd.grad((chances * losses).sum(), logits)[0]


def gradients(task: VAE, way: SolverLayer | Estimator, images: Tensor, draws: int = DRAWS) -> Tensor:
    """Independent gradients of the logits by a layer or an estimator.  # (B, C, H, W) -> (draws, B, L, C)"""
    held = task.posterior(images).detach()
    found = []
    for start in range(0, draws, max(1, _CHUNK // len(images))):
        size = min(draws - start, max(1, _CHUNK // len(images)))
        with torch.enable_grad():
            logits = held.expand(size, *held.shape).clone().requires_grad_()
            found.append(torch.autograd.grad(_distortion(task, way, logits, images).sum(), logits)[0])
    return torch.cat(found)


def _distortion(task: VAE, way: SolverLayer | Estimator, logits: Tensor, images: Tensor) -> Tensor:
    if isinstance(way, Estimator):
        return expected(way, lambda codes: task.distortion(codes, images), logits)
    codes = way(logits)
    assert isinstance(codes, Tensor)
    return task.distortion(codes, images)


def quality(task: VAE, way: SolverLayer | Estimator, images: Tensor, draws: int = DRAWS) -> Quality:
    """How good the gradients of a layer or an estimator are at these images."""
    mode = way.training
    way.train(isinstance(way, SolverLayer))  # a layer draws in training alone; an estimator is measured and not changed
    exact = exact_gradient(task, images).flatten()
    g = gradients(task, way, images, draws).flatten(1)
    way.train(mode)
    mean, size = g.mean(0), exact.norm()
    variance = (g - mean).square().sum(1).mean()
    distance = ((mean - exact).square().sum() - variance / (draws - 1)).clamp_min(0).sqrt()
    return Quality(float(distance / size), float(variance.sqrt() / size), float(torch.cosine_similarity(mean, exact, dim=0)))


def adapt(task: VAE, way: SolverLayer | Estimator, steps: int = ADAPTATION) -> None:
    """Train a rule's or an estimator's own parameters, and nothing else, on the model as it is."""
    own = list(way.parameters())
    if not own:
        return
    optimizer = torch.optim.Adam(own, lr=task.config.lr)
    images = task.data("train")[0]
    for _ in range(steps):
        batch = images[torch.randint(len(images), (task.config.batch,), device=images.device)]
        logits = task.posterior(batch).detach().requires_grad_()
        loss = _distortion(task, way.train(), logits, batch).mean()
        if isinstance(way, SolverLayer):
            loss = way.auxiliary_loss(logits, Oracle(way.solver)(logits.detach()))
        gradients = torch.autograd.grad(loss, own, allow_unused=True)
        for parameter, gradient in zip(own, gradients):
            parameter.grad = gradient
        optimizer.step()


def study(folder: Path, specs: list[str], draws: int = DRAWS) -> dict[str, Quality]:
    """Rules and estimators at the network of a finished run; `gradients.json` and `gradients.png` in its folder."""
    from .vae import VAE

    run = Run.load(folder)
    if run.task != "vae" or not is_finished(folder):
        raise SpecError(f"{folder} holds no finished run of the task vae.")
    task = run.build()
    assert isinstance(task, VAE)
    if not countable(task.config):
        raise SpecError(f"{task.config.categories}^{task.config.latents} codes are too many for the exact gradient.")
    with quiet():
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=False)
    task.load_state_dict(checkpoint["state_dict"])
    task.eval().requires_grad_(False)
    images = task.data("test")[0][:IMAGES]
    shape, network = task.shape(task.config), partial(task.surrogate, task.config)
    rules = {spec: make_rule_or_estimator(spec, shape, network) for spec in specs}
    found = {}
    for spec, rule in rules.items():
        torch.manual_seed(task.generator("gradients").initial_seed())
        way = rule if isinstance(rule, Estimator) else SolverLayer(task.stopwatch.solver, rule)
        adapt(task, way)
        found[spec] = quality(task, way, images, draws)
    report.write_json(folder / "gradients.json", {spec: dataclasses.asdict(q) for spec, q in found.items()})
    report.draw_quality(folder / "gradients.png", found, f"gradients of the logits, vae trained by {run.rule}")
    return found
