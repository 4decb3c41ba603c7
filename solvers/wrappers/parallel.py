"""Batches spread over worker processes, or over a cluster."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from solverlayers.errors import InstanceError
from solverlayers.solver import Sense, Solution, Solver

from .base import Answer, Wrapper, as_answer, of_the_batch, parts_of, put_together

_log = logging.getLogger("solverlayers")
_PIECES_PER_WORKER = 4  # instances of hard problems take very different times, so that equal shares would not
_TRIES = 2


class WorkerError(RuntimeError):
    """Worker processes died while they solved."""


class _Workers:
    """Runs work by joblib. Its own processes outlive a call; those of another back end do as long as it is the active one."""

    def __init__(self) -> None:
        self.backend: Any = None
        self.open: Any = None
        self.close: Callable[[], object] = lambda: None
        """Lets the workers of the last back end go; also called when nobody needs this object any more."""

    def __reduce__(self) -> tuple[type[_Workers], tuple[()]]:
        return _Workers, ()

    def run(self, count: int, work: list[tuple[Any, ...]]) -> list[Any]:
        import joblib

        backend, _ = joblib.parallel.get_active_backend()
        calls = [joblib.delayed(_work)(*piece) for piece in work]
        if backend is not self.backend:
            self.close()
            self.backend = self.open = None
        if type(backend) is joblib.parallel.LokyBackend:
            return list(joblib.Parallel(n_jobs=count)(calls))
        if self.open is None:
            self.backend, self.open = backend, joblib.Parallel(n_jobs=count).__enter__()
            self.close = weakref.finalize(self, self.open.__exit__, None, None, None)
        try:
            return list(self.open(calls))
        except BaseException:
            self.close()  # what is left of it after an error is not known
            self.backend = self.open = None
            raise


@dataclass(frozen=True)
class Parallel(Wrapper):
    """A solver whose batches are cut into pieces that worker processes solve: for solvers that take long, such as foreign code.

    Solvers with compiled kernels use the threads of this process already. The answer is that of `solver`, on the device of the
    scores; workers see tensors on the CPU. Workers are started at the first call (seconds, as each imports torch) and kept. One
    that dies is replaced and its batch is tried once more; then WorkerError is raised.

    The work is handed out by joblib, so the same solver runs on a cluster where that is joblib's back end:

        from ray.util.joblib import register_ray                # on Dask: client = distributed.Client(address)
        register_ray()
        with joblib.parallel_config(backend="ray"):             # on Dask: backend="dask"
            train()                                             # all batches of `Parallel(solver)` go to the cluster

    A cluster replaces workers by rules of its own. Dask gives up on a batch that killed four workers, of which joblib does not
    hear: the call then waits without end.

    Args:
        solver: the solver; one that holds functions is fine, they travel by value.
        workers: how many processes; -1 for as many as there are processors, or as the cluster has.

    >>> from solverlayers.solvers import TopK
    >>> Parallel(TopK(1), workers=1)(torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """

    workers: int = -1
    _pool: _Workers = field(init=False, repr=False, compare=False, default_factory=_Workers)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers == 0 or type(self.workers) is not int:
            raise ValueError(
                f"Parallel: workers={self.workers!r}; it is the number of processes, or -1 for one for each processor."
            )

    def solve(self, *scores: Tensor, **instance: Tensor) -> Answer:
        """The solutions, piece by piece.  # (B, *E) -> (B, *E)"""
        pieces = self._pieces(len(scores[0]))
        if len(pieces) < 2:
            return self.solver.solve(*scores, **instance)
        return _joined(self._run("solve", pieces, scores, instance), scores[0].device)

    def optimise_with_start(self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor) -> tuple[Any, Tensor | None]:
        """What `solver` gives, piece by piece."""
        own, pieces = tuple(self._own(part, sense) for part in scores), self._pieces(len(scores[0]))
        if len(pieces) < 2:
            return self.solver.optimise_with_start(*own, sense=None, **instance)
        answers, starts = zip(*self._run("optimise_with_start", pieces, own, instance))
        start = None if any(start is None for start in starts) else torch.cat(starts).to(scores[0].device)
        return _joined(answers, scores[0].device), start

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """The solutions with their proofs, piece by piece.  # (B, *E) -> Solution"""
        pieces = self._pieces(len(scores[0])) if scores else []
        if len(pieces) < 2:
            return self.solver.solve_with_info(*scores, **instance)
        infos = self._run("solve_with_info", pieces, scores, instance)
        return _moved(put_together(infos, pieces), scores[0].device)

    def _pieces(self, count: int) -> list[Tensor]:
        """The rows of each piece of work: as equal in number as can be."""
        from joblib import effective_n_jobs

        workers = effective_n_jobs(self.workers)
        return list(torch.arange(count).tensor_split(min(count, workers * _PIECES_PER_WORKER))) if workers > 1 < count else []

    def _run(
        self,
        method: Literal["solve", "optimise_with_start", "solve_with_info"],
        pieces: Sequence[Tensor],
        scores: tuple[Tensor, ...],
        instance: dict[str, Tensor],
    ) -> list[Any]:
        """What `method` of the solver gives for each piece."""
        host = [s.detach().cpu() for s in scores], {key: value.detach().cpu() for key, value in instance.items()}
        work = [(self.solver, method, [s[rows] for s in host[0]], {k: v[rows] for k, v in host[1].items()}) for rows in pieces]
        results = self._spread(work)
        errors = [(rows, r) for rows, r in zip(pieces, results) if isinstance(r, InstanceError)]
        if errors:
            raise self._together(errors, len(scores[0])) from errors[0][1]
        return results

    def _spread(self, work: list[tuple[Any, ...]]) -> list[Any]:
        """All pieces of work by the workers, once more if some of these die."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        for left in reversed(range(_TRIES)):
            try:
                return self._pool.run(self.workers, work)
            except BrokenProcessPool as error:
                if not left:
                    raise WorkerError(
                        f"Parallel: worker processes died while they ran {self.solver!r}, {_TRIES} times. Out of memory is the "
                        f"usual cause (use fewer `workers`), or foreign code that crashes (solve without Parallel to see it)."
                    ) from error
                _log.warning("Parallel: a worker process died; it is replaced and the batch solved again.")
        raise AssertionError("unreachable")

    def _together(self, errors: list[tuple[Tensor, InstanceError]], count: int) -> InstanceError:
        """One error for all instances that failed; its type and text are those of the first."""
        rows, first = errors[0]
        whole = of_the_batch(first, self, rows, count, f"In the piece that starts with instance {int(rows[0])}")
        if whole is first:
            return first
        for other_rows, other in errors[1:]:
            if type(other) is type(first) and (other.incumbent is None) == (whole.incumbent is None):
                whole.instances[other_rows] = other.instances.cpu()
                if whole.incumbent is not None and other.incumbent is not None:
                    whole.incumbent[other_rows] = other.incumbent
        return whole


def _work(solver: Solver, method: str, scores: list[Tensor], instance: dict[str, Tensor]) -> Any:
    """What a worker does; an error about instances comes back as a result, since the others' pieces are still wanted."""
    with torch.no_grad():
        try:
            return getattr(solver, method)(*scores, **instance)
        except InstanceError as error:
            return error


def _joined(answers: Sequence[Answer], device: torch.device) -> Answer:
    """The answers for one piece after the other as one."""
    return as_answer([torch.cat(column).to(device) for column in zip(*(parts_of(y) for y in answers))], answers[0])


def _moved(info: Solution, device: torch.device) -> Solution:
    solution = as_answer([part.to(device) for part in parts_of(info.solution)], info.solution)
    duals = {name: dual.to(device) for name, dual in info.duals.items()}
    return Solution(solution, info.objective.to(device), info.optimal.to(device), info.bound.to(device), duals)
