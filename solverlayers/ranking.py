"""Ranking metrics from ranks, and the losses made of them (Rolinek et al., CVPR 2020).

Ranks are 1 for the best entry, as `Ranking(descending=True)` gives them; all functions are over the last dimension and take
`relevant`, a boolean tensor of the same shape, and a `mask` of the entries that exist. They are differentiable in the ranks as
far as the metric is, so a ranking layer with any rule makes losses of them. A metric that has no meaning (nothing is relevant,
all ranks equal) is NaN, so that `nanmean` averages the others; a loss is zero there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .arguments import check_numbers
from .layer import SolverLayer


def recall_at_k(ranks: Tensor, relevant: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    """The share of the relevant entries that are among the first `k`.  # (*S, n), (*S, n) -> (*S)

    >>> recall_at_k(torch.tensor([[1.0, 3.0, 2.0, 4.0]]), torch.tensor([[True, True, False, False]]), k=2)
    tensor([0.5000])
    """
    relevant = _existing(relevant, mask)
    return _mean(ranks <= k, relevant, torch.nan)


def hit_at_k(ranks: Tensor, relevant: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    """Whether any relevant entry is among the first `k`: the "recall@k" of image retrieval.  # (*S, n), (*S, n) -> (*S)

    >>> hit_at_k(torch.tensor([[1.0, 3.0, 2.0, 4.0]]), torch.tensor([[True, True, False, False]]), k=2)
    tensor([1.])
    """
    relevant = _existing(relevant, mask)
    return torch.where(relevant.any(-1), ((ranks <= k) & relevant).any(-1).to(ranks.dtype), torch.nan)


def average_precision(ranks: Tensor, relevant: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over the relevant entries of `rank among the relevant / rank`.  # (*S, n), (*S, n) -> (*S)

    The rank among the relevant is held constant, as in the authors' code. Averaged over queries (or classes) it is the mAP.

    >>> average_precision(torch.tensor([[1.0, 3.0, 2.0, 4.0]]), torch.tensor([[True, True, False, False]]))
    tensor([0.8333])
    """
    relevant = _existing(relevant, mask)
    return _mean(ranks_among(ranks, relevant) / torch.where(relevant, ranks, 1), relevant, torch.nan)


def ndcg(ranks: Tensor, gains: Tensor, k: int | None = None, mask: Tensor | None = None) -> Tensor:
    """Normalised discounted cumulative gain: `sum gain / log2(1 + rank)`, over that of the best order.  # (*S, n) x 2 -> (*S)

    Only the first `k` places count, all if None. Pass `2**relevance - 1` as `gains` for the exponential variant.

    >>> ndcg(torch.tensor([[2.0, 1.0, 3.0]]), torch.tensor([[3.0, 0.0, 0.0]]))
    tensor([0.6309])
    """
    if mask is not None:
        gains = torch.where(mask, gains, 0)
    discount = 1 / torch.log2(1 + torch.where(gains == 0, 1, ranks))  # a masked entry has rank 0
    if k is not None:
        discount = torch.where(ranks <= k, discount, 0)
    best = gains.sort(-1, descending=True).values[..., :k]
    places = torch.arange(2, best.shape[-1] + 2, device=ranks.device, dtype=ranks.dtype)
    ideal = (best / places.log2()).sum(-1)
    return torch.where(ideal > 0, (gains * discount).sum(-1) / torch.where(ideal > 0, ideal, 1), torch.nan)


def spearman(ranks: Tensor, other: Tensor, mask: Tensor | None = None) -> Tensor:
    """Spearman's correlation: Pearson's, of two rank vectors.  # (*S, n), (*S, n) -> (*S)

    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
    tensor(0.5000)
    """
    exists = torch.ones_like(ranks, dtype=torch.bool) if mask is None else mask.expand_as(ranks)
    a, b = (_centred(r, exists) for r in torch.broadcast_tensors(ranks, other))
    size = a.square().sum(-1) * b.square().sum(-1)
    return torch.where(size > 0, (a * b).sum(-1) / torch.where(size > 0, size, 1).sqrt(), torch.nan)


def ranks_among(ranks: Tensor, subset: Tensor) -> Tensor:
    """The rank of each entry of a subset among the subset, 0 outside; no gradient.  # (*S, n), (*S, n) -> (*S, n)

    >>> ranks_among(torch.tensor([1.0, 3.0, 2.0, 4.0]), torch.tensor([False, True, False, True]))
    tensor([0., 1., 0., 2.])
    """
    last = torch.where(subset, ranks.detach(), torch.inf)
    order = last.argsort(dim=-1, stable=True).argsort(dim=-1) + 1
    return torch.where(subset, order.to(ranks.dtype), 0)


def logarithm(excess: Tensor) -> Tensor:
    """`log(1 + x)`: the weight of recall losses for a steady pull over all ranks."""
    return torch.log1p(excess)


def double_logarithm(excess: Tensor) -> Tensor:
    """`log(1 + log(1 + x))`: the weight of recall losses for an emphasis on the first ranks."""
    return torch.log1p(torch.log1p(excess))


