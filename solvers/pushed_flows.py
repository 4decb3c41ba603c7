"""Flows in whole units in batched torch, on any device: cuts and costs of `kernels/max_flow.cpp` and `min_cost_flow.cpp`."""

from __future__ import annotations

import torch
from torch import Tensor

from .flow_search import FEASIBLE, INFEASIBLE
from .flow_vertices import at_vertices
from .pushing_excess import NEVER, Arcs, Pushed, arrange, relax, settle

_FINER = 4
"""Bits by which the costs become more precise from one phase to the next."""


def max_flow(
    capacity: Tensor, edges: Tensor, nodes: int, directed: bool, source: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """A greatest flow, negative against the direction of an edge, and which nodes are on the source's side of the cut.

    The source has more than can leave it, which first goes to the target, and what is stuck then goes back. The sides are those
    from which no unit more can leave, and as small as any.  # (B, E), (2, E) or (B, 2, E) -> (B, E), (B, nodes)
    """
    arcs = arrange(edges if edges.ndim == 3 else edges[None], len(capacity), nodes)
    plenty = 2 * capacity.sum(1, keepdim=True) + 1
    source, target = source[:, None], target[:, None]
    nothing = capacity.new_zeros(len(capacity), nodes)
    room = arcs.spread(capacity, torch.zeros_like(capacity) if directed else capacity)
    free, unit = torch.zeros_like(room), torch.zeros_like(source)  # no costs: prices count the arcs of a path
    begun = Pushed(room, nothing.scatter(1, source, plenty).scatter(1, target, -plenty), nothing)
    sent = settle(arcs, free, begun, unit)
    stuck = sent.excess.scatter(1, target, 0).scatter(1, source, -plenty)
    room = settle(arcs, free, sent._replace(excess=stuck), unit).room
    return capacity - arcs.ahead(room), _reached(arcs, room, source, nodes)


def _reached(arcs: Arcs, room: Tensor, source: Tensor, nodes: int) -> Tensor:
    """Which nodes the source reaches along arcs with room.  # (B, 2E), (B, 1) -> (B, nodes)"""
    there = torch.where(room.gather(1, arcs.back) > 0, 0, 1)  # distances are to the source, so arcs are turned round
    distance = room.new_ones(len(room), nodes).scatter_(1, source, 0)
    return relax(arcs, there, distance)[0] == 0


def min_cost_flow(costs: Tensor, capacity: Tensor, supply: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """As `flow_search.min_cost_flow`.  # (B, E), (B, E), (B, nodes), (2, E) or (B, 2, E) -> (B, E), (B,)"""
    if not costs.numel():
        return torch.zeros_like(costs), torch.where((supply != 0).any(1), INFEASIBLE, FEASIBLE)
    return at_vertices(_scaled, costs, capacity, supply, edges)


def _scaled(costs: Tensor, capacity: Tensor, supply: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """A cheapest flow, and whether there is one.  # (B, E), (B, E), (B, nodes) -> (B, E), (B,)

    Cost scaling (Goldberg and Tarjan, 1990): costs are multiplied by more than the number of nodes, so that a flow is optimal
    once reduced costs are -1 or more; each phase begins with the flow and the prices of a less precise one. After a phase,
    shortest paths tell which flows are optimal already, and give these prices that prove it.
    """
    nodes = supply.shape[1]
    arcs = arrange(edges if edges.ndim == 3 else edges[None], len(costs), nodes)
    fine = arcs.spread(costs, -costs) << nodes.bit_length()
    pushed = Pushed(arcs.spread(capacity, torch.zeros_like(capacity)), supply, torch.zeros_like(supply))
    precision = torch.frexp(fine.abs().amax(1, keepdim=True).double()).exponent.long()
    infeasible = torch.zeros_like(supply[:, :1], dtype=torch.bool)
    proved = infeasible
    while not proved.all():
        precision = (precision - _FINER).clamp_min(0)
        wrong = arcs.reduced(fine, pushed.price) < -(1 << precision)
        pushed = settle(arcs, fine, pushed.along(arcs, torch.where(wrong, pushed.room, 0)), precision)
        infeasible = infeasible | (pushed.excess > 0).any(1, keepdim=True)
        pushed = pushed._replace(room=pushed.room.where(~infeasible, 0), excess=pushed.excess.where(~infeasible, 0))
        proved, price = _proved(arcs, fine, pushed)
        pushed = pushed._replace(price=price)
    flow = (capacity - arcs.ahead(pushed.room)).where(~infeasible, 0)
    return flow, torch.where(infeasible.squeeze(1), INFEASIBLE, FEASIBLE)


def _proved(arcs: Arcs, costs: Tensor, pushed: Pushed) -> tuple[Tensor, Tensor]:
    """Which flows are optimal, and prices; those of the optimal ones make no reduced cost negative.  # (B, 1), (B, nodes)"""
    length = torch.where(pushed.room > 0, arcs.reduced(costs, pushed.price), NEVER)
    below, _ = relax(arcs, length, torch.zeros_like(pushed.price), most=pushed.price.shape[1])
    proved = (length >= below.gather(1, arcs.tail) - below.gather(1, arcs.head)).all(1, keepdim=True)
    return proved, torch.where(proved, pushed.price - below, pushed.price)
