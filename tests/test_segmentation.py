"""Segmentations, against enumeration and longest paths by NetworkX."""

from __future__ import annotations

from itertools import pairwise, product

import networkx
import pytest
import torch
from builds import refused
from cases import cuts
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers import SolverLayer
from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.rules import Blackbox
from solverlayers.solvers.dynamic_programs import Viterbi
from solverlayers.solvers.segmentation import LabelledSegmentation, Segmentation, segment_sums
from solverlayers.testing import check_solver


def scores(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_few_elements(implementation, n):
    check_solver(Segmentation(), (n, n), vertices=cuts(torch.ones(n, n, dtype=torch.bool)))


def test_against_longest_paths(implementation):
    gains = scores(4, 12)
    for matrix, objective in zip(gains, Segmentation().solve_with_info(gains).objective):
        graph = networkx.DiGraph()
        graph.add_weighted_edges_from((i, k + 1, -matrix[i, k].item()) for i in range(12) for k in range(i, 12))
        assert -networkx.bellman_ford_path_length(graph, 0, 12) == pytest.approx(objective.item())


def test_pieces_of_constant_signals_are_found():
    """Optimal binning: squared distances from the mean of a segment, and a price for each."""
    signal = torch.tensor([1.0, 1.0, 1.0, 5.0, 5.0, 2.0])
    costs = torch.tensor(
        [[signal[i : k + 1].var(correction=0) * (k + 1 - i) if i <= k else 0 for k in range(6)] for i in range(6)]
    )
    assert Segmentation().decode(Segmentation()(-costs[None] - 0.1)) == [[(0, 2), (3, 4), (5, 5)]]


def test_ragged_sequences(implementation):
    """Padding, with garbage in it, changes nothing."""
    gains = scores(4, 6)
    mask = torch.zeros(4, 6, 6, dtype=torch.bool)
    lengths = (6, 4, 1, 3)
    for b, length in enumerate(lengths):
        mask[b, :length, :length] = True
    y = Segmentation()(torch.where(mask, gains, torch.nan), mask=mask)
    assert y[~mask].eq(0).all()
    for b, length in enumerate(lengths):
        assert torch.equal(y[b, :length, :length], Segmentation()(gains[b : b + 1, :length, :length])[0])


def test_ties_make_the_last_segment_long(implementation):
    assert Segmentation().decode(Segmentation()(torch.zeros(1, 4, 4))) == [[(0, 3)]]
    assert Segmentation().decode(Segmentation()(torch.zeros(1, 4, 4), mask=torch.ones(1, 4, 4).tril(1).bool())) == [
        [(0, 1), (2, 3)]
    ]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 5))
def test_some_segments_forbidden(seed, n):
    g = torch.Generator().manual_seed(seed)
    gains = torch.randint(-2, 3, (1, n, n), generator=g).double()
    mask = torch.rand(1, n, n, generator=g) < 0.7
    every = cuts(mask[0]).double()
    if len(every) == 0:
        with pytest.raises(InfeasibleError):
            Segmentation()(gains, mask=mask)
        return
    y = Segmentation()(gains, mask=mask)
    assert (every == y).flatten(1).all(1).any()
    assert (gains * y).sum() == (gains * every).sum((1, 2)).max()


def test_errors_name_the_instance(implementation):
    gains = scores(3, 3)
    gains[1, :, 2] = -torch.inf
    advice = "`mask` and scores of minus infinity forbid segments: allow more, such as those of one element."
    refused(
        Segmentation(),
        (gains,),
        f"Segmentation: instance 1 cannot be cut into segments that are allowed (1 of 3 instances). {advice}",
        instances=[False, True, False],
    )
    refused(
        Segmentation(),
        (scores(3, 3),),
        f"Segmentation: instance 2 cannot be cut into segments that are allowed (1 of 3 instances). {advice}",
        instances=[False, False, True],
        mask=torch.tensor([True, True, False])[:, None, None].expand(3, 3, 3),
    )
    gains[2, 0, 1] = torch.inf
    refused(
        Segmentation(),
        (gains,),
        "Segmentation: instance 2 has a score of plus infinity (1 of 3 instances). A score of minus infinity forbids; plus "
        "infinity would outweigh everything.",
        InstanceError,
    )
    refused(
        Segmentation(),
        (torch.zeros(2, 3, 4),),
        "Segmentation: scores have shape (2, 3, 4); expected (B, n, n), one for each first and last element of a segment, with "
        "at least one element.",
        ValueError,
    )


