"""One row per solver and per rule. A new solver or rule gets the whole contract from its row.

A solver's row: how to build it small, the shape of its scores, its instance data, and all its solutions by brute force.
A rule's row: how to build it for a solver's row, and for which solvers it has a meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, permutations, product
from typing import Any

import torch
from solverlayers.solvers.assignment import Assignment, GatedAssignment, MaxAssignment
from solverlayers.solvers.elementwise import HardFunction, Round, Sign, Threshold
from solverlayers.solvers.selection import Argmax, TopK
from solverlayers.solvers.sorting import Permutation, Ranking
from torch import Tensor

from solverlayers.noise import Gumbel
from solverlayers.rules import DAB, IMLE, Blackbox, Identity, Perturbed, Rule, StraightThrough
from solverlayers.solver import Solver


@dataclass(frozen=True)
class SolverCase:
    solver: Solver
    shape: tuple[int, ...]
    vertices: Tensor | Callable[..., Tensor] | None = None
    instance: Callable[[int], dict[str, Tensor]] | None = None
    options: dict[str, Any] = field(default_factory=dict)  # more arguments of `check_solver`
    output_shape: tuple[int, ...] | None = None
    native: bool = False  # plain torch on every path: compiles without a graph break
    by_sign: bool = False  # the solution depends on the signs of the scores alone

    def build(self, batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores that want a gradient, and instance data."""
        scores = self.solver.clip(torch.randn(batch, *self.shape, dtype=dtype))
        return scores.requires_grad_(), self.instance(batch) if self.instance else {}


@dataclass(frozen=True)
class RuleCase:
    build: Callable[[SolverCase], Rule]
    applies: Callable[[SolverCase], bool] = lambda case: True
    positive: bool = False  # meant for scores of one sign


def one_of(n: int, values: tuple[float, ...]) -> Tensor:
    """All vectors with entries from `values`.  # -> (V, n)"""
    return torch.tensor(list(product(values, repeat=n)))


def subsets(n: int, k: Tensor | int, mask: Tensor | None = None) -> Tensor:
    """Indicators of all k-subsets of the entries in the mask.  # -> (V, n)"""
    entries = range(n) if mask is None else mask.nonzero()[:, 0].tolist()
    return torch.stack([torch.eye(n)[list(chosen)].sum(0) for chosen in combinations(entries, int(k))])


def rank_vectors(n: int, mask: Tensor | None = None) -> Tensor:
    """All rankings 1, 2, ... of the entries in the mask.  # -> (V, n)"""
    mask = torch.ones(n, dtype=torch.bool) if mask is None else mask
    orders = torch.tensor(list(permutations(range(1, int(mask.sum()) + 1))), dtype=torch.float32)
    out = torch.zeros(len(orders), n)
    out[:, mask] = orders
    return out


def matchings(n: int, m: int, mask: Tensor | None = None, partial: bool = False) -> Tensor:
    """All matchings along allowed pairs; unless `partial`, those that leave out as few as possible.  # -> (V, n, m)"""
    mask = torch.ones(n, m, dtype=torch.bool) if mask is None else mask
    found = []
    for columns in product(range(-1, m), repeat=n):
        taken = [c for c in columns if c >= 0]
        if len(taken) == len(set(taken)) and all(c < 0 or mask[r, c] for r, c in enumerate(columns)):
            y = torch.zeros(n, m)
            for row, column in enumerate(columns):
                if column >= 0:
                    y[row, column] = 1
            found.append(y)
    every = torch.stack(found)
    size = min(int(mask.any(1).sum()), int(mask.any(0).sum()))
    return every if partial else every[every.sum((1, 2)) == size]


