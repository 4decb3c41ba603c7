"""Minimise a polynomial of coin flips: the toy of Liu et al. (ReinMax, NeurIPS 2023), where every gradient is known exactly.

128 latents of two categories each; the network is nothing but their logits. The loss of a draw `X` is `mean_i |X_i - 0.45|^p`,
so the best is `X = 0`, but only just. All exponents `p` and several replicas of the problem are trained side by side in one
tensor, each beside a twin that follows the exact gradient; the distance to it is what bias and variance of a rule cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from solverlayers import Solver
from solverlayers.solvers import Argmax

from . import base, report


@dataclass(frozen=True, kw_only=True)
class Config(base.Config):
    """Settings; the paper's are those of the authors' code, LiyuanLucasLiu/ReinMax."""

    epochs: int = 5  # paper 40
    batch: int = 64  # draws per step and latent
    lr: float = 8e-3  # of Adam; paper 1e-3, an eighth for eight times the steps
    one_cycle: bool = False
    train_size: int = 12_800  # draws in an epoch: 200 steps
    fresh: bool = True
    test_size: int = 1  # the expected loss is computed, not sampled
    latents: int = 128
    exponents: tuple[float, ...] = (1.5, 2.0, 3.0)
    centre: float = 0.45
    spread: float = 0.01  # logits start uniform in (-spread, spread)
    replicas: int = 2  # independent copies of each problem, in one tensor; paper 10 seeds


class Polynomial(base.Task):
    """Logits -> one draw per latent -> the mean of `|X - centre|^p`."""

    presets = {"quick": Config(), "paper": Config(epochs=40, lr=1e-3, replicas=10)}
    default_rule = "reinmax"

    exponents: Tensor

    def __init__(self, config: Config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        shape = (config.replicas, len(config.exponents), config.latents, 2)
        start = config.spread * (2 * torch.rand(shape) - 1)
        self.logits = nn.Parameter(start)
        self.exact_logits = nn.Parameter(start.clone())
        self.register_buffer("exponents", torch.tensor(config.exponents), persistent=False)

    @staticmethod
    def make_solver(config: Config) -> Solver:
        return Argmax()

    @staticmethod
    def shape(config: Config) -> tuple[int, ...]:
        return (2,)

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        # The loss is a mean over problems that do not know of each other; Adam forgets that factor if its epsilon has it too.
        return torch.optim.Adam(parameters, lr=self.config.lr, eps=1e-8 / self.logits[..., 0, 0].numel(), fused=True)

    def sample(self, size: int, generator: torch.Generator) -> base.Batch:
        return (torch.empty(size, 0, device=generator.device),)  # there are no data, only draws

    def polynomial(self, x: Tensor) -> Tensor:
        """The loss of values of the latents.  # (*S, P, latents) -> (*S, P)"""
        return ((x - self.config.centre).abs() ** self.exponents.unsqueeze(-1)).mean(-1)

    def expected(self, logits: Tensor) -> Tensor:
        """The expected loss of a draw.  # (R, P, latents, 2) -> (R, P)"""
        p = logits.softmax(-1)[..., 1]
        zeros, ones = (self.polynomial(torch.full_like(p, value)) for value in (0.0, 1.0))
        return zeros + (ones - zeros) * p.mean(-1)

    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        objective, loss, measured = super().forward(*batch)
        return objective + self.expected(self.exact_logits).mean(), loss, measured

    def measure(self, batch: base.Batch) -> tuple[Tensor, dict[str, Tensor]]:
        draws = self.solve(self.logits.expand(len(batch[0]), *self.logits.shape))  # (B, R, P, latents, 2)
        wrong = self.logits[..., 1] >= self.logits[..., 0]  # (R, P, latents)
        measured = {"exact_match": ~wrong.any(-1).flatten(), "hamming": wrong.double().mean(-1).flatten()}
        if self.training:
            return self.polynomial(draws[..., 1]).mean(), measured
        losses, exact = self.expected(self.logits), self.expected(self.exact_logits)
        best = self.polynomial(torch.zeros_like(self.logits[..., 0]))
        measured |= {"regret": (losses - best).flatten(), "exact_regret": (exact - best).flatten()}
        if len(losses) > 1:
            measured["regret_spread"] = (losses - best).mean(1).std().expand(1)
        for index, exponent in enumerate(self.config.exponents):
            measured |= {f"loss_p{exponent:g}": losses[:, index], f"exact_loss_p{exponent:g}": exact[:, index]}
        return losses.mean(), measured

    def draw(self, folder: Path) -> None:
        """The chance of the worse category of every latent, sorted, beside that of the twin."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 3.6), layout="constrained")
        panels = figure.subplots(1, len(self.config.exponents), squeeze=False)[0]
        for index, (axes, exponent) in enumerate(zip(panels, self.config.exponents)):
            for logits, colour, label in (
                (self.logits, report.BAD, "this rule"),
                (self.exact_logits, report.GOOD, "exact gradient"),
            ):
                chance = logits[:, index].softmax(-1)[..., 1].flatten().sort().values
                axes.plot(torch.linspace(0, 1, len(chance)).tolist(), chance.tolist(), color=colour, label=label)
            axes.set_title(f"p = {exponent:g}", fontsize=10, color=report.INK)
            axes.set_ylim(0, 1)
            axes.set_xlabel("latents, sorted")
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("chance of the worse category")
        panels[0].legend(frameon=False, fontsize=9)
        figure.savefig(folder / "predictions.png", dpi=110, facecolor="white")
