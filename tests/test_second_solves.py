"""Second solves of finite differences that start from proved solutions of the first: programs, exact graph matching, trips.

Scores are random real numbers, so that one solution is optimal, unless a test says otherwise.
"""

import time
from dataclasses import dataclass, field
from itertools import product

import joblib
import pytest
import torch
from test_graph_matching import assignment_data, graph_data

from solverlayers import Oracle, SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError, SolverTimeoutError
from solverlayers.rules import IMLE, LPGD, Blackbox
from solverlayers.solvers import (
    CPSAT,
    GLOP,
    SCIP,
    TSP,
    Assignment,
    Async,
    Cached,
    Graph,
    HiGHS,
    IntegerProgram,
    KMedoids,
    LinearOrdering,
    LinearProgram,
    MaxIndependentSet,
    Parallel,
    Timed,
    graph_proof,
)
from solverlayers.solvers.common import greatest_gain
from solverlayers.solvers.engines import Engine, Status
from solverlayers.solvers.graph_matching import ExactGraphMatching
from solverlayers.solvers.quadratic_assignment import ExactQuadraticAssignment
from solverlayers.solvers.searched_matching import SearchedMatching

RULES = {
    "blackbox": Blackbox(0.3),
    "small steps": Blackbox(0.01),
    "two sides": Blackbox(0.3, two_sided=True),
    "auto": Blackbox("auto"),
    "imle": IMLE(0.3, 0.1, samples=3),
    "lpgd": LPGD(0.3, rho=0.2),
}


@dataclass(frozen=True)
class Counting(Engine):
    """An engine that notes what it was started from."""

    engine: Engine
    starts: list = field(default_factory=list, compare=False)

    @property
    def hints_pay(self):
        return self.engine.hints_pay

    def minimise(self, program, costs, seconds, start=None):
        self.starts.append(start)
        return self.engine.minimise(program, costs, seconds, start)

    def _minimise(self, program, costs, seconds, start):
        raise NotImplementedError


