"""Benchmark files: distances by hand, known optima, every layout of a matrix, and errors that name the line."""

from __future__ import annotations

import gzip
import itertools
import math

import networkx
import pytest
import torch
from scipy.optimize import linprog

from solverlayers.solvers import TSP, Assignment, ExactQuadraticAssignment, GraphShortestPath, Knapsack
from solverlayers.solvers.readers import (
    ReadError,
    read_dimacs_assignment,
    read_dimacs_coordinates,
    read_dimacs_max_flow,
    read_dimacs_min_cost_flow,
    read_dimacs_shortest_path,
    read_knapsack,
    read_orlib_assignment,
    read_orlib_knapsacks,
    read_orlib_sparse_assignment,
    read_qaplib,
    read_qaplib_solution,
    read_tsplib,
    read_tsplib_tour,
)


@pytest.fixture
def file(tmp_path):
    def write(text, name="file.txt"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(read, path, line, text):
    with pytest.raises(ReadError) as caught:
        read(path)
    assert str(caught.value) == f"{path}:{line}: {text}"


# TSPLIB

BURMA14 = """NAME: burma14
TYPE: TSP
COMMENT: 14-Staedte in Burma (Zaw Win)
DIMENSION: 14
EDGE_WEIGHT_TYPE: GEO
EDGE_WEIGHT_FORMAT: FUNCTION
DISPLAY_DATA_TYPE: COORD_DISPLAY
NODE_COORD_SECTION
   1  16.47  96.10
   2  16.47  94.44
   3  20.09  92.54
   4  22.39  93.37
   5  25.23  97.24
   6  22.00  96.05
   7  20.47  97.02
   8  17.20  96.29
   9  16.30  97.38
  10  14.05  98.12
  11  16.53  97.38
  12  21.52  95.59
  13  19.41  97.13
  14  20.09  94.55
EOF
"""
GR17 = """NAME : gr17
TYPE : TSP
DIMENSION : 17
EDGE_WEIGHT_TYPE : EXPLICIT
EDGE_WEIGHT_FORMAT : LOWER_DIAG_ROW
EDGE_WEIGHT_SECTION
 0 633 0 257 390 0 91 661 228 0 412 227
 169 383 0 150 488 112 120 267 0 80 572 196
 77 351 63 0 134 530 154 105 309 34 29 0
 259 555 372 175 338 264 232 249 0 505 289 262
 476 196 360 444 402 495 0 353 282 110 324 61
 208 292 250 352 154 0 324 638 437 240 421 329
 297 314 95 578 435 0 70 567 191 27 346 83
 47 68 189 439 287 254 0 211 466 74 182 243
 105 150 108 326 336 184 391 145 0 268 420 53
 239 199 123 207 165 383 240 140 448 202 57 0
 246 745 472 237 528 364 332 349 202 685 542 157
 289 426 483 0 121 518 142 84 297 35 29 36
 236 390 238 301 55 96 153 336 0
EOF
"""
BR17 = """NAME:  br17
TYPE: ATSP
DIMENSION:  17
EDGE_WEIGHT_TYPE: EXPLICIT
EDGE_WEIGHT_FORMAT: FULL_MATRIX
EDGE_WEIGHT_SECTION
9999 3 5 48 48 8 8 5 5 3 3 0 3 5 8 8 5
3 9999 3 48 48 8 8 5 5 0 0 3 0 3 8 8 5
5 3 9999 72 72 48 48 24 24 3 3 5 3 0 48 48 24
48 48 74 9999 0 6 6 12 12 48 48 48 48 74 6 6 12
48 48 74 0 9999 6 6 12 12 48 48 48 48 74 6 6 12
8 8 50 6 6 9999 0 8 8 8 8 8 8 50 0 0 8
8 8 50 6 6 0 9999 8 8 8 8 8 8 50 0 0 8
5 5 26 12 12 8 8 9999 0 5 5 5 5 26 8 8 0
5 5 26 12 12 8 8 0 9999 5 5 5 5 26 8 8 0
3 0 3 48 48 8 8 5 5 9999 0 3 0 3 8 8 5
3 0 3 48 48 8 8 5 5 0 9999 3 0 3 8 8 5
0 3 5 48 48 8 8 5 5 3 3 9999 3 5 8 8 5
3 0 3 48 48 8 8 5 5 0 0 3 9999 3 8 8 5
5 3 0 72 72 48 48 24 24 3 3 5 3 9999 48 48 24
8 8 50 6 6 0 0 8 8 8 8 8 8 50 9999 0 8
8 8 50 6 6 0 0 8 8 8 8 8 8 50 0 9999 8
5 5 26 12 12 8 8 0 0 5 5 5 5 26 8 8 9999
EOF
"""


@pytest.mark.parametrize(
    ("text", "cities", "directed", "optimum"),
    [(BURMA14, 14, False, 3323), (GR17, 17, False, 2085), (BR17, 17, True, 39)],
    ids=["burma14", "gr17", "br17"],
)
def test_published_optima_are_reached(file, text, cities, directed, optimum):
    """One digit wrong in the earth's radius, in pi or in the rounding, and burma14 has another optimum."""
    problem = read_tsplib(file(text))
    assert (problem.directed, tuple(problem.distances.shape)) == (directed, (cities, cities))
    solver = TSP(directed=directed)
    (order,) = solver.decode(solver(problem.distances[None]))
    assert problem.length(torch.tensor(order)) == optimum


def problem(file, weights, places, kind="TSP"):
    lines = "\n".join(f"{i} {' '.join(map(str, place))}" for i, place in enumerate(places, 1))
    header = f"NAME : p\nTYPE : {kind}\nDIMENSION : {len(places)}\nEDGE_WEIGHT_TYPE : {weights}\n"
    return read_tsplib(file(f"{header}NODE_COORD_SECTION\n{lines}\nEOF\n"))


@pytest.mark.parametrize(
    ("weights", "a", "b", "distance"),
    [
        ("EUC_2D", (0, 0), (1, 1), 1),  # 1.414
        ("EUC_2D", (0, 0), (1.5, 2), 3),  # 2.5, and halves go up
        ("EUC_2D", (-3, 1), (0, 5), 5),
        ("CEIL_2D", (0, 0), (1, 1), 2),
        ("CEIL_2D", (0, 0), (3, 4), 5),
        ("EUC_3D", (0, 0, 0), (1, 2, 2), 3),
        ("EUC_3D", (1, 1, 1), (2, 2, 2), 2),  # 1.732
        ("MAX_2D", (0, 0), (2.4, 2.6), 3),
        ("MAX_3D", (0, 5, 0), (1, 1, 3), 4),
        ("MAN_2D", (0, 0), (1.2, 1.2), 2),  # 2.4: the sum is rounded, not the steps
        ("MAN_2D", (0, 0), (1.3, 1.3), 3),
        ("MAN_3D", (0, 0, 0), (1, -2, 3), 6),
        ("ATT", (0, 0), (10, 0), 4),  # sqrt(10) = 3.16: nint is below, so one more
        ("ATT", (0, 0), (11, 0), 4),  # sqrt(12.1) = 3.48
        ("ATT", (0, 0), (12, 0), 4),  # sqrt(14.4) = 3.79: nint is above already
        ("XRAY1", (10, 0, 0), (350, 5, 7), 2000),  # 20 degrees the short way round
        ("XRAY1", (10, 0, 0), (11, 5.004, -2), 500),
        ("XRAY2", (0, 0, 0), (5, 0, 0), 400),
        ("XRAY2", (0, 0, 0), (1, 6, 0), 400),
        ("XRAY2", (0, 0, 0), (1, 1, 4.6), 400),
    ],
)
def test_distances_by_hand(file, weights, a, b, distance):
    found = problem(file, weights, [a, b, a]).distances
    assert found.dtype == torch.int64
    assert found.tolist() == [[0, distance, 0], [distance, 0, distance], [0, distance, 0]]


PLACES_ON_EARTH = [((16.47, 96.10), (14.05, 98.12)), ((-5.21, 36.08), (38.24, 20.42)), ((0.30, 0.0), (0.0, -0.45))]


@pytest.mark.parametrize(("a", "b"), PLACES_ON_EARTH)
def test_distances_on_the_earth(file, a, b):
    """By another formula: the angle between unit vectors. Minutes are sixtieths."""

    def radians(x):
        whole = int(abs(x))
        return 3.141592 / 180 * math.copysign(whole + (abs(x) - whole) * 100 / 60, x)

    def vector(place):
        latitude, longitude = map(radians, place)
        return [math.cos(latitude) * math.cos(longitude), math.cos(latitude) * math.sin(longitude), math.sin(latitude)]

    distance = int(6378.388 * math.acos(sum(p * q for p, q in zip(vector(a), vector(b)))) + 1)
    assert problem(file, "GEO", [a, b]).distances.tolist() == [[0, distance], [distance, 0]]


def test_distances_agree_with_a_loop(file):
    """All pairs of scattered places, one after the other, as the format's description computes them."""
    places = (200 * torch.rand(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).round(decimals=2)

    def nint(x):
        return int(x + 0.5)

    def att(x, y):
        r = math.sqrt((x * x + y * y) / 10)
        return nint(r) + (nint(r) < r)

    rules = {
        "EUC_2D": lambda x, y: nint(math.hypot(x, y)),
        "CEIL_2D": lambda x, y: math.ceil(math.hypot(x, y)),
        "MAX_2D": lambda x, y: max(nint(abs(x)), nint(abs(y))),
        "MAN_2D": lambda x, y: nint(abs(x) + abs(y)),
        "ATT": att,
    }
    for weights, rule in rules.items():
        found = problem(file, weights, places.tolist())
        assert found.distances.tolist() == [[rule(*(p - q).tolist()) for q in places] for p in places]
        assert torch.equal(found.places, places)


MATRIX = torch.tensor([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]])


@pytest.mark.parametrize(
    ("style", "numbers"),
    [
        ("FULL_MATRIX", "0 1 2 3 1 0 4 5 2 4 0 6 3 5 6 0"),
        ("UPPER_ROW", "1 2 3 4 5 6"),
        ("LOWER_ROW", "1 2 4 3 5 6"),
        ("UPPER_DIAG_ROW", "0 1 2 3 0 4 5 0 6 0"),
        ("LOWER_DIAG_ROW", "0 1 0 2 4 0 3 5 6 0"),
        ("UPPER_COL", "1 2 4 3 5 6"),
        ("LOWER_COL", "1 2 3 4 5 6"),
        ("UPPER_DIAG_COL", "0 1 0 2 4 0 3 5 6 0"),
        ("LOWER_DIAG_COL", "0 1 2 3 0 4 5 0 6 0"),
    ],
)
def test_every_layout_of_a_matrix(file, style, numbers):
    words = numbers.split()
    broken = " ".join(words[:4]) + "\n" + " ".join(words[4:])  # lines break anywhere
    header = f"NAME: m\nTYPE: TSP\nDIMENSION: 4\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: {style}\n"
    assert torch.equal(read_tsplib(file(f"{header}EDGE_WEIGHT_SECTION\n{broken}\n")).distances, MATRIX)


def test_fractions_and_display_data(file):
    found = read_tsplib(
        file(
            "TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: UPPER_ROW\nDISPLAY_DATA_TYPE: "
            "TWOD_DISPLAY\nEDGE_WEIGHT_SECTION\n2.5\nDISPLAY_DATA_SECTION\n1 0.0 0.0\n2 3.0 4.0\nEOF\n"
        )
    )
    assert found.distances.tolist() == [[0, 2.5], [2.5, 0]]
    assert (found.name, found.comment, found.places) == ("", "", None)


def test_compressed_files(tmp_path):
    path = tmp_path / "burma14.tsp.gz"
    path.write_bytes(gzip.compress(BURMA14.encode()))
    found = read_tsplib(path)
    assert (found.name, found.comment) == ("burma14", "14-Staedte in Burma (Zaw Win)")


def test_tours(file):
    tour = read_tsplib_tour(
        file("NAME : burma14.opt.tour\nTYPE : TOUR\nDIMENSION : 14\nTOUR_SECTION\n1 2 14 3 4 5 6\n12 7 13 8 11 9 10\n-1\nEOF\n")
    )
    assert tour.tolist() == [0, 1, 13, 2, 3, 4, 5, 11, 6, 12, 7, 10, 8, 9]
    assert read_tsplib(file(BURMA14)).length(tour) == 3323
    assert read_tsplib_tour(file("TYPE : TOUR\nTOUR_SECTION\n2\n1\n-1\n")).tolist() == [1, 0]


EXPLICIT = "TYPE: TSP\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: UPPER_ROW\nEDGE_WEIGHT_SECTION\n"
PLANE = "TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EUC_2D\nNODE_COORD_SECTION\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("DIMENSION: 3\n", 1, "there is no entry TYPE."),
        ("TYPE: CVRP\n", 1, "TYPE is CVRP; this reads TSP and ATSP, and `read_tsplib_tour` tours."),
        ("TYPE: TSP\nDIMENSION: many\n", 2, "DIMENSION is 'many'; expected an integer."),
        ("TYPE: TSP\nDIMENSION: 0\n", 2, "DIMENSION is 0; it is at least 1."),
        ("TYPE: TSP\nnonsense\n", 2, "'nonsense' is neither an entry `KEY : value` nor within a section."),
        (
            "TYPE: TSP\nDIMENSION: 1\nEDGE_WEIGHT_TYPE: SPECIAL\n",
            3,
            "EDGE_WEIGHT_TYPE is SPECIAL; this reads EXPLICIT, EUC_2D, EUC_3D, MAX_2D, MAX_3D, MAN_2D, MAN_3D, CEIL_2D, GEO, "
            "ATT, XRAY1, XRAY2.",
        ),
        (
            "TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: GEO\n",
            3,
            "EDGE_WEIGHT_TYPE GEO needs coordinates, 2 of each city, in a NODE_COORD_SECTION.",
        ),
        ("TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EXPLICIT\n", 3, "there is no EDGE_WEIGHT_SECTION."),
        (EXPLICIT + "1 2\n", 6, "the file ends in the middle of the edge weights: 2 of 3 numbers are there."),
        (EXPLICIT + "1 2\nx\n", 7, "the edge weights is 'x'; expected a number."),
        (EXPLICIT + "1 2\n3 4\n", 7, "1 more words after the edge weights, from '4' on."),
        (
            EXPLICIT.replace("UPPER_ROW", "ZIGZAG") + "1\n",
            4,
            "EDGE_WEIGHT_FORMAT is ZIGZAG; this reads FULL_MATRIX, UPPER_ROW, UPPER_COL, UPPER_DIAG_ROW, UPPER_DIAG_COL, "
            "LOWER_ROW, LOWER_COL, LOWER_DIAG_ROW, LOWER_DIAG_COL.",
        ),
        (PLANE + "1 0 0\n3 1 1\n", 6, "city 3 is out of place; expected each of 1 to 2 once."),
        (PLANE + "1 0 0\n1 1 1\n", 6, "city 1 is out of place; expected each of 1 to 2 once."),
        (PLANE + "1 0 0\n2 1\n", 6, "the file ends in the middle of the coordinates of city 2: 1 of 2 numbers are there."),
        (PLANE + "1 0 0\n2 1 y\n", 6, "the coordinates of city 2 is 'y'; expected a number."),
        (PLANE + "1 0 0\n2 1 1\n3 2 2\n", 7, "there are more coordinates than those of 2 cities."),
        (
            PLANE + "1 0 0\n2 1 1\nFIXED_EDGES_SECTION\n1 2\n",
            8,
            "edges are fixed; no solver here takes such. Remove the section.",
        ),
    ],
)
def test_what_is_wrong_with_an_instance_is_said_with_its_line(file, text, line, message):
    refused(read_tsplib, file(text), line, message)


