"""Minimum cuts and maximum flows, with the capacities of the edges as scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solution

from .common import in_type_of
from .flow_family import PROVED, FlowSolver, Units, as_units, backend, batched, real_edges
from .graph import Graph, check_nodes, count_with_ends, nodes_of_instances


@dataclass(frozen=True)
class _Cuts:
    """What a greatest flow and a least cut have to say of each other."""

    capacity: Tensor  # (B, E) float64
    units: Units  # the capacities
    carried: Tensor  # (B, E) int64, the flow in units, negative against the direction of an edge
    crossing: Tensor  # (B, E) boolean, from the source's side to the target's
    directed: bool

    @property
    def flow(self) -> Tensor:
        """As numbers, within the capacities.  # (B, E) float64"""
        least = torch.zeros_like(self.capacity) if self.directed else -self.capacity
        return self.units.numbers(self.carried).minimum(self.capacity).maximum(least)

    @property
    def value(self) -> Tensor:
        """What leaves the source.  # (B,) float64"""
        return self.units.numbers(torch.where(self.crossing, self.units.whole, 0).sum(1, keepdim=True))[:, 0]


def _endless_units(capacity: Tensor) -> Units:
    """Capacities in units, an infinite one as more than any cut without one.  # (B, E) -> Units"""
    endless = capacity.isinf()
    if not endless.any():
        return as_units(capacity, 4.0)
    units = as_units(capacity.where(~endless, 0), 4.0 + 2.0 * endless.sum(1, keepdim=True))
    return units._replace(whole=torch.where(endless, units.whole.sum(1, keepdim=True) + 1, units.whole))


class CutProblem(FlowSolver):
    """What cuts and flows share; both come from one search, and each proves the other optimal.

    Capacities are non-negative (a layer clips them, see `clip`), and rounded to multiples of a power of two, less than 2**-50
    of their sum for up to 1000 edges, in which flow and cut are exact. An infinite capacity is one without limit. `mask (B, E)`
    is False for an edge that is not there, or padding.

    Compiled kernels search on the CPU, or OR-Tools where they were not built, batched torch on other devices.
    """

    source: int | None
    target: int | None
    directed: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nodes(self, None if self.graph is None else self.graph.nodes, "source", "target")

    def clip(self, scores: Tensor) -> Tensor:
        """Capacities made non-negative.  # (B, E) -> (B, E)"""
        return scores.clamp_min(0)

    def _cuts(
        self,
        scores: Tensor,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        target: Tensor | None = None,
        edge_index: Tensor | None = None,
    ) -> _Cuts:
        edges, nodes = self._edges(scores, edge_index, mask)
        start = nodes_of_instances(self, "source", source, self.source, scores)
        end = nodes_of_instances(self, "target", target, self.target, scores)
        if edge_index is not None:
            nodes = count_with_ends(self, nodes, start, end)
        self._check_ends(start, end, nodes)
        capacity = self._numbers("a capacity", scores, mask)
        if capacity.numel() and (least := capacity.min().item()) < 0:
            self._refuse(capacity < 0, "a negative capacity", f"({least:g})", _NEGATIVE)
        cuts = self._search(capacity, real_edges(self.graph, edges, mask), nodes, start, end)
        return cuts if mask is None else replace(cuts, crossing=cuts.crossing & mask)

    def _search(self, capacity: Tensor, edges: Tensor, nodes: int, source: Tensor, target: Tensor) -> _Cuts:
        units = _endless_units(capacity)
        directed = self.directed if self.graph is None else self.graph.directed
        carried, side = backend(capacity).max_flow(units.whole, edges, nodes, directed, source, target)
        ends = batched(edges, len(capacity))
        tail, head = side.gather(1, ends[:, 0]), side.gather(1, ends[:, 1])
        crossing = (tail & ~head) if directed else tail != head
        self._refuse_endless(crossing & capacity.isinf())
        return _Cuts(capacity, units, carried, crossing, directed)

    def _refuse_endless(self, wrong: Tensor) -> None:
        bad = wrong.any(1)
        if bad.any():
            raise InfeasibleError(
                f"{type(self).__name__}: instance {first_instance(bad)} has a path of infinite capacity from its source to its "
                f"target ({int(bad.sum())} of {len(bad)} instances), so that its flow has no limit and nothing cuts it. Give "
                f"an edge of it a finite capacity.",
                bad,
            )


