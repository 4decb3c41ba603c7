"""Following pointers in batched torch."""

from __future__ import annotations

import torch
from torch import Tensor


def mark_paths(previous: Tensor, last: Tensor) -> Tensor:
    """All places met from `last` on by following `previous`.  # (N, B), (B,) -> (N, B) bool

    A path ends at a place that points to itself. Pointer doubling: the pointers get twice as long in each of log2(N) rounds,
    and each place marked so far marks the one it points to, so there is no loop over the length of the path.

    >>> mark_paths(torch.tensor([[0], [0], [0], [1]]), torch.tensor([3])).T
    tensor([[ True,  True, False,  True]])
    """
    size = len(previous)
    marked = torch.zeros(size + 1, *previous.shape[1:], dtype=torch.bool, device=previous.device)  # the last row is waste
    marked.scatter_(0, last[None], True)
    for _ in range((size - 1).bit_length()):
        marked.scatter_(0, torch.where(marked[:size], previous, size), True)
        previous = previous.gather(0, previous)
    return marked[:size]