def test_what_is_wrong_with_a_tour_is_said(file):
    refused(read_tsplib_tour, file("TYPE : TOUR\n"), 1, "there is no TOUR_SECTION.")
    path = file("DIMENSION : 3\nTOUR_SECTION\n1 2\n2\n-1\n")
    refused(read_tsplib_tour, path, 3, "the tour has 3 cities; expected each of 1 to 3 once, and -1 at the end.")
    with pytest.raises(FileNotFoundError, match=r"^nowhere\.tsp: there is no such file\.$"):
        read_tsplib("nowhere.tsp")


# QAPLIB

FOUR_PLACES = """4

 0 1 1 2
 1 0 2 1
 1 2 0 1
 2 1 1 0

 0 5 2 4
 5 0 3 0
 2 3 0 0
 4 0 0 0
"""


def test_quadratic_assignment(file):
    problem = read_qaplib(file(FOUR_PLACES))
    assert problem.flows[0].tolist() == [0, 1, 1, 2]
    assert problem.distances[1].tolist() == [5, 0, 3, 0]
    solver = ExactQuadraticAssignment()
    info = solver.solve_with_info(torch.zeros(1, 4, 4), flows=problem.flows[None], distances=problem.distances[None])
    every = {p: problem.cost(torch.tensor(p)).item() for p in itertools.permutations(range(4))}
    assert info.objective.item() == min(every.values())
    assert problem.cost(solver.partners(info.solution)[0]) == info.objective.item()
    p = (2, 0, 3, 1)
    assert every[p] == sum(problem.flows[i, j] * problem.distances[p[i], p[j]] for i in range(4) for j in range(4))


