"""Wrappers: the facts and the answers of the solver inside, and what each adds."""

from __future__ import annotations

import copy
import gc
import inspect
import os
import pickle
import re
import signal
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor

from solverlayers import InfeasibleError, InstanceError, InstanceSolver, Solution, Solver, SolverLayer, SolverTimeoutError
from solverlayers.losses import MAPLoss, NCELoss
from solverlayers.relaxations import SoftTopK
from solverlayers.rules import IMLE, Blackbox, Identity, StraightThrough
from solverlayers.solvers import (
    TSP,
    Assignment,
    Async,
    Cached,
    GatedAssignment,
    Graph,
    GraphShortestPath,
    GridShortestPath,
    Knapsack,
    Parallel,
    PartialAssignment,
    Ranking,
    RoutingTSP,
    Sign,
    Timed,
    TopK,
    Viterbi,
)
from solverlayers.solvers.wrappers import WorkerError
from solverlayers.solvers.wrappers.base import Wrapper

WRAPPERS = {
    "cached": Cached,
    "parallel": lambda solver: Parallel(solver, workers=2),
    "async": Async,
    "cached parallel": lambda solver: Cached(Parallel(solver, workers=2), size=50),
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
INSIDE = [
    Assignment(),
    GatedAssignment(),
    Ranking(),
    Sign(margin=0.5),
    TopK(2),
    Viterbi(),
    Knapsack((2, 3), 4),
    GridShortestPath(),
]


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Counting(Solver):
    """An argmax that writes down the sizes of the batches that it gets."""

    batches: list[int] = field(default_factory=list, compare=False)
    constant_sum = True
    scale_free = True

    def solve(self, scores: Tensor, forbidden: Tensor | None = None) -> Tensor:
        self.batches.append(len(scores))
        bad = scores[:, 0] == -1
        if bad.any():
            raise InfeasibleError(f"Counting: instance {int(bad.nonzero()[0, 0])} has none.", bad, torch.zeros_like(scores))
        if forbidden is not None:
            scores = scores.scatter(1, forbidden[:, None], -torch.inf)
        return torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).to(scores)


@pytest.mark.parametrize("inside", INSIDE, ids=repr)
@every_wrapper
def test_facts_are_those_of_the_solver_inside(wrap, inside):
    wrapped = wrap(inside)
    for fact in Solver.__annotations__:
        expected = False if fact == "torch_native" else getattr(inside, fact)
        assert getattr(wrapped, fact) == expected, fact


def test_every_method_of_a_solver_is_handed_on():
    """One that is added to Solver, and forgotten in Wrapper, would be the safe default instead of the fact."""
    methods = {name for name, m in vars(Solver).items() if inspect.isfunction(m) and (name[0] != "_" or name == "_check_nan")}
    assert methods - {"_check_nan"} <= vars(Wrapper).keys()


@every_wrapper
def test_attributes_of_the_solver_inside_are_reached(wrap):
    assert wrap(TopK(3)).k == 3
    assert wrap(GridShortestPath(neighbours=4)).neighbours == 4
    y = wrap(Assignment())(torch.eye(3)[None])
    assert torch.equal(wrap(Assignment()).partners(y), Assignment().partners(y))
    with pytest.raises(AttributeError, match=r"^'TopK' object has no attribute 'nothing'$"):
        _ = wrap(TopK(3)).nothing
    assert not hasattr(wrap(TopK(3)), "_nothing")


def cases() -> dict[str, tuple[Solver, tuple[Tensor, ...], dict[str, Tensor]]]:
    edges = torch.tensor([[0, 0, 1, 2], [1, 2, 3, 3]])
    return {
        "assignment": (Assignment(), (uniform(9, 4, 5),), {"mask": uniform(9, 4, 5, seed=1) < 0.9}),
        "gated": (GatedAssignment(), (uniform(9, 3, 3),), {"unmatched": uniform(9, 3, seed=2)}),
        "several scores": (PartialAssignment(), (uniform(9, 3, 4), uniform(9, 3), uniform(9, 4)), {}),
        "viterbi": (Viterbi(), (uniform(9, 4, 3), uniform(9, 3, 3)), {}),
        "paths": (
            GraphShortestPath(directed=False),
            (uniform(9, 4),),
            {
                "edge_index": edges + torch.arange(9)[:, None, None] % 2,  # graphs of four nodes and of five
                "source": torch.arange(9) % 2,
                "target": 3 + torch.arange(9) % 2,
            },
        ),
        "tours": (TSP(), (uniform(9, 5, 5).double(),), {}),
        "half": (TopK(2), (uniform(9, 4).bfloat16(),), {}),
        "integers": (TopK(), ((9 * uniform(9, 4)).long(),), {"k": torch.arange(9) % 3}),
        "elementwise": (Sign(), (uniform(9, 4) - 0.5,), {}),
    }


