"""The networks of the number-sorting task: what treats elements alike, what is refused, and that each learns."""

from __future__ import annotations

import pytest
import torch

from solverlayers.tasks import comparing
from solverlayers.tasks.running import Hardware, Run, task_class
from solverlayers.tasks.sorting_networks import NETWORKS
from solverlayers.tasks.specs import SpecError

SILENT = Hardware(progress=False)
EQUIVARIANT = [name for name in NETWORKS if name != "dense"]


def build(settings: list[str], rule: str = "dab"):
    return Run.make("sorting", rule, settings=settings).build()


@pytest.mark.parametrize("name", NETWORKS)
def test_units_and_logits(name):
    network = NETWORKS[name](5, 8, 20)
    units = network.scores(torch.rand(7, 5))
    assert units.shape == (7, 20)
    assert (units.abs() <= 1).all()
    assert network.logits(units).shape == (7, 5, 5)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_shuffled_elements_have_shuffled_logits(name):
    torch.manual_seed(0)
    network = NETWORKS[name](6, 8, 24).eval().double()
    numbers, order = torch.rand(4, 6, dtype=torch.float64), torch.randperm(6)
    logits = network.logits(network.scores(numbers))
    torch.testing.assert_close(network.logits(network.scores(numbers[:, order])), logits[:, order])
    assert not torch.allclose(logits[:, order], logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["network=relation", "n=10"],
            "setting bits=256: network 'relation' gives each of n=10 elements equally many; take a multiple of 10.",
        ),
        (
            ["network=relations"],
            "unknown network 'relations' (did you mean 'relation'?); use one of: attention, dense, relation.",
        ),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(SpecError) as caught:
        build(settings)
    assert str(caught.value) == message


def test_without_a_hard_layer_the_decoder_sees_the_tanh_units():
    torch.manual_seed(0)
    soft, hard = (build([f"hard={hard}", "n=3", "bits=6", "width=4"], "identity") for hard in (False, True))
    numbers = torch.rand(5, 3)
    units = soft.network.scores(numbers)
    assert torch.equal(soft.logits(numbers), soft.network.logits(units))
    units = hard.network.scores(numbers)
    assert torch.equal(hard.logits(numbers), hard.network.logits(units.sign() * (units.abs() > 0.5)))


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns(name, hard, tmp_path):  # in forty steps
    settings = ["n=3", "epochs=1", "train_size=5120", "batch=128", "test_size=500", "bits=48", "width=16", "lr=0.02"]
    run = Run.make("sorting", "identity", settings=[*settings, f"network={name}", f"hard={hard}"])
    assert comparing.execute(run, tmp_path, SILENT)["metrics"]["hamming"] < 0.4  # chance is two thirds


def test_the_recipe_is_for_the_papers_problem():
    presets = task_class("sorting").presets
    assert presets["recipe"].n == presets["paper"].n == 10
    assert presets["recipe"].margin == presets["paper"].margin
    for name in presets:
        Run.make("sorting", preset=name)
