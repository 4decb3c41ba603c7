"""The shortest-path task: sources of maps, losses in the place of rules, measurements, and the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from solverlayers.losses import FenchelYoungLoss, SPOPlusLoss
from solverlayers.solvers import Argmax, GridShortestPath
from solverlayers.tasks import comparing, data, maps, shortest_path, specs
from solverlayers.tasks.cli import main
from solverlayers.tasks.data import DataError
from solverlayers.tasks.running import Hardware, Run
from solverlayers.tasks.terrain import TERRAINS

TINY = ["epochs=1", "batch=8", "train_size=16", "test_size=12", "side=5", "variants=2"]
SILENT = Hardware(progress=False)
LOSSES = ["blackbox(step=20)", "fenchel_young(samples=2)", "spo_plus", "structured_hinge", "two_stage"]
NAMES = ("grass", "earth", "forest", "water", "rock")


def build(rule: str, *settings: str, seed: int = 0) -> shortest_path.ShortestPath:
    task = Run.make("shortest_path", rule, seed=seed, settings=[*TINY, *settings]).build()
    assert isinstance(task, shortest_path.ShortestPath)
    return task


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made files of terrain in the folder of the data, and nothing else."""
    random = np.random.default_rng(0)
    parts = {part: random.integers(0, 5, (20, 12, 12), np.uint8) for part in ("train", "val", "test")}
    (tmp_path / "terrain_maps").mkdir()
    crops = {f"{part}_class": array for part, array in parts.items()}
    np.savez(tmp_path / "terrain_maps" / "terrain_sp_12x12.npz", class_names=np.array(NAMES), **crops)  # type: ignore[arg-type]
    kinds = {"val": 0, "test": 1}  # grass and earth in one, earth and forest in the other
    whole = {f"class__{name}": kinds[part] + random.integers(0, 2, (20, 24), np.uint8) for name, part in maps.HELD_OUT.items()}
    whole |= {f"class__made {k}": random.integers(3, 5, (16 + k, 40), np.uint8) for k in range(2)}  # water and rock
    np.savez(tmp_path / "terrain_maps" / "wargus_maps.npz", **whole)  # type: ignore[arg-type]
    monkeypatch.setenv("SOLVERLAYERS_DATA", str(tmp_path))
    monkeypatch.setattr(data, "cache", lambda: tmp_path / "cache")
    maps.terrain_crops.cache_clear()
    maps.warcraft_arrays.cache_clear()
    yield tmp_path
    maps.terrain_crops.cache_clear()
    maps.warcraft_arrays.cache_clear()


# ---- sources of maps ----


def test_stored_crops_keep_their_costs(folder: Path) -> None:
    stored = np.load(folder / "terrain_maps" / "terrain_sp_12x12.npz")
    costs = torch.tensor([0.8, 1.2, 5.3, 7.7, 9.2])  # of NAMES, as the set documents them
    for part in ("train", "test"):
        found = torch.tensor([t.cost for t in TERRAINS])[maps.terrain_crops(part, 12).long()]
        assert torch.equal(found, costs[torch.from_numpy(stored[f"{part}_class"]).long()])


@pytest.mark.parametrize(
    ("part", "kinds"), [("train", {"water", "rock"}), ("val", {"grass", "sand"}), ("test", {"sand", "forest"})]
)
def test_crops_of_other_sizes_are_split_by_map(folder: Path, part: str, kinds: set[str]) -> None:
    found = maps.terrain_crops(part, 14)
    assert found.shape == (maps.CROPS[part], 14, 14)
    assert {TERRAINS[k].name for k in found.unique().tolist()} == kinds
    assert (found.flatten(1).amin(1) < found.flatten(1).amax(1)).all()
    assert len(found.flatten(1).unique(dim=0)) > 20  # from everywhere


def test_settings_are_chosen_on_maps_of_their_own(folder: Path) -> None:
    settings = ("maps=terrain", "side=12", "fresh=False", "train_size=20")
    seen = {part: build("identity", *settings, f"measured={part}").data("test")[1] for part in ("val", "test")}
    for part, costs in seen.items():
        known = torch.tensor([t.cost for t in TERRAINS])[maps.terrain_crops(part, 12).long()].flatten(1).tolist()
        assert all(c in known for c in costs.flatten(1).tolist())
    made = {part: build("identity", f"measured={part}").data("test")[1] for part in ("val", "test")}
    assert not torch.equal(made["val"], made["test"])
    home = made_warcraft(folder / "elsewhere")
    official = build("identity", *WARCRAFT, f"folder={home}", "measured=val", "test_size=3").data("test")[1]
    assert sorted(official.tolist()) == sorted(np.load(home / "4x4" / "val_vertex_weights.npy").tolist())


