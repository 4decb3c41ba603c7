"""Seeds that train as one stacked model end where each would have ended alone."""

import json
from pathlib import Path

import pytest
import torch

from solverlayers.tasks import comparing, report
from solverlayers.tasks.base import Meter, Task
from solverlayers.tasks.running import Hardware, Run
from solverlayers.tasks.together import Together

SETTINGS = {
    "sorting": ["epochs=2", "batch=16", "train_size=128", "test_size=50", "n=3", "bits=8", "width=8"],
    "shortest_path": ["epochs=2", "batch=4", "train_size=12", "test_size=6", "side=4", "variants=2", "fresh=False"],
    "polynomial": ["epochs=1", "latents=4", "replicas=1", "train_size=256"],
}
SILENT = Hardware(progress=False)


def runs(task: str, rule: str, seeds: int = 2) -> list[Run]:
    return [Run.make(task, rule, seed=seed, settings=SETTINGS[task]) for seed in range(seeds)]


def without_times(history: list[dict]) -> list[dict]:
    return [
        {part: {k: v for k, v in record[part].items() if not k.endswith("_seconds")} for part in ("train", "test")}
        for record in history
    ]


@pytest.mark.parametrize(
    ("task", "rule"), [("sorting", "dab"), ("sorting", "identity"), ("shortest_path", "blackbox(step=20)")]
)  # batch normalisation in the last
def test_a_seed_together_is_the_seed_alone(tmp_path: Path, task: str, rule: str) -> None:
    found, failures = comparing.compare(runs(task, rule), tmp_path / "together", SILENT, together=True)
    alone, _ = comparing.compare(runs(task, rule), tmp_path / "alone", SILENT)
    assert not failures
    for a, b in zip(found[rule], alone[rule], strict=True):
        assert (a["seed"], a["together"], b["together"]) == (b["seed"], [0, 1], [])
        for ours, theirs in zip(without_times(a["history"]), without_times(b["history"]), strict=True):
            for part in ("train", "test"):
                assert ours[part] == pytest.approx(theirs[part], rel=1e-4, abs=1e-5)
    pictures = [(tmp_path / "together" / run.name / "predictions.png").stat().st_size for run in runs(task, rule)]
    assert min(pictures) > 5_000


def test_measurements_of_seeds_are_kept_apart() -> None:
    together, apart = Meter(), [Meter(), Meter()]
    loss, right = torch.tensor([[0.5, 2.0], [1.0, 4.0]]), torch.tensor([[[True, False, True]] * 2, [[True] * 3, [False] * 3]])
    for step in range(2):
        together.add_batch(loss[step], {"right": right[step]})
    together.share(apart)
    assert {name: (total.item(), count) for name, (total, count) in apart[0].sums.items()} == {
        "loss": (4.5, 6),
        "right": (5, 6),
    }
    assert {name: (total.item(), count) for name, (total, count) in apart[1].sums.items()} == {"loss": (18, 6), "right": (2, 6)}
    assert not together.sums


def test_gradients_lie_as_their_weights_do() -> None:
    """So that a step copies neither."""
    together = Together([run.build() for run in runs("sorting", "identity")])
    member = together.first
    batch = torch.rand(2, 5, 3)

    def summed(parameters: dict, numbers: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(member, parameters, (numbers, numbers.argsort(1)))[0]

    matrices = [weight for weight in together.stacked if weight.ndim == 3]
    gradients = torch.autograd.grad(torch.func.vmap(summed)(together.state()[0], batch).sum(), matrices)
    assert len(matrices) == 4
    for weight, gradient in zip(matrices, gradients):
        assert gradient.stride() == weight.stride() != weight.contiguous().stride()


def test_rules_with_noise_differ_between_seeds(tmp_path: Path) -> None:
    rule = "gumbel_softmax"
    found, failures = comparing.compare(runs("polynomial", rule, 3), tmp_path, SILENT, together=True)
    assert not failures
    assert len({result["metrics"]["regret"] for result in found[rule]}) == 3


def test_stacked_seeds_that_were_stopped_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = "identity"
    whole, _ = comparing.compare(runs("sorting", rule), tmp_path / "whole", SILENT, together=True)
    epoch = Together.on_train_epoch_start

    def stop_in_the_second(self: Together) -> None:
        if self.current_epoch == 1:
            raise OSError("the machine went down")
        epoch(self)

    monkeypatch.setattr(Together, "on_train_epoch_start", stop_in_the_second)
    with pytest.raises(OSError, match="the machine went down"):
        comparing.compare(runs("sorting", rule), tmp_path / "parts", SILENT, together=True)
    assert not list((tmp_path / "parts").glob("*/result.json"))
    monkeypatch.undo()
    parts, _ = comparing.compare(runs("sorting", rule), tmp_path / "parts", SILENT, together=True)
    for a, b in zip(whole[rule], parts[rule], strict=True):
        assert without_times(a["history"]) == without_times(b["history"])
    again = []
    monkeypatch.setattr(Task, "forward", lambda *_: again.append(1))
    comparing.compare(runs("sorting", rule), tmp_path / "parts", SILENT, together=True)
    assert not again  # what is finished is read, not trained


def test_a_rule_that_cannot_be_stacked_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    both = runs("sorting", "aimle") + runs("sorting", "identity")
    found, failures = comparing.compare(both, tmp_path, SILENT, together=True)
    assert set(found) == {"identity"}
    assert failures["aimle"].startswith("seeds 0, 1: these runs do not go together (AIMLE adapts its step")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from solverlayers.tasks.cli import main

    settings = [word for setting in SETTINGS["sorting"] for word in ("--set", setting)]
    out = ["--out", str(tmp_path), "--no-progress"]
    assert main(["compare", "sorting", "--rules", "identity", "--seeds", "2", "--together", *settings, *out]) == 0
    assert "[1/1] identity, seeds 0, 1" in capsys.readouterr().out
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [row["seeds"] for row in rows] == [2]
    assert report.read_result(tmp_path / runs("sorting", "identity")[1].name)["together"] == [0, 1]
