"""Compiled batched CPU kernels, one file of C++ and one that calls it each; `solverlayers.native` loads them."""

import ctypes as ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from solverlayers.native import LEVELS as _LEVELS
from solverlayers.native import find as _find
from solverlayers.native import library as library
from solverlayers.native import usable as usable
from solverlayers.native import variant as variant

__all__ = ["_LEVELS", "_find", "library", "typed", "usable", "variant"]


def typed(name: str, arguments: Sequence[Any]) -> Callable[[ctypes.CDLL, torch.dtype], Callable[..., int]]:
    """Finds in a build the function `solverlayers_NAME_float32`, or of another type, that takes these arguments of C."""

    @cache
    def function(build: ctypes.CDLL, dtype: torch.dtype) -> Callable[..., int]:
        found = getattr(build, f"solverlayers_{name}_{str(dtype).removeprefix('torch.')}")
        found.argtypes, found.restype = arguments, ctypes.c_int64
        return found

    return function