def test_a_crop_is_a_window_of_a_map() -> None:
    terrain = np.arange(30).reshape(5, 6)
    crops = maps.cut([terrain, np.zeros((2, 9), int)], 3, 200, np.random.default_rng(0))
    corners = {(int(c[0, 0]) // 6, int(c[0, 0]) % 6) for c in crops}
    assert corners == {(i, j) for i in range(3) for j in range(4)}
    for crop in crops:
        i, j = divmod(int(crop[0, 0]), 6)
        assert np.array_equal(crop, terrain[i : i + 3, j : j + 3])
    with pytest.raises(DataError, match=r"^no map has 6 x 6 cells; the largest are 5 high\.$"):
        maps.cut([terrain], 6, 1, np.random.default_rng(0))


def test_the_parts_of_a_run(folder: Path) -> None:
    task = build("identity", "maps=terrain", "side=12", "train_size=20")
    images, costs, paths = task.data("test")
    assert images.shape == (12, 3, 96, 96)
    assert images.dtype == torch.uint8
    known = {
        tuple(c) for c in torch.tensor([t.cost for t in TERRAINS])[maps.terrain_crops("test", 12).long()].flatten(1).tolist()
    }
    drawn = [tuple(c) for c in costs.flatten(1).tolist()]
    assert set(drawn) <= known
    assert len(set(drawn)) == 12  # without replacement
    assert torch.equal(paths, GridShortestPath()(costs))
    again = build("identity", "maps=terrain", "side=12", "train_size=20").data("test")
    assert torch.equal(images, again[0])
    fresh = task.sample(40, torch.Generator().manual_seed(1))[1]
    trained_on = {tuple(c) for c in task.data("train")[1].flatten(1).tolist()}
    assert {tuple(c) for c in fresh.flatten(1).tolist()} <= trained_on
    assert task.note == (
        "12 x 12 crops of terrain of community maps from github.com/Wargus/wargus, GPL-2.0-or-later, on painted tiles, split "
        "by map: a substitute for the Warcraft maps"
    )
    with pytest.raises(ValueError, match=r"^setting test_size=21; there are 20 maps in that part: 12 x 12 crops of "):
        build("identity", "maps=terrain", "side=12", "test_size=21").data("test")


def test_real_crops_agree_with_the_stored_optima() -> None:
    file = data.find("terrain_maps", "terrain_sp_12x12.npz")
    if file is None:
        pytest.skip("needs SOLVERLAYERS_DATA")
    with np.load(file) as stored:
        costs = torch.from_numpy(stored["class_cost"][stored["test_class"]]).float()
        optima = torch.from_numpy(stored["test_opt"]).float()
    found = (GridShortestPath()(costs) * costs).sum((1, 2))
    assert torch.allclose(found, optima, rtol=1e-5)
    assert len(maps.terrain_crops("train", 30)) == maps.CROPS["train"]


def made_warcraft(folder: Path, side: int = 4, pixels: int = 2) -> Path:
    """Files as the authors have them: the labels here are of walks along two sides, so that they are known from elsewhere."""
    random = np.random.default_rng(1)
    place = folder / f"{side}x{side}"
    place.mkdir(parents=True)
    for part, count in (("train", 10), ("val", 3), ("test", 6)):
        paths = np.zeros((count, side, side), np.uint8)
        paths[:, :, 0] = paths[:, -1] = 1
        np.save(place / f"{part}_maps.npy", random.integers(0, 255, (count, side * pixels, side * pixels, 3), np.uint8))
        np.save(place / f"{part}_vertex_weights.npy", random.uniform(0.8, 9.2, (count, side, side)).astype(np.float16))
        np.save(place / f"{part}_shortest_paths.npy", paths)
    return folder


WARCRAFT = ("maps=warcraft", "fresh=False", "side=4", "pixels=2", "train_size=10", "test_size=6")


@pytest.mark.parametrize("named", [True, False])
def test_the_official_files(folder: Path, named: bool) -> None:
    home = made_warcraft(folder / ("elsewhere" if named else "warcraft_maps"))
    task = build("identity", *WARCRAFT, *([f"folder={home}"] if named else []))
    images, costs, paths = task.data("test")
    stored = {name: np.load(home / "4x4" / f"test_{name}.npy") for name in ("maps", "vertex_weights", "shortest_paths")}
    order = [stored["vertex_weights"].tolist().index(c) for c in costs.tolist()]
    assert sorted(order) == list(range(6))
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), stored["maps"][order])
    assert costs.dtype == paths.dtype == torch.float32
    assert np.array_equal(paths.numpy(), stored["shortest_paths"][order])
    assert task.note == "4 x 4 Warcraft maps of Vlastelica et al. (2020)"


