"""Solutions remembered: an instance that was solved before is not solved again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from solverlayers.arguments import check_counts
from solverlayers.errors import InstanceError

from .base import Answer, Wrapper, as_answer, of_the_batch, parts_of, rows_of, some

_Kind = tuple[tuple[str, torch.dtype, torch.Size, str], ...]


class _Key(NamedTuple):
    """All that an answer depends on, byte for byte: names, types and shapes, the instance data, the scores."""

    kind: _Kind
    data: bytes
    scores: bytes


class CacheStatistics(NamedTuple):
    """What a `Cached` did so far: instances answered from memory, instances solved, and solutions it holds now."""

    hits: int
    misses: int
    entries: int


class _Memory:
    """The solutions used last, on the CPU; a copy of one, in another process or not, starts empty."""

    def __init__(self, size: int) -> None:
        self.size, self.hits, self.misses = size, 0, 0
        self.rows: OrderedDict[_Key, tuple[Tensor, ...]] = OrderedDict()
        self.lock = Lock()

    def __reduce__(self) -> tuple[type[_Memory], tuple[int]]:
        return _Memory, (self.size,)

    def look_up(self, keys: list[_Key]) -> dict[_Key, tuple[Tensor, ...]]:
        """What is known of `keys`, which are thereby the last used."""
        with self.lock:
            found = {key: self.rows[key] for key in keys if key in self.rows}
            for key in found:
                self.rows.move_to_end(key)
        return found

    def store(self, rows: dict[_Key, tuple[Tensor, ...]]) -> None:
        with self.lock:
            self.rows.update(rows)
            for _ in range(len(self.rows) - self.size):
                self.rows.popitem(last=False)

    def count(self, hits: int, misses: int) -> None:
        with self.lock:
            self.hits, self.misses = self.hits + hits, self.misses + misses


@dataclass(frozen=True)
class Cached(Wrapper):
    """A solver that remembers: only instances that it has not seen are solved, each of them once.

    The answer is exactly that of `solver`, which solves the missing instances of a batch in one call. An instance is known
    again by all its bytes: scores, instance data, their types and their device. The `size` solutions used last are kept, on
    the CPU. Good for solutions at true scores, for validation, and wherever scores come back; scores that a network moves in
    every step never do. A copy (pickle, deepcopy) starts with an empty memory. `solve_with_info` proves anew.

    >>> from solverlayers.solvers import TopK
    >>> solver = Cached(TopK(1))
    >>> solver(torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 2.0]]))
    tensor([[1., 0.],
            [1., 0.],
            [0., 1.]])
    >>> _ = solver(torch.tensor([[1.0, 2.0], [5.0, 4.0]]))
    >>> solver.statistics
    CacheStatistics(hits=2, misses=3, entries=3)
    >>> solver.pool()
    tensor([[0., 1.],
            [1., 0.]])
    """

    size: int = 10_000
    _memory: _Memory = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, size=1)
        object.__setattr__(self, "_memory", _Memory(self.size))

    def solve(self, *scores: Tensor, **instance: Tensor) -> Answer:
        """The solutions, of which only the unknown ones are solved for.  # (B, *E) -> (B, *E)"""
        if len(scores[0]) == 0:
            return self.solver.solve(*scores, **instance)
        keys = _keys(scores, instance)
        known = self._memory.look_up(keys)
        missing: dict[_Key, int] = {}  # each once, at its first place
        for b, key in enumerate(keys):
            if key not in known:
                missing.setdefault(key, b)
        self._memory.count(len(keys) - len(missing), len(missing))
        if missing:
            new = dict(zip(missing, self._solve_rows(scores, instance, torch.tensor(list(missing.values())), keys)))
            self._memory.store(new)
            known.update(new)
        answer = [torch.stack(part).to(scores[0].device) for part in zip(*(known[key] for key in keys))]
        return as_answer(answer, () if len(answer) > 1 else answer[0])

    def _solve_rows(
        self, scores: tuple[Tensor, ...], instance: dict[str, Tensor], rows: Tensor, keys: list[_Key]
    ) -> list[tuple[Tensor, ...]]:
        """The solutions of some rows, one by one."""
        try:
            y = self.solver.solve(*rows_of(scores, rows), **some(instance, rows))
        except InstanceError as error:
            raise self._for_all_alike(error, rows, keys) from error
        return list(zip(*(part.detach().cpu().clone().unbind() for part in parts_of(y))))

    def _for_all_alike(self, error: InstanceError, rows: Tensor, keys: list[_Key]) -> InstanceError:
        """The error, about all instances of the batch that are equal to one that failed."""
        whole = of_the_batch(error, self, rows, len(keys), f"Of {len(rows)} that were not known")
        failed = {keys[b] for b in whole.instances.nonzero()[:, 0].tolist()}
        whole.instances = torch.tensor([key in failed for key in keys])
        if whole.incumbent is not None:
            first = {keys[b]: b for b in rows.tolist()}
            whole.incumbent = whole.incumbent[[first.get(key, 0) for key in keys]]
        return whole

    @property
    def statistics(self) -> CacheStatistics:
        """How often the memory helped, and how much is in it."""
        return CacheStatistics(self._memory.hits, self._memory.misses, len(self._memory.rows))

    def clear(self) -> None:
        """Forget all solutions and statistics."""
        object.__setattr__(self, "_memory", _Memory(self.size))

    def pool(self) -> Tensor:
        """The different solutions in memory, for the losses over a pool, such as NCELoss.  # -> (P, *E)

        A pool is for instances that have the same solutions: ValueError if the memory is empty, or if what it holds belongs to
        instances of several shapes or with different data, of which one's solution need not be another's.
        """
        rows = dict(self._memory.rows)
        if not rows:
            raise ValueError("Cached: the memory is empty, so there is no pool. Solve for the training set first.")
        if any(len(parts) > 1 for parts in rows.values()):
            raise ValueError("Cached: solutions of several tensors make no pool; the losses over a pool take a single one.")
        if len({(tuple((name, shape) for name, _, shape, _ in key.kind), key.data) for key in rows}) > 1:
            raise ValueError(
                "Cached: the memory holds solutions of instances of several shapes or with different data, and a solution of "
                "one need not be one of another. Use one Cached for each set of instances that share their solutions."
            )
        return torch.stack([row.to(torch.get_default_dtype()) for (row,) in rows.values()]).unique(dim=0)


def _keys(scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> list[_Key]:
    """One key for each instance of a batch."""
    named = [("", s) for s in scores] + sorted(instance.items())
    kind = tuple((name, t.dtype, t.shape[1:], t.device.type) for name, t in named)
    data, own = _bytes([t for _, t in named[len(scores) :]], len(scores[0])), _bytes(list(scores), len(scores[0]))
    return [_Key(kind, *pair) for pair in zip(data, own)]


def _bytes(tensors: list[Tensor], count: int) -> list[bytes]:
    """All bytes of each row.  # ((B, ...), ...) -> B"""
    flat = [t.detach().reshape(count, -1) if t.numel() else t.new_empty(count, 0) for t in tensors]
    raw = [t.contiguous().view(torch.uint8).cpu().numpy() for t in flat if t.numel()]
    return [b"".join(array[b].tobytes() for array in raw) for b in range(count)]
