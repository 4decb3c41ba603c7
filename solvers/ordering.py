"""Orders and schedules: who comes before whom, and when a job starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solverlayers.arguments import check_counts

from .constant import Constant, keep_constants
from .engines import CPSAT, Engine, Program
from .program_family import Found, InvalidInstance, OneInEachRow, ProgramSolver, zero_one


@dataclass(frozen=True)
class LinearOrdering(ProgramSolver):
    """The order of greatest score, where `scores[i, j]` is gained if i comes before j, anywhere (Grotschel et al., 1984).

    Maximises `<scores, y>` over 0/1 matrices with `y_ij + y_ji = 1` and no cycle. Shapes: `(B, n, n) -> (B, n, n)`; the
    diagonal is never used. It ranks from comparisons (Kemeny), and schedules jobs on one machine by `y`, since a job starts
    after the durations of those before it. `mask (B, n, n)`: rows and columns that it leaves out altogether are padding. See
    ProgramSolver for `engine`, `time_limit` and errors.

    >>> solver = LinearOrdering()
    >>> y = solver(torch.tensor([[[0.0, 3.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]]]))
    >>> solver.decode(y)
    [[0, 1, 2]]

    Source: M. Grotschel, M. Junger, G. Reinelt, "A cutting plane algorithm for the linear ordering problem" (1984).
    """

    engine: Engine = field(default_factory=CPSAT)
    time_limit: float | None = 60.0

    event_dim = 2
    sense = "max"
    binary = True
    constant_sum = True
    constant_norm = True
    hull = "linear orders"

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """The part that is the opposite of its own transpose.  # (*S, B, n, n) -> (*S, B, n, n)"""
        odd = (direction - direction.mT) / 2
        return odd if mask is None else torch.where(_real(mask), odd, 0)

    def decode(self, y: Tensor, mask: Tensor | None = None, **instance: Tensor) -> list[list[int]]:
        """What comes first, second, and so on.  # (B, n, n) -> B lists"""
        real = torch.ones_like(y[:, 0], dtype=torch.bool) if mask is None else mask.any(1) | mask.any(2)
        orders = y.sum(2).argsort(dim=1, descending=True, stable=True)
        return [order[there[order]].tolist() for order, there in zip(orders, real)]

    def _search(self, scores: Tensor, instance: dict[str, Tensor]) -> Found:
        scores = scores.clone()
        scores.diagonal(dim1=1, dim2=2).zero_()  # it may be infinite
        return super()._search(scores, instance)

    def _program(self, shape: tuple[int, ...], mask: np.ndarray | None = None) -> Program:
        if shape[0] != shape[1]:
            raise ValueError(f"LinearOrdering: scores of one instance have shape {shape}; expected a square matrix.")
        real = range(shape[0]) if mask is None else np.flatnonzero(mask.any(0) | mask.any(1)).tolist()
        return _orders(shape[0], tuple(real))


def _real(mask: Tensor) -> Tensor:
    """Pairs of rows and columns that are not padding.  # (B, n, n)"""
    there = mask.any(-1) | mask.any(-2)
    return there.unsqueeze(-1) & there.unsqueeze(-2)


@lru_cache(maxsize=256)
def _orders(n: int, real: tuple[int, ...]) -> Program:
    """One of two comes first, and of three no cycle is left."""
    from scipy.sparse import coo_array

    pairs = [[(i, j), (j, i)] for i, j in combinations(real, 2)]
    cycles = [[(a, b), (b, c), (c, a)] for i, j, k in combinations(real, 3) for a, b, c in ((i, j, k), (k, j, i))]
    entries = np.array([(row, n * i + j) for row, one in enumerate(pairs + cycles) for i, j in one]).reshape(-1, 2)
    matrix = coo_array((np.ones(len(entries)), entries.T), (len(pairs) + len(cycles), n * n))
    least = np.repeat([1.0, -np.inf], [len(pairs), len(cycles)])
    upper = np.zeros((n, n))
    upper[np.ix_(real, real)] = 1.0
    np.fill_diagonal(upper, 0.0)
    return zero_one(matrix, least, np.where(least == 1.0, 1.0, 2.0), upper.reshape(-1))


