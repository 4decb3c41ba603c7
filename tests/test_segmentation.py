"""Segmentation, against enumeration and longest paths by NetworkX."""

from __future__ import annotations

import re

import networkx
import pytest
import torch
from cases import cuts
from hypothesis import given, settings
from hypothesis import strategies as st

from solverlayers.errors import InfeasibleError, InstanceError
from solverlayers.solvers.segmentation import Segmentation
from solverlayers.testing import check_solver


def scores(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_few_elements(n):
    check_solver(Segmentation(), (n, n), vertices=cuts(torch.ones(n, n, dtype=torch.bool)))


def test_against_longest_paths():
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


def test_ragged_sequences():
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


def test_ties_make_the_last_segment_long():
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


def test_errors_name_the_instance():
    gains = scores(3, 3)
    gains[1, :, 2] = -torch.inf
    message = (
        "Segmentation: instance 1 cannot be cut into segments that are allowed (1 of 3 instances). `mask` and scores of minus "
        "infinity forbid segments: allow more, such as those of one element."
    )
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as error:
        Segmentation()(gains)
    assert error.value.instances.tolist() == [False, True, False]
    with pytest.raises(InfeasibleError, match=r"^Segmentation: instance 2 cannot be cut .* \(1 of 3 instances\)"):
        Segmentation()(scores(3, 3), mask=torch.tensor([True, True, False])[:, None, None].expand(3, 3, 3))
    gains[2, 0, 1] = torch.inf
    message = (
        "Segmentation: instance 2 has a score of plus infinity (1 of 3 instances). A score of minus infinity forbids; plus "
        "infinity would outweigh everything."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$"):
        Segmentation()(gains)
    message = (
        "Segmentation: scores have shape (2, 3, 4); expected (B, n, n), one for each first and last element of a segment, with "
        "at least one element."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Segmentation()(torch.zeros(2, 3, 4))
