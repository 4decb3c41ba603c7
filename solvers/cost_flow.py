"""What flows of least cost share: whole units, proofs, failures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solution, inner

from .common import check_given, native
from .flow_family import PROVED, FlowSolver, Units, as_units, backend, batched
from .flow_search import INFEASIBLE
from .flow_vertices import shortest
from .kernels import flow as kernel
from .kernels import usable

_BALANCE = 1e-6
"""Supplies may miss their sum of zero by this share of their size, as sums of single precision do."""


class Flows(NamedTuple):
    """A flow, in whole units, too, with all that its proof needs."""

    y: Tensor  # (B, E) float64
    flow: Units  # (B, E)
    capacity: Units  # (B, E)
    endless: Tensor  # (B, E) boolean, where the capacity is only one more than any flow uses
    supply: Units  # (B, nodes)
    costs: Units  # (B, E)
    edges: Tensor  # (2, E) or (B, 2, E)


class CostFlow(FlowSolver):
    """What flows of least cost share.

    Costs, capacities and supplies are rounded to multiples of powers of two, in which the flow is exactly optimal: capacities
    and supplies below 2**-50 of their sum (for up to 1000 edges without limit), costs below 2**-44 of the largest for 100
    nodes, and two bits more for half as many. So flows are whole where capacities and supplies are. An infinite cost takes an
    edge away.

    Compiled kernels search on the CPU, OR-Tools where they were not built, batched torch on other devices. All end at a vertex,
    though not always at the same one where several cost the same.

    Where rounding is needed, capacities are widened by as much, so that it makes no instance infeasible, and the flow cut back
    to them.

    `solve_with_info` gives `duals["potential"] (B, nodes)`. They prove the flow optimal: `cost + potential[tail] -
    potential[head]` is at most 0 on edges that carry flow, and at least 0 on edges with room for more.
    """

    sense = "min"

    def _solved(self, scores: Tensor, mask: Tensor | None, capacity: Tensor | None, supply: Tensor, edges: Tensor) -> Tensor:
        """The flows alone; where a kernel finds them it rounds, too.  # (B, E), (B, E), (B, E), (B, nodes) -> (B, E)"""
        if usable(scores):
            costs = native(self, scores).double()
            costs = costs if mask is None else costs.where(mask, torch.inf)
            width = None if capacity is None else capacity.double()
            y = kernel.min_cost_flow_of_numbers(costs, width, supply.double(), edges)
            if y is not None:
                return y
        return self._flows(scores, mask, capacity, supply, edges).y

    def _flows(self, scores: Tensor, mask: Tensor | None, capacity: Tensor | None, supply: Tensor, edges: Tensor) -> Flows:
        """The flows with what proves them; without capacities there are no limits.  # (B, E), (B, E), (B, E), (B, nodes)"""
        costs = self._numbers("a cost", scores, mask)
        there = costs < torch.inf if mask is None else mask & (costs < torch.inf)
        capacity = (torch.full_like(costs, torch.inf) if capacity is None else capacity.double()).where(there, 0)
        self._refuse(~(capacity >= 0), "a capacity", "that is negative or NaN", "Capacities are 0 or greater.")
        balanced = self._balanced(supply.double())
        endless = capacity.isinf()
        room = 4.0 + 2.0 * endless.sum(1, keepdim=True)
        both = as_units(torch.cat([capacity.where(~endless, 0), balanced], 1), room)
        whole, given = both.whole.split([scores.shape[1], supply.shape[1]], 1)
        lost = (both.numbers(both.whole) != torch.cat([capacity.where(~endless, 0), balanced], 1)).any(1, keepdim=True)
        settled = _settled(given, _parts(edges, there & (capacity > 0), given))
        over = (settled - given).abs().sum(1, keepdim=True)
        whole = torch.where(there & (lost | (over > 0)), whole + over + supply.shape[1], whole)  # what rounding took away
        given = settled
        most = whole.sum(1, keepdim=True) + given.clamp_min(0).sum(1, keepdim=True) + 1
        whole = torch.where(endless, most, whole)
        nodes = supply.shape[1]
        finite = costs.where(there, 0)
        steps = nodes * (nodes + 1.0) * 4
        prices = as_units(finite, steps * _largest(finite) / _total(finite))
        self._refuse_bottomless(prices.whole, endless, edges, nodes)
        flow, status = backend(whole).min_cost_flow(prices.whole, whole, given, edges)
        self._refuse_infeasible(status)
        y = both.numbers(flow).minimum(capacity)
        return Flows(y, Units(flow, both.shift), Units(whole, both.shift), endless, Units(given, both.shift), prices, edges)

    def _info(self, scores: Tensor, y: Tensor, found: Flows) -> Solution:
        """`y`, with potentials that prove it optimal, and the bound that they give."""
        edges, nodes = batched(found.edges, len(scores)), found.supply.whole.shape[1]
        flow, full = found.flow.whole, found.capacity.whole
        room = torch.cat([(flow < full) | found.endless, flow > 0], 1)
        costs = found.costs.whole
        potential, _ = shortest(torch.cat([costs, -costs], 1), room, torch.cat([edges, edges.flip(1)], 2), nodes)
        reduced = costs + potential.gather(1, edges[:, 0]) - potential.gather(1, edges[:, 1])
        saved = (found.costs.numbers(reduced.clamp_max(0)) * found.capacity.numbers(full).where(~found.endless, 0)).sum(1)
        height = found.costs.numbers(potential)
        bound = saved - (height * found.supply.numbers(found.supply.whole)).sum(1)
        scores, flows = scores.double(), y.double()
        objective = inner(scores, flows, 1)
        proved = objective - bound <= PROVED * inner(scores.abs(), flows, 1)
        return Solution(y, objective, proved, bound.minimum(objective), {"potential": height})

    def _each(self, name: str, given: Tensor | None, scores: Tensor) -> Tensor:
        """What each instance has: its own data, or the field, a Constant, that all share."""
        check_given(self, name, given)
        if given is not None:
            return given
        shared = getattr(self, name).tensor.to(scores.device)
        return shared.expand(len(scores), *shared.shape)

    def _balanced(self, supply: Tensor) -> Tensor:
        self._refuse(~supply.isfinite(), "a supply", "that is infinite or NaN")
        off = supply.sum(1).abs() > _BALANCE * supply.abs().sum(1)
        if off.any():
            first = first_instance(off)
            given, taken = supply[first].clamp_min(0).sum(), -supply[first].clamp_max(0).sum()
            raise InfeasibleError(
                f"{type(self).__name__}: instance {first} has supplies of {given:g} and demands of {taken:g} "
                f"({int(off.sum())} of {len(off)} instances). Scale them to the same sum, or let one more node take the rest.",
                off,
            )
        return supply

    def _refuse_bottomless(self, costs: Tensor, endless: Tensor, edges: Tensor, nodes: int) -> None:
        if not (endless & (costs < 0)).any():
            return
        _, bad = shortest(costs, endless, batched(edges, len(costs)), nodes)
        if bad.any():
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(bad)} has a cycle of negative cost and infinite capacity "
                f"({int(bad.sum())} of {len(bad)} instances), so that its cost has no limit. Give an edge of it a capacity, or "
                f"make costs non-negative.",
                bad,
            )

    def _refuse_infeasible(self, status: Tensor) -> None:
        bad = status == INFEASIBLE
        if bad.any():
            raise InfeasibleError(
                f"{type(self).__name__}: instance {first_instance(bad)} has supplies that cannot reach its demands "
                f"({int(bad.sum())} of {len(bad)} instances): {self._advice}",
                bad,
            )

    _advice = "the edges between them are missing, or too narrow. Add edges, or raise capacities."


