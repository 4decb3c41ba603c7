"""Edit distances, against enumeration, the recurrence, and known words."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from builds import refused

from solverlayers import SolverLayer
from solverlayers.errors import InstanceError
from solverlayers.rules import IMLE, Blackbox, Identity
from solverlayers.solvers.assignment import PartialAssignment
from solverlayers.solvers.edit_distance import EditDistance


def costs(batch: int, n: int, m: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Of pairs, deletions and insertions, those of one instance with ties."""
    g = torch.Generator().manual_seed(seed)
    parts = tuple(torch.randn(batch, *shape, generator=g, dtype=torch.float64) for shape in ((n, m), (n,), (m,)))
    for part in parts:
        part[0] = part[0].round()
    return parts


def recurrence(pairs: torch.Tensor, deletions: torch.Tensor, insertions: torch.Tensor) -> float:
    """The cost of the best edits, cell after cell."""
    n, m = pairs.shape
    total = [[math.inf] * (m + 1) for _ in range(n + 1)]
    total[0][0] = 0.0
    for i in range(n + 1):
        for k in range(m + 1):
            if i and k:
                total[i][k] = total[i - 1][k - 1] + pairs[i - 1, k - 1].item()
            if i:
                total[i][k] = min(total[i][k], total[i - 1][k] + deletions[i - 1].item())
            if k:
                total[i][k] = min(total[i][k], total[i][k - 1] + insertions[k - 1].item())
    return total[n][m]


def every_alignment(n: int, m: int) -> torch.Tensor:
    """All sets of pairs in the same order.  # -> (V, n, m)"""
    found = []
    for size in range(min(n, m) + 1):
        for rows in combinations(range(n), size):
            for columns in combinations(range(m), size):
                y = torch.zeros(n, m, dtype=torch.float64)
                y[list(rows), list(columns)] = 1
                found.append(y)
    return torch.stack(found)


def distance(first: str, second: str, **options: torch.Tensor) -> float:
    a, b = (torch.tensor(list(word.encode()))[None] for word in (first, second))
    pairs = (a[:, :, None] != b[:, None]).double()
    return EditDistance().solve_with_info(pairs, torch.ones(a.shape).double(), torch.ones(b.shape).double()).objective.item()


@pytest.mark.parametrize("words", [("kitten", "sitting", 3), ("sunday", "saturday", 3), ("abc", "abc", 0), ("a", "bcd", 3)])
def test_known_words(implementation, words):
    assert distance(*words[:2]) == words[2]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 3), (4, 3)])
def test_best_of_all_alignments(implementation, shape):
    pairs, deletions, insertions = costs(6, *shape)
    every = every_alignment(*shape)
    y, d, i = EditDistance()(pairs, deletions, insertions)
    assert torch.equal(d, 1 - y.sum(2))
    assert torch.equal(i, 1 - y.sum(1))
    for b in range(6):
        assert (every == y[b]).flatten(1).all(1).any()
        worth = (every * pairs[b]).sum((1, 2)) + (1 - every.sum(2)) @ deletions[b] + (1 - every.sum(1)) @ insertions[b]
        found = (y[b] * pairs[b]).sum() + d[b] @ deletions[b] + i[b] @ insertions[b]
        assert found.item() == pytest.approx(worth.min().item())


@pytest.mark.parametrize("shape", [(20, 13), (17, 40)])
def test_by_the_recurrence(implementation, shape):
    parts = costs(19, *shape)
    info = EditDistance().solve_with_info(*parts)
    assert info.optimal.all()
    for b in range(19):
        assert info.objective[b].item() == pytest.approx(recurrence(*(part[b] for part in parts)))


def test_in_any_order_it_is_no_dearer():
    parts = costs(9, 6, 7)
    free = PartialAssignment().solve_with_info(*parts).objective
    assert (free <= EditDistance().solve_with_info(*parts).objective + 1e-9).all()


def test_ties_take_a_pair_then_a_deletion(implementation):
    """Read backwards."""
    solver = EditDistance()
    assert solver.decode(solver(torch.zeros(1, 2, 3), torch.zeros(1, 2), torch.zeros(1, 3))) == [[(0, 1), (1, 2)]]
    y, d, i = solver(torch.full((1, 1, 1), 9.0), torch.ones(1, 1), torch.ones(1, 1))
    assert (y.tolist(), d.tolist(), i.tolist()) == ([[[0.0]]], [[1.0]], [[1.0]])


