"""What all tests share."""

import pytest
import torch
from builds import without_kernels

from solverlayers.solvers import kernels


@pytest.fixture
def gpu() -> str:
    """A device for tests with the mark `gpu`."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.fixture(params=["compiled", "torch"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test with each of the two implementations of a solver."""
    if request.param == "torch":
        without_kernels(monkeypatch)
    elif kernels.library() is None:
        pytest.skip("no compiled kernels")
