"""Ranking metrics, against SciPy and against loops that follow the definitions."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from solverlayers import SolverLayer, ranking
from solverlayers.rules import Blackbox, Identity
from solverlayers.solvers.sorting import Ranking

DESCENDING = Ranking(descending=True)


def case(seed: int, n: int, batch: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ranks with padding, relevance (also in the padding, where it must not matter), and a mask."""
    torch.manual_seed(seed)
    mask = torch.arange(n) < torch.randint(1, n + 1, (batch, 1))
    scores = torch.randn(batch, n, dtype=torch.float64)
    return DESCENDING(scores, mask=mask), torch.rand(batch, n) < 0.4, mask


def listed(ranks, relevant, mask):
    """Whether each entry is relevant, in the order of the ranks."""
    existing = sorted((int(r), bool(rel)) for r, rel, m in zip(ranks, relevant, mask) if m)
    return [rel for _, rel in existing]


def loop(metric, ranks, relevant, mask):
    rows = [listed(*row) for row in zip(ranks, relevant, mask)]
    return torch.tensor([metric(row) if any(row) else math.nan for row in rows], dtype=torch.float64)


def precision(row):
    hits = [i for i, rel in enumerate(row, 1) if rel]
    return sum(j / i for j, i in enumerate(hits, 1)) / len(hits)


def recall_excess(row):
    hits = [i for i, rel in enumerate(row, 1) if rel]
    return sum(math.log(1 + math.log(1 + i - j)) for j, i in enumerate(hits, 1)) / len(hits)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), k=st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_metrics_follow_their_definitions(seed, n, k):
    ranks, relevant, mask = case(seed, n)
    for found, metric in (
        (ranking.recall_at_k(ranks, relevant, k, mask), lambda row: sum(row[:k]) / sum(row)),
        (ranking.hit_at_k(ranks, relevant, k, mask), lambda row: float(any(row[:k]))),
        (ranking.average_precision(ranks, relevant, mask), precision),
    ):
        assert torch.allclose(found.double(), loop(metric, ranks, relevant, mask), equal_nan=True)
    excess = loop(recall_excess, ranks, relevant, mask).nan_to_num(0)
    assert torch.allclose(ranking.recall_loss(ranks, relevant, mask=mask), excess)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), k=st.sampled_from([None, 1, 3, 20]))
@settings(deadline=None, max_examples=40)
def test_ndcg(seed, n, k):
    ranks, _, mask = case(seed, n)
    gains = torch.randint(0, 4, ranks.shape).double()
    found = ranking.ndcg(ranks, gains, k, mask)
    for row, r, g, m in zip(found, ranks, gains, mask):
        pairs = sorted(zip(r[m].tolist(), g[m].tolist()))
        values = [gain for _, gain in pairs]
        gain, ideal = (
            sum(v / math.log2(i + 2) for i, v in enumerate(order[:k])) for order in (values, sorted(values, reverse=True))
        )
        assert row.isnan() if ideal == 0 else row == pytest.approx(gain / ideal)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 12))
@settings(deadline=None, max_examples=40)
def test_spearman_is_scipys(seed, n):
    torch.manual_seed(seed)
    a, b = torch.randn(2, 5, n, dtype=torch.float64)
    found = ranking.spearman(DESCENDING(a), DESCENDING(b))
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a.numpy(), b.numpy())]
    assert np.allclose(found, expected)
    ties = torch.randint(0, 3, (n,), dtype=torch.float64)
    if len(ties.unique()) > 1:
        averaged = torch.tensor(stats.rankdata(ties.numpy()))
        assert ranking.spearman(averaged, DESCENDING(a[:1])[0]) == pytest.approx(stats.spearmanr(ties, -a[0]).statistic)
    mask = torch.arange(n) < n - 1
    if n > 2:
        part = ranking.spearman(DESCENDING(a, mask=mask.expand(5, n)), DESCENDING(b, mask=mask.expand(5, n)), mask)
        assert torch.allclose(part, ranking.spearman(DESCENDING(a[:, :-1]), DESCENDING(b[:, :-1])))


def test_what_has_no_meaning_is_nan():
    ranks, none = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True), torch.zeros(1, 3, dtype=torch.bool)
    for metric in (ranking.recall_at_k(ranks, none, 2), ranking.hit_at_k(ranks, none, 2), ranking.ndcg(ranks, none.float())):
        assert metric.isnan().all()
    assert ranking.spearman(ranks, torch.ones(1, 3)).isnan().all()
    loss = ranking.recall_loss(ranks, none)
    assert torch.equal(loss, torch.zeros(1))
    assert torch.equal(torch.autograd.grad(loss.sum(), ranks)[0], torch.zeros(1, 3))


