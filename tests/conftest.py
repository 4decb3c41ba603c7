"""What all tests share."""

import os

# Test workers share the cores: each with all of torch's threads, they would wait for each other most of the time. Set before
# torch is imported, and for the processes that tests start, too.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

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
