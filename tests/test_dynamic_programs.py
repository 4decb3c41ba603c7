"""State sequences and alignments, against enumeration, shortest paths, a plain program, and the two implementations."""

from __future__ import annotations

import copy
import math
from itertools import pairwise, product

import networkx
import pytest
import torch
from builds import compiled, each_build, each_dtype, refused, use
from cases import alignments
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.rules import IMLE, Blackbox, Identity, Perturbed
from solverlayers.solvers import chain_paths, dynamic_programs
from solverlayers.solvers.dynamic_programs import DTW, Viterbi
from solverlayers.solvers.kernels import alignment, viterbi
from solverlayers.testing import check_solver


def chains(batch: int, steps: int, states: int, own: bool, seed: int = 0, dtype: torch.dtype = torch.float64):
    """Scores of states and of transitions, those of one instance with ties."""
    g = torch.Generator().manual_seed(seed)
    unary = torch.randn(batch, steps, states, generator=g, dtype=dtype)
    unary[0] = unary[0].round()
    return unary, torch.randn(batch, *([steps - 1] if own else []), states, states, generator=g, dtype=dtype)


def prefixes(lengths: torch.Tensor, steps: int, states: int) -> torch.Tensor:
    return (torch.arange(steps) < lengths[:, None])[:, :, None].expand(-1, -1, states)


def sequences(steps: int, states: int) -> torch.Tensor:
    return torch.tensor(list(product(range(states), repeat=steps)))


def values(unary: torch.Tensor, transitions: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
    """The value of each of many sequences of one chain.  # (T, S), (S, S) or (T-1, S, S), (V, T) -> (V,)"""
    total = unary[torch.arange(sequence.shape[1]), sequence].sum(1)
    for step in range(sequence.shape[1] - 1):
        table = transitions if transitions.ndim == 2 else transitions[step]
        total = total + table[sequence[:, step], sequence[:, step + 1]]
    return total


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("steps", "states"), [(1, 1), (1, 4), (5, 1), (2, 3), (5, 3), (3, 9)])
def test_best_of_all_sequences(implementation, steps, states, own):
    unary, transitions = chains(5, steps, states, own)
    every = sequences(steps, states)
    y, made = Viterbi()(unary, transitions)
    for b, states_found in enumerate(Viterbi().decode((y, made))):
        best = values(unary[b], transitions[b], every).max()
        assert values(unary[b], transitions[b], torch.tensor([states_found]))[0] == pytest.approx(best.item())
        assert ((unary[b] * y[b]).sum() + (transitions[b] * made[b]).sum()).item() == pytest.approx(best.item())
    assert y.sum(2).eq(1).all()
    assert made.sum().item() == 5 * (steps - 1)


@pytest.mark.parametrize("own", [False, True])
def test_ragged_chains_are_chains_of_their_own(implementation, own):
    """Padding and forbidden states, with garbage in them, change nothing."""
    unary, transitions = chains(6, 5, 4, own)
    lengths = torch.tensor([5, 4, 3, 2, 1, 5])
    mask = prefixes(lengths, 5, 4).clone()
    mask[5, 2, :2] = False
    garbage = torch.where(mask, unary, torch.nan)
    if own:
        transitions = torch.where(mask.any(2)[:, 1:, None, None], transitions, torch.nan)
    y, made = Viterbi()(garbage, transitions, mask=mask)
    assert y[~mask].eq(0).all()
    for b in range(5):
        steps = int(lengths[b])
        own_part = transitions[b : b + 1, : steps - 1] if own else transitions[b : b + 1]
        alone, made_alone = Viterbi()(unary[b : b + 1, :steps], own_part)
        assert torch.equal(y[b, :steps], alone[0])
        assert torch.equal(made[b, : steps - 1] if own else made[b], made_alone[0])
        assert made[b].sum() == steps - 1
    allowed = sequences(5, 4)
    allowed = allowed[(allowed[:, 2] >= 2)]
    best = values(unary[5], transitions[5], allowed).max()
    assert values(unary[5], transitions[5], y[5].argmax(1)[None])[0] == best


def test_one_table_and_the_same_at_each_step_agree():
    unary, transitions = chains(7, 6, 4, own=False)
    y, made = Viterbi()(unary, transitions)
    each, made_each = Viterbi()(unary, transitions[:, None].expand(-1, 5, -1, -1))
    assert torch.equal(y, each)
    assert torch.equal(made, made_each.sum(1))


