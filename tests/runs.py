"""Scaffolds of tests that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from solverlayers.tasks.base import Task


class Killed(Exception):
    """The end of a run before its time."""


@contextmanager
def killed(epoch: int, step: int = 0) -> Iterator[None]:
    """Has the run inside die before this step of this epoch, both counted from 0."""
    untouched = Task.training_step

    def dying(self: Task, at: int) -> torch.Tensor:
        if (self.current_epoch, at) == (epoch, step):
            raise Killed
        return untouched(self, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "training_step", dying)
        with pytest.raises(Killed):
            yield


def timeless(measurements: Mapping[str, Any]) -> dict[str, Any]:
    """The measurements that do not depend on how fast the machine was."""
    return {name: value for name, value in measurements.items() if not name.startswith(("solver_", "train_seconds"))}