@pytest.mark.parametrize("name", cases())
@every_wrapper
def test_the_answer_is_that_of_the_solver_inside(wrap, name):
    """Types and all, also when part of the batch is remembered, for one instance, and for none."""
    solver, scores, instance = cases()[name]
    wrapped = wrap(solver)
    for rows in (slice(0, 4), slice(2, 9), slice(0, 9), [3, 3, 8, 3], slice(0, 1), slice(0, 0)):
        some = [s[rows] for s in scores], {key: value[rows] for key, value in instance.items()}
        got, expected = wrapped(*some[0], **some[1]), solver(*some[0], **some[1])
        pairs = zip(got, expected) if isinstance(expected, tuple) else [(got, expected)]
        for ours, theirs in pairs:
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", cases())
@every_wrapper
def test_proofs_are_those_of_the_solver_inside(wrap, name):
    solver, scores, instance = cases()[name]
    ours, theirs = (s.solve_with_info(*scores, **instance) for s in (wrap(solver), solver))
    for got, want in [
        *zip(*(s.solution if isinstance(s.solution, tuple) else (s.solution,) for s in (ours, theirs))),
        (ours.objective, theirs.objective),
        (ours.optimal, theirs.optimal),
        (ours.bound, theirs.bound),
    ]:
        torch.testing.assert_close(got, want, equal_nan=True, rtol=0, atol=0)
    assert ours.duals.keys() == theirs.duals.keys()
    for key in theirs.duals:
        padding = ours.duals[key].isnan()
        assert not padding.any() or name == "paths"
        assert torch.equal(ours.duals[key].where(~padding, 0), theirs.duals[key].where(~padding, 0))


def test_narrow_duals_end_in_nan():
    """Graphs of which some have fewer nodes, in pieces of their own."""
    solver, scores, instance = cases()["paths"]
    order = instance["target"].argsort(stable=True)
    scores, instance = scores[0][order], {key: value[order] for key, value in instance.items()}
    potential = Parallel(solver, workers=2).solve_with_info(scores, **instance).duals["potential"]
    assert potential.shape == (9, 5)
    assert potential[0].isnan().tolist() == [False] * 4 + [True]
    assert not potential[-1].isnan().any()


@every_wrapper
def test_rules_and_relaxations_work_through_a_wrapper(wrap):
    scores = uniform(4, 6)
    for rule in (Identity(), Blackbox(step=3.0), IMLE(step=3.0, samples=3), StraightThrough(SoftTopK(2))):
        gradients = []
        for solver in (TopK(2), wrap(TopK(2))):
            torch.manual_seed(0)
            x = scores.clone().requires_grad_()
            layer = SolverLayer(solver, rule, projection="std")
            (layer(x) * uniform(4, 6, seed=1)).sum().backward()
            gradients.append(x.grad)
        assert torch.equal(*gradients)


@every_wrapper
def test_copies(wrap):
    wrapped = wrap(TopK(2))
    wrapped(uniform(5, 4))
    for other in (pickle.loads(pickle.dumps(wrapped)), copy.deepcopy(wrapped), eval(repr(wrapped))):
        assert other == wrapped
        assert hash(other) == hash(wrapped)
        assert repr(other) == repr(wrapped)
        assert torch.equal(other(uniform(5, 4)), wrapped(uniform(5, 4)))


@every_wrapper
def test_wrong_input_is_refused_as_by_the_solver_inside(wrap):
    with pytest.raises(InstanceError, match=r"^TopK: instance 1 has NaN scores \(1 of 2 instances\)\."):
        wrap(TopK(1))(torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]))
    with pytest.raises(
        TypeError, match=r"^(Cached|Parallel|Async): solver is <class .*TopK'>; expected an instance of Solver, "
    ):
        wrap(TopK)


