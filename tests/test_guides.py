"""The code of the guides in `docs/` runs as it stands, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = ("extend.md", "benchmark-files.md", "recipes.md")


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("name", GUIDES)
def test_code_runs(name, capsys):
    torch.manual_seed(0)
    scope = {"__name__": "__main__"}
    assert len(blocks(name)) >= 2
    for number, code in enumerate(blocks(name), 1):
        exec(compile(code, f"{name}, block {number}", "exec"), scope)
    if name == "extend.md":
        said = capsys.readouterr().out
        assert said.startswith("Reversed breaks the law 'optimality': instance 0 has objective ")
        assert "It is the worst: is `sense = 'min'` right?" in said


def test_what_other_libraries_are_told_runs():
    """The last column of the tables of recipes, each call for itself."""
    torch.manual_seed(0)
    scope = {"__name__": "__main__"}
    exec(blocks("recipes.md")[0], scope)
    calls = re.findall(r"^\| .+ \| `([^`]+)` \|$", (DOCS / "recipes.md").read_text(), flags=re.MULTILINE)
    assert len(calls) > 35
    for call in calls:
        assert eval(compile(call, call, "eval"), dict(scope)) is not None, call


def test_a_solver_takes_less_than_thirty_lines():
    """From the function to the checked solver: the blocks of sections 1 to 3, without the layer."""
    function, solver, _, check, *_ = blocks("extend.md")
    lines = [line for line in "\n".join([function, solver, check]).splitlines() if line.strip()]
    assert len(lines) < 30


def test_the_laws_that_the_guide_names_are_laws():
    from solverlayers.solver_laws import SOLVER_LAWS

    table = [line for line in (DOCS / "extend.md").read_text().splitlines() if line.startswith("| ")]
    named = {law for line in table[1:] for law in re.findall(r"`([^`]+)`", line.split("|")[2])}
    assert named <= SOLVER_LAWS.keys()
    assert len(named) > 10
