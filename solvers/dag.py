"""Best paths in directed acyclic graphs, as which many dynamic programs can be written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .kernels import dag_path, usable
from .kernels.dag_path import INFEASIBLE, INVALID, SOLVED, Uses
from .tracing import mark_paths


@dataclass(init=False, frozen=True, eq=False)
class Dag:
    """Arcs from lesser to greater nodes, each with the number of its score; several arcs may share one.

    `tail`, `head` and `which (A,)` are integers; an arc whose number is `scores` has none. Of equally good ways to a node the
    arc that stands first is taken.
    """

    nodes: int
    scores: int
    start: Tensor
    tail: Tensor
    which: Tensor

    def __init__(self, nodes: int, scores: int, tail: Tensor, head: Tensor, which: Tensor):
        order = head.argsort(stable=True)
        start = torch.zeros(nodes + 1, dtype=torch.int64)
        start[1:] = head.bincount(minlength=nodes).cumsum(0)
        for name, value in (("start", start), ("tail", tail[order]), ("which", which[order])):
            object.__setattr__(self, name, value.int())
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "scores", scores)

    @cached_property
    def head(self) -> Tensor:
        """Where each arc leads.  # (A,)"""
        return torch.arange(self.nodes).repeat_interleave(self.start.diff())

    @cached_property
    def waves(self) -> tuple[Tensor, ...]:
        """The arcs in groups: those into the nodes that are one, two, ... arcs, at most, from a node without any."""
        tail, head = self.tail.long(), self.head
        depth = torch.zeros(self.nodes, dtype=torch.int64)
        while True:
            deeper = depth.scatter_reduce(0, head, depth[tail] + 1, "amax")
            if torch.equal(deeper, depth):
                break
            depth = deeper
        order = depth[head].argsort(stable=True)
        return order.split(depth[head].bincount()[1:].tolist()) if len(head) else ()


def best_paths(dag: Dag, scores: Tensor, mask: Tensor | None, source: Tensor, target: Tensor) -> Uses:
    """The path of greatest value from source to target of each instance.  # (B, n), (B, n), (B,), (B,) -> Uses

    `scores` are float32 or float64; one of minus infinity, or outside the mask, forbids.
    """
    if usable(scores):
        return dag_path.best_paths(scores, mask, dag.start, dag.tail, dag.which, source, target)
    return sweep(dag, scores, mask, source, target)


def sweep(dag: Dag, scores: Tensor, mask: Tensor | None, source: Tensor, target: Tensor) -> Uses:
    """`best_paths` in batched torch, on any device: the same answers, bit for bit, as the compiled kernel."""
    count, size = scores.shape
    scores = scores if mask is None else torch.where(mask, scores, -torch.inf)
    priced = torch.cat([scores, scores.new_zeros(count, 1)], 1)
    tail, head, which = (t.to(scores.device) for t in (dag.tail.long(), dag.head, dag.which.long()))
    value = scores.new_full((count, dag.nodes), -torch.inf).scatter_(1, source[:, None], 0)
    for wave in dag.waves:
        arcs = wave.to(scores.device)
        through = value[:, tail[arcs]] + priced[:, which[arcs]]
        value.scatter_reduce_(1, head[arcs].expand(count, -1), through, "amax")
    reached = value.gather(1, target[:, None])[:, 0] > -torch.inf
    status = torch.where((priced[:, which] < torch.inf).all(1), torch.where(reached, SOLVED, INFEASIBLE), INVALID)
    arc = _last_arcs(value, tail, head, priced[:, which], source)
    taken = arc < len(tail)
    ends = torch.where(taken, torch.cat([tail, tail.new_zeros(1)])[arc], torch.arange(dag.nodes, device=tail.device))
    taken = taken & mark_paths(ends.t(), target).t() & (status == SOLVED)[:, None]
    number = torch.where(taken, torch.cat([which, which.new_full((1,), size)])[arc], size)
    uses = torch.zeros_like(priced).scatter_add_(1, number, taken.to(scores.dtype))[:, :size]
    return Uses(uses, None if bool((status == SOLVED).all()) else status)


def _last_arcs(value: Tensor, tail: Tensor, head: Tensor, priced: Tensor, source: Tensor) -> Tensor:
    """The first arc by which the best path enters each node, the number of arcs where none does.  # (B, N) -> (B, N)"""
    arcs = len(tail)
    tight = (value[:, tail] + priced == value[:, head]) & (value[:, head] > -torch.inf) & (head != source[:, None])
    number = torch.where(tight, torch.arange(arcs, device=tail.device), arcs)
    first = torch.full_like(value, arcs, dtype=torch.int64)
    return first.scatter_reduce_(1, head.expand(len(value), -1), number, "amin")