def test_quadratic_assignment_solutions(file):
    solution = read_qaplib_solution(file(" 4   28\n 2,1,4,3\n"))
    assert (solution.objective, solution.places.tolist()) == (28, [1, 0, 3, 2])
    assert read_qaplib_solution(file("2 7.5\n1 2\n")).objective == 7.5
    path = file("3 28\n1 1 2\n")
    refused(read_qaplib_solution, path, 2, "the permutation is [1, 1, 2]; expected each of 1 to 3 once.")
    path = file("2\n1 2 3 4\n1 2 3\n")
    refused(read_qaplib, path, 3, "the file ends in the middle of the second matrix: 3 of 4 numbers are there.")
    refused(read_qaplib, file("-1\n"), 1, "the size is -1; it is at least 1.")
    refused(read_qaplib, file(""), 1, "the file ends in the middle of the size: 0 of 1 numbers are there.")


# OR-Library


def test_assignment(file):
    costs = read_orlib_assignment(file(" 3\n 4 1 3 2\n 0 5 3\n 2 2\n"))
    assert costs.tolist() == [[4, 1, 3], [2, 0, 5], [3, 2, 2]]
    assert Assignment().solve_with_info(costs[None]).objective.item() == 5
    refused(read_orlib_assignment, file("1\n2 3\n"), 2, "1 more words after the costs, from '3' on.")


