"""Random orders."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from ..solver import widened
from .common import NEVER, NO_SHAPE, NUMBERS, checked_logits, gumbel, transforms_active, validates, where_available

_MOST_ITEMS = 16
"""How many items a sum over all subsets is done for."""


class _Ranks(constraints.Constraint):
    """The numbers `1 .. m` in some order on the `m` items that exist, and zero elsewhere."""

    is_discrete = True
    event_dim = 1

    def __init__(self, mask: Tensor | None):
        self.mask = mask

    def check(self, value: Tensor) -> Tensor:
        items = value.shape[-1]
        exists = torch.ones(items, dtype=torch.bool, device=value.device) if self.mask is None else self.mask
        missing = items - exists.sum(-1, keepdim=True)
        expected = (torch.arange(1, items + 1, device=value.device) - missing).clamp_min(0)
        return (value.sort(-1).values == expected).all(-1) & ((value > 0) == exists).all(-1)

    def __repr__(self) -> str:
        return "Ranks()"


class PlackettLuce(Distribution):
    """Random rank vectors: items are drawn one by one with chances `softmax(logits)` among those left (Plackett, 1975).

    The item drawn first has the highest rank, as in the solver `Ranking`, of which this is the law under Gumbel noise:
    `PlackettLuce(theta).sample()` is `Ranking()(theta + gumbel)`. `log_prob` and `mean` are exact for any size; `entropy`,
    `rank_probabilities` and the Kullback-Leibler divergence sum over all subsets, for at most 16 items.

    Args:
        logits: `(*batch, n)`, kept normalised like those of `torch.distributions.Categorical`.
        mask: `(*batch, n)` bool, False for items that do not exist; they have rank 0 and their logits may be anything.

    Shapes: samples `(*S, *batch, n)`, rank vectors in the dtype of the logits.

    >>> import torch
    >>> PlackettLuce(torch.tensor([0.0, 0.0, 0.0])).log_prob(torch.tensor([3.0, 1.0, 2.0])).exp()
    tensor(0.1667)
    """

    arg_constraints = {"logits": NUMBERS}
    has_enumerate_support = True

    def __init__(self, logits: Tensor, mask: Tensor | None = None, validate_args: bool | None = None):
        logits, self.mask = checked_logits("PlackettLuce", logits, mask)
        self.logits = logits
        super().__init__(logits.shape[:-1], logits.shape[-1:], validates(validate_args))
        if self._validate_args and logits.isinf().any():
            raise ValueError("PlackettLuce: some logits are infinite; use finite ones, and `mask` for items that do not exist.")
        self.logits = where_available(self.mask, logits - self._filled().logsumexp(-1, keepdim=True), 0)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PlackettLuce:
        new = self._get_checked_instance(PlackettLuce, _instance)
        batch_shape = torch.Size(batch_shape)
        new.logits = self.logits.expand(batch_shape + self.event_shape)
        new.mask = None if self.mask is None else self.mask.expand(batch_shape + self.event_shape)
        super(PlackettLuce, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def uniform(self) -> PlackettLuce:
        """The uniform distribution over the same orders, for `kl_divergence(self, self.uniform())`."""
        return PlackettLuce(torch.zeros_like(self.logits), self.mask, self._validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return _Ranks(self.mask)

    @property
    def mean(self) -> Tensor:
        """Expected ranks: one, and the chance to be drawn before each of the others.  # (*batch, n)"""
        wins = torch.sigmoid(self.logits.unsqueeze(-1) - self.logits.unsqueeze(-2))
        if self.mask is not None:
            wins = torch.where(self.mask.unsqueeze(-2), wins, 0)
        return where_available(self.mask, wins.sum(-1) + 0.5, 0)  # the chance against itself counts one half

    @property
    def mode(self) -> Tensor:
        """A most likely rank vector: that of the logits, the first of equal ones lower."""
        return self.ranks(self._filled())

    def log_prob(self, value: Tensor) -> Tensor:  # (*S, *batch, n) -> (*S, *batch)
        if self._validate_args and not transforms_active():
            self._validate_sample(value)
        value, logits = torch.broadcast_tensors(value, self._filled())
        last_first = value.argsort(-1)
        logits = logits.gather(-1, last_first)
        terms = logits - logits.logcumsumexp(-1)
        return torch.where(value.gather(-1, last_first) > 0, terms, 0).sum(-1)

    def ranks(self, scores: Tensor) -> Tensor:
        """The rank vectors of perturbed scores, zero outside the mask.  # (*S, *batch, n) -> (*S, *batch, n)"""
        return ranks(scores, self.mask).to(self.logits.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Any = NO_SHAPE) -> Tensor:
        """Ranks of the logits under Gumbel noise (Yellott, 1977).  # -> (*S, *batch, n)"""
        logits = widened(self.logits)
        return self.ranks(logits + gumbel(logits, self._extended_shape(sample_shape)))

    def entropy(self) -> Tensor:
        """The entropy, by the chain rule over the sets of items left.  # (*batch)"""
        reached, choice = self._subsets()
        return -(reached.unsqueeze(-1) * choice.exp() * choice).sum((-2, -1))

    @property
    def rank_probabilities(self) -> Tensor:
        """The chance of item `i` to have rank `r + 1`, doubly stochastic without a mask.  # (*batch, n, n)"""
        reached, choice = self._subsets()
        members = _members(self.event_shape[0], self.logits.device)
        flow = reached.unsqueeze(-1) * choice.exp() * members  # (*batch, 2^n, n)
        rank = torch.nn.functional.one_hot((members.sum(-1).long() - 1).clamp_min(0), self.event_shape[0]).to(flow)
        return torch.einsum("...si,sr->...ir", flow, rank)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All rank vectors; without a mask only.  # -> (n!, *batch, n)"""
        if self.mask is not None:
            raise NotImplementedError("PlackettLuce: instances with a mask have different supports.")
        items = self.event_shape[0]
        orders = list(itertools.permutations(range(1, items + 1)))
        values = torch.tensor(orders, dtype=self.logits.dtype, device=self.logits.device)
        values = values.view(math.factorial(items), *[1] * len(self.batch_shape), items)
        return values.expand(-1, *self.batch_shape, items) if expand else values

    def _filled(self) -> Tensor:
        return where_available(self.mask, self.logits, NEVER)

    def _subsets(self) -> tuple[Tensor, Tensor]:
        """Chances that just a set of items is left, and log-chances of its members to be drawn next.

        Shapes: (*batch, 2^n) and (*batch, 2^n, n). Sets are numbered by their bits. Log-chances of what is not in the set are
        zero, and so is the chance of a set that cannot be reached.
        """
        items = self.event_shape[0]
        if items > _MOST_ITEMS:
            raise NotImplementedError(
                f"PlackettLuce: this sums over all subsets of {items} items; at most {_MOST_ITEMS} are allowed. Estimate "
                f"it from samples, for instance the entropy as `-d.log_prob(d.sample((1000,))).mean(0)`."
            )
        members = _members(items, self.logits.device)
        inside = members.bool() if self.mask is None else members.bool() & self.mask.unsqueeze(-2)
        weights = torch.where(inside, self.logits.unsqueeze(-2), NEVER)
        choice = torch.where(inside, weights - weights.logsumexp(-1, keepdim=True), 0)  # (*batch, 2^n, n)
        chance = torch.where(inside, choice.exp(), 0)
        return self._reached(chance), torch.where(inside, choice, 0)

    def _reached(self, chance: Tensor) -> Tensor:
        """The chance of each set to be what is left at some time.  # (*batch, 2^n, n) -> (*batch, 2^n)"""
        items, device = self.event_shape[0], self.logits.device
        bits = 1 << torch.arange(items, device=device)
        exists = torch.ones_like(chance[..., 0, :], dtype=torch.bool) if self.mask is None else self.mask
        everything = (exists.long() * bits).sum(-1, keepdim=True)  # (*batch, 1)
        sets = torch.arange(1 << items, device=device)
        reached = (sets == everything).to(chance)  # (*batch, 2^n)
        size = _members(items, device).sum(-1)
        for left in range(items - 1, 0, -1):
            small = sets[size == left]
            larger = small.unsqueeze(-1) | bits  # (sets, n), itself where the item is in the set
            added = larger != small.unsqueeze(-1)
            index = (larger * items + torch.arange(items, device=device)).flatten()
            flow = reached[..., larger.flatten()] * chance.flatten(-2)[..., index]
            gain = torch.where(added, flow.unflatten(-1, larger.shape), 0).sum(-1)
            reached = reached.index_add(-1, small, gain)
        return reached


