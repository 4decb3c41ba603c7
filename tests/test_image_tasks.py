"""The tasks on images: autoencoder and classification, their data, augmentation, corruptions, probe and pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import killed, timeless
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from scipy.special import log_softmax

from solverlayers.tasks import augmentation, comparing, corruption, image_task, images, probe, running
from solverlayers.tasks.cli import main
from solverlayers.tasks.running import Hardware, Run
from solverlayers.tasks.specs import SpecError

TINY_CODE = ["epochs=1", "batch=20", "train_size=60", "test_size=30", "hidden=(16,)", "groups=4", "width=4"]
TINY_CLASSES = ["epochs=1", "batch=20", "train_size=60", "test_size=30", "units=8", "channels=2", "corrupted=20"]
SILENT = Hardware(progress=False)


def made_images(count: int, seed: int, colours: int = 1, side: int = 28) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square in one of four quarters, which is the class, and noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    pixels = torch.randint(60, (count, colours, side, side), generator=generator)
    quarter = torch.arange(side) // (side // 2)
    square = (quarter[None, :, None] == labels[:, None, None] // 2) & (quarter[None, None, :] == labels[:, None, None] % 2)
    return (pixels + 150 * square.unsqueeze(1)).to(torch.uint8), labels


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Data sets of made images."""
    grey = images.ImageSet(*made_images(500, 0), *made_images(100, 1), "made")
    colour = images.ImageSet(*made_images(500, 0, 3, 32), *made_images(100, 1, 3, 32), "made")
    monkeypatch.setattr(image_task, "load_images", lambda name: colour if name == "cifar10" else grey)


def build(task: str, rule: str, settings: list[str]):
    return Run.make(task, rule, settings=settings).build()


def trained(task: str, rule: str, settings: list[str], folder: Path, projection: str | None = None) -> dict:
    return comparing.execute(Run.make(task, rule, projection, settings=settings), folder, SILENT)


# ---- data ----


def test_images_are_drawn_by_the_seed_without_replacement():
    task = build("classification", "dab", ["train_size=500", "test_size=50"])
    found, labels = task.data("train")
    everything, classes = made_images(500, 0)
    order = found.flatten(1).tolist()
    assert sorted(order) == sorted(everything.flatten(1).tolist())
    assert order != everything.flatten(1).tolist()
    known = {tuple(image): label for image, label in zip(everything.flatten(1).tolist(), classes.tolist())}
    assert [known[tuple(image)] for image in order] == labels.tolist()
    assert torch.equal(task.data("train")[0], found)
    other = Run.make("classification", "dab", seed=1, settings=["train_size=500"]).build()
    assert not torch.equal(other.data("train")[0], found)
    with pytest.raises(ValueError, match=r"^setting test_size=200; made has 100 images in that part\.$"):
        build("classification", "dab", ["test_size=200"]).data("test")


@pytest.mark.parametrize("name", list(images.IMAGE_SETS))
def test_what_networks_know_of_the_real_sets(name):
    if images.find("mnist", "train-images-idx3-ubyte.gz") is None:
        pytest.skip("needs SOLVERLAYERS_DATA")
    found, facts = images.load_images(name), image_task.FACTS[name]
    assert found.train.shape[1:] == facts.shape
    assert found.train_labels.max() == facts.classes - 1


@pytest.mark.parametrize(
    ("task", "setting", "message"),
    [
        ("autoencoder", "dataset=mnits", "unknown image data set 'mnits' (did you mean 'mnist'?); use one of: cifar10, "),
        ("autoencoder", "fresh=True", "setting fresh=True; there are only so many images, so it must be False."),
        ("autoencoder", "centroid=4", "setting centroid=4: a group takes one of its centroids, so set code=argmax."),
        ("autoencoder", "code=sing", "unknown solver 'sing' (did you mean 'sign'?); use one of: a"),
        ("autoencoder", "code=topk(k=-1)", "solver 'top_k': TopK: k is -1; the number of chosen entries is 0 or more."),
        (
            "classification",
            "augmentation=cutoff(3)",
            "unknown augmentation 'cutoff' (did you mean 'cutout'?); use one of: cutout, ",
        ),
        ("classification", "augmentation=cutout(0)", "augmentation 'cutout': Cutout: size=0; it must be positive."),
    ],
)
def test_bad_settings(task, setting, message):
    with pytest.raises(SpecError, match=f"^{re.escape(message)}"):
        Run.make(task, settings=[setting])


