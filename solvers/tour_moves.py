"""Short tours by local search in batched torch, on any device: the same search as `kernels/tour_search.cpp`.

All searches of all instances make their best move at the same time, until none has one left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.held_karp import INVALID, NOTHING_FOUND, SOLVED, Tours

GAIN = 1e-12
"""A move gains at least this times the number of cities and the largest cost, which rounding cannot pretend."""
LONGEST = 3
"""The most cities that a move puts elsewhere."""


def short_tours(costs: Tensor, starts: int) -> Tours:
    """A short tour of each instance, the best of `starts` searches.  # (B, n, n) -> Tours

    `costs`, float64, are of a step from the row to the column, infinite where there is none; there are 2 cities at least.

    Sources: G. A. Croes, "A method for solving traveling-salesman problems", Operations Research 6 (1958); I. Or, thesis,
    Northwestern University (1976).
    """
    count, n, _ = costs.shape
    starts = min(starts, n)
    diagonal = torch.eye(n, dtype=torch.bool, device=costs.device)
    costs = costs.masked_fill(diagonal, 0)
    forbidden = costs == torch.inf
    valid = (costs > -torch.inf).all(2).all(1)
    largest = torch.where(costs.isfinite(), costs.abs(), 0).amax((1, 2))
    never = 2 * n * largest + 1
    finite = torch.where(forbidden, never[:, None, None], costs).nan_to_num(neginf=0.0)
    threshold = GAIN * n * torch.where(forbidden.any(2).any(1), never, largest)
    search = torch.arange(count, device=costs.device).repeat_interleave(starts)
    first = torch.arange(starts, device=costs.device).repeat(count) * n // starts
    tours = _nearest(finite, search, first)
    open_ = torch.arange(len(tours), device=costs.device)
    while len(open_):
        tours[open_], moved = _improve(finite[search[open_]], tours[open_], threshold[search[open_]])
        open_ = open_[moved]
    lengths = _lengths(finite, search, tours).reshape(count, starts)
    best = torch.where(lengths == lengths.amin(1, keepdim=True), torch.arange(starts, device=costs.device), starts).amin(1)
    order = tours.reshape(count, starts, n)[torch.arange(count, device=costs.device), best]
    found = ~forbidden[torch.arange(count, device=costs.device)[:, None], order, order.roll(-1, 1)].any(1)
    status = torch.where(valid, torch.where(found, SOLVED, NOTHING_FOUND), INVALID)
    return Tours(order, None if bool((status == SOLVED).all()) else status)


def _nearest(costs: Tensor, search: Tensor, first: Tensor) -> Tensor:
    """Tours that go on to the nearest city that is left, the lowest of equals.  # (B, n, n), (R,), (R,) -> (R, n)"""
    n = costs.shape[1]
    city = torch.arange(n, device=costs.device)
    left = torch.ones(len(first), n, dtype=torch.bool, device=costs.device)
    tour = [first]
    for _ in range(n - 1):
        left.scatter_(1, tour[-1][:, None], False)
        row = torch.where(left, costs[search, tour[-1]], torch.inf)
        tour.append(torch.where(row == row.amin(1, keepdim=True), city, n).amin(1))
    return torch.stack(tour, 1)


def _lengths(costs: Tensor, search: Tensor, tours: Tensor) -> Tensor:
    """# (B, n, n), (R,), (R, n) -> (R,)"""
    return costs[search[:, None], tours, tours.roll(-1, 1)].cumsum(1)[:, -1]


def _improve(costs: Tensor, tours: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Makes the best move of each tour; says where there was one.  # (R, n, n), (R, n), (R,) -> (R, n), (R,)"""
    n = tours.shape[1]
    ahead = costs.gather(1, tours[:, :, None].expand(-1, -1, n)).gather(2, tours[:, None, :].expand(-1, n, -1))
    best, code = -threshold, torch.full_like(tours[:, 0], -1)
    for kind in range(1 + 2 * max(0, min(LONGEST, n - 3))):
        deltas = (_turns(ahead) if kind == 0 else _shifts(ahead, (kind + 1) // 2, kind % 2 == 0)).flatten(1)
        least = deltas.amin(1)
        place = torch.where(deltas == least[:, None], torch.arange(n * n, device=tours.device), n * n).amin(1)
        code = torch.where(least < best, kind * n * n + place, code)
        best = best.minimum(least)
    moved = code >= 0
    return torch.where(moved[:, None], tours.gather(1, _places(code.clamp_min(0), n)), tours), moved


def _edges(ahead: Tensor) -> tuple[Tensor, Tensor]:
    """Costs from each place to the next, and back.  # (R, n, n) -> (R, n), (R, n)"""
    n = ahead.shape[1]
    place = torch.arange(n, device=ahead.device)
    return ahead[:, place, (place + 1) % n], ahead[:, (place + 1) % n, place]


def _turns(ahead: Tensor) -> Tensor:
    """What turning round places i + 1, ..., k adds; infinite unless i < k.  # (R, n, n) -> (R, n, n)"""
    n = ahead.shape[1]
    edge, reverse = _edges(ahead)
    turned = torch.nn.functional.pad((reverse - edge).cumsum(1), (1, 0))
    slope = turned[:, :n] - edge
    deltas = ((ahead + ahead.roll((-1, -1), (1, 2))) + slope[:, None, :]) - (edge + turned[:, 1:])[:, :, None]
    return deltas.masked_fill(torch.ones(n, n, dtype=torch.bool, device=ahead.device).tril(), torch.inf)


def _shifts(ahead: Tensor, length: int, turn: bool) -> Tensor:
    """What moving the `length` cities after place i to between places k and k + 1 adds.  # (R, n, n) -> (R, n, n)"""
    n = ahead.shape[1]
    edge, reverse = _edges(ahead)
    place = torch.arange(n, device=ahead.device)
    saved = (edge + edge.roll(-length, 1)) - ahead[:, place, (place + length + 1) % n]
    if turn:
        change = torch.zeros_like(saved)
        for k in range(1, length):
            change = change + (reverse - edge).roll(-k, 1)
        saved = saved - change
    head, tail = ahead.roll(-1, 1), ahead.roll(-length, 1)
    head_in, tail_in = ahead.mT.roll(-1, 1), ahead.mT.roll(-length, 1)
    to, onward = (tail_in, head) if turn else (head_in, tail)
    deltas = ((to + onward.roll(-1, 2)) - edge[:, None, :]) - saved[:, :, None]
    return deltas.masked_fill((place[None, :] - place[:, None]) % n <= length, torch.inf)


def _places(code: Tensor, n: int) -> Tensor:
    """Which place of the old tour each place of the new one comes from.  # (R,) -> (R, n)"""
    kind, i, k = (column[:, None] for column in (code // (n * n), code // n % n, code % n))
    place = torch.arange(n, device=code.device)
    turned = torch.where((place > i) & (place <= k), i + 1 + k - place, place)
    length, target = (kind + 1) // 2, (k - i) % n
    moved = target - length  # how many places the cities move on; places count from i
    since = place - moved - 1
    moving = torch.where(kind % 2 == 0, length - since, since + 1)
    shifted = torch.where(place > target, place, torch.where(since >= 0, moving, place + length))
    shifted = torch.where(place == 0, 0, shifted)
    return torch.where(kind == 0, turned, (shifted + i) % n)
