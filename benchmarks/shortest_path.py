"""Shortest paths beside scipy's csgraph, networkx and rustworkx, one instance after the other in a loop.

A peer gets its graph ready made and may keep it; each call sets the new costs, solves and marks the path, as the layer does.
Goals, for 32 instances or more: grids of 12 x 12 cells in at most 0.02 of the time of scipy, graphs of 1000 nodes in 0.05, of
10 000 in 0.10. The last table is the second solve of a finite difference with the start that the first one leaves, and without:
on graphs of 10 000 nodes at most 0.9 of the time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import numpy as np
import rustworkx
import torch
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import Delaunay

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.shortest_path import Graph, GraphShortestPath, GridShortestPath, grid_graph

TERRAINS = torch.tensor([0.8, 1.2, 5.3, 7.7, 9.2])


def terrain(count: int, size: int) -> torch.Tensor:
    """Maps of patches of terrain, with a little noise, as a network would predict them.  # (B, size, size)"""
    patches = TERRAINS[torch.randint(0, len(TERRAINS), (count, size // 3 + 1, size // 3 + 1))]
    maps = patches.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, :size, :size]
    return maps + 0.1 * torch.rand(count, size, size)


def road_graph(nodes: int) -> Graph:
    """Points in the plane, each joined with those around it (Delaunay)."""
    triangles = Delaunay(np.random.default_rng(0).random((nodes, 2))).simplices
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]]), 1)
    return Graph(np.unique(pairs, axis=0).T, nodes, directed=False)


def random_graph(nodes: int) -> Graph:
    """Six random arcs out of each node, no two the same."""
    number = torch.arange(nodes).repeat_interleave(6)
    arcs = torch.stack([number, torch.randint(0, nodes, number.shape)])
    return Graph(arcs[:, arcs[0] != arcs[1]].unique(dim=1), nodes)


class Peers:
    """Each library solves a batch (B, arcs) of costs of one directed graph and returns the nodes of the paths."""

    def __init__(self, tail: np.ndarray, head: np.ndarray, nodes: int, source: int, target: int):
        self.source, self.target = source, target
        self.matrix = sparse.csr_matrix((np.arange(1.0, len(tail) + 1), (tail, head)), shape=(nodes, nodes))
        self.order = self.matrix.data.astype(int) - 1
        self.pairs = list(zip(tail.tolist(), head.tolist()))
        self.networkx = networkx.DiGraph(self.pairs)
        self.rustworkx = rustworkx.PyDiGraph(multigraph=True)
        self.rustworkx.add_nodes_from(range(nodes))
        self.rustworkx.add_edges_from([(u, v, k) for k, (u, v) in enumerate(self.pairs)])

    def scipy_loop(self, costs: np.ndarray) -> list[list[int]]:
        paths = []
        for row in costs:
            self.matrix.data[:] = row[self.order]
            before = csgraph.dijkstra(self.matrix, indices=self.source, return_predecessors=True)[1]
            path = [self.target]
            while path[-1] != self.source:
                path.append(int(before[path[-1]]))
            paths.append(path)
        return paths

    def networkx_loop(self, costs: np.ndarray) -> list[list[int]]:
        paths = []
        for row in costs:
            weight = dict(zip(self.pairs, row.tolist()))
            paths.append(
                networkx.bidirectional_dijkstra(self.networkx, self.source, self.target, lambda u, v, _, w=weight: w[u, v])[1]
            )
        return paths

    def rustworkx_loop(self, costs: np.ndarray) -> list[list[int]]:
        paths = []
        for row in costs:
            weight = row.tolist().__getitem__
            found = rustworkx.dijkstra_shortest_paths(self.rustworkx, self.source, self.target, weight_fn=weight)
            paths.append(list(found[self.target]))
        return paths


def mark(paths: list[list[int]], size: int) -> torch.Tensor:
    """The indicator of the nodes of each path.  # (B, size)"""
    out = np.zeros((len(paths), size), np.float32)
    for row, path in zip(out, paths):
        row[path] = 1
    return torch.from_numpy(out)


def race_on(
    board: Board, label: str, ours: Callable[[], torch.Tensor], peers: Peers, costs: Callable[[], np.ndarray], slow: bool
) -> float:
    """One row of the table; returns our ratio. `slow` leaves the slow peers out."""
    loops = {"scipy loop": peers.scipy_loop}
    if not slow:
        loops |= {"rustworkx loop": peers.rustworkx_loop, "networkx loop": peers.networkx_loop}
    nodes = peers.matrix.shape[0]
    theirs = {name: (lambda loop=loop: mark(loop(costs()), nodes)) for name, loop in loops.items()}
    times = race({"solverlayers": ours} | theirs, reference="scipy loop", rounds=board.rounds)
    board.row(label, times)
    return times["solverlayers"].ratio