def test_errors_of_instances_survive_pickling():
    error = InfeasibleError("no way", torch.tensor([True, False]), torch.ones(2, 3))
    other = pickle.loads(pickle.dumps(error))
    assert (type(other), str(other), other.instances.tolist()) == (InfeasibleError, "no way", [True, False])
    assert torch.equal(other.incumbent, torch.ones(2, 3))


# Cached


def test_only_what_is_missing_is_solved():
    inside = Counting()
    cached = Cached(inside)
    scores = uniform(6, 4)
    cached(scores)
    cached(scores[[5, 5, 0]])
    assert inside.batches == [6]
    cached(torch.cat([scores[:3], uniform(2, 4, seed=1), uniform(2, 4, seed=1)]))
    assert inside.batches == [6, 2]
    assert cached.statistics == (3 + 3 + 2, 6 + 2, 8)
    cached.clear()
    assert cached.statistics == (0, 0, 0)
    cached(scores[:1])
    assert inside.batches == [6, 2, 1]


def test_instance_data_shape_and_type_are_part_of_an_instance():
    inside = Counting()
    cached = Cached(inside)
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    assert cached(scores).tolist() == [[1, 0, 0]]
    assert cached(scores, forbidden=torch.tensor([0])).tolist() == [[0, 1, 0]]
    assert cached(scores, forbidden=torch.tensor([1])).tolist() == [[1, 0, 0]]
    assert cached(scores.double()).dtype == torch.float64
    assert cached(torch.zeros(1, 1)).shape == (1, 1)
    assert cached(torch.zeros(1, 2)).shape == (1, 2)
    assert cached.statistics.misses == 6


def test_the_solutions_used_last_are_kept():
    inside = Counting()
    cached = Cached(inside, size=2)
    a, b, c = uniform(3, 1, 4)
    for scores in (a, b, a, c, a, b):  # b is forgotten for c, and then c for b
        cached(scores)
    assert cached.statistics == (2, 4, 2)
    y = cached(torch.cat([a, b, c]))  # more than it holds
    assert torch.equal(y, inside.solve(torch.cat([a, b, c])))
    assert cached.statistics.entries == 2


def test_a_remembered_solution_cannot_be_spoilt():
    cached = Cached(TopK(1))
    scores = uniform(3, 4)
    cached(scores).zero_()
    assert torch.equal(cached(scores), TopK(1)(scores))


def test_a_failure_names_all_instances_that_are_alike():
    cached = Cached(Counting())
    good, bad = uniform(1, 3), torch.full((1, 3), -1.0)
    cached(good)
    with pytest.raises(
        InfeasibleError,
        match=r"^Cached: instance 1 failed \(1 of 4 instances\)\. Of 2 that were not known: Counting: instance 0 has none\.$",
    ) as caught:
        cached(torch.cat([good, bad, good + 1, bad]))
    assert caught.value.instances.tolist() == [False, True, False, True]
    assert caught.value.incumbent.shape == (4, 3)
    layer = SolverLayer(cached, Identity(), on_failure="skip")
    y = layer(torch.cat([good, bad, good + 1, bad]).requires_grad_())
    assert y.sum(1).tolist() == [1, 0, 1, 0]
    assert layer.failures == 2


def test_the_pool_serves_contrastive_losses():
    cached = Cached(TopK(2))
    true = uniform(20, 4)
    y_true = cached(true)
    pool = cached.pool()
    assert torch.equal(pool, y_true.unique(dim=0))
    scores = uniform(20, 4, seed=1).requires_grad_()
    every = torch.tensor([[float(i in pair) for i in range(4)] for pair in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]])
    assert len(pool) == 6  # all pairs of four were met
    assert torch.allclose(MAPLoss(cached)(scores, y_true, pool), MAPLoss(TopK(2))(scores, y_true, every))
    NCELoss(cached)(scores, y_true, pool).sum().backward()
    assert scores.grad.isfinite().all()


