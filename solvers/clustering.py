"""Clusters around members of the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from solverlayers.arguments import check_counts

from .engines import Engine, HiGHS, Program
from .program_family import OneInEachRow, zero_one


@dataclass(frozen=True)
class KMedoids(OneInEachRow):
    """The k columns to which the rows are closest: every row goes to one of them (Kaufman and Rousseeuw, 1987; k-median).

    Minimises `<scores, y>` over 0/1 matrices with one 1 in each row and entries in at most k columns; scores are distances from
    points to possible medoids, most often from all points to all. Shapes: `(B, n, m) -> (B, n, m)`. Which columns are medoids
    is an auxiliary variable. `mask (B, n, m)`: False for a pair that is not allowed; rows that it leaves out altogether are
    padding. `decode` gives the medoid of each row. See ProgramSolver for `engine`, `time_limit` and errors.

    >>> points = torch.tensor([[0.0], [1.0], [3.0], [9.0], [11.0], [12.0]])
    >>> solver = KMedoids(2)
    >>> solver.decode(solver(torch.cdist(points, points)[None]))
    [tensor([1, 1, 1, 4, 4, 4])]
    """

    k: int
    engine: Engine = field(default_factory=HiGHS)
    time_limit: float | None = 60.0

    hull = "clusterings"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, k=1)

    def _program(self, shape: tuple[int, ...], mask: np.ndarray | None = None) -> Program:
        program = _medoids(shape[0], shape[1], self.k)
        if mask is None:
            return program
        once = program.row_lower.copy()
        once[: shape[0]] = mask.any(1)
        return program._replace(row_lower=once, upper=np.concatenate([mask.reshape(-1), np.ones(shape[1])]))


@lru_cache(maxsize=64)
def _medoids(n: int, m: int, k: int) -> Program:
    """Rows of the matrix sum to one; an entry is at most its column's variable; at most k of these are one."""
    from scipy.sparse import eye_array, hstack, kron, vstack

    once = hstack([kron(eye_array(n), np.ones((1, m))), np.zeros((n, m))])
    open_ = hstack([eye_array(n * m), kron(np.ones((n, 1)), -eye_array(m))])
    few = np.concatenate([np.zeros((1, n * m)), np.ones((1, m))], 1)
    sizes = [n, n * m, 1]
    return zero_one(
        vstack([once, open_, few]), np.repeat([1.0, -np.inf, -np.inf], sizes), np.repeat([1.0, 0.0, float(k)], sizes)
    )
