"""Spanning trees beside SciPy and rustworkx, arborescences beside NetworkX, from a float32 tensor of costs to a 0/1 tensor.

Needs the peer: `pip install rustworkx`. Run `python benchmarks/spanning_tree.py --quick`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import networkx as nx
import numpy as np
import rustworkx as rx
import torch
from scipy.sparse import csgraph, csr_array
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.arborescence import Arborescence, DenseArborescence
from solverlayers.solvers.graph import Graph, grid_graph
from solverlayers.solvers.spanning_tree import DenseSpanningTree, SpanningTree

DENSE = ((10, 256), (30, 256), (100, 64), (300, 8))
GRIDS = ((12, 64), (32, 16))
ARBORESCENCES = ((10, 32), (30, 4), (60, 1))


def scipy_dense(costs: Tensor) -> Tensor:
    """The halves of the matrices above the diagonal, which is all that SciPy needs."""
    y = np.zeros(costs.shape, dtype=np.float32)
    for b, matrix in enumerate(np.triu(costs.numpy(), 1)):
        tree = csgraph.minimum_spanning_tree(matrix).tocoo()
        y[b, tree.row, tree.col] = y[b, tree.col, tree.row] = 1
    return torch.from_numpy(y)


def scipy_sparse(graph: Graph, costs: Tensor) -> Tensor:
    """A CSR matrix of the edges, whose pattern is found beforehand; edges are told by their numbers."""
    tails, heads = graph.edges.numpy()
    pattern = csr_array((np.arange(1, len(graph) + 1), (tails, heads)), shape=(graph.nodes, graph.nodes))
    number = {pair: e for e, pair in enumerate(zip(tails.tolist(), heads.tolist()))}
    y = np.zeros(costs.shape, dtype=np.float32)
    for b, row in enumerate(costs.numpy()):
        matrix = csr_array((row[pattern.data - 1], pattern.indices, pattern.indptr), shape=pattern.shape)
        tree = csgraph.minimum_spanning_tree(matrix).tocoo()
        y[b, [number[pair] for pair in zip(tree.row.tolist(), tree.col.tolist())]] = 1
    return torch.from_numpy(y)


def rustworkx_sparse(graph: Graph, costs: Tensor) -> Tensor:
    y = np.zeros(costs.shape, dtype=np.float32)
    pairs = graph.edges.T.tolist()
    for b, row in enumerate(costs.tolist()):
        one = rx.PyGraph()
        one.add_nodes_from(range(graph.nodes))
        one.add_edges_from([(u, v, (cost, e)) for e, ((u, v), cost) in enumerate(zip(pairs, row))])
        tree = rx.minimum_spanning_edges(one, weight_fn=lambda data: data[0])
        y[b, [data[1] for _, _, data in tree]] = 1
    return torch.from_numpy(y)


def networkx_dense(costs: Tensor) -> Tensor:
    """Arborescences from node 0."""
    y = torch.zeros_like(costs)
    n = costs.shape[1]
    arcs = [(i, j) for i in range(n) for j in range(1, n) if i != j]
    for b, matrix in enumerate(costs.tolist()):
        graph = nx.DiGraph()
        graph.add_weighted_edges_from([(i, j, matrix[i][j]) for i, j in arcs])
        y[b][tuple(zip(*nx.minimum_spanning_arborescence(graph).edges))] = 1
    return y


def race_arborescences(board: Board) -> None:
    dense = DenseArborescence(root=0)
    for n, batch in ARBORESCENCES[:2] if board.quick else ARBORESCENCES:
        costs = torch.rand(batch, n, n)
        edges = (~torch.eye(n, dtype=torch.bool)).nonzero().T
        lists, in_lists = costs[:, edges[0], edges[1]].contiguous(), Arborescence(Graph(edges), root=0)
        best = networkx_dense(costs)
        assert torch.equal(dense(costs), best)
        assert torch.equal(in_lists(lists), best[:, edges[0], edges[1]])
        contestants = {
            "networkx": lambda c=costs: networkx_dense(c),
            "ours": lambda c=costs: dense(c),
            "ours, lists": lambda solver=in_lists, c=lists: solver(c),
        }
        times = race(contestants, "networkx", board.rounds)
        label = f"arborescence, n={n}, B={batch}"
        board.row(label, times)
        board.check(label, times["ours"].ratio, 0.002)


def main() -> None:
    board = Board("Spanning trees")
    torch.manual_seed(0)
    dense = DenseSpanningTree()
    for n, batch in DENSE[:2] if board.quick else DENSE:
        costs = torch.rand(batch, n, n) + 0.01
        costs = costs + costs.mT
        assert torch.equal(scipy_dense(costs), dense(costs))
        label = f"dense, n={n}, B={batch}"
        times = race({"scipy": lambda c=costs: scipy_dense(c), "ours": lambda c=costs: dense(c)}, "scipy", board.rounds)
        board.row(label, times)
        board.check(label, times["ours"].ratio, 0.02)
    for side, batch in GRIDS[:1] if board.quick else GRIDS:
        graph = grid_graph(side, side, neighbours=8)
        costs = torch.rand(batch, len(graph)) + 0.01
        sparse = SpanningTree(graph)
        contestants = {
            "scipy": lambda g=graph, c=costs: scipy_sparse(g, c),
            "rustworkx": lambda g=graph, c=costs: rustworkx_sparse(g, c),
            "ours": lambda s=sparse, c=costs: s(c),
        }
        results = {name: call() for name, call in contestants.items()}
        assert all(torch.equal(y, results["ours"]) for y in results.values())
        label = f"grid {side} x {side}, {len(graph)} edges, B={batch}"
        times = race(contestants, "scipy", board.rounds)
        board.row(label, times)
        board.check(label, times["ours"].ratio, 0.1)
    race_arborescences(board)
    board.finish()


if __name__ == "__main__":
    main()