def test_sparse_assignment(file):
    costs = read_orlib_sparse_assignment(file("3\n1 2 7\n1 3 1\n2 1 4\n3 3 2\n3 2 9\n"))
    assert costs.tolist() == [[math.inf, 7, 1], [4, math.inf, math.inf], [math.inf, 9, 2]]
    assert Assignment().solve_with_info(costs[None]).objective.item() == 13
    refused(read_orlib_sparse_assignment, file("2\n1 1 5\n1 3 1\n"), 3, "the pair (1, 3) is outside 1 to 2.")
    refused(read_orlib_sparse_assignment, file("2\n1 one 5\n"), 2, "a column is 'one'; expected an integer.")


def test_multi_dimensional_knapsacks(file):
    first, second = read_orlib_knapsacks(file("2\n3 2 10\n4 5 6\n1 2 3\n3 1 1\n4 4\n2 1 0\n1.5 2\n1 1\n1\n"))
    assert first.values.tolist() == [4, 5, 6]
    assert first.weights.tolist() == [[1, 3], [2, 1], [3, 1]]
    assert first.capacity.tolist() == [4, 4]
    assert (first.optimum, second.optimum) == (10, None)
    assert second.values.tolist() == [1.5, 2]
    info = Knapsack(first.weights).solve_with_info(first.values[None].double(), capacity=first.capacity[None])
    assert info.objective.item() == first.optimum
    path = file("1\n2 1 0\n1 2\n1 1\n")
    refused(
        read_orlib_knapsacks, path, 4, "the file ends in the middle of the capacities of instance 0: 0 of 1 numbers are there."
    )


