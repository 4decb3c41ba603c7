"""Shortest paths, against SciPy, NetworkX, enumeration and the documented rule for ties, and kernels against torch."""

import copy
import heapq
import math
import pickle
import re
import time
from functools import cache
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from builds import BUILDS, generator, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import csgraph

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.rules import Blackbox
from solverlayers.solvers import graph_path, graph_sweeps, grid_path, grid_sweeps, path_family
from solverlayers.solvers.kernels import graph_path as graph_kernel
from solverlayers.solvers.kernels import grid_path as grid_kernel
from solverlayers.solvers.shortest_path import Graph, GraphShortestPath, GridEdgeShortestPath, GridShortestPath, grid_graph

FAMILIES = ("uniform", "terrain", "ties", "zeros", "mostly zero", "offset", "magnitudes")
DTYPES = (torch.float32, torch.float64, torch.int64)
SHAPES = ((1, 1), (1, 7), (6, 1), (2, 2), (3, 5), (12, 12), (17, 9), (40, 40))
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.int64: 0.0}


@pytest.fixture(params=["torch", *BUILDS])
def backend(request, monkeypatch):
    """Each implementation in turn: batched torch, and each build of the kernels that runs here."""
    use(request.param, monkeypatch)
    return request.param


def use(name, monkeypatch):
    serve(name, monkeypatch, path_family, grid_path, graph_path)


def draw(family, shape, dtype=torch.float64, seed=0):
    """Costs of very different structure."""
    g = generator(seed)
    u = torch.rand(shape, generator=g, dtype=torch.float64)
    if family == "terrain":
        u = torch.tensor([0.8, 1.2, 5.3, 7.7, 9.2], dtype=torch.float64)[torch.randint(0, 5, shape, generator=g)]
    elif family == "ties":
        u = torch.randint(1, 3, shape, generator=g)
    elif family == "zeros":
        u = torch.randint(0, 2, shape, generator=g)
    elif family == "mostly zero":
        u = (u - 0.7).clamp_min(0)
    elif family == "offset":
        u = 1e5 + u
    elif family == "magnitudes":
        u = torch.where(u < 0.5, u * 1e-12, u * 1e5)
    return (u * 100 if dtype == torch.int64 and family not in ("ties", "zeros") else u).to(dtype)


def steps(neighbours):
    return [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0) and (neighbours == 8 or i * j == 0)]


def grid_arcs(height, width, neighbours):
    return [
        (r * width + q, (r + i) * width + q + j)
        for r in range(height)
        for q in range(width)
        for i, j in steps(neighbours)
        if 0 <= r + i < height and 0 <= q + j < width
    ]


def scipy_distances(cost, neighbours, source):
    """Distances in float64 from row-major cell `source`, whose own cost counts."""
    height, width = cost.shape
    flat = cost.double().flatten().numpy()
    arcs = np.array(grid_arcs(height, width, neighbours), int).reshape(-1, 2)
    arcs = arcs[np.isfinite(flat[arcs]).all(1)]
    matrix = sparse.csr_matrix((flat[arcs[:, 1]], (arcs[:, 0], arcs[:, 1])), shape=(flat.size, flat.size))
    return flat[source] + csgraph.dijkstra(matrix, indices=source)


def random_cells(count, height, width, seed):
    g = generator(seed)
    return torch.stack([torch.randint(0, height, (count,), generator=g), torch.randint(0, width, (count,), generator=g)], 1)