def test_pools_that_make_no_sense_are_refused():
    with pytest.raises(
        ValueError, match=r"^Cached: the memory is empty, so there is no pool\. Solve for the training set first\.$"
    ):
        Cached(TopK(1)).pool()
    cached = Cached(TopK())
    cached(uniform(2, 4), k=torch.tensor([1, 2]))
    with pytest.raises(
        ValueError, match=r"^Cached: the memory holds solutions of instances of several shapes or with different "
    ):
        cached.pool()
    cached = Cached(TopK())
    cached(uniform(3, 4), k=torch.tensor([2, 2, 2]))
    assert cached.pool().shape[1] == 4
    cached = Cached(Viterbi())
    cached(uniform(2, 3, 2), uniform(2, 2, 2))
    with pytest.raises(ValueError, match=r"^Cached: solutions of several tensors make no pool; the losses over a pool take a "):
        cached.pool()
    with pytest.raises(ValueError, match=r"^Cached: size=0; it must be at least 1\.$"):
        Cached(TopK(1), size=0)


# Parallel


@dataclass(frozen=True)
class Process(InstanceSolver):
    """Its solutions are the numbers of the processes that found them."""

    def solve_instance(self, scores):
        time.sleep(0.02)
        return np.full_like(scores, os.getpid())


@dataclass(frozen=True)
class Fragile(InstanceSolver):
    """Kills the process that works on a negative score, as long as a file is there (for ever, without a name)."""

    file: str = ""

    def solve_instance(self, scores):
        if (scores < 0).any() and (not self.file or Path(self.file).exists()):
            if self.file:
                Path(self.file).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.sign(scores)


@dataclass(frozen=True)
class Wrong(InstanceSolver):
    """Has a fault for positive scores."""

    def solve_instance(self, scores):
        if (scores > 0).any():
            raise KeyError("not mine")
        return scores


def test_several_processes_work():
    pids = Parallel(Process(), workers=2)(torch.zeros(16, 1, dtype=torch.float64)).unique()
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_single_worker_is_this_process():
    assert Parallel(Process(), workers=1)(torch.zeros(3, 1, dtype=torch.float64)).unique().tolist() == [os.getpid()]
    assert Parallel(Process(), workers=2)(torch.zeros(1, 1, dtype=torch.float64)).unique().tolist() == [os.getpid()]
    with pytest.raises(
        ValueError, match=r"^Parallel: workers=0; it is the number of processes, or -1 for one for each processor\."
    ):
        Parallel(TopK(1), workers=0)


def test_a_worker_that_is_killed_is_replaced(tmp_path, caplog):
    file = tmp_path / "alive"
    file.touch()
    scores = torch.tensor([[1.0], [2.0], [-3.0], [4.0]])
    assert Parallel(Fragile(str(file)), workers=2)(scores).flatten().tolist() == [1, 1, -1, 1]
    assert [r.message for r in caplog.records if r.name == "solverlayers"] == [
        "Parallel: a worker process died; it is replaced and the batch solved again."
    ]


def test_a_batch_that_kills_every_worker_is_reported():
    started = time.monotonic()
    solver = Parallel(Fragile(), workers=2)
    with pytest.raises(
        WorkerError, match=r"^Parallel: worker processes died while they ran Fragile\(file=''\), 2 times\. Out of "
    ):
        solver(torch.tensor([[1.0], [2.0], [-3.0], [4.0]]))
    assert time.monotonic() - started < 60
    assert solver(torch.ones(4, 1)).flatten().tolist() == [1, 1, 1, 1]  # and it goes on


def test_failures_are_those_of_the_batch():
    solver = Parallel(GridShortestPath(), workers=2)
    costs = torch.rand(9, 3, 3)
    costs[[2, 7], 1] = torch.inf
    with pytest.raises(
        InfeasibleError,
        match=r"^Parallel: instance 2 failed \(1 of 9 instances\)\. In the piece that starts with instance 2: "
        r"GridShortestPath: instance 0 has no path",
    ) as caught:
        solver(costs)
    assert caught.value.instances.nonzero()[:, 0].tolist() == [2, 7]
    layer = SolverLayer(solver, Identity(), on_failure="skip")
    expected = SolverLayer(GridShortestPath(), Identity(), on_failure="skip")(costs)
    assert torch.equal(layer(costs), expected)
    assert layer.failures == 2


