"""What all shortest path problems share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from solverlayers.errors import InfeasibleError, InstanceError, first_instance
from solverlayers.solver import Sense, Solution, Solver

from .kernels import usable
from .kernels.grid_path import INVALID, UNREACHABLE, Paths, Reading

_NATIVE = (torch.float32, torch.float64)


class ShortestPath(Solver):
    """Cheapest paths from a source to a target under non-negative costs; the solution marks what the path uses.

    Distances are sums in the dtype of the scores, rounded after each addition, so a path is optimal up to that rounding: for
    the best accuracy pass float64. Integer costs are summed in float64, exactly as long as paths cost less than 2**53.

    Paths in a graph that all instances share take a `warm_start (B, nodes)`, integers: the order in which the kernel looked at
    the nodes. It serves all similar costs, and finding it is a large part of the work. The distances of the first solve would
    save less: to see which still hold takes a look at every edge, and the kernel looks at each about twice altogether; and
    where one edge of a path costs more, none holds behind it.
    """

    sense = "min"
    binary = True

    def clip(self, scores: Tensor) -> Tensor:
        """Costs made non-negative.  # (B, *E) -> (B, *E)"""
        return scores.clamp_min(0)

    def solve(self, scores: Tensor, **instance: Tensor) -> Tensor:
        return self._paths(scores, False, Reading.COSTS, **instance).solution

    # The kernels turn gains into costs and clip them as they read them.

    def optimise(self, scores: Tensor, *, sense: Sense | None = None, **instance: Tensor) -> Tensor:
        """The cheapest paths, at clipped costs or gains.  # (B, *E) -> (B, *E)"""
        return self.optimise_with_start(scores, sense=sense, **instance)[0]

    def optimise_with_start(
        self, scores: Tensor, *, sense: Sense | None = None, **instance: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The same, and the order of nodes, one for all, in which the kernel found them, if there is one.  # (B, nodes)"""
        if not usable(scores):
            return super().optimise(scores, sense=sense, **instance), None
        self.check(scores, **instance)
        paths = self._paths(scores, False, Reading.GAINS if sense == "max" else Reading.CLIPPED_COSTS, **instance)
        return paths.solution, None if paths.order is None else paths.order.expand(len(scores), -1)

    def solve_with_info(self, scores: Tensor, **instance: Tensor) -> Solution:
        """The paths, with their lengths as objectives and bounds, and potentials that prove them.

        `duals["potential"]` are the distances from the source, none greater than the target's. The difference along an edge (or
        into a cell) is never more than its cost, so no path can be shorter than the target's potential.
        """
        self.check(scores, **instance)
        paths = self._paths(scores, True, Reading.COSTS, **instance)
        assert paths.distances is not None
        optimal = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
        length = paths.distances.flatten(1).amax(1)  # the target's distance, since none is greater
        return Solution(paths.solution, length, optimal, length, {"potential": paths.distances})

    @abstractmethod
    def _paths(self, scores: Tensor, distances: bool, reading: Reading, **instance: Tensor) -> Paths:
        """The paths, with the distances if they are asked for; only kernels read other than costs.  # (B, *E) -> Paths"""

    def _check_nan(self, scores: tuple[Tensor, ...], instance: dict[str, Tensor]) -> None:
        """Nothing yet: NaN is no cost that the algorithms accept, which saves a pass over the scores."""

    def _order(self, warm_start: Tensor | None, scores: Tensor, nodes: int) -> Tensor | None:
        """The order of nodes to start from, for all instances.  # (B, nodes) -> (nodes,)"""
        if warm_start is None or not len(scores):
            return None
        if warm_start.shape != (len(scores), nodes) or warm_start.is_floating_point():
            raise ValueError(
                f"{type(self).__name__}: `warm_start` is {warm_start.dtype} of shape {tuple(warm_start.shape)}; it needs to be "
                f"nodes in order, integers of shape {(len(scores), nodes)}, as `optimise_with_start` returns them."
            )
        return warm_start[0].int()

    def _native(self, scores: Tensor) -> Tensor:
        """`scores` in a type in which distances are summed."""
        if scores.dtype in _NATIVE:
            return scores
        return scores.to(torch.float32 if scores.dtype.is_floating_point else torch.float64)

    def _finish(self, paths: Paths, scores: Tensor, mask: Tensor | None, advice: str) -> Paths:
        """The paths in the dtype of the scores; refuses instances without an answer, with `advice` where there is no path."""
        if paths.status is not None:
            self._refuse(paths.status, scores if mask is None else scores.where(mask, torch.zeros_like(scores)), advice)
        return paths if paths.solution.dtype == scores.dtype else paths._replace(solution=paths.solution.to(scores.dtype))

    def _refuse(self, status: Tensor, scores: Tensor, advice: str) -> None:
        super()._check_nan((scores,), {})
        name, count = type(self).__name__, len(status)
        invalid = status == INVALID
        if invalid.any():
            first = first_instance(invalid)
            raise InstanceError(
                f"{name}: instance {first} has a negative cost ({scores[first].min().item():g}; {int(invalid.sum())} of "
                f"{count} instances). Shortest paths need costs >= 0: end the network in softplus or abs, or use "
                f"`solver.clip(scores)`, as a layer does.",
                invalid,
            )
        failed = status == UNREACHABLE
        raise InfeasibleError(
            f"{name}: instance {first_instance(failed)} has no path from its source to its target ({int(failed.sum())} of "
            f"{count} instances). {advice}",
            failed,
        )
