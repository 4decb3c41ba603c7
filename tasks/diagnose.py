"""How good each rule's gradient is on random instances of a solver: a table and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from solverlayers import Solver, SolverLayer
from solverlayers.diagnostics import GradientQuality, Loss, Reference, gradient_quality, smoothed_gradient
from solverlayers.noise import Gumbel
from solverlayers.rules import DAB, Rule

from . import report
from .specs import RULES, SpecError, choose, make_rule, make_solver

COLUMNS = ("bias", "std", "cosine", "moved", "radial", "seconds", "solves")
BRIDGE_STEPS = 500  # of Adam, for a bridge to learn the solver before it is measured


@dataclass(frozen=True)
class Settings:
    """What is measured, and how precisely."""

    size: int = 6  # entries of an instance along each dimension
    batch: int = 8  # instances
    loss: str = "quadratic"  # of the solution; or linear
    sigma: float = 1.0  # of the Gumbel noise that smooths the loss
    repeats: int = 200  # gradients drawn per rule
    samples: int = 20_000  # draws behind the reference, where it is not exact
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "batch", "sigma", "repeats", "samples"):
            if not getattr(self, name) > 0:
                raise SpecError(f"--{name} {getattr(self, name)}: it must be positive.")


@dataclass(frozen=True)
class Diagnosis:
    """The quality of each rule that applies, and why the others do not."""

    solver: str
    settings: Settings
    error: float  # relative standard error of the reference
    found: dict[str, GradientQuality]
    refused: dict[str, str]


def diagnose(solver_spec: str, rule_specs: list[str], settings: Settings) -> Diagnosis:
    """Measure rules by their specs, or all with their defaults for `["all"]`, on random scores and a random loss."""
    solver = make_solver(solver_spec)
    torch.manual_seed(settings.seed)
    shape = (settings.size,) * solver.event_dim
    scores = torch.randn(settings.batch, *shape).abs() if solver.sense == "min" else torch.randn(settings.batch, *shape)
    solution = _solution(solver, scores)
    loss = LOSSES[choose("loss", settings.loss, LOSSES)](solution)
    noise = Gumbel()
    reference = smoothed_gradient(solver, loss, scores, settings.sigma, noise, settings.samples)
    found, refused = {}, {}
    for spec in sorted(RULES) if rule_specs == ["all"] else rule_specs:
        try:
            layer = SolverLayer(solver, _rule(spec, shape, tuple(solution.shape[1:])))
        except ValueError as refusal:
            refused[spec] = str(refusal)
            continue
        found[spec] = _measure(layer, loss, scores, reference, settings)
    error = float((reference.standard_error.norm() / reference.gradient.norm()).nan_to_num())
    return Diagnosis(repr(solver), settings, error, found, refused)


def _solution(solver: Solver, scores: Tensor) -> Tensor:
    try:
        return solver(scores)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{solver!r} cannot be diagnosed on random scores of shape {tuple(scores.shape)}: {error}") from error


def _linear(like: Tensor) -> Loss:
    """`<w, y>` with standard normal `w`."""
    weights = torch.randn_like(like)
    return lambda y: (y * weights).flatten(y.ndim - weights.ndim + 1).sum(-1)


def _quadratic(like: Tensor) -> Loss:
    """`|W y|^2 / n` with standard normal `W`: entries of the solution matter together."""
    count = like[0].numel()
    weights = torch.randn(count, count, dtype=like.dtype, device=like.device)
    return lambda y: (y.flatten(y.ndim - like.ndim + 1) @ weights).pow(2).mean(-1)


LOSSES: dict[str, Callable[[Tensor], Loss]] = {"linear": _linear, "quadratic": _quadratic}


def _rule(spec: str, shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Rule:
    return make_rule(spec, shape, None if output_shape == shape else output_shape)


def _measure(layer: SolverLayer, loss: Loss, scores: Tensor, reference: Reference, settings: Settings) -> GradientQuality:
    if isinstance(layer.rule, DAB):
        _learn_bridge(layer, scores)
    return gradient_quality(layer, loss, scores, reference, settings.repeats)


def _learn_bridge(layer: SolverLayer, scores: Tensor) -> None:
    """Teach the approximator the solver on scores like those it will be measured at."""
    optimizer = torch.optim.Adam(layer.rule.parameters(), 1e-2)
    for _ in range(BRIDGE_STEPS):
        near = scores + torch.randn_like(scores)
        optimizer.zero_grad()
        layer.auxiliary_loss(near, layer(near)).backward()
        optimizer.step()


def diagnosis_table(diagnosis: Diagnosis) -> str:
    """One row per rule, best direction first."""
    ordered = sorted(diagnosis.found.items(), key=lambda found: -found[1].cosine)
    rows = [[spec, *(f"{getattr(q, column):.3g}" for column in COLUMNS)] for spec, q in ordered]
    return report.table(rows, header=["rule", *COLUMNS])


def write_diagnosis(diagnosis: Diagnosis, folder: Path) -> None:
    """`quality.json` and `quality.png`, bias against standard deviation, one dot per rule."""
    folder.mkdir(parents=True, exist_ok=True)
    report.write_json(folder / "quality.json", dataclasses.asdict(diagnosis))
    report.draw_quality(folder / "quality.png", diagnosis.found, f"Gradients through {diagnosis.solver}")
