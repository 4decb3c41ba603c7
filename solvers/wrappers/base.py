"""What all wrappers share: the facts of the solver they wrap, and rows of batches taken apart and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from solverlayers.errors import InstanceError, first_instance
from solverlayers.solver import Sense, Solution, Solver

Answer = Tensor | tuple[Tensor, ...]
"""What `solve` returns: a tensor, or one for each score tensor."""


@dataclass(frozen=True)
class Wrapper(Solver):
    """A solver that has another one work for it, in some special way.

    It has all facts of `solver` (sense, event_dim, tangent, clip, ...), its attributes too (`k` of a TopK, `graph` of a
    shortest path), and takes the same instance data, so whatever works with `solver` works with it. Wrappers nest:
    `Cached(Parallel(solver))` spreads what it does not remember. Async and Parallel hand on what second solves start from
    (`optimise_with_start`); with others these start anew.
    """

    solver: Solver

    def __post_init__(self) -> None:
        if not isinstance(self.solver, Solver):
            raise TypeError(
                f"{type(self).__name__}: solver is {self.solver!r}; expected an instance of Solver, such as `Assignment()`."
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "solver" not in vars(self):  # the second, while a copy is being made
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.solver, name)

    def solve(self, *scores: Tensor, **instance: Tensor) -> Answer:  # type: ignore[override]
        return self.solver.solve(*scores, **instance)

    def optimise_with_start(self, *scores: Tensor, sense: Sense | None = None, **instance: Tensor) -> tuple[Any, Tensor | None]:
        return self.solver.optimise_with_start(*scores, sense=sense, **instance)

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        return self.solver.solve_with_info(*scores, **instance)

    def offset(self, y: Tensor, **instance: Tensor) -> Tensor:
        return self.solver.offset(y, **instance)

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        return self.solver.support(*shapes, **instance)

    def tangent(self, *direction: Tensor, **instance: Tensor) -> Tensor:  # type: ignore[override]
        return self.solver.tangent(*direction, **instance)

    def clip(self, scores: Tensor) -> Tensor:
        return self.solver.clip(scores)

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        self.solver.check(*scores, **instance)

    def decode(self, y: Any, **instance: Tensor) -> object:
        return self.solver.decode(y, **instance)


def _of_the_wrapped(name: str) -> Any:
    return property(lambda self: getattr(self.solver, name), doc=f"`{name}` of the solver inside.")


for _name in Solver.__annotations__:
    if _name != "torch_native":  # what a wrapper does cannot be traced
        setattr(Wrapper, _name, _of_the_wrapped(_name))


def rows_of(tensors: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, ...]:
    """Some instances of a batch.  # ((B, ...), ...), (R,) -> ((R, ...), ...)"""
    return tuple(t[rows.to(t.device)] for t in tensors)


def some(instance: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The data of some instances.  # (B, ...), (R,) -> (R, ...)"""
    return dict(zip(instance, rows_of(tuple(instance.values()), rows)))


def parts_of(y: Answer) -> tuple[Tensor, ...]:
    """The tensors of a solution, one for most solvers."""
    return y if isinstance(y, tuple) else (y,)


def as_answer(parts: Sequence[Tensor], like: Answer) -> Answer:
    return tuple(parts) if isinstance(like, tuple) else parts[0]


def of_the_batch(error: InstanceError, wrapper: Solver, rows: Tensor, count: int, where: str) -> InstanceError:
    """An error about the instances `rows` as one about the batch of `count` that holds them; itself if it names none."""
    if not error.instances.any():
        return error
    bad = torch.zeros(count, dtype=torch.bool)
    bad[rows.cpu()] = error.instances.cpu()
    incumbent = None
    if error.incumbent is not None:
        incumbent = error.incumbent.new_zeros(count, *error.incumbent.shape[1:])
        incumbent[rows.to(incumbent.device)] = error.incumbent
    name, failed = type(wrapper).__name__, int(bad.sum())
    message = f"{name}: instance {first_instance(bad)} failed ({failed} of {count} instances). {where}: {error}"
    return type(error)(message, bad, incumbent)


def put_together(infos: Sequence[Solution], rows: Sequence[Tensor]) -> Solution:
    """One Solution of several, of which each is about some rows of a batch; every row is in one of them.

    Duals of another width, as for graphs with fewer nodes, end in NaN.
    """
    first = infos[0]
    place = torch.cat(list(rows)).argsort()

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(_one_width(tensors))
        return whole[place.to(whole.device)]

    solution = as_answer([joined(parts) for parts in zip(*(parts_of(info.solution) for info in infos))], first.solution)
    numbers = {f.name: joined([getattr(info, f.name) for info in infos]) for f in fields(Solution) if f.name in _NUMBERS}
    shared = [name for name in first.duals if all(name in info.duals for info in infos)]
    return Solution(solution, **numbers, duals={name: joined([info.duals[name] for info in infos]) for name in shared})


_NUMBERS = ("objective", "optimal", "bound")


def _one_width(tensors: Sequence[Tensor]) -> list[Tensor]:
    sizes = [max(s) for s in zip(*(t.shape[1:] for t in tensors))]
    if all(list(t.shape[1:]) == sizes for t in tensors):
        return list(tensors)
    padding = [[p for size, own in zip(reversed(sizes), reversed(t.shape[1:])) for p in (0, size - own)] for t in tensors]
    return [torch.nn.functional.pad(t, widths, value=torch.nan) for t, widths in zip(tensors, padding)]
