"""Noise that is a function of a seed, by the compiled kernel: made in one pass, and made again instead of being kept.

A law comes as a table of what belongs to its quantiles: the quantile itself, or the score there. See `noise.cpp` among the
kernels for how numbers are made of a seed; the seed comes from torch's generator, so `torch.manual_seed` governs them all.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .native import library

_DIGITS, _OCTAVES = 2, 32  # as in the kernel
_WHOLE = 2.0 ** (23 - _DIGITS)
"""Into how many parts a float32 number can cut a cell."""
_POINTS = tuple((1 - math.cos((2 * i + 1) * math.pi / 8)) / 2 for i in range(4))
"""Of a cell, Chebyshev's: the cubic through the values there is nearly as close as any."""


def probabilities() -> Tensor:
    """Four in each cell of one half of a table, between 2^-33 and 1/2, in float64."""
    cells = 1 + torch.arange(2**_DIGITS, dtype=torch.float64) / 2**_DIGITS
    digits = cells.unsqueeze(1) + torch.tensor(_POINTS, dtype=torch.float64) / 2**_DIGITS
    exponents = torch.arange(-_OCTAVES - 1, -1, dtype=torch.float64)
    return (2 ** exponents.unsqueeze(1) * digits.flatten()).flatten()


def table(lower: Tensor, upper: Tensor) -> Tensor:
    """The kernel's table from values at the quantiles of `probabilities()` and their complements.  # (4 C,) -> (2 C, 4)"""
    values = torch.cat([lower, upper]).view(-1, 4)
    powers = torch.tensor(_POINTS, dtype=torch.float64).unsqueeze(1) ** torch.arange(4)
    cubics = torch.linalg.solve(powers, values.mT).mT
    return (cubics / _WHOLE ** torch.arange(4)).float().contiguous()


def can_serve(like: Tensor) -> bool:
    """Whether the kernel draws for scores such as these, be it inside a graph of `torch.compile`."""
    return like.dtype == torch.float32 and like.is_cpu and not torch._C._are_functorch_transforms_active() and _is_there()


def _is_there() -> bool:
    return library() is not None


_is_there._dynamo_marked_constant = True  # type: ignore[attr-defined]


def new_seed() -> Tensor:
    return torch.randint(2**63 - 1, ())


def sample(table: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a new seed.  # -> shape"""
    if torch.compiler.is_compiling():
        return torch.ops.solverlayers.noise(new_seed(), table, shape)
    return _sample(table, new_seed(), shape)


def _sample(table: Tensor, seed: Tensor, shape: tuple[int, ...]) -> Tensor:
    out = torch.empty(shape)  # samples are numbered as `perturb` does, so that a graph draws what eager mode draws
    samples = len(out) if shape else 1
    return _perturb(table, int(seed), 1.0, None, out.numel() // max(samples, 1), samples, out)


@torch.library.custom_op("solverlayers::noise", mutates_args=(), schema="(Tensor seed, Tensor table, SymInt[] shape) -> Tensor")
def _operator(seed: Tensor, table: Tensor, shape: tuple[int, ...]) -> Tensor:
    return _sample(table, seed, tuple(shape))


@_operator.register_fake
def _(seed: Tensor, table: Tensor, shape: tuple[int, ...]) -> Tensor:
    return table.new_empty(shape)


def perturb(table: Tensor, seed: int, scale: float, base: Tensor, samples: int) -> Tensor:
    """`base + scale z_s` for all samples.  # (*E) -> (S, *E)"""
    base = base.contiguous()
    return _perturb(table, seed, scale, base.data_ptr(), base.numel(), samples, torch.empty(samples, *base.shape))


def _perturb(table: Tensor, seed: int, scale: float, base: int | None, size: int, samples: int, out: Tensor) -> Tensor:
    perturb = _functions(library()).perturb
    perturb(seed, table.data_ptr(), base, size, samples, scale, torch.get_num_threads(), out.data_ptr())
    return out


def weigh(table: Tensor, seed: int, weights: Tensor, like: Tensor) -> Tensor:
    """`sum_s weights[s, b] z[s, b, e]`, of the numbers that `perturb` adds.  # (S, *B), (*B, *E) -> (*B, *E)"""
    out = torch.empty(like.shape)
    weights = weights.float().contiguous()
    samples, rows = len(weights), math.prod(weights.shape[1:])
    weigh = _functions(library()).weigh
    width = out.numel() // max(rows, 1)
    weigh(seed, table.data_ptr(), weights.data_ptr(), samples, rows, width, torch.get_num_threads(), out.data_ptr())
    return out


class _Functions(NamedTuple):
    perturb: Any
    weigh: Any


@cache
def _functions(build: ctypes.CDLL) -> _Functions:
    pointer, size, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
    perturb, weigh = build.solverlayers_noise_perturb, build.solverlayers_noise_weigh
    perturb.argtypes, perturb.restype = (size, pointer, pointer, size, size, real, number, pointer), None
    weigh.argtypes, weigh.restype = (size, pointer, pointer, size, size, size, number, pointer), None
    return _Functions(perturb, weigh)
