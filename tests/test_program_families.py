"""Problems on top of integer programs, against NetworkX and brute force, with every engine that can."""

import re
from itertools import combinations, permutations, product

import networkx as nx
import pytest
import torch

from solverlayers import InfeasibleError, InstanceError
from solverlayers.solvers import (
    CPSAT,
    SCIP,
    Graph,
    HiGHS,
    KMedoids,
    LinearOrdering,
    MaxCut,
    MaxIndependentSet,
    MinVertexCover,
    Scheduling,
    SetCover,
    tardiness,
)

engines = pytest.mark.parametrize("engine", [HiGHS(), CPSAT(), SCIP()], ids=repr)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


@engines
@pytest.mark.parametrize("seed", range(3))
def test_independent_sets_and_covers(engine, seed):
    """A clique of the complement, by NetworkX; what is left of a cheapest cover is a best independent set."""
    graph = nx.gnp_random_graph(14, 0.3, seed=seed)
    weights = torch.randint(1, 30, (2, 14), generator=generator(seed))
    ours = Graph.from_networkx(graph)
    taken, cover = MaxIndependentSet(ours, engine)(weights), MinVertexCover(ours, engine)(weights)
    for row, y, rest in zip(weights, taken, cover):
        other = nx.complement(graph)
        nx.set_node_attributes(other, dict(enumerate(row.tolist())), "weight")
        _, best = nx.max_weight_clique(other)
        assert (row * y).sum() == best
        assert (row * rest).sum() == row.sum() - best
    assert (taken[:, ours.edges].sum(1) <= 1).all()
    assert (cover[:, ours.edges].sum(1) >= 1).all()


