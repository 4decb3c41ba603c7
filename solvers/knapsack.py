"""Knapsacks: the most valuable items whose weights stay within a capacity, in one dimension or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Solver

from . import packing
from .common import check_given, check_mask, in_type_of, native
from .kernels import knapsack as kernel
from .kernels import library, usable


def _as_tuple(data: Any) -> Any:
    """Numbers in nested sequences, an array or a tensor as nested tuples, which compare and hash."""
    data = data.tolist() if hasattr(data, "tolist") else data
    return tuple(_as_tuple(one) for one in data) if isinstance(data, (list, tuple)) else data


def _keep_tuples(solver: Solver, *names: str) -> None:
    """Makes tuples of the fields of a solver that are not None."""
    for name in names:
        numbers = _as_tuple(getattr(solver, name))
        try:
            torch.tensor(() if numbers is None else numbers)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{type(solver).__name__}: {name} makes no array of numbers. {error}") from error
        object.__setattr__(solver, name, numbers)


@dataclass(frozen=True)
class KnapsackProblem(Solver):
    """What knapsacks share: weights and capacities of all instances, or of each."""

    weights: Any = None
    capacity: Any = None

    def __post_init__(self) -> None:
        _keep_tuples(self, "weights", "capacity")

    def decode(self, y: Tensor, **instance: Tensor) -> list[Tensor]:
        """The numbers of the items taken.  # (B, n) -> B tensors"""
        return [one.nonzero()[:, 0] for one in y]

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Packings differ in every item.  # (*S, B, n) -> (*S, B, n)"""
        return direction if mask is None else torch.where(mask, direction, 0)

    def _pack(self, scores: Tensor, weights: Tensor, capacity: Tensor, integer: bool, mask: Tensor | None) -> Tensor:
        """The best 0/1 packings, by the compiled kernel, or in torch where it cannot serve.  # (B, n) -> (B, n)"""
        values = native(self, scores)
        if not values.numel():
            return torch.zeros_like(scores)
        self._check_values(values, mask)
        if usable(values):
            return kernel.pack(values, weights, capacity, integer, mask).to(scores.dtype)
        if not integer and library() is not None:  # a search is no work for a GPU
            mask = None if mask is None else mask.cpu()
            return kernel.pack(values.cpu(), weights.cpu(), capacity.cpu(), integer, mask).to(scores)
        return packing.pack(values, weights, capacity, integer, mask).to(scores.dtype)

    def _check_values(self, values: Tensor, mask: Tensor | None) -> None:
        most = values.amax(1) if mask is None else values.masked_fill(~mask, 0).amax(1)
        infinite = most == torch.inf
        if infinite.any():
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(infinite)} has an infinite value ({int(infinite.sum())} of "
                f"{len(most)} instances), which would outweigh everything. Minus infinity forbids an item.",
                infinite,
            )

    def _data(
        self, scores: Tensor, weights: Tensor | None, capacity: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, bool]:
        """Weights `(B, n, d)` and capacities `(B, d)` in float64, and whether weights are integers."""
        check_mask(self, scores, mask)
        given = self._each("weights", weights, scores)
        room = self._each("capacity", capacity, scores)
        count, n = scores.shape
        if given.ndim not in (2, 3) or given.shape[:2] != (count, n):
            raise ValueError(
                f"{type(self).__name__}: `weights` have shape {tuple(given.shape)} for scores of shape {tuple(scores.shape)}; "
                f"expected {(count, n)}, or {(count, n)} and as many entries as there are dimensions (as a field: without the "
                f"first {count})."
            )
        if room.shape != (count, *given.shape[2:]):
            raise ValueError(
                f"{type(self).__name__}: `capacity` has shape {tuple(room.shape)} but the weights {tuple(given.shape)}; "
                f"expected {(count, *given.shape[2:])}, a capacity for each dimension (as a field: without the first {count})."
            )
        integer = not given.is_floating_point()
        given, room = given.double(), room.double()
        given = given.unsqueeze(2) if given.ndim == 2 else given
        room = room.unsqueeze(1) if room.ndim == 1 else room
        if mask is not None:
            given = given.where(mask.unsqueeze(2), 0)
        self._refuse_negative("capacity", room)
        self._refuse_negative("weights", given)
        return given, room, integer

    def _each(self, name: str, given: Tensor | None, scores: Tensor) -> Tensor:
        """What each instance has: its own data, or the field that all share."""
        check_given(self, name, given)
        if given is not None:
            return given
        one = torch.tensor(getattr(self, name), device=scores.device)
        one = one.double() if one.is_floating_point() and one.numel() else one.long()
        return one.expand(len(scores), *one.shape)

    def _refuse_negative(self, name: str, data: Tensor) -> None:
        wrong = ~(data >= 0).flatten(1).all(1)  # NaN is wrong too
        if wrong.any():
            first = first_instance(wrong)
            least = data[first].min().item()
            what = "negative capacity" if name == "capacity" else "negative weights"
            raise InfeasibleError(
                f"{type(self).__name__}: instance {first} has {what if least < 0 else f'NaN in {name}'} ({least:g}; "
                f"{int(wrong.sum())} of {len(wrong)} instances). Weights and capacities are 0 or greater.",
                wrong,
            )


