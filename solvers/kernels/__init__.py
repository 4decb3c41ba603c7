"""Compiled batched CPU kernels, one file of C++ and one that calls it each; `solverlayers.native` loads them."""

import ctypes as ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from solverlayers.native import LEVELS as _LEVELS
from solverlayers.native import find as _find
from solverlayers.native import library as library
from solverlayers.native import usable as usable
from solverlayers.native import variant as variant

__all__ = ["_LEVELS", "_find", "chooses", "library", "typed", "usable", "variant"]


def typed(name: str, arguments: Sequence[Any]) -> Callable[[ctypes.CDLL, torch.dtype], Callable[..., int]]:
    """Finds in a build the function `solverlayers_NAME_float32`, or of another type, that takes these arguments of C."""

    @cache
    def function(build: ctypes.CDLL, dtype: torch.dtype) -> Callable[..., int]:
        found = getattr(build, f"solverlayers_{name}_{str(dtype).removeprefix('torch.')}")
        found.argtypes, found.restype = arguments, ctypes.c_int64
        return found

    return function


def chooses(name: str, flags: int) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The call of a kernel that chooses edges, by score, of a structure that all instances share; it takes so many flags.

    Called as `choose(record, scores, mask, *flags)` with what describes the structure and scores float32 or float64. The second
    result says which instances have no solution, or scores of NaN or of infinity the other way, None where all is well.
    # (B, E), (B, E) -> (B, E), (B,)
    """
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    function = typed(name, (*[pointer] * 3, size, size, *[number] * flags, pointer, pointer, number))

    def choose(record: Any, scores: Tensor, mask: Tensor | None, *flags: bool) -> tuple[Tensor, Tensor | None]:
        scores = scores.contiguous()
        mask = None if mask is None else mask.contiguous()
        count, size = scores.shape
        out, status = torch.empty_like(scores), (ctypes.c_bool * count)()
        build = library()
        assert build is not None
        failures = function(build, scores.dtype)(
            record,
            scores.data_ptr(),
            None if mask is None else mask.data_ptr(),
            count,
            size,
            *flags,
            out.data_ptr(),
            status,
            torch.get_num_threads(),
        )
        if failures < 0:
            raise MemoryError(f"The {name.replace('_', ' ')} kernel found no memory for {count} instances of {size} edges.")
        return out, torch.tensor(status, dtype=torch.bool) if failures else None

    return choose
