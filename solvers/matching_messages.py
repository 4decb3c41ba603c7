"""Bounds on graph matchings by messages between vertices and pairs of vertices, in plain torch on any device.

Every two rows that edges join hold what two labels of theirs cost together; a label is a column, or nobody. The least that
each label costs there is moved to the costs of single pairs, whose assignment of least cost raises the bound; what is left of
them after its duals goes back to the pairs in equal shares. Nothing of this changes what a matching costs in total, and pairs
of rows never cost less than nothing, so the bound holds after any number of rounds, and no round lowers it.

Sources: P. Swoboda et al., "A study of Lagrangean decompositions and dual ascent solvers for graph matching", CVPR 2017;
L. Hutschenreiter et al., "Fusion moves for graph matching", ICCV 2021.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .assignment import Assignment
from .kernels.graph_matching import Problem
from .quadratic_form import Edges, Square, make_square

_ROUNDS = 50
_ENTRIES = 2**22  # costs of pairs of labels held at once


def message_bound(problem: Problem) -> Tensor:
    """The bound on the objective that messages prove, from the rows or from the columns, of graphs with edges.  # -> (B,)"""
    count, n, m = problem.scores.shape
    if problem.scores.numel() == 0:
        return problem.scores.new_zeros(count)
    assert problem.edges1 is not None
    assert problem.edges2 is not None
    held = max(problem.edges1.shape[2] * (m + 1) ** 2, problem.edges2.shape[2] * (n + 1) ** 2, 1)
    chunk = max(_ENTRIES // held, 1)
    bounds = []
    for start in range(0, count, chunk):
        part: dict[str, Any] = {k: v[start : start + chunk] for k, v in problem._asdict().items() if isinstance(v, Tensor)}
        some = problem._replace(**part)
        bounds.append(torch.maximum(_ascend(make_square(some)), _ascend(make_square(_turned(some)))))
    bound = torch.cat(bounds)
    return -bound if problem.maximize else bound


def _turned(problem: Problem) -> Problem:
    """The same with rows as columns."""
    assert problem.pairs is not None
    return problem._replace(
        scores=problem.scores.mT,
        mask=None if problem.mask is None else problem.mask.mT,
        edges1=problem.edges2,
        edges2=problem.edges1,
        pairs=problem.pairs.mT,
    )


class _Links(NamedTuple):
    """Pairs of rows that edges join, P at most, and what each two of their L labels cost together."""

    first: Tensor  # (B, P)
    second: Tensor  # (B, P)
    real: Tensor  # (B, P)
    costs: Tensor  # (B, P, L, L)

    def collect(self, last: bool) -> tuple[_Links, Tensor, Tensor]:
        """The links less what labels cost at least, and that, for both rows; half for one row first, or for the other.

        # -> (B, P, L), (B, P, L)
        """
        costs, (one, two) = self.costs, (2, 3) if last else (3, 2)
        costs, half = _take(costs, one, 0.5)
        costs, other = _take(costs, two, 1.0)
        costs, rest = _take(costs, one, 1.0)
        both = (other, half + rest) if last else (half + rest, other)
        return self._replace(costs=costs), *both

    def give(self, share: Tensor) -> _Links:
        """The links with a share of what each row's labels cost.  # (B, N, L)"""
        one, two = (torch.where(self.real.unsqueeze(2), _rows(share, at), 0.0) for at in (self.first, self.second))
        return self._replace(costs=self.costs + one.unsqueeze(3) + two.unsqueeze(2))

    def spread(self, first: Tensor, second: Tensor, size: int) -> Tensor:
        """What links have for their rows, summed for each row.  # (B, P, L), (B, P, L) -> (B, N, L)"""
        order = torch.arange(size, device=first.device)
        ends = (((at.unsqueeze(1) == order.unsqueeze(1)) & self.real.unsqueeze(1)) for at in (self.first, self.second))
        return sum(end.to(x.dtype) @ x for end, x in zip(ends, (first, second)))  # type: ignore[return-value]


def _take(costs: Tensor, dim: int, part: float) -> tuple[Tensor, Tensor]:
    """A part of the least along `dim`, taken away from the costs; nothing where all are infinite."""
    least = part * costs.amin(dim)
    least = torch.where(least.isfinite(), least, 0.0)
    return costs - least.unsqueeze(dim), least


def _rows(x: Tensor, at: Tensor) -> Tensor:  # (B, N, L), (B, P) -> (B, P, L)
    return x.gather(1, at.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _ascend(square: Square) -> Tensor:
    """A bound on the least cost.  # -> (B,)"""
    size = square.linear.shape[1]
    columns = torch.arange(size, device=square.linear.device)
    most = int(square.columns.max())
    label = torch.where(columns < square.columns[:, None], columns, most)  # of each column; all that stand for nobody have one
    label = label.unsqueeze(1).expand_as(square.linear)  # (B, N, N)
    single = torch.where(square.allowed, square.linear, torch.inf)
    links = _links(square, _by_label(single, label, most + 1).isfinite())
    ones = torch.ones_like(links.costs[..., 0])
    degree = links.spread(ones, ones, size)[..., :1]
    bound = single.new_zeros(len(single))
    for step in range(_ROUNDS):
        share = _by_label(single, label, most + 1) / degree
        share = torch.where(share.isfinite(), share, 0.0)
        links, first, second = links.give(share).collect(last=step % 2 == 1)
        single = single + (links.spread(first, second, size) - share * degree).gather(2, label)
        matching = Assignment()._match(torch.where(square.allowed, single, 0.0), square.allowed, duals=True)
        assert matching.duals is not None
        rows, prices = matching.duals
        bound = bound + rows.sum(1) + prices.sum(1)
        single = (single - rows.unsqueeze(2) - prices.unsqueeze(1)).clamp(min=0)
    return bound


def _by_label(single: Tensor, label: Tensor, labels: int) -> Tensor:
    """The least cost of the columns of each label, infinity for none.  # (B, N, N), (B, N, N) -> (B, N, L)"""
    empty = single.new_full((*single.shape[:2], labels), torch.inf)
    return empty.scatter_reduce(2, label, single, "amin")


def _links(square: Square, possible: Tensor) -> _Links:
    """The pairs of rows that edges join, with all that their edges cost.  # (B, N, L)"""
    assert isinstance(square.quadratic, Edges)
    quadratic = square.quadratic
    count, size, labels = possible.shape
    real1 = quadratic.source1.any(2)
    (i, source), (j, target) = quadratic.places
    key = torch.where(real1, torch.minimum(i, j) * size + torch.maximum(i, j), size**2)
    place, keys = _numbered(key, size**2)
    links = keys.shape[1]
    upward, source, target = (i < j).unsqueeze(2), source.unsqueeze(1), target.unsqueeze(1)
    of_both = torch.where(upward, source * labels + target, target * labels + source)  # the label of the lower row first
    at = torch.where(quadratic.real, place.unsqueeze(2) * labels**2 + of_both, links * labels**2)
    costs = quadratic.costs.new_zeros(count, links * labels**2 + 1)  # the last entry is for padding
    costs = costs.scatter_add(1, at.flatten(1), quadratic.costs.flatten(1))
    costs = costs[:, :-1].view(count, links, labels, labels)
    present = keys < size**2
    first, second = torch.where(present, keys // size, 0), torch.where(present, keys % size, 0)
    apart = ~torch.eye(labels, dtype=torch.bool, device=costs.device)
    apart[-1, -1] = True  # two rows may both have nobody
    allowed = _rows(possible, first).unsqueeze(3) & _rows(possible, second).unsqueeze(2) & apart
    return _Links(first, second, present, costs.masked_fill(present[:, :, None, None] & ~allowed, torch.inf))


def _numbered(keys: Tensor, none: int) -> tuple[Tensor, Tensor]:
    """The rank of each key among the different ones of its instance, and the keys by rank; `none` is no key, and the greatest.

    # (B, E) -> (B, E), (B, P)
    """
    ordered, order = keys.sort(dim=1)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = new.cumsum(1) - 1
    by_rank = torch.full_like(keys, none).scatter(1, rank, ordered)
    most = int((by_rank < none).sum(1).max())
    return torch.zeros_like(rank).scatter(1, order, rank), by_rank[:, :most]
