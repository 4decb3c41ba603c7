"""Scaffolds of tests of solvers: seeds, refusals, and the compiled kernels beside the batched torch versions."""

from __future__ import annotations

import os
import re
from types import ModuleType

import pytest
import torch
from torch import Tensor

from solverlayers import native
from solverlayers.errors import InfeasibleError
from solverlayers.solver import Solver
from solverlayers.solvers import kernels

RUNS_HERE = native.LEVELS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",))
BUILDS = [name for name in reversed(RUNS_HERE) if kernels._find(name)]
compiled = pytest.mark.skipif(not BUILDS or os.environ.get("SOLVERLAYERS_KERNELS") == "off", reason="no compiled kernels")
each_build = pytest.mark.parametrize("build", BUILDS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def use(build: str, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Has the kernels run one build, also those in `modules`, which load it themselves."""
    library = kernels.ctypes.CDLL(str(kernels._find(build)))
    for module in (kernels, *modules):
        monkeypatch.setattr(module, "library", lambda: library)


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where none were built: `usable` asks `native`, kernels ask their package."""
    for module in (native, kernels):
        monkeypatch.setattr(module, "library", lambda: None)


def serve(name: str, monkeypatch: pytest.MonkeyPatch, *solvers: ModuleType) -> None:
    """Has the modules of `solvers` run on "torch", or on a build of the kernels."""
    for solver in solvers:
        monkeypatch.setattr(solver, "usable", lambda *tensors: name != "torch")
    if name != "torch":
        use(name, monkeypatch)


def refused(
    solver: Solver,
    scores: tuple[Tensor, ...],
    message: str,
    error: type[Exception] = InfeasibleError,
    instances: list[bool] | None = None,
    **instance: Tensor,
) -> None:
    """The solver refuses the scores with exactly this message, and names the instances."""
    with pytest.raises(error, match=f"^{re.escape(message)}$") as caught:
        solver(*scores, **instance)
    assert instances is None or caught.value.instances.tolist() == instances
