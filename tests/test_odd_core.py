"""Input at the edges of what is allowed, in the core: padding of several score tensors, infinite true scores, mapped backward
passes, whole numbers as costs, instances without entries, half precision, and instance data that are none."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.distributions import Bernoulli

from solverlayers import SolverLayer
from solverlayers.distributions import KSubset, PerturbedSolution, PlackettLuce
from solverlayers.estimators import LAX, REBAR, Exact, ScoreFunction
from solverlayers.losses import ImitationLoss, PerturbationGradientLoss, Pushforward, SPOPlusLoss, regret
from solverlayers.relaxations import (
    Entmax,
    EntropicTopK,
    ProjectedSort,
    SoftAlignment,
    Softmax,
    SoftMinPath,
    SoftRank,
    SoftTopK,
    Sparsemax,
)
from solverlayers.rules import AIMLE, DAB, IMLE, LPGD, Blackbox, GumbelSoftmax, Identity, Perturbed, StraightThrough
from solverlayers.solvers import (
    DTW,
    Argmax,
    Assignment,
    Cached,
    EditDistance,
    GraphMatching,
    GridShortestPath,
    LabelledSegmentation,
    MultiGraphMatching,
    PartialAssignment,
    TopK,
    Viterbi,
)

# ---- padding of several score tensors ----


def _padded():
    """Solvers with the shapes of their score tensors, and instance data with padding, in states and labels, too."""
    states = torch.ones(2, 4, 3, dtype=torch.bool)
    states[1, 2:], states[:, :, 2], states[0, 1, 0] = False, False, False
    segments = torch.ones(2, 4, 3, 2, dtype=torch.bool)
    segments[1, 2:], segments[1, :, 2], segments[1, 1, 1], segments[:, :, :, 1] = False, False, False, False
    pairs = torch.ones(2, 3, 4, dtype=torch.bool)
    pairs[1, 2:], pairs[1, :, 3:], pairs[0, 0, 1] = False, False, False
    edges = {
        "edge_index1": torch.tensor([[[0, 1, 2], [1, 2, 0]], [[0, 1, -1], [1, 0, -1]]]),
        "edge_index2": torch.tensor([[[0, 1], [1, 2]], [[2, -1], [1, -1]]]),
    }
    return {
        "viterbi": (Viterbi(), ((4, 3), (3, 3)), {"mask": states}),
        "viterbi_own": (Viterbi(), ((4, 3), (3, 3, 3)), {"mask": states}),
        "cached": (Cached(Viterbi()), ((4, 3), (3, 3, 3)), {"mask": states}),
        "segments": (LabelledSegmentation(), ((4, 3, 2), (2, 2)), {"mask": segments}),
        "segments_own": (LabelledSegmentation(), ((4, 3, 2), (3, 2, 2)), {"mask": segments}),
        "partial": (PartialAssignment(), ((3, 4), (3,), (4,)), {"mask": pairs}),
        "edits": (EditDistance(), ((3, 4), (3,), (4,)), {"mask": pairs}),
        "graphs": (GraphMatching(), ((3, 4), (3, 2)), {"mask": pairs, **edges}),
        "graphs_edges": (GraphMatching(), ((3, 4), (3, 2)), edges),
    }


PADDED = _padded()


def _support(solver, shapes, instance):
    masks = solver.support(*map(torch.Size, shapes), **instance)
    return [torch.ones(2, *s, dtype=torch.bool) if mask is None else mask for mask, s in zip(masks, shapes)]


@pytest.mark.parametrize("name", PADDED)
def test_the_support_is_what_solutions_reach(name):
    solver, shapes, instance = PADDED[name]
    torch.manual_seed(0)
    reached = [torch.zeros(2, *s, dtype=torch.bool) for s in shapes]
    for _ in range(400):
        scores = [torch.randn(2, *s) * torch.randint(1, 4, (2, *s)) for s in shapes]
        reached = [found | (y != 0) for found, y in zip(reached, solver(*scores, **instance))]
    for found, mask in zip(reached, _support(solver, shapes, instance)):
        assert torch.equal(found, mask)


@pytest.mark.parametrize("on_failure", ["raise", "skip"])
@pytest.mark.parametrize("rule", [Identity(), StraightThrough(), Perturbed(0.5, 10), Blackbox("auto"), IMLE(2.0)], ids=str)
@pytest.mark.parametrize("name", PADDED)
def test_padding_of_several_score_tensors_does_not_matter(name, rule, on_failure):
    solver, shapes, instance = PADDED[name]
    layer, inside = SolverLayer(solver, rule, on_failure=on_failure), _support(solver, shapes, instance)
    torch.manual_seed(0)
    scores = [torch.rand(2, *s) for s in shapes]

    def outcome(garbage):
        torch.manual_seed(1)
        x = [torch.where(mask, s, garbage).requires_grad_() for mask, s in zip(inside, scores)]
        y = layer(*x, **instance)
        return y, torch.autograd.grad(sum((part * torch.arange(part.numel()).view_as(part)).sum() for part in y), x)

    (y, grad), (also_y, also_grad) = outcome(0.0), outcome(torch.nan)
    assert all(torch.equal(a, b) for a, b in zip((*y, *grad), (*also_y, *also_grad)))
    assert all((g[~mask] == 0).all() for g, mask in zip(grad, inside))
    assert layer.failures == 0


def test_a_mask_that_does_not_fit_the_score_tensors_is_refused():
    layer, unary = SolverLayer(Viterbi(), Identity()), torch.randn(2, 4, 3)
    with pytest.raises(ValueError, match=r"Viterbi: `mask` has shape \(2, 5, 3\)"):
        layer(unary, torch.randn(2, 3, 3), mask=torch.ones(2, 5, 3, dtype=torch.bool))
    with pytest.raises(
        ValueError, match=r"Viterbi: the score tensors have shapes \(4, 3\), \(4, 3, 3\) for each instance, but"
    ):
        layer(unary, torch.randn(2, 4, 3, 3), mask=torch.ones(2, 4, 3, dtype=torch.bool))


def test_the_support_is_mapped():
    solver, shapes, instance = PADDED["viterbi_own"]
    layer, scores = SolverLayer(solver, Identity()), [torch.rand(5, 2, *s) for s in shapes]
    slope = torch.func.vmap(torch.func.grad(lambda *x: sum(part.sum() for part in layer(*x, **instance)), argnums=(0, 1)))
    for g, mask in zip(slope(*scores), _support(solver, shapes, instance)):
        assert torch.equal(g, mask.float().expand_as(g))


# ---- infinite scores ----


@pytest.mark.parametrize(
    "loss",
    [SPOPlusLoss, lambda s: PerturbationGradientLoss(s, 0.3), lambda s: PerturbationGradientLoss(s, 0.3, two_sided=True)],
)
def test_losses_of_true_scores_keep_forbidden_entries_forbidden(loss):
    torch.manual_seed(0)
    scores, true, mask = torch.rand(4, 3, 3), torch.rand(4, 3, 3), torch.rand(4, 3, 3) < 0.8
    mask |= torch.eye(3, dtype=torch.bool)

    def outcome(scores, true, **instance):
        x = scores.clone().requires_grad_()
        value = loss(Assignment())(x, true, **instance)
        return value, *torch.autograd.grad(value.sum(), x)

    expected, walls = outcome(scores, true, mask=mask), true.masked_fill(~mask, torch.inf)
    for x in (scores, scores.masked_fill(~mask, torch.inf)):
        for found, right in zip(outcome(x, walls), expected):
            assert torch.allclose(found, right)


@pytest.mark.parametrize("name", ["equivariant", "batch", "independent"])
@pytest.mark.parametrize("residual", [False, True])
def test_approximators_do_not_see_infinite_scores(name, residual):
    torch.manual_seed(0)
    layer = SolverLayer(Assignment(), DAB(name, shape=(3, 3), residual=residual, commitment=0.5))
    scores, mask = torch.rand(2, 3, 3), torch.ones(2, 3, 3, dtype=torch.bool)
    mask[:, 0, 0] = False

    def outcome(scores, **instance):
        x = scores.clone().requires_grad_()
        y = layer(x, **instance)
        auxiliary = layer.auxiliary_loss(x, y, **instance)
        grads = torch.autograd.grad((y * torch.arange(9.0).view(3, 3)).sum() + auxiliary, [x, *layer.parameters()])
        return y, auxiliary, layer.agreement(x, y, **instance), *grads

    for found, right in zip(outcome(scores.masked_fill(~mask, torch.inf)), outcome(scores, mask=mask)):
        assert found.isfinite().all()
        assert torch.allclose(found, right, atol=1e-6)


# ---- mapped backward passes ----

DIFFERENCES = [Blackbox(2.0), Blackbox("auto"), Blackbox(2.0, two_sided=True), LPGD(1.0, rho=1.0)]


@pytest.mark.parametrize("rule", [*DIFFERENCES, Perturbed(), Perturbed(antithetic=True)], ids=str)
def test_many_gradients_at_once_are_those_one_by_one(rule):
    torch.manual_seed(0)
    x, grads = torch.randn(3, 4, requires_grad=True), torch.randn(5, 3, 4)
    y = SolverLayer(TopK(2), rule, projection="std")(x)

    def pullback(grad):
        return torch.autograd.grad(y, x, grad, retain_graph=True)[0]

    expected = torch.stack([pullback(grad) for grad in grads])
    at_once = torch.autograd.grad(y, x, grads, is_grads_batched=True, retain_graph=True)[0]
    assert torch.allclose(at_once, expected, atol=1e-5)
    assert torch.allclose(torch.func.vmap(pullback)(grads), expected, atol=1e-5)


@pytest.mark.parametrize(("rule", "advice"), [(IMLE(), "Call the layer inside"), (AIMLE(), "Take gradients one by one")])
def test_rules_that_cannot_be_mapped_say_so(rule, advice):
    x = torch.randn(3, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match=advice):
        torch.autograd.grad(SolverLayer(TopK(2), rule)(x), x, torch.randn(5, 3, 4), is_grads_batched=True)


# ---- whole numbers as costs ----


def test_costs_may_be_whole_numbers():
    scores = torch.zeros(3, 4, requires_grad=True)

    def values(cost):
        torch.manual_seed(0)
        value = Pushforward(Argmax(), samples=50)(scores, cost)
        return value, *torch.autograd.grad(value.sum(), scores)

    for whole, real in zip(values(lambda y: y.argmax(-1)), values(lambda y: y.argmax(-1).float())):
        assert torch.equal(whole, real)
    logits = torch.zeros(3, requires_grad=True)
    for estimator, cost in product((ScoreFunction(), REBAR(), Exact()), (lambda y: y > 0.5, lambda y: (y > 0.5).int())):
        value = estimator(cost, Bernoulli(logits=logits))
        assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()
    with pytest.raises(TypeError, match=r"Pushforward: the cost is torch.complex64; expected real numbers."):
        values(lambda y: y.sum(-1).to(torch.complex64))


# ---- instances without entries ----


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("relaxation", "shape"),
    [
        *((r, (2, 0)) for r in (Softmax(), Sparsemax(), Entmax(), SoftTopK(2), EntropicTopK(2), SoftRank(), ProjectedSort())),
        *((r, shape) for r in (SoftAlignment(), SoftMinPath()) for shape in ((2, 0, 0), (2, 0, 3), (2, 3, 0))),
    ],
    ids=str,
)
def test_relaxations_of_nothing_are_nothing(relaxation, shape, masked):
    x = torch.zeros(shape, requires_grad=True)
    y = relaxation(x, torch.ones(shape, dtype=torch.bool) if masked else None)
    assert y.shape == shape
    y.sum().backward()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("relaxation", [Softmax(), Sparsemax(), Entmax()], ids=str)
def test_entries_that_are_all_forbidden_count_as_equal(relaxation, masked):
    """As for Argmax, which takes the first of them."""
    x = torch.tensor([[-torch.inf, -torch.inf, 5.0], [1.0, -torch.inf, 5.0]])
    x, mask = (x, torch.tensor([True, True, False])) if masked else (x[:, :2], None)
    x = x.clone().requires_grad_()
    y = relaxation(x, mask)
    assert torch.allclose(y.detach()[:, :2], torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    assert torch.equal(torch.autograd.grad(y[:, 0].sum(), x)[0], torch.zeros_like(x))
    for rule in (StraightThrough(relaxation), GumbelSoftmax()):
        y = SolverLayer(Argmax(), rule)(x, **({"mask": mask.expand_as(x)} if masked else {}))
        assert torch.autograd.grad(y[:, 0].sum(), x)[0].isfinite().all()


# ---- half precision ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_of_latents_in_half_precision_is_not_rounded(dtype):
    torch.manual_seed(0)
    same, seen = torch.full((20, 50), 100.0, dtype=dtype), []
    distributions = PlackettLuce(same.requires_grad_()), PerturbedSolution(Argmax(), same)
    for distribution, mean in zip(distributions, (25.5, 1 / 50)):
        for estimator in (ScoreFunction(500), LAX(torch.nn.Sequential(torch.nn.Linear(50, 1)), 500)):
            value = estimator(lambda y: seen.append(y) or y[..., 0], distribution)
            assert value.dtype == seen[-1].dtype == torch.float32
            assert torch.autograd.grad(value.sum(), same, retain_graph=True)[0].dtype == dtype
            assert (seen[-1].mean((0, 1)) / mean - 1).abs().max() < 0.35
        sample = distribution.sample((500,))
        assert sample.dtype == dtype
        assert (sample.float().mean((0, 1)) / mean - 1).abs().max() < 0.35
    subsets = KSubset(torch.full((3,), 100.0, dtype=dtype), 2).sample((6000,))
    assert (subsets.float().mean(0) - 2 / 3).abs().max() < 0.03


def test_losses_of_half_precision_keep_their_digits():
    """The sum of a thousand numbers near 100 is beyond what half precision holds, and so is a cost of 1e5."""
    torch.manual_seed(0)
    x, true = (torch.rand(2, 1000) + 100).half(), (torch.rand(2, 1000) + 100).half()
    chosen, solver = TopK(700)(true.float()), TopK(700)
    x.requires_grad_()
    for loss, target in (
        (ImitationLoss(solver), chosen),
        (SPOPlusLoss(solver), true),
        (PerturbationGradientLoss(solver), true),
    ):
        value = loss(x, target)
        assert torch.allclose(value, loss(x.float(), target.float()))
        assert torch.autograd.grad(value.sum(), x)[0].dtype == torch.float16
    assert SPOPlusLoss(solver)(x, true.float() + 1e5).isfinite().all()
    assert torch.equal(regret(solver, x, true), regret(solver, x.float(), true.float()))


# ---- objectives ----


def test_objectives_have_no_gradient_and_enough_digits():
    x = torch.rand(1, 3, 3, 2, 2, requires_grad=True)
    for info in (MultiGraphMatching().solve_with_info(x), TopK(2).solve_with_info(torch.rand(2, 3, requires_grad=True))):
        assert not info.objective.requires_grad
        assert not info.bound.requires_grad
    assert TopK(5).solve_with_info(torch.full((1, 9), 60_000.0, dtype=torch.float16)).objective.tolist() == [300_000]
    assert TopK(5).solve_with_info(torch.full((1, 9), 100, dtype=torch.int8)).objective.tolist() == [500]


# ---- instance data ----


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (torch.ones(2, 4).bool().to_sparse(), "a tensor of layout torch.sparse_coo"),
        (torch.ones(2, 4, dtype=torch.complex64), "of type torch.complex64"),
    ],
    ids=["sparse", "complex"],
)
def test_instance_data_are_real_and_dense(mask, problem):
    x = torch.rand(2, 4)
    for call in (
        TopK(2),
        Cached(TopK(2)),
        SolverLayer(TopK(2), Identity()),
        lambda x, mask: ImitationLoss(TopK(2))(x, x, mask=mask),
    ):
        with pytest.raises(
            TypeError, match=f"TopK: `mask` is {problem}; expected real numbers in a dense tensor|Cached: `mask`"
        ):
            call(x, mask=mask)


def test_instance_data_that_are_left_out_are_named():
    x = torch.rand(2, 3, 3)
    for call in (GraphMatching(), SolverLayer(GraphMatching(), Identity())):
        with pytest.raises(TypeError, match="GraphMatching: there is no `edge_index1` and no `edge_index2`; give score"):
            call(x, x)


@pytest.mark.parametrize("rule", [Identity(), Blackbox(), Perturbed()], ids=str)
def test_instance_data_that_nobody_knows_are_named(rule):
    x = torch.rand(2, 3, 3)
    for solver, takes in ((Assignment(), "It takes `mask`, `warm_start`."), (GridShortestPath(), "See what its class says.")):
        for call in (solver, SolverLayer(solver, rule)):
            with pytest.raises(TypeError, match=f"{type(solver).__name__}: there is no instance data `masks`. {takes}"):
                call(x, masks=x > 0)
    with pytest.raises(TypeError, match=r"DTW: there is no instance data `k`. It takes `mask`."):
        DTW()(x, k=torch.ones(2))


def test_a_score_tensor_that_is_lacking_is_not_asked_for_by_keyword():
    unary, transitions = torch.rand(2, 4, 3), torch.rand(2, 3, 3)
    for call in (Viterbi(), SolverLayer(Viterbi(), Identity())):
        with pytest.raises(TypeError, match="Viterbi: there is no `transitions`; give score tensors in their order, instance"):
            call(unary)
        with pytest.raises(ValueError, match=r"2 tensors for 1 score tensors; .* in their order, without keyword"):
            call(unary, transitions=transitions)


@pytest.mark.parametrize(
    "rule",
    [lambda: Blackbox("auto"), lambda: IMLE("auto", samples=3), lambda: AIMLE(samples=3)],
    ids=["blackbox", "imle", "aimle"],
)
def test_gradients_of_infinite_scores_do_not_change_the_step(rule):
    torch.manual_seed(0)
    scores, weights, mask = torch.rand(3, 5), torch.randn(3, 5), torch.tensor([True, True, True, False, True])

    def outcome(scores, **instance):
        torch.manual_seed(1)
        x = scores.clone().requires_grad_()
        y = SolverLayer(TopK(2), rule())(x, **instance)
        return y, torch.autograd.grad((y * weights).sum(), x)[0]

    expected = outcome(scores, mask=mask.expand(3, 5))
    assert expected[1].any()
    for found, right in zip(outcome(scores.masked_fill(~mask, -torch.inf)), expected):
        assert torch.allclose(found, right)
