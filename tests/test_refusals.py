"""Arguments that mean nothing are refused when a layer is built, or by the first batch, in words that say what would."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import fields

import numpy as np
import pytest
import torch

from solverlayers import SolverLayer, distributions, estimators, losses, noise, relaxations, rules, solvers
from solverlayers.losses import FenchelYoungLoss
from solverlayers.relaxations import SoftTopK
from solverlayers.rules import AIMLE, DAB, IMLE, LPGD, Blackbox, Identity, Perturbed
from solverlayers.solvers import Argmax, HiGHS, Parallel, TopK
from solverlayers.tasks.doctor import EXAMPLES
from solverlayers.tasks.families import takes


def layer(rule, **settings):
    return SolverLayer(TopK(1), rule, **settings)


NO_DATA = (
    "instance data are tensors with one entry per instance. Use `torch.as_tensor`, or a field of the solver for what all share."
)
NO_NOISE = "noise is 'gumbel'; expected an instance of Noise, such as Gumbel(), or None."
NO_NUMBERS = "expected a whole number and a number."
NO_STEP = "it must be a positive number or 'auto'."


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: TopK(1)(torch.ones(2, 3, dtype=torch.complex64)),
            TypeError,
            "TopK: the scores are of type torch.complex64; expected real numbers in a dense tensor.",
        ),
        (
            lambda: SolverLayer(TopK(1), Identity())(torch.eye(3).to_sparse()),
            TypeError,
            "TopK: the scores are a tensor of layout torch.sparse_coo; expected real numbers in a dense tensor.",
        ),
        (
            lambda: TopK(1.5),
            TypeError,
            "TopK: k is 1.5; the number of chosen entries is a whole number, or a tensor (B,) in the call: "
            "`solver(scores, k=...)`.",
        ),
        (
            lambda: TopK(torch.tensor(2)),
            TypeError,
            "TopK: k is tensor(2); the number of chosen entries is a whole number, or a tensor (B,) in the call: "
            "`solver(scores, k=...)`.",
        ),
        (
            lambda: DAB("batch", shape=5),
            TypeError,
            "DAB('batch'): shape=5, output_shape=None; use tuples, as (10,).",
        ),
        (
            lambda: SolverLayer(TopK(1), DAB("batch", shape=(5,)))(torch.randn(3, 6, requires_grad=True)),
            ValueError,
            "BatchApproximator: scores have shape (3, 6), but it was built for instances of shape (5,). Give `DAB` the shape "
            "of an instance, or take the 'equivariant' approximator, which fits any.",
        ),
        (lambda: layer(IMLE(noise="gumbel")), TypeError, "IMLE: " + NO_NOISE),
        (lambda: layer(AIMLE(noise="gumbel")), TypeError, "AIMLE: " + NO_NOISE),
        (lambda: layer(Perturbed(noise="gumbel")), TypeError, "Perturbed: " + NO_NOISE),
        (lambda: FenchelYoungLoss(TopK(1), noise="gumbel"), TypeError, "FenchelYoungLoss: " + NO_NOISE),
        (lambda: layer(IMLE(samples=2.5)), TypeError, "IMLE: samples=2.5 and sigma=1.0; " + NO_NUMBERS),
        (lambda: layer(Perturbed(sigma="1")), TypeError, "Perturbed: samples=10 and sigma='1'; " + NO_NUMBERS),
        (
            lambda: layer(Perturbed(sigma=math.inf)),
            ValueError,
            "Perturbed: samples=10 and sigma=inf; both must be positive.",
        ),
        (lambda: layer(Blackbox(step=True)), ValueError, "Blackbox: step=True; " + NO_STEP),
        (lambda: layer(Blackbox(step=math.inf)), ValueError, "Blackbox: step=inf; " + NO_STEP),
        (
            lambda: layer(LPGD(tau="auto")),
            ValueError,
            "LPGD: tau='auto' and rho=0.0; tau is a number other than zero, and rho not negative.",
        ),
        (
            lambda: layer(Identity(), projection=3),
            TypeError,
            "projection is 3; expected one of 'mean', 'norm', 'std', 'tangent', or a module or function of the scores.",
        ),
        (
            lambda: DAB(abs),
            TypeError,
            "DAB: approximator is <built-in function abs>; expected a module, or one of 'batch', 'independent', 'equivariant'.",
        ),
        (
            lambda: SoftTopK(2.5),
            TypeError,
            "SoftTopK: k=2.5; the number of chosen entries is a whole number, or a tensor in the call.",
        ),
        (
            lambda: Parallel(TopK(1), workers="4"),
            ValueError,
            "Parallel: workers='4'; it is the number of processes, or -1 for one for each processor.",
        ),
        (
            lambda: layer(Identity())(torch.randn(2, 3), mask=np.ones((2, 3), dtype=bool)),
            TypeError,
            "TopK: `mask` is a ndarray; " + NO_DATA,
        ),
        (lambda: SolverLayer(TopK(), Identity())(torch.randn(3), k=2), TypeError, "TopK: `k` is a int; " + NO_DATA),
        (
            lambda: relaxations.Softmax()(torch.rand(2), torch.ones(2)),
            TypeError,
            "Softmax(temperature=1.0): `mask` is torch.float32; a mask is torch.bool, True where an entry may be used.",
        ),
        (
            lambda: distributions.PlackettLuce([1.0, 2.0]),
            TypeError,
            "PlackettLuce: logits are a list; expected a tensor. Use `torch.as_tensor`.",
        ),
        (lambda: distributions.KSubset(torch.zeros(3), k=1.5), TypeError, "KSubset: k=1.5; it is a whole number."),
        (
            lambda: estimators.ScoreFunction()(print, torch.distributions.Bernoulli(torch.full((2,), 0.5))),
            TypeError,
            "ScoreFunction: the loss returned a NoneType; expected a tensor.",
        ),
        (
            lambda: losses.Pushforward(TopK(1))(torch.rand(2, 3), None),
            TypeError,
            "Pushforward: cost is a NoneType; expected a function of solutions.",
        ),
        (
            lambda: losses.Pushforward(TopK(1))(torch.rand(2, 3), lambda y: 1.0),
            TypeError,
            "Pushforward: the cost is a float; expected a tensor.",
        ),
        (
            lambda: losses.ImitationLoss(solvers.Viterbi())((torch.rand(2, 3, 2), torch.rand(2, 2, 2)), torch.rand(2, 3, 2)),
            TypeError,
            "ImitationLoss: the scores are a tuple, and this loss is one of solvers with one tensor of scores. For Viterbi() "
            "make a loss of the output of a SolverLayer.",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


WRONG = {
    "int": ("2", None, 1.5, math.nan, math.inf, True),
    "int | None": ("2", 1.5, math.nan, math.inf, True),
    "float": ("2", None, math.nan),
    "float | None": ("2", math.nan),
    "Engine": ("HiGHS", None, HiGHS),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_fields_of_solvers(name):
    """A field of the wrong kind is refused by name, when the solver is built: kernels would read beyond their arrays."""
    kind = getattr(solvers, name)
    for field in fields(kind):
        for wrong in WRONG.get(field.type, ()):
            if not (field.default is None is wrong):
                with pytest.raises((TypeError, ValueError), match=rf"^\w+: {field.name}( is |=)"):
                    kind(**{**EXAMPLES[name].fields, field.name: wrong})


NEEDED = {"solver": TopK(2), "network": torch.nn.Identity(), "surrogate": torch.nn.Identity(), "k": 2}
NEEDED |= {"approximator": "equivariant", "shape": (4,)}
CLASSES = [
    kind
    for module in (rules, losses, relaxations, estimators, noise)
    for kind in vars(module).values()
    if inspect.isclass(kind) and not inspect.isabstract(kind) and kind.__module__.startswith("solverlayers.")
]


def built(made):
    if isinstance(made, rules.Rule):
        made.check(Argmax())


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not noise.Seeded], ids=lambda kind: kind.__name__)
def test_numbers_of_rules_losses_and_relaxations(kind):
    """A number of the wrong kind is refused by name, when the object is built or, of a rule, when its layer is."""
    parameters = inspect.signature(kind).parameters.values()
    needed = {p.name: NEEDED[p.name] for p in parameters if p.name in NEEDED}
    for parameter in parameters:
        for wrong in WRONG.get(parameter.annotation, ()):
            if parameter.default is None is wrong:
                continue
            with pytest.raises((TypeError, ValueError), match=rf"^\w+: .*\b{parameter.name}\b"):
                built(kind(**{**needed, parameter.name: wrong}))


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: solvers.IntegerProgram(A=[[1, math.nan]]), "IntegerProgram: A"),
        (lambda: solvers.SetCover([[1], [1, 0]]), "SetCover: members"),
        (lambda: solvers.Transport(supply="x"), "Transport: supply"),
        (lambda: solvers.Knapsack(weights=[1, [2]]), "Knapsack: weights"),
        (lambda: solvers.BoundedKnapsack(limits="x"), "BoundedKnapsack: limits"),
    ],
)
def test_numbers_that_all_instances_share(call, field):
    with pytest.raises((TypeError, ValueError), match=f"^{field} makes no array of numbers. "):
        call()


MASKED = [name for name, e in EXAMPLES.items() if takes(getattr(solvers, name)(**e.fields), "mask")]


@pytest.mark.parametrize("name", [name for name in MASKED if name != "Parallel"])  # which would start processes for each call
def test_what_is_no_mask(name):
    example, solver = EXAMPLES[name], getattr(solvers, name)(**EXAMPLES[name].fields)
    scores = example.scores if isinstance(example.scores, tuple) else (example.scores,)
    scores = [torch.tensor(part)[None] for part in scores]
    instance = {key: torch.as_tensor(value)[None] for key, value in example.instance.items()}
    inside = torch.ones_like(scores[0])
    layer = SolverLayer(solver, Perturbed(samples=2))
    for mask in (inside, inside.int(), inside[..., :-1].bool(), inside[..., None].bool(), inside[0].bool()):
        for call in (solver, layer):
            with pytest.raises((TypeError, ValueError), match=r"^\w+: `mask` (is torch\.|is \w+ of shape |has shape )"):
                call(*(part.float() for part in scores), **instance, mask=mask)


def test_what_are_no_edges():
    solver, scores = solvers.MaxIndependentSet(), torch.tensor([[1.0, 2.0, 2.0]])
    edges = torch.tensor([[[0, 1], [1, 2]]])
    assert solver(scores, edge_index=edges, edge_mask=torch.tensor([[True, False]])).tolist() == [[0, 1, 1]]
    expected = "`edge_mask` is torch.int64 of shape (1, 2); expected torch.bool of shape (B, E), False for padding, beside an "
    with pytest.raises(ValueError, match=f"^MaxIndependentSet: {re.escape(expected)}`edge_index`"):
        solver(scores, edge_index=edges, edge_mask=torch.tensor([[1, 0]]))
    with pytest.raises(ValueError, match=r"^MaxIndependentSet: `edge_mask` is torch\.bool of shape \(1, 2\); expected"):
        solvers.MaxIndependentSet(solvers.Graph([[0], [1]], 3))(scores, edge_mask=torch.ones(1, 2, dtype=torch.bool))
    expected = "`edge_index` is torch.float32 of shape (1, 2, 2); expected integers of shape (B, 2, E), both ends of each edge."
    with pytest.raises(ValueError, match=f"^MaxIndependentSet: {re.escape(expected)}$"):
        solver(scores, edge_index=edges.float())
    with pytest.raises(ValueError, match=r"^SetCover: members of one instance have shape \(\); expected a column for each"):
        solvers.SetCover()(scores, members=torch.ones(1))
    with pytest.raises(ValueError, match=r"^TopK: `k` is torch\.bool of shape \(1,\); expected one integer per instance"):
        TopK()(scores, k=torch.tensor([True]))


def test_a_number_that_should_be_one_for_each():
    graph = solvers.Graph([[0], [1]])
    message = (
        "MinCostFlow: `capacity` has shape (3,) and `supply` (3, 2); expected (3, 1), a number for each edge, and (3, 2), one "
        "for each node (as fields: without the first 3)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        solvers.MinCostFlow(graph, capacity=2, supply=[1, -1])(torch.ones(3, 1))
    message = (
        "Transport: `supply` has shape (3,) for scores of shape (3, 1, 2); expected (3, 1) (as a field: without the first 3)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        solvers.Transport(supply=2, demand=[1, 1])(torch.ones(3, 1, 2))


def test_numpy_counts():
    layer(Blackbox(step=np.float32(2.0)))
    layer(IMLE(samples=np.int64(2)))
    assert TopK(np.int64(2))(torch.tensor([[3.0, 1.0, 2.0]])).tolist() == [[1, 0, 1]]
    assert type(solvers.TourSearch(np.int64(2)).starts) is int


@pytest.mark.parametrize("rule", [Blackbox(1.0), LPGD(1.0)], ids=["blackbox", "lpgd"])
@pytest.mark.parametrize(
    "derivative",
    [
        lambda f, x: torch.func.jvp(f, (x,), (x,)),
        lambda f, x: torch.func.jacfwd(f)(x),
        lambda f, x: torch.func.hessian(lambda x: f(x).sum())(x),
    ],
    ids=["jvp", "jacfwd", "hessian"],
)
def test_finite_differences_have_no_forward_mode(rule, derivative):
    with pytest.raises(RuntimeError, match=r"so it has no forward mode\. Use reverse mode"):
        derivative(layer(rule), torch.rand(2, 3))
