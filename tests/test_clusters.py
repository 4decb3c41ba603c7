"""`Parallel` on a cluster: training on a local Ray, if there is one (`pip install 'solverlayers[ray]'`)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

TRAINING = """
import time

import joblib
import ray
import torch
from ray.util.joblib import register_ray

from solverlayers import InfeasibleError, SolverLayer
from solverlayers.rules import Blackbox
from solverlayers.solvers import Assignment, Parallel


def train(solver):
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 9)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    layer = SolverLayer(solver, Blackbox(step=5.0))
    x, target = torch.randn(8, 4), torch.eye(3).expand(8, 3, 3)
    losses = []
    for _ in range(20):
        loss = (layer(network(x).view(8, 3, 3)) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, network.weight


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
register_ray()
solver = Parallel(Assignment(), workers=2)
with joblib.parallel_config(backend="ray"):
    losses, weight = train(solver)
    started = time.monotonic()
    solver(torch.rand(8, 3, 3))
    assert time.monotonic() - started < 2.0  # the workers are still there
    try:
        solver(torch.full((8, 3, 3), torch.inf))
    except InfeasibleError as error:
        assert error.instances.any()
    else:
        raise AssertionError("infeasible instances are not reported")
    solver._pool.close()
ray.shutdown()
here, expected = train(Assignment())
assert losses == here and torch.equal(weight, expected)
assert losses[-1] < losses[0]
print("trained on", ray.__name__)
"""


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'solverlayers[ray]'")
def test_training_on_ray():
    """The same losses and weights as in this process, in a process of its own, since Ray leaves threads behind."""
    done = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("trained on ray\n")