def ranks(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Rank vectors, integers, zero outside the mask.  # (*S, *batch, n) -> (*S, *batch, n)"""
    order = where_available(mask, scores, -torch.inf).argsort(dim=-1, stable=True)
    places = torch.arange(1, scores.shape[-1] + 1, device=order.device).expand_as(order)
    out = torch.empty_like(order).scatter(-1, order, places)
    return out if mask is None else torch.where(mask, out - (~mask).sum(-1, keepdim=True), 0)


def _members(items: int, device: torch.device) -> Tensor:
    """The indicator of every set of items, by its number.  # (2^n, n)"""
    sets = torch.arange(1 << items, device=device)
    return (sets.unsqueeze(-1) >> torch.arange(items, device=device)) & 1


@register_kl(PlackettLuce, PlackettLuce)
def _kl_plackett_luce(p: PlackettLuce, q: PlackettLuce) -> Tensor:
    """The chain rule: divergences between the next draws, weighed by the chance of what is left under `p`."""
    masks = [torch.ones_like(d.logits, dtype=torch.bool) if d.mask is None else d.mask for d in (p, q)]
    if (p.mask is not None or q.mask is not None) and not torch.equal(*torch.broadcast_tensors(*masks)):
        raise ValueError("kl_divergence(PlackettLuce, PlackettLuce): the masks differ, so the orders are of different items.")
    reached, ours = p._subsets()
    _, theirs = q._subsets()
    return (reached.unsqueeze(-1) * ours.exp() * (ours - theirs)).sum((-2, -1))
