"""Variational autoencoders: losses by hand, exact gradients by enumeration, learning, and what runs leave behind."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from solverlayers import SolverLayer
from solverlayers.estimators import RELAX, Exact, ScoreFunction
from solverlayers.noise import SumOfGamma
from solverlayers.rules import CategoricalStraightThrough, ReinMax
from solverlayers.solvers import Argmax
from solverlayers.tasks import codes, comparing, gradient_study, image_task, running, specs
from solverlayers.tasks.cli import main
from solverlayers.tasks.images import ImageSet
from solverlayers.tasks.notebook_noise import NotebookSumOfGamma
from solverlayers.tasks.running import Hardware, Run

SILENT = Hardware(progress=False)
TINY = ["epochs=2", "batch=32", "train_size=128", "test_size=64", "hidden=(32,)"]
TINY_VAE = [*TINY, "categories=3", "latents=2", "importance_samples=10", "importance_images=8", "surrogate_width=16"]


@pytest.fixture(autouse=True)
def stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of one bright row each, in the place of a data set."""
    rows = torch.arange(256) % 7
    images = (255 * functional.one_hot(4 * rows, 28)).to(torch.uint8)[:, None, :, None].expand(-1, 1, -1, 28).contiguous()
    monkeypatch.setattr(image_task, "load_images", lambda name: ImageSet(images, rows, images[:100], rows[:100], "stripes"))


def build(rule: str, *settings: str, task: str = "vae"):
    torch.manual_seed(0)
    return Run.make(task, rule, settings=[*(TINY_VAE if task == "vae" else TINY), *settings]).build()


def options(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


# ---- the loss ----


def test_the_loss_is_distortion_plus_beta_times_rate() -> None:
    task = build("reinmax", "beta=0.5").eval()
    images = task.data("test")[0][:5]
    with torch.no_grad():
        task.encoder[-1].weight.zero_()
        task.encoder[-1].bias.copy_(torch.tensor([60.0, 0, 0, 0, 0, 60.0]))  # certain: the code is (0, 2)
        loss, measured = task.measure((images,))
        logits = task.decoder(torch.tensor([1.0, 0, 0, 0, 0, 1])).sigmoid()
    pixels = images.flatten(1) / 255
    distortion = -(pixels * logits.log() + (1 - pixels) * (1 - logits).log()).sum(1)
    torch.testing.assert_close(measured["distortion"], distortion, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(measured["rate"], torch.full((5,), 2 * torch.tensor(3.0).log().item()))
    torch.testing.assert_close(measured["negative_elbo"], measured["distortion"] + measured["rate"])
    assert loss.item() == pytest.approx((distortion + torch.tensor(3.0).log()).mean().item(), rel=1e-4)


def test_unseen_images_are_encoded_by_draws() -> None:
    task = build("reinmax").eval()
    drawn = task.draws(torch.tensor([0.0, 0.0, 1.0]).expand(20_000, 2, 3))
    torch.testing.assert_close(drawn.mean((0, 1)), torch.tensor([0.0, 0.0, 1.0]).softmax(0), atol=0.01, rtol=0)
    assert torch.equal(drawn.sum(-1), torch.ones(20_000, 2))


def test_two_categories_are_bernoulli_latents() -> None:
    """DisARM is for Bernoulli latents; both ways to write the law give one expected loss."""
    logits, table = torch.randn(3, 2, 2), torch.randn(2, 2)

    def loss(code: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...i,...j,ij->...", code[..., 0, :], code[..., 1, :], table)

    p = logits.softmax(-1)
    torch.testing.assert_close(codes.expected(Exact(), loss, logits), torch.einsum("bi,bj,ij->b", p[:, 0], p[:, 1], table))
    assert build("disarm", "categories=2").estimator is not None


def test_the_decoder_starts_at_the_mean_image() -> None:
    task = build("reinmax")
    task.start()
    mean = (task.data("train")[0] / 255).mean(0).flatten().clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(task.decoder[-1].bias.sigmoid(), mean)
    other = build("reinmax", "mean_start=False")
    before = other.decoder[-1].bias.clone()
    other.start()
    assert torch.equal(other.decoder[-1].bias, before)


def test_a_prior_can_be_learned() -> None:
    task = build("gumbel_softmax", "learned_prior=True")
    task(*task.data("test"))[0].backward()
    assert task.prior.grad.abs().sum() > 0
    assert "prior" not in dict(build("reinmax").named_parameters())


def test_committed_posteriors_keep_their_rate() -> None:
    task = build("reinmax", "committed=0.9").eval()
    measured = task.measure(task.data("test"))[1]
    least = 2 * (torch.tensor(3.0).log() + 0.9 * torch.tensor(0.9).log() + 0.1 * torch.tensor(0.05).log())
    assert measured["rate"].min() >= least - 1e-4


@pytest.mark.parametrize("setting", ["committed=0.2", "committed=1"])
def test_impossible_commitments_are_refused(setting: str) -> None:
    with pytest.raises(specs.SpecError) as caught:
        build("reinmax", setting)
    value = setting.partition("=")[2]
    assert str(caught.value) == f"setting committed={value}; it must be 0, or from 1/categories to below 1."


# ---- estimators in the place of rules ----


def test_specs_of_estimators() -> None:
    assert repr(build("score_function(3)").rule) == "ScoreFunction(samples=3, baseline=LeaveOneOut())"
    relax = repr(build("relax(temperature=0.5)").rule)
    assert relax == "RELAX(surrogate=Surrogate(latents=2, categories=3, width=16), temperature=0.5, eta=1.0, samples=1)"
    assert "LearnedBaseline(network=Surrogate(" in repr(build("score_function(1, baseline=learned_baseline)").rule)
    assert repr(build("score_function(1, baseline=moving_average(0.5))").rule.baseline) == "MovingAverage(decay=0.5)"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "score_function(baseline=means(2))",
            "unknown baseline 'means'; use one of: learned_baseline, leave_one_out, moving_average.",
        ),
        ("score_function(samples=2.5)", "estimator 'score_function': samples=2.5 is a number; expected a whole number."),
        (
            "rebar(",
            "cannot read the estimator 'rebar('; write a name, or a name with its parameters such as 'rebar(samples=2)'.",
        ),
    ],
)
def test_bad_specs_of_estimators(spec: str, message: str) -> None:
    with pytest.raises(specs.SpecError) as caught:
        build(spec)
    assert str(caught.value) == message