def race_grid(board: Board, size: int, count: int) -> float:
    maps = terrain(count, size)
    graph = grid_graph(size, size, neighbours=8, directed=True)
    tail, head = graph.edges.numpy()
    peers = Peers(tail, head, graph.nodes, 0, graph.nodes - 1)
    solver = GridShortestPath()

    def arc_costs() -> np.ndarray:
        return maps.flatten(1)[:, graph.edges[1]].numpy()

    check_equal(solver(maps).flatten(1), mark(peers.scipy_loop(arc_costs()), graph.nodes), maps.flatten(1))
    return race_on(board, f"grid {size} x {size}, B={count}", lambda: solver(maps), peers, arc_costs, size > 12)


def edge_costs(graph: Graph, count: int) -> torch.Tensor:
    """Costs that vary about what they are for all.  # (B, E)"""
    return (0.5 + torch.rand(len(graph))) * (0.5 + torch.rand(count, len(graph)))


def describe(name: str, graph: Graph, count: int) -> str:
    return f"{name} graph, {graph.nodes} nodes, {len(graph)} edges, B={count}"


def race_graph(board: Board, name: str, graph: Graph, count: int) -> float:
    costs = edge_costs(graph, count)
    tail, head = graph.edges.numpy()
    both = (tail, head) if graph.directed else (np.r_[tail, head], np.r_[head, tail])
    peers = Peers(*both, graph.nodes, 0, graph.nodes - 1)
    solver = GraphShortestPath(graph, source=0, target=graph.nodes - 1)

    def arc_costs() -> np.ndarray:
        return (costs if graph.directed else torch.cat([costs, costs], 1)).numpy()

    for path, nodes in zip(solver.decode(solver(costs)), peers.scipy_loop(arc_costs())):
        assert path == nodes[::-1]
    slow = graph.nodes > 2000 or count > 32
    return race_on(board, describe(name, graph, count), lambda: solver(costs), peers, arc_costs, slow)


def race_start(board: Board, name: str, graph: Graph, count: int, loss: str) -> float:
    """The second solve of a finite difference; returns its ratio with a start. Targets are the paths of the next instance."""
    costs = edge_costs(graph, count)
    solver = GraphShortestPath(graph, source=0, target=graph.nodes - 1)
    y, start = solver.optimise_with_start(costs)
    true = y.roll(1, 0)
    moved = solver.clip(costs + 0.3 * (y - true if loss == "squared" else 1 - 2 * true))
    assert torch.equal(solver(moved), solver(moved, warm_start=start))
    contestants = {"without a start": lambda: solver(moved), "with a start": lambda: solver(moved, warm_start=start)}
    times = race(contestants, reference="without a start", rounds=board.rounds)
    board.row(f"{describe(name, graph, count)}, {loss} error", times)
    return times["with a start"].ratio


def check_equal(y: torch.Tensor, other: torch.Tensor, costs: torch.Tensor) -> None:
    """Both mark paths of the same costs."""
    torch.testing.assert_close((y * costs).sum(1), (other * costs).sum(1))


def main() -> None:
    board = Board("Shortest paths")
    torch.manual_seed(0)
    for size in (12, 30):
        for count in (1, 32, 256):
            if board.quick and (size, count) not in ((12, 32), (30, 32)):
                continue
            ratio = race_grid(board, size, count)
            if size == 12 and count >= 32:
                board.check(f"grid 12 x 12, B={count}", ratio, 0.02)
    limits = {1000: 0.05} if board.quick else {1000: 0.05, 10_000: 0.10}
    graphs = {(name, n): make(n) for name, make in (("road-like", road_graph), ("random", random_graph)) for n in limits}
    for nodes, count in [(1000, 32)] if board.quick else [(1000, 1), (1000, 32), (1000, 128), (10_000, 32)]:
        for name in ("road-like", "random"):
            graph = graphs[name, nodes]
            ratio = race_graph(board, name, graph, count)
            if count >= 32:
                board.check(describe(name, graph, count), ratio, limits[nodes])
    for (name, nodes), graph in graphs.items():
        for loss in ("squared", "Hamming"):
            ratio = race_start(board, name, graph, 32, loss)
            if nodes > 1000:
                board.check(f"with a start, {describe(name, graph, 32)}, {loss} error", ratio, 0.9)
    board.finish()


if __name__ == "__main__":
    main()
