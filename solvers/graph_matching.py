"""Graph matching: correspondences between the vertices of two graphs that suit their edges, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from solverlayers.errors import InstanceError, SolverTimeoutError, first_instance
from solverlayers.solver import Solution, inner

from . import graph_proof, graph_search
from .assignment import BipartiteMatching, CompleteAssignment
from .augmenting_paths import real_lines
from .kernels import graph_matching as kernel
from .kernels import usable
from .kernels.graph_matching import INVALID, LIMIT, Effort, Problem, Search


class _Searched(BipartiteMatching):
    """Solvers that search from several starts, and ask branch and bound what is proved."""

    exact = False
    binary = True
    nodes: ClassVar[int] = 0
    restarts: int
    iterations: int
    exchanges: int
    seed: int

    def __post_init__(self) -> None:
        for name, least in (("restarts", 1), ("iterations", 0), ("exchanges", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{type(self).__name__}: {name}={getattr(self, name)}; it must be at least {least}.")

    def _search(self, problem: Problem) -> Search:
        """The best matchings found."""
        if problem.scores.numel() == 0:
            return Search(problem.scores.new_full(problem.scores.shape[:2], -1, dtype=torch.int64), None)
        effort = Effort(self.restarts, self.iterations, self.exchanges, self.seed)
        backend = kernel if usable(problem.scores) else graph_search
        found = backend.search(problem, effort)
        if found.status is not None:
            self._fail(found.status.to(problem.scores.device), problem.scores, problem.mask)
        return found

    def _fail(self, status: Tensor, scores: Tensor, mask: Tensor | None) -> None:
        invalid = status == INVALID
        allowed = scores.isfinite() if mask is None else scores.isfinite() | ~mask
        other = invalid & allowed.flatten(1).all(1)
        if other.any():
            raise InstanceError(
                f"{type(self).__name__}: instance {first_instance(other)} has NaN or infinite numbers in its {self._quadratic} "
                f"({int(other.sum())} of {len(other)} instances). Only scores of single pairs may be infinite, to forbid them.",
                other,
            )
        super()._fail(status, scores, mask)

    _quadratic: ClassVar[str]
    _advice = (
        "All rows need a partner, or all columns where these are fewer; rows and columns that `mask` excludes altogether are "
        "padding. Allow more pairs."
    )

    def _info(self, y: Tensor | tuple[Tensor, ...], problem: Problem, partners: Tensor, objective: Tensor) -> Solution:
        """`y` with the bound of dual ascent, which often proves that small matchings are optimal."""
        _, _, bound = graph_proof.prove(problem, partners, 0)
        slack = 1e-9 * (1 + objective.abs())
        return Solution(y, objective, (objective - bound).abs() <= slack, bound)  # type: ignore[arg-type]

    def _proved(self, problem: Problem, nodes: int) -> Search:
        """The best matchings, with the status LIMIT where that is not proved."""
        size = sum(problem.scores.shape[1:]) if problem.partial else max(problem.scores.shape[1:])
        if size > graph_proof.LARGEST:
            raise ValueError(
                f"{type(self).__name__}: the scores have shape {tuple(problem.scores.shape)}, which is {size} rows or columns"
                f"{', as any may stay alone' if problem.partial else ''}; proofs reach {graph_proof.LARGEST}. Use "
                f"{type(self).__name__.removeprefix('Exact')}, whose `solve_with_info` has a bound."
            )
        found = self._search(problem)
        partners, status, _ = graph_proof.prove(problem, found.partners, nodes)
        return Search(partners, status)

    def _time_out(self, status: Tensor, incumbent: Tensor) -> None:
        late = status == LIMIT
        raise SolverTimeoutError(
            f"{type(self).__name__}: instance {first_instance(late)} is not solved after {self.nodes} nodes "  # type: ignore[attr-defined]
            f"({int(late.sum())} of {len(late)} instances). Raise `nodes`, or use {type(self).__name__.removeprefix('Exact')}, "
            f"which is as good on nearly all instances without the proof.",
            late,
            incumbent,
        )


@dataclass(frozen=True)
class QuadraticAssignment(_Searched, CompleteAssignment):
    """Quadratic assignment in the form of Koopmans and Beckmann, by Frank-Wolfe and tabu search from several starts.

    Minimises `<scores, y> + sum_ijkl flows_ij distances_kl y_ik y_jl` over matchings `y (B, n, m)` that leave out as few as
    possible: n facilities at m places, with `scores (B, n, m)` for what a place costs a facility, `flows (B, n, n)` between
    facilities and `distances (B, m, m)` between places. Neither needs to be symmetric. Infinite scores forbid pairs;
    `mask (B, n, m)` does so, too, and makes rows and columns without any allowed pair padding.

    Deterministic: starts depend on `seed` and on the places of rows and columns. Not exact, but mostly optimal up to 30
    rows; `solve_with_info` has a proved bound. `ExactQuadraticAssignment` proves optimality.

    Args:
        restarts: starts: the centre of the relaxation first, then points half way to pseudo-random matchings.
        iterations: most Frank-Wolfe steps of a start.
        exchanges: steps of tabu search from each local optimum; `restarts=1, exchanges=0` is the fast way.
        seed: of the starts.

    >>> line, ring = torch.tensor([[[0.0, 1, 2], [1, 0, 1], [2, 1, 0]]]), torch.tensor([[[0.0, 5, 1], [5, 0, 5], [1, 5, 0]]])
    >>> solver = QuadraticAssignment()
    >>> solver.partners(solver(torch.zeros(1, 3, 3), flows=ring, distances=line))
    tensor([[0, 1, 2]])

    Sources: J. T. Vogelstein et al., "Fast approximate quadratic programming for graph matching", PLOS ONE 10 (2015);
    E. Taillard, "Robust taboo search for the quadratic assignment problem", Parallel Computing 17 (1991).
    """

    restarts: int = 8
    iterations: int = 30
    exchanges: int = 200
    seed: int = 0

    sense = "min"
    scale_free = False
    _quadratic = "flows or distances"

    def solve(self, scores: Tensor, flows: Tensor, distances: Tensor, mask: Tensor | None = None) -> Tensor:
        """Good matchings.  # (B, n, m), (B, n, n), (B, m, m), (B, n, m) -> (B, n, m)"""
        return _indicator(self._search(self._problem(scores, flows, distances, mask)).partners, scores)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """Good matchings with a bound: dual ascent up to 32 rows, Gilmore and Lawler's above.  # (B, n, m) -> Solution"""
        y = self(scores, **instance)
        return self._info(y, self._problem(scores, **instance), self.partners(y), self._objective(scores, y, **instance))

    def offset(self, y: Tensor, flows: Tensor, distances: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the pairs cost together.  # (*S, B, n, m) -> (*S, B)"""
        if mask is not None:
            rows, columns = real_lines(y, mask)
            flows = torch.where(rows.unsqueeze(2) & rows.unsqueeze(1), flows, 0)
            distances = torch.where(columns.unsqueeze(2) & columns.unsqueeze(1), distances, 0)
        dtype = y.dtype if y.is_floating_point() else torch.float64
        y = y.to(dtype)
        return (flows.to(dtype) * (y @ distances.to(dtype) @ y.mT)).sum((-2, -1))

    def _objective(self, scores: Tensor, y: Tensor, **instance: Tensor) -> Tensor:
        return inner(scores.double(), y.double(), 2) + self.offset(y.double(), **instance)

    def _problem(self, scores: Tensor, flows: Tensor, distances: Tensor, mask: Tensor | None = None) -> Problem:
        count, n, m = self._checked(scores, mask).shape
        for name, tensor, size in (("flows", flows, n), ("distances", distances, m)):
            if tensor.shape != (count, size, size):
                raise ValueError(
                    f"{type(self).__name__}: `{name}` has shape {tuple(tensor.shape)}; it needs shape {(count, size, size)}, "
                    f"a number for every two {'rows' if name == 'flows' else 'columns'} of the scores, which have shape "
                    f"{(count, n, m)}."
                )
        return Problem(scores.double(), mask, flows.double(), distances.double())


@dataclass(frozen=True)
class ExactQuadraticAssignment(QuadraticAssignment):
    """QuadraticAssignment with a proof, by branch and bound from the matching that the search finds; for about 12 rows.

    Raises SolverTimeoutError, with the best known matchings as `incumbent`, for instances that `nodes` nodes do not solve, and
    ValueError above 32 rows or columns. Runs on the CPU whatever the device. Matchings as good up to rounding are not preferred
    one to the other.

    >>> a, b = torch.rand(2, 2, 9, 9)
    >>> info = ExactQuadraticAssignment().solve_with_info(torch.zeros(2, 9, 9), flows=a, distances=b)
    >>> info.optimal
    tensor([True, True])

    Source: P. M. Hahn, T. Grant, "Lower bounds for the quadratic assignment problem based upon a dual formulation", Operations
    Research 46 (1998).
    """

    nodes: int = 100_000  # type: ignore[misc]

    exact = True

    def solve(self, scores: Tensor, flows: Tensor, distances: Tensor, mask: Tensor | None = None) -> Tensor:
        """Optimal matchings.  # (B, n, m), (B, n, n), (B, m, m), (B, n, m) -> (B, n, m)"""
        found = self._proved(self._problem(scores, flows, distances, mask), self.nodes)
        y = _indicator(found.partners, scores)
        if found.status is not None:
            self._time_out(found.status, y)
        return y

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """Optimal matchings.  # (B, n, m) -> Solution"""
        y = self(scores, **instance)
        objective = self._objective(scores, y, **instance)
        return Solution(y, objective, torch.ones_like(objective, dtype=torch.bool), objective)


@dataclass(frozen=True)
class GraphMatching(_Searched):
    """Matching of the vertices of two graphs of greatest score, with scores for pairs of vertices and for pairs of edges.

    Maximises `<vertices, y> + <edges, z>` with `z_ab = y_ik y_jl` for edges `a = (i, j)` of the first graph and `b = (k, l)`
    of the second: `vertices (B, n, m)` and `edges (B, E1, E2)` are two score tensors, and a solution is the tuple `(y, z)` in
    their shapes, so that gradients reach both. `edge_index1 (B, 2, E1)` and `edge_index2 (B, 2, E2)` list directed edges as
    PyTorch Geometric does, negative numbers for padding. With all edges of complete graphs this is Lawler's quadratic
    assignment. Known as the solver of deep graph matching (Rolínek et al., ECCV 2020).

    All vertices of the smaller graph are matched, or, with `partial`, those for which it pays: outliers stay alone, at a score
    of 0. `mask (B, n, m)` is False for pairs of vertices that may not be matched; a vertex without any allowed pair is padding.
    The other fields are those of QuadraticAssignment.

    >>> path = torch.tensor([[[0, 1], [1, 2]]])  # 0 -> 1 -> 2
    >>> back = torch.tensor([[[2, 1], [1, 0]]])
    >>> y, z = GraphMatching()(torch.zeros(1, 3, 3), torch.ones(1, 2, 2), edge_index1=path, edge_index2=back)
    >>> GraphMatching().partners(y), z
    (tensor([[2, 1, 0]]), tensor([[[1., 0.],
             [0., 1.]]]))

    Sources: as QuadraticAssignment; M. Leordeanu, M. Hebert, R. Sukthankar, "An integer projected fixed point method for graph
    matching and MAP inference", NIPS 2009.
    """

    partial: bool = False
    restarts: int = 8
    iterations: int = 30
    exchanges: int = 100
    seed: int = 0

    sense = "max"
    _quadratic = "scores of edges"

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Good matchings.  # (B, n, m), (B, E1, E2), (B, 2, E1), (B, 2, E2), (B, n, m) -> (B, n, m), (B, E1, E2)"""
        problem = self._problem(vertices, edges, edge_index1, edge_index2, mask)
        return self._solution(self._search(problem).partners, vertices, edges, edge_index1, edge_index2)

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """Good matchings with a proved bound, as QuadraticAssignment; `solution` is the tuple."""
        y = self(*scores, **instance)
        return self._info(y, self._problem(*scores, **instance), self.partners(y[0]), self._objective(scores, y))

    def tangent(self, *directions: Tensor, mask: Tensor | None = None, **instance: Tensor) -> tuple[Tensor, Tensor]:
        """Of vertices as for an assignment; of edges all.  # (*S, B, n, m), (*S, B, E1, E2) -> the same"""
        vertices, edges = directions
        if self.partial:
            return (vertices if mask is None else torch.where(mask, vertices, 0)), edges
        return CompleteAssignment.tangent(self, vertices, mask=mask), edges  # type: ignore[arg-type]

    def decode(self, y: Tensor | tuple[Tensor, ...], **instance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Vertex numbers of the pairs of each instance; `y` is the tuple of a solution or its first part."""
        return super().decode(y if isinstance(y, Tensor) else y[0])

    def check(self, *scores: Tensor, **instance: Tensor) -> None:
        """Refuses anything but two score tensors and edges that fit them."""
        shapes = [tuple(part.shape) for part in scores]
        if len(shapes) != 2 or len(shapes[0]) != 3 or len(shapes[1]) != 3 or shapes[0][0] != shapes[1][0]:
            raise ValueError(
                f"{type(self).__name__}: the scores have shapes {', '.join(map(str, shapes))}; expected two tensors: scores of "
                f"pairs of vertices (B, n, m) and of pairs of edges (B, E1, E2)."
            )
        super().check(*scores, **instance)

    def _solution(
        self, partners: Tensor, vertices: Tensor, edges: Tensor, edge_index1: Tensor, edge_index2: Tensor
    ) -> tuple[Tensor, Tensor]:
        return _indicator(partners, vertices), _matched_edges(partners, edge_index1, edge_index2).to(edges.dtype)

    def _objective(self, scores: tuple[Tensor, ...], y: tuple[Tensor, ...]) -> Tensor:
        return inner(scores[0].double(), y[0].double(), 2) + inner(scores[1].double(), y[1].double(), 2)

    def _problem(
        self, vertices: Tensor, edges: Tensor, edge_index1: Tensor, edge_index2: Tensor, mask: Tensor | None = None
    ) -> Problem:
        self._checked(vertices, mask)
        self._check_edges("edge_index1", edge_index1, edges.shape[1], vertices.shape[1])
        self._check_edges("edge_index2", edge_index2, edges.shape[2], vertices.shape[2])
        return Problem(
            vertices.double(),
            mask,
            edges1=edge_index1,
            edges2=edge_index2,
            pairs=edges.double(),
            maximize=True,
            partial=self.partial,
        )

    def _check_edges(self, name: str, index: Tensor, count: int, vertices: int) -> None:
        this = type(self).__name__
        if index.dtype != torch.int64:
            raise TypeError(f"{this}: `{name}` is {index.dtype}; vertex numbers are torch.int64. Use `{name}.long()`.")
        if index.ndim != 3 or index.shape[1:] != (2, count):
            raise ValueError(
                f"{this}: `{name}` has shape {tuple(index.shape)}; the scores of edges need {(len(index), 2, count)}: sources "
                f"and targets of {count} edges of each instance."
            )
        wrong = (index >= vertices).flatten(1).any(1)
        if wrong.any():
            raise InstanceError(
                f"{this}: instance {first_instance(wrong)} has an edge at vertex {int(index[wrong].max())} in `{name}`, but "
                f"the scores have {vertices} vertices, numbered from 0 ({int(wrong.sum())} of {len(wrong)} instances). Negative "
                f"numbers mark padding.",
                wrong,
            )


@dataclass(frozen=True)
class ExactGraphMatching(GraphMatching):
    """GraphMatching with a proof, by branch and bound from the matching that the search finds; for about 12 vertices.

    Raises as ExactQuadraticAssignment does; `partial` counts the vertices of both graphs.

    >>> index = torch.combinations(torch.arange(6)).T.expand(3, 2, 15)
    >>> solver = ExactGraphMatching()
    >>> solver.solve_with_info(torch.rand(3, 6, 6), torch.rand(3, 15, 15), edge_index1=index, edge_index2=index).optimal
    tensor([True, True, True])
    """

    nodes: int = 100_000  # type: ignore[misc]

    exact = True

    def solve(
        self,
        vertices: Tensor,
        edges: Tensor,
        edge_index1: Tensor,
        edge_index2: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Optimal matchings.  # (B, n, m), (B, E1, E2), (B, 2, E1), (B, 2, E2), (B, n, m) -> (B, n, m), (B, E1, E2)"""
        found = self._proved(self._problem(vertices, edges, edge_index1, edge_index2, mask), self.nodes)
        y = self._solution(found.partners, vertices, edges, edge_index1, edge_index2)
        if found.status is not None:
            self._time_out(found.status, torch.cat([part.flatten(1) for part in y], 1))
        return y

    def solve_with_info(self, *scores: Tensor, **instance: Tensor) -> Solution:
        """Optimal matchings; `solution` is the tuple."""
        y = self(*scores, **instance)
        objective = self._objective(scores, y)
        return Solution(y, objective, torch.ones_like(objective, dtype=torch.bool), objective)


def _indicator(partners: Tensor, like: Tensor) -> Tensor:
    """The matching in which each row has its partner, -1 for none.  # (B, n), (B, n, m) -> (B, n, m)"""
    y = torch.zeros_like(like, memory_format=torch.contiguous_format)
    if y.numel():
        y.scatter_(2, partners.clamp(min=0).unsqueeze(2), (partners >= 0).to(y.dtype).unsqueeze(2))
    return y


def _matched_edges(partners: Tensor, edge_index1: Tensor, edge_index2: Tensor) -> Tensor:
    """Which edges go to which when vertices go to their partners.  # (B, n), (B, 2, E1), (B, 2, E2) -> (B, E1, E2)"""
    padded = torch.nn.functional.pad(partners, (0, 1), value=-1)  # where padding goes
    ends = torch.where(edge_index1 < 0, partners.shape[1], edge_index1)
    images = padded.gather(1, ends.flatten(1)).view_as(ends)
    same = (images.unsqueeze(3) == edge_index2.unsqueeze(2)) & (images >= 0).unsqueeze(3)
    return same.all(1)
