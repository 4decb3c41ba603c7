"""Routes by the OR-Tools routing library, one instance after the other, and a bound on the cost of any routes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .assignment import Assignment
from .kernels.held_karp import NOTHING_FOUND, SOLVED
from .route_family import SLACK, Fleet, Routes, statuses
from .tour_programs import integers

_UNITS = 2**45
"""Of the capacity: OR-Tools takes integers."""
_CONSTRUCTIONS = ("SAVINGS", "PATH_CHEAPEST_ARC", "PARALLEL_CHEAPEST_INSERTION")


def searched_routes(fleet: Fleet, seconds: float | None) -> Routes:
    """Short routes, each instance on its own.  # -> Routes

    The best of local searches from several constructions, or `seconds` of guided local search from the first that succeeds.
    """
    status = statuses(fleet)
    steps = torch.zeros(fleet.costs.shape, dtype=torch.bool)
    matrices, loads = fleet.costs.double().cpu().numpy(), fleet.loads.cpu().numpy()
    for b in range(len(steps)):
        customers = fleet.customers[b].nonzero()[:, 0].tolist()
        if status[b] != SOLVED or not customers:
            continue
        nodes = [0, *customers]
        found = _routed(matrices[b][np.ix_(nodes, nodes)], loads[b][nodes], int(fleet.vehicles[b]), seconds)
        if found is None:
            status[b] = NOTHING_FOUND
            continue
        for tail, head in found:
            steps[b, nodes[tail], nodes[head]] = True
    return Routes(steps.to(status.device), status)


def assignment_bounds(fleet: Fleet) -> Tensor:
    """What no routes are cheaper than: each customer, and each vehicle, goes on to one place.  # -> (B,) float64

    Vehicles that the total demand needs have to go somewhere; others may stay at the depot.
    """
    bounds = []
    for costs, customers, loads, vehicles in zip(*fleet):
        if not customers.any():
            bounds.append(costs.new_zeros((), dtype=torch.float64))
            continue
        real = [0] * int(vehicles) + customers.nonzero()[:, 0].tolist()
        needed = max(1, math.ceil(float(loads.sum()) * (1 - SLACK)))
        table = costs.double()[real][:, real].fill_diagonal_(torch.inf)
        table[: int(vehicles), : int(vehicles)] = torch.inf
        table.diagonal()[needed : int(vehicles)] = 0
        rounding = 1e-12 * len(real) * table[table.isfinite()].abs().max()
        info = Assignment().solve_with_info(table[None], mask=table[None] < torch.inf)
        bounds.append(info.bound[0] - rounding)
    return torch.stack(bounds) if bounds else fleet.costs.new_zeros(0, dtype=torch.float64)


def _routed(matrix: np.ndarray, loads: np.ndarray, vehicles: int, seconds: float | None) -> list[tuple[int, int]] | None:
    """The steps of the best routes found, or None."""
    from ortools.constraint_solver import pywrapcp, routing_enums_pb2

    nodes = len(matrix)
    np.fill_diagonal(matrix, np.inf)
    units = _not_negative(integers(matrix)[0])
    never = 2 * nodes * max(1, int(units.max()))  # dearer than any routes that are allowed
    table: Any = np.where(np.isinf(matrix), never, units).tolist()
    shares = np.rint(loads * _UNITS).astype(np.int64).tolist()
    manager = pywrapcp.RoutingIndexManager(nodes, vehicles, 0)
    routing = pywrapcp.RoutingModel(manager)
    routing.SetArcCostEvaluatorOfAllVehicles(routing.RegisterTransitMatrix(table))
    load = routing.RegisterUnaryTransitVector(shares)
    routing.AddDimension(load, 0, int(_UNITS * (1 + SLACK)), True, "load")
    best, least = None, math.inf
    for construction in _CONSTRUCTIONS:
        search = pywrapcp.DefaultRoutingSearchParameters()
        search.first_solution_strategy = getattr(routing_enums_pb2.FirstSolutionStrategy, construction)
        if seconds is not None:
            search.local_search_metaheuristic = routing_enums_pb2.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
            search.time_limit.FromNanoseconds(int(seconds * 1e9))
        found = routing.SolveWithParameters(search)
        if found is None or found.ObjectiveValue() >= min(least, never):
            continue
        best, least = list(_steps(manager, routing, found, vehicles)), found.ObjectiveValue()
        if seconds is not None:
            break
    return best


def _not_negative(units: np.ndarray) -> np.ndarray:
    """Costs that are none below zero, and rank routes alike: each customer is entered once, the depot as often as left."""
    home = max(0, -int(units[:, 0].min()))
    units = units.copy()
    units[:, 0] += home
    units[0] -= home
    units[:, 1:] += max(0, -int(units[:, 1:].min()))
    return units


def _steps(manager: Any, routing: Any, found: Any, vehicles: int) -> Any:
    """The steps of all vehicles that leave the depot."""
    for vehicle in range(vehicles):
        index = routing.Start(vehicle)
        if routing.IsEnd(found.Value(routing.NextVar(index))):
            continue
        while not routing.IsEnd(index):
            following = found.Value(routing.NextVar(index))
            yield manager.IndexToNode(index), manager.IndexToNode(following)
            index = following
