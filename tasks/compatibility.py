"""Which rule serves which solver, found by trying: `python -m solverlayers.tasks.compatibility > docs/compatibility.md`."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from typing import Any, cast

import torch

from solverlayers import Solver, SolverLayer
from solverlayers import relaxations as relaxations_module
from solverlayers.relaxations import Relaxation
from solverlayers.rules import DAB, LPGD, Rule, StraightThrough

from .catalogue import solvers
from .doctor import EXAMPLES, batch, batch_of
from .specs import RULES, final_classes

_HEAD = """# Compatibility

Which rule serves which solver: `yes`, or `-` where the layer refuses the pair when it is built. The table is generated, by
building the layers: `python -m solverlayers.tasks.compatibility > docs/compatibility.md`.
"""


def example(name: str) -> tuple[Solver, list[torch.Tensor], dict[str, torch.Tensor]]:
    """A solver by its class name, with the scores and data of one instance."""
    found = EXAMPLES[name]
    return solvers()[name](**found.fields), batch(found.scores), batch_of(found.instance)


@cache
def rules(name: str) -> dict[str, Rule]:
    """An instance of every rule that suits the shapes of the solver's example, by what a table calls it."""
    solver, scores, instance = example(name)
    y = solver(*scores, **instance)
    shape = scores[0].shape[1:] if len(scores) == 1 else (sum(s[0].numel() for s in scores),)
    output_shape = shape if isinstance(y, tuple) else y.shape[1:]
    special: dict[type[Rule], dict[str, Any]] = {
        DAB: {"approximator": "batch", "shape": tuple(shape), "output_shape": tuple(output_shape)}
    }
    found = {cls.__name__: cls(**special.get(cls, {})) for cls in RULES.values()}
    return {**found, "LPGD with rho > 0": LPGD(rho=1.0)}


@cache
def relaxations(name: str) -> dict[str, Relaxation]:
    """Every relaxation, with the fields that it must share with the solver's example."""
    solver, _, _ = example(name)
    found, known = {}, cast("dict[str, type[Any]]", final_classes(relaxations_module, Relaxation))
    for cls in known.values():
        shared = {field: getattr(solver, field) for field in cls.shared if getattr(solver, field, None) is not None}
        found[cls.__name__] = cls(**{k: v for k, v in shared.items() if k in {f.name for f in dataclasses.fields(cls)}})
    return found


def refusal(solver: Solver, rule: Rule) -> str | None:
    """Why a layer refuses the pair, or None if it does not."""
    try:
        SolverLayer(solver, rule)
    except ValueError as error:
        return str(error)
    return None


def page() -> str:
    """The page as Markdown."""
    refused: dict[str, list[str]] = {}
    lines = []
    for name in solvers():
        solver, _, _ = example(name)
        cells = []
        for title, rule in rules(name).items():
            reason = refusal(solver, rule)
            cells.append("-" if reason else "yes")
            if reason:
                text = reason.replace(repr(solver), "the solver").removeprefix(type(rule).__name__).lstrip(": ")
                titles = refused.setdefault(text, [])
                titles += [title] if title not in titles else []
        lines.append([f"`{name}`", *cells])
    header = [title if " " in title else f"[{title}](rules.md#{title.lower()})" for title in rules(next(iter(solvers())))]
    relaxed = [[f"`{name}`", _relaxations_of(name)] for name in solvers()]
    reasons = [f"* {', '.join(titles)}: {text}" for text, titles in refused.items()]
    return "\n".join(
        [
            _HEAD,
            *table(["solver", *header], lines),
            "\n## Relaxations\n\nWhat `StraightThrough(relaxation)` takes; besides, any function or module of your own.\n",
            *table(["solver", "relaxations"], relaxed),
            "\n## What refusals say\n",
            *reasons,
        ]
    )


def _relaxations_of(name: str) -> str:
    solver, _, _ = example(name)
    fitting = [f"`{title}`" for title, r in relaxations(name).items() if refusal(solver, StraightThrough(r)) is None]
    return ", ".join(fitting) or "-"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]


if __name__ == "__main__":
    sys.stdout.write(page() + "\n")
