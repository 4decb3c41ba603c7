"""Means of solutions and their records, against plain arithmetic and solving all samples at once, in every build."""

import pytest
import torch
from builds import BUILDS, compiled, each_build, use

from solverlayers import Solver, SolverLayer, samples, seeded_noise
from solverlayers.errors import InstanceError
from solverlayers.rules import IMLE, Identity, Perturbed
from solverlayers.solvers import Assignment, GridShortestPath, MaxAssignment, kernels


def some(shape, binary=True):
    y = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return (y < 0.3).float() if binary else y


SHAPES = [(1, 4, 3), (10, 32, 16), (7, 5, 100), (4, 2, 3, 5, 9), (3, 300, 40), (2, 0, 5), (3, 2, 0)]


@compiled
@each_build
@pytest.mark.parametrize("shape", SHAPES)
def test_a_record_stands_for_the_solutions(shape, build, monkeypatch):
    use(build, monkeypatch, samples)
    y, batch = some(shape), torch.Size(shape[1:3] if len(shape) > 4 else shape[1:2])
    mean, record = samples.mean_and_record(y, batch)
    assert record.dtype == torch.int16
    assert record.shape == (shape[0], *batch, -(-y.shape[1 + len(batch) :].numel() // 16))
    assert torch.allclose(mean, y.mean(0))
    assert torch.equal(samples.solutions(record, y.shape[1 + len(batch) :], torch.float32), y)
    grad = torch.randn(shape[1:], generator=torch.Generator().manual_seed(0))
    found = samples.advantages(record, grad, batch, 0.5)
    assert torch.equal(found, samples.advantages(y, grad, batch, 0.5))
    products = (y * grad).flatten(1 + len(batch)).double().sum(-1)
    others = (products.sum(0) - products) / max(shape[0] - 1, 1)
    assert torch.allclose(found.double(), 0.5 * (products - others), atol=1e-5)
    monkeypatch.setattr(samples, "library", lambda: None)
    assert torch.allclose(found, samples.advantages(y, grad, batch, 0.5), atol=1e-5)


@compiled
def test_all_builds_agree_bit_for_bit(monkeypatch):
    y, grad, made = some((6, 50, 37)), torch.randn(50, 37), []
    for build in BUILDS:
        use(build, monkeypatch, samples)
        mean, record = samples.mean_and_record(y, torch.Size([50]))
        made.append((mean, record, samples.advantages(record, grad, torch.Size([50]), 1.0)))
    assert all(torch.equal(a, b) for other in made[1:] for a, b in zip(made[0], other))


@compiled
def test_threads_change_nothing():
    y, grad, made = some((8, 2000, 150)), torch.randn(2000, 150), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            mean, record = samples.mean_and_record(y, torch.Size([2000]))
            made.append((mean, record, samples.advantages(record, grad, torch.Size([2000]), 1.0)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*made))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_kept_as_they_are(dtype):
    y = some((4, 3, 5)).to(dtype)
    mean, kept = samples.mean_and_record(y, torch.Size([3]))
    assert kept is y
    assert torch.equal(mean, y.mean(0))
    assert samples.solutions(kept, torch.Size([5]), dtype) is y


def test_pairs_leave_out_a_sample_and_its_mirror_image():
    y, grad = some((6, 2, 3), binary=False), torch.ones(2, 3)
    products = y.sum(-1)
    expected = torch.stack([products[s] - sum(products[k] for k in range(6) if k % 3 != s % 3) / 4 for s in range(6)])
    assert torch.allclose(samples.advantages(y, grad, torch.Size([2]), 1.0, pairs=True), expected, atol=1e-5)


def walls(generator):
    mask = torch.rand(9, 4, 5, generator=generator) > 0.2
    mask[:, 0], mask[:, :, -1] = True, True
    return {"mask": mask}


def ends(generator):
    return {name: torch.randint(0, 4, (9, 2), generator=generator) for name in ("source", "target")}


def padding(generator):
    sizes = torch.randint(1, 6, (9, 1), generator=generator)
    real = torch.arange(6) < sizes
    return {"mask": real.unsqueeze(2) & real.unsqueeze(1)}


ONE_BY_ONE = [
    (Assignment(), (9, 6, 6), None),
    (Assignment(), (9, 6, 6), padding),
    (Assignment(), (300, 20, 20), None),
    (MaxAssignment(), (5, 12, 17), None),
    (GridShortestPath(), (100, 12, 12), None),
    (GridShortestPath(4), (9, 4, 5), walls),
    (GridShortestPath(), (9, 4, 5), ends),
]


@compiled
@each_build
@pytest.mark.parametrize(("solver", "shape", "data"), ONE_BY_ONE)
@pytest.mark.parametrize("threads", [1, 2])
def test_samples_solved_one_by_one_are_samples_solved_at_once(solver, shape, data, threads, build, monkeypatch):
    """Means, records and gradients, bit for bit; a difference of means starts where the first solve ended."""
    use(build, monkeypatch, samples, seeded_noise, kernels.assignment)
    instance = data(torch.Generator().manual_seed(0)) if data else {}
    scores, grad = torch.rand(shape, requires_grad=True), torch.randn(shape)
    own = type(solver).maximise_samples
    calls, made, before = [], [], torch.get_num_threads()
    monkeypatch.setattr(type(solver), "maximise_samples", lambda *a, **k: calls.append(own(*a, **k)) or calls[-1])
    try:
        for one_by_one in (True, False):
            if not one_by_one:
                monkeypatch.setattr(type(solver), "maximise_samples", Solver.maximise_samples)
            torch.set_num_threads(threads if one_by_one else 1)
            for rule in (Perturbed(0.2, 7), IMLE(1.0, 0.2, 7)):
                torch.manual_seed(3)
                y = SolverLayer(solver, rule)(scores, **instance)
                made.append((y, torch.autograd.grad(y, scores, grad)[0]))
    finally:
        torch.set_num_threads(before)
    assert calls == [True] * 3
    assert all(torch.equal(a, b) for first, second in zip(made[:2], made[2:]) for a, b in zip(first, second))


@compiled
@pytest.mark.parametrize("solver", [Assignment(), GridShortestPath()])
def test_what_cannot_be_solved_is_named_as_ever(solver):
    scores = torch.rand(3, 4, 4)
    scores[1, 2, 2] = torch.nan
    with pytest.raises(InstanceError, match="instance 1 has NaN scores"):
        SolverLayer(solver, Perturbed(0.1, 5))(scores)


def test_a_solver_solved_anew_makes_no_samples_itself():
    class Least(GridShortestPath):
        def solve(self, scores, **instance):
            return torch.ones_like(scores)

    scores = torch.rand(2, 3, 3, requires_grad=True)
    assert torch.equal(SolverLayer(Least(), Perturbed(0.1, 4))(scores), torch.ones(2, 3, 3))
    assert torch.equal(SolverLayer(Least(), Identity())(scores), torch.ones(2, 3, 3))


def test_a_start_of_each_instance_is_for_all_its_samples():
    scores, made = torch.rand(4, 10, 10), []
    for instance in ({}, {"warm_start": torch.zeros(4, 10)}):
        torch.manual_seed(1)
        made.append(SolverLayer(Assignment(), IMLE(1.0, 0.1, 3))(scores, **instance))
    assert torch.equal(*made)
    with pytest.raises(ValueError, match="`warm_start` has shape"):
        SolverLayer(Assignment(), IMLE(1.0, 0.1, 3))(scores, warm_start=torch.zeros(4, 9))