def _parts(edges: Tensor, there: Tensor, supply: Tensor) -> Tensor:
    """The lowest node to which edges that are there join each node.  # (2, E) or (B, 2, E), (B, E), (B, nodes) -> (B, nodes)"""
    tail, head = batched(edges, len(supply)).unbind(1)
    nodes = supply.shape[1]
    part = torch.arange(nodes, device=supply.device).expand_as(supply)
    while True:
        lower = torch.where(there, part.gather(1, tail).minimum(part.gather(1, head)), nodes)
        joined = part.scatter_reduce(1, tail, lower, "amin").scatter_reduce(1, head, lower, "amin")
        joined = joined.gather(1, joined)
        if torch.equal(joined, part):
            return part
        part = joined


def _settled(supply: Tensor, part: Tensor) -> Tensor:
    """What rounding leaves over in each part goes to its greatest supply or demand; what is more, to that of all.

    # (B, nodes), (B, nodes) int64
    """
    nodes = supply.shape[1]
    if not nodes:
        return supply
    size, none, place = supply.abs(), torch.zeros_like(supply), torch.arange(nodes, device=supply.device)
    left, total = none.scatter_add(1, part, supply), none.scatter_add(1, part, size)
    most = none.scatter_reduce(1, part, size, "amax").gather(1, part)
    first = (none + nodes).scatter_reduce(1, part, torch.where(size == most, place, nodes), "amin").gather(1, part)
    left = left.where(left.abs() <= _BALANCE * total + nodes, 0).gather(1, part)
    supply = supply - left.where(place == first, 0)
    return supply.scatter_add(1, supply.abs().argmax(1, keepdim=True), -supply.sum(1, keepdim=True))


def _largest(costs: Tensor) -> Tensor:
    return costs.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny) if costs.numel() else costs.sum(1, True)


def _total(costs: Tensor) -> Tensor:
    return costs.abs().sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def circulation(direction: Tensor, edges: Tensor, nodes: int, mask: Tensor | None) -> Tensor:
    """The part of `direction` that leaves each node as it enters it, along the edges of the mask.

    `direction - B^T (B B^T)^+ B direction`, with the incidence matrix B.  # (*S, B, E), (B, 2, E) -> (*S, B, E)
    """
    count, _, size = edges.shape
    there = torch.ones(count, size, dtype=torch.float64, device=direction.device) if mask is None else mask.double()
    incidence = there.new_zeros(count, nodes, size)
    incidence.scatter_add_(1, edges[:, :1], there.unsqueeze(1)).scatter_add_(1, edges[:, 1:], -there.unsqueeze(1))
    into = torch.linalg.pinv(incidence @ incidence.mT, hermitian=True)
    kept = direction if mask is None else torch.where(mask, direction, 0)
    across = incidence.to(direction.dtype)
    height = into.to(direction.dtype) @ (across @ kept.unsqueeze(-1))
    return kept - (across.mT @ height).squeeze(-1)
