"""The tasks: specs, data, measurements, training, resuming, and what a run leaves behind."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import killed, timeless

from solverlayers.tasks import comparing, report, running, specs, terrain
from solverlayers.tasks.base import Task
from solverlayers.tasks.running import Hardware, Run

TINY_SORTING = ["epochs=2", "batch=64", "train_size=256", "test_size=100", "n=3", "bits=16", "width=16"]
TINY_PATHS = ["epochs=1", "batch=8", "train_size=16", "test_size=12", "side=5", "variants=2"]
SILENT = Hardware(progress=False)


def run_sorting(folder: Path, rule: str = "dab", seed: int = 0, settings: list[str] = TINY_SORTING) -> dict:
    return comparing.execute(Run.make("sorting", rule, seed=seed, settings=settings), folder, SILENT)


# ---- specs ----


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("identity", "Identity()"),
        ("Straight-Through".replace("-", ""), "StraightThrough(relaxation=None)"),
        ("blackbox(20)", "Blackbox(step=20"),
        ("IMLE(step=10, samples=4)", "IMLE(step=10, sigma=1.0, samples=4"),
        ("imle(noise=sum_of_gamma(3, scale=2.0))", "noise=SumOfGamma(k=3, scale=2.0, terms=10)"),
        ("dab", "DAB('batch', weight=10.0, shape=(4,)"),
        ("dab(batch)", "DAB('batch'"),
        ("blackbox(step=auto)", "Blackbox(step='auto'"),
        ("imle(noise=gumbel)", "noise=Gumbel(scale=1.0)"),
        ("straight_through(softmax)", "StraightThrough(relaxation=Softmax(temperature=1.0))"),
        ("straight_through(Ranks(soft_sort(0.1)))", "Ranks(permutation=SoftSort(temperature=0.1, descending=False))"),
        ("dab('independent', weight=1)", "DAB('independent', weight=1, shape=(4,)"),
    ],
)
def test_a_spec_builds_the_rule(spec: str, expected: str) -> None:
    assert expected in repr(specs.make_rule(spec, (4,)))


@pytest.mark.parametrize("spec", ["identity", "dab", "blackbox(step=2.5)", "imle(samples=3, noise=gaussian(0.5))", "perturbed"])
def test_the_repr_of_a_rule_is_a_spec(spec: str) -> None:
    rule = repr(specs.make_rule(spec, (4,)))
    assert repr(specs.make_rule(rule, (4,))) == rule


RULE_NAMES = ", ".join(sorted(specs.RULES))
PART_NAMES = ", ".join(sorted([*specs.NOISES, *specs.RELAXATIONS]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("blackbx", f"unknown rule 'blackbx' (did you mean 'blackbox'?); use one of: {RULE_NAMES}."),
        ("qqqqqq(3)", f"unknown rule 'qqqqqq'; use one of: {RULE_NAMES}."),
        ("imle(sigma='a')", "rule 'imle': sigma='a' is a word; expected a number."),
        ("imle(samples=2.5)", "rule 'imle': samples=2.5 is a number; expected a whole number."),
        ("identity(3)", "rule 'identity' takes no parameters, not 1 values."),
        ("imle(1, step=2)", "rule 'imle' got 'step' twice."),
        ("perturbed(noise=sum_of_gamma())", "noise 'sum_of_gamma' needs k: write sum_of_gamma(k=...)."),
        ("straight_through(softmax(-1))", "relaxation 'softmax': Softmax: temperature=-1; it must be positive."),
        (
            "straight_through(sofmax)",
            "rule 'straight_through': relaxation='sofmax' is a word; expected a Relaxation or a Callable or None.",
        ),
        ("blackbox(step=foo)", "rule 'blackbox': step='foo' is a word; expected a number or 'auto'."),
        (
            "blackbox(step=1+x)",
            "cannot read '1 + x' in the rule 'blackbox(step=1+x)'; values are numbers, True or False, tuples, and words.",
        ),
        (
            "blackbox(step=__import__('os').getpid())",
            f"unknown noise or relaxation '__import__'; use one of: {PART_NAMES}.",
        ),
        (
            "blackbox(",
            "cannot read the rule 'blackbox('; write a name, or a name with its parameters such as 'blackbox(step=20)'.",
        ),
        ("dab('foo')", "rule 'dab': unknown approximator 'foo'; use one of 'batch', 'independent', 'equivariant'."),
    ],
)
def test_a_bad_rule_is_answered_with_the_valid_ones(spec: str, message: str) -> None:
    with pytest.raises(specs.SpecError) as caught:
        specs.make_rule(spec, (4,))
    assert str(caught.value) == message


def test_an_unknown_parameter_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(specs.SpecError) as caught:
        specs.make_rule("imle(sample=3)", (4,))
    known = ", ".join(p.name for p in specs.parameters(specs.RULES["imle"]))
    assert str(caught.value) == f"rule 'imle' has no parameter 'sample' (did you mean 'samples'?); use {known}."


def test_noise_and_projections() -> None:
    assert repr(specs.make_noise("twopointmargin(0.3)")) == "TwoPointMargin(alpha=0.3)"
    assert specs.make_noise(None) is None
    assert specs.make_noise("none") is None
    assert specs.make_projection("STD") == "std"
    with pytest.raises(specs.SpecError) as caught:
        specs.make_projection("sdt")
    assert str(caught.value) == "unknown projection 'sdt' (did you mean 'std'?); use one of: mean, norm, std, tangent."


@given(st.lists(st.sampled_from(["dab", "imle(step=10, samples=4)", "perturbed(noise=gaussian(0.1), samples=2)"]), min_size=1))
def test_lists_of_specs_split_at_outer_commas_only(parts: list[str]) -> None:
    assert specs.split_specs(", ".join(parts)) == list(dict.fromkeys(parts))


def test_an_empty_list_of_rules_is_refused() -> None:
    with pytest.raises(specs.SpecError) as caught:
        specs.split_specs(" , ")
    assert str(caught.value) == "no rule in ' , '; write a list such as \"dab,identity,blackbox(step=20)\"."


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "cannot read --set 'epochs'; write field=value, such as epochs=5."),
        ("epochs=a", "setting epochs='a' is a word; expected a whole number."),
        ("fresh=3", "setting fresh=3 is a whole number; expected True or False."),
        ("epochs=-1", "setting epochs=-1; it must be positive."),
        ("lr=0", "setting lr=0; it must be positive."),
        ("lr=1e999", "setting lr=inf; it must be finite."),
        ("n=-3", "setting n=-3; it must not be negative."),
        ("bits=0", "setting bits=0; it must be positive."),
    ],
)
def test_bad_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(specs.SpecError) as caught:
        Run.make("sorting", settings=[setting])
    assert str(caught.value) == message


def test_a_number_that_may_be_zero_is_not_negative() -> None:
    assert Run.make("autoencoder", settings=["code=argmax", "centroid=0"]).config["centroid"] == 0
    with pytest.raises(specs.SpecError, match=r"^setting centroid=-1; it must not be negative\.$"):
        Run.make("autoencoder", settings=["code=argmax", "centroid=-1"])


def test_settings_change_the_preset() -> None:
    run = Run.make("sorting", preset="paper", settings=["lr=1", "epochs=3"])
    assert (run.config["lr"], run.config["epochs"], run.config["n"], run.config["batch"]) == (1, 3, 10, 1024)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 11])
def test_short_runs_have_a_learning_rate(steps: int, tmp_path: Path) -> None:
    settings = ["epochs=1", "batch=4", f"train_size={4 * steps}", "test_size=4", "n=3", "bits=4", "width=4"]
    task = running.train(Run.make("sorting", settings=settings), tmp_path, Hardware(progress=False))
    rates = [group["lr"] for group in task.trainer.optimizers[0].param_groups]
    assert task.history[-1]["step"] == steps
    assert all(0 < rate <= task.config.lr for rate in rates)


def test_pairs_without_meaning_are_refused_before_training() -> None:
    with pytest.raises(specs.SpecError, match="projection 'mean' changes the solutions of GridShortestPath"):
        Run.make("shortest_path", projection="mean")
    with pytest.raises(specs.SpecError, match="a norm projection changes the solutions of Sign"):
        Run.make("sorting", projection="std")


# ---- terrain ----


def test_maps_hold_every_terrain_and_repeat_with_their_seed() -> None:
    def make(seed: int) -> torch.Tensor:
        return terrain.terrain_maps(50, 12, 12, torch.Generator().manual_seed(seed))

    maps = make(0)
    assert maps.shape == (50, 12, 12)
    shares = torch.bincount(maps.flatten()) / maps.numel()
    assert len(shares) == len(terrain.TERRAINS) >= 5
    assert torch.allclose(shares, torch.tensor([t.share for t in terrain.TERRAINS]), atol=0.05)
    assert torch.equal(maps, make(0))
    assert not torch.equal(maps, make(1))
    same_as_right_neighbour = (maps[:, :, 1:] == maps[:, :, :-1]).float().mean()
    assert same_as_right_neighbour > 2 * (shares**2).sum()  # patches, not salt and pepper


def test_smooth_noise_keeps_unit_variance() -> None:
    blurred = terrain.field(200, 20, 20, 2.0, torch.Generator().manual_seed(0))
    assert blurred.shape == (200, 20, 20)
    assert blurred.var().item() == pytest.approx(1.0, abs=0.1)
    assert (blurred[:, :, 1:] * blurred[:, :, :-1]).mean() > 0.8


def test_images_show_tiles_of_the_terrain() -> None:
    generator = torch.Generator().manual_seed(0)
    tiles = terrain.paint_tiles(3, 8, generator)
    maps = terrain.terrain_maps(4, 6, 5, generator)
    images = terrain.photograph(maps, tiles, generator)
    assert images.dtype == torch.uint8
    assert images.shape == (4, 3, 48, 40)
    cells = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5) / 255  # (B, H, W, 3, P, P)
    distance = (cells[:, :, :, None, None] - tiles).flatten(5).pow(2).mean(-1)  # (B, H, W, T, V)
    assert torch.equal(distance.amin(-1).argmin(-1), maps)


# ---- measurements ----


def paths_task(**changes: object):
    run = Run.make("shortest_path", "identity", settings=TINY_PATHS + [f"{k}={v}" for k, v in changes.items()])
    return run.build()


def test_labels_are_the_cheapest_paths_of_the_true_costs() -> None:
    _, costs, truth = paths_task().sample(6, torch.Generator().manual_seed(3))
    for cost, path in zip(costs, truth):
        graph = nx.DiGraph()
        for i, j in np.ndindex(*cost.shape):
            for a, b in np.ndindex(3, 3):
                k, m = i + a - 1, j + b - 1
                if (a, b) != (1, 1) and 0 <= k < cost.shape[0] and 0 <= m < cost.shape[1]:
                    graph.add_edge((i, j), (k, m), weight=cost[k, m].item())
        best = nx.dijkstra_path_length(graph, (0, 0), (cost.shape[0] - 1, cost.shape[1] - 1)) + cost[0, 0].item()
        assert (cost * path).sum().item() == pytest.approx(best, rel=1e-5)


def test_exact_match_counts_every_path_of_optimal_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    task = paths_task(side=3).eval()
    costs = torch.tensor([[1.0, 1.0, 1.0], [1.0, 9.0, 1.0], [1.0, 1.0, 1.0]]).expand(3, 3, 3)
    upper = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    middle = torch.eye(3)
    truth = upper.T.expand(3, 3, 3)
    monkeypatch.setattr(task, "costs", lambda images: images)
    monkeypatch.setattr(task, "solve", lambda scores: scores)
    loss, measured = task.measure((torch.stack([upper.T, upper, middle]), costs, truth))
    assert measured["exact_match"].tolist() == [True, True, False]
    assert measured["regret"].tolist() == [0.0, 0.0, 7.0]
    assert measured["cost_ratio"].tolist() == [1.0, 1.0, 2.75]
    different = [0, 4, 3]
    assert measured["hamming"].tolist() == pytest.approx([d / 9 for d in different])
    assert loss.item() == pytest.approx(sum(different) / 3)


def test_sorting_counts_a_sequence_only_if_every_position_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Run.make("sorting", "identity", settings=TINY_SORTING).build().eval()
    numbers, order = torch.tensor([[0.3, 0.1, 0.2]] * 2), torch.tensor([[1, 2, 0]] * 2)
    answer = torch.tensor([[1, 2, 0], [2, 1, 0]])
    logits = 5 * torch.nn.functional.one_hot(answer, 3).transpose(1, 2).float()  # (B, element, position)
    monkeypatch.setattr(task, "logits", lambda _: logits)
    loss, measured = task.measure((numbers, order))
    assert measured["exact_match"].tolist() == [True, False]
    assert measured["hamming"].tolist() == pytest.approx([0.0, 2 / 3])
    right, wrong = (-math.log(math.exp(a) / (math.exp(5) + 2)) for a in (5, 0))
    assert loss.item() == pytest.approx((3 * right + right + 2 * wrong) / 2, rel=1e-5)


# ---- runs ----


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, run_sorting(folder)


def test_a_result_says_what_was_run_and_what_came_out(finished: tuple[Path, dict]) -> None:
    folder, result = finished
    stored = json.loads((folder / "result.json").read_text())
    assert stored == json.loads(json.dumps(result))
    assert set(stored) == {
        *("task", "spec", "rule", "projection", "noise", "preset", "seed", "config", "swept", "metrics"),
        *("seconds", "cpu_seconds", "together"),
        *("device", "data", "versions", "git_commit", "history"),
    }
    assert (stored["task"], stored["preset"], stored["seed"], stored["projection"]) == ("sorting", "quick", 0, None)
    assert stored["rule"].startswith("DAB('batch', weight=10.0, shape=(16,)")
    assert stored["config"]["n"] == 3
    metrics = stored["metrics"]
    assert {"loss", "auxiliary_loss", "exact_match", "hamming", "agreement", "moved", "solver_seconds"} <= set(metrics)
    assert metrics["auxiliary_loss"] > 0
    assert metrics["moved"] == 1.0
    assert 0 < metrics["solver_seconds"] < stored["seconds"]
    assert 0 < metrics["solver_share"] < 1
    assert [record["epoch"] for record in stored["history"]] == [1, 2]
    assert [record["step"] for record in stored["history"]] == [4, 8]
    assert stored["versions"]["torch"] == torch.__version__


def test_pictures_are_not_blank(finished: tuple[Path, dict], tmp_path: Path) -> None:
    result = comparing.execute(Run.make("shortest_path", "identity", settings=TINY_PATHS), tmp_path, SILENT)
    assert 0 <= result["metrics"]["exact_match"] <= 1
    assert result["metrics"]["regret"] >= 0
    for folder in (finished[0], tmp_path):
        assert_picture(folder / "curve.png")
        assert_picture(folder / "predictions.png")


def test_a_headline_that_is_the_loss_is_drawn_once(tmp_path: Path) -> None:
    from matplotlib.image import imread

    shapes = []
    for value in (2.0, 3.0):
        records = [{"step": step, "test": {"loss": 2.0, "regret": value}} for step in (1, 2)]
        report.draw_curves(tmp_path / "curve.png", {"identity": [records]}, "title", "regret")
        shapes.append(imread(tmp_path / "curve.png").shape)
    assert shapes[0][0] == shapes[1][0]
    assert shapes[0][1] * 2 == shapes[1][1]


def assert_picture(file: Path) -> None:
    from matplotlib.image import imread

    picture = imread(file)[:, :, :3]
    assert min(picture.shape[:2]) > 300
    assert (picture < 0.5).mean() > 0.005
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_the_same_seed_gives_the_same_run_and_another_gives_another(finished: tuple[Path, dict], tmp_path: Path) -> None:
    again, other = run_sorting(tmp_path / "again"), run_sorting(tmp_path / "other", seed=1)
    assert timeless(again["metrics"]) == timeless(finished[1]["metrics"])
    assert other["metrics"]["loss"] != again["metrics"]["loss"]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_resumed_run_ends_as_if_it_had_never_stopped(fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [*TINY_SORTING, f"fresh={fresh}", "epochs=4"]
    rule = "perturbed(samples=2)"  # draws noise of its own
    whole = run_sorting(tmp_path / "whole", rule, settings=settings)

    with killed(epoch=2, step=1):
        run_sorting(tmp_path / "parts", rule, settings=settings)
    steps: list[int] = []
    untouched = Task.training_step
    monkeypatch.setattr(Task, "training_step", lambda self, step: (steps.append(step), untouched(self, step))[1])
    parts = run_sorting(tmp_path / "parts", rule, settings=settings)
    assert len(steps) == 2 * 4  # epochs 3 and 4 only
    for a, b in zip(whole["history"], parts["history"], strict=True):
        assert a["test"] == b["test"]
        assert timeless(a["train"]) == timeless(b["train"])


def test_checkpoints_of_an_unknown_run_are_not_continued(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(specs.SpecError) as caught:
        run_sorting(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds checkpoints but no run.json, so nobody knows whose they are; choose another folder."
    )
    assert not (tmp_path / "run.json").exists()


def test_sorting_learns(tmp_path: Path) -> None:
    settings = ["n=3", "epochs=3", "train_size=25600", "batch=256", "bits=64", "width=64", "lr=0.01", "test_size=2000"]
    result = run_sorting(tmp_path, settings=settings)
    assert result["metrics"]["exact_match"] > 0.85  # chance is 0.17


def test_the_sum_of_the_parts_of_an_epoch(tmp_path: Path) -> None:
    """Measurements are means over all test instances, whatever the size of the batches."""
    run = Run.make("sorting", "identity", settings=[*TINY_SORTING, "test_size=777", "epochs=1"])
    task = running.train(run, tmp_path, SILENT)
    assert task is not None
    with torch.no_grad():
        loss, measured = task.measure(task.test_data)
    assert task.metrics()["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert task.metrics()["hamming"] == pytest.approx(measured["hamming"].mean().item(), rel=1e-5)


def test_summaries_are_means_and_sample_deviations() -> None:
    runs = [{"metrics": {"exact_match": m}, "seconds": 1.0, "cpu_seconds": 2.0} for m in (0.5, 0.7)]
    rows = comparing.summarise({"dab": runs, "identity": runs[:1]})
    assert rows[0]["exact_match"] == pytest.approx(0.6)
    assert rows[0]["exact_match_std"] == pytest.approx(0.1 * math.sqrt(2))
    assert rows[1]["exact_match_std"] is None
    table = comparing.comparison_table("sorting", rows).splitlines()
    assert table[2].split() == ["dab", "2", "60.00", "±", "14.14", "%", "1", "±", "0", "2", "±", "0"]
    assert table[3].split() == ["identity", "1", "50.00", "%", "1", "2"]


def test_presets_hold_the_papers_numbers() -> None:
    sorting, paths = (dataclasses.asdict(running.task_class(t).presets["paper"]) for t in ("sorting", "shortest_path"))
    assert (sorting["n"], sorting["lr"], sorting["batch"], sorting["epochs"]) == (10, 1e-4, 1024, 15_000)
    assert (sorting["train_size"], sorting["test_size"], sorting["fresh"]) == (2_000_000, 400_000, False)
    assert (paths["lr"], paths["batch"], paths["epochs"], paths["milestones"]) == (5e-4, 70, 50, (30, 40))
    assert (paths["train_size"], paths["fresh"], paths["resnet18"]) == (10_000, False, True)


def test_the_papers_network_gives_costs() -> None:
    task = Run.make("shortest_path", preset="paper").build()
    assert sum(p.numel() for p in task.encoder.parameters()) == 157_504  # first five layers of ResNet18
    images = torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8)
    costs = task.costs(images)
    assert costs.shape == (2, 12, 12)
    assert (costs >= 0).all()


def test_folders_are_named_after_what_differs() -> None:
    run = Run.make("shortest_path", "Blackbox(step='auto')", projection="norm", noise="gaussian(0.1)", preset="paper", seed=3)
    assert run.name == "blackbox-step=auto-norm-gaussian-0.1-paper-seed3"


def test_a_table_is_readable() -> None:
    assert report.readable("exact_match", 0.95061) == "95.06 %"
    assert report.readable("loss", 0.123456) == "0.1235"
    assert report.advice({"moved": 0.0}) == [
        "hardly any gradient passed the solver: try a larger step, of the order of |scores| / |gradient|, or step='auto'"
    ]
    assert report.advice({"moved": 0.5}) == []
