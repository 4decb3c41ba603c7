"""Numbers that all instances of a solver share."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SHORT = 24
"""Numbers that a repr spells out."""


class Constant:
    """Numbers, a vector or a matrix, in float64, that compare, hash, pickle, and print as nested lists while they are few.

    `data` is anything that NumPy makes an array of, a tensor, or a SciPy matrix, which stays sparse. Raises ValueError for NaN.

    >>> Constant([[1, 0], [0, 2]])
    [[1.0, 0.0], [0.0, 2.0]]
    """

    def __init__(self, data: Any):
        if isinstance(data, Constant):
            data = data.array
        if hasattr(data, "tocsr"):
            self.array: Any = data.tocsr().astype(np.float64)
            self.array.sum_duplicates()
        else:
            data = data.detach().cpu().numpy() if hasattr(data, "detach") else data
            self.array = np.array(data, dtype=np.float64)
            self.array.setflags(write=False)
        if np.isnan(self.stored).any():
            raise ValueError("There is NaN among the numbers that all instances share.")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def stored(self) -> np.ndarray:
        """The numbers, of a sparse matrix those that it stores, in any shape."""
        return self.array.data if hasattr(self.array, "tocsr") else self.array

    def dense(self) -> np.ndarray:
        """The numbers, zeros and all."""
        return self.array.toarray() if hasattr(self.array, "tocsr") else self.array

    def __repr__(self) -> str:
        if self.array.size <= _SHORT:
            return str(self.dense().tolist())
        return f"<{' x '.join(map(str, self.shape))} numbers>"

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Constant) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def tensor(self) -> Tensor:
        """The numbers, dense, as a tensor that nobody writes to."""
        return torch.tensor(self.dense())

    @cached_property
    def _key(self) -> tuple[tuple[int, ...], bytes, bytes]:
        flat = self.dense().reshape(-1)
        places = np.flatnonzero(flat)
        return self.shape, places.tobytes(), flat[places].tobytes()


def keep_constants(solver: object, *names: str) -> None:
    """Makes Constants of the fields of a solver that are not None."""
    for name in names:
        given = getattr(solver, name)
        if given is None:
            continue
        try:
            constant = Constant(given)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{type(solver).__name__}: {name} makes no array of numbers. {error}") from error
        object.__setattr__(solver, name, constant)
