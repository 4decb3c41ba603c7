"""Families of sets as decision diagrams, and their cheapest sets in batched torch.

A zero-suppressed decision diagram (Minato, 1993) is a graph whose nodes ask, one after the other, whether an element is in
the set; the paths that end in "accept" are the sets of the family. However many there are, the cheapest is a shortest path.
"""

from __future__ import annotations

import ctypes
import heapq
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

REJECT, ACCEPT = 0, 1


@dataclass(frozen=True, eq=False, repr=False)
class Diagram:
    """Nodes 2, 3, ..., 2**15 at most, children before parents; 0 is "reject" and 1 "accept".

    `without` and `with_` (N,) are the children of each node: where to go on without its element, and with it. Nodes that ask
    for the same element stand together: `groups` has, in order, the element and where its nodes end. Paths start at `top`.
    """

    without: list[int]
    with_: list[int]
    groups: list[tuple[int, int]]
    top: int

    def __len__(self) -> int:
        """The number of nodes that ask."""
        return len(self.without)

    def __repr__(self) -> str:
        return f"<Diagram of {len(self)} nodes for {len(self.groups)} elements>"

    @cached_property
    def record(self) -> ctypes.Array[ctypes.c_int64]:
        """What the kernel takes: addresses of the arrays, and their sizes."""
        sizes = (len(self), len(self.groups), self._places[1], self.top)
        return (ctypes.c_int64 * 12)(*(t.data_ptr() for t in self._arrays), *sizes)

    @cached_property
    def _arrays(self) -> list[Tensor]:
        place = self._places[0]
        children = [self.without, self.with_, self._asked]
        places = [[place[child] for child in self.without], [place[child] for child in self.with_], place[2:]]
        groups = [[element for element, _ in self.groups], [0, *(end for _, end in self.groups)]]
        types = (torch.int32, torch.int16, torch.int32)
        return [torch.tensor(one, dtype=t) for lists, t in zip((children, places, groups), types) for one in lists]

    @cached_property
    def _asked(self) -> list[int]:
        """The element of each node."""
        asked: list[int] = []
        for element, end in self.groups:
            asked += [element] * (end - len(asked))
        return asked

    @cached_property
    def _places(self) -> tuple[list[int], int]:
        """A place for the value of each node, free again after the last node that reads it; how many places there are."""
        last: dict[int, int] = {}
        for k, children in enumerate(zip(self.without, self.with_)):
            last.update(dict.fromkeys(children, k))
        place, free = [0, 1], list(range(2, len(self) + 3))
        for k, children in enumerate(zip(self.without, self.with_)):
            for child in {*children} - {REJECT, ACCEPT}:
                if last[child] == k:
                    heapq.heappush(free, place[child])
            place.append(heapq.heappop(free))
        return place, max(place) + 1

    @cached_property
    def tensors(self) -> dict[torch.device, tuple[Tensor, Tensor, Tensor]]:
        """Children and elements of all nodes by device; rejecting and accepting ones lead to themselves."""
        return {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Children without and with the element, and the element, of all nodes.  # (N + 2,), (N + 2,), (N + 2,)"""
        if device not in self.tensors:
            lists = ([0, 1, *self.without], [0, 1, *self.with_], [0, 0, *self._asked])
            self.tensors[device] = tuple(torch.tensor(values, device=device) for values in lists)  # type: ignore[assignment]
        return self.tensors[device]


def best_sets(scores: Tensor, diagram: Diagram, largest: bool, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """As `kernels.decision_diagram.best_sets`, on any device; the same sets.  # (B, E) -> (B, E)"""
    costs = (-scores if largest else scores).double()
    costs = costs if mask is None else costs.where(mask, torch.inf)
    without, with_, element = diagram.on(scores.device)
    values = costs.new_empty(len(diagram) + 2, len(costs))
    values[REJECT], values[ACCEPT] = torch.inf, 0
    start = 2
    for number, end in diagram.groups:
        stop = end + 2
        more = values[with_[start:stop]] + costs[:, number]
        torch.minimum(more, values[without[start:stop]], out=values[start:stop])
        start = stop
    solution = _descend(values, costs, diagram, without, with_, element)
    failed = (values[diagram.top] == torch.inf) | ~(costs > -torch.inf).all(1)
    return solution.masked_fill_(failed[:, None], 0).to(scores.dtype), failed if failed.any() else None


def _descend(values: Tensor, costs: Tensor, diagram: Diagram, without: Tensor, with_: Tensor, element: Tensor) -> Tensor:
    """The sets of least value, from the top.  # (N + 2, B), (B, E) -> (B, E)"""
    at = torch.full((len(costs), 1), diagram.top, device=costs.device)
    solution = torch.zeros_like(costs)
    for _ in diagram.groups:
        asked, inside, outside = element[at], with_[at], without[at]
        taken = values.gather(0, inside.T).T + costs.gather(1, asked) < values.gather(0, outside.T).T
        taken &= at > ACCEPT
        solution.scatter_add_(1, asked, taken.to(solution.dtype))
        at = torch.where(taken, inside, outside)
    return solution
