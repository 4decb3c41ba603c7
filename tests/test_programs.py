"""Linear and integer programs: engines against each other, SciPy and enumeration; failures, time limits, models of MathOpt."""

import math
import pickle
import re
import sys
import time
from itertools import product

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.math_opt.python import mathopt

from solverlayers import InfeasibleError, InstanceError, SolverLayer, SolverTimeoutError
from solverlayers.rules import Blackbox
from solverlayers.solvers import (
    CPSAT,
    GLOP,
    SCIP,
    TSP,
    Graph,
    Gurobi,
    HiGHS,
    IntegerProgram,
    KMedoids,
    LinearProgram,
    MaxCut,
    RoutingTSP,
    VehicleRouting,
)
from solverlayers.solvers.constant import Constant

INTEGER_ENGINES = (HiGHS(), CPSAT(), SCIP())
engines = pytest.mark.parametrize("engine", INTEGER_ENGINES, ids=repr)
exactly = pytest.approx


def generator(seed):
    return torch.Generator().manual_seed(seed)


def market_split(rows=5, seed=0):
    """Cornuejols and Dawande (1998): small and out of reach. Slack first, so that scores are the costs of slack."""
    g = np.random.default_rng(seed)
    weights = g.integers(0, 100, (rows, 10 * (rows - 1)))
    table = np.concatenate([np.eye(rows), -np.eye(rows), weights], 1)
    return {"A_eq": table, "b_eq": weights.sum(1) // 2, "upper": [1000] * 2 * rows + [1] * weights.shape[1]}, 2 * rows


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 7), rows=st.integers(0, 3), top=st.integers(1, 2), real=st.booleans())
def test_engines_agree_with_enumeration(seed, n, rows, top, real):
    g = generator(seed)
    A, b = torch.randint(-3, 6, (rows, n), generator=g).double(), torch.randint(0, 8, (rows,), generator=g).double()
    scores = torch.randint(-5, 6, (2, n), generator=g).double() + real * torch.randn(2, n, generator=g).double()
    every = torch.tensor(list(product(range(top + 1), repeat=n))).double()
    every = every[(every @ A.T <= b).all(1)]
    for sense in ("min", "max"):
        best = (scores @ every.T).amax(1) if sense == "max" else (scores @ every.T).amin(1)
        for engine in INTEGER_ENGINES:
            info = IntegerProgram(A, b, upper=top, sense=sense, engine=engine).solve_with_info(scores)
            assert info.optimal.all()
            assert torch.allclose(info.objective, best, atol=1e-9)
            assert torch.allclose(info.bound, best, atol=1e-6)
            assert all((every == y).all(1).any() for y in info.solution)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), whole=st.integers(0, 3), auxiliary=st.integers(0, 2))
def test_mixed_programs_as_scipy(seed, whole, auxiliary):
    """Variables of both kinds, equations, negative bounds, auxiliary variables; rows of each instance."""
    g = np.random.default_rng(seed)
    n, size = 4, 4 + auxiliary
    A, A_eq = g.normal(size=(3, size)), np.abs(g.normal(size=(1, size)))
    inside = g.uniform(-1, 2, (2, size)).round()
    b, b_eq = inside @ A.T + 0.5, inside @ A_eq.T
    integer = np.arange(size) < whole
    scores = g.normal(size=(2, n))
    fields = {"A": A, "A_eq": A_eq, "lower": -1, "upper": 2, "integer": integer}
    for engine in (HiGHS(), SCIP()):
        solver = IntegerProgram(**fields, engine=engine)
        info = solver.solve_with_info(torch.tensor(scores), b=torch.tensor(b), b_eq=torch.tensor(b_eq))
        for row in range(2):
            rows = [
                scipy.optimize.LinearConstraint(A, -np.inf, b[row]),
                scipy.optimize.LinearConstraint(A_eq, b_eq[row], b_eq[row]),
            ]
            costs = np.concatenate([scores[row], np.zeros(auxiliary)])
            reference = scipy.optimize.milp(
                costs, constraints=rows, bounds=scipy.optimize.Bounds(-1, 2), integrality=integer, options={"mip_rel_gap": 0}
            )
            assert info.objective[row].item() == exactly(reference.fun, abs=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), sense=st.sampled_from(["min", "max"]))
