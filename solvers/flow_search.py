"""Flows in whole units by OR-Tools, one instance after the other: what serves on the CPU without the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from .flow_vertices import at_vertices

FEASIBLE, INFEASIBLE = 0, 1


def max_flow(
    capacity: Tensor, edges: Tensor, nodes: int, directed: bool, source: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """A greatest flow, negative against the direction of an edge, and which nodes are on the source's side of the cut.

    Whole numbers throughout; the sides are those from which no unit more can leave, and as small as any.  # (B, E), (B, nodes)
    """
    from ortools.graph.python import max_flow as ortools

    flow = torch.zeros_like(capacity)
    side = torch.zeros(len(capacity), nodes, dtype=torch.bool)
    for b, row in enumerate(capacity):
        solver = ortools.SimpleMaxFlow()
        tails, heads = (edges[b] if edges.ndim == 3 else edges).numpy()
        ahead = solver.add_arcs_with_capacity(tails, heads, row.numpy())
        back = ahead if directed else solver.add_arcs_with_capacity(heads, tails, row.numpy())
        start, end = int(source[b]), int(target[b])
        solver.add_arc_with_capacity(start, end, 0)  # the solver wants to know both ends
        status = solver.solve(start, end)
        if status != solver.OPTIMAL:
            raise RuntimeError(f"OR-Tools: the flow of instance {b} was not found: status {status}.")
        flow[b] = torch.from_numpy(solver.flows(ahead))
        if not directed:
            flow[b] -= torch.from_numpy(solver.flows(back))
        side[b, solver.get_source_side_min_cut()] = True
    return flow, side


def min_cost_flow(costs: Tensor, capacity: Tensor, supply: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest flow that carries all supplies off, and whether there is one.  # (B, E), (B, E), (B, nodes) -> (B, E), (B,)

    Whole numbers throughout; supplies sum to zero. The flow is a vertex: the edges on which it is neither zero nor as large as
    the capacity form no cycle.
    """
    return at_vertices(_cheapest, costs, capacity, supply, edges)


def _cheapest(costs: Tensor, capacity: Tensor, supply: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Any cheapest flow, and whether there is one."""
    from ortools.graph.python import min_cost_flow as ortools

    flow, status = torch.zeros_like(capacity), torch.full((len(costs),), FEASIBLE)
    for b, (price, row) in enumerate(zip(costs, capacity)):
        solver = ortools.SimpleMinCostFlow()
        tails, heads = (edges[b] if edges.ndim == 3 else edges).numpy()
        arcs = solver.add_arcs_with_capacity_and_unit_cost(tails, heads, row.numpy(), price.numpy())
        solver.set_nodes_supplies(torch.arange(supply.shape[1]).numpy(), supply[b].numpy())
        found = solver.solve()
        if found == solver.OPTIMAL:
            flow[b] = torch.from_numpy(solver.flows(arcs))
        elif found == solver.INFEASIBLE:
            status[b] = INFEASIBLE
        else:
            raise RuntimeError(f"OR-Tools: the flow of instance {b} was not found: {found.name}.")
    return flow, status
