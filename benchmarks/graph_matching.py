"""Quadratic assignment beside SciPy's FAQ, at an objective at least as good, and graph matching beside pygmtools.

pygmtools is raced where it is installed, from affinity matrices that are made beforehand. The gap on published instances needs
a folder with `qaplib_dev`, named by SOLVERLAYERS_DATA. Run `python benchmarks/graph_matching.py --quick`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import quadratic_assignment
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.race import Board, race
from solverlayers.solvers.graph_data import delaunay_edges
from solverlayers.solvers.graph_matching import GraphMatching
from solverlayers.solvers.quadratic_assignment import ExactQuadraticAssignment, QuadraticAssignment
from solverlayers.solvers.relaxed_matching import IPFP, RRWM, SpectralMatching

FAST = QuadraticAssignment(restarts=1, exchanges=0)
SIZES = ((10, 1), (10, 64), (20, 32), (30, 16), (50, 8), (100, 2))
QUICK = ((10, 64), (30, 16))


def instances(batch: int, n: int, symmetric: bool) -> dict[str, Tensor]:
    """Uniform flows and distances, nothing on the diagonals."""
    out = {}
    for key in ("flows", "distances"):
        matrix = torch.rand(batch, n, n, dtype=torch.float64)
        matrix = matrix + matrix.mT if symmetric else matrix
        out[key] = matrix * (1 - torch.eye(n))
    return out


def by_scipy(data: dict[str, Tensor]) -> Tensor:
    """The solutions of SciPy's loop, as ours: from tensors to a 0/1 tensor."""
    flows, distances = (matrix.numpy() for matrix in data.values())
    y = np.zeros(flows.shape)
    for b, (a, d) in enumerate(zip(flows, distances)):
        y[b, np.arange(len(a)), quadratic_assignment(a, d, method="faq").col_ind] = 1
    return torch.from_numpy(y)


def race_faq(board: Board) -> None:
    for n, batch in QUICK if board.quick else SIZES:
        for symmetric in (True, False):
            data = instances(batch, n, symmetric)
            scores = torch.zeros(batch, n, n, dtype=torch.float64)
            contestants = {"scipy": partial(by_scipy, data), "ours": partial(FAST, scores, **data)}
            if not board.quick:
                contestants["default"] = partial(QuadraticAssignment(), scores, **data)
            times = race(contestants, "scipy", board.rounds)
            mean = {name: FAST.offset(solve(), **data).mean().item() for name, solve in contestants.items()}
            label = f"{'symmetric' if symmetric else 'general'}, n={n}, B={batch}"
            board.row(f"{label}; mean cost " + ", ".join(f"{name} {value:.1f}" for name, value in mean.items()), times)
            board.check(label, times["ours"].ratio, 0.15)


def published_gaps(folder: Path) -> None:
    """Means over the instances: gap to the best known cost, and seconds of an instance."""
    arrays, optima = np.load(folder / "qaplib_dev.npz"), json.loads((folder / "optima.json").read_text())
    solvers = {"one start": FAST, "default": QuadraticAssignment(), "50 restarts": QuadraticAssignment(restarts=50)}
    for label, solver in {**solvers, "exact, n <= 12": ExactQuadraticAssignment()}.items():
        gaps, seconds = [], []
        for name, entry in optima.items():
            flows, distances = (torch.as_tensor(arrays[f"{name}__{key}"])[None] for key in "AB")
            if isinstance(solver, ExactQuadraticAssignment) and entry["n"] > 12:
                continue
            start = time.process_time()
            y = solver(torch.zeros_like(flows), flows=flows, distances=distances)
            seconds.append(time.process_time() - start)
            excess = solver.offset(y, flows=flows, distances=distances).item() - entry["optimum"]
            gaps.append(excess / max(entry["optimum"], 1))  # one optimum is zero
        print(f"{label}: mean gap {np.mean(gaps):.3%}, worst {max(gaps):.3%}, {1000 * np.mean(seconds):.1f} ms")


