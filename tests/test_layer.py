"""The layer: failures, types, masks, projections, noise, and what it says when it is used wrongly."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from solverlayers import InfeasibleError, InstanceError, InstanceSolver, Oracle, Solver, SolverLayer, SolverTimeoutError
from solverlayers.noise import Gaussian
from solverlayers.relaxations import Softmax
from solverlayers.rules import DAB, IMLE, Blackbox, Identity, Perturbed, StraightThrough
from solverlayers.solvers import Argmax, Assignment, PartialAssignment, Ranking, Sign, Threshold, TopK

RULES = [
    Identity(),
    StraightThrough(torch.sigmoid),
    Blackbox(step=3.0),
    IMLE(step=3.0, samples=2),
    Perturbed(samples=4),
    DAB("equivariant", shape=(4,)),
]
rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


def whole(text):
    return f"^{re.escape(text)}$"


@dataclass(frozen=True)
class Picky(Solver):
    """An argmax that refuses marked instances, all at once or one after the other, and may know an incumbent."""

    one_by_one: bool = False
    times_out: bool = False
    constant_sum = True

    def solve(self, scores, bad):
        if bad.any():
            refused = bad & (bad.cumsum(0) == 1) if self.one_by_one else bad
            first = int(refused.nonzero()[0, 0])
            if self.times_out:
                incumbent = torch.zeros_like(scores)
                incumbent[:, 0] = 1
                raise SolverTimeoutError(f"Picky: instance {first} took too long.", refused, incumbent)
            raise InfeasibleError(f"Picky: instance {first} has no solution.", refused)
        return Argmax()(scores)


BAD = torch.tensor([False, True, False, True, False])


def gradient(layer, x, weights, **instance):
    torch.manual_seed(0)
    x = x.detach().clone().requires_grad_()
    y = layer(x, **instance)
    return y, torch.autograd.grad((y * weights).sum(), x)[0]


def scores_and_weights(*shape):
    torch.manual_seed(0)
    return torch.randn(shape), torch.randn(shape)


# Failures


@rules
@pytest.mark.parametrize("one_by_one", [False, True])
def test_skip_blanks_the_failed_instances_alone(rule, one_by_one, caplog):
    x, weights = scores_and_weights(5, 4)
    layer = SolverLayer(Picky(one_by_one), rule, on_failure="skip")
    with caplog.at_level(logging.WARNING, logger="solverlayers"):
        y, g = gradient(layer, x, weights, bad=BAD)
    expected_y, expected_g = gradient(SolverLayer(Picky(), rule), x, weights, bad=torch.zeros_like(BAD))
    assert torch.equal(y, torch.where(BAD[:, None], 0, expected_y))
    assert torch.allclose(g, torch.where(BAD[:, None], 0, expected_g))
    assert (g[~BAD] != 0).any()
    assert layer.failures == 2
    assert [record.getMessage() for record in caplog.records] == ["Picky: skipped 2 of 5 instances (first: 1)."]


@rules
@pytest.mark.parametrize("projection", [None, "mean", "norm", "std"])
def test_skip_keeps_nan_out_of_gradients(rule, projection):
    """Not even zero times NaN: not in the scores' gradient, and not in the rule's own loss."""
    x, weights = scores_and_weights(5, 4)
    x[1, 2] = x[3] = torch.nan
    layer = SolverLayer(Argmax(), rule, projection=projection, on_failure="skip")
    y, g = gradient(layer, x, weights)
    assert torch.equal(y[BAD], torch.zeros(2, 4))
    assert torch.equal(g[BAD], torch.zeros(2, 4))
    assert g.isfinite().all()
    assert layer.failures == 2
    assert layer.auxiliary_loss(x, y).isfinite()


@rules
def test_skip_of_all_instances_and_of_none(rule):
    x, weights = scores_and_weights(3, 4)
    layer = SolverLayer(Picky(), rule, on_failure="skip")
    for bad in (True, False):
        y, g = gradient(layer, x, weights, bad=torch.full((3,), bad))
        assert (y == 0).all() == bad
        assert not bad or (g == 0).all()
        assert layer.failures == 3
    y, g = gradient(layer, x[:0], weights[:0], bad=torch.zeros(0, dtype=torch.bool))
    assert y.shape == g.shape == (0, 4)


def test_last_takes_the_incumbent():
    x, weights = scores_and_weights(5, 4)
    layer = SolverLayer(Picky(times_out=True), Identity(), on_failure="last")
    y, g = gradient(layer, x, weights, bad=BAD)
    assert torch.equal(y[BAD], torch.eye(4)[[0, 0]])
    assert torch.equal(y[~BAD], Argmax()(x[~BAD]))
    assert torch.equal(g, weights)
    assert layer.failures == 0


def test_last_without_an_incumbent_skips():
    x, weights = scores_and_weights(5, 4)
    layer = SolverLayer(Picky(), Identity(), on_failure="last")
    y, g = gradient(layer, x, weights, bad=BAD)
    assert torch.equal(y[BAD], torch.zeros(2, 4))
    assert torch.equal(g[BAD], torch.zeros(2, 4))
    assert layer.failures == 2


def test_the_default_raises():
    layer = SolverLayer(Picky(), Identity())
    with pytest.raises(InfeasibleError, match=whole("Picky: instance 1 has no solution.")) as caught:
        layer(torch.randn(5, 4), bad=BAD)
    assert torch.equal(caught.value.instances, BAD)


def test_an_error_that_names_no_instance_is_raised_whatever_the_policy():
    @dataclass(frozen=True)
    class Vague(Solver):
        def solve(self, scores):
            raise InfeasibleError("Vague: something is wrong.", torch.zeros(len(scores), dtype=torch.bool))

    with pytest.raises(InfeasibleError, match=whole("Vague: something is wrong.")):
        SolverLayer(Vague(), Identity(), on_failure="skip")(torch.randn(2, 3))


def test_unknown_policy():
    with pytest.raises(ValueError, match=whole("""on_failure='ignore'; use one of "raise", "skip", "last".""")):
        SolverLayer(Argmax(), Identity(), on_failure="ignore")


# Wrong use


def test_nan_is_refused():
    x = torch.randn(4, 3)
    x[2, 1] = torch.nan
    message = (
        "Argmax: instance 2 has NaN scores (1 of 4 instances). Look for a diverged network, or train on with "
        '`SolverLayer(..., on_failure="skip")`.'
    )
    with pytest.raises(InstanceError, match=whole(message)):
        SolverLayer(Argmax(), Identity())(x)


def test_wrong_number_of_dimensions():
    message = (
        "Assignment: scores have shape (3,), which is 1 dimensions; expected a batch dimension and 2 more. Add one with "
        "`scores.unsqueeze(0)` or fold extra ones with `flatten`."
    )
    with pytest.raises(ValueError, match=whole(message)):
        Assignment()(torch.randn(3))


def test_instance_data_that_are_no_tensor():
    message = (
        "TopK: `k` is a int; instance data are tensors with leading dimension 4 (one entry per instance). Use "
        "`torch.as_tensor`, or a field of the solver for what all share."
    )
    with pytest.raises(TypeError, match=whole(message)):
        TopK()(torch.randn(4, 3), k=2)


def test_instance_data_of_another_batch():
    message = (
        "TopK: `k` has shape (3,) but the scores have 4 instances; instance data need leading dimension 4. Use "
        "`.expand(4, ...)` for data that all share."
    )
    with pytest.raises(ValueError, match=whole(message)):
        SolverLayer(TopK(), Identity())(torch.randn(4, 3), k=torch.ones(3, dtype=torch.int64))


def test_instance_data_on_another_device():
    message = "TopK: `k` is on meta but the scores are on cpu. Move it with `.to('cpu')`."
    with pytest.raises(ValueError, match=whole(message)):
        SolverLayer(TopK(), Identity())(torch.randn(4, 3), k=torch.ones(4, dtype=torch.int64, device="meta"))


def test_instance_data_that_require_a_gradient():
    message = (
        "Picky: `bad` requires a gradient, but only scores get one; instance data are constants. Pass `bad.detach()`, or use "
        "a solver that takes it as a second score tensor."
    )
    with pytest.raises(ValueError, match=whole(message)):
        SolverLayer(Picky(), Identity())(torch.randn(4, 3), bad=torch.zeros(4, requires_grad=True))


def test_classes_in_the_place_of_instances():
    for arguments, message in (
        ((Argmax, Identity()), f"solver is {Argmax!r}; expected an instance of Solver, such as TopK(2)."),
        (
            (Argmax(), Identity),
            f"rule is {Identity!r}; expected an instance of Rule, such as Identity() (with the brackets).",
        ),
        (
            (Argmax(), Identity(), None, 0.1),
            "noise is 0.1; expected an instance of Noise, such as Gaussian(0.1), or None.",
        ),
    ):
        with pytest.raises(TypeError, match=whole(message)):
            SolverLayer(*arguments)


def test_a_solution_of_another_shape():
    @dataclass(frozen=True)
    class Short(Solver):
        def solve(self, scores):
            return scores[:, :2]

    message = "Short.solve returned shape (4, 2) for scores of shape (4, 3); a solution has the shape of its scores."
    for call in (SolverLayer(Short(), Identity()), Short(), Short().solve_with_info):
        with pytest.raises(ValueError, match=whole(message)):
            call(torch.randn(4, 3))


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (
            lambda *scores: scores[0],
            ValueError,
            "1 tensors for 2 score tensors; there is a solution for each. "
            "Score tensors are given in their order, without keyword.",
        ),
        (lambda *scores: (scores[0], scores[1].numpy()), TypeError, "a ndarray; expected a tensor."),
    ],
)
def test_answers_that_are_no_solutions(answer, error, message):
    @dataclass(frozen=True)
    class Pair(Solver):
        def solve(self, *scores):
            return answer(*scores)

    for call in (SolverLayer(Pair(), Identity()), Pair()):
        with pytest.raises(error, match=whole("Pair.solve returned " + message)):
            call(torch.randn(4, 3), torch.randn(4, 2))


def test_a_numpy_solution_of_another_shape():
    @dataclass(frozen=True)
    class Scalar(InstanceSolver):
        def solve_instance(self, scores):
            return np.max(scores)

    message = "Scalar.solve_instance returned shape () for scores of shape (3,); a solution has the shape of its scores."
    with pytest.raises(ValueError, match=whole(message)):
        Scalar()(torch.randn(4, 3))


def test_a_mask_of_another_shape():
    """Also one that would broadcast."""
    with pytest.raises(ValueError, match=r"`mask` has shape \(3,\) but the scores have shape \(3, 3\)"):
        SolverLayer(Argmax(), Identity())(torch.randn(3, 3), mask=torch.ones(3, dtype=torch.bool))


# Shapes and types


@rules
def test_one_instance_without_a_batch(rule):
    x, weights = scores_and_weights(4)
    layer = SolverLayer(TopK(2), rule)
    y, g = gradient(layer, x, weights)
    batched_y, batched_g = gradient(layer, x[None], weights)
    assert torch.equal(y, batched_y[0])
    assert torch.equal(g, batched_g[0])
    masked = SolverLayer(Argmax(), Identity())(x, mask=torch.arange(4) < 2)
    assert masked.shape == (4,)
    assert masked[2:].sum() == 0


@dataclass(frozen=True)
class Recording(Argmax):
    """Says in what type its scores came."""

    def solve(self, scores, mask=None):
        if scores.dtype != torch.float32:
            raise TypeError(f"scores are {scores.dtype}")
        if torch.is_autocast_enabled("cpu"):
            raise TypeError("autocast is on inside the solver")
        return super().solve(scores, mask)


@rules
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(rule, dtype):
    """Solvers see single precision, and nothing under autocast; outputs and gradients have the type of the scores."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 4)
    layer = SolverLayer(Recording(), rule)
    with torch.autocast("cpu", dtype):
        z = network(torch.randn(6, 3))
        z.retain_grad()
        y = layer(z)
        loss = (y.float() * torch.randn(6, 4)).sum() + layer.auxiliary_loss(z, y)
    loss.backward()
    assert z.dtype == y.dtype == z.grad.dtype == dtype
    assert network.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "rule", [Identity(), Blackbox(step=3.0), IMLE(step=3.0, samples=2), Perturbed(samples=4)], ids=lambda r: type(r).__name__
)
def test_several_score_tensors(rule):
    torch.manual_seed(0)
    parts = [torch.randn(5, *shape, requires_grad=True) for shape in ((3, 4), (3,), (4,))]
    layer = SolverLayer(PartialAssignment(), rule)
    ys = layer(*parts)
    assert [y.shape for y in ys] == [part.shape for part in parts]
    gradients = torch.autograd.grad(sum((y * torch.randn_like(y)).sum() for y in ys), parts)
    assert all(g.shape == part.shape and g.isfinite().all() and (g != 0).any() for g, part in zip(gradients, parts))
    for y, own in zip(layer.eval()(*parts), PartialAssignment()(*parts)):
        assert torch.equal(y, own)