def test_an_unknown_name_is_answered_with_rules_and_estimators() -> None:
    with pytest.raises(
        specs.SpecError, match=r"unknown rule or estimator 'relx' \(did you mean 'relax'\?\); use one of: .*rebar"
    ):
        build("relx")
    with pytest.raises(specs.SpecError, match="unknown rule 'relax'"):
        build("relax", task="subset_vae")


def test_estimators_take_no_projection_and_no_noise() -> None:
    for extra in ({"projection": "std"}, {"noise": "gumbel"}):
        with pytest.raises(specs.SpecError) as caught:
            Run.make("vae", "rebar", settings=TINY_VAE, **extra)
        assert str(caught.value) == (
            "REBAR(temperature=0.5, eta=1.0, samples=1) draws from a distribution of its own; it takes neither a projection "
            "nor noise."
        )


# ---- gradients beside the exact one ----


def test_the_exact_gradient_is_that_of_the_sum_over_all_codes() -> None:
    task = build("reinmax").eval().requires_grad_(False)
    images = task.data("test")[0][:4]
    logits = task.posterior(images).detach().requires_grad_()
    value = codes.expected(Exact(), lambda drawn: task.distortion(drawn, images), logits)
    (expected,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient_study.exact_gradient(task, images), expected, rtol=1e-3, atol=1e-3)