def point_pairs(batch: int, n: int) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    """Two noisy views of random points in another order, with scores for the lengths of Delaunay edges."""
    points = torch.rand(batch, n, 2, dtype=torch.float64)
    order = torch.rand(batch, n, 1).argsort(1).expand(-1, -1, 2)
    other = (points + 0.03 * torch.randn_like(points)).gather(1, order)
    index = [delaunay_edges(p) for p in (points, other)]
    ends = [p.gather(1, i.clamp(min=0).flatten(1)[..., None].expand(-1, -1, 2)) for p, i in zip((points, other), index)]
    lengths = [(e[:, : e.shape[1] // 2] - e[:, e.shape[1] // 2 :]).norm(dim=2) for e in ends]
    edges = (-(lengths[0].unsqueeze(2) - lengths[1].unsqueeze(1)).square() / 0.005).exp()
    return (points.new_zeros(batch, n, n), edges), {"edge_index1": index[0], "edge_index2": index[1]}


def affinities(edges: Tensor, index1: Tensor, index2: Tensor, n: int) -> Tensor:
    """The matrix of all pairs of vertices, the first graph's vertex changing fastest, as pygmtools takes it."""
    out = edges.new_zeros(len(edges), n * n, n * n)
    for b, one, two in product(range(len(edges)), range(edges.shape[1]), range(edges.shape[2])):
        (i, j), (k, l) = index1[b, :, one], index2[b, :, two]  # noqa: E741
        if min(i, k) >= 0:
            out[b, k * n + i, l * n + j] += edges[b, one, two]
    return out


def race_relaxed(board: Board) -> None:
    try:
        import pygmtools
    except ImportError:
        print("pygmtools is not installed: its heuristics are not raced.")
        return
    pygmtools.set_backend("pytorch")
    for n, batch in ((10, 64), (30, 16)):
        scores, index = point_pairs(batch, n)
        matrix, size = affinities(scores[1], *index.values(), n), torch.full((batch,), n)
        theirs: dict[str, Callable[[], Tensor]] = {
            "SpectralMatching": lambda: pygmtools.hungarian(pygmtools.sm(matrix, size, size)),  # noqa: B023
            "RRWM": lambda: pygmtools.hungarian(pygmtools.rrwm(matrix, size, size)),  # noqa: B023
            "IPFP": lambda: pygmtools.ipfp(matrix, size, size),  # noqa: B023
        }
        for solver in (SpectralMatching(), RRWM(), IPFP()):
            name = type(solver).__name__
            contestants = {"pygmtools": theirs[name], "ours": partial(solver, *scores, **index)}
            times = race(contestants, "pygmtools", board.rounds)
            flat = theirs[name]().double().mT.flatten(1)
            mean = ((flat.unsqueeze(1) @ matrix).squeeze(1) * flat).sum(1).mean().item()
            own = solver.solve_with_info(*scores, **index).objective.mean().item()
            label = f"{name}, n={n}, B={batch}"
            board.row(f"{label}; mean score pygmtools {mean:.2f}, ours {own:.2f}", times)
            if n > 10:  # dense matrices are small for the others, and quicker
                board.check(label, times["ours"].ratio, 1.0)


def proved_gaps() -> None:
    """Means over the instances: what GraphMatching finds, and how far its bound is from that."""
    for n, batch in ((10, 64), (30, 16)):
        scores, index = point_pairs(batch, n)
        info = GraphMatching().solve_with_info(*scores, **index)
        gap = ((info.bound - info.objective) / info.objective).mean().item()
        print(f"GraphMatching, n={n}: mean score {info.objective.mean():.2f}, optimal up to {gap:.2%} at most")


def main() -> None:
    board = Board("Quadratic assignment and graph matching")
    torch.manual_seed(0)
    race_faq(board)
    race_relaxed(board)
    proved_gaps()
    folder = Path(os.environ.get("SOLVERLAYERS_DATA", "")) / "qaplib_dev"
    if folder.exists():
        published_gaps(folder)
    board.finish()


if __name__ == "__main__":
    main()