@pytest.mark.parametrize(
    ("task", "setting", "rule", "message"),
    [
        (
            "autoencoder",
            "code=threshold",
            "gumbel_softmax",
            "GumbelSoftmax draws one category from softmax(scores), which needs",
        ),
        (
            "classification",
            "hard=sort",
            "blackbox(step=1)",
            "Blackbox solves again with shifted scores, which needs a solver that",
        ),
        ("classification", "hard=sort", "straight_through(tanh)", "Tanh(temperature=1.0) does not relax Sort()"),
    ],
)
def test_pairs_without_meaning_are_refused_by_the_layer(task, setting, rule, message):
    with pytest.raises(SpecError, match=f"^{re.escape(message)}"):
        Run.make(task, rule, settings=[setting])


# ---- autoencoder ----

CODES = [
    ("sign(margin=0.05)", "dab(independent)", None),
    ("sign(margin=0.01, event_dim=2)", "dab", None),
    ("threshold", "identity", "std"),
    ("topk(k=2)", "dab(equivariant)", "std"),
    ("argmax", "gumbel_softmax", None),
]


@pytest.mark.parametrize(("code", "rule", "projection"), CODES)
def test_codes_learn(code, rule, projection, tmp_path):
    settings = [*TINY_CODE, f"code={code}", "train_size=500", "epochs=2", "batch=10", "lr=0.01"]  # a hundred steps
    result = trained("autoencoder", rule, settings, tmp_path, projection)
    untrained = running.train(
        Run.make("autoencoder", rule, projection, settings=[*settings, "lr=1e-30"]), tmp_path / "0", SILENT
    )
    metrics = result["metrics"]
    assert metrics["loss"] < 0.95 * untrained.metrics()["loss"]
    assert metrics["loss"] == pytest.approx(784 * metrics["reconstruction_error"], rel=1e-5)
    assert 0.2 < metrics["linear_accuracy"] <= 1
    assert 0 <= metrics["active_share"] <= 1
    assert (tmp_path / "predictions.png").stat().st_size > 10_000
    assert result["data"] == "made"


def test_the_code_is_the_solution_of_the_scores():
    task = build("autoencoder", "identity", [*TINY_CODE, "code=topk(k=2)"]).eval()
    pictures = made_images(7, 3)[0]
    code = task.codes(pictures)
    scores = task.scores(pictures / 255)
    assert code.shape == (7, 4, 4)
    assert torch.equal(code.sum(2), torch.full((7, 4), 2.0))
    assert torch.equal(code == 1, scores >= scores.sort(2).values[:, :, 2:3])
    loss, measured = task.measure((pictures, torch.zeros(7)))
    rebuilt = task.decoder(code.flatten(1)).view(pictures.shape)
    error = (rebuilt - pictures / 255).square().flatten(1)
    torch.testing.assert_close(measured["reconstruction_error"], error.mean(1))
    torch.testing.assert_close(loss, error.sum(1).mean())


def test_the_decoder_starts_at_the_mean_image():
    task = build("autoencoder", "identity", TINY_CODE)
    task.start()
    last = task.decoder[-2]
    mean = task.data("train")[0].double().mean(0).flatten() / 255
    assert mean.min() > 0.05
    torch.testing.assert_close(last.bias.sigmoid().double(), mean, atol=1e-6, rtol=0)