def test_ties_go_to_the_lowest_state(implementation):
    y, made = Viterbi()(torch.zeros(2, 3, 4), torch.zeros(2, 4, 4))
    assert Viterbi().decode((y, made)) == [[0, 0, 0], [0, 0, 0]]
    unary = torch.tensor([[[1, 1], [0, 0], [2, 2]]])
    assert Viterbi().decode(Viterbi()(unary, torch.tensor([[[0, 3], [3, 0]]]))) == [[0, 1, 0]]


@compiled
@each_build
@each_dtype
@pytest.mark.parametrize(("steps", "states"), [(1, 1), (1, 3), (7, 5), (4, 17), (6, 70)])
def test_compiled_and_torch_sequences_are_equal(build, dtype, steps, states, monkeypatch):
    use(build, monkeypatch)
    for own in (False, True):
        unary, transitions = chains(7, steps, states, own, dtype=dtype)
        unary[1], transitions[1] = 0, 0
        unary[2, -1], unary[3, 0, 0] = -torch.inf, torch.inf
        lengths = torch.tensor([steps, 1, steps, 1, max(1, steps - 1), 1, steps])
        mask = prefixes(lengths, steps, states) & (torch.rand(unary.shape, generator=torch.Generator().manual_seed(1)) < 0.8)
        mask[:, :, 0] |= prefixes(lengths, steps, states)[:, :, 0]
        for mask_, length in ((None, torch.full((7,), steps)), (mask, lengths)):
            a, b = (f.best_states(unary, transitions, mask_, length) for f in (viterbi, chain_paths))
            assert torch.equal(a.status.long(), b.status.long())
            assert torch.equal(a.taken, b.taken)
            assert torch.equal(a.made, b.made)


@pytest.mark.parametrize(
    "rule", [Identity(), Blackbox(step=5.0), IMLE(step=5.0, samples=20), Perturbed(sigma=0.5, samples=50)], ids=repr
)
@pytest.mark.parametrize("own", [False, True])
def test_gradients_reach_both_scores(rule, own):
    """A step against the gradient makes the wanted sequence better: both score tensors learn."""
    unary, transitions = (scores.float().requires_grad_() for scores in chains(4, 5, 3, own))
    torch.manual_seed(0)
    layer = SolverLayer(Viterbi(), copy.deepcopy(rule))
    y, made = layer(unary, transitions)
    goal = Viterbi()(-unary.detach(), -transitions.detach())
    loss = (y * (0.5 - goal[0])).sum() + (made * (0.5 - goal[1])).sum()
    loss.backward()
    slope = 0.0
    for scores, wanted in ((unary, goal[0]), (transitions, goal[1])):
        assert scores.grad.isfinite().all()
        assert scores.grad.ne(0).any()
        slope += (scores.grad * (wanted - 0.5)).sum().item()
    assert slope < 0
    for solved, expected in zip(layer.eval()(unary, transitions), Viterbi()(unary, transitions)):
        assert torch.equal(solved, expected)


@pytest.mark.parametrize("own", [False, True])
def test_tangent_keeps_differences_and_what_it_removes_does_not_matter(own):
    lengths = torch.tensor([5, 3, 1, 4])
    mask = prefixes(lengths, 5, 3)
    for instance in ({}, {"mask": mask}):
        (a, made_a), (b, made_b) = (Viterbi()(*chains(4, 5, 3, own, seed), **instance) for seed in (1, 2))
        kept = Viterbi().tangent(a - b, made_a - made_b, **instance)
        assert torch.allclose(kept[0], a - b)
        assert torch.allclose(kept[1], made_a - made_b)
        scores = chains(4, 5, 3, own, seed=3)
        once = Viterbi().tangent(*scores, **instance)
        for x, twice in zip(once, Viterbi().tangent(*once, **instance)):
            assert torch.allclose(x, twice)
        for x, y in zip(Viterbi()(*once, **instance), Viterbi()(*scores, **instance)):
            assert torch.equal(x, y)


def test_info_of_a_sequence():
    unary, transitions = chains(4, 5, 3, own=True)
    info = Viterbi().solve_with_info(unary, transitions)
    for found, expected in zip(info.solution, Viterbi()(unary, transitions)):
        assert torch.equal(found, expected)
    best = torch.stack([values(u, t, sequences(5, 3)).max() for u, t in zip(unary, transitions)])
    assert torch.allclose(info.objective, best)
    assert torch.equal(info.bound, info.objective)
    assert info.optimal.all()


def test_types_and_empty_batch():
    unary, transitions = chains(3, 4, 3, own=False)
    for dtype in (torch.float32, torch.int64, torch.int32, torch.bfloat16):
        scores = (unary * 3).round().to(dtype), (transitions * 3).round().to(dtype)
        y, made = Viterbi()(*scores)
        assert y.dtype == made.dtype == dtype
        assert torch.equal(y.double(), Viterbi()(*(s.double() for s in scores))[0])
    assert Viterbi()(unary.float(), transitions)[0].dtype == torch.float32
    y, made = Viterbi()(unary[:0], transitions[:0])
    assert (y.shape, made.shape) == ((0, 4, 3), (0, 3, 3))


