"""Tours by OR-Tools: a circuit constraint for proofs, the routing library for long tours. One instance after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kernels.held_karp import INFEASIBLE, INVALID, NOTHING_FOUND, SOLVED, STOPPED, Tours

_DIGITS = 2**30
"""OR-Tools takes integers: costs that are none are scaled so that the largest is about this, and rounded."""


def circuit_tours(costs: Tensor, start: Tours, time_limit: float | None) -> Tours:
    """Shortest tours, by CP-SAT, from the tours of `start` on, in `time_limit` seconds for each.  # (B, n, n) -> Tours

    Optimal up to n / 2 units in the ninth digit of the largest cost; exactly so for integers below 2**30.
    """
    answers = [
        _circuit(matrix, order, solved, time_limit)
        for matrix, order, solved in zip(_matrices(costs), start.order.tolist(), _solved(start))
    ]
    return _collected(answers, costs)


def routing_tours(costs: Tensor, seconds: float | None) -> Tours:
    """Short tours by the routing library: its local search, or `seconds` of guided local search.  # (B, n, n) -> Tours"""
    return _collected([_routed(matrix, seconds) for matrix in _matrices(costs)], costs)


_Answer = tuple[list[int], int, float]


def _matrices(costs: Tensor) -> list[np.ndarray]:
    """The costs of each instance, infinite on the diagonal.  # (B, n, n)"""
    matrices = costs.double().cpu().numpy().copy()
    matrices[:, range(costs.shape[1]), range(costs.shape[1])] = np.inf
    return list(matrices)


def _solved(tours: Tours) -> list[bool]:
    return [True] * len(tours.order) if tours.status is None else (tours.status == SOLVED).tolist()


def _collected(answers: list[_Answer], like: Tensor) -> Tours:
    orders, status, bounds = zip(*answers)
    codes = torch.tensor(status, device=like.device)
    return Tours(
        torch.tensor(orders, device=like.device),
        None if not any(status) else codes,
        torch.tensor(bounds, dtype=torch.float64, device=like.device),
    )


def integers(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Integer costs, and how many of their units are one; forbidden steps get 0."""
    finite = np.where(np.isfinite(matrix), matrix, 0.0)
    largest = np.abs(finite).max()
    scale = 1.0 if largest <= _DIGITS and (finite == np.rint(finite)).all() else _DIGITS / largest
    return np.rint(finite * scale).astype(np.int64), scale


def _circuit(matrix: np.ndarray, order: list[int], solved: bool, time_limit: float | None) -> _Answer:
    from ortools.sat.python import cp_model

    if (matrix == -np.inf).any():
        return order, INVALID, np.nan
    if not (matrix < np.inf).any(1).all():  # a circuit passes over cities without any arc
        return order, INFEASIBLE, np.nan
    units, scale = integers(matrix)
    steps = set(zip(order, order[1:] + order[:1])) if solved else set()
    model = cp_model.CpModel()
    arcs, objective = [], []
    for tail, head in np.argwhere(matrix < np.inf).tolist():
        taken = model.new_bool_var("")
        arcs.append((tail, head, taken))
        objective.append(int(units[tail, head]) * taken)
        if solved:
            model.add_hint(taken, (tail, head) in steps)
    model.add_circuit(arcs)
    model.minimize(sum(objective))
    solver = cp_model.CpSolver()
    if time_limit is not None:
        solver.parameters.max_time_in_seconds = time_limit
    solver.parameters.num_workers = 1  # several would make the answer depend on chance
    solver.parameters.linearization_level = 2  # cuts for circuits
    status = solver.solve(model)
    rounding = 0.0 if scale == 1.0 else len(matrix) / 2
    bound = (solver.best_objective_bound - rounding) / scale
    if status == cp_model.INFEASIBLE:
        return order, INFEASIBLE, np.nan
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return order, STOPPED if solved else NOTHING_FOUND, np.nan
    after = {tail: head for tail, head, taken in arcs if solver.boolean_value(taken)}
    found = [0]
    while len(found) < len(matrix):
        found.append(after[found[-1]])
    return found, SOLVED if status == cp_model.OPTIMAL else STOPPED, bound


def _routed(matrix: np.ndarray, seconds: float | None) -> _Answer:
    from ortools.constraint_solver import pywrapcp, routing_enums_pb2

    cities = len(matrix)
    order = list(range(cities))
    if (matrix == -np.inf).any():
        return order, INVALID, np.nan
    units, _ = integers(matrix)
    units -= min(0, int(units.min()))  # the library wants no negative costs; a constant changes nothing
    never = 2 * cities * max(1, int(units.max()))
    table: Any = np.where(np.isinf(matrix), never, units).tolist()
    manager = pywrapcp.RoutingIndexManager(cities, 1, 0)
    routing = pywrapcp.RoutingModel(manager)
    transit = routing.RegisterTransitMatrix(table)
    routing.SetArcCostEvaluatorOfAllVehicles(transit)
    search = pywrapcp.DefaultRoutingSearchParameters()
    search.first_solution_strategy = routing_enums_pb2.FirstSolutionStrategy.PATH_CHEAPEST_ARC
    if seconds is not None:
        search.local_search_metaheuristic = routing_enums_pb2.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
        search.time_limit.FromNanoseconds(int(seconds * 1e9))
    found = routing.SolveWithParameters(search)
    if found is None:
        return order, NOTHING_FOUND, np.nan
    index, order = routing.Start(0), []
    while not routing.IsEnd(index):
        order.append(manager.IndexToNode(index))
        index = found.Value(routing.NextVar(index))
    forbidden = any(np.isinf(matrix[tail, head]) for tail, head in zip(order, order[1:] + order[:1]))
    return order, NOTHING_FOUND if forbidden else SOLVED, np.nan