def check_cells(solver, costs, y, best, source=None, target=None):
    """`y` marks exactly the cells of a path of adjacent cells from source to target, of cost `best`."""
    assert y.shape == costs.shape
    assert y.dtype == costs.dtype
    paths = solver.decode(y) if source is None else solver.decode(y, source=source)
    for b, path in enumerate(paths):
        assert path[0] == (tuple(source[b].tolist()) if source is not None else (0, 0))
        assert path[-1] == (tuple(target[b].tolist()) if target is not None else tuple(n - 1 for n in y.shape[1:]))
        assert len(set(path)) == len(path) == y[b].sum() == (y[b] != 0).sum()
        assert all(y[b][cell] == 1 for cell in path)
        assert all((q - p, s - r) in steps(solver.neighbours) for (p, r), (q, s) in pairwise(path))
        cost = sum(costs[b][cell].double().item() for cell in path)
        assert cost == pytest.approx(best[b], rel=TOLERANCE[costs.dtype], abs=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("neighbours", [4, 8])
def test_grid_paths_are_optimal(backend, neighbours, shape):
    solver = GridShortestPath(neighbours)
    for costs, best in solved_grids(neighbours, shape):
        check_cells(solver, costs, solver(costs), best)


@cache
def solved_grids(neighbours, shape):
    """Batches of costs, below and above the width of a vector, with what the best paths cost."""
    problems = []
    for seed, (family, dtype) in enumerate((f, d) for f in FAMILIES for d in DTYPES):
        costs = draw(family, ((1, 2, 19)[seed % 3] if shape[0] < 15 else 1, *shape), dtype, seed)
        problems.append((costs, [scipy_distances(cost, neighbours, 0)[-1] for cost in costs]))
    return problems


@pytest.mark.parametrize("neighbours", [4, 8])
def test_grid_paths_with_walls_and_own_ends(backend, neighbours):
    solver, failures = GridShortestPath(neighbours), 0
    for seed, family in enumerate(FAMILIES):
        for height, width in ((4, 5), (11, 7)):
            costs = draw(family, (20, height, width), seed=seed)
            mask = torch.rand(costs.shape, generator=generator(seed)) < 0.75
            source, target = random_cells(20, height, width, seed), random_cells(20, height, width, seed + 1)
            walled = costs.where(mask, torch.inf)
            start = (source[:, 0] * width + source[:, 1]).tolist()
            best = [
                scipy_distances(cost, neighbours, s)[t]
                for cost, s, t in zip(walled, start, (target @ torch.tensor([width, 1])))
            ]
            blocked = torch.tensor([not math.isfinite(d) for d in best])
            costs[~mask] = torch.nan
            ends = {"source": source, "target": target}
            with pytest.raises(InfeasibleError) as error:
                solver(costs, mask=mask, **ends)
            assert torch.equal(error.value.instances, blocked)
            failures += int(blocked.sum())
            free = ~blocked
            ends = {key: cells[free] for key, cells in ends.items()}
            y = solver(costs[free], mask=mask[free], **ends)
            assert torch.equal(solver(walled[free], **ends), y)  # an infinite cost is a wall
            assert not y[~mask[free]].any()
            check_cells(solver, costs[free], y, [d for d in best if math.isfinite(d)], **ends)
    assert failures > 20


def reference_path(cost, neighbours, source, target):
    """The path that the rule for ties asks for, one cell after the other; distances by Dijkstra's algorithm."""
    height, width = cost.shape
    cells = [(r, q) for r in range(height) for q in range(width)]

    def beside(cell):
        return [c for i, j in steps(neighbours) if 0 <= (c := (cell[0] + i, cell[1] + j))[0] < height and 0 <= c[1] < width]

    distance = dict.fromkeys(cells, math.inf) | {source: cost[source].item()}
    heap = [(distance[source], source)]
    while heap:
        d, here = heapq.heappop(heap)
        for there in beside(here):
            if d == distance[here] and d + cost[there].item() < distance[there]:
                distance[there] = d + cost[there].item()
                heapq.heappush(heap, (distance[there], there))
    ways_out = [c for c in cells if c == source or min((distance[n] for n in beside(c)), default=math.inf) < distance[c]]
    levels, queue = dict.fromkeys(ways_out, 0), list(ways_out)
    for here in queue:
        for there in beside(here):
            if distance[there] == distance[here] and there not in levels:
                levels[there] = levels[here] + 1
                queue.append(there)
    path = [target]
    while path[-1] != source:
        path.append(min(beside(path[-1]), key=lambda c: (distance[c], levels.get(c, math.inf), c)))
    return path[::-1]


@pytest.mark.parametrize("family", ["ties", "zeros", "mostly zero", "magnitudes"])
@pytest.mark.parametrize("neighbours", [4, 8])
def test_grid_ties_go_as_documented(backend, neighbours, family):
    solver = GridShortestPath(neighbours)
    for seed, (height, width) in enumerate(((3, 3), (5, 4), (2, 9), (8, 8))):
        costs = draw(family, (20, height, width), seed=seed)
        source, target = random_cells(20, height, width, seed), random_cells(20, height, width, seed + 9)
        found = solver.decode(solver(costs, source=source, target=target), source=source)
        for cost, s, t, path in zip(costs, source.tolist(), target.tolist(), found):
            assert path == reference_path(cost, neighbours, tuple(s), tuple(t))


def simple_paths(height, width, neighbours):
    graph = nx.DiGraph(grid_arcs(height, width, neighbours))
    paths = list(nx.all_simple_paths(graph, 0, height * width - 1))
    out = torch.zeros(len(paths), height * width, dtype=torch.float64)
    for row, path in zip(out, paths):
        row[path] = 1
    return out


ALL_PATHS = {key: simple_paths(*key) for key in ((3, 3, 4), (3, 3, 8), (2, 4, 8), (4, 3, 4))}


@pytest.mark.parametrize("key", ALL_PATHS, ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_path_is_cheaper(key, data):
    height, width, neighbours = key
    numbers = data.draw(st.lists(st.integers(0, 5), min_size=height * width, max_size=height * width))
    costs = torch.tensor(numbers, dtype=torch.float64).view(1, height, width)
    y = GridShortestPath(neighbours)(costs).view(-1)
    values = ALL_PATHS[key] @ costs.view(-1)
    assert y @ costs.view(-1) == values.min()
    assert (ALL_PATHS[key] == y).all(1).any()


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grid_kernels_equal_torch_bit_for_bit(family, dtype, monkeypatch):
    for seed, (count, height, width, neighbours) in enumerate(((1, 9, 9, 8), (16, 5, 12, 4), (35, 13, 3, 8), (7, 20, 21, 4))):
        costs = draw(family, (count, height, width), dtype, seed)
        mask = torch.rand(costs.shape, generator=generator(seed)) < 0.8
        ends = [torch.randint(0, height * width, (count,), generator=generator(seed + i)) for i in (1, 2)]
        for arguments in ((None, None, None), (mask, *ends)):
            expected = grid_sweeps.find(costs, neighbours, *arguments, distances=True)
            for build in BUILDS:
                use(build, monkeypatch)
                found = grid_kernel.find(costs, neighbours, *arguments, distances=True)
                assert torch.equal(found.solution, expected.solution)
                assert torch.equal(found.distances, expected.distances)
                assert (found.status is None) == (expected.status is None)
                if found.status is not None:
                    assert torch.equal(found.status.long(), expected.status.long())


def random_graph(nodes, edges, directed, seed):
    return Graph(torch.randint(0, nodes, (2, edges), generator=generator(seed)), nodes, directed)


def networkx_distance(edges, costs, directed, source, target, nodes):
    graph = nx.MultiDiGraph() if directed else nx.MultiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_weighted_edges_from((u, v, c) for (u, v), c in zip(edges.T.tolist(), costs.double().tolist()) if c < math.inf)
    try:
        return nx.dijkstra_path_length(graph, source, target)
    except nx.NetworkXNoPath:
        return math.inf


def check_edges(edges, directed, costs, y, path, source, target, best):
    """`y` marks exactly the edges of `path`, from source to target, of cost `best`."""
    chosen = edges[:, y != 0].T.tolist()
    assert path[0] == source
    assert path[-1] == target
    assert len(set(path)) == len(path) == len(chosen) + 1
    assert ((y == 0) | (y == 1)).all()
    walked = list(pairwise(path))
    assert (
        sorted(map(tuple, chosen)) == sorted(walked) if directed else sorted(map(sorted, chosen)) == sorted(map(sorted, walked))
    )
    cost = costs.double()[y != 0].sum().item()
    assert cost == pytest.approx(best, rel=TOLERANCE[costs.dtype], abs=0)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("nodes", [1, 2, 9, 60, 200])
def test_graph_paths_are_optimal(backend, nodes, directed):
    """Parallel edges, loops, masked and infinite edges, batches below and above the width of a vector."""
    solved = 0
    for seed, (family, count) in enumerate(zip(FAMILIES, (1, 2, 3, 19, 8, 5, 33))):
        graph = random_graph(nodes, 3 * nodes, directed, seed)
        costs = draw(family, (count, len(graph)), DTYPES[seed % 3], seed)
        mask = torch.rand(costs.shape, generator=generator(seed)) < 0.9
        source, target = (torch.randint(0, nodes, (count,), generator=generator(seed + i)) for i in (1, 2))
        effective = costs.double().where(mask, torch.inf)
        best = [
            networkx_distance(graph.edges, cost, directed, s, t, nodes)
            for cost, s, t in zip(effective, source.tolist(), target.tolist())
        ]
        free = torch.tensor([math.isfinite(d) for d in best])
        solver = GraphShortestPath(graph)
        if not free.all():
            with pytest.raises(InfeasibleError) as error:
                solver(costs, mask=mask, source=source, target=target)
            assert torch.equal(error.value.instances, ~free)
        y = solver(costs[free], mask=mask[free], source=source[free], target=target[free])
        assert y.dtype == costs.dtype
        paths = solver.decode(y, source=source[free])
        finite = [d for d in best if math.isfinite(d)]
        for *each, b in zip(costs[free], y, paths, source[free].tolist(), target[free].tolist(), finite):
            check_edges(graph.edges, directed, *each, b)
        solved += len(y)
    assert solved >= 20


@pytest.mark.parametrize("directed", [True, False])
def test_graphs_of_each_instance_are_padded_in_any_way(backend, directed):
    nodes, edges, count = 25, 90, 21
    solver = GraphShortestPath(directed=directed)
    for seed, family in enumerate(FAMILIES):
        own = torch.stack([random_graph(nodes, edges, directed, 100 * seed + b).edges for b in range(count)])
        own[:, :, : nodes - 1] = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])  # so that there is a path
        costs = draw(family, (count, edges), seed=seed)
        ends = {"source": torch.zeros(count, dtype=torch.int32), "target": torch.full((count,), nodes - 1)}
        y = solver(costs, edge_index=own, **ends)
        paths = solver.decode(y, edge_index=own, **ends)
        for b in range(count):
            best = networkx_distance(own[b], costs[b], directed, 0, nodes - 1, nodes)
            check_edges(own[b], directed, costs[b], y[b], paths[b], 0, nodes - 1, best)
            alone = GraphShortestPath(Graph(own[b], nodes, directed), source=0, target=nodes - 1)
            assert torch.equal(alone(costs[b : b + 1])[0], y[b])
        mask = torch.cat([torch.ones(count, edges, dtype=torch.bool), torch.zeros(count, 7, dtype=torch.bool)], 1)
        wider = torch.cat([own, torch.tensor([-5, 2**40]).repeat(count, 2, 4)[:, :, :7]], 2)
        padded = solver(torch.cat([costs, torch.full((count, 7), torch.nan)], 1), edge_index=wider, mask=mask, **ends)
        assert torch.equal(padded, torch.cat([y, torch.zeros(count, 7)], 1))