def test_graphs_of_each_instance():
    """Padding among the edges, and nodes that are not there."""
    edges = torch.tensor([[[0, 1, 2, -9], [1, 2, 3, 77]], [[3, 2, 0, 0], [2, 0, 1, 2]]])
    edge_mask = torch.tensor([[True, True, True, False], [True] * 4])
    mask = torch.tensor([[True, True, True, True], [True, True, False, True]])
    y = MaxIndependentSet()(torch.ones(2, 4), edge_index=edges, edge_mask=edge_mask, mask=mask)
    assert y.sum(1).tolist() == [2, 2]
    assert y[1, 2] == 0
    cover = MinVertexCover()(torch.tensor([[9.0, 1, 1, 9], [2, 1, 9, 1]]), edge_index=edges, edge_mask=edge_mask, mask=mask)
    assert cover.tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]
    message = (
        "MaxIndependentSet: instance 1 has edges that name nodes from 0 to 3, where nodes count from 0 to 2 (1 of 2 instances)."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        MaxIndependentSet()(torch.ones(2, 3), edge_index=edges.clamp(0, 3).minimum(torch.tensor([[[2]], [[3]]])))
    with pytest.raises(ValueError, match=r"^MaxIndependentSet: the scores are for 3 nodes, but the graph has 4.$"):
        MaxIndependentSet(Graph([[0], [3]]))(torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"^MaxCut: there are no edges. Give the solver a `graph` that all instances share,"):
        MaxCut()(torch.ones(1, 3))


@engines
def test_max_cut(engine):
    """All sides of a complete graph, with scores of both signs."""
    edges = torch.triu_indices(6, 6, 1)
    scores = rand(3, 15) - 0.4
    sides = torch.tensor(list(product((0, 1), repeat=6)))
    crossing = (sides[:, edges[0]] != sides[:, edges[1]]).double()
    info = MaxCut(Graph(edges), engine).solve_with_info(scores)
    assert torch.allclose(info.objective, (scores @ crossing.T).amax(1))
    assert all((crossing == y).all(1).any() for y in info.solution)
    loops = Graph([[0, 0, 1], [0, 1, 1]])
    assert MaxCut(loops, engine)(torch.ones(1, 3)).tolist() == [[0, 1, 0]]


@engines
def test_set_cover(engine):
    members = (rand(8, 7, seed=1) < 0.4).double()
    members[torch.arange(8), torch.arange(8) % 7] = 1
    costs = rand(4, 7, seed=2)
    every = torch.tensor(list(product((0.0, 1.0), repeat=7))).double()
    every = every[(every @ members.T >= 1).all(1)]
    best = (costs @ every.T).amin(1)
    y = SetCover(members, engine)(costs)
    assert torch.allclose((costs * y).sum(1), best)
    padded = torch.cat([members, torch.full((2, 7), -1.0, dtype=torch.float64)]).expand(4, 10, 7)
    assert torch.equal(SetCover(engine=engine)(costs, members=padded), y)
    with pytest.raises(InfeasibleError, match="SetCover: instance 1 has no feasible solution"):
        SetCover([[1, 1]], engine)(torch.ones(2, 2), mask=torch.tensor([[True, False], [False, False]]))


@engines
def test_linear_ordering(engine):
    scores = rand(3, 5, 5)
    y = LinearOrdering(engine)(scores)
    for row, one, order in zip(scores, y, LinearOrdering().decode(y)):
        values = [sum(row[i, j] for i, j in combinations(other, 2)) for other in permutations(range(5))]
        assert (row * one).sum().item() == pytest.approx(max(values).item())
        assert sum(row[i, j] for i, j in combinations(order, 2)).item() == pytest.approx(max(values).item())


@engines
def test_weighted_tardiness_on_one_machine(engine):
    """Any order without idle time, by brute force: no schedule is better."""
    durations = torch.tensor([2, 1, 3, 2])
    weights, due = torch.randint(1, 9, (3, 4), generator=generator(0)), torch.randint(1, 7, (3, 4), generator=generator(1))
    costs = tardiness(durations, weights.double(), due.double(), horizon=8)
    solver = Scheduling(durations, engine=engine)
    y = solver(costs)
    for b, starts in enumerate(solver.decode(y)):
        best = min(
            sum(
                weights[b, j] * max(0, int(sum(durations[i] for i in order[: k + 1])) - int(due[b, j]))
                for k, j in enumerate(order)
            )
            for order in permutations(range(4))
        )
        assert (costs[b] * y[b]).sum() == best
        busy = [t for start, length in zip(starts.tolist(), durations.tolist()) for t in range(start, start + length)]
        assert len(set(busy)) == len(busy)
        assert max(busy) < 8


def test_several_machines_and_padding():
    """Two machines do at once what one does in turn; a job that may never start is not there."""
    costs = torch.arange(3).expand(1, 3, 3).double()
    assert (Scheduling([1, 1, 1])(costs) * costs).sum() == 3
    assert (Scheduling([1, 1, 1], machines=2)(costs) * costs).sum() == 1
    mask = torch.ones(1, 3, 3, dtype=torch.bool)
    mask[:, 2] = False
    y = Scheduling()(costs, durations=torch.tensor([[1, 1, -5]]), mask=mask)
    assert Scheduling().decode(y)[0].tolist() in ([0, 1, -1], [1, 0, -1])
    message = "Scheduling: instance 1 has durations [1, 0, 2], which should be whole numbers, 1 at least (1 of 2 instances)."
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$") as caught:
        Scheduling()(costs.expand(2, 3, 3), durations=torch.tensor([[1, 1, 1], [1, 0, 2]]))
    assert caught.value.instances.tolist() == [False, True]
    with pytest.raises(InfeasibleError, match="Scheduling: instance 0 has no feasible solution"):
        Scheduling([2, 2])(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"^Scheduling: machines=0; it must be at least 1.$"):
        Scheduling([1], machines=0)


def test_tardiness_has_gradients():
    due = torch.tensor([[3.5, 9.0]], requires_grad=True)
    tardiness([2, 2], weights=torch.tensor([[2.0, 5.0]]), due=due, horizon=4).sum().backward()
    assert due.grad.tolist() == [[-4, 0]]  # two starts, of weight 2, end later


@engines
def test_medoids(engine):
    points = rand(2, 8, 2)
    distances = torch.cdist(points, points)
    info = KMedoids(3, engine).solve_with_info(distances)
    for row, value, medoid in zip(distances, info.objective, KMedoids(3).decode(info.solution)):
        best = min(row[:, list(chosen)].amin(1).sum().item() for chosen in combinations(range(8), 3))
        assert value.item() == pytest.approx(best)
        assert len(set(medoid.tolist())) <= 3
    with pytest.raises(ValueError, match=r"^KMedoids: k=0; it must be at least 1.$"):
        KMedoids(0)
