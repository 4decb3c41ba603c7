"""Subsets of a given size."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from ..arguments import whole
from ..solver import widened
from .common import NEVER, NO_SHAPE, NUMBERS, checked_logits, gumbel, transforms_active, validates, where_available


class _Subsets(constraints.Constraint):
    """Zeros and ones, of which exactly `k` are one, none of them outside the mask."""

    is_discrete = True
    event_dim = 1

    def __init__(self, k: int | Tensor, mask: Tensor | None):
        self.k, self.mask = k, mask

    def check(self, value: Tensor) -> Tensor:
        binary = ((value == 0) | (value == 1)).all(-1)
        allowed = (value != 0) & (False if self.mask is None else ~self.mask)
        return binary & (value.sum(-1) == self.k) & ~allowed.any(-1)

    def __repr__(self) -> str:
        return f"Subsets(k={self.k})"


class KSubset(Distribution):
    """Subsets of exactly `k` items, `p(y) ~ exp <logits, y>`: independent Bernoulli trials conditioned on their sum.

    The log-partition is an elementary symmetric polynomial of `exp(logits)`, computed in the log domain by a binary tree of
    log-convolutions: `O(n k)` work in `O(log n)` steps (Chen & Liu, Statistica Sinica 1997, for the distribution). Marginals
    are its gradient, so all quantities are exact and differentiable any number of times; samples walk down the same tree.

    Args:
        logits: `(*batch, n)`; minus infinity means never chosen.
        k: an integer, or one per instance, `(*batch)`.
        mask: `(*batch, n)` bool, False for items that do not exist; their logits may be anything.

    Shapes: samples `(*S, *batch, n)` of zeros and ones. Raises ValueError where `k` is negative or exceeds the number of items.

    >>> import torch
    >>> KSubset(torch.zeros(4), k=2).marginals
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    arg_constraints = {"logits": NUMBERS}
    has_enumerate_support = True

    def __init__(self, logits: Tensor, k: int | Tensor, mask: Tensor | None = None, validate_args: bool | None = None):
        logits, mask = checked_logits("KSubset", logits, mask)
        if isinstance(k, Tensor):
            if k.is_floating_point() or k.dtype == torch.bool:
                raise TypeError(f"KSubset: k is {k.dtype}; it is an integer, or one integer per instance. Use `k.long()`.")
            batch = torch.broadcast_shapes(logits.shape[:-1], k.shape)
            logits, k = logits.expand(*batch, -1), k.long().expand(batch)
            mask = None if mask is None else mask.expand_as(logits)
        else:
            k = whole("KSubset", "k", k)
        self.k, self.mask, self.logits = k, mask, logits
        super().__init__(logits.shape[:-1], logits.shape[-1:], validates(validate_args))
        self._check_counts()
        finite = self.logits != -torch.inf
        self.logits = torch.where(finite, self.logits, 0)
        self.possible = finite if self.mask is None else self.mask & finite
        """Which items can be chosen.  # (*batch, n)"""

    def _check_counts(self) -> None:
        """Refuses subsets that do not exist; per-instance data are only read where values can be."""
        items = self.event_shape[0]
        if isinstance(self.k, int) and not 0 <= self.k <= items:
            raise ValueError(f"KSubset: k={self.k} of {items} items; choose k from 0 to {items}.")
        if not self._validate_args:
            return
        if (self.logits == torch.inf).any():
            raise ValueError("KSubset: some logits are +inf; an item that is always chosen needs a large finite logit.")
        available = where_available(self.mask, self.logits != -torch.inf, False).sum(-1)
        bad = (available < self.k) | torch.as_tensor(self.k < 0, device=available.device)
        if bad.any():
            index = tuple(bad.nonzero()[0].tolist())
            k = self.k if isinstance(self.k, int) else int(self.k[index])
            raise ValueError(
                f"KSubset: k={k} but instance {index} has {int(available[index])} items that can be chosen "
                f"({int(bad.sum())} of {bad.numel()} instances are impossible). Choose k from 0 to that number."
            )

    def expand(self, batch_shape: Any, _instance: Any = None) -> KSubset:
        new = self._get_checked_instance(KSubset, _instance)
        batch_shape = torch.Size(batch_shape)
        new.logits = self.logits.expand(batch_shape + self.event_shape)
        new.mask = None if self.mask is None else self.mask.expand(batch_shape + self.event_shape)
        new.possible = self.possible.expand(batch_shape + self.event_shape)
        new.k = self.k.expand(batch_shape) if isinstance(self.k, Tensor) else self.k
        super(KSubset, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def uniform(self) -> KSubset:
        """The uniform distribution over the same subsets, for `kl_divergence(self, self.uniform())`."""
        return KSubset(torch.zeros_like(self.logits), self.k, self.possible, validate_args=self._validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return _Subsets(self.k, self.mask)

    @property
    def log_partition(self) -> Tensor:
        """`log sum_y exp <logits, y>`.  # (*batch)"""
        return self._log_partition(self.logits)

    @property
    def marginals(self) -> Tensor:
        """The probability of each item to be chosen; sums to `k`.  # (*batch, n)"""
        value, pullback = torch.func.vjp(self._log_partition, self.logits)  # type: ignore[misc]
        return pullback(torch.ones_like(value))[0]

    @property
    def mean(self) -> Tensor:
        return self.marginals

    @property
    def variance(self) -> Tensor:
        marginals = self.marginals
        return marginals * (1 - marginals)

    @property
    def mode(self) -> Tensor:
        """A most likely subset: the first `k` of the largest logits."""
        order = torch.where(self.possible, self.logits, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        chosen = torch.arange(self.event_shape[0], device=order.device) < self._counts().unsqueeze(-1)
        return torch.zeros_like(self.logits).scatter(-1, order, chosen.to(self.logits))

    def log_prob(self, value: Tensor) -> Tensor:  # (*S, *batch, n) -> (*S, *batch)
        if self._validate_args and not transforms_active():
            self._validate_sample(value)
        return (value * torch.where(self.possible, self.logits, NEVER)).sum(-1) - self.log_partition

    def entropy(self) -> Tensor:
        """`log_partition - <logits, marginals>`.  # (*batch)"""
        value, pullback = torch.func.vjp(self._log_partition, self.logits)  # type: ignore[misc]
        return value - (self.logits * pullback(torch.ones_like(value))[0]).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = NO_SHAPE) -> Tensor:
        """Exact samples: each node of the tree splits its count between its two halves.  # -> (*S, *batch, n)"""
        sample_shape = torch.Size(sample_shape)
        *below, _ = self._tables(widened(self.logits))
        count = self._counts().expand(sample_shape + self.batch_shape).unsqueeze(-1)  # (*S, *batch, nodes)
        for table in reversed(below):
            left, right = table[..., 0::2, :], table[..., 1::2, :]  # (*batch, nodes, p)
            size = left.shape[-1]
            first = torch.arange(size, device=count.device)
            rest = count.unsqueeze(-1) - first  # (*S, *batch, nodes, p)
            weight = left + right.expand(*rest.shape).gather(-1, rest.clamp(0, size - 1))
            weight = torch.where((rest >= 0) & (rest < size), weight, NEVER)
            taken = (weight + gumbel(weight)).argmax(-1)
            count = torch.stack([taken, count - taken], -1).flatten(-2)
        return count[..., : self.event_shape[0]].to(self.logits.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All subsets; without a mask and for one `k` only, because instances share them.  # -> (count, *batch, n)"""
        if isinstance(self.k, Tensor) or self.mask is not None:
            raise NotImplementedError("KSubset: instances with a mask or their own k have different supports.")
        items = self.event_shape[0]
        chosen = torch.tensor(list(itertools.combinations(range(items), self.k)), dtype=torch.long, device=self.logits.device)
        values = torch.zeros(len(chosen), items, dtype=self.logits.dtype, device=self.logits.device)
        values = values.scatter_(1, chosen.view(len(chosen), self.k), 1)
        values = values.view(-1, *[1] * len(self.batch_shape), items)
        return values.expand(-1, *self.batch_shape, items) if expand else values

    def _counts(self) -> Tensor:
        k = self.k if isinstance(self.k, Tensor) else torch.tensor(self.k, device=self.logits.device)
        return k.expand(self.batch_shape)

    def _most(self) -> int:
        if isinstance(self.k, int):
            return self.k
        return self.event_shape[0] if transforms_active() or not self.k.numel() else int(self.k.max())

    def _log_partition(self, logits: Tensor) -> Tensor:
        root = self._tables(logits)[-1].squeeze(-2)
        return root.gather(-1, self._counts().unsqueeze(-1)).squeeze(-1).to(logits.dtype)

    def _tables(self, logits: Tensor) -> list[Tensor]:
        """Log-polynomials of the nodes of the tree, leaves first: entry `j` counts the subsets of size `j` below the node.

        In double precision: a log-partition of hundreds would leave single-precision marginals with three right digits.
        """
        items = self.event_shape[0]
        most = self._most()
        width = 1 << max(items - 1, 0).bit_length()
        chosen = torch.nn.functional.pad(torch.where(self.possible, logits, NEVER).double(), (0, width - items), value=NEVER)
        tables = [torch.stack([torch.zeros_like(chosen), chosen], -1)]  # (*batch, width, 2)
        while tables[-1].shape[-2] > 1:
            tables.append(_log_convolution(tables[-1][..., 0::2, :], tables[-1][..., 1::2, :], most))
        return tables


def _log_convolution(left: Tensor, right: Tensor, most: int) -> Tensor:
    """`out_j = log sum_a exp(left_a + right_(j - a))` for `j <= most`.  # (..., p), (..., p) -> (..., q)"""
    size = left.shape[-1]
    out = torch.arange(min(2 * size - 1, most + 1), device=left.device).unsqueeze(-1)
    rest = out - torch.arange(size, device=left.device)  # (q, p)
    terms = left.unsqueeze(-2) + right[..., rest.clamp(0, size - 1)]
    return torch.where((rest >= 0) & (rest < size), terms, NEVER).logsumexp(-1)


@register_kl(KSubset, KSubset)
def _kl_k_subset(p: KSubset, q: KSubset) -> Tensor:
    """`<theta_p - theta_q, marginals_p> - log Z_p + log Z_q`; infinite where `q` cannot draw what `p` draws."""
    marginals = p.marginals
    divergence = ((p.logits - q.logits) * marginals).sum(-1) - p.log_partition + q.log_partition
    outside = ((marginals > 0) & p.possible & ~q.possible).any(-1) | (p._counts() != q._counts())
    return torch.where(outside, torch.inf, divergence)