@rules
def test_forbidden_entries(rule):
    """A score of -inf forbids an entry: no NaN, and no other gradient than with a very low score in its place."""
    x, weights = scores_and_weights(5, 4)
    x[:, 1] = -torch.inf
    y, g = gradient(SolverLayer(Argmax(), rule), x, weights)
    assert (y[:, 1] == 0).all() or isinstance(rule, DAB)
    if not isinstance(rule, DAB):  # what a network makes of an infinite input is its own affair
        assert g.isfinite().all()


@pytest.mark.parametrize("projection", ["mean", "norm", "std"])
def test_projections_of_forbidden_entries(projection):
    x, weights = scores_and_weights(5, 4)
    x[:, 1] = -torch.inf
    y, g = gradient(SolverLayer(Argmax(), Identity(), projection=projection), x, weights)
    keep = [0, 2, 3]
    expected_y, expected_g = gradient(SolverLayer(Argmax(), Identity(), projection=projection), x[:, keep], weights[:, keep])
    assert torch.equal(y[:, keep], expected_y)
    assert torch.allclose(g[:, keep], expected_g)
    assert g.isfinite().all()


# Masks


@pytest.mark.parametrize("projection", [None, "mean", "norm", "std", "tangent"])
@pytest.mark.parametrize(
    "rule",
    [Identity(), Blackbox(step=3.0), StraightThrough(torch.sigmoid), StraightThrough(Softmax())],
    ids=lambda rule: repr(rule)[:30],
)
def test_padding_changes_nothing(rule, projection):
    """Gradients are exactly zero on padding, and what stands there does not matter; padded and unpadded agree."""
    torch.manual_seed(0)
    lengths = torch.tensor([4, 2, 6, 1])
    mask = torch.arange(6) < lengths[:, None]
    x, weights = torch.randn(4, 6), torch.randn(4, 6)
    layer = SolverLayer(Argmax(), rule, projection=projection)
    y, g = gradient(layer, x, weights, mask=mask)
    assert (g[~mask] == 0).all()
    assert (y[~mask] == 0).all()
    for garbage in (torch.nan, torch.inf, -torch.inf, 1e30):
        other_y, other_g = gradient(layer, torch.where(mask, x, garbage), weights, mask=mask)
        assert torch.equal(other_y, y)
        assert torch.equal(other_g, g)
    if not isinstance(rule, StraightThrough) or rule.relaxation is not torch.sigmoid or projection is None:
        for b, length in enumerate(lengths):
            own_y, own_g = gradient(layer, x[b : b + 1, :length], weights[b : b + 1, :length])
            assert torch.equal(own_y[0], y[b, :length])
            assert torch.allclose(own_g[0], g[b, :length], atol=1e-6)


