"""The solution of the regularised problem, on the convex hull of the solutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import check_counts, check_positive
from ..compiled import oracle_of, reported, tags
from ..oracle import Oracle
from ..relaxations.base import BIG
from ..solver import Solver
from .base import Rule, needs_objective

_TOLERANCE = 1e-10
"""A vertex is new if it improves by more than this, relative to the lengths involved; in double precision."""


class Regularized(Rule):
    """The point of the hull of the solutions nearest to `theta / strength` (SparseMAP: Niculae et al., ICML 2018).

    Forward while training: `argmax_y <theta, y> - strength / 2 |y|^2` over the convex hull, a sparse mixture of solutions that
    the solver alone finds: it gets the gradient `theta - strength y` as scores, one vertex a call (Frank & Wolfe, 1956), and
    all weights are then corrected fully, dropping vertices of negative weight (the nearest-point algorithm: Wolfe, 1976). It
    ends when no vertex improves, which takes as many calls as the mixture has vertices, or a few more; after `iterations` calls
    beyond the first, the mixture so far is returned: nearest in the face that its vertices span, if not in the whole hull.

    Backward, for gradients `g` of the mixture: `P g / strength` with `P` the projection on the span of the differences of the
    mixture's vertices, the exact Jacobian; no further solve. The output is piecewise affine in `theta`: its second derivative
    is zero almost everywhere, which is right. For an argmax it is `Sparsemax(strength)`, for a ranking `SoftRank(strength)`,
    for top-k `SoftTopK(k, strength)`; a small `strength` gives the solution itself, and a gradient of zero.

    Under `torch.func`, where control flow cannot follow the data, all `iterations` calls are made. A heuristic solver gives a
    mixture of what it finds.

    >>> import torch
    >>> from solverlayers import SolverLayer
    >>> from solverlayers.solvers import Argmax
    >>> SolverLayer(Argmax(), Regularized(strength=1.0))(torch.tensor([[1.0, 0.5, -1.0]]))
    tensor([[0.7500, 0.2500, 0.0000]])
    """

    def __init__(self, strength: float = 1.0, iterations: int = 20):
        super().__init__()
        self.strength, self.iterations = strength, iterations

    def forward(self, oracle: Oracle, theta: Tensor) -> Tensor:
        if not self.training:
            return oracle(theta)
        event = theta.shape[theta.ndim - oracle.event_dim :]
        find = _find_vertices_compiled if torch.compiler.is_compiling() else _find_vertices
        with torch.no_grad():
            vertices, active = find(oracle, theta.detach(), self.strength, self.iterations)
        z = theta.double().clamp_min(-BIG).flatten(-oracle.event_dim) / self.strength
        y = (_affine_weights(vertices, active, z).unsqueeze(-1) * vertices).sum(-2)
        return y.unflatten(-1, event).to(theta.dtype)

    def check(self, solver: Solver) -> None:
        needs_objective(self, solver)
        if type(solver).offset is not Solver.offset and not solver.scale_free:  # an offset that vanishes is none
            raise ValueError(
                f"Regularized mixes solutions of a linear objective, and part of that of {solver!r} does not depend on the "
                f"scores: of a mixture, that part has no value. Use Perturbed, Blackbox, IMLE or Identity."
            )
        check_positive(self, "strength")
        check_counts(self, iterations=0)


def _find_vertices(oracle: Oracle, theta: Tensor, strength: float, iterations: int) -> tuple[Tensor, Tensor]:
    """The vertices of the mixture, and which of them count.  # (*B, *E) -> (*B, V, N), (*B, V)"""
    shape, dtype = theta.shape, torch.promote_types(theta.dtype, torch.float32)
    # a score of minus infinity forbids an entry; infinity times zero would be NaN
    z = theta.double().clamp_min(-BIG).flatten(-oracle.event_dim) / strength
    vertices = oracle(theta).flatten(-oracle.event_dim).double().unsqueeze(-2)
    weights = torch.ones_like(vertices[..., 0])
    active = weights > 0
    for _ in range(iterations):
        y = (weights.unsqueeze(-1) * vertices).sum(-2)
        direction = z - y
        vertex = oracle((direction * strength).to(dtype).reshape(shape)).flatten(-oracle.event_dim).double()
        step = vertex - y
        direction = torch.where(step == 0, 0, direction)
        better = (direction * step).sum(-1) > _TOLERANCE * direction.norm(dim=-1) * step.norm(dim=-1)
        better &= direction.norm(dim=-1) > _TOLERANCE * (vertex.norm(dim=-1) + y.norm(dim=-1))  # else `z` lay inside: y = z
        if _known(~better):
            break
        vertices = torch.cat([vertices, vertex.unsqueeze(-2)], -2)
        weights = torch.nn.functional.pad(weights, (0, 1))
        active = torch.cat([active, better.unsqueeze(-1)], -1)
        weights, active = _correct(vertices, weights, active, z)
    return vertices, active


