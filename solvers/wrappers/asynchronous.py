"""Solving in the background, while the network or the GPU goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.solver import Solver

from .base import Answer, Wrapper, as_answer, parts_of


class Pending:
    """Solutions that are being worked out: `result()` waits for them."""

    def __init__(self, future: Future[Answer], device: torch.device):
        self._future, self._device = future, device

    def done(self) -> bool:
        """Whether `result` would not wait."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> Answer:
        """The solutions, on the device of the scores; raises what the solver raises, TimeoutError after `timeout` seconds."""
        y = self._future.result(timeout)
        return as_answer([part.to(self._device, non_blocking=True) for part in parts_of(y)], y)

    def __repr__(self) -> str:
        return f"<Pending, {'done' if self.done() else 'working'}>"


class _Threads:
    """Threads that are started when first needed; a copy has its own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.executor: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type[_Threads], tuple[int]]:
        return _Threads, (self.count,)

    def submit(self, *arguments: object) -> Future[Answer]:
        if self.executor is None:
            self.executor = ThreadPoolExecutor(self.count, thread_name_prefix="solverlayers")
        return self.executor.submit(_solve, *arguments)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Async(Wrapper):
    """A solver that can also work in the background: `submit` returns at once, `result()` waits.

    `submit(*scores, **instance)` copies its arguments and solves on the CPU in a thread, while this one goes on: with the
    network, with other solvers, or launching work on the GPU, which is not waited for (its stream copies scores that are
    there). Kernels and most foreign solvers leave the interpreter free meanwhile; a solver in plain Python does not, so put it
    in a Parallel. What `submit` gives has no gradient: it is for targets, pools and validation. Called as any solver, in a
    layer too, it is `solver` itself, and works at once: the next operation needs a layer's output, so nothing could overlap.

    Args:
        solver: the solver.
        workers: how many batches are worked on at once.

    >>> from solverlayers.solvers import TopK
    >>> solver = Async(TopK(1))
    >>> pending = solver.submit(torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
    >>> pending.result()
    tensor([[1., 0.],
            [0., 1.]])
    """

    workers: int = 1
    _threads: _Threads = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, workers=1)
        object.__setattr__(self, "_threads", _Threads(self.workers))

    def submit(self, *scores: Tensor, **instance: Tensor) -> Pending:
        """Start to solve.  # (B, *E) -> Pending"""
        own, ready = _copied(scores, instance)
        names = tuple(instance)
        return Pending(self._threads.submit(self.solver, own, names, ready), scores[0].device)


def _copied(scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> tuple[list[Tensor], torch.cuda.Event | None]:
    """Copies on the CPU, and the event after which those from a GPU are complete."""
    tensors = [t.detach() for t in (*scores, *instance.values())]
    if not any(t.is_cuda for t in tensors):
        return [t.cpu().clone() for t in tensors], None
    host = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors]
    ready = torch.cuda.Event()
    ready.record()
    return host, ready


def _solve(solver: Solver, tensors: list[Tensor], names: tuple[str, ...], ready: torch.cuda.Event | None) -> Answer:
    if ready is not None:
        ready.synchronize()
    scores, data = tensors[: len(tensors) - len(names)], tensors[len(tensors) - len(names) :]
    return solver(*scores, **dict(zip(names, data)))
