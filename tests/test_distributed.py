"""Two processes that share a model get the gradients of one process on the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from solverlayers import SolverLayer
from solverlayers.rules import DAB, Blackbox, Identity
from solverlayers.solvers import Assignment, Ranking, TopK

PROCESSES = 2
BATCH = 4  # of each process
SIZE = 5


class Model(torch.nn.Module):
    """A network, a layer behind it, and their loss, with the layer's own."""

    def __init__(self, layer, shape):
        super().__init__()
        self.encoder, self.layer, self.shape = torch.nn.Linear(3, SIZE if len(shape) == 1 else SIZE * SIZE), layer, shape

    def forward(self, x, target):
        scores = self.encoder(x).unflatten(1, self.shape)
        y = self.layer(scores)
        return (y - target).square().flatten(1).sum(1).mean() + self.layer.auxiliary_loss(scores, y)


def models():
    """Each from the same random numbers in every process."""
    torch.manual_seed(0)
    yield "identity", Model(SolverLayer(TopK(2), Identity(), projection="std"), (SIZE,))
    yield "blackbox", Model(SolverLayer(Assignment(), Blackbox(step=2.0)), (SIZE, SIZE))
    yield "dab", Model(SolverLayer(Ranking(), DAB("equivariant", shape=(SIZE,))), (SIZE,))


def data(shape):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(PROCESSES * BATCH, 3, generator=generator)
    return x, torch.rand(PROCESSES * BATCH, *shape, generator=generator)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    found = {}
    for name, model in models():
        x, target = data(model.shape)
        mine = slice(rank * BATCH, (rank + 1) * BATCH)
        parallel = DistributedDataParallel(model)  # its hooks live as long as it does
        parallel(x[mine], target[mine]).backward()
        found[name] = gradients(model)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()  # a process that hears no more of one that has left aborts
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradients")
    mp.spawn(work, (str(folder),), PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", [name for name, _ in models()])
def test_gradients_are_those_of_the_joined_batch(found, name):
    model = dict(models())[name]
    if name == "blackbox":  # in the mean over a batch twice as large, the gradient of an instance is half as large
        model.layer.rule.step *= PROCESSES
    x, target = data(model.shape)
    model(x, target).backward()
    expected = gradients(model)
    for rank in range(PROCESSES):
        assert found[rank][name].keys() == expected.keys()
        for key, gradient in expected.items():
            torch.testing.assert_close(found[rank][name][key], gradient, atol=1e-6, rtol=1e-5)
    assert all(g.count_nonzero() for g in expected.values())
