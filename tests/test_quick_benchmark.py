"""The gate of the short races: what is slow fails, what was slow once does not, and what differs is refused."""

import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import quick
from benchmarks.quick import CONTESTS, Contest, judge, main


def work(seconds):
    """A function that is busy for so long."""

    def call():
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return torch.zeros(())

    return call


def contest(peer, ours, limit=0.5, **options):
    return Contest("busy", lambda: (work(peer), work(ours)), limit, **options)


@pytest.fixture(autouse=True)
def with_kernels(monkeypatch):
    monkeypatch.setattr(quick.kernels, "variant", lambda: "avx2")


def test_a_fast_one_passes_and_a_slow_one_fails(capsys):
    fast, slow = contest(0.004, 0.0004), contest(0.001, 0.003)
    assert main([], [fast]) == 0
    assert "all 1 families are fast enough" in capsys.readouterr().out
    assert main([], [fast, slow]) == 1
    out = capsys.readouterr().out
    assert "**too slow** in the second race" in out
    assert out.endswith("1 of 2 families are too slow\n")


def test_slack_widens_limits():
    verdict = judge(contest(0.001, 0.003), slack=20)
    assert verdict.passed
    assert verdict.races == 1
    assert verdict.ratio == pytest.approx(3, rel=0.5)


def test_one_lost_race_is_forgiven(monkeypatch):
    """The second race is longer, and the better of both counts."""
    asked, ratios = [], iter([9.0, 0.2])

    def race(contestants, reference, rounds):
        asked.append(rounds)
        return {"ours": SimpleNamespace(ratio=next(ratios))}

    monkeypatch.setattr(quick, "race", race)
    verdict = judge(contest(0, 0), slack=2, rounds=5)
    assert (verdict.passed, verdict.races, verdict.ratio) == (True, 2, 0.2)
    assert asked == [5, 15]


def test_different_work_is_refused():
    wrong = Contest("sums", lambda: (lambda: torch.tensor(3.0), lambda: torch.tensor(4.0)), 0.5)
    with pytest.raises(ValueError, match=r"^sums: the peer found 3, ours 4\.$"):
        judge(wrong, slack=2)


def test_without_kernels_there_is_nothing_to_compare(monkeypatch, capsys):
    monkeypatch.setattr(quick.kernels, "variant", lambda: "none")
    assert main([], [contest(0.001, 0.003)]) == 0
    assert capsys.readouterr().out.startswith("No compiled kernels")


@pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: contest.prepare.__name__)
def test_both_do_the_same_work(contest):
    peer, ours = contest.prepare()
    assert not contest.equal or peer().item() == pytest.approx(ours().item(), rel=1e-4)
    assert ours().isfinite()
