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

__all__ = ["_LEVELS", "_find", "caller", "chooses", "contiguous", "library", "typed", "usable", "variant"]

POINTER, SIZE, INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


def typed(name: str, arguments: Sequence[Any]) -> Callable[[ctypes.CDLL, torch.dtype], Callable[..., int]]:
    """Finds in a build the function `solverlayers_NAME_float32`, or of another type, that takes these arguments of C."""

    @cache
    def function(build: ctypes.CDLL, dtype: torch.dtype) -> Callable[..., int]:
        found = getattr(build, f"solverlayers_{name}_{str(dtype).removeprefix('torch.')}")
        found.argtypes, found.restype = arguments, ctypes.c_int64
        return found

    return function


def caller(name: str, *arguments: Any) -> Callable[..., int]:
    """The call of a kernel by the types that it takes in C, where Tensor is the address of one, contiguous, or of none.

    The first argument is a tensor, whose type says which function serves; the last one in C, the number of threads, is added.
    Says how many instances were not solved. Raises MemoryError.
    """
    function = typed(name, [*(POINTER if kind is Tensor else kind for kind in arguments), INT])
    tensors = [place for place, kind in enumerate(arguments) if kind is Tensor]

    def call(scores: Tensor, *others: Any) -> int:
        build = library()
        assert build is not None
        values = [scores, *others, torch.get_num_threads()]
        for place in tensors:
            if values[place] is not None:
                values[place] = values[place].data_ptr()
        failures = function(build, scores.dtype)(*values)
        if failures < 0:
            kind = name.replace("_", " ")
            raise MemoryError(f"The {kind} kernel found no memory for scores of shape {tuple(scores.shape)}.")
        return failures

    return call


def contiguous(*tensors: Tensor | None) -> list[Any]:
    """Tensors as kernels take them; None stays what it is."""
    return [None if t is None else t.contiguous() for t in tensors]


def chooses(name: str, flags: int) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The call of a kernel that chooses edges, by score, of a structure that all instances share; it takes so many flags.

    Called as `choose(record, scores, mask, *flags)` with what describes the structure and scores float32 or float64. The second
    result says which instances have no solution, or scores of NaN or of infinity the other way, None where all is well.
    # (B, E), (B, E) -> (B, E), (B,)
    """
    call = caller(name, Tensor, Tensor, POINTER, SIZE, SIZE, *[INT] * flags, Tensor, Tensor)

    def choose(record: Any, scores: Tensor, mask: Tensor | None, *given: bool) -> tuple[Tensor, Tensor | None]:
        scores, mask = scores.contiguous(), None if mask is None else mask.contiguous()
        count, size = scores.shape
        out = torch.empty_like(scores)
        if not call(scores, mask, record, count, size, *given, out, None):
            return out, None
        status = torch.empty(count, dtype=torch.bool)  # rarely asked for, and as long in the making as many a solution
        call(scores, mask, record, count, size, *given, out, status)
        return out, status

    return choose
