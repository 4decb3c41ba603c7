"""Cuts, transport and flows of least cost beside OR-Tools and SciPy, from tensors to tensors; all answers are the same.

OR-Tools takes whole numbers, so all numbers are. Run `python benchmarks/flow.py --quick`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.sparse
import torch
from ortools.graph.python import max_flow, min_cost_flow
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers import Graph, MinCostFlow, MinCut, Transport, grid_graph

TOP = 2**20


def pixels(side: int) -> Graph:
    """A grid whose cells are joined to a source and a target, as in segmentation of images."""
    grid, cells = grid_graph(side, side), torch.arange(side * side)
    source, target = torch.full_like(cells, side * side), torch.full_like(cells, side * side + 1)
    both_ways = torch.cat([grid.edges, grid.edges.flip(0)], 1)
    return Graph(torch.cat([both_ways, torch.stack([source, cells]), torch.stack([cells, target])], 1), side * side + 2)


def ortools_cut(graph: Graph, capacity: Tensor) -> Tensor:
    tails, heads = graph.edges.numpy()
    y = torch.zeros_like(capacity)
    for one, row in zip(y, capacity.long()):
        solver = max_flow.SimpleMaxFlow()
        solver.add_arcs_with_capacity(tails, heads, row.numpy())
        solver.solve(graph.nodes - 2, graph.nodes - 1)
        side = np.zeros(graph.nodes, dtype=bool)
        side[solver.get_source_side_min_cut()] = True
        one.copy_(torch.from_numpy(side[tails] & ~side[heads]))
    return y


def ortools_flow(graph: Graph, costs: Tensor, capacity: Tensor, supply: Tensor) -> Tensor:
    tails, heads = graph.edges.numpy()
    y = torch.zeros_like(costs)
    for one, row in zip(y, costs.long()):
        solver = min_cost_flow.SimpleMinCostFlow()
        arcs = solver.add_arcs_with_capacity_and_unit_cost(tails, heads, capacity.numpy(), row.numpy())
        solver.set_nodes_supplies(np.arange(graph.nodes), supply.numpy())
        solver.solve()
        one.copy_(torch.from_numpy(solver.flows(arcs)))
    return y


def scipy_flow(graph: Graph, costs: Tensor, capacity: Tensor, supply: Tensor) -> Tensor:
    number = np.arange(len(graph))
    signs = np.concatenate([np.ones(len(graph)), -np.ones(len(graph))])
    incidence = scipy.sparse.csr_array(
        (signs, (graph.edges.numpy().reshape(-1), np.tile(number, 2))), (graph.nodes, len(graph))
    )
    bounds = np.stack([np.zeros(len(graph)), capacity.numpy()], 1)
    data = {"A_eq": incidence, "b_eq": supply.numpy(), "bounds": bounds, "method": "highs"}
    found = [scipy.optimize.linprog(row, **data).x for row in costs.numpy()]
    return torch.from_numpy(np.stack(found)).to(costs)


def bipartite(n: int) -> Graph:
    pair = torch.arange(n * n)
    return Graph(torch.stack([pair // n, n + pair % n]))


def main() -> None:
    board = Board("Cuts, transport and flows of least cost")
    torch.manual_seed(0)
    for side, batch in ((8, 32),) if board.quick else ((8, 32), (32, 8), (64, 4)):
        graph = pixels(side)
        solver, capacity = MinCut(graph, graph.nodes - 2, graph.nodes - 1), torch.randint(0, TOP, (batch, len(graph))).double()
        contestants = {"OR-Tools": lambda g=graph, c=capacity: ortools_cut(g, c), "ours": lambda s=solver, c=capacity: s(c)}
        assert torch.equal(*[(call() * capacity).sum(1) for call in contestants.values()])
        times = race(contestants, "OR-Tools", board.rounds)
        board.row(f"cut, {side} x {side} pixels, B={batch}", times)
        board.check(f"cut, {side} x {side}", times["ours"].ratio, 1.0)
    sizes = ((16, 32),) if board.quick else ((16, 32), (64, 8), (128, 4))
    problems = [(f"transport, {n} x {n}", bipartite(n), batch, True) for n, batch in sizes]
    problems += [(f"flow, grid {side} x {side}", grid_graph(side, side, directed=True), 8, False) for side in (8, 20)]
    for name, graph, batch, transport in problems[:2] if board.quick else problems:
        costs = torch.randint(0, TOP, (batch, len(graph))).double()
        capacity = torch.full((len(graph),), 10**6 if transport else 25)
        supply = torch.zeros(graph.nodes, dtype=torch.int64)
        half = graph.nodes // 2
        amounts = torch.randint(1, 1000, (half,)) if transport else torch.ones(half, dtype=torch.int64)
        supply[:half], supply[half : 2 * half] = amounts, -amounts.flip(0)
        ours = MinCostFlow(graph, capacity, supply)
        if transport:
            ours = Transport(supply[:half], -supply[half:])
        shaped = costs.reshape(batch, half, half) if transport else costs
        contestants = {
            "OR-Tools": lambda g=graph, c=costs, u=capacity, b=supply: ortools_flow(g, c, u, b),
            "SciPy": lambda g=graph, c=costs, u=capacity, b=supply: scipy_flow(g, c, u, b),
            "ours": lambda s=ours, c=shaped: s(c),
        }
        values = [(call().reshape(batch, -1) * costs).sum(1) for call in contestants.values()]
        assert torch.equal(values[0], values[2]), name
        assert torch.allclose(values[0], values[1]), name
        times = race(contestants, "OR-Tools", board.rounds)
        board.row(f"{name}, B={batch}", times)
        board.check(name, times["ours"].ratio, 0.25)
    board.finish()


if __name__ == "__main__":
    main()
