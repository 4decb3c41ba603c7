"""Assignment: matchings between the rows and the columns of a matrix, of least cost or greatest score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.samples import Samples
from solverlayers.solver import Sense, Solution, Solver, inner

from . import augmenting_paths
from .assignment_bounds import proved_bound, rounding
from .augmenting_paths import real_lines
from .common import certified, shapes_of
from .kernels import assignment as kernel
from .kernels import usable
from .kernels.assignment import INVALID, Matching

_FLOATS = (torch.float32, torch.float64)
_NATIVE = (*_FLOATS, torch.int32, torch.int64)
_EXACT_INTEGER = 2**53


class BipartiteMatching(Solver):
    """What all assignment problems share: solutions are 0/1 matrices `(B, n, m)` with at most one 1 in each row and column.

    `mask (B, n, m)`, boolean, is False where a pair may not be made. A row or column without any allowed pair is padding: it is
    not part of the instance.
    """

    event_dim = 2
    binary = True

    def partners(self, y: Tensor) -> Tensor:
        """The column of each row, -1 for a row without one.  # (*S, B, n, m) -> (*S, B, n)

        >>> Assignment().partners(torch.tensor([[[0, 1, 0], [0, 0, 0]]]))
        tensor([[ 1, -1]])
        """
        if y.shape[-1] == 0:
            return y.new_full(y.shape[:-1], -1, dtype=torch.int64)
        chosen = y != 0
        return torch.where(chosen.any(-1), chosen.to(torch.uint8).argmax(-1), -1)

    def decode(self, y: Tensor, **instance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """`to_indices`."""
        return self.to_indices(y)

    def to_indices(self, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Row and column numbers of each instance, as `scipy.optimize.linear_sum_assignment` gives them.  # (B, n, m)

        >>> Assignment().to_indices(torch.tensor([[[0, 1], [1, 0]]]))
        [(tensor([0, 1]), tensor([1, 0]))]
        """
        instance_of, rows, columns = (y != 0).nonzero(as_tuple=True)
        sizes = instance_of.bincount(minlength=len(y)).tolist()
        return list(zip(rows.split(sizes), columns.split(sizes)))

    def _match(
        self,
        scores: Tensor,
        mask: Tensor | None,
        skip_rows: Tensor | None = None,
        skip_columns: Tensor | None = None,
        warm_start: Tensor | None = None,
        duals: bool = False,
        sense: Sense | None = None,
    ) -> Matching:
        """Matchings by the compiled kernel, or in torch where it cannot serve.  # (B, n, m) -> Matching"""
        native = self._checked(scores, mask)
        backend = kernel if scores.numel() and usable(scores) else augmenting_paths
        skip_rows = None if skip_rows is None else skip_rows.to(scores.device, torch.float64)
        maximise = (sense or self.sense) == "max"
        matching = backend.assign(native, maximise, mask, skip_rows, skip_columns, warm_start, duals)
        if matching.status is not None:
            self._fail(matching.status, scores, mask)
        return matching if native.dtype == scores.dtype else matching._replace(solution=matching.solution.to(scores.dtype))

    def _checked(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """`scores` in a type that the algorithms take."""
        if mask is None and scores.dtype in _FLOATS:
            return scores
        name = type(self).__name__
        if mask is not None and (mask.dtype != torch.bool or mask.shape != scores.shape):
            raise ValueError(
                f"{name}: `mask` is {_kind(mask)} of shape {tuple(mask.shape)}; it needs to be boolean, of shape "
                f"{tuple(scores.shape)} like the scores, and False where a pair may not be made."
            )
        if scores.dtype == torch.int64 and scores.numel():
            large = (scores > _EXACT_INTEGER) | (scores < -_EXACT_INTEGER)  # the least integer has no absolute value
            large = large if mask is None else large & mask
            if large.any():
                raise ValueError(
                    f"{name}: scores of type int64 reach beyond 2**53, where float64, in which sums are formed, is not exact. "
                    f"Use smaller numbers, and `mask` for pairs that may not be made."
                )
        if scores.dtype in _NATIVE:
            return scores
        if scores.dtype == torch.bool or scores.is_complex():
            raise TypeError(f"{name}: scores are {_kind(scores)}; use real or integer numbers, such as `scores.float()`.")
        if scores.is_floating_point():
            return scores.float()
        return scores.int() if scores.dtype.itemsize < 4 else scores.double()

    def _certified(
        self, scores: Tensor, y: Tensor, matching: Matching, objective: Tensor, mask: Tensor | None, skips: Tensor | None = None
    ) -> Solution:
        """`y` with the bound that the duals of `matching` prove."""
        assert matching.duals is not None
        bound = proved_bound(scores, self.sense == "max", matching.duals, mask, skips)
        proved = (objective - bound).abs() <= rounding(matching.duals)
        return certified(y, objective, proved, bound, dict(zip(("rows", "columns"), matching.duals)))

    def _check_nan(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        """Nothing yet: the algorithms report NaN, which saves a pass over the scores."""

    def _fail(self, status: Tensor, scores: Tensor, mask: Tensor | None) -> None:
        super()._check_nan((scores,), {} if mask is None else {"mask": mask})
        name, wrong, forbids = type(self).__name__, *(("-inf", "+inf") if self.sense == "min" else ("+inf", "-inf"))
        invalid = status == INVALID
        if invalid.any():
            raise InstanceError(
                f"{name}: instance {first_instance(invalid)} has NaN or {wrong} among its numbers ({int(invalid.sum())} of "
                f"{len(status)} instances). A score of {forbids} forbids a pair; {wrong} would outweigh everything.",
                invalid,
            )
        failed = status != 0
        raise InfeasibleError(
            f"{name}: instance {first_instance(failed)} has no matching of the pairs that are allowed that leaves "
            f"nobody out ({int(failed.sum())} of {len(failed)} instances). {self._advice}",
            failed,
        )

    _advice: ClassVar[str] = (
        "All rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes altogether are "
        "padding. Allow more pairs, or use GatedAssignment, which may leave rows unmatched at a price."
    )


class CompleteAssignment(BipartiteMatching):
    """Assignment that leaves out as few as possible: min(n, m) pairs, counted without padding.

    `solve(scores, mask=None, warm_start=None)`: scores `(B, n, m)` of any real or integer type; an infinite cost (or a score of
    minus infinity) forbids a pair just as `mask` does, but never makes padding. Raises InfeasibleError, naming the instance,
    where some row of the smaller side (either, if equal) cannot get a partner. `warm_start (B, m)` are duals of the columns,
    such as `solve_with_info` returns for similar scores; they change how long a square instance takes, not its solution.

    Sums are formed in float64. Among several optimal matchings the one returned is always the same, but not specified.
    """

    constant_sum = True
    hull = "matchings of rows and columns"

    def solve(self, scores: Tensor, mask: Tensor | None = None, warm_start: Tensor | None = None) -> Tensor:
        """Optimal matchings.  # (B, n, m), (B, n, m), (B, m) -> (B, n, m)"""
        if warm_start is not None:
            warm_start = self._checked_start(scores, warm_start)
        return self._match(scores, mask, warm_start=warm_start).solution

    # The kernel takes costs and gains alike, so scores need not be turned. Duals turn with them, which are few.

    def optimise(
        self, scores: Tensor, mask: Tensor | None = None, warm_start: Tensor | None = None, *, sense: Sense | None = None
    ) -> Tensor:
        """Optimal matchings, for costs or gains.  # (B, n, m), (B, n, m), (B, m) -> (B, n, m)"""
        given = {"mask": mask, "warm_start": warm_start}
        self.check(scores, **{name: tensor for name, tensor in given.items() if tensor is not None})
        if warm_start is not None:
            warm_start = self._own(self._checked_start(scores, warm_start), sense)
        return self._match(scores, mask, warm_start=warm_start, sense=sense).solution

    def optimise_with_start(
        self, scores: Tensor, *, sense: Sense | None = None, **instance: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The same, and their duals of columns for the kernel to start from.  # (B, n, m) -> (B, n, m), (B, m)"""
        n, m = scores.shape[1:]
        mask = instance.get("mask")
        if n != m or n <= kernel.SMALL or not len(scores) or not usable(scores):  # where a start is of no use
            return super().optimise_with_start(scores, sense=sense, **instance)
        self.check(scores, **instance)
        matching = kernel.assign(self._checked(scores, mask), (sense or self.sense) == "max", mask, start=True)
        if matching.status is not None:
            self._fail(matching.status, scores, mask)
        assert matching.start is not None
        return matching.solution.to(scores.dtype), self._own(matching.start, sense)

    def maximise_samples(self, samples: Samples, mask: Tensor | None = None, warm_start: Tensor | None = None) -> bool:
        if warm_start is not None:  # one for each instance, to start all its samples from
            return False
        if mask is not None:
            self.check(samples.theta, mask=mask)
        self._checked(samples.theta, mask)
        n, m = samples.theta.shape[1:]
        begin, left = samples.start, None
        if samples.keeps_start and begin is None and n == m and n > kernel.SMALL:
            left = torch.empty(samples.draw.samples * len(samples.theta), m, dtype=torch.float64)
        solved = samples.fill("assignment", mask, None if begin is None else self._own(begin, "max"), left, n, m)
        samples.start = begin if left is None else self._own(left, "max")
        return solved

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """Optimal matchings with duals `rows (B, n)` and `columns (B, m)` that certify them.  # (B, n, m) -> Solution

        `bound` holds whatever the duals are; that it equals the objective up to rounding proves optimality.
        """
        y = self(scores, **instance)
        mask = instance.get("mask")
        matching = self._match(scores, mask, duals=True)
        return self._certified(scores, y, matching, inner(scores.double(), y.double(), 2), mask)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """`direction` less its mean over rows, over columns, or both.  # (*S, B, n, m) -> (*S, B, n, m)

        Exact where all pairs of (real) rows and columns are allowed: matchings of a square fix the sums of rows and columns,
        those of a rectangle the sums along the longer side. With other masks the sums of rows or columns alone are fixed,
        over the pairs allowed, which keeps a little more than the differences of solutions.
        """
        if mask is None:
            n, m = direction.shape[-2:]
            direction = direction - direction.mean(-1, keepdim=True) if n <= m else direction
            return direction - direction.mean(-2, keepdim=True) if n >= m else direction
        return _masked_tangent(direction, mask)

    def _checked_start(self, scores: Tensor, warm_start: Tensor) -> Tensor:
        if warm_start.shape != (len(scores), scores.shape[2]):
            raise ValueError(
                f"{type(self).__name__}: `warm_start` has shape {tuple(warm_start.shape)}; it needs one dual for each column, "
                f"shape {(len(scores), scores.shape[2])}, as in `solve_with_info(...).duals['columns']`."
            )
        return warm_start.double()


@dataclass(frozen=True)
class Assignment(CompleteAssignment):
    """Matching of least cost between rows and columns, known as linear assignment.

    Minimises `<scores, y>` over 0/1 matrices with min(n, m) ones, at most one in each row and column. See CompleteAssignment
    for `mask`, forbidden pairs and padding, and MaxAssignment for the greatest score.

    >>> costs = torch.tensor([[[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]]])
    >>> Assignment()(costs)
    tensor([[[0., 1., 0.],
             [1., 0., 0.],
             [0., 0., 1.]]])

    Source: R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
    Computing 38 (1987).
    """

    sense = "min"


@dataclass(frozen=True)
class MaxAssignment(CompleteAssignment):
    """Matching of greatest score between rows and columns: Assignment with gains in place of costs.

    >>> MaxAssignment()(torch.tensor([[[4, 1], [3, 2]]]))
    tensor([[[1, 0],
             [0, 1]]])
    """

    sense = "max"


@dataclass(frozen=True)
class GatedAssignment(BipartiteMatching):
    """Matching of least cost in which a row may stay unmatched at a price, as in tracking.

    Minimises `<scores, y> + sum_i unmatched_i (1 - sum_j y_ij)`: a pair is made only where it pays. `unmatched` is `(B,)` or
    `(B, n)`; plus infinity means that a row must be matched, and raises InfeasibleError where it cannot be. Rows that
    `mask` excludes altogether are padding and cost nothing. Where the prices themselves are learnt, use PartialAssignment.

    >>> solver = GatedAssignment()
    >>> solver.partners(solver(torch.tensor([[[1.0, 9.0], [9.0, 9.0]]]), unmatched=torch.tensor([5.0])))
    tensor([[ 0, -1]])
    """

    sense = "min"
    scale_free = False

    def solve(self, scores: Tensor, unmatched: Tensor, mask: Tensor | None = None) -> Tensor:
        """Optimal partial matchings.  # (B, n, m), (B,) or (B, n), (B, n, m) -> (B, n, m)"""
        return self._match(scores, mask, self._prices(scores, unmatched)).solution

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """As CompleteAssignment: with duals `rows (B, n)` and `columns (B, m)` that certify.  # (B, n, m) -> Solution"""
        y = self(scores, **instance)
        mask = instance.get("mask")
        prices = self._prices(scores, instance["unmatched"]).double()
        matching = self._match(scores, mask, prices, duals=True)
        objective = inner(scores.double(), y.double(), 2) + self.offset(y.double(), **instance)
        return self._certified(scores, y, matching, objective, mask, prices)

    def offset(self, y: Tensor, unmatched: Tensor, mask: Tensor | None = None) -> Tensor:  # (*S, B, n, m) -> (*S, B)
        alone = (1 - y.sum(-1)) if mask is None else (mask.any(-1).to(y.dtype) - y.sum(-1))
        return inner(self._prices(y, unmatched).to(y.dtype), alone, 1)

    def tangent(self, direction: Tensor, mask: Tensor | None = None, **instance: Tensor) -> Tensor:
        """Partial matchings differ in every allowed pair.  # (*S, B, n, m) -> (*S, B, n, m)"""
        return direction if mask is None else torch.where(mask, direction, 0)

    def _prices(self, scores: Tensor, unmatched: Tensor) -> Tensor:
        """One price for each row.  # (*S, B, n, m), (B,) or (B, n) -> (B, n)"""
        count, n = scores.shape[-3:-1]
        if unmatched.shape not in ((count,), (count, n)):
            raise ValueError(
                f"GatedAssignment: `unmatched` has shape {tuple(unmatched.shape)}; it needs one price for each row, shape "
                f"{(count, n)}, or one for each instance, shape {(count,)}."
            )
        return unmatched.unsqueeze(-1).expand(count, n) if unmatched.ndim == 1 else unmatched

    _advice = "A row whose `unmatched` price is infinite needs a partner: make the price finite, or allow it more pairs."


@dataclass(frozen=True)
class PartialAssignment(BipartiteMatching):
    """Matching of least cost in which rows and columns may stay unmatched at costs that are scores too.

    Minimises `<pairs, y> + <rows, 1 - sum_j y_ij> + <columns, 1 - sum_i y_ij>`, with `pairs (B, n, m)`, `rows (B, n)` and
    `columns (B, m)` as three score tensors, so that gradients reach all of them. A solution is the tuple of the matching, the
    rows and the columns left unmatched, in the same three shapes. Rows and columns that `mask (B, n, m)` excludes altogether
    are padding: 0 in every part.

    >>> pairs, rows, columns = torch.tensor([[[1.0, 9.0]]]), torch.tensor([[3.0]]), torch.tensor([[2.0, 2.0]])
    >>> PartialAssignment()(pairs, rows, columns)
    (tensor([[[1., 0.]]]), tensor([[0.]]), tensor([[0., 1.]]))
    """

    sense = "min"

    def solve(self, pairs: Tensor, rows: Tensor, columns: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Optimal partial matchings.  # (B, n, m), (B, n), (B, m), (B, n, m) -> (B, n, m), (B, n), (B, m)"""
        y = self._match(pairs, mask, rows.double(), columns.double()).solution
        real_rows, real_columns = real_lines(y, mask)
        return (
            y,
            real_rows.to(rows.dtype) - y.sum(2).to(rows.dtype),
            real_columns.to(columns.dtype) - y.sum(1).to(columns.dtype),
        )

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """As CompleteAssignment; `solution` is the tuple. `rows + columns <= pairs` holds for the duals.  # -> Solution"""
        y = self(*scores, **instance)
        pairs, rows, columns = (part.double() for part in scores)
        mask = instance.get("mask")
        matching = self._match(pairs, mask, rows, columns, duals=True)
        objective = inner(pairs, y[0].double(), 2) + inner(rows, y[1].double(), 1) + inner(columns, y[2].double(), 1)
        paid = torch.where(real_lines(pairs, mask)[1], columns, 0.0)  # as if all columns were unmatched; a pair saves this
        info = self._certified(pairs - columns.unsqueeze(1), y, matching, objective - paid.sum(1), mask, rows)
        info.duals["columns"] = info.duals["columns"] + paid
        return certified(y, objective, info.optimal, info.bound + paid.sum(1), info.duals)

    def support(self, *shapes: torch.Size, **instance: Tensor) -> tuple[Tensor | None, ...]:
        """Of rows and columns, those that are not padding."""
        mask = super().support(*shapes, **instance)[0]
        return (None, None, None) if mask is None else (mask, *real_lines(mask, mask))

    def tangent(self, *directions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of the directions when an unmatched row or column is one less its pairs.

        Exact where all pairs of (real) rows and columns are allowed; with other masks forbidden pairs and padding are left out.
        # (*S, B, n, m), (*S, B, n), (*S, B, m) -> the same
        """
        pairs, rows, columns = directions
        real_rows, real_columns = (lines.to(pairs.dtype) for lines in real_lines(pairs, mask))
        y, alone, left = _partial_tangent(pairs, rows, columns, real_rows, real_columns)
        if mask is None:
            return y, alone, left
        whole = (mask == mask.any(-1, keepdim=True) & mask.any(-2, keepdim=True)).flatten(-2).all(-1)[:, None]
        return (
            torch.where(mask, torch.where(whole.unsqueeze(-1), y, pairs), 0),
            torch.where(mask.any(-1), torch.where(whole, alone, rows), 0),
            torch.where(mask.any(-2), torch.where(whole, left, columns), 0),
        )

    def decode(self, y: Tensor | tuple[Tensor, ...], **instance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Row and column numbers of the pairs of each instance; `y` is the tuple of a solution or its first part."""
        return super().decode(y if isinstance(y, Tensor) else y[0])

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses anything but three score tensors whose shapes and types agree."""
        shapes = shapes_of(self, scores)
        if len(shapes) != 3 or len(shapes[0]) != 3 or shapes[1:] != [shapes[0][:2], shapes[0][::2]]:
            raise ValueError(
                f"PartialAssignment: the scores have shapes {', '.join(map(str, shapes))}; expected three tensors: costs of "
                f"pairs (B, n, m), of unmatched rows (B, n) and of unmatched columns (B, m)."
            )
        super().check(*scores, **instance)

    _advice = "A row whose cost is infinite needs a partner: make the cost finite, or allow it more pairs."


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _masked_tangent(direction: Tensor, mask: Tensor) -> Tensor:
    """The tangent with padding and forbidden pairs.  # (*S, B, n, m), (B, n, m) -> (*S, B, n, m)"""
    rows, columns = mask.any(-1), mask.any(-2)
    n, m = rows.sum(-1), columns.sum(-1)
    whole = (mask == rows.unsqueeze(-1) & columns.unsqueeze(-2)).flatten(-2).all(-1)
    by_row, by_column = n <= m, (n > m) | (n == m) & whole
    direction = torch.where(mask, direction, 0)
    direction = _centred(direction, mask, -1, by_row)
    return _centred(direction, mask, -2, by_column)


def _centred(direction: Tensor, mask: Tensor, dim: int, where: Tensor) -> Tensor:
    """`direction` less its mean along `dim` over the mask, in the instances `where`."""
    mean = direction.sum(dim, keepdim=True) / mask.sum(dim, keepdim=True).clamp(min=1)
    return torch.where(mask & where[:, None, None], direction - mean, direction)


def _partial_tangent(
    pairs: Tensor, rows: Tensor, columns: Tensor, real_rows: Tensor, real_columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Projection on all (D, -row sums of D, -column sums of D), D zero in padding.  # (*S, B, n, m), (*S, B, n), (*S, B, m)"""
    n, m = real_rows.sum(1, keepdim=True), real_columns.sum(1, keepdim=True)
    e = pairs - rows.unsqueeze(-1) - columns.unsqueeze(-2)
    e = torch.where((real_rows.unsqueeze(2) * real_columns.unsqueeze(1)).bool(), e, 0)
    # The normal equations E_ij = D_ij + r_i + c_j, summed over rows, columns and both, give the sums r, c and t of D.
    total = e.sum((-2, -1)).unsqueeze(-1) / (1 + n + m)
    r = (e.sum(-1) - total) / (1 + m) * real_rows
    c = (e.sum(-2) - total) / (1 + n) * real_columns
    return (e - r.unsqueeze(-1) - c.unsqueeze(-2)) * (real_rows.unsqueeze(2) * real_columns.unsqueeze(1)), -r, -c