def test_threads_change_nothing():
    threads = torch.get_num_threads()
    unary, transitions = chains(400, 30, 8, own=False)
    costs = torch.rand(300, 30, 30, generator=torch.Generator().manual_seed(0))
    try:
        answers = []
        for count in (1, 3):
            torch.set_num_threads(count)
            answers.append((Viterbi()(unary, transitions)[0], DTW()(costs)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*answers))


def test_chains_without_an_answer_are_named(implementation):
    unary, transitions = chains(3, 4, 2, own=False)
    mask = torch.ones(3, 4, 2, dtype=torch.bool)
    mask[1] = False
    padding = "Steps whose states are all False are padding, which stands at the end."
    refused(
        Viterbi(),
        (unary, transitions),
        f"Viterbi: instance 1 has no step in its mask (1 of 3 instances). {padding}",
        instances=[False, True, False],
        mask=mask,
    )
    mask[1], mask[2, 1] = True, False
    refused(
        Viterbi(),
        (unary, transitions),
        f"Viterbi: instance 2 has no state for step 1, but for later ones, in its mask (1 of 3 instances). {padding}",
        instances=[False, False, True],
        mask=mask,
    )
    unary[0, 3] = -torch.inf
    refused(
        Viterbi(),
        (unary, transitions),
        "Viterbi: instance 0 has no possible sequence (1 of 3 instances). Scores of minus infinity and `mask` forbid states "
        "and transitions: allow more.",
        instances=[True, False, False],
    )
    transitions[2, 0, 1] = torch.inf
    refused(
        Viterbi(),
        (unary, transitions),
        "Viterbi: instance 2 has a score of plus infinity (1 of 3 instances). A score of minus infinity forbids; plus infinity "
        "would outweigh everything.",
        InstanceError,
        [False, False, True],
    )
    unary[1, 0, 0] = torch.nan
    with pytest.raises(InstanceError, match=r"^Viterbi: instance 1 has NaN scores \(1 of 3 instances\)"):
        Viterbi()(unary, transitions)


def test_wrong_shapes_of_chains():
    refused(
        Viterbi(),
        (torch.zeros(2, 0, 3), torch.zeros(2, 3, 3)),
        "Viterbi: the unary scores have shape (2, 0, 3); expected (B, T, S), with one step and one state at least.",
        ValueError,
    )
    refused(
        Viterbi(),
        (torch.zeros(2, 4, 3), torch.zeros(3, 3)),
        "Viterbi: the transitions have shape (3, 3); with unary scores of shape (2, 4, 3) expected (2, 3, 3), or (2, 3, 3, 3) "
        "if each step has its own.",
        ValueError,
    )


def warp(costs: torch.Tensor) -> float:
    """The cost of the best path, by the recurrence, cell after cell."""
    n, m = costs.shape
    total = [[math.inf] * (m + 1) for _ in range(n + 1)]
    total[0][0] = 0.0
    for i in range(n):
        for k in range(m):
            total[i + 1][k + 1] = costs[i, k].item() + min(total[i][k], total[i][k + 1], total[i + 1][k])
    return total[n][m]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (2, 2), (3, 4), (20, 13), (17, 40)])
