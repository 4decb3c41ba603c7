"""The polynomial toy: its numbers by enumeration, and the order of the rules."""

import itertools
import json

import pytest
import torch

from solverlayers.tasks.cli import main
from solverlayers.tasks.running import Run

FAST = ["latents=32", "epochs=1", "train_size=6400", "lr=0.08"]  # 100 steps


def run(tmp_path, rule: str) -> dict:
    settings = [word for setting in FAST for word in ("--set", setting)]
    assert main(["run", "polynomial", "--rule", rule, "--no-progress", "--out", str(tmp_path / rule), *settings]) == 0
    return json.loads((tmp_path / rule / "result.json").read_text())["metrics"]


def test_order_of_the_rules(tmp_path):
    """Exact < ReinMax << straight-through Gumbel-softmax and straight-through, for every exponent."""
    found = {rule: run(tmp_path, rule) for rule in ("reinmax", "gumbel_softmax", "categorical_straight_through")}
    others = [found["gumbel_softmax"], found["categorical_straight_through"]]
    for p, best in (("1.5", 0.45**1.5), ("2", 0.45**2), ("3", 0.45**3)):
        exact, reinmax = (found["reinmax"][f"{kind}loss_p{p}"] - best for kind in ("exact_", ""))
        assert 0 < exact < reinmax
        assert reinmax < 0.5 * min(metrics[f"loss_p{p}"] - best for metrics in others)
    for metrics in found.values():
        assert metrics["exact_regret"] == pytest.approx(found["reinmax"]["exact_regret"])
        assert metrics["regret"] == pytest.approx(
            sum(metrics[f"loss_p{p}"] - 0.45 ** float(p) for p in ("1.5", "2", "3")) / 3, abs=1e-6
        )
    assert (tmp_path / "reinmax" / "predictions.png").stat().st_size > 10_000


def test_expected_loss_by_enumeration():
    task = Run.make("polynomial", settings=["latents=4", "replicas=2", "exponents=(1.5, 3.0)"]).build()
    logits = torch.randn(2, 2, 4, 2, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)
    total = torch.zeros(2, 2)
    for flips in itertools.product((0, 1), repeat=4):
        chance = torch.stack([p[..., i, x] for i, x in enumerate(flips)], -1).prod(-1)
        total += chance * task.polynomial(torch.tensor(flips, dtype=torch.float32).expand(2, 2, 4))
    torch.testing.assert_close(task.expected(logits), total)
    zeros = task.polynomial(torch.zeros(2, 2, 4))
    torch.testing.assert_close(zeros, torch.tensor([0.45**1.5, 0.45**3]).expand(2, 2))


def test_replicas_and_exponents_do_not_know_of_each_other():
    """Each problem moves as it would alone: Adam does not notice the mean over problems."""
    torch.manual_seed(0)
    task = Run.make("polynomial", settings=["latents=4", "replicas=3"]).build()
    optimizer, start = task.make_optimizer(task.parameters()), task.exact_logits.detach().clone()
    alone = start[1, 2].clone().requires_grad_()
    single = torch.optim.Adam([alone], lr=task.config.lr)
    for _ in range(20):
        optimizer.zero_grad()
        task.expected(task.exact_logits).mean().backward()
        optimizer.step()
        single.zero_grad()
        (alone.softmax(-1)[..., 1] * (0.55**3 - 0.45**3)).mean().backward()
        single.step()
    torch.testing.assert_close(task.exact_logits[1, 2], alone)