def ragged(n: int, least: int = 1) -> Callable[[int], dict[str, Tensor]]:
    """Masks of every length, and one with a hole."""

    def instance(batch: int) -> dict[str, Tensor]:
        lengths = n - torch.arange(batch) % (n - least + 1)
        mask = torch.arange(n) < lengths[:, None]
        mask[batch // 2 :] = mask[batch // 2 :].flip(1)
        return {"mask": mask}

    return instance


def ragged_matrix(n: int, m: int) -> Callable[[int], dict[str, Tensor]]:
    """Padding at the end, and in every other instance one forbidden pair."""

    def instance(batch: int) -> dict[str, Tensor]:
        mask = torch.zeros(batch, n, m, dtype=torch.bool)
        for b in range(batch):
            mask[b, : n - b % 2, : m - b % 3] = True
            mask[b, 0, 0] = b % 2 == 0
        return {"mask": mask}

    return instance


def both(*parts: Callable[[int], dict[str, Tensor]]) -> Callable[[int], dict[str, Tensor]]:
    return lambda batch: {key: value for part in parts for key, value in part(batch).items()}


def positive_parts(x: Tensor) -> Tensor:
    """How many entries are positive, and how many above one.  # (B, n) -> (B, 2)"""
    return torch.stack([(x > 0).sum(-1), (x > 1).sum(-1)], -1)


def prices(batch: int) -> dict[str, Tensor]:
    return {"unmatched": torch.linspace(-0.5, 1.0, batch)}


def row_prices(batch: int) -> dict[str, Tensor]:
    return {"unmatched": torch.linspace(-1, 2, 3 * batch, dtype=torch.float64).reshape(batch, 3)}


SOLVERS: dict[str, SolverCase] = {
    "sign": SolverCase(Sign(), (4,), one_of(4, (-1.0, 1.0)), native=True, by_sign=True),
    "sign_margin": SolverCase(Sign(margin=0.5), (4,), one_of(4, (-1.0, 0.0, 1.0)), native=True),
    "sign_map": SolverCase(Sign(margin=0.5, event_dim=2), (2, 2), one_of(4, (-1.0, 0, 1.0)).reshape(-1, 2, 2), native=True),
    "sign_mask": SolverCase(Sign(), (4,), instance=ragged(4, 0), native=True, by_sign=True),
    "threshold": SolverCase(Threshold(), (4,), one_of(4, (0.0, 1.0)), native=True, by_sign=True),
    "threshold_at": SolverCase(Threshold(at=0.3), (4,), one_of(4, (0.0, 1.0)), native=True),
    "round": SolverCase(Round(), (4,), native=True),
    "hard_function": SolverCase(HardFunction(positive_parts), (4,), output_shape=(2,), native=True),
    "hard_same_shape": SolverCase(HardFunction(torch.sign, same_shape=True), (4,), native=True, by_sign=True),
    "argmax": SolverCase(Argmax(), (4,), torch.eye(4), native=True),
    "argmax_mask": SolverCase(Argmax(), (4,), lambda mask: subsets(4, 1, mask), ragged(4), native=True),
    "topk": SolverCase(TopK(2), (5,), subsets(5, 2), native=True),
    "topk_smallest": SolverCase(TopK(2, largest=False), (5,), subsets(5, 2), native=True),
    "topk_each": SolverCase(
        TopK(),
        (5,),
        lambda k, mask: subsets(5, k, mask),
        both(ragged(5, 2), lambda b: {"k": torch.arange(b) % 3}),
        native=True,
    ),
    "ranking": SolverCase(Ranking(), (4,), rank_vectors(4), native=True),
    "ranking_descending": SolverCase(Ranking(descending=True), (4,), rank_vectors(4), native=True),
    "ranking_mask": SolverCase(Ranking(), (5,), lambda mask: rank_vectors(5, mask), ragged(5, 0), native=True),
    "permutation": SolverCase(Permutation(), (4,), output_shape=(4, 4), native=True),
    "assignment": SolverCase(Assignment(), (3, 3), matchings(3, 3)),
    "assignment_wide": SolverCase(Assignment(), (2, 4), matchings(2, 4)),
    "assignment_tall": SolverCase(MaxAssignment(), (4, 3), matchings(4, 3)),
    "assignment_mask": SolverCase(MaxAssignment(), (3, 4), lambda mask: matchings(3, 4, mask), ragged_matrix(3, 4)),
    "gated_assignment": SolverCase(GatedAssignment(), (3, 3), lambda unmatched: matchings(3, 3, partial=True), row_prices),
    "gated_assignment_mask": SolverCase(
        GatedAssignment(),
        (3, 4),
        lambda unmatched, mask: matchings(3, 4, mask, partial=True),
        both(prices, ragged_matrix(3, 4)),
    ),
}


def _same_shape(case: SolverCase) -> bool:
    return case.solver.same_shape


def _linear(case: SolverCase) -> bool:
    return case.solver.linear


RULES: dict[str, RuleCase] = {
    "straight_through": RuleCase(lambda case: StraightThrough(), _same_shape),
    "straight_through_sigmoid": RuleCase(lambda case: StraightThrough(torch.sigmoid), _same_shape),
    "identity": RuleCase(lambda case: Identity(), _same_shape),
    "blackbox": RuleCase(lambda case: Blackbox(step=5.0), _linear),
    "imle": RuleCase(lambda case: IMLE(step=5.0, samples=3), _linear),
    "perturbed": RuleCase(lambda case: Perturbed(sigma=0.5, samples=16)),
    "perturbed_gumbel": RuleCase(lambda case: Perturbed(sigma=0.5, samples=16, noise=Gumbel())),
    "perturbed_multiplicative": RuleCase(
        lambda case: Perturbed(sigma=0.8, samples=16, multiplicative=True), lambda case: not case.by_sign, positive=True
    ),
    "dab_batch": RuleCase(lambda case: DAB("batch", shape=case.shape, output_shape=case.output_shape)),
    "dab_independent": RuleCase(lambda case: DAB("independent", shape=case.shape), _same_shape),
    "dab_equivariant": RuleCase(lambda case: DAB("equivariant", shape=case.shape), _same_shape),
}
PAIRS = [(s, r) for s, case in SOLVERS.items() for r, rule in RULES.items() if rule.applies(case)]
REFUSED = [(s, r) for s, r in product(SOLVERS, RULES) if (s, r) not in PAIRS and r != "perturbed_multiplicative"]
