"""Compiled batched CPU kernels, one file of C++ and one that calls it each; `solverlayers.native` loads them."""

import ctypes as ctypes

from solverlayers.native import LEVELS as _LEVELS
from solverlayers.native import find as _find
from solverlayers.native import library as library
from solverlayers.native import usable as usable
from solverlayers.native import variant as variant

__all__ = ["_LEVELS", "_find", "library", "usable", "variant"]