# Projections and noise


def test_projections_that_change_solutions_are_refused():
    mean = (
        "projection 'mean' changes the solutions of Threshold: they differ in their sums, so a constant added to all scores "
        "matters. Use 'norm', 'std' (which is then the norm alone) or 'tangent'."
    )
    with pytest.raises(ValueError, match=whole(mean)):
        SolverLayer(Threshold(), Identity(), projection="mean")
    norm = (
        f"a norm projection changes the solutions of {Sign(0.5)!r}: they depend on the scale of the scores (a margin or a "
        "threshold). Use projection=None or 'tangent'."
    )
    for projection in ("norm", "std"):
        with pytest.raises(ValueError, match=whole(norm)):
            SolverLayer(Sign(0.5), Identity(), projection=projection)


def test_unknown_projection():
    message = "unknown projection 'median'; use one of 'mean', 'norm', 'std', 'tangent', or a module."
    with pytest.raises(ValueError, match=whole(message)):
        SolverLayer(Argmax(), Identity(), projection="median")


def test_projections_that_leave_the_solution_are_left_out_in_eval():
    x, weights = scores_and_weights(5, 4)
    layer = SolverLayer(Argmax(), Identity(), projection="norm").eval()
    assert torch.equal(gradient(layer, x, weights)[1], weights)


