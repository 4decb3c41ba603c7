"""Spanning arborescences in batched torch, on any device: see `kernels/arborescence.cpp` for the idea.

All contracted nodes of all instances take their cheapest arcs at once, and all cycles are contracted at once, until there are
none. Arcs from one node more, an outside that stands for the root, are taken where no other arc leads into a contracted node.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.arborescence import Arborescences


def grow(
    scores: Tensor,
    edges: Tensor,
    nodes: int,
    root: Tensor,
    largest: bool,
    mask: Tensor | None = None,
    proof: bool = False,
) -> Arborescences:
    """The spanning arborescence of least cost (or greatest, if `largest`) of each graph; see the kernel.  # (B, E)"""
    count, size = scores.shape
    allowed = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    state = _State(scores, edges, nodes, root, largest, allowed)
    while bool(state.fresh.any()):
        state.choose()
        state.contract()
    arc = state.open()[:, :nodes]
    taken = torch.zeros(count, size + nodes + 1, dtype=scores.dtype, device=scores.device).scatter_(1, arc, 1)
    outside = taken[:, size : size + nodes].sum(1)
    failed = state.failed | (outside > 1)
    solution = taken[:, :size].masked_fill(failed[:, None], 0)
    duals, parents = (state.dual[:, : 2 * nodes], state.parent[:, : 2 * nodes]) if proof else (None, None)
    return Arborescences(solution, failed if failed.any() else None, duals, parents)


def grow_dense(scores: Tensor, root: Tensor, largest: bool, mask: Tensor | None = None, proof: bool = False) -> Arborescences:
    """The spanning arborescence of each matrix; see the kernel.  # (B, n, n)"""
    count, n, _ = scores.shape
    tails, heads = (~torch.eye(n, dtype=torch.bool, device=scores.device)).nonzero().T
    edges = torch.stack([tails, heads])
    allowed = None if mask is None else mask[:, tails, heads]
    own = edges if mask is None else edges.expand(count, 2, -1)
    found = grow(scores[:, tails, heads], own, n, root, largest, allowed, proof)
    solution = torch.zeros_like(scores)
    solution[:, tails, heads] = found.solution
    return found._replace(solution=solution)


class _State:
    """Nodes are 0, ..., nodes - 1, those contracted from there on, and the last but one is the outside; the last is waste.

    Arcs are those given, one from the outside into each node, and a last one that is none.
    """

    def __init__(self, scores: Tensor, edges: Tensor, nodes: int, root: Tensor, largest: bool, mask: Tensor):
        count, size = scores.shape
        device = scores.device
        self.outside, self.waste, self.none = 2 * nodes, 2 * nodes + 1, size + nodes
        own = edges.ndim == 3
        ends = (edges if own else edges.expand(count, 2, size)).where(mask[:, None], self.waste)
        number = torch.arange(nodes, device=device).expand(count, nodes)
        self.tail = torch.cat([ends[:, 0], torch.full_like(number, self.outside)], 1)
        self.head = torch.cat([ends[:, 1], number], 1)
        costs = (-scores if largest else scores).double().where(mask, torch.inf)
        self.cost = torch.cat([costs, costs.new_zeros(count, nodes)], 1)
        self.late = torch.arange(size + nodes, device=device) >= size  # arcs from the outside come last
        self.every = torch.arange(self.waste + 1, device=device).expand(count, self.waste + 1)
        named = torch.zeros(count, self.waste + 1, dtype=torch.bool, device=device).scatter_(1, ends.flatten(1), True)
        named[:, :nodes] |= not own
        named[:, nodes:] = False
        self.fresh = named & (self.every != root[:, None])  # nodes that have to choose an arc
        self.free = (root < 0)[:, None]
        self.top = self.every[:, :].clone()  # the outermost node around each
        self.parent = torch.full_like(self.every, -1)
        self.dual = costs.new_zeros(count, self.waste + 1)
        self.arc = torch.full_like(self.every, self.none)
        self.next = torch.full((count, 1), nodes, device=device)
        self.failed = torch.zeros(count, dtype=torch.bool, device=device)
        self.rounds: list[tuple[Tensor, Tensor]] = []

    def choose(self) -> None:
        """Each fresh node takes its cheapest arc, and pays for it."""
        tail, head = self.top.gather(1, self.tail), self.top.gather(1, self.head)
        enters = self.fresh.gather(1, head) & (tail != head) & (self.cost < torch.inf)
        inner = enters & ~self.late
        reached = torch.zeros_like(self.fresh).scatter_(1, head.where(inner, self.waste), True)
        offers = inner | (enters & self.late & self.free & ~reached.gather(1, head))
        price = self.cost.where(offers, torch.inf)
        least = self.dual.new_full(self.dual.shape, torch.inf).scatter_reduce(1, head, price, "amin")
        best = offers & (price == least.gather(1, head))
        number = torch.arange(self.none, device=head.device).expand_as(head).where(best, self.none)
        arc = torch.full_like(self.arc, self.none).scatter_reduce(1, head, number, "amin")
        found = self.fresh & (arc < self.none)
        self.failed |= (self.fresh & ~found).any(1)
        self.arc = torch.where(found, arc, self.arc)
        self.dual = torch.where(found, least, self.dual)
        paid = torch.where(found, least, 0).gather(1, head)
        self.cost = torch.where((tail != head) & found.gather(1, head), self.cost - paid, self.cost)

    def contract(self) -> None:
        """Each cycle of chosen arcs becomes one node, which is fresh."""
        tails = torch.cat([self.tail, torch.full_like(self.tail[:, :1], self.waste)], 1)
        before = self.top.gather(1, tails.gather(1, self.arc))
        ours = self.top == self.every
        step = torch.where(ours & (self.arc < self.none), before, self.every)
        lowest, far = self.every, step
        for _ in range(self.waste.bit_length()):
            lowest = torch.minimum(lowest, lowest.gather(1, far))
            far = far.gather(1, far)
        inside = torch.zeros_like(self.fresh).scatter_(1, far, True) & (step != self.every)
        leader = inside & (lowest == self.every)
        new = (self.next + leader.cumsum(1) - 1).clamp_max(self.waste)
        around = torch.where(inside, new.gather(1, lowest), self.every)
        self.rounds.append((self.top, torch.zeros_like(self.fresh).scatter_(1, around.where(inside, self.waste), True)))
        self.parent = torch.where(inside, around, self.parent)
        self.top = around.gather(1, self.top)
        self.next = self.next + leader.sum(1, keepdim=True)
        self.fresh = torch.zeros_like(self.fresh).scatter_(1, around.where(inside, self.waste), True)
        self.fresh[:, self.waste] = False

    def open(self) -> Tensor:
        """The arcs into all nodes: from the last cycles to the first, the arc into a cycle replaces one in it."""
        arc = self.arc
        heads = torch.cat([self.head, torch.full_like(self.head[:, :1], self.waste)], 1)
        for top, made in reversed(self.rounds):
            part = top.gather(1, heads.gather(1, arc)).where(made, self.waste)
            arc = arc.scatter(1, part, arc)
        return arc
