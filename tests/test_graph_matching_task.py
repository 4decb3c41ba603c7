"""The task of deep graph matching: its data in their official formats on made files, its measurements, and training."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from solverlayers.tasks import comparing, data, graph_matching, keypoints
from solverlayers.tasks.running import Hardware, Run
from solverlayers.tasks.specs import SpecError

TINY = ["epochs=1", "batch=8", "train_size=16", "test_size=8", "low=4", "high=6", "width=8", "layers=1"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of made data sets in the place of the real ones."""
    monkeypatch.setenv("SOLVERLAYERS_DATA", str(tmp_path))
    monkeypatch.setattr(data, "cache", lambda: tmp_path / "cache")
    keypoints._arrays.cache_clear()
    (tmp_path / "graph_matching").mkdir()
    yield tmp_path
    keypoints._arrays.cache_clear()


@pytest.fixture
def published(files):
    random = np.random.default_rng(0)
    folder = files / "graph_matching"
    np.savez(folder / "cmu_house_hotel.npz", house=random.random((111, 5, 2)), hotel=random.random((101, 5, 2)))
    np.savez(folder / "willow_duck_winebottle.npz", duck=random.random((22, 4, 2)), winebottle=random.random((23, 4, 2)))
    pair = {"p1": random.random((9, 3)), "p2": random.random((8, 3)), "ninlier": np.array(4)}
    np.savez(folder / "cars_motorbikes.npz", **{f"{name}_{k}": v for name in ("car01", "motor01") for k, v in pair.items()})
    (folder / "pf_pascal_pairs.csv").write_text("a,b,class,name,XA,YA,XB,YB\n1,2,1,cow,0;1;0;2,0;0;1;2,1;2;1;3,1;1;2;3\n")
    return files


def make_task(*settings: str):
    return Run.make("graph_matching", "identity", settings=[*TINY, *settings]).build()


# ---- data ----


def test_made_pairs_are_two_views_of_the_same_points():
    pairs = keypoints.synthetic(20, 6, 9, 0.0, 3, torch.Generator().manual_seed(0))
    for pair in pairs:
        assert 6 <= len(pair.matches) <= 9
        assert len(pair.matches) <= len(pair.first.points) <= len(pair.matches) + 3
        a, b = (side.points[index] for side, index in zip((pair.first, pair.second), pair.matches.T))
        a, b = a - a.mean(0), b - b.mean(0)
        left = b - a @ torch.linalg.lstsq(a, b).solution
        assert left.pow(2).mean() < 0.3 * b.pow(2).mean()  # an affine map explains most of a view, not all of it


def test_padding_keeps_points_edges_and_matches():
    pairs = keypoints.synthetic(5, 4, 8, 0.1, 2, torch.Generator().manual_seed(1))
    batch = keypoints.pad(pairs)
    assert torch.equal(batch.mask1.sum(1), torch.tensor([len(p.first.points) for p in pairs]))
    assert torch.equal(batch.truth.sum((1, 2)), torch.tensor([float(len(p.matches)) for p in pairs]))
    for k, pair in enumerate(pairs):
        real = batch.points2[k][batch.mask2[k]]
        torch.testing.assert_close(real.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        assert real.pow(2).mean().item() == pytest.approx(1, abs=1e-4)
        first, second = batch.truth[k].nonzero().T
        assert set(zip(first.tolist(), second.tolist())) == set(map(tuple, pair.matches.tolist()))


def test_the_second_half_of_the_edges_is_the_first_the_other_way():
    edges = torch.tensor([[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]], [[0, 1, -1, -1, -1, -1], [1, 0, -1, -1, -1, -1]]])
    expected = [[[0, 0, 1, 1, 2, 2], [1, 2, 2, 0, 0, 1]], [[0, -1, -1, 1, -1, -1], [1, -1, -1, 0, -1, -1]]]
    assert keypoints.both_ways(edges).tolist() == expected


def test_published_sets_on_small_files(published):
    sizes = {name: len(load()) for name, load in keypoints.published().items()}
    assert sizes["house_gap100"] == 11
    assert sizes["hotel_gap10"] == 91
    assert sizes["willow_duck"] == 1
    assert sizes["willow_winebottle"] == 3
    assert sizes["pf_pascal"] == 1
    assert len(keypoints.willow("duck", "train")) == 20 * 19
    [pair] = keypoints.pf_pascal()
    assert pair.first.points.tolist() == [[0, 0], [1, 0], [0, 1], [2, 2]]
    [car] = keypoints.vehicles("car", 2)
    assert (len(car.first.points), len(car.second.points), len(car.matches)) == (6, 6, 4)


