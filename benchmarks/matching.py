"""Perfect matchings beside rustworkx, from a float32 tensor of costs to a 0/1 tensor: complete graphs, as lists of edges and as
matrices, and grids.

rustworkx takes integers, so costs are multiples of 2**-20. Needs the peer: `pip install rustworkx`. Run
`python benchmarks/matching.py --quick`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rustworkx as rx
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import BATCHES, Board, in_turn, race
from solverlayers.solvers.dense_matching import DensePerfectMatching
from solverlayers.solvers.graph import Graph, grid_graph
from solverlayers.solvers.matching import PerfectMatching

SCALE = 2**20
DENSE = ((10, 32), (20, 32), (40, 32), (60, 8), (100, 4))
GRIDS = ((4, 4, 4, 32), (4, 4, 4, 256), (8, 8, 4, 32), (8, 8, 4, 256), (8, 8, 8, 32), (10, 10, 4, 32), (12, 12, 4, 32))


def rustworkx(graph: Graph, costs: Tensor) -> Tensor:
    y = torch.zeros_like(costs)
    pairs = graph.edges.T.tolist()
    number = {pair: e for e, pair in enumerate(map(tuple, pairs))}
    for b, row in enumerate((costs * SCALE).long().tolist()):
        one = rx.PyGraph()
        one.add_nodes_from(range(graph.nodes))
        one.add_edges_from([(u, v, SCALE - cost) for (u, v), cost in zip(pairs, row)])
        matched = rx.max_weight_matching(one, max_cardinality=True, weight_fn=int)
        y[b, [number[min(u, v), max(u, v)] for u, v in matched]] = 1
    return y


def symmetric(graph: Graph, costs: Tensor) -> Tensor:
    """Half the cost of each edge on either side of the diagonal."""
    matrix = costs.new_zeros(len(costs), graph.nodes, graph.nodes)
    matrix[:, graph.edges[0], graph.edges[1]] = matrix[:, graph.edges[1], graph.edges[0]] = costs / 2
    return matrix


def main() -> None:
    board = Board("Perfect matchings")
    torch.manual_seed(0)
    dense = [(f"dense, n={n}", Graph(torch.triu_indices(n, n, 1)), batch, 0.12) for n, batch in DENSE]
    grids = [
        (f"grid {height} x {width}, {neighbours} neighbours", grid_graph(height, width, neighbours), batch, 0.01)
        for height, width, neighbours, batch in GRIDS
    ]
    for name, graph, batch, limit in [*dense[:2], *grids[:3]] if board.quick else [*dense, *grids]:
        batches = [torch.randint(0, SCALE, (batch, len(graph))) / SCALE for _ in range(BATCHES)]
        contestants = {
            "rustworkx": in_turn(lambda c, g=graph: rustworkx(g, c), batches),
            "ours": in_turn(PerfectMatching(graph), batches),
        }
        values = [(call() * batches[0]).double().sum(1) for call in contestants.values()]
        if name.startswith("dense"):
            matrices = [symmetric(graph, costs) for costs in batches]
            contestants["ours, matrices"] = in_turn(DensePerfectMatching(), matrices)
            values.append((contestants["ours, matrices"]() * matrices[0]).double().sum((1, 2)))
        assert all(torch.equal(value, values[0]) for value in values), name
        times = race(contestants, "rustworkx", board.rounds)
        label = f"{name}, B={batch}"
        board.row(label, times)
        for contestant in [*contestants][1:]:
            board.check(f"{label}, {contestant}", times[contestant].ratio, limit)
    board.finish()


if __name__ == "__main__":
    main()