@pytest.mark.parametrize("solver", [TopK(2), TopK(2, largest=False)])
def test_a_function_of_the_scores_is_a_projection(solver):
    """It sees the scores in the solver's own sense, and also runs in eval(), since it may change the solution."""
    x, weights = scores_and_weights(5, 4)
    layer = SolverLayer(solver, Identity(), projection=lambda s: s.abs())
    for _ in range(2):
        y, g = gradient(layer, x, weights)
        assert torch.equal(y, solver(x.abs()))
        assert torch.equal(g, (1 if solver.largest else -1) * weights * x.sign())
        layer.eval()


def test_a_layer_shows_all_that_it_was_made_of():
    layer = SolverLayer(TopK(2), Identity(), projection="std", noise=Gaussian(0.1), on_failure="skip")
    assert str(layer).splitlines() == [
        "SolverLayer(",
        "  (solver): TopK(k=2, largest=True)",
        "  (noise): Gaussian(scale=0.1)",
        "  (on_failure): 'skip'",
        "  (rule): Identity()",
        "  (projection): Std()",
        ")",
    ]
    assert str(SolverLayer(Argmax(), Identity())).splitlines()[1:-1] == ["  (solver): Argmax()", "  (rule): Identity()"]


def test_noise_while_training_only():
    x, _ = scores_and_weights(200, 4)
    layer = SolverLayer(Ranking(), Identity(), noise=Gaussian(2.0))
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    assert torch.equal(y, Ranking()(x + Gaussian(2.0).sample(x)))
    assert not torch.equal(y, Ranking()(x))
    assert torch.equal(layer.eval()(x), Ranking()(x))


