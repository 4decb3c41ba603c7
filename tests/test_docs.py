"""The pages in `docs/` say what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch

from solverlayers import SolverLayer, distributions, estimators, losses, relaxations, rules
from solverlayers.diagnostics import Reference, gradient_quality
from solverlayers.estimators import Baseline, Estimator
from solverlayers.losses import SolverLoss
from solverlayers.relaxations import Relaxation
from solverlayers.rules import Rule, SurrogateRule
from solverlayers.solvers import Argmax

DOCS = Path(__file__).parent.parent / "docs"
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (DOCS / "rules.md").read_text(), flags=re.DOTALL | re.MULTILINE))
RULES = {n: c for n, c in vars(rules).items() if inspect.isclass(c) and issubclass(c, Rule) and c not in (Rule, SurrogateRule)}
ROWS = ("gradient of `theta`", "scale", "parameters", "solves", "second derivative", "use it when", "bad at", "source")
# settings away from the defaults, so that what a row says of them is tried too
SETTINGS = {
    "Blackbox": [{}, {"two_sided": True}],
    "LPGD": [{}, {"two_sided": True}],
    "IMLE": [{"samples": 3}, {"samples": 2, "two_sided": True}],
    "AIMLE": [{"samples": 3}, {"samples": 2, "two_sided": True}],
    "Perturbed": [{"samples": 4}],
    "GumbelSoftmax": [{}, {"hard": False}],
    "GumbelRao": [{"samples": 5}],
    "DAB": [{"approximator": "batch", "shape": (4,)}],
}
every_rule = pytest.mark.parametrize("name", RULES)


def rows(name):
    """The first table of a section, by the first column."""
    table = re.match(r"\n\| \| \|\n\|---\|---\|\n((?:\|[^\n]*\n)+)", SECTIONS[name])
    return dict(line.strip("| ").split(" | ", 1) for line in table[1].splitlines())


@every_rule
def test_every_rule_has_a_section_with_all_rows(name):
    assert [row for row in rows(name) if row != "output while training"] == list(ROWS)


@every_rule
def test_the_parameters_are_the_constructors(name):
    named = re.findall(r"`([a-z_]+)`", rows(name)["parameters"])
    signature = inspect.signature(RULES[name]).parameters if RULES[name].__init__ is not Rule.__init__ else {}
    assert sorted(named) == sorted(p for p in signature if p not in ("args", "kwargs"))


def layers(name):
    for settings in SETTINGS.get(name, [{}]):
        torch.manual_seed(0)
        yield SolverLayer(Argmax(), RULES[name](**settings)), settings


@every_rule
def test_the_solves_are_counted(name):
    if name == "Regularized":
        return
    formula = re.match(r"`([^`]+)`", rows(name)["solves"])[1]
    for layer, settings in layers(name):
        defaults = {k: p.default for k, p in inspect.signature(RULES[name]).parameters.items()}
        x = torch.randn(4, 4)
        quality = gradient_quality(layer, lambda y: y.pow(3).sum(-1), x, Reference(torch.ones(4, 4), torch.zeros(4, 4)), 2)
        assert quality.solves == eval(formula, {}, {**defaults, **settings})


def test_the_solves_of_mixtures_are_bounded():
    layer, _ = next(layers("Regularized"))
    x = torch.randn(4, 4)
    quality = gradient_quality(layer, lambda y: y.pow(3).sum(-1), x, Reference(torch.ones(4, 4), torch.zeros(4, 4)), 2)
    assert 2 <= quality.solves <= layer.rule.iterations + 1


@every_rule
def test_second_derivatives_are_refused_where_it_says_so(name):
    for layer, _ in layers(name):
        x = torch.randn(4, 4, requires_grad=True)
        y = layer(x)
        (g,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        if rows(name)["second derivative"] == "refused":
            with pytest.raises(RuntimeError, match="second derivative"):
                torch.autograd.grad(g.sum(), x)
        elif g.requires_grad:
            torch.autograd.grad(g.square().sum(), x)


def public(module, *bases):
    found = {n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, bases) and not n.startswith("_")}
    return found - {base.__name__ for base in bases}


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("StraightThrough", public(relaxations, Relaxation)),
        ("Losses", public(losses, SolverLoss)),
        ("Estimators", public(estimators, Estimator, Baseline)),
        ("Distributions", public(distributions, torch.distributions.Distribution)),
    ],
)
def test_the_lists_are_complete(section, names):
    table = "\n".join(line for line in SECTIONS[section].splitlines() if line.startswith("|"))
    assert {name for name in re.findall(r"`([A-Z]\w+)`", table) if name != "H"} == names


def test_links_lead_somewhere():
    for path in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
    anchors = {title.lower().replace(" ", "-") for title in SECTIONS}
    assert set(re.findall(r"\]\(#([^)]+)\)", (DOCS / "rules.md").read_text())) <= anchors
