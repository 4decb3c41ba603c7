"""Sorting of photographed digits: the sequences, the measurements by hand, training, resuming and the command line."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
import torch
from runs import killed, timeless
from scipy.stats import chisquare

from solverlayers.tasks import comparing, images, running, sorting_digits
from solverlayers.tasks.cli import main
from solverlayers.tasks.digit_networks import Shared
from solverlayers.tasks.running import Hardware, Run
from solverlayers.tasks.sorting_digits import Digits, different_numbers
from solverlayers.tasks.specs import SpecError

TINY = ["epochs=1", "batch=20", "train_size=400", "test_size=60", "n=3", "lr=0.01"]  # twenty steps
SILENT = Hardware(progress=False)


def made_digits(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The brighter the image, the greater the digit."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    noise = torch.randint(10, (count, 1, 28, 28), generator=generator)
    return (25 * labels.view(-1, 1, 1, 1) + noise).to(torch.uint8), labels


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """A data set of made digits."""
    found = images.ImageSet(*made_digits(500, 0), *made_digits(100, 1), "made")
    monkeypatch.setattr(sorting_digits, "load_images", lambda name: found)


def trained(folder, rule: str, settings: list[str], projection: str | None = None) -> dict:
    return comparing.execute(Run.make("sorting_digits", rule, projection, settings=settings), folder, SILENT)


# ---- data ----


def test_sequences_of_different_numbers_are_all_as_likely():
    drawn = different_numbers(24_000, 3, 4, torch.Generator().manual_seed(0))
    counts = dict.fromkeys(permutations(range(4), 3), 0)
    for sequence in drawn.tolist():
        counts[tuple(sequence)] += 1  # a number that stands twice, or is out of range, has no place here
    assert chisquare(list(counts.values())).pvalue > 1e-3
    everything = different_numbers(50, 10, 10, torch.Generator().manual_seed(1))
    assert torch.equal(everything.sort(1).values, torch.arange(10).expand(50, 10))


def test_a_number_is_a_row_of_images_of_its_digits():
    pictures, labels = made_digits(300, 3)
    numbers = torch.tensor([[4071, 9], [1234, 8800]])
    made = Digits(pictures, labels).photograph(numbers, 4, torch.Generator().manual_seed(0))
    assert made.shape == (2, 2, 1, 28, 112)
    assert made.dtype == torch.uint8
    known = {image.numpy().tobytes(): int(label) for image, label in zip(pictures, labels)}
    for row, written in zip(made.flatten(0, 1), ("4071", "0009", "1234", "8800")):
        assert [known[part.contiguous().numpy().tobytes()] for part in row.split(28, -1)] == [int(d) for d in written]
    zeros = Digits(pictures, labels).photograph(torch.zeros(2000, 1, dtype=torch.long), 1, torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in zeros}) == int((labels == 0).sum())  # every image has its turn


def test_unseen_sequences_are_made_of_unseen_digits(tmp_path):
    task = running.train(Run.make("sorting_digits", "identity", settings=TINY), tmp_path, SILENT)
    known = {
        part: {i.numpy().tobytes() for i in made_digits(size, k)[0]}
        for k, (part, size) in enumerate([("train", 500), ("test", 100)])
    }
    for part, batch in (("test", task.test_data), ("train", task.sample(50, torch.Generator().manual_seed(0)))):
        assert {image.numpy().tobytes() for image in batch[0].flatten(0, 1)} <= known[part]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("n=11", "setting n=11; a sequence has 2 to 10 different numbers of 1 digits."),
        ("n=1", "setting n=1; a sequence has 2 to 10 different numbers of 1 digits."),
        ("network=share", "unknown network 'share' (did you mean 'shared'?); use one of: shared, whole."),
        (
            "solver=rankin",
            "unknown solver 'rankin' (did you mean 'ranking'?); use one of: max_assignment, permutation, ranking.",
        ),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(SpecError) as caught:
        Run.make("sorting_digits", settings=[setting])
    assert str(caught.value) == message


# ---- measurements ----


@pytest.mark.parametrize(
    ("solver", "rule", "loss"),
    [
        ("ranking", "identity", (0 + 2 + 8) / 3),  # ranks 1 2 3 for 1 2 3, 1 3 2 and 3 2 1
        ("permutation", "straight_through(neural_sort)", (0 + 4 + 4) / 3),  # two entries of a row that is wrong
        ("max_assignment", "identity", (0 + 4 + 4) / 3),
    ],
)
def test_measurements(monkeypatch, solver, rule, loss):
    task = Run.make("sorting_digits", rule, settings=[*TINY, f"solver={solver}"]).build().eval()
    numbers = torch.tensor([[7, 1, 4]] * 3)
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.5, 0.1, 0.9], [0.1, 0.9, 0.5]])
    monkeypatch.setattr(task, "scores", lambda _: scores)
    truth = task.solver.solve(task.seen(numbers.float()))
    found, measured = task.measure((numbers, numbers, truth))
    assert measured["exact_match"].tolist() == [True, False, False]
    assert measured["element_accuracy"].tolist() == pytest.approx([1, 1 / 3, 1 / 3])
    assert found.item() == pytest.approx(loss)
    assert task.order(task.solver.solve(task.seen(scores))).tolist() == [[1, 2, 0], [1, 0, 2], [0, 2, 1]]


# ---- networks ----


def test_a_shared_network_reads_every_digit_alike():
    torch.manual_seed(0)
    network = Shared(digits=3, channels=4)
    ours, other = torch.rand(2, 1, 28, 28)
    images = torch.stack([torch.cat(row, -1) for row in ([ours, other, other], [other, ours, other], [other, other, other])])
    seen = []
    network.number.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].unflatten(1, (3, -1))))
    assert network(images).shape == (3, 1)
    (read,) = seen
    torch.testing.assert_close(read[0, 0], read[1, 1])
    torch.testing.assert_close(read[0, 1:], read[2, :2])
    assert not torch.allclose(read[0, 0], read[0, 1])
    torch.testing.assert_close(read[0, 0], network.digit(ours.unsqueeze(0))[0])


# ---- runs ----


@pytest.mark.parametrize(
    ("solver", "rule", "projection"),
    [
        ("ranking", "straight_through(ranks(neural_sort))", None),
        ("ranking", "identity", "std"),
        ("ranking", "dab(equivariant)", "std"),
        ("permutation", "straight_through(soft_sort)", None),
        ("permutation", "dab(output_shape=(3, 3))", None),
        ("max_assignment", "straight_through(sinkhorn)", None),
    ],
)
def test_twenty_steps_help(solver, rule, projection, tmp_path):
    check_twenty_steps([*TINY, f"solver={solver}"], rule, projection, tmp_path)


def test_twenty_steps_help_the_shared_network(tmp_path):
    check_twenty_steps([*TINY, "network=shared"], "identity", "std", tmp_path)


def check_twenty_steps(settings, rule, projection, tmp_path):
    result = trained(tmp_path, rule, settings, projection)
    assert result["metrics"]["element_accuracy"] > 0.6  # chance is a third
    assert result["metrics"]["moved"] > 0
    assert result["data"] == "made, 1 of its images to a number"
    assert (tmp_path / "predictions.png").stat().st_size > 5_000


def test_a_resumed_run_ends_as_if_it_had_never_stopped(tmp_path):
    settings = [*TINY, "epochs=2", "train_size=100", "digits=2"]
    rule = "perturbed(samples=2)"
    whole = trained(tmp_path / "whole", rule, settings)
    with killed(epoch=1):
        trained(tmp_path / "parts", rule, settings)
    parts = trained(tmp_path / "parts", rule, settings)
    assert timeless(whole["metrics"]) == timeless(parts["metrics"])


def test_on_the_command_line(tmp_path, capsys):
    words = [word for setting in [*TINY, "train_size=60"] for word in ("--set", setting)]
    rules = "identity, straight_through(ranks(soft_sort(0.5)))"
    command = ["compare", "sorting_digits", "--rules", rules, "--seeds", "2", "--no-progress", "--out", str(tmp_path), *words]
    assert main(command) == 0
    assert " ± " in capsys.readouterr().out
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [row["rule"] for row in rows] == ["identity", "straight_through(ranks(soft_sort(0.5)))"]
    assert all(np.isfinite(row["element_accuracy"]) for row in rows)


def test_seeds_together(tmp_path):
    runs = [Run.make("sorting_digits", "identity", seed=seed, settings=[*TINY, "train_size=60"]) for seed in range(2)]
    results, failures = comparing.compare(runs, tmp_path / "together", SILENT, together=True)
    assert not failures
    alone = trained(tmp_path / "alone", "identity", [*TINY, "train_size=60"])
    assert results["identity"][0]["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], rel=1e-3)


def test_the_papers_settings():
    config = sorting_digits.SortingDigits.presets["paper"]
    assert config.epochs * config.train_size // config.batch == 100_000
    assert (config.batch, config.digits, config.channels) == (100, 4, 32)
    assert config.lr == pytest.approx(10**-3.5)