@cache
def expected_edges(graph, family, count, seed):
    """Costs, and the paths from the first to the last node that the rule for ties asks for."""
    costs = draw(family, (count, len(graph)), seed=seed)
    y = torch.zeros_like(costs)
    for cost, row in zip(costs, y):
        row[reference_edges(graph, cost, 0, graph.nodes - 1)] = 1
    return costs, y


def reference_edges(graph, cost, source, target):
    """The edges that the rule for ties asks for, from target to source; distances by Bellman and Ford's algorithm."""
    ends = graph.edges.T.tolist()
    arcs = [(u, v, e) for e, (u, v) in enumerate(ends)] + (
        [] if graph.directed else [(v, u, e) for e, (u, v) in enumerate(ends)]
    )
    arcs.sort(key=lambda arc: arc[2])
    distance = [math.inf] * graph.nodes
    distance[source] = 0.0
    for _ in range(graph.nodes):
        for u, v, e in arcs:
            distance[v] = min(distance[v], distance[u] + cost[e].item())
    tight = [(u, v, e) for u, v, e in arcs if distance[u] + cost[e].item() == distance[v] < math.inf]
    level = {v: 0 for u, v, _ in tight if distance[u] < distance[v]} | {source: 0}
    for k in range(graph.nodes):
        for u, v, _ in tight:
            if level.get(u) == k:
                level.setdefault(v, k + 1)
    out, v = [], target
    while v != source:
        nearer = [(e, u) for u, head, e in tight if head == v and distance[u] < distance[v]]
        level_with = [(e, u) for u, head, e in tight if head == v and level.get(u, math.inf) == level[v] - 1]
        e, v = min(nearer or level_with)
        out.append(e)
    return out