def recall_loss(
    ranks: Tensor, relevant: Tensor, weight: Callable[[Tensor], Tensor] = double_logarithm, mask: Tensor | None = None
) -> Tensor:
    """The mean over the relevant entries of `weight(number of irrelevant entries before it)`.  # (*S, n), (*S, n) -> (*S)

    That number is `rank - rank among the relevant`, the latter held constant.

    >>> recall_loss(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[True, True, False]]), weight=logarithm)
    tensor([0.3466])
    """
    relevant = _existing(relevant, mask)
    excess = torch.where(relevant, ranks - ranks_among(ranks, relevant), 0)
    return _mean(weight(excess), relevant, 0.0)


def rank_margin(scores: Tensor, relevant: Tensor, alpha: float) -> Tensor:
    """`scores - alpha (relevant - 1/2)`: makes the order right only by a margin of `alpha`.  # (*S, n), (*S, n) -> (*S, n)"""
    return scores - alpha * (relevant.to(scores.dtype) - 0.5)


def random_rank_margin(scores: Tensor, relevant: Tensor, alpha: float) -> Tensor:
    """As `rank_margin`, with a margin `alpha |N(0, 1)|` of its own for each entry.  # (*S, n), (*S, n) -> (*S, n)"""
    return scores - alpha * torch.randn_like(scores).abs() * (relevant.to(scores.dtype) - 0.5)


class RecallLoss(nn.Module):
    """Recall loss of scores, per query: `recall_loss` of the ranks that a layer gives, after `rank_margin` while training.

    `ranker` is a layer of `Ranking(descending=True)` with any rule; the paper uses `Blackbox`.  # (B, n), (B, n) -> (B)
    """

    def __init__(self, ranker: SolverLayer, margin: float = 0.02, weight: Callable[[Tensor], Tensor] = double_logarithm):
        super().__init__()
        self.ranker, self.margin, self.weight = ranker, margin, weight
        check_numbers(self, "margin")
        _check_ranker(self, ranker)

    def forward(self, scores: Tensor, relevant: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each query.  # (B, n), (B, n) -> (B,)"""
        _check_relevant(self, scores, relevant)
        scores = rank_margin(scores, relevant, self.margin) if self.training else scores
        return recall_loss(_ranks(self.ranker, scores, instance), relevant, self.weight, instance.get("mask"))


class AveragePrecisionLoss(nn.Module):
    """`1 - average_precision` of scores, per query or class, after `random_rank_margin` while training.

    `ranker` is a layer of `Ranking(descending=True)` with any rule; the paper uses `Blackbox`.  # (B, n), (B, n) -> (B)
    """

    def __init__(self, ranker: SolverLayer, margin: float = 0.02):
        super().__init__()
        self.ranker, self.margin = ranker, margin
        check_numbers(self, "margin")
        _check_ranker(self, ranker)

    def forward(self, scores: Tensor, relevant: Tensor, **instance: Tensor) -> Tensor:
        """The loss of each query.  # (B, n), (B, n) -> (B,)"""
        _check_relevant(self, scores, relevant)
        scores = random_rank_margin(scores, relevant, self.margin) if self.training else scores
        precision = average_precision(_ranks(self.ranker, scores, instance), relevant, instance.get("mask"))
        return torch.where(precision.isnan(), 0, 1 - precision)


def _check_ranker(loss: nn.Module, ranker: SolverLayer) -> None:
    if not isinstance(ranker, SolverLayer):
        raise TypeError(
            f"{type(loss).__name__}: ranker is {ranker!r}; expected a layer, such as "
            f"SolverLayer(Ranking(descending=True), Blackbox(step=1.0))."
        )
    if ranker.solver.sense != "min":
        raise ValueError(
            f"{type(loss).__name__}: the ranker's solver is {ranker.solver!r}, which gives the best score the last rank; the "
            f"metrics count from the best. Use Ranking(descending=True)."
        )


def _check_relevant(loss: nn.Module, scores: Tensor, relevant: Tensor) -> None:
    if relevant.shape != scores.shape:
        raise ValueError(
            f"{type(loss).__name__}: `relevant` has shape {tuple(relevant.shape)} but the scores have shape "
            f"{tuple(scores.shape)}; expected True or False for each score. Use `torch.nn.functional.one_hot` for classes."
        )


def _ranks(ranker: SolverLayer, scores: Tensor, instance: dict[str, Tensor]) -> Tensor:
    ranks = ranker(scores, **instance)
    assert isinstance(ranks, Tensor)  # one tensor in, one out
    return ranks


def _existing(relevant: Tensor, mask: Tensor | None) -> Tensor:
    return relevant.bool() if mask is None else relevant.bool() & mask


def _mean(values: Tensor, of: Tensor, empty: float) -> Tensor:
    """The mean of the chosen entries, or `empty`.  # (*S, n), (*S, n) -> (*S)"""
    count = of.sum(-1)
    mean = torch.where(of, values, 0).sum(-1) / count.clamp_min(1)
    return torch.where(count > 0, mean, empty)


def _centred(ranks: Tensor, exists: Tensor) -> Tensor:
    mean = torch.where(exists, ranks, 0).sum(-1, keepdim=True) / exists.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(exists, ranks - mean, 0)