def test_the_quality_of_known_gradients() -> None:
    """Exact: perfect. Score function and RELAX: no bias. A linear decoder and loss: straight-through has none either."""
    torch.manual_seed(0)
    task = build("reinmax").eval().requires_grad_(False)
    images = task.data("test")[0][:4]
    perfect = gradient_study.quality(task, Exact(), images, draws=20)
    assert (perfect.bias, perfect.std, perfect.cosine) == pytest.approx((0, 0, 1), abs=1e-3)
    score = gradient_study.quality(task, ScoreFunction(samples=4), images, draws=1000)
    bare = gradient_study.quality(task, ScoreFunction(samples=1, baseline=None), images, draws=1000)
    relax = RELAX(task.surrogate(task.config), temperature=0.5)
    gradient_study.adapt(task, relax, steps=100)
    controlled = gradient_study.quality(task, relax, images, draws=1000)
    for unbiased in (score, controlled):
        assert unbiased.bias < 4 * unbiased.std / 1000**0.5
        assert unbiased.cosine > 0.95
    assert controlled.std < 0.1 * bare.std  # one sample each

    task.distortion = lambda drawn, _: (drawn * torch.arange(6.0).view(2, 3)).sum((-2, -1))  # type: ignore[method-assign]
    g = gradient_study.gradients(task, SolverLayer(Argmax(), CategoricalStraightThrough()), images, draws=4000).mean(0)
    p = task.posterior(images).softmax(-1)
    w = torch.arange(6.0).view(2, 3)
    torch.testing.assert_close(g, p * (w - (p * w).sum(-1, keepdim=True)), atol=0.02, rtol=0)


def test_adapting_changes_only_what_the_rule_owns() -> None:
    task = build("dab(independent)").eval().requires_grad_(False)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    layer = SolverLayer(Argmax(), specs.make_rule("dab(independent)", (3,)))
    first = [p.clone() for p in layer.parameters()]
    gradient_study.adapt(task, layer, steps=3)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(not torch.equal(a, b) for a, b in zip(first, layer.parameters()))


# ---- learning ----


@pytest.mark.parametrize(
    "rule",
    [
        "reinmax",
        "gumbel_softmax(0.7)",
        "categorical_straight_through",
        "relax(temperature=0.5)",
        "score_function(4)",
        "rebar",
        "lax",
    ],
)
def test_steps_improve_the_bound(rule: str) -> None:
    task = build(rule, "lr=0.01")
    images = task.data("train")
    optimizer = task.make_optimizer(task.parameters())

    def bound() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(task.eval().measure(images)[1]["negative_elbo"].mean())

    before = bound()
    task.train()
    for step in range(20):
        optimizer.zero_grad()
        task(*(column[32 * (step % 4) : 32 * (step % 4 + 1)] for column in images))[0].backward()
        optimizer.step()
    assert bound() < 0.8 * before


def test_reinmax_learns_more_than_straight_through() -> None:
    """On codes of few categories, whose decoder is far from linear."""
    found = {}
    for rule in ("reinmax", "categorical_straight_through"):
        task = build(rule, "lr=0.01", "categories=2", "latents=6")
        images, optimizer = task.data("train"), task.make_optimizer(task.parameters())
        for step in range(200):
            optimizer.zero_grad()
            task(*(column[32 * (step % 4) : 32 * (step % 4 + 1)] for column in images))[0].backward()
            optimizer.step()
        with torch.no_grad():
            found[rule] = float(task.eval().measure(images)[1]["negative_elbo"].mean())
    assert found["reinmax"] < found["categorical_straight_through"]


# ---- runs ----