def test_bad_official_files(folder: Path) -> None:
    where = (
        r"the data set 'warcraft_maps' is not at hand \(the authors' archive, doi\.org/10\.17617/3\.YJCQ5S; or name the folder"
    )
    with pytest.raises(DataError, match=f"^{where}"):
        build("identity", *WARCRAFT).data("test")
    home = made_warcraft(folder / "w")
    file = home / "4x4" / "test_vertex_weights.npy"
    np.save(file, np.ones((5, 4, 4)))
    with pytest.raises(DataError, match=r"the test files hold 6, 5, 6 maps, not as many each\.$"):
        build("identity", *WARCRAFT, f"folder={home}").data("test")
    np.save(file, np.ones((6, 5, 5)))
    message = f"{file} holds arrays of shape (5, 5); expected (4, 4) (side=4, pixels=2)."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        build("identity", *WARCRAFT, f"folder={home}").data("test")
    file.unlink()
    message = f"there is no {file}; a folder of 4 x 4 maps has train_, val_ and test_vertex_weights.npy."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        build("identity", *WARCRAFT, f"folder={home}").data("test")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("maps=terain", "unknown source of maps 'terain' (did you mean 'terrain'?); use one of: made, terrain, warcraft."),
        ("measured=vall", "unknown part of the maps 'vall' (did you mean 'val'?); use one of: test, val."),
        ("maps=warcraft", "setting fresh=True; the images of 'warcraft' are what they are, so it must be False."),
    ],
)
def test_bad_settings(setting: str, message: str) -> None:
    with pytest.raises(specs.SpecError, match=f"^{re.escape(message)}$"):
        build("identity", setting)


# ---- losses in the place of rules ----


def test_specs_of_losses() -> None:
    solver = GridShortestPath()
    loss = specs.make_rule_or_loss("Fenchel_Young(sigma=0.5, samples=3)", (5, 5), solver)
    assert isinstance(loss, FenchelYoungLoss)
    assert (loss.sigma, loss.samples, loss.solver) == (0.5, 3, solver)
    assert isinstance(specs.make_rule_or_loss("SPOPlus", (5, 5), solver), SPOPlusLoss)
    assert repr(specs.make_rule_or_loss("identity", (5, 5), solver)) == "Identity()"
    assert {"pushforward", "nce", "map"}.isdisjoint(specs.LOSSES)  # they need more than labels


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fenchel_yung", "unknown rule or loss 'fenchel_yung' (did you mean 'fenchel_young'?); use one of: "),
        ("fenchel_young(", "cannot read the loss 'fenchel_young('; write a name, or a name with its parameters such as "),
        ("fenchel_young(samples=0)", "loss 'fenchel_young': FenchelYoungLoss: samples=0"),
        ("fenchel_young(sampels=1)", "loss 'fenchel_young' has no parameter 'sampels' (did you mean 'samples'?); use "),
    ],
)
def test_bad_specs_of_losses(spec: str, message: str) -> None:
    with pytest.raises(specs.SpecError, match=f"^{re.escape(message)}"):
        specs.make_rule_or_loss(spec, (5, 5), GridShortestPath())


def test_losses_take_no_projection() -> None:
    message = (
        "TwoStageLoss(solver=GridShortestPath(neighbours=8), on_failure='raise') compares the scores themselves; it takes "
        "neither a projection nor noise."
    )
    with pytest.raises(specs.SpecError, match=f"^{re.escape(message)}$"):
        Run.make("shortest_path", "two_stage", "std", settings=TINY)


def test_tasks_without_losses_refuse_them() -> None:
    with pytest.raises(specs.SpecError, match=r"^unknown rule 'two_stage'"):
        Run.make("sorting", "two_stage")


