"""Bounds of discrete latent-variable models, in nats: likelihood, rate, information of the code, and how the code is used.

A posterior is given by logits `(*B, L, C)` of `L` independent latents of `C` categories, a code by one-hot rows of that shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def rate(logits: Tensor, prior: Tensor) -> Tensor:
    """`KL(q(z|x) || p(z))`, which is at least the information `I(X; Z)` on average.  # (*B, L, C), (L, C) -> (*B)"""
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * (log_q - prior.log_softmax(-1))).sum((-2, -1))


def log_weights(logits: Tensor, prior: Tensor, codes: Tensor, distortion: Tensor) -> Tensor:
    """`log p(x|z) + log p(z) - log q(z|x)` of codes drawn from `q`.  # (B, L, C), (L, C), (K, B, L, C), (K, B) -> (K, B)"""
    return (codes * (prior.log_softmax(-1) - logits.log_softmax(-1))).sum((-2, -1)) - distortion


def importance_bound(draw: Callable[[int], Tensor], samples: int, chunk: int) -> tuple[Tensor, Tensor]:
    """`-log mean_k w_k`, at least `-log p(x)` on average (Burda, Grosse & Salakhutdinov, 2016), and the bound of one sample.

    `draw(k)` gives the logarithms of `k` new weights, `(k, B)`; at most `chunk` are asked for at a time.  # -> (B), (B)
    """
    sizes = [min(chunk, samples - start) for start in range(0, samples, chunk)]
    total, single = torch.tensor(-torch.inf), torch.tensor(0.0)
    for size in sizes:
        weights = draw(size)
        total = torch.logaddexp(total.to(weights), weights.logsumexp(0))
        single = single.to(weights) - weights.sum(0)
    return math.log(samples) - total, single / samples


def information(logits: Tensor, codes: Tensor) -> tuple[float, float]:
    """A lower and an upper bound of `I(X; Z)` from one code per instance (Poole et al., 2019).  # (N, L, C), (N, L, C)

    Lower: `mean_i log q(z_i|x_i) / mean_j q(z_i|x_j)`, at most `log N`; upper: the same with the mean over `j != i`.
    """
    count = len(codes)
    table = codes.flatten(1) @ logits.log_softmax(-1).flatten(1).T  # [i, j] = log q(z_i | x_j)
    own = table.diagonal()
    lower = own - table.logsumexp(1) + math.log(count)
    others = table.masked_fill(torch.eye(count, dtype=torch.bool, device=table.device), -torch.inf)
    upper = own - others.logsumexp(1) + math.log(count - 1)
    return float(lower.mean()), float(upper.mean())


def usage(logits: Tensor, codes: Tensor) -> tuple[float, float]:
    """How much of the code is used: mean perplexity of a latent's marginal, and the share of categories drawn at all.

    Both at best: `C`, 1. The marginal is that of the data, `mean_i q(z|x_i)`.  # (N, L, C), (N, L, C)
    """
    marginal = logits.softmax(-1).mean(0)
    entropy = -torch.xlogy(marginal, marginal).sum(-1)
    return float(entropy.exp().mean()), float((codes.sum(0) > 0).double().mean())


def commit(logits: Tensor, least: float) -> Tensor:
    """Logits of the nearest posterior whose likeliest category has a probability of at least `least`.  # (*B, L, C)

    The others keep their proportions. Its KL from the uniform law is at least `committed_rate(least, C)` per latent: a rate
    that no training can take away, the idea of Razavi et al. (2019) for categories.
    """
    log_q = logits.log_softmax(-1)
    best = log_q.argmax(-1, keepdim=True)
    is_best = torch.zeros_like(log_q, dtype=torch.bool).scatter(-1, best, True)
    top = log_q.gather(-1, best)
    rest = log_q.masked_fill(is_best, -torch.inf).logsumexp(-1, keepdim=True)
    committed = torch.where(is_best, math.log(least), log_q - rest + math.log1p(-least))
    return torch.where(top >= math.log(least), log_q, committed)


def committed_rate(least: float, categories: int) -> float:
    """`log C - h(p) - (1 - p) log(C - 1)` for `p = least >= 1/C`: the least KL from uniform, `h` the binary entropy.

    >>> round(committed_rate(0.5, 2), 6), round(committed_rate(0.9, 8), 6)
    (0.0, 1.559768)
    """
    rest = 1 - least
    entropy = -sum(p * math.log(p) for p in (least, rest) if p > 0)
    return math.log(categories) - entropy - rest * math.log(categories - 1)
