"""Excess that is pushed through graphs until deficits take it, in batched torch on any device: what flows there are found by.

Push and relabel in pulses (Goldberg and Tarjan, 1988; 1990 for costs): all nodes with excess push along all their open arcs at
once, and those that cannot push all of it lower their prices. Between series of pulses, shortest paths to the deficits lower
all prices at once (Goldberg, 1997), and tell which nodes no longer reach any: what they have is stuck. All numbers are whole.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEVER = 2**61
"""More than any distance, and twice of it is still a number."""


class Arcs(NamedTuple):
    """Each edge is an arc ahead and one back, which stand sorted by the node that they leave."""

    tail: Tensor  # (B, 2E)
    head: Tensor  # (B, 2E)
    back: Tensor  # (B, 2E), the arc the other way
    first: Tensor  # (B, nodes), the first arc that leaves a node
    last: Tensor  # (B, nodes), the one after the last
    place: Tensor  # (B, 2E), where the arcs ahead of all edges are, and then those back

    def spread(self, ahead: Tensor, back: Tensor) -> Tensor:
        """What edges have ahead and back, for the arcs.  # (B, E), (B, E) -> (B, 2E)"""
        both = torch.cat([ahead, back], 1)
        return torch.empty_like(both).scatter_(1, self.place, both)

    def ahead(self, values: Tensor) -> Tensor:
        """What the arcs ahead of all edges have.  # (B, 2E) -> (B, E)"""
        return values.gather(1, self.place[:, : self.place.shape[1] // 2])

    def reduced(self, costs: Tensor, price: Tensor) -> Tensor:
        """`cost + price[tail] - price[head]`.  # (B, 2E), (B, nodes) -> (B, 2E)"""
        return costs + price.gather(1, self.tail) - price.gather(1, self.head)

    def least(self, values: Tensor, least: Tensor) -> Tensor:
        """The least value of the arcs that leave a node, at most `least`.  # (B, 2E), (B, nodes) -> (B, nodes)"""
        return least.scatter_reduce(1, self.tail, values, "amin")


class Pushed(NamedTuple):
    """What is under way: room on the arcs, excess of the nodes (negative: deficit), prices of the nodes; int64."""

    room: Tensor  # (B, 2E)
    excess: Tensor  # (B, nodes)
    price: Tensor  # (B, nodes)

    def along(self, arcs: Arcs, amounts: Tensor) -> Pushed:
        """After amounts went along the arcs.  # (B, 2E)"""
        change = amounts.gather(1, arcs.back) - amounts
        total = _before(change)
        gained = total.gather(1, arcs.last) - total.gather(1, arcs.first)
        return Pushed(self.room + change, self.excess + gained, self.price)


def arrange(edges: Tensor, count: int, nodes: int) -> Arcs:
    """The arcs of `count` instances that share edges `(1, 2, E)`, or have their own.  # (B, 2, E) -> Arcs"""
    size = edges.shape[2]
    tail, order = torch.cat([edges[:, 0], edges[:, 1]], 1).sort(dim=1, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(2 * size, device=edges.device).expand_as(order))
    back = place.gather(1, torch.where(order < size, order + size, order - size))
    node = torch.arange(nodes, device=edges.device).repeat(len(edges), 1)
    first, last = torch.searchsorted(tail, node), torch.searchsorted(tail, node, right=True)
    return Arcs(*(part.expand(count, -1) for part in (tail, tail.gather(1, back), back, first, last, place)))


def settle(arcs: Arcs, costs: Tensor, pushed: Pushed, precision: Tensor) -> Pushed:
    """Pushes excess until what is left reaches no deficit along arcs with room; costs come out minimal but for a tolerance.

    Arcs with room have a reduced cost of minus `2 ** precision` or more, before and after.  # (B, 2E), (B, 1) -> Pushed
    """
    while True:
        pushed, reaching, steps = _approach(arcs, costs, pushed, precision)
        if not ((pushed.excess > 0) & reaching).any():
            return pushed
        for _ in range(steps):  # about as much work as the search was
            pushed = _pulse(arcs, costs, pushed, reaching, precision)


def _approach(arcs: Arcs, costs: Tensor, pushed: Pushed, precision: Tensor) -> tuple[Pushed, Tensor, int]:
    """Lowers prices so that an open path leads from all excess to a deficit, unless none leads there along arcs with room.

    Also returns which nodes reach a deficit, (B, nodes), and in how many steps all of them were found.
    """
    room, excess, price = pushed
    length = torch.where(room > 0, (arcs.reduced(costs, price) >> precision) + 1, NEVER)
    distance, steps = relax(arcs, length, torch.where(excess < 0, 0, NEVER))
    reaching = distance < NEVER
    furthest = torch.where((excess > 0) & reaching, distance, 0).amax(1, keepdim=True)
    return pushed._replace(price=price - (distance.minimum(furthest) << precision)), reaching, steps


def relax(arcs: Arcs, length: Tensor, distance: Tensor, most: int | None = None) -> tuple[Tensor, int]:
    """Distances `d[u] = min(d[u], length[u, v] + d[v])`, by relaxing all arcs at once (Bellman, 1958), and in how many steps.

    Ends when nothing changes, or after more than `most` steps.  # (B, 2E), (B, nodes) -> (B, nodes)
    """
    steps = 0
    while most is None or steps <= most:
        before = distance
        for _ in range(4):  # asking whether anything changed is dear on a GPU
            distance = arcs.least(length + distance.gather(1, arcs.head), distance)
        steps += 4
        if torch.equal(before, distance):
            break
    return distance, steps


def _pulse(arcs: Arcs, costs: Tensor, pushed: Pushed, reaching: Tensor, precision: Tensor) -> Pushed:
    """All excess that may still reach a deficit moves on, along arcs of negative reduced cost in the order of the arcs."""
    reduced = arcs.reduced(costs, pushed.price)
    open_ = torch.where(reduced < 0, pushed.room, 0)
    before = _before(open_)
    given = torch.where(reaching, pushed.excess, 0).clamp_min(0) + before.gather(1, arcs.first)
    amounts = (given.gather(1, arcs.tail) - before[:, :-1]).clamp_min(0).minimum(open_)
    room, excess, price = pushed.along(arcs, amounts)
    least = arcs.least(torch.where(room > 0, reduced, NEVER), torch.full_like(price, NEVER))
    blocked = (excess > 0) & reaching & (least >= 0) & (least < NEVER)
    return Pushed(room, excess, torch.where(blocked, price - least - (1 << precision), price))


def _before(values: Tensor) -> Tensor:
    """Sums of all values before each place, and of all.  # (B, n) -> (B, n + 1)"""
    return torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(1)], 1)
