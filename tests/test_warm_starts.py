"""Starts of searches: what is found is never worse than they are, whatever the problem and the implementation."""

import re

import pytest
import torch
from test_graph_matching import assignment_data, compiled, graph_data, random_mask

from solverlayers import SolverLayer
from solverlayers.errors import InstanceError
from solverlayers.rules import Blackbox
from solverlayers.solvers import graph_proof, searched_matching
from solverlayers.solvers.graph_matching import ExactGraphMatching, GraphMatching
from solverlayers.solvers.quadratic_assignment import ExactQuadraticAssignment, QuadraticAssignment
from solverlayers.tasks.families import takes

LEAST = {"restarts": 1, "iterations": 0, "exchanges": 0}


@pytest.fixture(params=[pytest.param("kernel", marks=compiled), "torch"])
def backend(request, monkeypatch):
    if request.param == "torch":
        for module in (searched_matching, graph_proof):
            monkeypatch.setattr(module, "usable", lambda *tensors: False)


def problem_of(kind, n, m, masked):
    mask = {"mask": random_mask(3, n, m)} if masked else {}
    if kind is QuadraticAssignment:
        scores, flows, distances = assignment_data(3, n, m)
        return (scores,), {"flows": flows, "distances": distances, **mask}
    scores, edges = graph_data(3, n, m)
    return scores, {**edges, **mask}


def objective(solver, scores, y, **instance):
    y = y if isinstance(y, tuple) else (y,)
    values = sum((s * part).flatten(1).sum(1) for s, part in zip(scores, y))
    values = values + (solver.offset(y[0], **instance) if len(y) == 1 else 0)
    return values if solver.sense == "max" else -values


def pairs_of(y):
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 5), (5, 4)])
@pytest.mark.parametrize("kind", [QuadraticAssignment, GraphMatching])
def test_never_worse_than_the_start(backend, kind, n, m, partial, masked):
    scores, instance = problem_of(kind, n, m, masked)
    good = kind(partial, restarts=3, exchanges=20)(*scores, **instance)
    least = kind(partial, **LEAST)
    for start, exactly in ((good, True), (kind(partial, **LEAST)(*(-s for s in scores), **instance), False)):
        y = least(*scores, **instance, warm_start=pairs_of(start))
        z = () if kind is QuadraticAssignment else (start[1],)
        before, after = (objective(least, scores, one, **instance) for one in ((pairs_of(start), *z), y))
        assert (after >= before - 1e-9).all()
        if exactly:  # a local optimum stays what it is
            assert torch.equal(pairs_of(y), pairs_of(good))
    more = kind(partial, restarts=2, exchanges=5)(*scores, **instance, warm_start=pairs_of(good))
    assert (objective(least, scores, more, **instance) >= objective(least, scores, good, **instance) - 1e-9).all()


@pytest.mark.parametrize(
    ("exact", "kind"), [(ExactQuadraticAssignment, QuadraticAssignment), (ExactGraphMatching, GraphMatching)]
)
def test_proofs_take_starts_too(backend, exact, kind):
    scores, instance = problem_of(kind, 4, 4, False)
    best = exact()(*scores, **instance)
    for start in (best, tuple(part.flip(0) for part in best) if isinstance(best, tuple) else best.flip(0)):
        info = exact(**LEAST).solve_with_info(*scores, **instance, warm_start=pairs_of(start))
        assert torch.equal(pairs_of(info.solution), pairs_of(best))
        assert info.optimal.all()
    assert kind().solve_with_info(*scores, **instance, warm_start=pairs_of(best)).gap.shape == (3,)


def test_what_is_no_start():
    scores, flows, distances = assignment_data(2, 3, 3)
    instance = {"flows": flows, "distances": distances}
    with pytest.raises(
        ValueError, match=re.escape("`warm_start` has shape (2, 3); it needs to be matchings, of shape (2, 3, 3)")
    ):
        QuadraticAssignment()(scores, **instance, warm_start=torch.ones(2, 3))
    whole, mask = torch.eye(3).expand(2, 3, 3).clone(), torch.ones(2, 3, 3, dtype=torch.bool)
    mask[1, 2, 2] = False
    message = (
        "QuadraticAssignment: `warm_start` of instance 1 is no matching of pairs that are allowed that leaves nobody out (1 of "
        "2 instances). Use a solution for the same `mask`, or none."
    )
    part, twice = whole.clone(), whole.clone()
    part[1, 2, 2] = 0
    twice[1, 2, 0] = 1
    for start, more in ((whole, {"mask": mask}), (part, {}), (twice, {})):
        with pytest.raises(InstanceError, match=f"^{re.escape(message)}$") as caught:
            QuadraticAssignment()(scores, **instance, **more, warm_start=start)
        assert caught.value.instances.tolist() == [False, True]
    forbidden = scores.clone()
    forbidden[1, 0, 0] = torch.inf
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        QuadraticAssignment()(forbidden, **instance, warm_start=whole)
    QuadraticAssignment(partial=True)(scores, **instance, warm_start=part)


def test_rules_solve_searches_anew():
    """The second solve of a finite difference is that of the same problem, with flows and distances, from no start."""
    scores, flows, distances = assignment_data(2, 20, 20)
    solver, instance = QuadraticAssignment(restarts=1, exchanges=0), {"flows": flows, "distances": distances}
    y, start = solver.optimise_with_start(scores, **instance)
    assert start is None
    assert torch.equal(y, solver(scores, **instance))
    theta = scores.clone().requires_grad_()
    found = SolverLayer(solver, Blackbox(step=5.0))(theta, **instance)
    assert torch.equal(found, y)
    weight = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1)).double()
    (found * weight).sum().backward()
    moved = solver(scores + 5.0 * weight, **instance)
    torch.testing.assert_close(theta.grad, (moved - y) / 5.0)
    assert takes(solver, "warm_start")


def test_a_layer_takes_a_start():
    scores, instance = problem_of(GraphMatching, 4, 4, False)
    solver = GraphMatching(restarts=1, exchanges=0)
    start = solver(*scores, **instance)
    y = SolverLayer(solver, Blackbox(step=5.0))(*(s.clone().requires_grad_() for s in scores), **instance, warm_start=start[0])
    sum(part.sum() for part in y).backward()
    assert torch.equal(y[0], start[0])
