"""The table of what each solver can do: up to date, and derived, not written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from solverlayers import Solver
from solverlayers.solvers import (
    TSP,
    Argmax,
    Assignment,
    Async,
    Cached,
    GraphMatching,
    GridShortestPath,
    HardFunction,
    IntegerProgram,
    TopK,
    TourSearch,
    kernels,
)
from solverlayers.tasks.catalogue import solvers
from solverlayers.tasks.families import certificate, independent_checks, kernels_of, page, starts, stays_on_the_device, takes

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
compiled = pytest.mark.skipif(kernels.variant() == "none", reason="the table is that of a machine with the compiled kernels")
COSTS = torch.tensor([[[1.0, 3.0, 9.0], [2.0, 9.0, 1.0], [5.0, 1.0, 2.0]]])


@compiled
def test_the_page_is_up_to_date():
    """If not: `python -m solverlayers.tasks.families > docs/families.md`."""
    assert PAGE.read_text() == page() + "\n"


def test_every_solver_has_a_line():
    lines = [line.split("|")[1].strip(" `") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert lines == list(solvers())


@compiled
def test_kernels_are_those_that_run():
    assert kernels_of(Assignment(), [COSTS], {}) == ["assignment"]
    assert kernels_of(GridShortestPath(), [COSTS], {}) == ["grid_path"]
    assert kernels_of(Cached(Assignment()), [COSTS], {}) == ["assignment"]
    assert kernels_of(Argmax(), [COSTS[0]], {}) == []


@dataclass(frozen=True)
class Fetching(Solver):
    """Takes the scores to the host, in one of the ways there are."""

    how: str

    def solve(self, scores):
        if scores.is_cpu:
            return scores.sign()
        if self.how == "cpu":
            return scores.cpu().sign().to(scores.device)
        if self.how == "numpy":
            return torch.as_tensor(scores.detach().numpy()).sign()
        if self.how == "lists":
            return torch.tensor(scores.tolist()).sign()
        return scores * scores.shape[0] / scores.abs().sum().item()


@pytest.mark.parametrize(("how", "stays"), [("cpu", False), ("numpy", False), ("lists", False), ("", True)])
def test_what_leaves_the_device_is_found(how, stays):
    assert stays_on_the_device(Fetching(how), [COSTS[0]], {}) == stays


def test_certificates():
    assert certificate(Assignment(), [COSTS], {}) == "`rows`, `columns`"
    assert certificate(TopK(1), [COSTS[0]], {}) == "by its algorithm"
    assert certificate(TourSearch(), [COSTS], {}) == "bound"
    assert certificate(HardFunction(torch.floor), [COSTS[0]], {}) == "-"


def test_keywords():
    assert takes(Assignment(), "warm_start")
    assert takes(Cached(Assignment()), "warm_start")
    assert takes(GridShortestPath(), "mask")
    assert not takes(TopK(1), "warm_start")


def test_starts():
    assert starts(Assignment()) == starts(IntegerProgram()) == starts(Async(Assignment())) == "second solve"
    assert starts(GraphMatching()) == starts(Cached(Assignment())) == "yes"  # from the caller alone
    assert starts(GridShortestPath()) == starts(Async(TopK(1))) == "-"


def test_references_are_read_from_the_tests(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "import networkx as nx\n"
        "from scipy.optimize import linear_sum_assignment\n"
        "from solverlayers.solvers import A, B, C, D\n"
        "CASES = [A(), B()]\n"
        "def reference(x):\n    return linear_sum_assignment(x)\n"
        "def test_one(case=CASES):\n    assert case == reference(1)\n"
        "def test_two():\n    assert C() == nx.shortest_path\n"
        "def test_three():\n    assert D() == 3\n"
    )
    (tmp_path / "cases.py").write_text(
        "ROWS = {'d': SolverCase(D(), (3,), subsets(3)), 'e': SolverCase(E(), (3,)), 'f': SolverCase(F(), (3,), None)}\n"
    )
    found = independent_checks(tmp_path)
    assert {name: sorted(found.get(name, ())) for name in "ABCDEF"} == {
        "A": ["scipy"],
        "B": ["scipy"],
        "C": ["networkx"],
        "D": ["enumeration"],
        "E": [],
        "F": [],
    }
    assert {"scipy", "networkx", "enumeration"} <= independent_checks(Path(__file__).parent)[TSP.__name__]