def test_knapsack(file):
    problem = read_knapsack(file("4 11\n6 2\n10 4\n12 6\n13 7\n"))
    assert problem.values.tolist() == [6, 10, 12, 13]
    assert problem.weights.tolist() == [[2], [4], [6], [7]]
    info = Knapsack(problem.weights).solve_with_info(problem.values[None], capacity=problem.capacity[None])
    assert info.objective.item() == 23
    refused(read_knapsack, file("0 3\n"), 1, "the number of items is 0; it is at least 1.")


# DIMACS

ROADS = """c a small map
p sp 4 5
a 1 2 3
a 1 3 1
c on the way
a 3 2 1
a 2 4 2
a 3 4 7
"""


def test_shortest_paths(file):
    problem = read_dimacs_shortest_path(file(ROADS))
    assert problem.graph.edges.tolist() == [[0, 0, 2, 1, 2], [1, 2, 1, 3, 3]]
    assert (problem.graph.nodes, problem.graph.directed) == (4, True)
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from(zip(*problem.graph.edges.tolist(), problem.costs.tolist()))
    solver = GraphShortestPath(problem.graph, source=0, target=3)
    info = solver.solve_with_info(problem.costs[None])
    assert info.objective.item() == networkx.shortest_path_length(graph, 0, 3, weight="weight")
    assert solver.decode(info.solution) == [networkx.shortest_path(graph, 0, 3, weight="weight")]


