"""What `solve_with_info` says of every solver: objective, proof and bound fit each other."""

import pytest
import torch
from cases import SOLVERS

from solverlayers.solver import Solution, inner


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["real", "tied"])
@pytest.mark.parametrize("case", SOLVERS.values(), ids=SOLVERS)
def test_objective_proof_and_bound(case, tied, dtype):
    torch.manual_seed(0)
    solver = case.solver
    scores, instance = case.build(4, torch.float64)
    scores = scores.detach().to(dtype)
    scores = solver.clip((2 * scores).round()) if tied else scores
    info = solver.solve_with_info(scores, **instance)
    if not solver.linear:  # the value of a flow, or nothing at all
        assert torch.equal(info.objective.isfinite(), info.optimal)
        assert (info.gap.nan_to_num(0) == 0).all()
        return
    slack = (1e-7 if dtype == torch.float64 else 1e-5) * (1 + scores.abs().flatten(1).sum(1).double())
    y, sign = info.solution.double(), 1 if solver.sense == "max" else -1
    objective = inner(scores.double(), y, solver.event_dim) + solver.offset(y, **instance)
    assert ((info.objective - objective).abs() <= slack).all()
    beyond = sign * (info.bound - info.objective)
    assert (beyond >= -slack).all()
    assert (beyond[info.optimal] <= slack[info.optimal]).all()
    assert (info.gap >= 0).all()
    if solver.exact:
        assert info.optimal.all()
        assert (beyond <= slack).all()
    if isinstance(case.vertices, torch.Tensor) or case.vertices is None or not solver.exact:
        return
    for b in range(len(scores)):
        rows = {key: value[b] for key, value in instance.items()}
        every = case.vertices(**rows).double()
        data = {key: value.expand(len(every), *value.shape) for key, value in rows.items()}
        values = sign * ((scores[b].double() * every).flatten(1).sum(1) + solver.offset(every, **data))
        assert (sign * info.bound[b] - values.max()).abs() <= slack[b]  # the bound of an exact solver is the optimum


def test_gap():
    values = torch.tensor([4.0, 0.0, 0.0, torch.inf, 4.0, 4.0])
    bounds = torch.tensor([5.0, 0.0, 1.0, torch.inf, torch.nan, torch.inf])
    gap = Solution(None, values, values > 0, bounds).gap
    assert torch.equal(gap[:4], torch.tensor([0.25, 0.0, torch.inf, 0.0]))
    assert gap[4].isnan()
    assert gap[5].isinf()