def test_the_split_of_willow_follows_the_seed_and_does_not_overlap(published):
    def images(part, seed):
        pairs = keypoints.willow("winebottle", part, seed)
        return {tuple(side.points.flatten().tolist()) for pair in pairs for side in (pair.first, pair.second)}

    assert len(images("train", 0)) == 20
    assert not images("train", 0) & images("test", 0)
    assert images("test", 0) != images("test", 1)


def test_blended_shapes_keep_the_order_of_their_points(published):
    pairs = keypoints.blended("duck", 6, 0, torch.Generator().manual_seed(0))
    assert len(pairs) == 6
    assert all(pair.matches.tolist() == [[i, i] for i in range(4)] for pair in pairs)
    assert len({tuple(pair.first.points.flatten().tolist()) for pair in pairs}) == 6


def photograph(file, size=(100, 80)):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[:, size[0] // 2 :] = 255  # black to the left, white to the right
    Image.fromarray(picture).save(file, quality=95)


def test_spair_in_its_official_folders(tmp_path):
    pair = {"src_imname": "a.jpg", "trg_imname": "b.jpg", "category": "cat"}
    pair |= {"src_kps": [[10, 10], [90, 10], [50, 60]], "trg_kps": [[20, 20], [80, 20], [50, 70]]}
    for part in ("trn", "test"):
        file = tmp_path / "PairAnnotation" / part / "000001-a-b:cat.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(pair))
    for name in ("a.jpg", "b.jpg"):
        photograph(tmp_path / "JPEGImages" / "cat" / name)
    [found] = keypoints.read_spair(tmp_path, "train", images=True)
    assert found.first.points.tolist() == pair["src_kps"]
    assert found.matches.tolist() == [[0, 0], [1, 1], [2, 2]]
    left, right = found.first.patches[0], found.first.patches[1]
    assert left.shape == (3, keypoints.PATCH, keypoints.PATCH)
    assert left.mean() < 0.05
    assert right.mean() > 0.95
    assert keypoints.read_spair(tmp_path, "test", images=False)[0].first.patches is None
    with pytest.raises(data.DataError, match="holds no SPair-71k"):
        keypoints.read_spair(tmp_path / "nowhere", "train", images=False)


def annotate(file, image, points):
    marks = "".join(
        f'<keypoint name="{name}" x="{x}" y="{y}" z="0" visible="{seen}"/>' for name, (x, y, seen) in points.items()
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation><image>{image}</image><category>cat</category><keypoints>{marks}</keypoints></annotation>")


def test_pascal_voc_in_its_official_folders(tmp_path):
    for index in range(6):
        photograph(tmp_path / "JPEGImages" / f"2008_{index}.jpg")
        points = {"ear": (10 + index, 10, 1), "nose": (90, 10, 1), "tail": (50, 60, 1), "paw": (20, 30, int(index != 1))}
        annotate(tmp_path / "annotations" / "cat" / f"2008_{index}_1.xml", f"2008_{index}", points)
    train = keypoints.read_voc(tmp_path, "train", images=True)  # the fifth object is for the test
    assert len(train) == 5 * 4
    assert {len(pair.matches) for pair in train} == {3, 4}  # one object does not show its paw
    assert all(pair.first.patches.shape == (len(pair.matches), 3, 16, 16) for pair in train)
    assert len(keypoints.read_voc(tmp_path, "train", images=False, pairs_per_class=7)) == 7
    assert keypoints.read_voc(tmp_path, "test", images=False) == []
    with pytest.raises(data.DataError, match="holds no keypoints of Pascal VOC"):
        keypoints.read_voc(tmp_path / "nowhere", "train", images=False)


def test_training_on_images_of_a_folder(tmp_path):
    for index in range(6):
        photograph(tmp_path / "JPEGImages" / f"{index}.jpg")
        points = {name: (10 + 13 * i + index, 10 + 7 * i * (i % 3), 1) for i, name in enumerate("abcde")}
        annotate(tmp_path / "annotations" / "cat" / f"{index}.xml", str(index), points)
    settings = ["source=voc", f"folder={tmp_path}", "images=True", "test_size=2"]
    task = make_task(*settings)
    with pytest.raises(ValueError, match=r"keypoints of voc: no pairs for the test in "):
        task.data("test")
    batch = task.data("train")
    task.stream = torch.Generator().manual_seed(0)
    loss = task(*batch)[0]
    loss.backward()
    assert task.network.features.eye[0].weight.grad.abs().sum() > 0


# ---- measurements ----


def test_measurements_by_hand():
    truth = torch.eye(3)[None]
    y = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 0]]])
    pairs = keypoints.pad(keypoints.synthetic(1, 3, 3, 0, 0, torch.Generator().manual_seed(0)))._replace(truth=truth)
    found = graph_matching.scored(y, pairs)
    assert found["accuracy"].item() == pytest.approx(1 / 3)
    assert found["hamming"].item() == pytest.approx(3 / 9)