def test_centroids_are_the_nearest(tmp_path):
    """A code of centroids is k-means' assignment, by a loop; the decoder sees the centroids."""
    settings = [*TINY_CODE, "code=argmax", "centroid=3"]
    task = build("autoencoder", "identity", settings).eval()
    pictures = made_images(5, 3)[0]
    z = task.encoder((pictures / 255).flatten(1)).view(5, 4, 3).detach()
    seen = task.features(task.codes(pictures)).view(5, 4, 3).detach()
    for b in range(5):
        for g in range(4):
            distances = [(z[b, g] - c).square().sum().item() for c in task.centroids[g]]
            torch.testing.assert_close(seen[b, g], task.centroids[g, int(np.argmin(distances))])
    metrics = trained("autoencoder", "identity", settings, tmp_path, "std")["metrics"]
    assert metrics["moved"] == 1


# ---- probe ----


def test_logistic_regression_is_the_minimum():
    """Against scipy's own minimiser, from another start."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)), random.integers(0, 4, 60)

    def objective(flat):
        weight, bias = flat[:12].reshape(4, 3), flat[12:]
        return -log_softmax(x @ weight.T + bias, 1)[np.arange(60), y].mean() + 0.05 * (weight**2).sum()

    best = minimize(objective, random.normal(size=16), tol=1e-10)
    model = probe.logistic_regression(torch.tensor(x), torch.tensor(y), 4, penalty=0.1)
    np.testing.assert_allclose(model.weight.numpy().ravel(), best.x[:12], atol=2e-4)
    assert objective(np.concatenate([model.weight.numpy().ravel(), model.bias.numpy()])) <= best.fun + 1e-9


def test_linear_accuracy():
    """Two classes that a line parts, and a third inside the first, which none does; a constant feature does not harm."""
    x = torch.cat([torch.linspace(-2, -1, 50), torch.linspace(1, 2, 50)])
    features = torch.stack([x, torch.ones(100)], 1)
    labels = (x > 0).long()
    with torch.no_grad():
        assert probe.linear_accuracy((features, labels), (features, labels), 2) == 1
        assert probe.linear_accuracy((features, labels), (features, 1 - labels), 2) == 0
        ring = x.abs() > 1.5
        assert probe.linear_accuracy((features, ring.long()), (features, ring.long()), 2) <= 0.5


# ---- augmentation ----


def test_patches_lie_around_uniform_centres():
    torch.manual_seed(0)
    mask = augmentation.patches(torch.zeros(4000, 3, 9, 11), 3)
    assert mask.shape == (4000, 1, 9, 11)
    for one in mask[:50, 0]:
        rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
        assert 2 <= len(rows) <= 3  # cut off at the border
        assert int(one.sum()) == len(rows) * len(columns)
        assert int(rows.max() - rows.min()) == len(rows) - 1
    share = mask.double().mean((0, 1))
    inner = 9 / 99  # three centres in each direction reach a pixel that is not at the border
    torch.testing.assert_close(share[1:-1, 1:-1], torch.full((7, 9), inner, dtype=torch.float64), atol=0.02, rtol=0)
    torch.testing.assert_close(share[0, 1:-1], torch.full((9,), inner * 2 / 3, dtype=torch.float64), atol=0.02, rtol=0)
    assert augmentation.patches(torch.zeros(5, 1, 9, 9), 19).all()


def test_noise_lies_inside_the_patch_and_its_scale_is_uniform():
    torch.manual_seed(1)
    pictures = torch.full((3000, 1, 12, 12), 0.5)
    augmented = augmentation.PatchGaussian(size=5, sigma=0.05)(pictures)
    inside = augmented != 0.5
    assert 9 / 144 < inside.double().mean() < 25 / 144
    everywhere = augmentation.GaussianNoise(sigma=0.05)(pictures)
    scales = everywhere.flatten(1).std(1).sort().values / 0.05
    assert (scales - torch.linspace(0, 1, 3000)).abs().mean() < 0.02  # the quantiles of U(0, 1)
    for changed in (augmented, everywhere, augmentation.PatchGaussian(5, 3.0)(pictures)):
        assert 0 <= changed.min() < changed.max() <= 1
    spread = (augmented - 0.5)[inside].std() / 0.05
    assert spread.item() == pytest.approx((1 / 3) ** 0.5, abs=0.03)


def test_cutout_is_black_in_one_square():
    torch.manual_seed(2)
    changed = augmentation.Cutout(4)(torch.ones(50, 3, 10, 10))
    assert set(changed.unique().tolist()) == {0.0, 1.0}
    assert (changed == 0).flatten(1).sum(1).max() == 3 * 16


def test_augmentation_is_for_training_alone(monkeypatch):
    task = build("classification", "dab", [*TINY_CLASSES, "augmentation=cutout(56)"])
    seen = []
    monkeypatch.setattr(task, "logits", lambda x: (seen.append(x), torch.zeros(len(x), 10))[1])
    batch = made_images(4, 0)
    task.train().measure(batch)
    task.eval().measure(batch)
    assert seen[0].max() == 0
    assert torch.equal(seen[1], batch[0] / 255)


# ---- corruption ----


@pytest.mark.parametrize("name", corruption.CORRUPTIONS)
def test_corruptions_grow_with_severity_and_repeat(name):
    pictures = made_images(40, 0, colours=3, side=29)[0] / 255  # no edge of a square is one of a block
    before = 0.0
    for severity in corruption.SEVERITIES:
        changed = corruption.corrupt(name, pictures, severity, torch.Generator().manual_seed(0))
        assert changed.shape == pictures.shape
        assert 0 <= changed.min() <= changed.max() <= 1
        assert torch.equal(changed, corruption.corrupt(name, pictures, severity, torch.Generator().manual_seed(0)))
        distance = (changed - pictures).square().mean().item()
        assert distance > before
        before = distance


def test_formulas_of_corruptions():
    generator = torch.Generator().manual_seed(0)
    grey = torch.full((100, 1, 20, 20), 0.5)
    assert corruption.gaussian_noise(grey, 2, generator).std().item() == pytest.approx(0.2, rel=0.02)
    shot = corruption.shot_noise(grey, 4, generator)
    assert shot.var().item() == pytest.approx(0.5 / 5, rel=0.05)  # mean and variance of a Poisson law are one
    assert (shot * 5).frac().abs().max() < 1e-5
    impulse = corruption.impulse_noise(grey.expand(100, 3, 20, 20), 3, generator)
    assert (impulse == 0).double().mean().item() == pytest.approx(0.06, abs=0.01)
    assert (impulse == 1).double().mean().item() == pytest.approx(0.06, abs=0.01)
    assert torch.equal(impulse[:, 0], impulse[:, 2])
    picture = torch.rand(2, 3, 20, 24, generator=generator)
    weak = corruption.contrast(picture, 2, generator)
    torch.testing.assert_close(weak.std((2, 3)), 0.5 * picture.std((2, 3)))
    torch.testing.assert_close(weak.mean((2, 3)), picture.mean((2, 3)))
    expected = [[gaussian_filter(c, 1.0, mode="mirror", truncate=3.0) for c in one] for one in picture.numpy()]
    np.testing.assert_allclose(corruption.blur(picture, 3, generator).numpy(), expected, atol=1e-6)
    blocks = corruption.pixelate(picture, 2, generator)
    for row, column in ((0, 0), (3, 9), (18, 21)):  # 20 rows: the last block has two
        block = picture[..., row : row + 3, column : column + 3]
        same = blocks[..., row : row + 3, column : column + 3]
        torch.testing.assert_close(same, block.mean((2, 3), keepdim=True).expand_as(same))


def test_an_unknown_severity_is_refused():
    with pytest.raises(ValueError, match=r"^severity is 6; it is one of 1, 2, 3, 4, 5\.$"):
        corruption.corrupt("blur", torch.zeros(1, 1, 8, 8), 6, torch.Generator())


# ---- classification ----

LAYERS = [
    ("sort", "dab", None, "mnist"),
    ("sort", "straight_through(projected_sort(0.1))", None, "cifar10"),
    ("topk(k=2)", "identity", "std", "mnist"),
    ("none", "identity", None, "mnist"),
]


@pytest.mark.parametrize(("hard", "rule", "projection", "dataset"), LAYERS)
def test_classifiers_learn(hard, rule, projection, dataset, tmp_path):  # in twenty steps
    changes = [f"hard={hard}", f"dataset={dataset}", "train_size=400", "lr=0.01", "units=16", "channels=4"]
    settings = [*TINY_CLASSES, *changes, "augmentation=patch_gaussian(8, 0.3)"]
    result = trained("classification", rule, settings, tmp_path, projection)
    metrics = result["metrics"]
    assert metrics["loss"] < 0.9 * np.log(10)  # that of ten classes as likely as each other; only four occur
    kinds = [metrics[f"accuracy_{name}"] for name in corruption.CORRUPTIONS]
    severities = [metrics[f"accuracy_severity_{s}"] for s in corruption.SEVERITIES]
    assert metrics["corrupted_accuracy"] == pytest.approx(np.mean(kinds))
    assert metrics["corrupted_accuracy"] == pytest.approx(np.mean(severities))
    assert (tmp_path / "predictions.png").stat().st_size > 10_000


def test_accuracy_counts_the_likeliest_class(monkeypatch):
    task = build("classification", "dab", TINY_CLASSES).eval()
    answers = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    monkeypatch.setattr(task, "logits", lambda x: answers)
    loss, measured = task.measure((made_images(3, 0)[0], torch.tensor([0, 1, 1])))
    assert measured["accuracy"].tolist() == [True, True, False]
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-2)) * 2 / 3 + np.log(1 + np.exp(2)) / 3)


def test_without_a_hard_layer_the_gradient_is_the_true_one():
    task = build("classification", "identity", [*TINY_CLASSES, "hard=none"])
    x = (made_images(4, 0)[0] / 255).requires_grad_()
    torch.manual_seed(0)
    plain = task.decoder(task.encoder(x))
    assert torch.equal(task.logits(x), plain)
    ours, true = (torch.autograd.grad(logits.square().sum(), x)[0] for logits in (task.logits(x), plain))
    assert torch.equal(ours, true)


# ---- runs ----


@pytest.mark.parametrize(
    ("task", "settings"),
    [("autoencoder", TINY_CODE), ("classification", [*TINY_CLASSES, "augmentation=patch_gaussian(8, 0.5)"])],
)
def test_a_resumed_run_ends_as_if_it_had_never_stopped(task, settings, tmp_path):
    settings = [*settings, "epochs=2"]
    whole = trained(task, "dab", settings, tmp_path / "whole")
    with killed(epoch=1):
        trained(task, "dab", settings, tmp_path / "parts")
    parts = trained(task, "dab", settings, tmp_path / "parts")
    assert timeless(whole["metrics"]) == timeless(parts["metrics"])


@pytest.mark.parametrize(("task", "settings"), [("autoencoder", TINY_CODE), ("classification", TINY_CLASSES)])
def test_on_the_command_line(task, settings, tmp_path, capsys):
    words = [word for setting in settings for word in ("--set", setting)]
    rules = "dab, straight_through"
    assert main(["compare", task, "--rules", rules, "--seeds", "2", "--no-progress", "--out", str(tmp_path), *words]) == 0
    printed = capsys.readouterr().out
    assert " ± " in printed
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [row["rule"] for row in rows] == ["dab", "straight_through"]
    assert all(0 < row["solver_share"] < 1 for row in rows)


@pytest.mark.parametrize(("task", "settings"), [("autoencoder", TINY_CODE), ("classification", TINY_CLASSES)])
def test_seeds_together(task, settings, tmp_path):
    """Several seeds as one stacked model: what rules without noise learn is what they learn alone."""
    runs = [Run.make(task, "straight_through", seed=seed, settings=settings) for seed in range(2)]
    results, failures = comparing.compare(runs, tmp_path / "together", SILENT, together=True)
    assert not failures
    alone = trained(task, "straight_through", settings, tmp_path / "alone")
    stacked = results["straight_through"][0]
    assert stacked["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], rel=1e-3)