@dataclass(frozen=True)
class Scheduling(OneInEachRow):
    """The cheapest schedule on one machine, or several alike, where `scores[j, t]` is what job j costs if it starts at time t.

    Minimises `<scores, y>` over 0/1 matrices with one start for each job and at most `machines` jobs at any time; jobs end
    within the horizon, the number of columns. Any cost of a job's own time is linear in y, such as the weighted tardiness of
    `tardiness`. Shapes: `(B, jobs, times) -> (B, jobs, times)`; `decode` gives the start of each job.

    Args:
        durations: what all instances share: how many units of time each job takes, whole numbers, 1 at least.
        machines: how many there are.
        engine, time_limit: see ProgramSolver, also for errors.

    Instance data: `durations` (B, jobs), in place of the field; `mask` (B, jobs, times), False where a job may not start; a job
    that may never start is padding.

    >>> solver = Scheduling(durations=[2, 1])
    >>> y = solver(tardiness(solver.durations, weights=[[1.0, 3.0]], due=[[2.0, 1.0]], horizon=3))
    >>> solver.decode(y)
    [tensor([1, 0])]

    Source: J. P. Sousa, L. A. Wolsey, "A time indexed formulation of non-preemptive single machine scheduling problems" (1992).
    """

    durations: Any = None
    machines: int = 1
    engine: Engine = field(default_factory=CPSAT)
    time_limit: float | None = 60.0

    hull = "schedules"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, machines=1)
        keep_constants(self, "durations")

    def _program(self, shape: tuple[int, ...], durations: np.ndarray | None = None, mask: np.ndarray | None = None) -> Program:
        if durations is None and self.durations is None:
            raise ValueError(
                "Scheduling: no durations. Give `durations=` to the solver, if all instances share them, or to the call."
            )
        lengths = self.durations.array if durations is None else durations
        if lengths.shape != shape[:1]:
            raise ValueError(
                f"Scheduling: durations of one instance have shape {lengths.shape}; expected {shape[:1]}, one for each job."
            )
        real = np.ones(shape[0], dtype=bool) if mask is None else mask.any(1)
        lengths = np.where(real, lengths, 1)
        if (lengths < 1).any() or (lengths != np.rint(lengths)).any():
            raise InvalidInstance(f"durations {lengths.tolist()}, which should be whole numbers, 1 at least")
        late = np.arange(shape[1]) + lengths[:, None] > shape[1]
        free = ~late if mask is None else ~late & mask
        return _starts(shape, tuple(lengths.astype(int).tolist()), self.machines)._replace(
            upper=free.reshape(-1).astype(float), row_lower=np.concatenate([real.astype(float), np.full(shape[1], -np.inf)])
        )


@lru_cache(maxsize=256)
def _starts(shape: tuple[int, int], lengths: tuple[int, ...], machines: int) -> Program:
    """A row for each job, which starts once, and one for each time, in which few jobs run."""
    from scipy.sparse import csr_array, eye_array, kron, vstack

    jobs, times = shape
    once = kron(eye_array(jobs), np.ones((1, times)))
    clock = np.arange(times)
    ends = clock + np.array(lengths, dtype=int)[:, None]
    runs = (clock[:, None, None] >= clock) & (clock[:, None, None] < ends)  # time, job, start
    return zero_one(
        vstack([once, csr_array(runs.reshape(times, jobs * times).astype(float))]),
        most=np.repeat([1.0, float(machines)], [jobs, times]),
    )


def tardiness(durations: Any, weights: Any, due: Any, horizon: int) -> Tensor:
    """What each job costs if it starts at each time: its weight for each unit of time that it ends after it is due.

    `weights (B, n)`, `due (B, n)` and `durations`, `(n,)` or `(B, n)`; differentiable in tensors.  # -> (B, n, horizon)

    >>> tardiness([2.0], weights=[[3.0]], due=[[3.0]], horizon=4)
    tensor([[[0., 0., 3., 6.]]])
    """
    lengths = durations.array.copy() if isinstance(durations, Constant) else durations
    w, d = torch.as_tensor(weights), torch.as_tensor(due)
    ends = torch.arange(horizon, device=w.device) + torch.as_tensor(lengths, device=w.device).to(w.dtype).unsqueeze(-1)
    return w.unsqueeze(-1) * (ends - d.unsqueeze(-1)).clamp_min(0)