def test_sinkhorn_rows_take_the_best_column_that_is_allowed():
    scores = torch.tensor([[[5.0, 0, 9], [0, 5, 9], [0, 0, 0]]])
    mask = torch.ones(1, 3, 3, dtype=torch.bool)
    mask[:, :, 2] = mask[:, 2] = False
    assert graph_matching.sinkhorn_rows(scores, mask).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]


def test_the_network_does_not_see_the_order_of_the_points():
    task = make_task("low=6").eval()
    pair = keypoints.synthetic(1, 6, 6, 0.0, 0, torch.Generator().manual_seed(0))[0]
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    other = keypoints.Pair(keypoints.Keypoints(pair.first.points[order]), pair.second, pair.matches)
    with torch.no_grad():
        a, b = (task.network(keypoints.pad([one]))[0] for one in (pair, other))
    torch.testing.assert_close(a[:, order], b)


@pytest.mark.parametrize("settings", [[], ["partial=True"], ["edges=False"]])
def test_twenty_steps_improve_the_loss(settings):
    task = make_task("batch=32", "train_size=32", "lr=0.01", *settings)
    task.stream = torch.Generator().manual_seed(0)
    batch = task.data("train")
    optimizer = task.make_optimizer(task.parameters())
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        objective, loss, measured = task(*batch)
        objective.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])
    assert set(measured) >= {"accuracy", "exact_match", "hamming"}


def test_a_run_measures_the_published_sets(published, tmp_path):
    result = comparing.execute(
        Run.make("graph_matching", "blackbox(step=80)", settings=TINY), tmp_path, Hardware(progress=False)
    )
    metrics = result["metrics"]
    assert {"accuracy", "willow", "willow_duck_assignment", "house_gap100_sinkhorn", "car_outliers10", "pf_pascal"} <= set(
        metrics
    )
    assert metrics["willow"] == pytest.approx((metrics["willow_duck"] + metrics["willow_winebottle"]) / 2)
    assert (tmp_path / "predictions.png").stat().st_size > 10_000


def test_a_run_without_any_data_set_still_runs(files, tmp_path):
    result = comparing.execute(Run.make("graph_matching", "identity", settings=TINY), tmp_path, Hardware(progress=False))
    assert "accuracy" in result["metrics"]
    assert "willow" not in result["metrics"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["source=wilow"],
            "unknown source of keypoints 'wilow' (did you mean 'willow'?); use one of: spair, synthetic, voc, willow.",
        ),
        (["images=True"], "setting images=True; there are no images with source='synthetic'."),
        (
            ["partial=True", "edges=False"],
            "settings partial=True and edges=False; the assignment matches all points of the smaller set.",
        ),
        (["source=spair"], "setting source='spair' needs the folder of the data set: --set folder=DIR."),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(SpecError) as caught:
        Run.make("graph_matching", settings=settings)
    assert str(caught.value) == message


def test_a_rule_that_learns_from_one_shape_is_refused():
    with pytest.raises(SpecError, match="learns from scores of one shape, and graphs differ in size; choose another rule"):
        Run.make("graph_matching", "dab")


@pytest.mark.skipif(not os.environ.get("SOLVERLAYERS_DATA"), reason="needs SOLVERLAYERS_DATA")
def test_the_real_sets():
    sizes = {name: len(load()) for name, load in keypoints.published().items()}
    assert sizes["house_gap100"] == 11
    assert sizes["hotel_gap100"] == 1
    assert (sizes["willow_duck"], sizes["willow_winebottle"]) == (15 * 14 // 2, 26 * 25 // 2)
    assert sizes["pf_pascal"] == 194
    assert (sizes["car_outliers0"], sizes["motor_outliers20"]) == (22, 15)


def test_the_ablation_of_margin_and_projection_is_one_command(files, tmp_path, capsys):
    from solverlayers.tasks.cli import main

    settings = [word for setting in TINY for word in ("--set", setting)]
    sweeps = ["--sweep", "margin=0,1", "--sweep", "projection=none,norm", "--seeds", "1"]
    command = ["compare", "graph_matching", "--rules", "identity,blackbox(step=80)", *sweeps, *settings]
    assert main([*command, "--no-progress", "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert len({row["rule"] for row in rows}) == 2 * 2 * 2
    assert "identity, margin=1, projection=norm" in {row["rule"] for row in rows}
