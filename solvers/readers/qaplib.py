"""QAPLIB: quadratic assignment instances and solutions (R. E. Burkard, S. E. Karisch, F. Rendl, 1997)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .text import File, Text, Words


class QAPLIBProblem(NamedTuple):
    """`flows (n, n)` and `distances (n, n)`, the first and the second matrix of the file.

    `QuadraticAssignment()(torch.zeros(1, n, n), flows=problem.flows[None], distances=problem.distances[None])`.
    """

    flows: Tensor
    distances: Tensor

    def cost(self, places: Tensor) -> Tensor:
        """`sum_ij flows_ij distances_p(i)p(j)`, where facility i is at `places[i]`.  # (n,) -> ()"""
        return (self.flows * self.distances[places][:, places]).sum()


class QAPLIBSolution(NamedTuple):
    """The objective that the file states, and the place of each facility, numbered from 0, `(n,)`."""

    objective: float
    places: Tensor


def read_qaplib(file: File) -> QAPLIBProblem:
    """The instance of a `.dat` file: the size, and two matrices."""
    words = Words(Text(file))
    n = words.count("the size")
    flows, distances = (words.numbers(n * n, f"the {which} matrix").view(n, n) for which in ("first", "second"))
    words.end("the second matrix")
    return QAPLIBProblem(flows, distances)


def read_qaplib_solution(file: File) -> QAPLIBSolution:
    """The solution of a `.sln` file: the size, the objective, and a permutation, with or without commas."""
    text = Text(file)
    words = Words(text, [(number, word) for number, line in text.numbered() for word in line.replace(",", " ").split()])
    n = words.count("the size")
    objective = words.numbers(1, "the objective").item()
    line, places = words.line, words.numbers(n, "the permutation")
    if sorted(places.tolist()) != list(range(1, n + 1)):
        text.fail(line, f"the permutation is {places.tolist()}; expected each of 1 to {n} once.")
    words.end("the permutation")
    return QAPLIBSolution(objective, places.long() - 1)