def test_what_is_wrong_with_all_instances_is_raised_as_it_is():
    with pytest.raises(KeyError, match="not mine"):
        Parallel(Wrong(), workers=2)(torch.ones(4, 1))


def test_the_back_end_is_that_of_joblib():
    """Threads stand for a cluster: what joblib is told, it does, and its workers stay from call to call."""
    solver = Parallel(Process(), workers=2)
    with joblib.parallel_config(backend="threading"):
        assert solver(torch.zeros(8, 1, dtype=torch.float64)).unique().tolist() == [os.getpid()]
        first = solver._pool.open
        assert first is not None
        solver(torch.zeros(8, 1, dtype=torch.float64))
        assert solver._pool.open is first
        other = Parallel(Wrong(), workers=2)
        with pytest.raises(KeyError, match="not mine"):
            other(torch.ones(4, 1))
        assert other._pool.open is None
        held = weakref.ref(other._pool)
        other(-torch.ones(4, 1))
        del other
        gc.collect()
        assert held() is None  # and its threads are gone, or a warning would say so
    assert os.getpid() not in solver(torch.zeros(8, 1, dtype=torch.float64)).unique()
    assert solver._pool.open is None


# Timed


@dataclass(frozen=True)
class Slow(Solver):
    """An argmax that is too late for scores above its limit, and then knows the first entry."""

    time_limit: float = 60.0
    hopeless: bool = False
    packed: bool = False

    def solve(self, scores: Tensor, *more: Tensor) -> Tensor | tuple[Tensor, ...]:
        late = scores.amax(1) > self.time_limit
        if late.any():
            y = torch.zeros_like(scores)
            y[:, 0] = 1
            incumbent = torch.cat([y, *more], 1) if more else y
            raise SolverTimeoutError("Slow: late.", late, None if self.hopeless else incumbent)
        y = torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).to(scores)
        return (y, *(torch.zeros_like(m) for m in more)) if more else y

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        if len(scores) == 1:
            return super().solve_with_info(*scores, **instance)
        y = self.solve(*scores)
        value = (scores[0] * y[0]).sum(1).double()
        return Solution(y, value, torch.ones(len(value), dtype=torch.bool), value)


def test_the_incumbent_is_returned_and_flagged():
    scores = torch.tensor([[1.0, 2.0], [3.0, 9.0], [2.0, 1.0], [4.0, 8.0]])
    solver = Timed(Slow(), 5.0)
    assert not solver.exact
    info = solver.solve_with_info(scores)
    assert info.optimal.tolist() == [True, False, True, False]
    assert info.solution.tolist() == [[0, 1], [1, 0], [1, 0], [1, 0]]
    assert info.objective.tolist() == [2, 3, 2, 4]
    assert info.bound.isnan().tolist() == [False, True, False, True]
    assert info.gap.isnan().tolist() == [False, True, False, True]
    assert torch.equal(solver(scores), info.solution)
    late = solver.solve_with_info(scores[[1, 3]])
    assert late.optimal.tolist() == [False, False]


def test_incumbents_of_several_tensors():
    scores = torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[5.0], [7.0]])
    info = Timed(Slow(), 5.0).solve_with_info(*scores)
    assert [part.tolist() for part in info.solution] == [[[0, 1], [1, 0]], [[0], [7]]]
    assert info.objective.tolist() == [2, 3 + 49]
    assert info.optimal.tolist() == [True, False]


def test_nothing_found_in_time_is_an_error():
    with pytest.raises(SolverTimeoutError, match=r"^Slow: late\.$"):
        Timed(Slow(hopeless=True), 5.0)(torch.tensor([[1.0, 9.0]]))


def test_the_limit_is_the_solvers_own():
    solver = Timed(TSP(time_limit=1e9), 0.75)
    assert solver._limited == TSP(time_limit=0.75)
    assert Timed(Parallel(TSP(), workers=2), 0.75)._limited == Parallel(TSP(time_limit=0.75), workers=2)
    places = uniform(2, 80, 2)
    quick = Timed(TSP(), 0.01).solve_with_info(torch.cdist(places, places))
    assert (quick.solution.sum((1, 2)) == 160).all()
    assert not (quick.bound > quick.objective).any()
    assert not quick.optimal.any()
    assert not (quick.gap <= 0).any()


