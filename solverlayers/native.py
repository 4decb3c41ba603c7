"""The compiled library of the package: C++ behind a plain C interface, loaded with ctypes.

`library()` gives the build for this machine's instruction set, or None where there is none; then the batched torch versions
serve. Kernels never see Python or torch headers, so one build serves every version of both, and the interpreter lock is
dropped while they run. `SOLVERLAYERS_KERNELS` chooses a build by name (`avx512`, `avx2`, `baseline`) or none (`off`). Sources
and builds lie in `solvers/kernels`.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch

LEVELS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}


def find(name: str) -> Path | None:
    """The build of a name, where it was made."""
    here = Path(__file__).resolve().parent  # in a checkout `solvers` lies beside the package, installed inside it
    folders = [folder / "solvers" / "kernels" for folder in (here, here.parent)]
    paths = (folder / f"_{name}{suffix}" for folder in folders for suffix in EXTENSION_SUFFIXES)
    return next((path for path in paths if path.exists()), None)


class _Kernels(ctypes.CDLL):
    """A build; one that is older than the sources says so, where ctypes would name a symbol that nobody knows."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if not name.startswith("solverlayers_"):
                raise
            raise ImportError(
                f"the compiled kernels are older than the sources: {Path(self._name).name} has no {name}. Build them again "
                f"with `pip install --force-reinstall --no-deps .`, in a checkout `pip install -e .`, or set "
                f"SOLVERLAYERS_KERNELS=off."
            ) from None


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels for this machine, or None (with one warning) where none were built."""
    chosen = os.environ.get("SOLVERLAYERS_KERNELS", "").lower()
    if chosen == "off":
        return None
    names = (chosen,) if chosen else LEVELS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",))
    for name in names:
        path = find(name)
        if path is not None:
            return _Kernels(str(path))
    if chosen:
        raise ValueError(f"SOLVERLAYERS_KERNELS={chosen}: no such build; use one of avx512, avx2, baseline, off.")
    warnings.warn(
        "solverlayers: the compiled kernels are missing, so solvers run in plain torch, several times slower. "
        "`solverlayers doctor` says how to build them.",
        stacklevel=2,
    )
    return None


@cache
def variant() -> str:
    """The name of the loaded build: `avx512`, `avx2`, `baseline`, or `none`."""
    lib = library()
    return "none" if lib is None else Path(lib._name).name.split(".")[0].lstrip("_")


def usable(*tensors: torch.Tensor) -> bool:
    """Whether the compiled kernels can serve these tensors: all on the CPU, not being traced, and a build at hand."""
    for t in tensors:  # `all` takes three times as long, as much as a small kernel
        if not t.is_cpu:
            return False
    return not torch.compiler.is_compiling() and library() is not None