# The oracle


def test_oracle_turns_costs_into_gains():
    x = torch.rand(4, 3, 3)
    assert torch.equal(Oracle(Assignment())(-x), Assignment()(x))


def test_oracle_half_precision():
    x = torch.randn(4, 3).half()
    y = Oracle(Recording())(x)
    assert y.dtype == torch.float16
    assert torch.equal(y.float(), Argmax()(x.float()))


@rules
def test_skip_with_sample_dimensions(rule):
    """An instance that fails in one sample fails in all; also when there is nothing to solve."""
    x, weights = scores_and_weights(3, 5, 4)
    x[1, 2, 0] = torch.nan
    layer = SolverLayer(TopK(2), rule, on_failure="skip")
    y, g = gradient(layer, x, weights)
    assert (y[:, 2] == 0).all()
    assert (g[:, 2] == 0).all()
    assert g.isfinite().all()
    assert gradient(layer, x[:, :0], weights[:, :0])[1].shape == (3, 0, 4)


def test_integer_scores_have_solutions_and_no_gradient():
    layer, scores = SolverLayer(TopK(1), Blackbox(step="auto")), torch.tensor([[3, 1, 2]])
    message = (
        "SolverLayer: scores of type torch.int64 cannot carry a gradient. Pass `scores.float()`; without a gradient, "
        "call the solver itself, or `layer.eval()` first."
    )
    with pytest.raises(TypeError, match=whole(message)):
        layer(scores)
    assert layer.eval()(scores).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_bridge_keeps_its_own_precision(dtype):
    layer = SolverLayer(Ranking(), DAB("equivariant", shape=(4,)))
    scores = torch.rand(3, 4, dtype=dtype, requires_grad=True)
    y = layer(scores)
    (y.sum() + layer.auxiliary_loss(scores, y)).backward()
    assert y.dtype == scores.grad.dtype == dtype
    assert scores.grad.any()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


def test_a_bridge_learns_nothing_from_an_empty_batch():
    layer, scores = SolverLayer(Ranking(), DAB("equivariant", shape=(4,))), torch.rand(0, 4)
    loss = layer.auxiliary_loss(scores, layer(scores))
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize(("scores", "given"), [((), "nothing"), (([1.0, 2.0],), "list"), ((np.zeros(3),), "ndarray")])
def test_scores_that_are_no_tensor(scores, given):
    message = f"TopK: the scores are {given}; expected a tensor with a batch dimension. Use `torch.as_tensor`."
    with pytest.raises(TypeError, match=whole(message)):
        TopK(1)(*scores)
    with pytest.raises(TypeError, match=whole(message)):
        SolverLayer(TopK(1), Identity())(*scores)


def test_an_unknown_sense():
    class Wrong(Picky):
        sense = "maximize"

    with pytest.raises(ValueError, match=whole("Wrong: sense is 'maximize'; it is 'max' for gains and 'min' for costs.")):
        SolverLayer(Wrong(), Identity())