def test_coordinates(file):
    places = read_dimacs_coordinates(file("c\np aux sp co 2\nv 2 -73 41\nv 1 -74 40\n"))
    assert places.tolist() == [[-74, 40], [-73, 41]]
    refused(read_dimacs_coordinates, file("p aux sp co 3\nv 1 1 1\nv 3 1 1\n"), 1, "node 2 has no place.")


def test_max_flow(file):
    text = "p max 4 5\nn 1 s\nn 4 t\na 1 2 4\na 1 3 2\na 2 3 3\na 2 4 1\na 3 4 6\n"
    problem = read_dimacs_max_flow(file(text))
    assert (problem.source, problem.target, problem.capacities.tolist()) == (0, 3, [4, 2, 3, 1, 6])
    graph = networkx.DiGraph()
    for tail, head, capacity in zip(*problem.graph.edges.tolist(), problem.capacities.tolist()):
        graph.add_edge(tail, head, capacity=capacity)
    assert networkx.maximum_flow_value(graph, problem.source, problem.target) == 6
    path = file(text.replace("n 4 t\n", ""))
    refused(read_dimacs_max_flow, path, 1, "there is no line `n NODE s` for the source, or none with `t` for the sink.")
    path = file(text.replace("n 4 t", "n 4 s"))
    refused(read_dimacs_max_flow, path, 3, "the role of node 4 is 's'; expected one source `s` and one sink `t`.")


def test_min_cost_flow(file):
    text = "p min 4 5\nn 1 4\nn 4 -4\na 1 2 0 4 2\na 1 3 0 2 2\na 2 3 1 2 1\na 2 4 0 3 3\na 3 4 0 5 1\n"
    problem = read_dimacs_min_cost_flow(file(text))
    assert problem.supply.tolist() == [4, 0, 0, -4]
    assert problem.lower.tolist() == [0, 0, 1, 0, 0]
    assert problem.capacities.tolist() == [4, 2, 2, 3, 5]
    balance = torch.zeros(4, 5)
    balance[problem.graph.edges[0], torch.arange(5)] = 1
    balance[problem.graph.edges[1], torch.arange(5)] = -1
    bounds = list(zip(problem.lower.tolist(), problem.capacities.tolist()))
    assert linprog(
        problem.costs.numpy(), A_eq=balance.numpy(), b_eq=problem.supply.numpy(), bounds=bounds
    ).fun == pytest.approx(14)
    path = file(text.replace("-4", "-3"))
    refused(read_dimacs_min_cost_flow, path, 1, "supplies and demands add up to 1; flow is kept where that is 0.")


def test_assignment_arcs(file):
    text = "p asn 5 4\nn 1\nn 3\na 1 2 5\na 1 4 1\na 3 4 2\na 3 5 9\n"
    problem = read_dimacs_assignment(file(text))
    assert problem.costs.tolist() == [[5, 1, math.inf], [math.inf, 2, 9]]
    assert (problem.rows.tolist(), problem.columns.tolist()) == ([0, 2], [1, 3, 4])
    assert Assignment().solve_with_info(problem.costs[None]).objective.item() == 7
    path = file(text.replace("a 3 4 2", "a 4 3 2"))
    refused(read_dimacs_assignment, path, 6, "an arc goes from 4 to 3; it goes from a row (`n NODE`) to a column.")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("c only a comment\n", 1, "the problem line is ''; expected `p sp NODES ARCS`."),
        ("p max 4 5\n", 1, "the problem line is 'p max 4 5'; expected `p sp NODES ARCS`."),
        ("\np sp 4 five\n", 2, "a size is 'five'; expected an integer."),
        ("p sp 0 0\n", 1, "there are 0 nodes; a graph has one at least."),
        ("p sp 2 1\nn 1 s\n", 2, "a line starts with 'n'; expected one of c, p, a."),
        ("p sp 2 2\na 1 2 3\n", 1, "2 arcs are announced, but 1 are there."),
        ("p sp 2 1\na 1 2\n", 2, "2 words after 'a'; expected 3."),
        ("p sp 2 1\na 1 3 1\n", 2, "node 3 is not one of 1 to 2."),
        ("p sp 2 1\na 1 2 1.5\n", 2, "a number of an arc is '1.5'; expected an integer."),
    ],
)
def test_what_is_wrong_with_a_graph_is_said_with_its_line(file, text, line, message):
    refused(read_dimacs_shortest_path, file(text), line, message)