def test_alignment_by_the_recurrence(implementation, shape):
    costs = torch.randn(19, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    costs[1] = costs[1].round()
    y = DTW()(costs)
    for b in range(19):
        assert (costs[b] * y[b]).sum().item() == pytest.approx(warp(costs[b]))
    for path in DTW().decode(y):
        assert (path[0], path[-1]) == ((0, 0), (shape[0] - 1, shape[1] - 1))
        assert {(i - a, k - c) for (a, c), (i, k) in pairwise(path)} <= {(0, 1), (1, 0), (1, 1)}


def test_alignment_against_shortest_paths():
    costs = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for matrix, objective in zip(costs, DTW().solve_with_info(costs).objective):
        graph = networkx.DiGraph()
        for i, k in product(range(6), range(7)):
            for a, c in ((i - 1, k), (i, k - 1), (i - 1, k - 1)):
                if a >= 0 and c >= 0:
                    graph.add_edge((a, c), (i, k), weight=matrix[i, k].item())
        assert matrix[0, 0].item() + networkx.dijkstra_path_length(graph, (0, 0), (5, 6)) == pytest.approx(objective.item())


def test_costs_of_every_sign_and_all_alignments(implementation):
    check_solver(DTW(), (3, 4), vertices=alignments(torch.ones(3, 4, dtype=torch.bool)))


def test_ties_take_the_step_of_both(implementation):
    assert DTW().decode(DTW()(torch.zeros(1, 3, 3))) == [[(0, 0), (1, 1), (2, 2)]]
    assert DTW().decode(DTW()(torch.zeros(1, 2, 4))) == [[(0, 0), (0, 1), (0, 2), (1, 3)]]


def test_ragged_alignments(implementation):
    """Padding before and after, with garbage in it, changes nothing."""
    costs = torch.rand(4, 6, 7, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, 6, 7, dtype=torch.bool)
    boxes = ((0, 6, 0, 7), (0, 4, 0, 2), (2, 6, 1, 6), (5, 6, 6, 7))
    for b, (top, bottom, left, right) in enumerate(boxes):
        mask[b, top:bottom, left:right] = True
    y = DTW()(torch.where(mask, costs, torch.nan), mask=mask)
    assert y[~mask].eq(0).all()
    for b, (top, bottom, left, right) in enumerate(boxes):
        assert torch.equal(y[b, top:bottom, left:right], DTW()(costs[b : b + 1, top:bottom, left:right])[0])


def test_a_band_as_a_mask():
    costs = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    place = torch.arange(8)
    band = ((place[:, None] - place).abs() <= 1).expand(2, 8, 8)
    assert torch.equal(DTW()(costs, mask=band), DTW()(torch.where(band, costs, torch.inf)))
    assert torch.equal(DTW()(costs, mask=torch.eye(8, dtype=torch.bool).expand(2, 8, 8)), torch.eye(8).expand(2, 8, 8))


@compiled
@each_build
@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (7, 9), (17, 6)])
def test_compiled_and_torch_alignments_are_equal(build, dtype, shape, monkeypatch):
    use(build, monkeypatch)
    g = torch.Generator().manual_seed(0)
    costs = torch.randn(21, *shape, generator=g, dtype=dtype)
    costs[1] = costs[1].round()
    costs[2] = 0
    costs[3, 0, 0], costs[4, shape[0] // 2] = -torch.inf, torch.inf
    mask = torch.rand(21, *shape, generator=g) < 0.9
    mask[5] = False
    mask[6, : shape[0] // 2], mask[7, :, : shape[1] // 2], mask[8, shape[0] // 2 + 1 :] = False, False, False
    for mask_, corners in ((None, (None, None)), (mask, dynamic_programs._corners(mask))):
        a, b = (f.align(costs, mask_, *corners) for f in (alignment, chain_paths))
        assert torch.equal(a.status.long(), b.status.long())
        assert torch.equal(a.solution, b.solution)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 4), m=st.integers(1, 4))
def test_alignments_with_holes(seed, n, m):
    g = torch.Generator().manual_seed(seed)
    costs = torch.randint(-2, 3, (1, n, m), generator=g).double()
    mask = torch.rand(1, n, m, generator=g) < 0.8
    every = alignments(mask[0]).double()
    if len(every) == 0:
        with pytest.raises(InfeasibleError):
            DTW()(costs, mask=mask)
        return
    y = DTW()(costs, mask=mask)
    assert (every == y).flatten(1).all(1).any()
    assert (costs * y).sum() == (costs * every).sum((1, 2)).min()


def test_alignments_without_an_answer_are_named(implementation):
    costs = torch.rand(3, 4, 4)
    mask = torch.ones(3, 4, 4, dtype=torch.bool)
    mask[1] = False
    allow = "`mask` and infinite costs forbid pairs: allow more, such as a wider band."
    refused(
        DTW(),
        (costs,),
        f"DTW: instance 1 has no pair in its mask (1 of 3 instances). {allow}",
        instances=[False, True, False],
        mask=mask,
    )
    costs[2, 1] = torch.inf
    refused(
        DTW(),
        (costs,),
        f"DTW: instance 2 has no path from its first pair to its last (1 of 3 instances). {allow}",
        instances=[False, False, True],
    )
    costs[0, 1, 1] = -torch.inf
    refused(
        DTW(),
        (costs,),
        "DTW: instance 0 has a cost of minus infinity (1 of 3 instances). An infinite cost forbids; minus infinity would "
        "outweigh everything.",
        InstanceError,
        [True, False, False],
    )
    refused(
        DTW(),
        (torch.zeros(2, 0, 3),),
        "DTW: scores have shape (2, 0, 3); expected (B, n, m), with one element in each sequence at least.",
        ValueError,
    )