def test_linear_programs_and_their_prices(seed, sense):
    """As SciPy, with prices that prove it: they explain the scores, have the right signs, and give the same optimum."""
    g = np.random.default_rng(seed)
    A, A_eq, x = g.normal(size=(4, 6)), g.normal(size=(2, 6)), g.uniform(0, 1, 6)
    b, b_eq = A @ x + g.uniform(0, 1, 4), A_eq @ x
    scores = torch.tensor(g.normal(size=(3, 6)))
    info = LinearProgram(A, b, A_eq, b_eq, upper=3.0, sense=sense).solve_with_info(scores)
    sign = 1 if sense == "min" else -1
    for row in range(3):
        reference = scipy.optimize.linprog(sign * scores[row].numpy(), A, b, A_eq, b_eq, (0, 3), "highs-ds")
        assert info.objective[row].item() == exactly(sign * reference.fun, abs=1e-7)
    prices, equal, bounds = (info.duals[name] for name in ("inequalities", "equalities", "bounds"))
    assert torch.allclose(prices @ torch.tensor(A) + equal @ torch.tensor(A_eq) + bounds, scores, atol=1e-7)
    assert (sign * prices <= 1e-7).all()
    explained = prices @ torch.tensor(b) + equal @ torch.tensor(b_eq) + 3 * (sign * bounds).clamp_max(0).sum(1) * sign
    assert torch.allclose(explained, info.objective, atol=1e-6)


@pytest.mark.parametrize("sense", ["min", "max"])
def test_right_hand_sides_as_scores(sense):
    """The dual's value is the optimum, and its solution the optimum's gradient, by finite differences of SciPy."""
    g = np.random.default_rng(1)
    A, A_eq = np.abs(g.normal(size=(3, 5))), np.abs(g.normal(size=(1, 5)))
    b, b_eq, costs = np.array([3.0, 4.0, 5.0]), np.array([1.0]), np.abs(g.normal(size=5))
    sign = 1 if sense == "min" else -1

    def optimum(sides):
        return sign * scipy.optimize.linprog(sign * costs, A, sides[:3], A_eq, sides[3:], method="highs-ds").fun

    sides = np.concatenate([b, b_eq])
    info = LinearProgram(A, A_eq=A_eq, sense=sense).dual(costs).solve_with_info(torch.tensor(sides)[None])
    assert info.objective.item() == exactly(optimum(sides), rel=1e-9)
    slopes = [(optimum(sides + step) - optimum(sides - step)) / 2e-5 for step in 1e-5 * np.eye(4)]
    assert info.solution[0].tolist() == exactly(slopes, abs=1e-6)


def test_the_dual_as_a_layer():
    program = LinearProgram(A=[[1, 2], [3, 1]], sense="max").dual(costs=[1.0, 1.0])
    sides = torch.tensor([[4.0, 6.0]], requires_grad=True)
    prices = SolverLayer(program, Blackbox(step=20.0))(sides)
    prices[:, 0].sum().backward()
    assert sides.grad is not None
    assert sides.grad.isfinite().all()
    with pytest.raises(ValueError, match=re.escape("LinearProgram.dual: variables have bounds other than 0 and infinity.")):
        LinearProgram(A=[[1.0]], upper=1).dual([1.0])
    with pytest.raises(ValueError, match=re.escape("LinearProgram.dual: there are no constraints that all instances share;")):
        LinearProgram().dual([1.0])