def test_ragged_sequences(implementation):
    """Padding, with garbage in it, changes nothing; an element without a pair amid others is deleted."""
    pairs, deletions, insertions = costs(4, 6, 7)
    mask = torch.zeros(4, 6, 7, dtype=torch.bool)
    lengths = ((6, 7), (4, 2), (1, 5), (6, 1))
    for b, (n, m) in enumerate(lengths):
        mask[b, :n, :m] = True
    mask[0, 2] = False
    rows, columns = (torch.stack([torch.arange(s) < length[k] for length in lengths]) for k, s in enumerate((6, 7)))
    garbage = [torch.where(real, part, torch.nan) for real, part in zip((mask, rows, columns), (pairs, deletions, insertions))]
    y, d, i = EditDistance()(*garbage, mask=mask)
    assert y[~mask].eq(0).all()
    assert d[0, 2] == 1
    forbidden = torch.where(mask, pairs, torch.inf)
    for b, (n, m) in enumerate(lengths):
        alone = EditDistance()(forbidden[b : b + 1, :n, :m], deletions[b : b + 1, :n], insertions[b : b + 1, :m])
        assert torch.equal(y[b, :n, :m], alone[0][0])
        assert torch.equal(d[b], torch.nn.functional.pad(alone[1][0], (0, 6 - n)))
        assert torch.equal(i[b], torch.nn.functional.pad(alone[2][0], (0, 7 - m)))


@pytest.mark.parametrize("rule", [Identity(), Blackbox(step=5.0), IMLE(step=5.0, samples=10)], ids=repr)
def test_gradients_reach_all_costs(rule):
    torch.manual_seed(0)
    parts = [part.float().requires_grad_() for part in costs(4, 4, 5)]
    y = SolverLayer(EditDistance(), rule)(*parts)
    goal = EditDistance()(*(-part.detach() for part in parts))
    sum((one * (0.5 - wanted)).sum() for one, wanted in zip(y, goal)).backward()
    assert all(part.grad.isfinite().all() and part.grad.ne(0).any() for part in parts)
    slope = sum((part.grad * (0.5 - wanted)).sum() for part, wanted in zip(parts, goal))
    assert slope < 0  # the costs of what is wanted fall along the negative gradient


def test_tangent_keeps_differences():
    mask = torch.ones(4, 3, 4, dtype=torch.bool)
    mask[1, 2:], mask[2, :, 3:] = False, False
    for instance in ({}, {"mask": mask}):
        a, b = (EditDistance()(*costs(4, 3, 4, seed), **instance) for seed in (1, 2))
        difference = [x - y for x, y in zip(a, b)]
        for kept, whole in zip(EditDistance().tangent(*difference, **instance), difference):
            assert torch.allclose(kept, whole)


def test_types_and_empty_batch():
    parts = tuple((3 * part).round() for part in costs(3, 4, 3))
    for dtype in (torch.float32, torch.int64, torch.bfloat16):
        y = EditDistance()(*(part.to(dtype) for part in parts))
        assert all(one.dtype == dtype for one in y)
        assert torch.equal(y[0].double(), EditDistance()(*parts)[0])
    assert [one.shape for one in EditDistance()(*(part[:0] for part in parts))] == [(0, 4, 3), (0, 4), (0, 3)]


def test_instances_without_an_answer_are_named(implementation):
    pairs, deletions, insertions = costs(3, 2, 3)
    mask = torch.ones(3, 2, 3, dtype=torch.bool)
    mask[1] = False
    refused(
        EditDistance(),
        (pairs, deletions, insertions),
        "EditDistance: instance 1 has no pair in its mask (1 of 3 instances), so that its sequences have no end. Forbid pairs "
        "by infinite costs there.",
        instances=[False, True, False],
        mask=mask,
    )
    deletions[2] = torch.inf
    pairs[2, 0] = torch.inf
    refused(
        EditDistance(),
        (pairs, deletions, insertions),
        "EditDistance: instance 2 has no way to turn one sequence into the other (1 of 3 instances). Infinite costs and `mask` "
        "forbid pairs, deletions and insertions: allow more.",
        instances=[False, False, True],
    )
    insertions[0, 1] = -torch.inf
    refused(
        EditDistance(),
        (pairs, deletions, insertions),
        "EditDistance: instance 0 has a cost of minus infinity (1 of 3 instances). An infinite cost forbids; minus infinity "
        "would outweigh everything.",
        InstanceError,
        [True, False, False],
    )
    refused(
        EditDistance(),
        (pairs, insertions, deletions),
        "EditDistance: the scores have shapes (3, 2, 3), (3, 3), (3, 2); expected three tensors: costs of pairs (B, n, m), of "
        "deletions (B, n) and of insertions (B, m), with one element in each sequence at least.",
        ValueError,
    )
