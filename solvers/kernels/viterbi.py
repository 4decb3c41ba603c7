"""Best state sequences on the CPU, compiled: see `viterbi.cpp` for the algorithm."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from . import library, typed

SOLVED, INFEASIBLE, INVALID = 0, 1, 2

_ARGUMENTS = [*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3, ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_int]
_function = typed("viterbi", _ARGUMENTS)


class States(NamedTuple):
    """A batch of sequences: the states taken, and how often each transition is made; 0 where `status` is not SOLVED."""

    taken: Tensor
    made: Tensor
    status: Tensor | None = None


def best_states(unary: Tensor, transitions: Tensor, mask: Tensor | None, lengths: Tensor) -> States:
    """The best sequence of states of each chain.  # (B, T, S), (B, S, S) or (B, T-1, S, S), (B, T, S), (B,) -> States

    Scores are both float32 or both float64, of one step and one state at least; lengths, int64, are at least 1.
    """
    count, steps, states = unary.shape
    unary, transitions, lengths = unary.contiguous(), transitions.contiguous(), lengths.contiguous()
    inputs = unary, transitions, None if mask is None else mask.contiguous(), lengths
    taken, made = torch.empty_like(unary), torch.empty_like(transitions)
    status = torch.empty(count, dtype=torch.uint8)
    build = library()
    assert build is not None
    failures = _function(build, unary.dtype)(
        *[t if t is None else t.data_ptr() for t in inputs],
        count,
        steps,
        states,
        transitions.ndim == 4,
        taken.data_ptr(),
        made.data_ptr(),
        status.data_ptr(),
        torch.get_num_threads(),
    )
    if failures < 0:
        raise MemoryError(f"The Viterbi kernel found no memory for {count} chains of {steps} steps and {states} states.")
    return States(taken, made, status if failures else None)
