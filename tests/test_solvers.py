"""The contract of every solver: optimal against brute force, batched, deterministic, masked."""

from __future__ import annotations

import pytest
import torch
from cases import SOLVERS
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers import Oracle
from solverlayers.solver import inner
from solverlayers.testing import check_solver

solvers = pytest.mark.parametrize("case", SOLVERS.values(), ids=SOLVERS)


@solvers
def test_contract(case):
    check_solver(case.solver, case.shape, case.instance, case.vertices, **case.options)


@solvers
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    levels=st.sampled_from([0, 2, 1000]),
    offset=st.sampled_from([0.0, -3.0, 1e5]),
    batch=st.integers(1, 4),
)
def test_solutions_are_optimal(case, seed, levels, offset, batch):
    """Ties, offsets and scales: the objective is the best of all solutions, and the solution is one of them."""
    if case.vertices is None:
        return
    generator = torch.Generator().manual_seed(seed)
    scores = case.solver.clip(torch.rand(batch, *case.shape, generator=generator, dtype=torch.float64) * 2 - 1 + offset)
    scores = scores if levels == 1000 else (scores * max(levels, 1)).round()
    instance = case.instance(batch) if case.instance else {}
    y = case.solver(scores, **instance)
    value = inner(scores, y, case.solver.event_dim) + case.solver.offset(y, **instance)
    sign = 1 if case.solver.sense == "max" else -1
    for b in range(batch):
        rows = {key: data[b] for key, data in instance.items()}
        vertices = (case.vertices if isinstance(case.vertices, torch.Tensor) else case.vertices(**rows)).double()
        assert (vertices == y[b]).flatten(1).all(1).any()
        repeated = {key: data.expand(len(vertices), *data.shape) for key, data in rows.items()}
        every = (scores[b] * vertices).flatten(1).sum(1) + case.solver.offset(vertices, **repeated)
        assert sign * value[b] >= (sign * every).max() - 1e-9 * scores.abs().max()


@solvers
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64])
def test_types_agree(case, dtype):
    """Scores of few levels are exact in every type, so the objectives are equal."""
    scores = case.solver.clip(torch.randint(-3, 4, (4, *case.shape))).to(torch.float64)
    instance = case.instance(4) if case.instance else {}
    if not case.solver.linear:
        assert torch.equal(case.solver(scores.to(dtype), **instance).double(), case.solver(scores, **instance))
        return
    y, reference = case.solver(scores.to(dtype), **instance), case.solver(scores, **instance)
    assert y.dtype == dtype
    value, best = (
        inner(scores, one.double(), case.solver.event_dim) + case.solver.offset(one.double(), **instance)
        for one in (y, reference)
    )
    assert torch.allclose(value, best)


@pytest.mark.gpu
@solvers
def test_contract_on_the_gpu(case, gpu):
    check_solver(case.solver, case.shape, case.instance, case.vertices, device=gpu, **case.options)


@solvers
def test_half_precision_through_the_oracle(case):
    """The oracle hands solvers at least float32, and returns the type it got."""
    scores, instance = case.build(3)
    oracle = Oracle(case.solver, instance)
    theta = (oracle.sign * scores.detach()).bfloat16()
    y = oracle(theta)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, oracle(theta.float()).bfloat16())