def test_the_gradient_of_two_stages_is_the_error() -> None:
    loss = specs.LOSSES["two_stage"](Argmax())
    scores, true = torch.tensor([[1.0, 5.0], [0.0, 2.0]], requires_grad=True), torch.tensor([[2.0, 3.0], [0.0, 2.0]])
    value = loss(scores, true)
    assert value.tolist() == [2.5, 0.0]
    assert torch.autograd.grad(value.sum(), scores)[0].tolist() == [[-1.0, 2.0], [0.0, 0.0]]


@pytest.mark.parametrize("rule", LOSSES)
def test_twenty_steps_improve_the_loss(rule: str) -> None:
    torch.manual_seed(0)
    task = build(rule)
    batch = task.sample(32, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)

    def step() -> dict[str, float]:
        optimizer.zero_grad()
        objective, loss, measured = task(*batch)
        objective.backward()
        optimizer.step()
        return {"loss": loss.item(), "regret": measured["regret"].mean().item()}

    first, *_, last = [step() for _ in range(21)]
    assert last["loss"] < 0.7 * first["loss"]
    assert last["regret"] < 0.7 * first["regret"]
    assert 0 < task.meter.sums["moved"][0] <= 21 * 32
    assert task.stopwatch.read() > 0  # the solver that the loss calls is the one that is timed


# ---- measurements ----


def test_measurements_by_hand() -> None:
    costs = torch.tensor([[1.0, 1.0, 1.0], [1.0, 9.0, 1.0], [1.0, 1.0, 1.0]]).expand(3, 3, 3)
    upper = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    found = shortest_path.measurements(torch.stack([upper.T, upper, torch.eye(3)]), costs, upper.T.expand(3, 3, 3))
    assert found["exact_match"].tolist() == [True, True, False]  # the same cost, by another way
    assert found["label_share"].tolist() == [True, False, False]
    assert found["cost_ratio"].tolist() == [1.0, 1.0, 2.75]
    assert found["regret"].tolist() == [0.0, 0.0, 7.0]
    assert found["hamming"].tolist() == pytest.approx([0, 4 / 9, 3 / 9])
    assert found["cell_accuracy"].tolist() == pytest.approx([1, 5 / 9, 6 / 9])


def test_labels_against_scipy(folder: Path) -> None:
    _, costs, paths = build("identity", "maps=terrain", "side=9").sample(5, torch.Generator().manual_seed(0))
    for cost, path in zip(costs.double(), paths.double()):
        steps = [
            (9 * i + j, 9 * k + m, cost[k, m].item())
            for i, j in np.ndindex(9, 9)
            for k in range(max(0, i - 1), min(9, i + 2))
            for m in range(max(0, j - 1), min(9, j + 2))
            if (i, j) != (k, m)
        ]
        tails, heads, weights = zip(*steps)
        best = dijkstra(csr_matrix((weights, (tails, heads)), (81, 81)), indices=0)[-1] + cost[0, 0].item()
        assert (cost * path).sum().item() == pytest.approx(best)


# ---- runs ----


def test_a_run_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "run"
    settings = [word for setting in (*TINY, "maps=terrain", "side=12") for word in ("--set", setting)]
    rule = "fenchel_young(samples=1)"
    assert main(["run", "shortest_path", "--rule", rule, "--no-progress", "--out", str(out), *settings]) == 0
    printed = capsys.readouterr().out
    assert "paths that equal the label" in printed
    assert (out / "predictions.png").exists()
    from solverlayers.tasks import report

    result = report.read_result(out)
    assert result["data"].endswith("a substitute for the Warcraft maps")
    assert result["spec"] == rule
    assert 0 <= result["metrics"]["label_share"] <= result["metrics"]["exact_match"] <= 1
    assert 0 < result["metrics"]["solver_share"] < 1


def test_a_run_on_official_files(folder: Path) -> None:
    home = made_warcraft(folder / "w")
    run = Run.make("shortest_path", "identity", settings=[*TINY, *WARCRAFT, f"folder={home}"])
    result = comparing.execute(run, folder / "run", SILENT)
    assert result is not None
    assert result["data"] == "4 x 4 Warcraft maps of Vlastelica et al. (2020)"


def test_presets_for_real_maps() -> None:
    presets = shortest_path.ShortestPath.presets
    assert (presets["terrain"].maps, presets["terrain"].side) == ("terrain", 12)
    assert (presets["warcraft"].maps, presets["warcraft"].lr, presets["warcraft"].epochs) == ("warcraft", 5e-4, 50)
