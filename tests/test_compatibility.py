"""The table of rules and solvers: true, up to date, and with advice in every refusal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from solverlayers import SolverLayer
from solverlayers.rules import StraightThrough
from solverlayers.tasks.catalogue import solvers
from solverlayers.tasks.compatibility import example, page, refusal, relaxations, rules
from solverlayers.tasks.specs import RULES

PAGE = Path(__file__).parent.parent / "docs" / "compatibility.md"
every_solver = pytest.mark.parametrize("name", solvers())


def test_the_page_is_up_to_date():
    """If not: `python -m solverlayers.tasks.compatibility > docs/compatibility.md`."""
    assert PAGE.read_text() == page() + "\n"


@every_solver
def test_what_is_not_refused_works(name):
    """Forward and backward, on the solver's example."""
    solver, scores, instance = example(name)
    for rule in rules(name).values():
        if refusal(solver, rule) is None:
            torch.manual_seed(0)
            x = [s.clone().requires_grad_() for s in scores]
            y = SolverLayer(solver, rule)(*x, **instance)
            loss = sum(part.square().sum() for part in (y if isinstance(y, tuple) else (y,)))
            assert all(g.isfinite().all() for g in torch.autograd.grad(loss, x))


@every_solver
def test_every_refusal_names_a_rule_that_works(name):
    solver, _, _ = example(name)
    working = {type(rule).__name__ for rule in rules(name).values() if refusal(solver, rule) is None}
    known = {cls.__name__ for cls in RULES.values()}
    for rule in [*rules(name).values(), *map(StraightThrough, relaxations(name).values())]:
        if (reason := refusal(solver, rule)) is not None:
            advice = re.split(r"(?<=[.:]) (?=Use|Otherwise|For any)", reason)[-1]
            named = set(re.findall(r"\w+", advice)) & known - {type(rule).__name__}
            assert named & working, f"{reason}\n{sorted(working)}"
