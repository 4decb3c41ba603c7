"""A race for each family of solvers, in well under a minute: does anything take several times as long as it did?

Peers are SciPy, NetworkX and OR-Tools, which are there wherever the project is installed. A family passes if its ratio is at
most `--slack` (2) times its limit, which is a little more than what was measured when it was set; one that does not is raced
once more, for longer, since machines are noisy. Run `python -m benchmarks.quick`; the exit code is 1 if a family failed twice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from ortools.algorithms.python import knapsack_solver
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from scipy.sparse import csgraph, csr_array
from torch import Tensor

from benchmarks.race import race
from solverlayers import SolverLayer
from solverlayers.rules import Identity
from solverlayers.solvers import (
    TSP,
    Assignment,
    DenseArborescence,
    DenseSpanningTree,
    GridShortestPath,
    Knapsack,
    PerfectMatching,
    QuadraticAssignment,
    Ranking,
    grid_graph,
    kernels,
)

Pair = tuple[Callable[[], Tensor], Callable[[], Tensor]]
"""What a peer does, and the same work done here; both give what they found it to be worth, as one number."""


@dataclass(frozen=True)
class Contest:
    """A race of one family: `prepare` makes the pair, and `limit` is what ours may take beside the peer."""

    family: str
    prepare: Callable[[], Pair]
    limit: float
    equal: bool = True  # both find the best, so that what they found can be compared


@dataclass(frozen=True)
class Verdict:
    ratio: float
    races: int
    passed: bool


def judge(contest: Contest, slack: float, rounds: int = 5) -> Verdict:
    """The ratio of one family: the least of two races, if the first was lost.

    Raises ValueError if both do not find the same.
    """
    peer, ours = contest.prepare()
    found = peer().item(), ours().item()
    if contest.equal and abs(found[0] - found[1]) > 1e-4 * max(1, abs(found[0])):
        raise ValueError(f"{contest.family}: the peer found {found[0]:g}, ours {found[1]:g}.")
    ratios: list[float] = []
    for longer in (1, 3):
        ratios.append(race({"peer": peer, "ours": ours}, "peer", longer * rounds)["ours"].ratio)
        if min(ratios) <= slack * contest.limit:
            return Verdict(min(ratios), len(ratios), True)
    return Verdict(min(ratios), len(ratios), False)


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def assignment() -> Pair:
    costs = uniform(64, 20, 20)
    number = np.arange(20)

    def scipy() -> Tensor:
        columns = np.stack([linear_sum_assignment(one)[1] for one in costs.numpy()])
        y = np.zeros(costs.shape, dtype=np.float32)
        y[np.arange(64)[:, None], number, columns] = 1
        return (costs * torch.from_numpy(y)).sum()

    return scipy, lambda: (costs * Assignment()(costs)).sum()


def grid_path() -> Pair:
    costs = uniform(32, 12, 12) + 0.1
    cell = np.arange(144).reshape(12, 12)
    pairs = [(cell[i, j], cell[k, m]) for i, j in np.ndindex(12, 12) for k, m in np.ndindex(12, 12)]
    tail, head = np.array([(u, v) for u, v in pairs if u != v and max(abs(u // 12 - v // 12), abs(u % 12 - v % 12)) == 1]).T
    graph = csr_array((np.ones(len(tail)), (tail, head)), shape=(144, 144))
    entered = graph.indices

    def scipy() -> Tensor:
        total = 0.0
        for cells in costs.numpy().reshape(32, -1):
            graph.data[:] = cells[entered]
            before = csgraph.dijkstra(graph, indices=0, return_predecessors=True)[1]
            at = 143
            while at != -9999:
                total, at = total + cells[at], before[at]
        return torch.tensor(total)

    return scipy, lambda: (costs * GridShortestPath()(costs)).sum()


def spanning_tree() -> Pair:
    costs = uniform(32, 30, 30).triu(1) + 0.01
    costs = costs + costs.mT

    def scipy() -> Tensor:
        return torch.tensor(sum(csgraph.minimum_spanning_tree(one).sum() for one in np.triu(costs.numpy(), 1)))

    return scipy, lambda: (costs * DenseSpanningTree()(costs)).sum() / 2


def arborescence() -> Pair:
    costs = uniform(4, 12, 12)

    def networkx() -> Tensor:
        total = 0.0
        for one in costs.tolist():
            graph = nx.DiGraph()
            graph.add_weighted_edges_from([(i, j, one[i][j]) for i in range(12) for j in range(1, 12) if i != j])
            total += nx.minimum_spanning_arborescence(graph).size("weight")
        return torch.tensor(total)

    return networkx, lambda: (costs * DenseArborescence(root=0)(costs)).sum()


def matching() -> Pair:
    grid = grid_graph(6, 6)
    costs, pairs = uniform(8, len(grid)), grid.edges.T.tolist()

    def networkx() -> Tensor:
        total = 0.0
        for row in costs.tolist():
            graph = nx.Graph()
            graph.add_weighted_edges_from([(u, v, cost) for (u, v), cost in zip(pairs, row)])
            total += sum(graph[u][v]["weight"] for u, v in nx.min_weight_matching(graph))
        return torch.tensor(total)

    solver = PerfectMatching(grid)
    return networkx, lambda: (costs * solver(costs)).sum()


def knapsack() -> Pair:
    values, weights = (1000 * uniform(64, 32)).round(), (20 * uniform(32)).long().add(1).tolist()
    solver = knapsack_solver.KnapsackSolver(knapsack_solver.SolverType.KNAPSACK_DYNAMIC_PROGRAMMING_SOLVER, "race")

    def ortools() -> Tensor:
        total = 0
        for row in values.long().tolist():
            solver.init(row, [weights], [100])
            total += solver.solve()
        return torch.tensor(total)

    ours = Knapsack(weights, 100)
    return ortools, lambda: (values * ours(values)).sum()


def quadratic() -> Pair:
    flows, distances = uniform(8, 12, 12), uniform(8, 12, 12).mT
    scores = torch.zeros(8, 12, 12)

    def scipy() -> Tensor:
        pairs = zip(flows.numpy(), distances.numpy())
        return torch.tensor(sum(quadratic_assignment(a, b).fun for a, b in pairs))

    solver = QuadraticAssignment(restarts=1, exchanges=0)
    return scipy, lambda: solver(scores, flows=flows, distances=distances).sum()


def round_trip() -> Pair:
    places = uniform(8, 9, 2)
    costs = torch.cdist(places, places)

    def networkx() -> Tensor:
        for one in costs.numpy():
            nx.approximation.christofides(nx.from_numpy_array(one))
        return torch.zeros(())

    return networkx, lambda: TSP()(costs).sum()


def ranking() -> Pair:
    scores = uniform(32, 100)
    return lambda: scores.argsort(1).argsort(1).sum() + scores.numel(), lambda: Ranking()(scores).sum()


def layer() -> Pair:
    """What forward and backward through a layer cost beside the solver alone."""
    costs = uniform(64, 20, 20).requires_grad_()
    rule = SolverLayer(Assignment(), Identity())

    def both() -> Tensor:
        y = rule(costs)
        y.sum().backward()
        return y.sum()

    return lambda: Assignment()(costs).sum(), both


CONTESTS = (
    Contest("assignment, n=20, B=64, beside SciPy", assignment, 0.2),
    Contest("grid of 12 x 12, B=32, beside SciPy", grid_path, 0.03),
    Contest("spanning tree, n=30, B=32, beside SciPy", spanning_tree, 0.02),
    Contest("arborescence, n=12, B=4, beside NetworkX", arborescence, 0.01),
    Contest("matching in a grid of 6 x 6, B=8, beside NetworkX", matching, 0.002),
    Contest("knapsack, n=32, B=64, beside OR-Tools", knapsack, 0.15),
    Contest("quadratic assignment, n=12, B=8, beside SciPy", quadratic, 0.1, equal=False),
    Contest("round trip, n=9, B=8, beside NetworkX", round_trip, 0.01, equal=False),
    Contest("ranking, n=100, B=32, beside torch", ranking, 0.6),
    Contest("layer of assignment, n=20, B=64, beside its solver", layer, 2.5),
)


def main(arguments: Sequence[str] | None = None, contests: Sequence[Contest] = CONTESTS) -> int:
    """Race all, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(description="One short race for each family of solvers, with limits.")
    parser.add_argument("--slack", type=float, default=2.0, help="multiply all limits (default 2)")
    options = parser.parse_args(arguments)
    if kernels.variant() == "none":
        print("No compiled kernels, so there is nothing to compare: the limits are theirs. `solverlayers doctor` has advice.")
        return 0
    print(f"| family (kernels: {kernels.variant()}) | ratio | limit x {options.slack:g} | |\n| --- | --- | --- | --- |")
    lost = 0
    for contest in contests:
        verdict = judge(contest, options.slack)
        lost += not verdict.passed
        mark = ("ok" if verdict.passed else "**too slow**") + (" in the second race" if verdict.races > 1 else "")
        print(f"| {contest.family} | {verdict.ratio:.3g} | {options.slack * contest.limit:.3g} | {mark} |", flush=True)
    print(f"\n{lost} of {len(contests)} families are too slow" if lost else f"\nall {len(contests)} families are fast enough")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
