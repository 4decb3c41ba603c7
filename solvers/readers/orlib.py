"""The OR-Library (J. E. Beasley, 1990): assignment and multi-dimensional knapsacks; and plain knapsack files."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .text import File, Text, Words


class KnapsackProblem(NamedTuple):
    """`values (n,)`, `weights (n, d)`, `capacity (d,)`, and the best value, None where the file does not know it.

    `Knapsack(problem.weights)(problem.values[None], capacity=problem.capacity[None])`.
    """

    values: Tensor
    weights: Tensor
    capacity: Tensor
    optimum: float | None = None


def read_orlib_assignment(file: File) -> Tensor:
    """The costs of an `assign*.txt` file: the size n, and n rows of costs.  # -> (n, n)"""
    words = Words(Text(file))
    n = words.count("the size")
    costs = words.numbers(n * n, "the costs").view(n, n)
    words.end("the costs")
    return costs


def read_orlib_sparse_assignment(file: File) -> Tensor:
    """The costs of an `assignp*.txt` file: the size n, and a row, a column (from 1) and a cost for each pair allowed.

    Pairs that the file does not list have infinite cost, so that Assignment never makes them.  # -> (n, n) float64
    """
    words = Words(text := Text(file))
    n = words.count("the size")
    costs = torch.full((n, n), torch.inf, dtype=torch.float64)
    while len(words):
        line = words.line
        row, column = (words.integer(what) for what in ("a row", "a column"))
        if not (1 <= row <= n and 1 <= column <= n):
            text.fail(line, f"the pair ({row}, {column}) is outside 1 to {n}.")
        costs[row - 1, column - 1] = words.numbers(1, "a cost")[0]
    return costs


def read_orlib_knapsacks(file: File) -> list[KnapsackProblem]:
    """The instances of an `mknap*.txt` file.

    First their number; of each, the numbers n of items and d of dimensions and the best value (0 if unknown), n values, d rows
    of n weights, and d capacities.
    """
    words = Words(Text(file))
    problems = []
    for k in range(words.count("the number of instances")):
        n, d = (words.count(f"the number of {what} of instance {k}") for what in ("items", "dimensions"))
        optimum = float(words.numbers(1, f"the best value of instance {k}").item())
        values = words.numbers(n, f"the values of instance {k}")
        weights = words.numbers(n * d, f"the weights of instance {k}").view(d, n).T.contiguous()
        problems.append(KnapsackProblem(values, weights, words.numbers(d, f"the capacities of instance {k}"), optimum or None))
    words.end("the last instance")
    return problems


def read_knapsack(file: File) -> KnapsackProblem:
    """One knapsack: the number of items and the capacity, and a value and a weight for each item."""
    words = Words(Text(file))
    n = words.count("the number of items")
    capacity = words.numbers(1, "the capacity")
    values, weights = words.numbers(2 * n, "the values and weights").view(n, 2).unbind(1)
    words.end("the last item")
    return KnapsackProblem(values.clone(), weights[:, None].clone(), capacity)
