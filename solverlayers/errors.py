"""What can go wrong with single instances of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class InstanceError(ValueError):
    """Some instances of a batch have no answer; the others can still be solved.

    `instances` is a boolean mask `(B,)` of the ones that failed. `incumbent`, where there is one, holds the
    best solutions known for them, in the shape of the whole batch of solutions. `solve_instance` of an InstanceSolver, which
    knows of no batch, raises one without `instances`, and with the `incumbent` of its instance if it has one.
    """

    def __init__(self, message: str, instances: Tensor | None = None, incumbent: Tensor | np.ndarray | None = None):
        super().__init__(message)
        self.instances = torch.zeros(1, dtype=torch.bool) if instances is None else instances
        self.incumbent = None if incumbent is None else torch.as_tensor(incumbent)

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions are copied, also from other processes, by their arguments
        return type(self), (str(self), self.instances, self.incumbent)


class InfeasibleError(InstanceError):
    """An instance has no feasible solution, or its data make no sense."""


class SolverTimeoutError(InstanceError):
    """The time limit passed before optimality was proved; `incumbent` holds what was found."""


def first_instance(mask: Tensor) -> int:
    """The index of the first failed instance of `mask`, for a message.  # (B,) -> int"""
    return int(mask.nonzero()[0, 0])
