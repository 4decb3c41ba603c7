"""Scaffolds of tests that compare the compiled kernels with the batched torch versions."""

from __future__ import annotations

import os
import re
from types import ModuleType

import pytest
import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError
from solverlayers.solver import Solver
from solverlayers.solvers import kernels

BUILDS = [name for name in ("baseline", "avx2", "avx512") if kernels._find(name)]
compiled = pytest.mark.skipif(not BUILDS or os.environ.get("SOLVERLAYERS_KERNELS") == "off", reason="no compiled kernels")
each_build = pytest.mark.parametrize("build", BUILDS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def use(build: str, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Has the kernels in `modules` of `solvers.kernels` run one build."""
    library = kernels.ctypes.CDLL(str(kernels._find(build)))
    for module in modules:
        monkeypatch.setattr(module, "library", lambda: library)


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