def test_a_run_measures_bounds_and_draws_pictures(tmp_path: Path) -> None:
    result = comparing.execute(Run.make("vae", "categorical_straight_through", settings=TINY_VAE), tmp_path, SILENT)
    assert result is not None
    metrics = result["metrics"]
    assert metrics["negative_elbo"] == pytest.approx(metrics["rate"] + metrics["distortion"], rel=1e-5)
    assert metrics["information_lower"] < metrics["rate"] + 0.05  # one draw for each of few images
    assert metrics["information_lower"] == pytest.approx(metrics["information_upper"], abs=0.5)
    assert metrics["importance_gain"] >= 0
    assert 1 <= metrics["perplexity"] <= 3
    assert {"importance_bound", "used_codes", "gradient_bias", "gradient_std", "gradient_cosine"} <= set(metrics)
    assert result["data"] == "stripes"
    for name in ("predictions", "samples", "rate_distortion", "curve"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_too_many_codes_have_no_exact_gradient(tmp_path: Path) -> None:
    result = comparing.execute(Run.make("vae", settings=[*TINY_VAE, "latents=9", "epochs=1"]), tmp_path, SILENT)
    assert result is not None
    assert "gradient_bias" not in result["metrics"]
    with pytest.raises(specs.SpecError, match="3\\^9 codes are too many for the exact gradient"):
        gradient_study.study(tmp_path, ["reinmax"])


def test_a_sweep_makes_a_row_for_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "vae", "--rules", "reinmax,rebar", "--sweep", "beta=0.5, 2", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*command, "--no-progress", *options(*TINY_VAE)]) == 0
    with (tmp_path / "compare.csv").open(newline="") as stream:
        labels = [row["rule"] for row in csv.DictReader(stream)]
    assert labels == ["reinmax, beta=0.5", "reinmax, beta=2", "rebar, beta=0.5", "rebar, beta=2"]
    stored = json.loads((tmp_path / "reinmax-beta=0.5-seed0" / "result.json").read_text())
    assert (stored["config"]["beta"], stored["swept"]) == (0.5, "beta=0.5")
    for name in ("compare", "rate_distortion", "gradients"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    capsys.readouterr()
    assert main(["gradients", str(tmp_path / "reinmax-beta=2-seed0"), "--rules", "reinmax,score_function(2)"]) == 0
    assert "score_function(2)" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "reinmax-beta=2-seed0" / "gradients.json").read_text())) == {
        "reinmax",
        "score_function(2)",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beta", "cannot read --sweep 'beta'; write field=value,value,... such as beta=0.5,1,2."),
        ("beta=", "cannot read --sweep 'beta='; write field=value,value,... such as beta=0.5,1,2."),
    ],
)
def test_bad_sweeps_are_refused(text: str, message: str) -> None:
    with pytest.raises(specs.SpecError) as caught:
        comparing.sweep(text)
    assert str(caught.value) == message


def test_a_sweep_of_projections_and_noise() -> None:
    runs = [Run.make("subset_vae", settings=TINY, swept=swept) for swept in comparing.sweep("projection=none,std")]
    assert [run.projection for run in runs] == [None, "std"]
    assert [run.name for run in runs] == ["identity-seed0", "identity-std-seed0"]
    noisy = Run.make("subset_vae", settings=TINY, swept="noise=notebook_sum_of_gamma(10, scale=10)")
    assert repr(noisy.build().noise) == "NotebookSumOfGamma(k=10, scale=10, terms=10)"
    assert noisy.label == "identity, noise=notebook_sum_of_gamma(10, scale=10)"
    assert noisy.updated("subset_vae", None, None, None, None, 3, []) == dataclasses.replace(noisy, seed=3)


def test_a_sweep_of_presets_keeps_what_was_set() -> None:
    runs = [Run.make("vae", "reinmax", settings=["epochs=3"], swept=swept) for swept in comparing.sweep("preset=quick, 16x12")]
    assert [run.name for run in runs] == ["reinmax-seed0", "reinmax-16x12-seed0"]
    assert [(run.config["categories"], run.config["latents"], run.config["epochs"]) for run in runs] == [(8, 4, 3), (16, 12, 3)]
    assert runs[1].label == "reinmax, preset=16x12"
    with pytest.raises(specs.SpecError, match="unknown preset 'big'"):
        Run.make("vae", swept="preset=big")


@pytest.mark.parametrize("task", ["vae", "subset_vae"])
def test_resumed_runs_end_as_if_they_had_not_stopped(task: str, tmp_path: Path) -> None:
    def run(folder: Path, epochs: int) -> dict:
        rule = "relax(temperature=0.5)" if task == "vae" else "identity"
        settings = [*(TINY_VAE if task == "vae" else TINY), f"epochs={epochs}"]
        trained = running.train(Run.make(task, rule, settings=settings), folder, SILENT)
        assert trained is not None
        return trained.history[-1]["test"]

    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    assert run(tmp_path / "parts", 2) == whole


