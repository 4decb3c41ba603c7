"""What works on this machine: every solver solves a tiny instance whose answer is known."""

from __future__ import annotations

import importlib.util
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from solverlayers.solvers import TSP, Graph, TopK, kernels

from .catalogue import solvers
from .report import versions

BACK_ENDS = {
    "scipy": "linear programs, and the reference of the tests",
    "networkx": "graphs that users have already",
    "ortools": "exact programs and routing",
    "torch_geometric": "batches of graphs",
    "joblib": "batches spread over processes or a cluster",
    "lightning": "training of the tasks",
    "matplotlib": "pictures of the tasks",
}


@dataclass(frozen=True)
class Example:
    """An instance small enough to be solved by hand, and the fields of its solver; several score tensors are a tuple."""

    scores: list[Any] | tuple[list[Any], ...]
    solution: list[Any] | tuple[list[Any], ...]
    fields: dict[str, Any] = field(default_factory=dict)
    instance: dict[str, Any] = field(default_factory=dict)


TRIANGLE = Graph([[0, 0, 1], [1, 2, 2]])
SQUARE = Graph([[0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3]])
PATH, HTAP = [[0, 1], [1, 2]], [[2, 1], [1, 0]]
ROUND_TRIP = Example(
    [[0.0, 1, 9, 2], [1, 0, 2, 9], [9, 2, 0, 1], [2, 9, 1, 0]], [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
)
MATCHED_PATHS = Example(
    ([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]),
    ([[0, 0, 1], [0, 1, 0], [1, 0, 0]], [[1, 0], [0, 1]]),
    instance={"edge_index1": PATH, "edge_index2": HTAP},
)
SYNCHRONISED = Example(  # the way over the third graph outweighs what the first two say of each other
    [
        [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 3.0]]],
        [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 3.0]]],
        [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]],
    ],
    [[[[1, 0], [0, 1]]] * 3] * 3,
)
PLACED = Example(
    [[0.0, 9.0, 9.0], [9.0, 9.0, 0.0], [9.0, 0.0, 9.0]],
    [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
    instance={
        "flows": [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
        "distances": [[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]],
    },
)
DELIVERED = Example(
    [[0.0, 3, 3, 2], [3, 0, 1, 9], [3, 1, 0, 9], [2, 9, 9, 0]],
    [[0, 1, 1, 2], [1, 0, 1, 0], [1, 1, 0, 0], [2, 0, 0, 0]],
    fields={"capacity": 2},
    instance={"demands": [0.0, 1.0, 1.0, 2.0]},
)
EXAMPLES: dict[str, Example] = {
    "Argmax": Example([0.0, 2.0, 1.0], [0, 1, 0]),
    "Arborescence": Example(
        [5.0, 4.0, 1.0, 2.0], [1, 0, 1, 0], fields={"graph": Graph([[0, 0, 1, 2], [1, 2, 2, 1]]), "root": 0}
    ),
    "Assignment": Example([[4.0, 1.0], [2.0, 3.0]], [[0, 1], [1, 0]]),
    "Async": Example([3.0, 1.0, 2.0], [1, 0, 1], fields={"solver": TopK(2)}),
    "BoundedKnapsack": Example([3.0, 4.0], [1, 2], fields={"weights": (2, 3), "capacity": 8, "limits": (2, 9)}),
    "Cached": Example([3.0, 1.0, 2.0], [1, 0, 1], fields={"solver": TopK(2)}),
    "DTW": Example([[0.0, 2.0, 4.0], [0.0, 2.0, 4.0], [4.0, 0.0, 0.0]], [[1, 0, 0], [1, 0, 0], [0, 1, 1]]),
    "DenseArborescence": Example(
        [[0.0, 5.0, 4.0], [9.0, 0.0, 1.0], [9.0, 2.0, 0.0]], [[0, 1, 0], [0, 0, 1], [0, 0, 0]], fields={"root": 0}
    ),
    "DenseMaxWeightMatching": Example([[0.0, 5.0, 2.0], [5.0, 0.0, 3.0], [2.0, 3.0, 0.0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
    "DensePerfectMatching": Example([[0.0, 1.0], [2.0, 0.0]], [[0, 1], [1, 0]]),
    "DenseSpanningTree": Example([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [5.0, 2.0, 0.0]], [[0, 1, 0], [1, 0, 1], [0, 1, 0]]),
    "EditDistance": Example(([[0.0, 1.0], [1.0, 0.5]], [1.0, 1.0], [1.0, 1.0]), ([[1, 0], [0, 1]], [0, 0], [0, 0])),
    "ExactGraphMatching": MATCHED_PATHS,
    "ExactQuadraticAssignment": PLACED,
    "ExactVehicleRouting": DELIVERED,
    "GatedAssignment": Example([[4.0, 1.0], [2.0, 9.0]], [[0, 1], [1, 0]], instance={"unmatched": 5.0}),
    "GraphMatching": MATCHED_PATHS,
    "GraphShortestPath": Example(
        [1.0, 3.0, 1.0], [1, 0, 1], fields={"source": 0, "target": 2}, instance={"edge_index": [[0, 0, 1], [1, 2, 2]]}
    ),
    "GridEdgeShortestPath": Example([1.0, 3.0, 4.0, 1.0], [0, 1, 0, 1], fields={"height": 2, "width": 2}),
    "GridShortestPath": Example([[1.0, 9.0, 9.0], [9.0, 1.0, 9.0], [9.0, 9.0, 1.0]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "HardFunction": Example([-1.6, 0.2, 1.7], [-2, 0, 1], fields={"fn": torch.floor}),
    "IPFP": MATCHED_PATHS,
    "IntegerProgram": Example([3.0, 4.0, 5.0], [1, 0, 1], fields={"A": [[2, 3, 4]], "b": [6], "sense": "max"}),
    "KMedoids": Example(
        [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]], [[0, 1, 0], [0, 1, 0], [0, 1, 0]], fields={"k": 1}
    ),
    "Knapsack": Example([3.0, 4.0, 5.0], [1, 0, 1], fields={"weights": (2, 3, 4), "capacity": 6}),
    "LabelledSegmentation": Example(
        ([[[2.0, 0.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 9.0]], [[0.0, 3.0], [0.0, 0.0]]], [[0.0, 0.0], [0.0, 0.0]]),
        ([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]], [[0, 1], [0, 0]]),
    ),
    "LinearOrdering": Example([[0.0, 3.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]], [[0, 1, 1], [0, 0, 1], [0, 0, 0]]),
    "LinearProgram": Example([1.0, 1.0], [2, 2], fields={"A": [[1, 2], [1, -1]], "b": [6, 0], "sense": "max"}),
    "LongestPath": Example([1.0, 3.0, 1.0], [0, 1, 0], fields={"graph": TRIANGLE}),
    "MaxArborescence": Example(
        [5.0, 4.0, 1.0, 2.0], [1, 1, 0, 0], fields={"graph": Graph([[0, 0, 1, 2], [1, 2, 2, 1]]), "root": 0}
    ),
    "MaxAssignment": Example([[4.0, 1.0], [2.0, 3.0]], [[1, 0], [0, 1]]),
    "MaxCardinalityMatching": Example([5.0, 2.0, 3.0, 3.0, 2.0, 5.0], [1, 0, 0, 0, 0, 1], fields={"graph": SQUARE}),
    "MaxCut": Example([1.0, 2.0, 3.0], [0, 1, 1], fields={"graph": TRIANGLE}),
    "MaxDenseArborescence": Example(
        [[0.0, 5.0, 4.0], [9.0, 0.0, 1.0], [9.0, 2.0, 0.0]], [[0, 1, 1], [0, 0, 0], [0, 0, 0]], fields={"root": 0}
    ),
    "MaxDenseSpanningTree": Example([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [5.0, 2.0, 0.0]], [[0, 0, 1], [0, 0, 1], [1, 1, 0]]),
    "MaxFlow": Example([3.0, 1.0, 2.0], [2, 1, 2], fields={"graph": TRIANGLE, "source": 0, "target": 2}),
    "MaxIndependentSet": Example([2.0, 3.0, 1.0], [0, 1, 0], fields={"graph": TRIANGLE}),
    "MaxSpanningTree": Example([1.0, 3.0, 2.0], [0, 1, 1], fields={"graph": TRIANGLE}),
    "MaxWeightMatching": Example([5.0, -2.0, 3.0, -3.0, 2.0, -5.0], [1, 0, 0, 0, 0, 0], fields={"graph": SQUARE}),
    "MinCostFlow": Example([1.0, 3.0, 1.0], [2, 0, 2], fields={"graph": TRIANGLE, "capacity": [2, 1, 2], "supply": [2, 0, -2]}),
    "MinCut": Example([3.0, 1.0, 2.0], [0, 1, 1], fields={"graph": TRIANGLE, "source": 0, "target": 2}),
    "MinVertexCover": Example([2.0, 3.0, 1.0], [1, 0, 1], fields={"graph": TRIANGLE}),
    "MultiGraphMatching": SYNCHRONISED,
    "Parallel": Example([3.0, 1.0, 2.0], [1, 0, 1], fields={"solver": TopK(2), "workers": 2}),
    "PartialAssignment": Example(([[1.0, 9.0]], [3.0], [2.0, 2.0]), ([[1, 0]], [0], [0, 1])),
    "PerfectMatching": Example([5.0, 2.0, 3.0, 3.0, 2.0, 5.0], [0, 1, 0, 0, 1, 0], fields={"graph": SQUARE}),
    "Permutation": Example([0.3, 0.1, 0.2], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "QuadraticAssignment": PLACED,
    "RRWM": MATCHED_PATHS,
    "Ranking": Example([0.3, 0.1, 0.2], [3, 1, 2]),
    "Round": Example([-1.6, 0.2, 0.7], [-2, 0, 1]),
    "RoutingTSP": ROUND_TRIP,
    "Scheduling": Example([[0.0, 2.0, 9.0], [0.0, 1.0, 5.0]], [[0, 1, 0], [1, 0, 0]], fields={"durations": [2, 1]}),
    "Segmentation": Example([[1.0, 5.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 2.0]], [[0, 1, 0], [0, 0, 0], [0, 0, 1]]),
    "SetCover": Example([1.0, 3.0, 1.0], [1, 0, 1], fields={"members": [[1, 1, 0], [0, 1, 1]]}),
    "Sign": Example([-2.0, 0.1, 0.7], [-1, 0, 1], fields={"margin": 0.5}),
    "Sort": Example([0.3, 0.1, 0.2], [0.1, 0.2, 0.3]),
    "SpanningTree": Example([1.0, 3.0, 2.0], [1, 0, 1], fields={"graph": TRIANGLE}),
    "SpectralMatching": MATCHED_PATHS,
    "TSP": ROUND_TRIP,
    "Threshold": Example([-2.0, 0.1, 0.7], [0, 1, 1]),
    "Timed": Example(ROUND_TRIP.scores, ROUND_TRIP.solution, fields={"solver": TSP(), "seconds": 60.0}),
    "TopK": Example([3.0, 1.0, 2.0], [1, 0, 1], fields={"k": 2}),
    "TourSearch": ROUND_TRIP,
    "Transport": Example([[1.0, 3.0], [2.0, 5.0]], [[0, 2], [1, 0]], fields={"supply": [2, 1], "demand": [1, 2]}),
    "VehicleRouting": DELIVERED,
    "Viterbi": Example(
        ([[1.0, 0.0], [0.0, 0.5], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]), ([[1, 0], [1, 0], [1, 0]], [[2, 0], [0, 0]])
    ),
}


def examine() -> int:
    """Print what there is and what works; the exit code is 1 if anything that should work does not."""
    print("versions")
    for name, version in versions().items():
        print(f"  {name:<16} {version}")
    print("\ndevices")
    for line in devices():
        print(f"  {line}")
    print("\ncompiled kernels")
    for line in kernel_report():
        print(f"  {line}")
    print("\nsolvers, each on a tiny instance with a known answer")
    broken = 0
    for name in solvers():
        verdict = check(name)
        broken += verdict != "works"
        print(f"  {name:<{max(map(len, EXAMPLES))}} {verdict}")
    print("\nback ends")
    for name, use in BACK_ENDS.items():
        found = "found" if importlib.util.find_spec(name) else "not found"
        print(f"  {name:<16} {found:<10} {use}")
    print(f"\n{'all solvers work' if not broken else f'{broken} of {len(solvers())} solvers do not work'}")
    return 1 if broken else 0


def devices() -> list[str]:
    """The devices that torch can use."""
    found = [f"cpu, {torch.get_num_threads()} threads"]
    found += [f"cuda:{i}, {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def kernel_report() -> list[str]:
    """Which compiled kernels serve, and how to get them where none does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning sends people here
        variant = kernels.variant()
    if variant != "none":
        return [f"{variant}: the fastest of those built that this processor runs"]
    return [
        "none: the batched torch versions serve, which give the same answers more slowly.",
        "To build them, install a C++17 compiler (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)",
        "and install solverlayers again: pip install --force-reinstall --no-deps . (in a checkout)",
    ]


def check(name: str) -> str:
    """`works`, or what is wrong with a solver."""
    example = EXAMPLES.get(name)
    if example is None:
        return "no example here to try it on"
    try:
        got = solvers()[name](**example.fields)(*batch(example.scores), **batch_of(example.instance))
    except Exception as error:  # a doctor reports every disease and catches none
        return f"fails: {traceback.format_exception_only(error)[-1].strip()}"
    pairs = list(zip(got if isinstance(got, tuple) else (got,), batch(example.solution), strict=True))
    if all(torch.equal(ours, right.to(ours)) for ours, right in pairs):
        return "works"
    return f"wrong: {[ours.tolist() for ours, _ in pairs]} instead of {[right.tolist() for _, right in pairs]}"


def batch(values: list[Any] | tuple[list[Any], ...]) -> list[torch.Tensor]:
    """Each as a batch of one instance."""
    return [torch.tensor([value]) for value in (values if isinstance(values, tuple) else (values,))]


def batch_of(instance: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.tensor([value]) for key, value in instance.items()}
