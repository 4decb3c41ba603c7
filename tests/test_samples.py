"""Means of solutions and their records, against plain arithmetic, in every build and without one."""

import pytest
import torch
from builds import BUILDS, compiled, each_build, use

from solverlayers import samples


def some(shape, binary=True):
    y = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return (y < 0.3).float() if binary else y


def use_none(monkeypatch):
    monkeypatch.setattr(samples, "library", lambda: None)


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
    use_none(monkeypatch)
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