_NEGATIVE = "Capacities are 0 or greater: end the network in softplus or abs, or use `solver.clip(scores)`, as a layer does."


@dataclass(frozen=True)
class MinCut(CutProblem):
    """The cheapest set of edges without which no path leads from source to target (Ford and Fulkerson, 1956).

    Minimises `<scores, y>`, where scores are capacities and y marks the edges that cross from a set of nodes with the source to
    the others with the target; edges of a graph that is not directed cross either way. The optimum is the value of the maximum
    flow, and y its gradient, so that `(scores * y.detach()).sum(1)` is the value of the flow with its exact gradient. Where no
    path leads to the target nothing has to be cut, and y is 0. Shapes: `(B, E) -> (B, E)`.

    Args:
        graph: the graph that all instances share; None if each has its own.
        source, target: for instances that do not say otherwise.
        directed: whether the edges of instances with graphs of their own are one-way; a shared graph knows itself.

    Instance data: `source` and `target` (B,), integers; `mask` (B, E); `edge_index` (B, 2, E), integers, if there is no shared
    graph. Raises InstanceError for a negative capacity, InfeasibleError where every cut has infinite capacity.
    `solve_with_info` gives `duals["flow"] (B, E)`, a flow of the same value, which proves that no cut is cheaper. Ties: the
    cut nearest to the source, which has the fewest nodes on its side.

    >>> solver = MinCut(Graph([[0, 0, 1, 2], [1, 2, 3, 3]]), source=0, target=3)
    >>> info = solver.solve_with_info(torch.tensor([[3.0, 1.0, 2.0, 5.0]]))
    >>> info.solution, info.objective.item(), info.duals["flow"]
    (tensor([[0., 1., 1., 0.]]), 3.0, tensor([[2., 1., 2., 1.]], dtype=torch.float64))
    """

    graph: Graph | None = None
    source: int | None = None
    target: int | None = None
    directed: bool = True

    sense = "min"
    binary = True
    hull = "cuts"

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The cuts.  # (B, E) -> (B, E)"""
        return self._cuts(scores, **instance).crossing.to(scores.dtype)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The cuts, with the value of the flow as bound, and the flow itself."""
        self.check(scores, **instance)
        cuts = self._cuts(scores, **instance)
        y = cuts.crossing.to(scores.dtype)
        objective = cuts.capacity.where(cuts.crossing, 0).sum(1)
        optimal = objective - cuts.value <= PROVED * objective
        return Solution(y, objective, optimal, cuts.value.minimum(objective), {"flow": cuts.flow})

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Cuts differ in every edge.  # (*S, B, E) -> (*S, B, E)"""
        return direction if mask is None else torch.where(mask, direction, 0)


@dataclass(frozen=True)
class MaxFlow(CutProblem):
    """The greatest flow from source to target, within the capacities of the edges, which are the scores.

    A general hard function (`linear = False`): the set of flows depends on the scores, so rules that need an objective are
    refused; `StraightThrough`, `Identity`, `Perturbed` and `DAB` are not. Where only the value of the flow matters, use MinCut,
    whose gradient is exact. The solution is the flow along each edge, negative against the direction of an edge of a graph that
    is not directed. Fields, instance data and errors are those of MinCut. Among several greatest flows the one returned is not
    specified: always the same on one device, but on a GPU it may be another than on the CPU.

    `solve_with_info` has the value of the flow as objective and `duals["cut"] (B, E)`, a cut of the same value, which proves
    that no flow is greater: across it every edge is full.

    >>> MaxFlow(Graph([[0, 0, 1, 2], [1, 2, 3, 3]]), source=0, target=3)(torch.tensor([[3.0, 1.0, 2.0, 5.0]]))
    tensor([[2., 1., 2., 1.]])
    """

    graph: Graph | None = None
    source: int | None = None
    target: int | None = None
    directed: bool = True

    sense = "max"
    linear = False
    scale_free = False

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        """The flows.  # (B, E) -> (B, E)"""
        return in_type_of(self, self._cuts(scores, **instance).flow, scores)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The flows, their values, and the cuts that prove them."""
        self.check(scores, **instance)
        cuts = self._cuts(scores, **instance)
        optimal = torch.ones_like(cuts.value, dtype=torch.bool)
        return Solution(
            in_type_of(self, cuts.flow, scores), cuts.value, optimal, cuts.value, {"cut": cuts.crossing.to(scores.dtype)}
        )