def test_gradients_in_the_ranks():
    ranks, relevant, mask = case(3, 7)
    ranks = (ranks + 0.1 * mask).requires_grad_()  # between integers, where the place in the list does not change
    gains = torch.rand_like(ranks) * relevant
    for metric in (
        lambda r: ranking.average_precision(r, relevant, mask).nan_to_num(0),
        lambda r: ranking.recall_loss(r, relevant, mask=mask),
        lambda r: ranking.recall_loss(r, relevant, ranking.logarithm, mask),
        lambda r: ranking.ndcg(r, gains, None, mask).nan_to_num(0),
        lambda r: ranking.spearman(r, gains, mask).nan_to_num(0),
    ):
        assert torch.autograd.gradcheck(metric, ranks)
        assert not torch.autograd.grad(metric(ranks).sum(), ranks)[0][~mask].any()


@pytest.mark.parametrize(("loss", "metric"), [(ranking.RecallLoss, "recall"), (ranking.AveragePrecisionLoss, "precision")])
def test_losses_of_scores(loss, metric):
    """Value and gradient as the ranking layer's, written out: `(rk(s) - rk(s + step g)) / step` turned for descending ranks."""
    torch.manual_seed(0)
    scores, relevant = torch.randn(4, 9, dtype=torch.float64, requires_grad=True), torch.rand(4, 9) < 0.4
    relevant[0] = False
    module = loss(SolverLayer(DESCENDING, Blackbox(20.0)), margin=0.3)
    torch.manual_seed(1)
    value = module(scores, relevant)
    gradient = torch.autograd.grad(value.sum(), scores)[0]
    torch.manual_seed(1)
    size = 0.3 if metric == "recall" else 0.3 * torch.randn_like(scores).abs()
    shifted = scores.detach() - size * (relevant.double() - 0.5)
    ranks = DESCENDING(shifted).requires_grad_()
    if metric == "recall":
        expected = ranking.recall_loss(ranks, relevant)
    else:
        expected = 1 - ranking.average_precision(ranks, relevant)
        expected = torch.where(expected.isnan(), 0, expected)
    assert torch.equal(value, expected)
    g = torch.autograd.grad(expected.sum(), ranks)[0].nan_to_num(0)
    assert torch.allclose(gradient, (DESCENDING(shifted + 20.0 * g) - ranks) / 20.0)
    assert gradient.any()
    assert not gradient[0].any()
    module.eval()
    assert torch.allclose(module(scores, relevant)[1:], metric_of(module, DESCENDING(scores), relevant)[1:])


def metric_of(module, ranks, relevant):
    if isinstance(module, ranking.RecallLoss):
        return ranking.recall_loss(ranks, relevant)
    return 1 - ranking.average_precision(ranks, relevant)


def test_losses_ignore_the_padding():
    torch.manual_seed(0)
    scores, relevant = torch.randn(3, 6, requires_grad=True), torch.rand(3, 6) < 0.5
    mask = (torch.arange(6) < 4).expand(3, 6)
    module = ranking.RecallLoss(SolverLayer(DESCENDING, Blackbox(20.0)), margin=0.1)
    value = module(scores, relevant, mask=mask)
    gradient = torch.autograd.grad(value.sum(), scores)[0]
    alone = scores[:, :4].detach().requires_grad_()
    expected = module(alone, relevant[:, :4])
    assert torch.equal(value, expected)
    assert torch.equal(gradient[:, :4], torch.autograd.grad(expected.sum(), alone)[0])
    assert not gradient[:, 4:].any()


def test_a_loss_teaches_scores_to_rank():
    torch.manual_seed(0)
    relevant = torch.rand(5, 20) < 0.3
    scores = torch.randn(5, 20, requires_grad=True)
    module = ranking.RecallLoss(SolverLayer(DESCENDING, Blackbox(200.0)), margin=0.1)
    first = module(scores, relevant).mean()
    for _ in range(150):
        scores = (scores - torch.autograd.grad(module(scores, relevant).sum(), scores)[0]).detach().requires_grad_()
    assert module(scores, relevant).mean() < 0.2 * first
    assert ranking.average_precision(DESCENDING(scores), relevant).mean() > 0.9


def test_a_ranker_is_a_layer():
    message = (
        "RecallLoss: ranker is Ranking(descending=True); expected a layer, such as SolverLayer(Ranking(descending=True), "
        "Blackbox(step=1.0))."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        ranking.RecallLoss(Ranking(descending=True))


def test_ranks_must_count_from_the_best():
    message = (
        "RecallLoss: the ranker's solver is Ranking(descending=False), which gives the best score the last rank; the metrics "
        "count from the best. Use Ranking(descending=True)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ranking.RecallLoss(SolverLayer(Ranking(), Identity()))


@pytest.mark.parametrize("kind", [ranking.RecallLoss, ranking.AveragePrecisionLoss])
def test_classes_are_no_relevance(kind):
    message = (
        f"{kind.__name__}: `relevant` has shape (3,) but the scores have shape (3, 3); expected True or False for each score. "
        f"Use `torch.nn.functional.one_hot` for classes."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kind(SolverLayer(DESCENDING, Identity()))(torch.randn(3, 3), torch.tensor([0, 1, 2]))
