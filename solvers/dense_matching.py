"""Matchings among nodes that are all joined to each other, from matrices of scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from solverlayers.solver import Solver

from .common import check_mask, native
from .kernels.matching import ANY, PERFECT
from .matching import refuse_imperfect, refuse_infinite
from .matching_diagrams import complete_graph
from .matching_methods import match_shared
from .spanning_tree import check_square, pairs_in, remove_pair_mean


class MatrixMatching(Solver):
    """What matchings in matrices share."""

    event_dim = 2
    binary = True
    hull = "matchings of nodes"
    _kind: ClassVar[int]

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """The best matchings.  # (B, n, n), (B, n, n) -> (B, n, n)"""
        check_square(self, scores)
        check_mask(self, scores, mask)
        values, n = native(self, scores), scores.shape[1]
        if n == 0:
            return torch.zeros_like(scores)
        allowed = None if mask is None else pairs_in(mask)
        if allowed is not None and n % 2:  # one node more, as a partner for padding
            values, allowed = pad(values, (0, 1, 0, 1)), pad(allowed, (0, 1, 0, 1), value=False)
        graph = complete_graph(values.shape[1])
        above, below = (place.to(scores.device).expand(len(scores), -1) for place in _places(graph.nodes))
        flat, chosen = values.flatten(1), None
        costs = flat.gather(1, above) + flat.gather(1, below)
        if allowed is not None:
            row, column = graph.edges.to(scores.device)
            alone = ~allowed.any(2)
            beside = alone.index_select(1, row) & alone.index_select(1, column)  # padding is matched with padding, at no cost
            costs, chosen = costs.where(~beside, 0), allowed.flatten(1).gather(1, above) | beside
        pairs, failed = match_shared(graph, costs, self._kind, self.sense == "min", chosen)
        if failed is not None:
            relevant = pairs_in(torch.ones_like(scores, dtype=torch.bool) if mask is None else mask)
            refuse_infinite(self, scores.flatten(1), relevant.flatten(1))
            refuse_imperfect(self, failed, n if mask is None else None)
        pairs = pairs if allowed is None else pairs.where(~beside, 0)
        y = torch.zeros_like(flat).scatter_(1, above, pairs).scatter_(1, below, pairs).view(values.shape)
        return y[:, :n, :n].to(scores.dtype)

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The pairs of each matching, the lower node first.  # (B, n, n) -> B tensors (2, number)"""
        return [one.triu(1).nonzero().T for one in y]


@lru_cache(maxsize=64)
def _places(nodes: int) -> tuple[Tensor, Tensor]:
    """Where the pairs of nodes are above the diagonal of a matrix, and where below, row by row.  # (n (n - 1) / 2,) twice"""
    row, column = complete_graph(nodes).edges
    return row * nodes + column, column * nodes + row


@dataclass(frozen=True)
class DensePerfectMatching(MatrixMatching):
    """The matching of least cost that leaves none of n nodes out, all of which are joined to each other (Edmonds, 1965).

    Minimises `<scores, y>` over symmetric 0/1 matrices `y` with one 1 in each row, at (i, j) and (j, i) where nodes i and j are
    matched: that pair costs `scores[i, j] + scores[j, i]`, so scores need not be symmetric, and the diagonal has no meaning.
    Shapes: `(B, n, n) -> (B, n, n)`. See PerfectMatching for how it is solved; up to 16 nodes, on the device of the scores.

    Instance data: `mask` (B, n, n), False for pairs that are not joined; a pair needs both entries. Nodes that the mask joins
    to none are padding. An infinite cost takes a pair away too. Raises InfeasibleError, naming the instance, where there is no
    perfect matching, as when the number of nodes is odd; InstanceError for a cost of minus infinity; ValueError if matrices are
    not square.

    >>> DensePerfectMatching()(torch.tensor([[[0, 5, 2, 3], [5, 0, 3, 2], [2, 3, 0, 5], [3, 2, 5, 0]]]))
    tensor([[[0, 0, 1, 0],
             [0, 0, 0, 1],
             [1, 0, 0, 0],
             [0, 1, 0, 0]]])
    """

    sense = "min"
    constant_sum = True
    constant_norm = True
    _kind = PERFECT

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Made symmetric, less its mean over the pairs, 0 on the diagonal.  # (*S, B, n, n) -> (*S, B, n, n)"""
        return remove_pair_mean(direction, mask)


@dataclass(frozen=True)
class DenseMaxWeightMatching(MatrixMatching):
    """The matching of greatest score among n nodes, which may leave nodes out (Edmonds, 1965).

    It takes no pair of negative score. Maximises `<scores, y>`; see DensePerfectMatching for shapes and instance data. Minus
    infinity forbids a pair, and plus infinity raises InstanceError.

    >>> DenseMaxWeightMatching()(torch.tensor([[[0, 5, 2], [5, 0, 3], [2, 3, 0]]]))
    tensor([[[0, 1, 0],
             [1, 0, 0],
             [0, 0, 0]]])
    """

    sense = "max"
    _kind = ANY

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Made symmetric, 0 on the diagonal and outside the mask.  # (*S, B, n, n) -> (*S, B, n, n)"""
        shape = direction.shape[-3:]
        pairs = pairs_in(torch.ones(shape, dtype=torch.bool, device=direction.device) if mask is None else mask)
        return torch.where(pairs, (direction + direction.mT) / 2, 0)
