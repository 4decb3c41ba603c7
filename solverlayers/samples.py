"""Solutions at several samples of the scores: their mean, and how much better than the others each one was.

Compiled kernels serve float32 on the CPU in plain eager mode, torch serves the rest. Where solutions are of zeros and ones,
they take them down as they form their mean, a bit an entry: that record is kept until the backward pass in their place. The
kernels of some solvers make the scores themselves, some at a time, so that neither scores nor solutions of all samples are ever
there.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .native import library

if TYPE_CHECKING:
    from .noise import Seeded

_WORD = 16  # entries that a word of a record holds, as in the kernel


class _Arguments(ctypes.Structure):
    """What such a kernel is given, as in `samples.hpp`."""

    _fields_ = [
        ("seed", ctypes.c_int64),
        ("table", ctypes.c_void_p),
        ("theta", ctypes.c_void_p),
        *[(name, ctypes.c_int64) for name in ("samples", "rows", "width")],
        ("mean", ctypes.c_void_p),
        ("record", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int),
    ]


class Samples:
    """Samples `theta + sigma z_s` of scores that a solver's `maximise_samples` makes itself, and what it makes of them.

    `draw` is the noise, of a seed; `theta (B, *E)` is float32, on the CPU, contiguous and not empty; solutions are of zeros and
    ones. The solver fills `mean`, in the shape of `theta`, and `record (S, B, words)`. `start`, with a row for each instance of
    each sample, is what the solver starts from, or None; if `keeps_start`, it leaves one here for similar scores.
    """

    mean: Tensor
    record: Tensor

    def __init__(self, draw: Seeded, theta: Tensor, sigma: float, start: Tensor | None, keeps_start: bool):
        self.draw, self.theta, self.sigma, self.start, self.keeps_start = draw, theta, sigma, start, keeps_start

    def fill(self, kernel: str, *rest: Tensor | int | None) -> bool:
        """Has a kernel fill in mean and record, given the rest of its arguments; whether it solved all instances."""
        count, rows, width = self.draw.samples, len(self.theta), self.theta[0].numel()
        self.mean = torch.empty_like(self.theta)
        self.record = torch.empty(count, rows, -(-width // _WORD), dtype=torch.int16)
        table, theta, mean, record = (t.data_ptr() for t in (self.draw.values, self.theta, self.mean, self.record))
        threads = torch.get_num_threads()
        arguments = _Arguments(self.draw.seed, table, theta, count, rows, width, mean, record, self.sigma, threads)
        rest = tuple([t.contiguous() if isinstance(t, Tensor) else t for t in rest])  # kept until the kernel is done
        values = [ctypes.c_int64(t) if isinstance(t, int) else ctypes.c_void_p(t if t is None else t.data_ptr()) for t in rest]
        outcome = getattr(library(), f"solverlayers_{kernel}_mean")(ctypes.byref(arguments), *values)
        if outcome < 0:
            raise MemoryError(f"The kernel {kernel} found no memory for {count} samples of {tuple(self.theta.shape)}.")
        return outcome == 0


def mean_and_record(y: Tensor, batch: torch.Size) -> tuple[Tensor, Tensor]:
    """The mean over the samples of solutions of zeros and ones, and what has to be kept of them: a record, where the kernel
    serves, or themselves.  # (S, *B, *E) -> (*B, *E), (S, *B, words) or (S, *B, *E)
    """
    if not _serves(y):
        return y.mean(0), y
    y = y.contiguous()
    rows, width = batch.numel(), y.shape[1 + len(batch) :].numel()
    mean = torch.empty(y.shape[1:])
    record = torch.empty(len(y), *batch, -(-width // _WORD), dtype=torch.int16)
    address = mean.data_ptr(), record.data_ptr()
    _functions(library()).mean(y.data_ptr(), len(y), rows, width, torch.get_num_threads(), *address)
    return mean, record


def advantages(kept: Tensor, grad: Tensor, batch: torch.Size, scale: float, pairs: bool = False) -> Tensor:
    """`scale (<grad, y_s> - its mean over the samples that have nothing to do with s)`, for solutions or their record.

    With `pairs` the two halves of the samples mirror each other, and the mean leaves out a sample and its mirror image; this
    wants the solutions themselves.  # kept, (*B, *E) -> (S, *B)
    """
    rows, width = batch.numel(), grad.shape[len(batch) :].numel()
    recorded = kept.dtype == torch.int16
    if not recorded and (pairs or not _serves(kept) or not kept.is_contiguous()):
        products = torch.bmm(grad.reshape(rows, 1, width).to(kept.dtype), kept.reshape(len(kept), rows, width).permute(1, 2, 0))
        weight = products[:, 0].t()
        return (weight - baseline(weight, pairs)).mul_(scale).reshape(len(kept), *batch)
    grad = grad.contiguous()
    weight = torch.empty(len(kept), *batch)
    weigh = _functions(library()).weigh_record if recorded else _functions(library()).weigh_solutions
    threads = torch.get_num_threads()
    weigh(kept.data_ptr(), grad.data_ptr(), len(kept), rows, width, scale, threads, weight.data_ptr())
    return weight


def solutions(kept: Tensor, event: torch.Size, dtype: torch.dtype) -> Tensor:
    """The solutions themselves, or those of a record.  # (S, *B, *E) or (S, *B, words) -> (S, *B, *E)"""
    if kept.dtype != torch.int16:
        return kept
    bits = (kept.unsqueeze(-1) >> torch.arange(_WORD, dtype=torch.int16)) & 1
    return bits.flatten(-2)[..., : event.numel()].unflatten(-1, event).to(dtype)


def baseline(y: Tensor, pairs: bool) -> Tensor:
    """The mean of the samples that have nothing to do with each.  # (S, ...) -> (S, ...)"""
    if not pairs:
        return (y.sum(0) - y) / max(len(y) - 1, 1)
    own = y.unflatten(0, (2, -1)).sum(0)
    others = (own.sum(0) - own) / max(len(y) - 2, 1)
    return torch.cat([others, others])


def _serves(y: Tensor) -> bool:
    return y.dtype == torch.float32 and y.is_cpu and library() is not None


class _Functions(NamedTuple):
    mean: Any
    weigh_solutions: Any
    weigh_record: Any


@cache
def _functions(build: ctypes.CDLL) -> _Functions:
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    found = _Functions(*[getattr(build, f"solverlayers_samples_{name}") for name in _Functions._fields])
    found.mean.argtypes, found.mean.restype = (pointer, size, size, size, number, pointer, pointer), None
    for weigh in found[1:]:
        weigh.argtypes, weigh.restype = (pointer, pointer, size, size, size, ctypes.c_float, number, pointer), None
    return found
