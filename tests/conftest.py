"""What all tests share."""

import pytest
import torch


@pytest.fixture
def gpu() -> str:
    """A device for tests with the mark `gpu`."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"
