"""The README's code blocks run as they stand."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_code_block_runs(block):
    torch.manual_seed(0)
    exec(compile(BLOCKS[block], f"README.md, block {block + 1}", "exec"), {"__name__": "__main__"})
