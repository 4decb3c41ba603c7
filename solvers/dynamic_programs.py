"""Problems that dynamic programming solves: best state sequences of chains, and alignments of two sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, first_instance
from solverlayers.solver import Solver

from . import chain_paths
from .common import alike, check_mask, in_type_of, may_follow, native, refuse, remove_mean
from .kernels import alignment, usable, viterbi
from .kernels.viterbi import INVALID


@dataclass(frozen=True)
class Viterbi(Solver):
    """The best sequence of states of each linear chain, as in hidden Markov models and conditional random fields.

    Maximises `sum_t unary[t, s_t] + sum_t transitions[s_t, s_t+1]`, with `unary (B, T, S)` and `transitions (B, S, S)`, or
    `(B, T-1, S, S)` where each step has its own, as two score tensors, so that gradients reach both. A solution is a tuple in
    the same shapes: which state each step has, and how often (at each step: whether) each transition is made. Transitions that
    all chains share are passed as `transitions.expand(B, S, S)`.

    `mask (B, T, S)`, boolean, is False for a state that a step may not have, and for all states of steps beyond the end of a
    chain. A score of minus infinity forbids, too. Raises InfeasibleError for a chain without a step or a possible sequence, or
    with a gap, InstanceError for plus infinity. Of equally good states the lowest is taken, at the last step first. Sums are
    formed in the dtype of the scores, those of integers in float64. Raises TypeError for transitions made more often than their
    dtype can count.

    >>> unary = torch.tensor([[[1.0, 0.0], [0.0, 0.5], [1.0, 0.0]]])
    >>> states, transitions = Viterbi()(unary, torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    >>> Viterbi().decode((states, transitions)), transitions
    ([[0, 0, 0]], tensor([[[2., 0.],
             [0., 0.]]]))

    Source: A. J. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm", IEEE
    Transactions on Information Theory 13 (1967).
    """

    event_dim = 2
    constant_sum = True
    hull = "sequences of states"

    def solve(self, unary: Tensor, transitions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Best sequences.  # (B, T, S), (B, S, S) or (B, T-1, S, S), (B, T, S) -> the shapes of the scores"""
        lengths = self._lengths(unary, transitions, mask)
        backend = viterbi if usable(unary, transitions) else chain_paths
        found = backend.best_states(*alike(native(self, unary), native(self, transitions)), mask, lengths)
        if found.status is not None:
            advice = "Scores of minus infinity and `mask` forbid states and transitions: allow more."
            refuse(self, found.status == INVALID, found.status != 0, "has no possible sequence", advice)
        return found.taken.to(unary.dtype), in_type_of(self, found.made, transitions)

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        """Of transitions, those between states that the mask allows one after the other."""
        mask = super().support(*shapes, **instance)[0]
        return (None, None) if mask is None else (mask, may_follow(mask, mask, len(shapes[1]) == 2))

    def tangent(self, unary: Tensor, transitions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Directions less their mean over the states of each step, and over the transitions of each step (or all)."""
        shared = transitions.ndim == unary.ndim
        flat = transitions.flatten(-2)
        if shared or mask is None:
            return remove_mean(unary, mask), remove_mean(flat, None).reshape(transitions.shape)
        pairs = mask[:, :-1, :, None] & mask[:, 1:, None, :]
        return remove_mean(unary, mask), remove_mean(flat, pairs.flatten(-2)).reshape(transitions.shape)

    def decode(self, y: tuple[Tensor, Tensor], **instance: Tensor) -> list[list[int]]:
        """The states of each chain in order.  # ((B, T, S), ...) -> B lists"""
        return [chain[chain.any(1)].to(torch.uint8).argmax(1).tolist() for chain in (y[0] != 0).cpu()]

    def _lengths(self, unary: Tensor, transitions: Tensor, mask: Tensor | None) -> Tensor:
        """How many steps each chain has.  # (B, T, S), ... -> (B,)"""
        if unary.ndim != 3 or unary.shape[1] * unary.shape[2] == 0:
            raise ValueError(
                f"Viterbi: the unary scores have shape {tuple(unary.shape)}; expected (B, T, S), with one step and one state "
                f"at least."
            )
        count, steps, states = unary.shape
        if transitions.shape not in ((count, states, states), (count, steps - 1, states, states)):
            raise ValueError(
                f"Viterbi: the transitions have shape {tuple(transitions.shape)}; with unary scores of shape "
                f"{tuple(unary.shape)} expected {(count, states, states)}, or {(count, steps - 1, states, states)} if each "
                f"step has its own."
            )
        check_mask(self, unary, mask)
        if mask is None:
            return torch.full((count,), steps, device=unary.device)
        used = mask.any(2)
        lengths = used.sum(1)
        last = torch.where(used, torch.arange(1, steps + 1, device=used.device), 0).amax(1)
        broken = (lengths == 0) | (last > lengths)
        if broken.any():
            first = first_instance(broken)
            gap = int(used[first].to(torch.uint8).argmin())
            wrong = "no step" if lengths[first] == 0 else f"no state for step {gap}, but for later ones,"
            raise InfeasibleError(
                f"Viterbi: instance {first} has {wrong} in its mask ({int(broken.sum())} of {count} instances). Steps whose "
                f"states are all False are padding, which stands at the end.",
                broken,
            )
        return lengths


@dataclass(frozen=True)
class DTW(Solver):
    """The cheapest alignment of two sequences: dynamic time warping.

    Minimises `<scores, y>` over the paths of cells of `scores (B, n, m)`, the costs of pairing element i of one sequence with
    element k of the other. A path goes from the first pair to the last by steps to the next element of one sequence, of the
    other, or of both; `y` is 1 on it. Costs may have any sign.

    `mask (B, n, m)`, boolean, is False for a pair that may not be made, such as those outside a band, and for padding; an
    infinite cost forbids, too. A path then goes from the first row and column with a pair to the last ones. Raises
    InfeasibleError where there is no path, InstanceError for a cost of minus infinity. Of equally cheap ways, read backwards,
    the step of both is taken, and then that of the first sequence. Sums are formed in the dtype of the scores, those of
    integers in float64.

    >>> costs = torch.tensor([[0.0, 2.0, 4.0], [0.0, 2.0, 4.0], [4.0, 0.0, 0.0]])[None]
    >>> DTW().decode(DTW()(costs))
    [[(0, 0), (1, 0), (2, 1), (2, 2)]]

    Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition", IEEE Transactions on
    Acoustics, Speech, and Signal Processing 26 (1978).
    """

    event_dim = 2
    hull = "alignments"
    sense = "min"
    binary = True

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Cheapest alignments.  # (B, n, m), (B, n, m) -> (B, n, m)"""
        check_mask(self, scores, mask)
        if scores.shape[1] * scores.shape[2] == 0:
            raise ValueError(
                f"DTW: scores have shape {tuple(scores.shape)}; expected (B, n, m), with one element in each sequence at least."
            )
        start, end = (None, None) if mask is None else _corners(mask)
        found = (alignment if usable(scores) else chain_paths).align(native(self, scores), mask, start, end)
        if found.status is not None:
            self._fail(found.status, mask)
        return found.solution.to(scores.dtype)

    def tangent(self, direction: Tensor, mask: Tensor | None = None) -> Tensor:
        """`direction` without the first and the last pair, which all paths share, and those that are not allowed."""
        free = torch.ones(direction.shape[-3:], dtype=torch.bool, device=direction.device) if mask is None else mask.clone()
        if free.numel():
            instance = torch.arange(len(free), device=free.device)
            for corner in _corners(free):
                free[instance, corner[:, 0], corner[:, 1]] = False
        return torch.where(free, direction, 0)

    def decode(self, y: Tensor, **instance: Tensor) -> list[list[tuple[int, int]]]:
        """The pairs (i, k) of each path in order.  # (B, n, m) -> B lists"""
        return [[(i, k) for i, k in path.nonzero().tolist()] for path in y.cpu()]

    def _fail(self, status: Tensor, mask: Tensor | None) -> None:
        failed = status != 0
        empty = mask is not None and not mask[first_instance(failed)].any()
        problem = "has no pair in its mask" if empty else "has no path from its first pair to its last"
        advice = "`mask` and infinite costs forbid pairs: allow more, such as a wider band."
        refuse(self, status == INVALID, failed, problem, advice)


def _corners(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last row and column in use, (0, 0) where none is.  # (B, n, m) -> (B, 2), (B, 2)"""
    first, last = [], []
    for used in (mask.any(2), mask.any(1)):
        place = torch.arange(used.shape[1], device=mask.device)
        last.append(torch.where(used, place, 0).amax(1))
        first.append(torch.where(used, place, used.shape[1]).amin(1) % used.shape[1])
    return torch.stack(first, 1), torch.stack(last, 1)
