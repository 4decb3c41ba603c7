"""Dynamic programs beside other packages, from scores to solutions (of single instances in a loop, where a peer takes no more).

Peers that are not installed are left out: `pip install biopython dtaidistance dtw-python hmmlearn pytorch-crf ruptures
torch-struct`. All find solutions of the same value, which is checked first. Ours are given scores and return indicators, as a
layer does; the gates ask that this takes no longer than the fastest peer, or a share of it.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import rustworkx
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers import DTW, EditDistance, Graph, LabelledSegmentation, LongestPath, Segmentation, Viterbi

Contestants = dict[str, Callable[[], Any]]


def states(batch: int, steps: int, count: int) -> Contestants:
    """The best sequences of states of chains that share their transitions."""
    unary, shared = torch.randn(batch, steps, count), torch.randn(count, count)
    transitions = shared.expand(batch, count, count)
    found: Contestants = {"ours": lambda: Viterbi()(unary, transitions)[0].argmax(2)}
    if find_spec("hmmlearn"):
        from hmmlearn import _hmmc

        start, table, rows = (
            np.ones(count),
            shared.double().exp().numpy(),
            unary.double().numpy(),
        )  # of these it takes logarithms
        found["hmmlearn"] = lambda: torch.from_numpy(np.stack([_hmmc.viterbi(start, table, row)[1] for row in rows]))
    if find_spec("torchcrf"):
        from torchcrf import CRF

        crf = CRF(count, batch_first=True)
        crf.start_transitions.data.zero_()
        crf.end_transitions.data.zero_()
        crf.transitions.data.copy_(shared)
        found["pytorch-crf"] = lambda: torch.tensor(crf.decode(unary))

    def value(sequence: Tensor) -> Tensor:
        return unary.gather(2, sequence[:, :, None]).sum((1, 2)) + shared[sequence[:, :-1], sequence[:, 1:]].sum(1)

    return agreed(found, value)


def warpings(batch: int, size: int) -> Contestants:
    """Alignments of two series under squared distances, which ours and dtw-python are given and dtaidistance works out."""
    first, second = torch.randn(2, batch, size).cumsum(2).double()

    costs = (first[:, :, None] - second[:, None]).square()
    found: Contestants = {"ours": partial(DTW(), costs), "ours, as lists": lambda: DTW().decode(DTW()(costs))}
    a, b = first.numpy(), second.numpy()
    if find_spec("dtaidistance"):
        from dtaidistance import dtw as dtai

        found["dtaidistance"] = lambda: [dtai.warping_path_fast(x, y) for x, y in zip(a, b)]
    if find_spec("dtw"):
        with contextlib.redirect_stdout(io.StringIO()):  # it greets
            import dtw

        def by_dtw() -> list[list[tuple[int, int]]]:
            paths = [dtw.dtw(matrix, step_pattern="symmetric1") for matrix in costs.numpy()]
            return [list(zip(p.index1.tolist(), p.index2.tolist())) for p in paths]

        found["dtw-python"] = by_dtw

    def value(paths: Any) -> Tensor:
        if isinstance(paths, Tensor):
            return (paths * costs).sum((1, 2))
        return torch.stack([matrix[tuple(torch.tensor(path).T)].sum() for matrix, path in zip(costs, paths)])

    return agreed(found, value)


def edit_distances(batch: int, size: int) -> Contestants:
    """Global alignments of words of 20 letters under a table of costs, deletions and insertions at a price of one."""
    words = torch.randint(20, (2, batch, size))
    table = torch.rand(20, 20).round(decimals=3) * 2
    ones = torch.ones(batch, size)

    costs = table[words[0][:, :, None], words[1][:, None]]
    found: Contestants = {"ours": lambda: EditDistance()(costs, ones, ones)}
    if find_spec("Bio"):
        from Bio import Align

        letters = "ACDEFGHIKLMNPQRSTVWY"
        matrix = Align.substitution_matrices.Array(letters, 2, -table.double().numpy())
        aligner = Align.PairwiseAligner(substitution_matrix=matrix, gap_score=-1.0, mode="global")
        first, second = (["".join(letters[k] for k in row) for row in part.tolist()] for part in words)

        def by_biopython() -> Tensor:
            return torch.tensor([-aligner.align(a, b)[0].score for a, b in zip(first, second)])

        found["biopython"] = by_biopython

    def value(answer: Any) -> Tensor:
        if isinstance(answer, Tensor):
            return answer
        return (costs * answer[0]).sum((1, 2)) + answer[1].sum(1) + answer[2].sum(1)

    return agreed(found, value)


def segmentations(batch: int, size: int) -> Contestants:
    """Piecewise constant fits of series, with a price for each piece; ruptures works out what pieces gain as it needs it."""
    series = (torch.randn(batch, size // 10) * 3).repeat_interleave(10, 1).double() + torch.randn(batch, size).double()
    price = 10.0

    def gains() -> Tensor:
        sums, squares = (torch.nn.functional.pad(x.cumsum(1), (1, 0)) for x in (series, series.square()))
        total, power = (x[:, None, 1:] - x[:, :-1, None] for x in (sums, squares))
        place = torch.arange(size)
        count = (place[None] - place[:, None] + 1).clamp_min(1)
        return total.square() / count - power - price

    found: Contestants = {"ours": partial(Segmentation(), gains()), "ours, from the series": lambda: Segmentation()(gains())}
    if find_spec("ruptures"):
        import ruptures

        signals = series.numpy()
        found["ruptures, in C"] = lambda: [
            ruptures.KernelCPD(kernel="linear", min_size=1, jump=1).fit(signal).predict(pen=price) for signal in signals
        ]

    def value(cuts: Any) -> Tensor:
        table = gains()
        if isinstance(cuts, Tensor):
            return (table * cuts).sum((1, 2))
        return torch.stack([table[b, [0, *ends[:-1]], [end - 1 for end in ends]].sum() for b, ends in enumerate(cuts)])

    return agreed(found, value)


def labelled_segmentations(batch: int, steps: int, longest: int, labels: int) -> Contestants:
    """Semi-Markov models whose instances share their transitions."""
    segments, shared = torch.randn(batch, steps, longest, labels), torch.randn(labels, labels)
    transitions = shared.expand(batch, labels, labels)
    found: Contestants = {"ours": lambda: LabelledSegmentation()(segments, transitions)}
    if find_spec("torch_struct"):
        from torch_struct import SemiMarkovCRF

        before = torch.cat([torch.zeros(1, labels, labels), shared.T.expand(steps - 1, labels, labels)])
        potentials = segments[..., None] + before[None, :, None]
        potentials = torch.cat([torch.full_like(potentials[:, :, :1], -1e9), potentials], 2)
        lengths = torch.full((batch,), steps + 1)
        found["torch-struct"] = lambda: SemiMarkovCRF(potentials.clone(), lengths).argmax

    def value(answer: Any) -> Tensor:
        if isinstance(answer, Tensor):
            return (answer * potentials).flatten(1).sum(1).detach()
        return (answer[0] * segments).flatten(1).sum(1) + (answer[1] * transitions).flatten(1).sum(1)

    return agreed(found, value)


def longest_paths(batch: int, nodes: int, edges: int) -> Contestants:
    """Paths between any two nodes of a random graph that all instances share."""
    pairs = torch.triu_indices(nodes, nodes, 1)
    graph = Graph(pairs[:, torch.randperm(pairs.shape[1])[:edges].sort().values], nodes)
    weights = torch.rand(batch, len(graph)).double()
    solver, ends = LongestPath(graph), graph.edges.T.tolist()
    digraph = networkx.DiGraph(ends)
    compiled = rustworkx.PyDiGraph()
    compiled.add_nodes_from(range(nodes))
    compiled.add_edges_from([(a, b, e) for e, (a, b) in enumerate(ends)])

    def by_networkx() -> Tensor:
        out = []
        for row in weights.tolist():
            networkx.set_edge_attributes(digraph, {tuple(pair): w for pair, w in zip(ends, row)}, "weight")
            path = networkx.dag_longest_path(digraph)
            out.append(sum(digraph[a][b]["weight"] for a, b in pairwise(path)))
        return torch.tensor(out, dtype=torch.float64)

    def by_rustworkx() -> Tensor:
        lengths = [
            rustworkx.dag_weighted_longest_path_length(compiled, lambda a, b, e, r=row: r[e]) for row in weights.tolist()
        ]
        return torch.tensor(lengths, dtype=torch.float64)

    found: Contestants = {"ours": lambda: solver(weights), "rustworkx": by_rustworkx, "networkx": by_networkx}
    return agreed(found, lambda y: y if y.ndim == 1 else (weights * y).sum(1))


def agreed(found: Contestants, value: Callable[[Any], Tensor]) -> Contestants:
    """The contestants, whose answers have the same values."""
    best = value(found["ours"]()).double()
    for name, call in found.items():
        other = value(call()).double()
        assert torch.allclose(other, best, rtol=1e-4, atol=1e-4), f"{name}: {other} instead of {best}"
    return found


def main() -> None:
    board = Board("Dynamic programs")
    torch.manual_seed(0)
    rows: list[tuple[str, float, Callable[[], Contestants]]] = [
        ("Viterbi, T=50, S=5, B=32", 1, lambda: states(32, 50, 5)),
        ("Viterbi, T=100, S=20, B=64", 0.5, lambda: states(64, 100, 20)),
        ("DTW, 50 x 50, B=32", 0.3, lambda: warpings(32, 50)),
        ("DTW, 200 x 200, B=32", 1, lambda: warpings(32, 200)),
        ("edit distance, 100 x 100, B=32", 0.5, lambda: edit_distances(32, 100)),
        ("segmentation, n=100, B=32", 1, lambda: segmentations(32, 100)),
        ("labelled segmentation, T=50, D=8, L=4, B=32", 0.01, lambda: labelled_segmentations(32, 50, 8, 4)),
        ("longest path, 100 nodes, 1000 edges, B=32", 0.05, lambda: longest_paths(32, 100, 1000)),
    ]
    for label, limit, build in rows[::2] if board.quick else rows:
        contestants = build()
        peers = [name for name in contestants if not name.startswith("ours")]
        if not peers:
            print(f"\n{label}: no peer is installed")
            continue
        times = race(contestants, peers[0], board.rounds)
        board.row(label, times)
        fastest = min(times[name].ratio for name in peers)
        board.check(f"{label}, beside the fastest peer", times["ours"].ratio / fastest, limit)
    board.finish()


if __name__ == "__main__":
    main()