# ---- k-subset codes ----


def test_subsets_have_k_ones_and_the_kl_of_their_softmax() -> None:
    task = build("identity", "groups=3", "entries=6", "k=2", task="subset_vae").eval()
    images = task.data("test")[0][:5]
    with torch.no_grad():
        scores = task.encode(images)
        assert torch.equal(task.codes(scores).sum(-1), torch.full((5, 3), 2.0))
        loss, measured = task.measure((images,))
    p = scores.softmax(-1)
    torch.testing.assert_close(measured["kl"], (p * (6 * p).log()).sum((1, 2)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(measured["bce_plus_kl"], measured["bce"] + measured["kl"])
    assert loss.item() == pytest.approx(measured["bce_plus_kl"].mean().item())


def test_noise_comes_before_the_projection() -> None:
    """So the projected scores are of norm one, noise included; and a rule with noise of its own gets no other in training."""
    task = Run.make("subset_vae", projection="norm", settings=TINY).build()
    seen: list[torch.Tensor] = []
    task.layer.rule.forward = lambda oracle, theta: (seen.append(theta), oracle(theta))[1]
    task.codes(torch.zeros(2, 20, 20))
    torch.testing.assert_close(seen[0].norm(dim=-1), torch.ones(2, 20))
    imle = Run.make("subset_vae", "imle(step=10, noise=sum_of_gamma(10, scale=10))", settings=TINY).build()
    imle.layer.rule.forward = lambda oracle, theta: (seen.append(theta), oracle(theta))[1]
    imle.train().codes(torch.zeros(2, 20, 20))
    assert not seen[1].any()
    imle.eval().codes(torch.zeros(2, 20, 20))
    assert seen[2].any()
    assert imle.noise == SumOfGamma(10, 10.0, 10)


def test_the_notebooks_noise_is_the_formula_with_scales_inverted() -> None:
    torch.manual_seed(0)
    noise = NotebookSumOfGamma(10)
    drawn = noise.sample(torch.zeros(40_000, 10))
    assert drawn.mean().item() == pytest.approx(noise.mean, abs=2e-3)
    total = drawn.sum(1)
    assert total.mean().item() == pytest.approx(-1.7526, abs=0.01)
    assert total.var().item() == pytest.approx(0.0385, rel=0.05)  # sum of i^2 / k^4; a Gumbel variable has 1.645
    with pytest.raises(ValueError, match=r"^NotebookSumOfGamma: k=0; it must be positive\.$"):
        NotebookSumOfGamma(0)


def test_projections_keep_scores_small() -> None:
    """Without a norm the scores of identity grow; with one the KL stays small."""
    found = {}
    for projection in ("none", "std"):
        task = Run.make("subset_vae", projection=projection, settings=[*TINY, "lr=0.01"]).build()
        images, optimizer = task.data("train"), task.make_optimizer(task.parameters())
        for step in range(40):
            optimizer.zero_grad()
            task(*(column[32 * (step % 4) : 32 * (step % 4 + 1)] for column in images))[0].backward()
            optimizer.step()
        with torch.no_grad():
            found[projection] = {k: float(v.mean()) for k, v in task.eval().measure(images)[1].items()}
    assert found["std"]["kl"] < 0.5 * found["none"]["kl"]
    assert found["std"]["score_size"] < 0.5 * found["none"]["score_size"]


def test_presets_hold_the_papers_numbers() -> None:
    vae, subset = (dataclasses.asdict(running.task_class(t).presets["paper"]) for t in ("vae", "subset_vae"))
    assert (vae["categories"], vae["latents"], vae["epochs"], vae["lr"], vae["hidden"]) == (8, 4, 160, 5e-4, (512, 256))
    assert (vae["train_size"], vae["test_size"], vae["batch"]) == (60_000, 10_000, 100)
    assert (subset["groups"], subset["entries"], subset["k"], subset["noise_scale"]) == (20, 20, 10, 10)
    assert (subset["epochs"], subset["hidden"], subset["lr"]) == (100, (512, 256), 1e-3)
    assert isinstance(Run.make("vae").build().rule, ReinMax)