def labelled(batch: int, steps: int, longest: int, labels: int, own: bool, seed: int = 0):
    """Scores of segments and of transitions, those of one instance with ties."""
    g = torch.Generator().manual_seed(seed)
    segments = torch.randn(batch, steps, longest, labels, generator=g, dtype=torch.float64)
    transitions = torch.randn(batch, *([steps - 1] if own else []), labels, labels, generator=g, dtype=torch.float64)
    segments[0], transitions[0] = segments[0].round(), transitions[0].round()
    return segments, transitions


def every_way(steps: int, longest: int, labels: int) -> list[list[tuple[int, int, int]]]:
    """All ways to cut into labelled segments (first element, last, label)."""
    if steps == 0:
        return [[]]
    found = []
    for size, label in product(range(1, min(longest, steps) + 1), range(labels)):
        found += [[*way, (steps - size, steps - 1, label)] for way in every_way(steps - size, longest, labels)]
    return found


def value(segments: torch.Tensor, transitions: torch.Tensor, way: list[tuple[int, int, int]]) -> float:
    total = sum(segments[i, k - i, label].item() for i, k, label in way)
    for (_, k, a), (_, _, b) in pairwise(way):
        total += (transitions[a, b] if transitions.ndim == 2 else transitions[k, a, b]).item()
    return total


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("steps", "longest", "labels"), [(1, 1, 1), (1, 3, 2), (4, 1, 2), (4, 4, 1), (5, 3, 2), (4, 6, 3)])
def test_best_of_all_labelled_cuts(implementation, steps, longest, labels, own):
    segments, transitions = labelled(5, steps, longest, labels, own)
    info = LabelledSegmentation().solve_with_info(segments, transitions)
    y, made = info.solution
    assert info.optimal.all()
    for b, way in enumerate(LabelledSegmentation().decode((y, made))):
        best = max(value(segments[b], transitions[b], other) for other in every_way(steps, longest, labels))
        assert value(segments[b], transitions[b], way) == pytest.approx(best)
        assert info.objective[b].item() == pytest.approx(best)
        assert y[b].sum() == len(way)
        assert made[b].sum() == len(way) - 1


@pytest.mark.parametrize("own", [False, True])
def test_segments_of_one_element_are_states_of_a_chain(implementation, own):
    segments, transitions = labelled(6, 7, 1, 4, own)
    y, made = LabelledSegmentation()(segments[1:], transitions[1:])
    states, counts = Viterbi()(segments[1:, :, 0], transitions[1:])
    assert torch.equal(y[:, :, 0], states)
    assert torch.equal(made, counts)


def test_one_label_is_a_segmentation(implementation):
    gains = scores(4, 6)
    place = torch.arange(6)
    last = (place[:, None] + place).clamp_max(5)
    segments = gains[:, place[:, None], last][..., None]
    y, _ = LabelledSegmentation()(segments, torch.zeros(4, 1, 1, dtype=torch.float64))
    cut = [[(i, k) for i, k, _ in way] for way in LabelledSegmentation().decode((y,))]
    assert cut == Segmentation().decode(Segmentation()(gains))


@pytest.mark.parametrize("own", [False, True])
def test_ragged_labelled_sequences(implementation, own):
    """Padding, with garbage in it, changes nothing."""
    segments, transitions = labelled(4, 5, 3, 2, own)
    lengths = torch.tensor([5, 4, 1, 3])
    ends = torch.arange(1, 6)[:, None] + torch.arange(3)
    mask = (ends <= lengths[:, None, None])[..., None].expand(4, 5, 3, 2)
    garbage = torch.where(mask, segments, torch.nan)
    cut = (torch.arange(1, 5) < lengths[:, None])[:, :, None, None]
    y, made = LabelledSegmentation()(garbage, torch.where(cut, transitions, torch.nan) if own else transitions, mask=mask)
    assert y[~mask].eq(0).all()
    for b, length in enumerate(lengths.tolist()):
        part = transitions[b : b + 1, : length - 1] if own else transitions[b : b + 1]
        alone, made_alone = LabelledSegmentation()(segments[b : b + 1, :length], part)
        assert torch.equal(y[b, :length], alone[0])
        assert torch.equal(made[b, : length - 1] if own else made[b], made_alone[0])


