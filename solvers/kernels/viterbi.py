"""Best state sequences on the CPU, compiled: see `viterbi.cpp` for the algorithm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import INT, SIZE, caller, contiguous

SOLVED, INFEASIBLE, INVALID = 0, 1, 2

_best_states = caller("viterbi", *[Tensor] * 4, *[SIZE] * 3, INT, *[Tensor] * 3)


class States(NamedTuple):
    """A batch of sequences: the states taken, and how often each transition is made; 0 where `status` is not SOLVED."""

    taken: Tensor
    made: Tensor
    status: Tensor | None = None


def best_states(unary: Tensor, transitions: Tensor, mask: Tensor | None, lengths: Tensor) -> States:
    """The best sequence of states of each chain.  # (B, T, S), (B, S, S) or (B, T-1, S, S), (B, T, S), (B,) -> States

    Scores are both float32 or both float64, of one step and one state at least; lengths, int64, are at least 1.
    """
    unary, transitions, *others = contiguous(unary, transitions, mask, lengths)
    taken, made = torch.empty_like(unary), torch.empty_like(transitions)
    status = torch.empty(len(unary), dtype=torch.uint8)
    failures = _best_states(unary, transitions, *others, *unary.shape, transitions.ndim == 4, taken, made, status)
    return States(taken, made, status if failures else None)