@engines
def test_infeasible_programs(engine):
    solver = IntegerProgram(A=[[-1, -1]], sense="max", engine=engine)
    message = (
        "IntegerProgram: instance 1 has no feasible solution (1 of 3 instances): its constraints contradict each other. Relax "
        'them, or train on without such instances with `SolverLayer(..., on_failure="skip")`.'
    )
    sides = torch.tensor([[-1.0], [-3.0], [0.0]])
    with pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$") as caught:
        solver(torch.ones(3, 2), b=sides)
    assert caught.value.instances.tolist() == [False, True, False]
    y = SolverLayer(solver, Blackbox(), on_failure="skip")(torch.ones(3, 2), b=sides)
    assert y.tolist() == [[1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("engine", [HiGHS(), SCIP(), GLOP()], ids=repr)
def test_unbounded_programs(engine):
    """Told from infeasible ones, which presolving often does not."""
    kind = LinearProgram if engine == GLOP() else IntegerProgram
    solver = kind(A=[[1, -1]], b=[1], upper=np.inf, sense="max", engine=engine)
    message = (
        f"{kind.__name__}: instance 0 has an unbounded objective (1 of 2 instances): there are solutions as good as one likes. "
        f"Give the variables bounds."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$") as caught:
        solver(torch.tensor([[1.0, 1.0], [1.0, -2.0]]))
    assert caught.value.instances.tolist() == [True, False]
    both = kind(A=[[-1, -1, 0]], b=[-3], upper=[1, 1, np.inf], sense="max", engine=engine)
    with pytest.raises(InfeasibleError, match="instance 0 has no feasible solution"):
        both(torch.ones(1, 3))


@engines
def test_a_time_limit_leaves_the_incumbent_and_a_bound(engine):
    fields, n = market_split()
    solver = IntegerProgram(**fields, engine=engine, time_limit=1.0)
    start = time.perf_counter()
    info = solver.solve_with_info(torch.ones(1, n))
    assert time.perf_counter() - start < 2
    assert not info.optimal.any()
    assert 0 <= info.bound.item() < info.objective.item()
    assert info.objective.item() == info.solution.sum().item()


def test_time_limits_raise():
    fields, n = market_split()
    solver = IntegerProgram(**fields, engine=CPSAT(), time_limit=0.3)
    scores = torch.stack([torch.ones(n), torch.zeros(n)])  # without costs the first solution is as good as any
    message = (
        "IntegerProgram: instance 0 was not solved to optimality in 0.3 s (1 of 2 instances). Raise `time_limit`, take the "
        'best solution found with `SolverLayer(..., on_failure="last")`, or look at it and its bound with `solve_with_info`.'
    )
    with pytest.raises(SolverTimeoutError, match=f"^{re.escape(message)}$") as caught:
        solver(scores)
    assert caught.value.instances.tolist() == [True, False]
    assert caught.value.incumbent is not None
    assert caught.value.incumbent[0].sum() > 0
    y = SolverLayer(solver, Blackbox(), on_failure="last")(scores)
    assert y[0].sum() > 0
    exact = IntegerProgram(np.asarray(fields["A_eq"])[:, n:], A_eq=np.asarray(fields["A_eq"])[:, n:], b_eq=fields["b_eq"])
    hard = IntegerProgram(A_eq=exact.A_eq, b_eq=exact.b_eq, engine=CPSAT(), time_limit=0.3)
    message = (
        "IntegerProgram: instance 0 has no solution that was found in time (1 of 1 instances), though there may be one. Raise "
        "`time_limit`."
    )
    with pytest.raises(SolverTimeoutError, match=f"^{re.escape(message)}$") as caught:
        hard(torch.zeros(1, exact.A_eq.shape[1]))
    assert caught.value.incumbent is None


@pytest.mark.parametrize("engine", [CPSAT(), SCIP()], ids=repr)
def test_warm_starts(engine):
    """A start changes no optimum, and is what a search without time comes back with, or better."""
    solver = IntegerProgram(A=[[2, 3, 4]], b=[6], sense="max", engine=engine)
    scores, start = torch.tensor([[3.0, 4.0, 5.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert solver(scores, warm_start=start).tolist() == [[1, 0, 1]]
    g = np.random.default_rng(0)
    weights = g.integers(1, 100, (10, 120))
    hard = {"A": weights, "b": weights.sum(1) // 3, "sense": "max", "engine": engine}
    gains = torch.tensor(weights.sum(0) + g.integers(0, 30, 120))[None].double()
    good = IntegerProgram(**hard, time_limit=1.0).solve_with_info(gains)
    again = IntegerProgram(**hard, time_limit=0.2).solve_with_info(gains, warm_start=good.solution)
    assert again.objective >= good.objective
    with pytest.raises(
        ValueError, match=re.escape("`warm_start` has shape (1, 2); solutions have the shape of the scores, (1, 3)")
    ):
        solver(scores, warm_start=start[:, :2])


def test_engines_without_warm_start_say_so():
    with pytest.raises(
        ValueError, match=r"^HiGHS takes no solution as `warm_start`. Use CPSAT\(\), SCIP\(\) or Gurobi\(\), or leave it out.$"
    ):
        IntegerProgram()(torch.ones(1, 2), warm_start=torch.ones(1, 2))


def test_what_an_engine_cannot_do():
    for solver, message in (
        (IntegerProgram(A=[[0.5, 1]], b=[1], engine=CPSAT()), "CPSAT takes whole coefficients, and these are not."),
        (IntegerProgram(upper=np.inf, engine=CPSAT()), "CPSAT takes whole variables with finite bounds."),
        (IntegerProgram(integer=[1, 0], engine=CPSAT()), "CPSAT takes whole variables with finite bounds."),
        (IntegerProgram(engine=GLOP()), "GLOP solves programs without whole numbers."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            solver(torch.ones(1, 2))


@pytest.mark.parametrize("engine", ["gurobi", HiGHS, None])
def test_what_is_no_engine(engine):
    message = f"MaxCut: engine is {engine!r}; expected an Engine, such as HiGHS() or CPSAT() (with the brackets)."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        MaxCut(Graph([[0], [1]]), engine=engine)


@pytest.mark.parametrize("make", [IntegerProgram, KMedoids, TSP, VehicleRouting, RoutingTSP])
@pytest.mark.parametrize(
    ("limit", "error", "end"),
    [
        (0, ValueError, "a time limit is positive and finite, None for none."),
        (math.inf, ValueError, "a time limit is positive and finite, None for none."),
        ("10", TypeError, "it is a number of seconds."),
    ],
)
def test_what_is_no_time(make, limit, error, end):
    name = "seconds" if make in (RoutingTSP, VehicleRouting) else "time_limit"
    with pytest.raises(error, match=f"^{make.__name__}: {name}={limit!r}; {re.escape(end)}$"):
        make(**({"k": 1} if make is KMedoids else {}), **{name: limit})


def test_gurobi_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "gurobipy", None)
    message = (
        "Gurobi needs the package gurobipy, which is not installed: `pip install gurobipy`, and a licence for large programs. "
        "HiGHS(), CPSAT() and SCIP() need neither."
    )
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        IntegerProgram(engine=Gurobi())(torch.ones(1, 2))


def test_gurobi_as_the_others():
    pytest.importorskip("gurobipy", reason="needs Gurobi")
    scores = torch.randn(4, 8, generator=generator(0)).double()
    A = torch.randint(1, 9, (3, 8), generator=generator(1))
    ours, other = (IntegerProgram(A, A.sum(1) // 3, sense="max", engine=engine) for engine in (Gurobi(), HiGHS()))
    assert torch.equal(ours(scores), other(scores))
    assert torch.equal(ours(scores, warm_start=torch.zeros_like(scores)), other(scores))
    linear = [
        LinearProgram(A.double(), A.sum(1) / 3, upper=1, sense="max", engine=e).solve_with_info(scores)
        for e in (Gurobi(), GLOP())
    ]
    assert torch.allclose(linear[0].solution, linear[1].solution)
    assert all(torch.allclose(linear[0].duals[name], linear[1].duals[name]) for name in linear[1].duals)
    with pytest.raises(InfeasibleError, match="instance 0 has no feasible solution"):
        IntegerProgram(A=[[-1, -1]], b=[-3], engine=Gurobi())(torch.ones(1, 2))
    with pytest.raises(InstanceError, match="instance 0 has an unbounded objective"):
        IntegerProgram(upper=np.inf, sense="max", engine=Gurobi())(torch.ones(1, 2))
    fields, n = market_split()
    assert not IntegerProgram(**fields, engine=Gurobi(), time_limit=0.5).solve_with_info(torch.ones(1, n)).optimal.any()


def test_models_of_mathopt():
    """The model's own optimum, with variables in another order, an auxiliary one, and rows with two sides."""
    model = mathopt.Model(name="bundles")
    x = [model.add_binary_variable(name=f"x{i}") for i in range(4)]
    spare = model.add_variable(lb=0, ub=2, name="spare")
    model.add_linear_constraint(2 * x[0] + 3 * x[1] + 4 * x[2] + x[3] + spare == 7)
    model.add_linear_constraint(mathopt.fast_sum(x) <= 3)
    model.add_linear_constraint(lb=0, ub=1, expr=x[0] + x[2])
    scores = torch.tensor([[3.0, 4.0, 5.0, 1.0]])
    model.maximize(sum(s * v for s, v in zip(scores[0].tolist(), x)))
    solver = IntegerProgram.from_mathopt(model, [x[2], x[0], x[1], x[3]], time_limit=5.0)
    order = [2, 0, 1, 3]
    result = mathopt.solve(model, mathopt.SolverType.CP_SAT)
    assert solver(scores[:, order])[0].tolist() == [round(result.variable_values(x[i])) for i in order]
    assert solver.solve_with_info(scores[:, order]).objective.item() == exactly(result.objective_value())
    assert (solver.sense, solver.time_limit) == ("max", 5.0)
    assert IntegerProgram.from_mathopt(model, x).A.shape == (3, 5)


def test_models_that_are_not_linear():
    model = mathopt.Model()
    x, y = model.add_binary_variable(name="x"), model.add_binary_variable(name="y")
    model.minimize(x + y)
    with pytest.raises(ValueError, match=r"^The objective of the model has the variable y, which has no score;"):
        IntegerProgram.from_mathopt(model, [x])
    with pytest.raises(ValueError, match=r"^LinearProgram: the model has whole variables. Use IntegerProgram.from_mathopt.$"):
        LinearProgram.from_mathopt(model)
    model.minimize(x * y)
    with pytest.raises(ValueError, match=r"^The model has quadratic objectives; only linear objectives and constraints can be"):
        IntegerProgram.from_mathopt(model)


def test_what_is_refused():
    ones = torch.ones(2, 2)
    for call, message in (
        (
            lambda: IntegerProgram(A=[[1, 1]], b=[1, 2]),
            "IntegerProgram: A has shape (1, 2) and b has shape (2,); expected a row",
        ),
        (lambda: IntegerProgram(sense="most"), "IntegerProgram: sense='most'; scores are costs ('min') or gains ('max')."),
        (lambda: IntegerProgram(A=[[1, 1]])(ones), "IntegerProgram: there is A without b."),
        (lambda: IntegerProgram(A=[[1]], b=[1])(ones), "IntegerProgram: there are 2 scores, and constraints on 1 variables."),
        (
            lambda: IntegerProgram(b=[1])(ones, b=ones[:, :1]),
            "IntegerProgram: b is a field, which all instances share, and given",
        ),
        (
            lambda: IntegerProgram(upper=[1, 1, 1], A=[[1, 1]], b=[1])(ones),
            "IntegerProgram: upper has shape (3,); expected one",
        ),
        (
            lambda: IntegerProgram(A=[[1, 1]])(ones, b=ones),
            "IntegerProgram: `A` has shape (1, 2) and `b` (2,) for one instance;",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            call()
    infinite = (
        "IntegerProgram: instance 1 has infinite scores (1 of 2 instances). Take a variable away with `mask`, or by its bounds."
    )
    with pytest.raises(InstanceError, match=f"^{re.escape(infinite)}$"):
        IntegerProgram()(torch.tensor([[1.0, 1.0], [torch.inf, 0.0]]))
    with pytest.raises(InstanceError, match=re.escape("IntegerProgram: instance 1 has NaN in `b` (1 of 2 instances).")):
        IntegerProgram(A=[[1, 1]])(ones, b=torch.tensor([[1.0], [torch.nan]]))
    with pytest.raises(TypeError, match=re.escape("LinearProgram: the scores are torch.int64, but the solution is not whole.")):
        LinearProgram(A=[[2, 1]], b=[1], sense="max")(torch.tensor([[1, 0]]))


def test_facts_of_a_program():
    assert IntegerProgram(A_eq=[[1, 1, 1]], b_eq=[1]).constant_sum
    assert not IntegerProgram(A_eq=[[1, 1, 2]], b_eq=[1]).constant_sum
    assert not IntegerProgram(A=[[1, 1, 1]], b=[1]).constant_sum
    assert IntegerProgram().binary
    assert not any(
        solver.binary for solver in (IntegerProgram(upper=2), IntegerProgram(integer=[1, 0]), LinearProgram(upper=1))
    )


def test_the_tangent_knows_auxiliary_variables():
    """An equation with an auxiliary variable fixes nothing; one without does."""
    solver = IntegerProgram(A_eq=[[1, 1, 0, 0], [0, 0, 1, 1]], b_eq=[1, 1])
    direction = torch.tensor([[3.0, 1.0, 4.0]])
    assert torch.allclose(solver.tangent(direction), torch.tensor([[1.0, -1.0, 4.0]]))
    assert torch.allclose(solver.tangent(direction, mask=torch.tensor([[True, False, True]])), torch.tensor([[0.0, 0.0, 4.0]]))


def test_sparse_and_dense_constants_are_one():
    dense = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, -0.0]])
    sparse = scipy.sparse.coo_array(dense)
    assert Constant(dense) == Constant(sparse) == Constant(torch.tensor(dense))
    assert hash(Constant(dense)) == hash(Constant(sparse))
    assert Constant(dense) != Constant(dense.T)
    assert Constant(dense) != "a matrix"
    for bad in (dense * np.nan, scipy.sparse.coo_array(dense * np.nan)):
        with pytest.raises(ValueError, match=r"^There is NaN among the numbers that all instances share.$"):
            Constant(bad)
    assert repr(Constant(np.ones((5, 9)))) == "<5 x 9 numbers>"
    solver = IntegerProgram(A=sparse, b=[2, 0])
    assert pickle.loads(pickle.dumps(solver)) == solver == IntegerProgram(A=dense, b=[2, 0])
    assert torch.equal(solver(-torch.ones(1, 3)), IntegerProgram(A=dense, b=[2, 0])(-torch.ones(1, 3)))
