"""Best sequences and alignments in batched torch, on any device: the same answers, bit for bit, as the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels.alignment import Alignments
from .kernels.viterbi import INFEASIBLE, INVALID, SOLVED, States


def best_states(unary: Tensor, transitions: Tensor, mask: Tensor | None, lengths: Tensor) -> States:
    """The best sequence of states of each chain.  # (B, T, S), (B, S, S) or (B, T-1, S, S), (B, T, S), (B,) -> States"""
    count, steps, states = unary.shape
    unary = unary if mask is None else torch.where(mask, unary, -torch.inf)
    used = torch.arange(steps, device=unary.device) < lengths[:, None]
    values = [unary[:, 0]]
    for step in range(1, steps):
        before = values[-1][:, :, None] + _transition(transitions, step)
        values.append(torch.where(used[:, step, None], before.amax(1) + unary[:, step], values[-1]))
    state, reached = _best(values[-1])
    found = [state]
    for step in range(steps - 1, 0, -1):
        last = state[:, None, None].expand(-1, states, 1)
        column = _transition(transitions, step).expand(count, -1, -1).gather(2, last)[:, :, 0]
        state = torch.where(used[:, step], _best(values[step - 1] + column)[0], state)
        found.append(state)
    valid = ~((unary == torch.inf).any(2) & used).any(1) & ~_too_good(transitions, used)
    status = torch.where(valid, torch.where(reached, SOLVED, INFEASIBLE), INVALID)
    taken, made = _marked(torch.stack(found[::-1], 1), used & (status == SOLVED)[:, None], unary, transitions)
    return States(taken, made, None if bool((status == SOLVED).all()) else status)


def _marked(state: Tensor, used: Tensor, unary: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """The states and transitions of sequences.  # (B, T), (B, T), ... -> the shapes of the scores"""
    taken = torch.zeros_like(unary).scatter_(2, state[:, :, None], used[:, :, None].to(unary.dtype))
    pair = state[:, :-1] * unary.shape[2] + state[:, 1:]
    made = used[:, 1:].to(unary.dtype)
    counts = torch.zeros_like(transitions, memory_format=torch.contiguous_format).flatten(-2)
    if transitions.ndim == 3:
        counts.scatter_add_(1, pair, made)
    else:
        counts.scatter_(2, pair[:, :, None], made[:, :, None])
    return taken, counts.reshape(transitions.shape)


def _transition(transitions: Tensor, step: int) -> Tensor:
    """Scores of going to `step`.  # -> (B, S, S)"""
    return transitions if transitions.ndim == 3 else transitions[:, step - 1]


def _too_good(transitions: Tensor, used: Tensor) -> Tensor:
    """Which chains use transitions among which there is plus infinity.  # (B, S, S) or (B, T-1, S, S), (B, T) -> (B,)"""
    infinite = (transitions == torch.inf).flatten(-2).any(-1)
    return ((infinite[:, None] if infinite.ndim == 1 else infinite) & used[:, 1:]).any(1)


def _best(values: Tensor) -> tuple[Tensor, Tensor]:
    """The state of greatest value, the lowest of equal ones, and whether there is any.  # (B, S) -> (B,), (B,)"""
    most = values.amax(1, keepdim=True)
    state = torch.arange(values.shape[1], device=values.device)
    return torch.where(values == most, state, len(state) - 1).amin(1), most[:, 0] > -torch.inf


def align(costs: Tensor, mask: Tensor | None = None, start: Tensor | None = None, end: Tensor | None = None) -> Alignments:
    """The cheapest path of each matrix, diagonal after diagonal.  # (B, n, m), (B, n, m), (B, 2), (B, 2) -> Alignments"""
    count, height, width = costs.shape
    start = torch.zeros(count, 2, dtype=torch.int64, device=costs.device) if start is None else start
    end = torch.tensor([height - 1, width - 1], device=costs.device).expand(count, 2) if end is None else end
    costs = costs if mask is None else torch.where(mask, costs, torch.inf)
    totals = _totals(costs, start)
    instance = torch.arange(count, device=costs.device)
    row, column = end.unbind(1)
    reached = totals[instance, row + 1, column + 1] < torch.inf
    solution = torch.zeros(count, height * width, dtype=costs.dtype, device=costs.device)
    for _ in range(height + width - 1):
        solution.scatter_(1, (row * width + column)[:, None], 1)
        both, down, right = (totals[instance, row + i, column + k] for i, k in ((0, 0), (0, 1), (1, 0)))
        left = (row != start[:, 0]) | (column != start[:, 1])
        diagonal = (both <= down) & (both <= right)
        vertical = diagonal | (down <= right)
        row = (row - (vertical & left).long()).clamp_min(0)  # only where there is no path would it leave the matrix
        column = (column - ((diagonal | ~vertical) & left).long()).clamp_min(0)
    valid = (costs > -torch.inf).flatten(1).all(1)
    status = torch.where(valid, torch.where(reached, SOLVED, INFEASIBLE), INVALID)
    solution = torch.where((status == SOLVED)[:, None], solution, 0).reshape(costs.shape)
    return Alignments(solution, None if bool((status == SOLVED).all()) else status)


def _totals(costs: Tensor, start: Tensor) -> Tensor:
    """The cost of the best path to each cell, with a border of infinities.  # (B, n, m), (B, 2) -> (B, n + 1, m + 1)"""
    count, height, width = costs.shape
    totals = costs.new_full((count, height + 1, width + 1), torch.inf)
    for diagonal in range(height + width - 1):
        rows = torch.arange(max(0, diagonal - width + 1), min(height, diagonal + 1), device=costs.device)
        columns = diagonal - rows
        before = totals[:, rows, columns].minimum(totals[:, rows, columns + 1]).minimum(totals[:, rows + 1, columns])
        begins = (rows == start[:, :1]) & (columns == start[:, 1:])
        totals[:, rows + 1, columns + 1] = costs[:, rows, columns] + torch.where(begins, 0, before)
    return totals