def _find_vertices_compiled(oracle: Oracle, theta: Tensor, strength: float, iterations: int) -> tuple[Tensor, Tensor]:
    """`_find_vertices` as one operator of a graph, for all that the search may need: `iterations + 1` vertices, most of them
    idle. Traced, it would be as many calls of the solver and half their square of linear systems, minutes of compilation.
    """
    lead, names = theta.ndim - oracle.event_dim, ",".join(oracle.names)
    vertices, active, failed = torch.ops.solverlayers.find_vertices(
        id(oracle.solver),
        names,
        oracle.on_failure,
        oracle.sense == "max",
        float(strength),
        iterations,
        lead,
        list(oracle.unpack(theta)),
        list(oracle.tensors),
    )
    if oracle.on_failure != "raise":
        oracle.note(failed)
    return vertices, active


@torch.library.custom_op(
    "solverlayers::find_vertices",
    mutates_args=(),
    schema="(int solver, str names, str on_failure, bool gains, float strength, int iterations, int lead, Tensor[] parts, "
    "Tensor[] tensors) -> (Tensor, Tensor, Tensor)",
    **tags,
)
def _operator(
    solver: int,
    names: str,
    on_failure: str,
    gains: bool,
    strength: float,
    iterations: int,
    lead: int,
    parts: list[Tensor],
    tensors: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    theta = parts[0] if len(parts) == 1 else torch.cat([part.flatten(lead) for part in parts], -1)
    shapes = tuple(part.shape[lead:] for part in parts) if len(parts) > 1 else ()
    oracle = oracle_of(solver, names, on_failure, gains, shapes, tensors)
    vertices, active = _find_vertices(oracle, theta, strength, iterations)
    idle = iterations + 1 - vertices.shape[-2]
    pad = torch.nn.functional.pad
    return pad(vertices, (0, 0, 0, idle)), pad(active, (0, idle)), reported(oracle, oracle.failed, theta.movedim(lead - 1, 0))


@_operator.register_fake
def _(
    solver: int,
    names: str,
    on_failure: str,
    gains: bool,
    strength: float,
    iterations: int,
    lead: int,
    parts: list[Tensor],
    tensors: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    batch = parts[0].shape[:lead]
    entries = sum(math.prod(part.shape[lead:]) for part in parts)
    return (
        parts[0].new_empty((*batch, iterations + 1, entries), dtype=torch.float64),
        parts[0].new_empty((*batch, iterations + 1), dtype=torch.bool),
        parts[0].new_empty(batch[-1:], dtype=torch.bool),
    )


def _correct(vertices: Tensor, weights: Tensor, active: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The best mixture of the active vertices, from any mixture of them; those it does not need are dropped.

    Each round goes towards the nearest point of the affine hull until a weight is zero, and drops its vertex.
    """
    for _ in range(weights.shape[-1]):
        target = _affine_weights(vertices, active, z)
        negative = active & (target <= 0)
        reach = torch.where(negative, weights / torch.where(negative, weights - target, 1), 1)
        length = reach.amin(-1, keepdim=True)
        settled = ~negative.any(-1, keepdim=True)
        active = active & ~(negative & (reach <= length))
        weights = torch.where(settled, target, weights + length * (target - weights))
        weights = torch.where(active, weights.clamp_min(0), 0)
        if _known(settled):
            break
    return weights, active


def _affine_weights(vertices: Tensor, active: Tensor, z: Tensor) -> Tensor:
    """Weights, summing to one, of the point nearest to `z` in the affine hull of the active vertices.

    Differentiable in `z`, of which it is an affine function.  # (*B, V, N), (*B, V), (*B, N) -> (*B, V)
    """
    count = vertices.shape[-2]
    first = active.to(torch.uint8).argmax(-1, keepdim=True)
    origin = vertices.gather(-2, first.unsqueeze(-1).expand(*first.shape, vertices.shape[-1]))
    edges = torch.where(active.unsqueeze(-1), vertices - origin, 0)
    scale = edges.square().sum(-1).amax(-1).clamp_min(1e-300)[..., None, None]
    gram = edges @ edges.mT / scale
    # An inactive vertex, and the first, whose edge is zero, get an equation of their own: weight zero.
    idle = ~active | (torch.arange(count, device=z.device) == first)
    gram = gram + torch.diag_embed(idle.to(gram.dtype))
    right = torch.where(edges == 0, 0, edges * (z.unsqueeze(-2) - origin)).sum(-1, keepdim=True) / scale
    weights = torch.linalg.solve_ex(gram, right)[0].squeeze(-1)
    rest = 1 - weights.sum(-1, keepdim=True)
    return torch.where(torch.arange(count, device=z.device) == first, rest, weights)


def _known(condition: Tensor) -> bool:
    """Whether `condition` holds for all, where the data may be looked at at all."""
    return not torch._C._are_functorch_transforms_active() and bool(condition.all())