@dataclass(frozen=True)
class Knapsack(KnapsackProblem):
    """The most valuable set of items that fits, known as the 0-1 knapsack; in several dimensions the multidimensional one.

    Maximises `<scores, y>` over 0/1 vectors with `sum_i weights_ik y_i <= capacity_k` for every dimension k. Shapes:
    `(B, n) -> (B, n)`. Items of no or negative value are left.

    Args:
        weights: what all instances share: a number for each item, or for each item one for each dimension.
        capacity: what all instances share: a number, or one for each dimension.

    Instance data: `weights` (B, n) or (B, n, d) and `capacity` (B,) or (B, d), in place of the fields; `mask` (B, n), False
    for an item that is not there. Raises InfeasibleError, naming the instance, for a negative capacity or weight.

    Weights of an integer type are solved by dynamic programming, in time and memory that grow with n times the (product of the)
    capacities, unless that is beyond 2**28 (or 2**24 without n); values are summed in the dtype of the scores, so sets are
    optimal up to that rounding. Other weights are solved by branch and bound in float64, where they fit if they exceed the
    capacity by no more than 1e-12 of it, as rounding may: as a rule fast, in the worst case exponential in n. Round and scale
    real weights to integers where that matters. As branch and bound is mostly over long before a large table is filled, the
    compiled kernel tries it first on integers with such a table, for about as long as the table would take. Ties: in dynamic
    programming an item is taken only if the items before it do not do as well without it; in branch and bound the set is always
    the same, but not specified.

    >>> solver = Knapsack(weights=(2, 3, 4), capacity=6)
    >>> y = solver(torch.tensor([[3.0, 4.0, 5.0], [1.0, 9.0, 2.0]]))
    >>> y
    tensor([[1., 0., 1.],
            [1., 1., 0.]])
    >>> solver.decode(y)
    [tensor([0, 2]), tensor([0, 1])]

    Source: R. Bellman, "Dynamic Programming" (1957); P. J. Kolesar, "A branch and bound algorithm for the knapsack problem",
    Management Science 13 (1967).
    """

    sense = "max"
    binary = True

    def solve(
        self, scores: Tensor, weights: Tensor | None = None, capacity: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The best sets.  # (B, n), (B, n) or (B, n, d), (B,) or (B, d), (B, n) -> (B, n)"""
        return self._pack(scores, *self._data(scores, weights, capacity, mask), mask)


@dataclass(frozen=True)
class BoundedKnapsack(KnapsackProblem):
    """The most valuable packing with several copies of each item: Knapsack with whole numbers up to `limits` in place of 0/1.

    Maximises `<scores, y>` over integer vectors with `0 <= y_i <= limits_i` and `sum_i weights_ik y_i <= capacity_k`.

    Args:
        weights, capacity: as in Knapsack.
        limits: what all instances share: how many copies there are of each item.

    Instance data: as in Knapsack, and `limits` (B, n), integers. Raises InfeasibleError, naming the instance, for negative
    limits as well. An item with m copies counts as about log2(m) items, of 1, 2, 4, ... copies.

    >>> BoundedKnapsack(weights=(2, 3), capacity=8, limits=(2, 9))(torch.tensor([[3, 4]]))
    tensor([[1, 2]])
    """

    limits: Any = None

    sense = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        _keep_tuples(self, "limits")

    def solve(
        self,
        scores: Tensor,
        weights: Tensor | None = None,
        capacity: Tensor | None = None,
        limits: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The best packings.  # (B, n), (B, n) or (B, n, d), (B,) or (B, d), (B, n), (B, n) -> (B, n)"""
        load, room, integer = self._data(scores, weights, capacity, mask)
        copies = self._bundles(self._copies(scores, limits, mask, load, room))
        count, n, kinds = copies.shape
        values = torch.where(copies > 0, native(self, scores).unsqueeze(2) * copies, 0).flatten(1)
        load = (load.unsqueeze(2) * copies.clamp_min(1).unsqueeze(3)).flatten(1, 2)  # an infinite weight stays one
        chosen = self._pack(values, load, room, integer, (copies > 0).flatten(1))
        return in_type_of(self, (chosen.reshape(count, n, kinds) * copies).sum(2), scores)

    def _copies(self, scores: Tensor, limits: Tensor | None, mask: Tensor | None, load: Tensor, room: Tensor) -> Tensor:
        """How many copies of each item there can be in a packing.  # (B, n)"""
        given = self._each("limits", limits, scores)
        if given.shape != scores.shape or given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(
                f"BoundedKnapsack: `limits` are {given.dtype} of shape {tuple(given.shape)}; expected integers of shape "
                f"{tuple(scores.shape)}, a number of copies for each item."
            )
        given = given.long() if mask is None else given.long().where(mask, 0)
        wrong = (given < 0).any(1)
        if wrong.any():
            raise InfeasibleError(
                f"BoundedKnapsack: instance {first_instance(wrong)} has negative limits ({int(wrong.sum())} of {len(wrong)} "
                f"instances). An item that is not there has limit 0.",
                wrong,
            )
        binding = (load > 0) & room.isfinite().unsqueeze(1)
        fitting = (room.unsqueeze(1) / load).where(binding, torch.inf).amin(2)
        return given.double().minimum(fitting.floor() + 1).long()  # one more than may fit, since the quotient is rounded

    @staticmethod
    def _bundles(limits: Tensor) -> Tensor:
        """1, 2, 4, ... copies and what is left over: some of them make up any number up to the limit.  # (B, n) -> (B, n, K)"""
        kinds = int(limits.max()).bit_length() if limits.numel() else 0
        power = 2 ** torch.arange(kinds, device=limits.device)
        return (limits.unsqueeze(2) - power + 1).minimum(power).clamp_min(0)
