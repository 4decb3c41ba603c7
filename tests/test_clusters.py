"""`Parallel` on a cluster: training on a local Ray, on a local Dask (`pip install 'solverlayers[ray,dask]'`)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

TRAINING = """
import time

import joblib
import torch

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


START
solver = Parallel(Assignment(), workers=2)
with joblib.parallel_config(backend="NAME"):
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
END
here, expected = train(Assignment())
assert losses == here and torch.equal(weight, expected)
assert losses[-1] < losses[0]
print("trained on NAME")
"""


CLUSTERS = {  # how to start one, and to stop it
    "ray": (
        "import ray; from ray.util.joblib import register_ray\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False); register_ray()",
        "ray.shutdown()",
    ),
    "dask": (
        "import distributed\n"
        "cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)\n"
        "client = distributed.Client(cluster)",
        "client.close(); cluster.close()",
    ),
}
PACKAGES = {"ray": "ray", "dask": "distributed"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_training_on_a_cluster(name):
    """The same losses and weights as in this process, in a process of its own, since clusters leave threads behind."""
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"needs {PACKAGES[name]}: pip install 'solverlayers[{name}]'")
    start, end = CLUSTERS[name]
    script = TRAINING.replace("START", start).replace("END", end).replace("NAME", name)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"trained on {name}\n")