def test_ties_of_labels(implementation):
    """The lowest label, and then the longest segment."""
    y = LabelledSegmentation()(torch.zeros(1, 4, 3, 2), torch.zeros(1, 2, 2))
    assert LabelledSegmentation().decode(y) == [[(0, 0, 0), (1, 3, 0)]]


def test_types_and_empty_batch_of_labelled_segments():
    segments, transitions = (3 * s for s in labelled(3, 4, 2, 2, own=False))
    for dtype in (torch.float32, torch.int64, torch.bfloat16):
        rounded = segments.round().to(dtype), transitions.round().to(dtype)
        y, made = LabelledSegmentation()(*rounded)
        assert y.dtype == made.dtype == dtype
        assert torch.equal(y.double(), LabelledSegmentation()(*(s.double() for s in rounded))[0])
    assert LabelledSegmentation()(segments[:0], transitions[:0])[0].shape == (0, 4, 2, 2)


def test_gradients_reach_segments_and_transitions():
    segments, transitions = (s.float().requires_grad_() for s in labelled(4, 5, 3, 2, own=False))
    y, made = SolverLayer(LabelledSegmentation(), Blackbox(step=5.0))(segments, transitions)
    goal = LabelledSegmentation()(-segments.detach(), -transitions.detach())
    ((y * (0.5 - goal[0])).sum() + (made * (0.5 - goal[1])).sum()).backward()
    slope = sum((s.grad * (wanted - 0.5)).sum() for s, wanted in zip((segments, transitions), goal))
    assert slope < 0
    assert transitions.grad.ne(0).any()


def test_segment_sums_are_differentiable():
    elements = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    sums = segment_sums(elements, 4)
    assert sums.shape == (2, 5, 4, 3)
    for i, d in product(range(5), range(4)):
        assert torch.allclose(sums[:, i, d], elements[:, i : i + d + 1].sum(1))
    assert torch.autograd.gradcheck(lambda x: segment_sums(x, 4), elements)


def test_labelled_sequences_without_an_answer_are_named(implementation):
    segments, transitions = labelled(3, 4, 2, 2, own=False)
    mask = torch.ones_like(segments, dtype=torch.bool)
    mask[1] = False
    advice = "`mask` and scores of minus infinity forbid segments: allow more, such as those of one element."
    where = "cannot be cut into segments that are allowed (1 of 3 instances)."
    solver = LabelledSegmentation()
    refused(
        solver,
        (segments, transitions),
        f"LabelledSegmentation: instance 1 {where} {advice}",
        instances=[False, True, False],
        mask=mask,
    )
    segments[2, 0] = -torch.inf
    refused(
        solver,
        (segments, transitions),
        f"LabelledSegmentation: instance 2 {where} {advice}",
        instances=[False, False, True],
    )
    segments[0, 0, 0, 0] = torch.inf
    refused(
        solver,
        (segments, transitions),
        "LabelledSegmentation: instance 0 has a score of plus infinity (1 of 3 instances). A score of minus infinity forbids; "
        "plus infinity would outweigh everything.",
        InstanceError,
    )
    refused(
        solver,
        (torch.zeros(2, 4, 3), torch.zeros(2, 3, 3)),
        "LabelledSegmentation: the scores of segments have shape (2, 4, 3); expected (B, T, D, L), with one element, one "
        "length and one label at least.",
        ValueError,
    )
    refused(
        solver,
        (torch.zeros(2, 4, 3, 2), torch.zeros(2, 3, 3)),
        "LabelledSegmentation: the transitions have shape (2, 3, 3); with scores of segments of shape (2, 4, 3, 2) expected "
        "(2, 2, 2), or (2, 3, 2, 2) if each place has its own.",
        ValueError,
    )