@pytest.mark.parametrize("family", ["ties", "zeros", "mostly zero", "magnitudes"])
@pytest.mark.parametrize("directed", [True, False])
def test_graph_ties_go_as_documented(backend, directed, family):
    for seed in range(6):
        count, nodes = (2, 19)[seed % 2], 12
        graph = Graph(
            torch.cat([random_graph(nodes, 40, directed, seed).edges, torch.stack([torch.arange(11), torch.arange(1, 12)])], 1),
            nodes,
            directed,
        )
        costs, expected = expected_edges(graph, family, count, seed)
        assert torch.equal(GraphShortestPath(graph, source=0, target=nodes - 1)(costs), expected)


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graph_kernels_equal_torch_bit_for_bit(directed, dtype, monkeypatch):
    for seed, family in enumerate(FAMILIES):
        for count, nodes in ((2, 10), (18, 70), (35, 150)):
            graph = random_graph(nodes, 4 * nodes, directed, seed)
            costs = draw(family, (count, len(graph)), dtype, seed)
            mask = torch.rand(costs.shape, generator=generator(seed)) < 0.9
            ends = [torch.randint(0, nodes, (count,), generator=generator(seed + i)) for i in (1, 2)]
            own = graph.edges.expand(count, 2, -1)
            expected = graph_sweeps.find(costs, own, nodes, directed, *ends, mask, True)
            for build in BUILDS:
                use(build, monkeypatch)
                for found in (
                    graph_kernel.find(costs, graph.outgoing, graph.incoming, *ends, mask, True),
                    graph_kernel.find_own(costs, own, nodes, directed, *ends, mask, True),
                ):
                    assert torch.equal(found.solution, expected.solution)
                    assert torch.equal(found.distances, expected.distances)
                    assert (found.status is None) == (expected.status is None)