@pytest.mark.parametrize("solver", [Assignment(), RoutingTSP(), Cached(TopK(2))], ids=repr)
def test_a_solver_without_a_limit_is_refused(solver):
    inside = TopK(2) if isinstance(solver, Cached) else solver
    expected = (
        f"Timed: {inside!r} has no time limit: there is no field `time_limit` in its class. Use a solver that has one, such as "
        f"TSP; a solver that always takes about as long needs none."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        Timed(solver, 1.0)


def test_a_limit_is_positive():
    with pytest.raises(ValueError, match=r"^Timed: seconds=0; a time limit is positive and finite, None for none\.$"):
        Timed(TSP(), 0)


# Async


@dataclass(frozen=True)
class Sleepy(Solver):
    def solve(self, scores):
        time.sleep(0.3)
        if (scores < 0).any():
            raise InfeasibleError("Sleepy: instance 0 is negative.", (scores < 0).any(1))
        return scores.sign()


def test_work_goes_on_while_it_solves():
    solver = Async(Sleepy())
    started = time.monotonic()
    pending = solver.submit(torch.ones(2, 3))
    assert time.monotonic() - started < 0.25
    assert not pending.done()
    assert repr(pending) == "<Pending, working>"
    assert torch.equal(pending.result(), torch.ones(2, 3))
    assert pending.done()
    assert repr(pending) == "<Pending, done>"
    assert torch.equal(pending.result(), torch.ones(2, 3))


def test_several_batches_at_once():
    solver = Async(Sleepy(), workers=3)
    started = time.monotonic()
    pending = [solver.submit(torch.full((1, 2), float(i))) for i in range(3)]
    assert [p.result()[0, 0].item() for p in pending] == [0, 1, 1]
    assert time.monotonic() - started < 0.85


def test_scores_may_change_after_they_are_submitted():
    scores, unmatched = uniform(3, 4, 4), torch.full((3,), 9.0)
    expected = GatedAssignment()(scores, unmatched=unmatched)
    solver = Async(GatedAssignment())
    blocked = Async(Sleepy())
    pending = solver.submit(scores, unmatched=unmatched)
    scores.zero_()
    unmatched.zero_()
    assert torch.equal(pending.result(), expected)
    late = blocked.submit(torch.ones(1, 1))
    with pytest.raises(TimeoutError):
        late.result(timeout=0.01)


def test_errors_come_with_the_result():
    pending = Async(Sleepy()).submit(-torch.ones(1, 2))
    with pytest.raises(InfeasibleError, match=r"^Sleepy: instance 0 is negative\.$"):
        pending.result()
    with pytest.raises(ValueError, match=r"^Async: workers=0; it must be at least 1\.$"):
        Async(TopK(1), workers=0)


def test_it_can_be_submitted_what_requires_a_gradient():
    pending = Async(TopK(1)).submit(uniform(2, 3).requires_grad_())
    assert not pending.result().requires_grad


@pytest.mark.gpu
def test_scores_on_a_gpu(gpu):
    """The host solves while the device computes; what the stream has not computed yet is waited for in the thread."""
    solver = Async(Assignment())
    scores = uniform(64, 20, 20).to(gpu)
    big = torch.rand(4096, 4096, device=gpu)
    solver.submit(scores).result()
    torch.cuda.synchronize()
    for _ in range(20):
        big = (big @ big).clamp(0, 1)
    moved = scores + big[0, 0] * 0
    started = time.monotonic()
    pending = solver.submit(moved)
    assert time.monotonic() - started < 0.05
    y = pending.result()
    assert y.device == scores.device
    assert torch.equal(y.cpu(), Assignment()(scores.cpu()))


@pytest.mark.gpu
@every_wrapper
def test_wrappers_on_a_gpu(wrap, gpu):
    scores = uniform(7, 5).to(gpu)
    for _ in range(2):
        y = wrap(TopK(2))(scores)
        assert y.device == scores.device
        assert torch.equal(y, TopK(2)(scores))


def test_graphs_travel_to_workers():
    graph = Graph([[0, 0, 1], [1, 2, 2]])
    solver = GraphShortestPath(graph, source=0, target=2)
    assert torch.equal(Parallel(solver, workers=2)(uniform(6, 3)), solver(uniform(6, 3)))