def generator(seed):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def knapsack(engine, n=8, **options):
    weights = torch.randint(1, 30, (3, n), generator=generator(1))
    return IntegerProgram(weights, weights.sum(1) // 2, sense="max", engine=engine, **options)


def programs(engine):
    """Solvers and the shapes of their scores."""
    edges = torch.triu_indices(9, 9, 1)
    edges = edges[:, rand(edges.shape[1], seed=2) < 0.4]
    return {
        "knapsack": (knapsack(engine), (8,)),
        "more than 0 and 1": (IntegerProgram([[2, 3, 4, 5]], [17], upper=[1, 2, 3, 4], sense="max", engine=engine), (4,)),
        "independent set": (MaxIndependentSet(Graph(edges, 9), engine=engine), (9,)),
        "medoids": (KMedoids(2, engine=engine), (5, 5)),
        "orders": (LinearOrdering(engine=engine), (4, 4)),
    }


def without_starts(monkeypatch):
    monkeypatch.setattr(Oracle, "_restart", Oracle._anew)


def pass_through(solver, rule, scores, targets, on_failure="raise", **instance):
    """Solutions, and the gradients of their Hamming distance from targets."""
    scores = [s.clone().requires_grad_() for s in scores]
    torch.manual_seed(0)
    y = SolverLayer(solver, rule, on_failure=on_failure)(*scores, **instance)
    y = y if isinstance(y, tuple) else (y,)
    sum((part * (1 - 2 * target)).sum() for part, target in zip(y, targets)).backward()
    return [part.detach() for part in y], [s.grad for s in scores]


def nearly(solver, scores, move=0.2, **instance):
    """Solutions for scores that differ a little: about half of them are those of the scores."""
    y = solver(*(s + move * (rand(*s.shape, seed=7).to(s) - 0.5) for s in scores), **instance)
    return y if isinstance(y, tuple) else (y,)


def assert_same(found, expected):
    for ours, theirs in zip(found, expected):
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("moves", ["small", "large", "few"])
def test_no_solution_gains_more(moves):
    """Against all solutions of random sets of whole numbers within bounds."""
    for seed in range(40):
        g = generator(seed)
        lower, upper = torch.tensor([0.0, 0, -1, 0, 2]), torch.tensor([1.0, 3, 1, 1, 2])
        box = torch.cartesian_prod(*[torch.arange(a, b + 1) for a, b in zip(lower, upper)])
        solutions = box[torch.rand(len(box), generator=g) < 0.5]
        before = torch.randn(5, generator=g)
        y = solutions[(solutions @ before).argmin()]
        change = torch.randn(5, generator=g) * (0.01 if moves == "small" else 1.0)
        if moves == "few":
            change *= (torch.rand(5, generator=g) < 0.4) & (change * (y - (lower + upper) / 2) < 0)
        costs = before + change
        gain = greatest_gain(costs[None], before[None], y[None], lower, upper)
        assert costs @ y - (solutions @ costs).min() <= gain + 1e-5
        if moves == "few":
            assert (gain == 0) == ((change == 0) | (change > 0) & (y == lower) | (change < 0) & (y == upper)).all()


def test_costs_that_are_no_numbers_settle_nothing():
    inf, nan = torch.inf, torch.nan
    before = torch.tensor([[1.0, inf], [1.0, 2.0], [1.0, nan], [inf, 2.0], [1.0, 2.0]])
    costs = torch.tensor([[0.5, inf], [0.5, inf], [0.5, nan], [1.0, 2.0], [0.5, 2.0]])
    gain = greatest_gain(costs, before, torch.tensor([1.0, 0.0]))
    assert (gain == 0).tolist() == [True, False, False, False, True]
    between = greatest_gain(costs[4:], before[4:], torch.tensor([[0.5, 0.0]]), 0.0, inf)
    assert between == inf  # it may grow without end


@pytest.mark.parametrize(
    ("engine", "name"), [*product([CPSAT()], RULES), (HiGHS(), "blackbox"), (SCIP(), "small steps")], ids=str
)
def test_programs_keep_their_answers(engine, name, monkeypatch):
    for kind, (solver, shape) in programs(engine).items():
        if name == "lpgd" and not solver.binary:
            continue
        scores = [rand(4, *shape, seed=len(kind))]
        targets = nearly(solver, scores)
        with monkeypatch.context() as patch:
            without_starts(patch)
            expected = pass_through(solver, RULES[name], scores, targets)
        assert_same(pass_through(solver, RULES[name], scores, targets), expected)


def test_settled_instances_are_not_solved_again():
    """Those that are right already, and no others; with a hint where the moves are small, if it pays."""
    for engine, step, hinted in ((CPSAT(), 1.0, False), (CPSAT(), 1e-3, True), (SCIP(), 1e-3, False)):
        solver = knapsack(Counting(engine))
        scores = rand(12, 8, seed=3)
        targets = nearly(solver, [scores])
        right = (solver(scores) == targets[0]).all(1)
        assert 0 < right.sum() < 12
        solver.engine.starts.clear()
        pass_through(solver, Blackbox(step), [scores], targets)
        first, second = solver.engine.starts[:12], solver.engine.starts[12:]
        assert all(start is None for start in first)
        assert len(second) == (~right).sum()
        assert all((start is not None) == hinted for start in second)


def test_linear_programs_and_masks_settle_too():
    rows = torch.rand(4, 6, generator=generator(1))
    for solver, mask in (
        (LinearProgram(rows, rows.sum(1) / 2, upper=1.0, sense="max", engine=Counting(GLOP())), None),
        (knapsack(Counting(HiGHS()), n=6), torch.tensor([True] * 4 + [False] * 2).expand(5, 6)),
    ):
        instance = {} if mask is None else {"mask": mask}
        scores = rand(5, 6, seed=4)
        y, start = solver.optimise_with_start(scores, sense="max", **instance)
        solver.engine.starts.clear()
        moved = scores + torch.where(y == 1, 0.5, 0) - torch.where(y == 0, 0.5, 0)
        assert torch.equal(solver(moved, warm_start=start, **instance), y)
        assert solver.engine.starts == []
        info = solver.solve_with_info(moved, warm_start=start, **instance)
        assert info.optimal.all()
        torch.testing.assert_close(info.bound, info.objective)
        assert torch.equal(solver(-moved, warm_start=start, **instance), solver(-moved, **instance))


def test_ties_stay_optimal():
    """Of several best solutions a start may lead to another one, no better and no worse."""
    solver = knapsack(CPSAT())
    scores = torch.randint(0, 3, (20, 8), generator=generator(5)).double()
    start = solver.optimise_with_start(scores, sense="max")[1]
    moved = scores + torch.randint(-1, 2, scores.shape, generator=generator(6))
    y, cold = solver(moved, warm_start=start), solver(moved)
    assert torch.equal((moved * y).sum(1), (moved * cold).sum(1))


def test_many_gradients_at_once(monkeypatch):
    """Several gradients of one pass start from the same solutions, repeated."""
    solver, scores = knapsack(Counting(CPSAT())), rand(4, 8, seed=8)
    weights = 1 - 2 * torch.cat([solver(scores)[None], (rand(4, 4, 8, seed=9) < 0.5).float()])

    def gradients(rule):
        torch.manual_seed(0)
        theta = scores.clone().requires_grad_()
        y = SolverLayer(solver, rule)(theta)
        return torch.func.vmap(lambda weight: torch.autograd.grad(y, theta, weight, retain_graph=True)[0])(weights)

    solver.engine.starts.clear()
    found = gradients(Blackbox(0.1))
    asked = len(solver.engine.starts)
    with monkeypatch.context() as patch:
        without_starts(patch)
        assert torch.equal(found, gradients(Blackbox(0.1)))
    assert asked < len(solver.engine.starts) - asked


def test_empty_batches():
    for solver, shape, instance in (
        (knapsack(CPSAT()), (0, 8), {}),
        (ExactQuadraticAssignment(), (0, 3, 3), {"flows": torch.zeros(0, 3, 3), "distances": torch.zeros(0, 3, 3)}),
    ):
        (y,), (grad,) = pass_through(solver, Blackbox(1.0), [torch.zeros(shape)], [torch.zeros(shape)], **instance)
        assert y.shape == grad.shape == shape
        start = solver.optimise_with_start(torch.zeros(shape), sense="max", **instance)[1]
        assert solver.optimise(torch.ones(shape), sense="max", **instance, warm_start=start).shape == shape


def test_failures_and_starts(monkeypatch):
    """A batch without a failure starts where it ended; after one the second solve starts anew, and skips the same instance."""
    solver, scores = IntegerProgram(sense="max", engine=Counting(CPSAT())), [rand(6, 8, seed=3)]
    rows = torch.randint(1, 30, (6, 2, 8), generator=generator(1))
    sides = rows.sum(2) // 2
    targets = nearly(solver, scores, A=rows, b=sides)
    for which in ([], [2]):
        sides[which] = -1
        with monkeypatch.context() as patch:
            without_starts(patch)
            expected = pass_through(solver, Blackbox(0.3), scores, targets, "skip", A=rows, b=sides)
        solver.engine.starts.clear()
        assert_same(pass_through(solver, Blackbox(0.3), scores, targets, "skip", A=rows, b=sides), expected)
        right = (expected[0][0] == targets[0]).all(1).sum()
        assert right > 0
        assert len(solver.engine.starts) == (2 * (6 + 5) if which else 6 + 6 - right)
        assert (expected[1][0][which] == 0).all()


@dataclass(frozen=True)
class Slow(Counting):
    """An engine that has never time to prove anything."""

    def minimise(self, program, costs, seconds, start=None):
        return super().minimise(program, costs, seconds, start)._replace(status=Status.STOPPED)


def test_incumbents_are_no_starts():
    """What a time limit cuts short is not proved, so it settles nothing."""
    solver, scores = knapsack(Slow(CPSAT())), rand(3, 8)
    with pytest.raises(SolverTimeoutError):
        solver.optimise_with_start(scores, sense="max")
    y = knapsack(CPSAT())(scores)
    solver.engine.starts.clear()
    pass_through(solver, Blackbox(0.3), [scores], [y], "last")
    assert len(solver.engine.starts) == 6
    assert Timed(solver, 1.0).optimise_with_start(scores, sense="max")[1] is None


def test_wrappers_hand_starts_on(monkeypatch):
    solver, scores = knapsack(CPSAT()), [rand(9, 8, seed=3)]
    targets = nearly(solver, scores)
    y, start = solver.optimise_with_start(*scores, sense="max")
    with joblib.parallel_config(backend="threading"):
        for wrapper in (Async(solver), Parallel(solver, workers=2), Parallel(solver, workers=1), Async(Parallel(solver, 2))):
            ours, handed = wrapper.optimise_with_start(*scores, sense="max")
            assert torch.equal(ours, y)
            assert torch.equal(handed, start)
            expected = pass_through(solver, Blackbox(0.3), scores, targets)
            assert_same(pass_through(wrapper, Blackbox(0.3), scores, targets), expected)
        costs = [rand(6, 30, 30, seed=3)]
        both = (pass_through(s, Blackbox(0.3), costs, costs) for s in (Parallel(Assignment(), workers=2), Assignment()))
        assert_same(*both)
    assert Cached(solver).optimise_with_start(*scores, sense="max")[1] is None


def matchings(partial):
    scores, flows, distances = assignment_data(8, 5, 5)
    yield ExactQuadraticAssignment(partial), [scores], {"flows": flows, "distances": distances}
    scores, instance = graph_data(8, 5, 4)
    yield ExactGraphMatching(partial), list(scores), instance


@pytest.mark.parametrize("partial", [False, True])
def test_exact_matchings_keep_their_answers(partial, monkeypatch):
    """With single and with double precision; those that are right are neither searched nor proved again."""
    counts, prove = [], graph_proof.prove
    monkeypatch.setattr(graph_proof, "prove", lambda *arguments: counts.append(len(arguments[1])) or prove(*arguments))
    searched, find = [], SearchedMatching._find
    monkeypatch.setattr(SearchedMatching, "_find", lambda self, *a: searched.append(len(a[0].scores)) or find(self, *a))
    for (solver, scores, instance), dtype in product(matchings(partial), (torch.float32, torch.float64)):
        scores = [s.to(dtype) for s in scores]
        targets = nearly(solver, scores, move=0.5, **instance)
        for rule in (Blackbox(0.3), Blackbox(0.3, two_sided=True), IMLE(0.3, 0.1, samples=2)):
            with monkeypatch.context() as patch:
                without_starts(patch)
                expected = pass_through(solver, rule, scores, targets, **instance)
            counts.clear()
            searched.clear()
            assert_same(pass_through(solver, rule, scores, targets, **instance), expected)
            assert counts[-1] < counts[0]  # of two sides the last is the one towards the targets
            assert searched == counts
            if isinstance(rule, Blackbox):
                right = torch.stack([(a == b).flatten(1).all(1) for a, b in zip(expected[0], targets)]).all(0).sum()
                assert counts[-1] == 8 - right


def test_matchings_without_a_proof_are_named(monkeypatch):
    """Of a batch in which some instances are settled, those that run out of nodes."""
    solver, (scores, *_), instance = next(matchings(False))
    start = solver.optimise_with_start(scores, **instance)[1]
    moved = scores.clone()
    moved[[1, 4]] += 10 * rand(2, 5, 5)
    hasty = ExactQuadraticAssignment(nodes=0)
    with pytest.raises(SolverTimeoutError) as caught:
        hasty(moved, **instance)
    assert caught.value.instances.all()
    with pytest.raises(SolverTimeoutError) as caught:
        hasty(moved, **instance, warm_start=start)
    assert caught.value.instances.nonzero()[:, 0].tolist() == [1, 4]
    others = [0, 2, 3, 5, 6, 7]
    assert torch.equal(caught.value.incumbent[others], solver(scores, **instance)[others])
    assert torch.equal(solver(moved, **instance, warm_start=start), solver(moved, **instance))


def test_matchings_that_fail_are_named():
    """Of a batch in which some instances are settled, by their place in the whole of it."""
    solver, (scores, *_), instance = next(matchings(False))
    start = solver.optimise_with_start(scores, **instance)[1]
    moved = scores.clone()
    moved[3] += 10 * rand(5, 5)
    moved[[2, 5], 0, 0] = -torch.inf
    with pytest.raises(InstanceError, match=r"^ExactQuadraticAssignment: instance 2 has NaN or -inf .*\(2 of 8 ") as caught:
        solver(moved, **instance, warm_start=start)
    assert caught.value.instances.nonzero()[:, 0].tolist() == [2, 5]


def trips(directed, masked):
    """Distances and the mask of six instances, of 16 cities, and of 6 and 17 in turns if masked."""
    mask = torch.ones(6, 17, 17, dtype=torch.bool)
    mask[::2, 6:] = mask[::2, :, 6:] = False
    mask[1, 3, 5] = mask[1, 5, 3] = False
    scores = rand(6, 17, 17, seed=5) if masked else rand(6, 16, 16, seed=5)
    return TSP(directed), [scores.double()], {"mask": mask} if masked else {}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("directed", [False, True])
def test_trips_keep_their_answers(directed, masked, monkeypatch):
    """Those that are right are not sought again."""
    solver, scores, instance = trips(directed, masked)
    sought, tours = [], TSP._tours
    monkeypatch.setattr(TSP, "_tours", lambda self, costs, bounds: sought.append(len(costs)) or tours(self, costs, bounds))
    targets = nearly(solver, scores, move=0.1, **instance)
    for rule in (Blackbox(0.3), IMLE(0.3, 0.05, samples=2)):
        with monkeypatch.context() as patch:
            without_starts(patch)
            expected = pass_through(solver, rule, scores, targets, **instance)
        sought.clear()
        assert_same(pass_through(solver, rule, scores, targets, **instance), expected)
        if isinstance(rule, Blackbox):
            right = int((expected[0][0] == targets[0]).flatten(1).all(1).sum())
            assert 0 < right < 6
            assert sum(sought) == 12 - right


def test_trips_that_are_settled():
    """The diagonal and forbidden steps do not matter; failures are named by their place in the whole batch."""
    solver, (scores,), instance = trips(False, True)
    y, start = solver.optimise_with_start(scores, sense="min", **instance)
    moved = torch.where(y == 1, scores - 0.1, scores + 0.1)
    moved.diagonal(dim1=1, dim2=2).sub_(1)
    moved = torch.where(instance["mask"], moved, -1)
    assert not solver._settled(moved, instance["mask"], start)[1].any()
    for other in (solver, Timed(solver, 60.0)):
        assert torch.equal(other(moved, **instance, warm_start=start), y)
    moved[4, 2, :] = moved[4, :, 2] = torch.inf
    with pytest.raises(InfeasibleError, match=r"^TSP: instance 4 \(1 of 6 instances\) has no trip") as caught:
        solver(moved, **instance, warm_start=start)
    assert caught.value.instances.nonzero()[:, 0].tolist() == [4]
    with pytest.raises(ValueError, match=r"^TSP: `warm_start` has shape \(6, 17, 17\); it needs to be distances and their sh"):
        solver(scores, **instance, warm_start=y)
    assert TSP().optimise_with_start(rand(2, 5, 5))[1] is None


@pytest.mark.parametrize("kind", ["program", "matching"])
def test_a_start_saves_time(kind):
    """With three of four instances right: about a quarter of the time, asserted at two thirds."""
    if kind == "program":
        solver, scores, instance = knapsack(HiGHS(), n=16), [rand(8, 16, seed=3)], {}
    else:
        scores, flows, distances = assignment_data(8, 8, 8)
        solver, scores, instance = ExactQuadraticAssignment(), [-scores], {"flows": flows, "distances": distances}
    y, start = solver.optimise_with_start(*scores, sense="max", **instance)
    target = torch.cat([y[:6], y[:2]])
    theta = scores[0] - 0.5 * (1 - 2 * target)

    def seconds(**more):
        begin = time.process_time()
        solver.optimise(theta, sense="max", **instance, **more)
        return time.process_time() - begin

    times = [(seconds(warm_start=start), seconds()) for _ in range(5)]
    assert min(warm for warm, _ in times) < 2 / 3 * min(cold for _, cold in times)