def test_costs_that_have_nothing_in_common(backend):
    """In one instance nodes should be settled in the opposite order to all others: far the worst case for nodes in one line."""
    nodes = 40
    graph = Graph(torch.combinations(torch.arange(nodes)).T, nodes)
    tail, head = graph.edges
    costs = torch.where(tail == 0, (nodes - head) * 1e6, 1e9).double().repeat(20, 1)
    costs[3] = (head - tail) ** 2
    costs[17] = (head - tail) ** 2
    y = GraphShortestPath(graph, source=0, target=nodes - 1)(costs)
    assert y.sum(1).tolist() == [nodes - 1 if b in (3, 17) else 1 for b in range(20)]


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("family", ["uniform", "zeros", "mostly zero", "offset", "magnitudes", "one dear edge"])
def test_queues_reach_far(build, family, monkeypatch):
    """A long chain with short cuts: distances of many times the mean cost, and nodes that are overtaken while they wait."""
    use(build, monkeypatch)
    nodes = 1500
    chain = torch.stack([torch.arange(nodes - 1), torch.arange(1, nodes)])
    cuts = torch.randint(0, nodes - 50, (nodes // 3,), generator=generator(1))
    cuts = torch.stack([cuts, cuts + torch.randint(2, 50, cuts.shape, generator=generator(2))])
    graph = Graph(torch.cat([chain, cuts], 1), nodes)
    costs = draw("uniform" if family == "one dear edge" else family, (4, len(graph)))
    costs[:, nodes - 1 :] *= 10
    if family == "one dear edge":
        costs[:, 750] = 1e30
    ends = {"source": torch.zeros(4, dtype=torch.long), "target": torch.tensor([nodes - 1, nodes - 1, 700, 0])}
    together = GraphShortestPath(graph).solve_with_info(costs, **ends)
    alone = [
        GraphShortestPath(graph).solve_with_info(c[None], source=s[None], target=t[None])
        for c, s, t in zip(costs, *ends.values())
    ]
    own = GraphShortestPath().solve_with_info(costs, edge_index=graph.edges.expand(4, 2, -1), **ends)
    for other in (own.solution, torch.cat([info.solution for info in alone])):
        assert torch.equal(together.solution, other)
    for b, info in enumerate(alone):
        pairs = dict(zip(map(tuple, graph.edges.T.tolist()), costs[b].tolist()))
        for pair, cost in zip(map(tuple, graph.edges.T.tolist()), costs[b].tolist()):
            pairs[pair] = min(pairs[pair], cost)
        best = nx.DiGraph((u, v, {"weight": cost}) for (u, v), cost in pairs.items())
        length = nx.single_source_dijkstra_path_length(best, 0)
        expected = torch.tensor([length.get(v, math.inf) for v in range(nodes)], dtype=torch.float64)
        expected = expected.clamp_max(expected[ends["target"][b]])
        assert torch.equal(info.duals["potential"][0], expected)
        assert torch.equal(together.duals["potential"][b], expected)


def starts(graph, count, found, seed):
    """Orders of nodes: the one found, other orders, and what is none."""
    other = torch.randperm(graph.nodes, generator=generator(seed)).expand(count, -1)
    nonsense = torch.randint(-(2**40), 2**40, (count, graph.nodes), generator=generator(seed))
    wrong = torch.randint(-2, graph.nodes + 2, (count, graph.nodes), generator=generator(seed))
    return [
        other,
        other.flip(1),
        nonsense,
        wrong,
        torch.full_like(other, -1),
        *([] if found is None else [found, found.flip(1)]),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graphs_take_gains(backend, dtype):
    """What a layer asks for, of either sign, with masks, infinity and NaN: as costs, turned and clipped."""
    graph = random_graph(40, 400, True, 5)
    solver, own = GraphShortestPath(graph, source=0, target=39), GraphShortestPath(source=0, target=39)
    for count in (1, 2, 20):
        theta = torch.randn(count, 400, generator=generator(count), dtype=dtype) - 1
        theta[:, ::7] = -torch.inf
        mask = torch.rand(theta.shape, generator=generator(count)) < 0.9
        edge_index = graph.edges.expand(count, 2, -1)
        for extra in ({}, {"mask": mask}):
            y = solver((-theta).clamp_min(0), **extra)
            assert torch.equal(solver.optimise(theta, sense="max", **extra), y)
            assert torch.equal(own.optimise(theta, sense="max", edge_index=edge_index, **extra), y)
        theta[count - 1, 11] = torch.nan
        for one, extra in ((solver, {}), (own, {"edge_index": edge_index})):
            with pytest.raises(InstanceError, match=f"^GraphShortestPath: instance {count - 1} has NaN scores") as error:
                one.optimise(theta, sense="max", **extra)
            assert error.value.instances.tolist() == [b == count - 1 for b in range(count)]
            allowed = torch.ones_like(mask).index_fill(1, torch.tensor([11]), False)
            assert one.optimise(theta, sense="max", mask=allowed, **extra).any(1).all()


@pytest.mark.parametrize("directed", [True, False])
def test_starts_change_nothing(backend, directed):
    for seed, (family, dtype) in enumerate((f, d) for f in ("uniform", "ties", "zeros", "magnitudes") for d in DTYPES):
        for count in (2, 20):
            graph = Graph(
                torch.cat(
                    [random_graph(40, 120, directed, seed).edges, torch.stack([torch.arange(39), torch.arange(1, 40)])], 1
                ),
                40,
                directed,
            )
            solver = GraphShortestPath(graph, source=0, target=39)
            costs = draw(family, (count, len(graph)), dtype, seed)
            y, start = solver.optimise_with_start(costs)
            assert (start is None) == (backend == "torch" or count < 3)
            assert torch.equal(y, solver(costs))
            few, all_of_them = (y - y.roll(1, 1)).to(costs), draw("ties", costs.shape, dtype, seed + 1)
            for moved in (costs, solver.clip(costs + few), costs + all_of_them):
                expected = solver.solve_with_info(moved)
                for warm_start in starts(graph, count, start, seed):
                    info = solver.solve_with_info(moved, warm_start=warm_start)
                    assert torch.equal(solver.optimise(moved, warm_start=warm_start), expected.solution)
                    assert torch.equal(info.solution, expected.solution)
                    assert torch.equal(info.duals["potential"], expected.duals["potential"])


def test_grids_take_starts(backend):
    solver = GridEdgeShortestPath(6, 5)
    costs = draw("ties", (9, len(solver.edges)))
    y, start = solver.optimise_with_start(costs)
    assert torch.equal(y, solver(costs))
    for warm_start in starts(solver.graph, 9, start, 0):
        assert torch.equal(solver(costs, warm_start=warm_start), y)
    assert GridShortestPath().optimise_with_start(torch.ones(9, 3, 3))[1] is None


def test_rules_use_starts(backend, monkeypatch):
    """The second solve of a finite difference starts from the order of the first one."""
    graph = random_graph(30, 200, True, 3)
    solver = GraphShortestPath(graph, source=4, target=7)
    costs = draw("uniform", (9, 200), seed=6).requires_grad_()
    given, paths = [], graph_path.shared_paths
    monkeypatch.setattr(graph_path, "shared_paths", lambda *arguments: given.append(arguments[-2]) or paths(*arguments))
    y = SolverLayer(solver, Blackbox(step=5.0))(costs)
    weight = draw("uniform", (9, 200), seed=7)
    (y * weight).sum().backward()
    assert [order is not None for order in given] == [False, backend != "torch"]
    torch.testing.assert_close(costs.grad, (y - solver(costs.detach() + 5.0 * weight)) / -5.0)


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
def test_a_start_saves_time():
    """The second solve of a finite difference on a large graph: about two thirds of the time, asserted at nine tenths."""
    graph = random_graph(6000, 36000, False, 1)
    solver = GraphShortestPath(graph, source=0, target=5999)
    costs = draw("uniform", (16, len(graph)), torch.float32)
    y, start = solver.optimise_with_start(costs)
    moved = solver.clip(costs + 0.3 * (y - y.roll(1, 0)))

    def seconds(**instance):
        begin = time.process_time()
        solver.solve(moved, **instance)
        return time.process_time() - begin

    times = [(seconds(warm_start=start), seconds()) for _ in range(9)]
    assert min(warm for warm, _ in times) < 0.9 * min(cold for _, cold in times)


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("directed", [True, False])
def test_grids_with_costs_on_edges(backend, neighbours, directed):
    for height, width in ((1, 1), (1, 5), (4, 3), (7, 8)):
        solver = GridEdgeShortestPath(height, width, neighbours, directed)
        arcs = {(divmod(u, width), divmod(v, width)) for u, v in grid_arcs(height, width, neighbours)}
        assert solver.edges == sorted(arcs if directed else {tuple(sorted(arc)) for arc in arcs})
        costs = draw("uniform", (9, len(solver.edges)))
        source, target = random_cells(9, height, width, 1), random_cells(9, height, width, 2)
        y = solver(costs, source=source, target=target)
        start, end = ((cells @ torch.tensor([width, 1])).tolist() for cells in (source, target))
        paths = [[r * width + q for r, q in path] for path in solver.decode(y, source=source)]
        for cost, row, path, s, t in zip(costs, y, paths, start, end):
            best = networkx_distance(solver.graph.edges, cost, directed, s, t, height * width)
            check_edges(solver.graph.edges, directed, cost, row, path, s, t, best)
        corners = solver.decode(solver(costs))
        assert all(path[0] == (0, 0) and path[-1] == (height - 1, width - 1) for path in corners)


def test_potentials_prove_the_paths(backend):
    costs = draw("mostly zero", (9, 7, 8), seed=5)
    info = GridShortestPath().solve_with_info(costs)
    potential = info.duals["potential"].flatten(1)
    tail, head = np.array(grid_arcs(7, 8, 8)).T
    assert (potential[:, head] - potential[:, tail] <= costs.flatten(1)[:, head] + 1e-12).all()
    assert torch.equal(potential[:, 0], costs[:, 0, 0])
    torch.testing.assert_close(info.objective, potential[:, -1], rtol=1e-12, atol=1e-12)
    assert torch.equal(info.bound, potential[:, -1])
    assert info.optimal.all()
    graph = random_graph(30, 200, False, 3)
    edges = draw("uniform", (9, 200), seed=6)
    info = GraphShortestPath(graph, source=4, target=7).solve_with_info(edges)
    potential, (tail, head) = info.duals["potential"], graph.edges
    assert ((potential[:, head] - potential[:, tail]).abs() <= edges + 1e-12).all()
    torch.testing.assert_close(info.objective, potential[:, 7] - potential[:, 4], rtol=1e-12, atol=0)
    assert torch.equal(info.bound, potential[:, 7])


def test_edges_of_what_is_possible(backend):
    grid, path = GridShortestPath(), GraphShortestPath(Graph([[0, 1], [1, 2]]), source=0, target=2)
    assert grid(torch.rand(0, 3, 4)).shape == (0, 3, 4)
    assert grid.decode(grid(torch.rand(0, 3, 4))) == []
    assert grid.solve_with_info(torch.rand(0, 3, 4)).bound.shape == (0,)
    assert path(torch.rand(0, 2)).shape == (0, 2)
    assert path.solve_with_info(torch.rand(0, 2)).bound.shape == (0,)
    own = {
        "edge_index": torch.zeros(0, 2, 3, dtype=torch.long),
        "source": torch.zeros(0).long(),
        "target": torch.zeros(0).long(),
    }
    assert GraphShortestPath()(torch.rand(0, 3), **own).shape == (0, 3)
    alone = GraphShortestPath(Graph([], nodes=1), source=0, target=0)
    assert alone(torch.rand(3, 0)).shape == (3, 0)
    assert alone.decode(torch.zeros(3, 0)) == [[0]] * 3
    for dtype in (torch.float16, torch.bfloat16, torch.int32, torch.uint8):
        y = grid(torch.full((2, 3, 3), 2).to(dtype))
        assert y.dtype == dtype
        assert y.sum() == 6
    costs = draw("uniform", (6, 5, 4))
    for other in (
        costs.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        costs.repeat(1, 1, 2)[..., :4],
        costs[:1].expand(6, 5, 4),
    ):
        assert not other.is_contiguous()
        assert torch.equal(grid(other), grid(other.contiguous()))
    noisy = torch.randn(8, 6, 6, generator=generator(0))
    assert torch.equal(grid(grid.clip(noisy)), grid(noisy.clamp_min(0)))
    assert torch.equal(grid.clip(torch.tensor([-1, 2])), torch.tensor([0, 2]))


@pytest.mark.skipif(not BUILDS, reason="no compiled kernels")
def test_threads_change_nothing(monkeypatch):
    use(BUILDS[-1], monkeypatch)
    costs, graph = draw("ties", (300, 20, 20), torch.float32), random_graph(200, 800, True, 0)
    edges = draw("uniform", (70, 800), torch.float32)
    ends = (torch.zeros(70, dtype=torch.long), torch.arange(70))
    calls = (
        lambda: grid_kernel.find(costs, 8),
        lambda: graph_kernel.find(edges, graph.outgoing, graph.incoming, *ends),
        lambda: graph_kernel.find_own(edges, graph.edges.expand(70, 2, -1), 200, True, *ends),
    )
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append([call().solution for call in calls])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results))


TWO = Graph([[0, 1], [1, 2]])
COSTS, EDGES = torch.ones(2, 3, 4), torch.ones(2, 2)
WALL = torch.ones(2, 3, 4, dtype=torch.bool).index_fill(2, torch.tensor([2]), False) | torch.tensor([True, False]).view(2, 1, 1)
INFEASIBLE = (
    "GridShortestPath: instance 1 has no path from its source to its target (1 of 2 instances). Walls (`mask`, infinite costs) "
    "part them, or one of them is a wall."
)
NOT_CONNECTED = (
    "GraphShortestPath: instance 0 has no path from its source to its target (2 of 2 instances). The graph is not connected "
    "there, or the mask or infinite costs take edges away that a path needs."
)
NEGATIVE = (
    "instance 1 has a negative cost (-2; 1 of 2 instances). Shortest paths need costs >= 0: end the network in softplus or "
    "abs, "
    "or use `solver.clip(scores)`, as a layer does."
)
ERRORS = [
    (lambda: GridShortestPath()(COSTS, mask=WALL), InfeasibleError, INFEASIBLE),
    (
        lambda: GridShortestPath()(COSTS - torch.tensor([0, 3]).view(2, 1, 1)),
        InstanceError,
        f"GridShortestPath: {NEGATIVE}",
    ),
    (
        lambda: GridShortestPath()(COSTS, source=torch.tensor([[0, 0], [3, 1]])),
        InfeasibleError,
        "GridShortestPath: `source` of instance 1 is cell (3, 1), which is outside its grid of 3 x 4 cells. Rows and columns "
        "count from 0.",
    ),
    (
        lambda: GridShortestPath()(COSTS, target=torch.tensor([0, 1])),
        ValueError,
        "GridShortestPath: `target` has shape (2,); expected (2, 2), the (row, column) of each instance.",
    ),
    (
        lambda: GridShortestPath()(COSTS, target=torch.ones(2, 2)),
        TypeError,
        "GridShortestPath: `target` is torch.float32; cells are integers (row, column). Use `target.long()`.",
    ),
    (
        lambda: GridShortestPath()(torch.ones(2, 0, 4)),
        ValueError,
        "GridShortestPath: grids of shape (0, 4) have no cell; a path needs one at least.",
    ),
    (
        lambda: GridShortestPath(6),
        ValueError,
        "GridShortestPath: neighbours=6; use 8, or 4 for steps without diagonals.",
    ),
    (lambda: GraphShortestPath(TWO, source=2, target=0)(EDGES), InfeasibleError, NOT_CONNECTED),
    (
        lambda: GraphShortestPath(TWO, source=0, target=2)(EDGES - torch.tensor([[0], [3]])),
        InstanceError,
        f"GraphShortestPath: {NEGATIVE}",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0, target=3),
        ValueError,
        "GraphShortestPath: target=3 is not a node of a graph of 3 nodes; nodes count from 0.",
    ),
    (
        lambda: GraphShortestPath(source=-1),
        ValueError,
        "GraphShortestPath: source=-1 is not a node of a graph; nodes count from 0.",
    ),
    (
        lambda: GraphShortestPath([[0], [1]]),
        TypeError,
        "GraphShortestPath: graph is a list; expected a Graph. Use `Graph(edge_index)` or `Graph.from_networkx(graph)`.",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0)(EDGES),
        ValueError,
        "GraphShortestPath: no target. Give `target=` to the solver, or (B,) integers to the call.",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0)(EDGES, target=torch.tensor([1, 3])),
        InfeasibleError,
        "GraphShortestPath: instance 1 goes from node 0 to node 3, but its graph has nodes 0 to 2.",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0)(EDGES, target=torch.ones(2)),
        ValueError,
        "GraphShortestPath: `target` is torch.float32 of shape (2,); expected integers of shape (2,), the node of each "
        "instance.",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0, target=2)(torch.ones(2, 5)),
        ValueError,
        "GraphShortestPath: the scores are for 5 edges, but the graph has 2.",
    ),
    (
        lambda: GraphShortestPath(source=0, target=2)(EDGES),
        ValueError,
        "GraphShortestPath: there are no edges. Give the solver a `graph` that all instances share, or each call the "
        "`edge_index` "
        "(B, 2, E) of its instances.",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0, target=2)(EDGES, edge_index=TWO.edges.expand(2, 2, 2)),
        ValueError,
        "GraphShortestPath: there are two sets of edges, `graph` and `edge_index`. Give the solver a `graph` that all "
        "instances "
        "share, or each call the `edge_index` (B, 2, E) of its instances.",
    ),
    (
        lambda: GraphShortestPath(source=0, target=2)(EDGES, edge_index=torch.ones(2, 2, 3)),
        ValueError,
        "GraphShortestPath: `edge_index` is torch.float32 of shape (2, 2, 3); expected integers of shape (2, 2, 2), tails "
        "and heads "
        "of each edge that has a score.",
    ),
    (
        lambda: GraphShortestPath(source=0, target=2)(EDGES, edge_index=torch.tensor([[[0, 1], [1, 2]], [[0, -1], [1, 2]]])),
        InfeasibleError,
        "GraphShortestPath: `edge_index` of instance 1 names negative nodes; nodes count from 0. Use `mask` for edges that are "
        "padding.",
    ),
    (
        lambda: GraphShortestPath(TWO, source=0, target=2)(EDGES, warm_start=torch.zeros(2, 2, dtype=torch.long)),
        ValueError,
        "GraphShortestPath: `warm_start` is torch.int64 of shape (2, 2); it needs to be nodes in order, integers of shape "
        "(2, 3), as `optimise_with_start` returns them.",
    ),
    (
        lambda: GridEdgeShortestPath(1, 3)(EDGES, warm_start=torch.zeros(2, 3)),
        ValueError,
        "GridEdgeShortestPath: `warm_start` is torch.float32 of shape (2, 3); it needs to be nodes in order, integers of shape "
        "(2, 3), as `optimise_with_start` returns them.",
    ),
    (
        lambda: GraphShortestPath(source=0, target=2)(EDGES, edge_index=TWO.edges.expand(2, 2, 2), warm_start=EDGES.long()),
        ValueError,
        "GraphShortestPath: `warm_start` orders the nodes of a `graph` that all share; leave it out.",
    ),
    (
        lambda: GridEdgeShortestPath(2, 2)(EDGES),
        ValueError,
        "GridEdgeShortestPath: the scores are for 2 edges, but the grid of 2 x 2 cells has 4; see `edges`.",
    ),
    (lambda: GridEdgeShortestPath(0, 2), ValueError, "grid_graph: a grid of 0 x 2 cells has no cell."),
    (
        lambda: GridEdgeShortestPath(2, 2, 5),
        ValueError,
        "grid_graph: neighbours=5; use 4, or 8 for edges between diagonal cells.",
    ),
    (
        lambda: Graph([[0, 1, 2]]),
        ValueError,
        "Graph: edges have shape (1, 3); expected (2, E), the tails and the heads of the edges. Use "
        "`torch.as_tensor(pairs).T` for "
        "a list of pairs.",
    ),
    (lambda: Graph([[0.0], [1.0]]), TypeError, "Graph: edges are torch.float32; nodes are integers. Use `edges.long()`."),
    (
        lambda: Graph([[0, 1], [1, 5]], nodes=4),
        ValueError,
        "Graph: edges name nodes from 0 to 5, but there are 4 nodes, numbered from 0.",
    ),
    (lambda: Graph([]), ValueError, "Graph: there is no node; a graph needs one at least. Give `nodes=`."),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_what_is_wrong_and_what_to_do(backend, call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as error:
        call()
    assert type(error.value) is kind


def test_graphs_are_constants():
    graph = Graph(np.array([[0, 0, 1], [1, 2, 2]]), directed=False)
    assert graph == Graph(torch.tensor([[0, 0, 1], [1, 2, 2]]), 3, directed=False)
    assert graph != Graph(graph.edges, 3)
    assert graph != Graph(graph.edges, 4, directed=False)
    assert graph != "graph"
    assert len({graph, copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))}) == 1
    assert eval(repr(graph)) == graph
    assert repr(grid_graph(5, 5)) == "Graph(<40 edges>, nodes=25, directed=False)"
    assert len(graph) == 3
    assert graph.outgoing is graph.outgoing
    assert GraphShortestPath(graph, source=0, target=2) == GraphShortestPath(copy.deepcopy(graph), source=0, target=2)
    letters = nx.MultiDiGraph([("b", "a"), ("a", "c"), ("b", "a")])
    assert Graph.from_networkx(letters) == Graph([[0, 0, 1], [1, 1, 2]], 3)
    assert Graph.from_networkx(nx.empty_graph(2)) == Graph([], 2, directed=False)
