"""Input at the edges of what is allowed: half precision, infinite scores, numbers far apart, types with little room."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from builds import without_kernels
from torch.distributions import Bernoulli

from solverlayers import InfeasibleError, Solver, SolverLayer
from solverlayers.estimators import REBAR, MovingAverage, ScoreFunction
from solverlayers.losses import FenchelYoungLoss, NCELoss, PointwiseRankingLoss, RegularizedFenchelYoungLoss
from solverlayers.noise import Gaussian, Gumbel
from solverlayers.relaxations import Entmax, ProjectedSort, SoftTopK
from solverlayers.rules import DAB, IMLE, LPGD, Blackbox, Identity, Perturbed
from solverlayers.solvers import (
    Argmax,
    Assignment,
    BoundedKnapsack,
    ExactQuadraticAssignment,
    Graph,
    IntegerProgram,
    LinearProgram,
    MaxAssignment,
    MaxCardinalityMatching,
    MaxCut,
    MaxIndependentSet,
    MaxWeightMatching,
    MinCostFlow,
    MinCut,
    QuadraticAssignment,
    TopK,
    Transport,
    Viterbi,
)

# ---- layers ----


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("projection", ["mean", "norm", "std"])
def test_projections_of_half_precision_leave_the_solution(dtype, projection):
    """Norms and sums of many numbers overflow in half precision, and small numbers vanish."""
    torch.manual_seed(0)
    for scale in (1e-6, 1.0, 1e4):
        x = ((torch.randn(8, 3000) + 1) * scale).to(dtype).requires_grad_()
        y = SolverLayer(TopK(3), Identity(), projection=projection)(x)
        assert y.dtype == dtype
        assert torch.equal(y.float(), TopK(3)(x.detach().float()))
        assert torch.autograd.grad(y.sum(), x)[0].dtype == dtype


def test_noise_on_half_precision_is_not_rounded():
    """To the few numbers near 100 there are in bfloat16, of which the first of equals would win."""
    torch.manual_seed(0)
    y = SolverLayer(Argmax(), Perturbed())(torch.full((20_000, 50), 100.0, dtype=torch.bfloat16).requires_grad_())
    shares = y.detach().float().mean(0) * 50
    assert (shares - 1).abs().max() < 0.3


def test_autocast_of_another_device_changes_nothing():
    x = torch.randn(2, 3, requires_grad=True)
    torch.set_autocast_enabled("cuda", True)
    try:
        y = SolverLayer(Argmax(), Identity())(x)
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert torch.equal(y, Argmax()(x.detach()))


def test_noise_of_a_layer_stays_out_of_the_padding():
    def gradient(padding):
        torch.manual_seed(0)
        x = torch.cat([torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.zeros(1, padding)], 1).requires_grad_()
        y = SolverLayer(TopK(2), Blackbox("auto"), noise=Gaussian(0.1))(x, mask=torch.arange(4 + padding)[None] < 4)
        return torch.autograd.grad(y[0, 1], x)[0][0, :4]

    assert torch.allclose(gradient(0), gradient(1000), atol=1e-3)


def test_the_auxiliary_loss_of_one_instance():
    layer = SolverLayer(TopK(2), DAB("batch", shape=(4,)))
    x, mask = torch.randn(4), torch.tensor([True, True, True, False])
    y = layer(x, mask=mask)
    expected = layer.auxiliary_loss(x[None], y[None], mask=mask[None])
    assert torch.equal(layer.auxiliary_loss(x, y, mask=mask), expected)


def test_score_tensors_without_a_batch_are_refused():
    with pytest.raises(ValueError, match="no batches of one length"):
        SolverLayer(Viterbi(), Identity())(torch.randn(4, 3), torch.randn(3, 3))


@dataclass(frozen=True)
class Picky(Solver):
    """Knows no solution for great scores."""

    binary = True

    def solve(self, scores):
        bad = scores.sum(1) > 10
        if bad.any():
            raise InfeasibleError("Picky: too great.", bad)
        return (scores > 0).to(scores.dtype)


def test_a_skipped_instance_has_no_gradient_where_moved_scores_have_a_solution():
    x = torch.tensor([[5.0, 5.5], [1.0, -1.0]], requires_grad=True)
    y = SolverLayer(Picky(), LPGD(1.0, rho=2.0), on_failure="skip")(x)
    assert (torch.autograd.grad(y.sum(), x)[0][0] == 0).all()


def test_a_relative_step_leaves_forbidden_entries_out():
    scores = torch.rand(2, 3, 3)
    scores[:, 0, 0] = torch.inf
    scores.requires_grad_()
    y = SolverLayer(Assignment(), Blackbox("auto"))(scores)
    assert torch.autograd.grad(y.square().sum(), scores)[0].isfinite().all()


class Narrow(Gaussian):
    def sample(self, like):
        return super().sample(like).clamp(-0.1, 0.1)


@pytest.mark.parametrize("rule", [IMLE, Perturbed])
def test_noise_may_be_drawn_otherwise(rule):
    x = torch.tensor([[1.0, 0.0]]).repeat(500, 1).requires_grad_()
    assert SolverLayer(Argmax(), rule(noise=Narrow()))(x)[:, 1].sum() == 0


def test_a_mapped_backward_pass_says_that_its_noise_is_elsewhere():
    x = torch.randn(3, 4, requires_grad=True)
    y = SolverLayer(TopK(2), IMLE(step=2.0, samples=3))(x)
    with pytest.raises(RuntimeError, match="Call the layer inside"):
        torch.func.vmap(lambda v: torch.autograd.grad(y, x, v, retain_graph=True)[0])(torch.randn(5, 3, 4))


# ---- losses, estimators and relaxations ----


@pytest.mark.parametrize("loss", [NCELoss(TopK(2)), PointwiseRankingLoss(TopK(2))])
def test_losses_over_a_pool_take_samples(loss):
    x, pool = torch.randn(2, 3, 4), TopK(2)(torch.randn(5, 4))
    true = TopK(2)(torch.randn(3, 4))
    expected = torch.stack([loss(one, true, pool) for one in x])
    assert torch.allclose(loss(x, true, pool), expected)
    assert torch.allclose(loss(x, true, pool.unsqueeze(1).expand(5, 3, 4)), expected)


def test_losses_follow_their_parameters():
    x, y = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    loss = RegularizedFenchelYoungLoss(Argmax())
    loss.strength = 0.1
    assert torch.equal(loss(x, y), RegularizedFenchelYoungLoss(Argmax(), strength=0.1)(x, y))
    loss = FenchelYoungLoss(Argmax(), noise=Gumbel())
    loss.sigma = 0.1
    torch.manual_seed(0)
    value = loss(x, y)
    torch.manual_seed(0)
    assert torch.equal(value, FenchelYoungLoss(Argmax(), noise=Gumbel(), sigma=0.1)(x, y))


def test_a_moving_average_survives_an_empty_batch():
    estimator, logits = ScoreFunction(1, MovingAverage()), torch.zeros(3, requires_grad=True)
    estimator(lambda y: y, Bernoulli(logits=torch.zeros(0)))
    estimator(lambda y: y, Bernoulli(logits=logits)).sum().backward()
    assert logits.grad.isfinite().all()


def test_latents_of_half_precision_have_finite_gradients():
    torch.manual_seed(1)
    estimator = REBAR()
    logits = torch.randn(64, 256).bfloat16().requires_grad_()
    estimator(lambda b: (b.float() - 0.45).square(), Bernoulli(logits=logits)).mean().backward()
    assert logits.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in estimator.parameters())


def test_relaxations_are_as_precise_as_their_scores():
    assert torch.allclose(
        Entmax(1.5)(torch.zeros(7, dtype=torch.float64)), torch.full((7,), 1 / 7, dtype=torch.float64), rtol=1e-14
    )
    sort = ProjectedSort(3.0)(torch.tensor([3.0, 1.0, 2.0, 7.0], dtype=torch.float64))
    assert sort[0].item() == pytest.approx(round(sort[0].item(), 2), abs=1e-12)


@pytest.mark.parametrize(
    ("k", "temperature", "n", "scale"), [(50, 1e-3, 500, 100.0), (50, 1e-4, 500, 100.0), (1000, 1.0, 10_000, 10.0)]
)
def test_a_soft_choice_of_k_sums_to_k(k, temperature, n, scale):
    torch.manual_seed(0)
    y = SoftTopK(k, temperature)(torch.randn(8, n) * scale + 1000)
    assert y.dtype == torch.float32
    assert (y.double().sum(-1) - k).abs().max() < 1e-3


# ---- solvers ----


@pytest.mark.parametrize("program", [IntegerProgram(sense="max"), LinearProgram(A=[[1, 1]], b=[4], sense="max")])
def test_programs_refuse_data_that_they_do_not_know(program):
    with pytest.raises(TypeError, match="no instance data `upper`"):
        program(torch.ones(1, 2), upper=torch.zeros(1, 2))


def test_a_cut_has_as_many_edges_as_scores():
    for size in (2, 5, 12):
        with pytest.raises(ValueError, match=f"for {size} edges, but the graph has 3"):
            MaxCut()(torch.ones(1, size), edge_index=torch.tensor([[[0, 1, 2], [1, 2, 0]]]))


def test_nodes_may_be_small_integers():
    edges = torch.tensor([[[0, 1], [1, 2]]], dtype=torch.uint8)
    assert MaxIndependentSet()(torch.ones(1, 3), edge_index=edges).tolist() == [[1, 0, 1]]


def test_a_row_that_is_forbidden_is_not_left_out(monkeypatch):
    """In torch as in the kernel."""
    without_kernels(monkeypatch)
    flows, scores = torch.rand(1, 3, 3), torch.zeros(1, 3, 3)
    scores[0, 0] = torch.inf
    for solver in (QuadraticAssignment(), ExactQuadraticAssignment()):
        for costs in (scores, torch.full((1, 3, 3), torch.inf)):
            with pytest.raises(InfeasibleError, match="instance 0"):
                solver(costs, flows=flows, distances=flows)


@pytest.mark.parametrize(
    ("value", "dtype"), [(100, torch.int8), (1_500_000_000, torch.int32), (60_000, torch.float16), (2**52, torch.int64)]
)
def test_copies_of_an_item_may_be_worth_more_than_its_type_holds(value, dtype):
    knapsack = BoundedKnapsack(weights=(1, 1), capacity=3, limits=(3, 3))
    assert knapsack(torch.tensor([[value, 1]], dtype=dtype)).tolist() == [[3, 0]]


@pytest.mark.parametrize("worst", [-1.0, -1e15, -1e30, -torch.inf])
def test_edges_that_nobody_wants_take_no_precision(worst):
    edges = torch.tensor([[[0, 1, 3], [1, 2, 4]]])
    assert MaxWeightMatching()(torch.tensor([[1.0, 1.5, worst]]), edge_index=edges).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("solver", [MaxWeightMatching(), MaxCardinalityMatching()])
def test_loops_take_no_precision(solver):
    edges = torch.tensor([[[0, 1, 0], [1, 2, 0]]])
    assert solver(torch.tensor([[1.0, 1.5, 1e30]]), edge_index=edges).tolist() == [[0, 1, 0]]


def test_amounts_that_the_scores_have_no_room_for_are_refused():
    edge = Graph([[0], [1]])
    for solver, scores, problem in (
        (MinCostFlow(edge, capacity=[2.0], supply=[0.5, -0.5]), torch.tensor([[3]]), "not whole"),
        (Transport(supply=[0.5], demand=[0.5]), torch.tensor([[[3]]]), "not whole"),
        (MinCostFlow(edge, capacity=[500], supply=[300, -300]), torch.tensor([[3]], dtype=torch.uint8), "too small"),
        (BoundedKnapsack((1,), 300, (300,)), torch.tensor([[1]], dtype=torch.uint8), "too small"),
    ):
        with pytest.raises(TypeError, match=problem):
            solver(scores)


def test_the_least_integer_is_refused_like_others_beyond_double_precision():
    least = torch.iinfo(torch.int64).min
    with pytest.raises(ValueError, match="beyond 2"):
        MaxAssignment()(torch.tensor([[[least, least, least], [3, 0, 5], [7, 8, 1]]]))


def test_large_unsigned_integers_do_not_wrap():
    scores = torch.tensor([[[3_000_000_000, 1], [1, 5]]]).to(torch.uint32)
    assert Assignment()(scores).tolist() == [[[0, 1], [1, 0]]]


def test_what_rounding_may_have_spoilt_is_not_called_optimal():
    c = torch.tensor([[[1.0, 5, 1e30], [5, 1, 5], [5, 5, 1]]], dtype=torch.float64)
    assert not Transport(supply=[1] * 3, demand=[1] * 3).solve_with_info(c).optimal
    cut = MinCut(Graph([[0, 0, 1, 2], [1, 2, 3, 3]]), source=0, target=3)
    assert not cut.solve_with_info(torch.tensor([[1e30, 5, 1, 1]], dtype=torch.float64)).optimal
    flow = MinCostFlow(Graph([[0, 0, 0], [1, 1, 1]]), capacity=[1, 1, 1], supply=[1, -1])
    assert not flow.solve_with_info(torch.tensor([[5.0, 1, 1e30]])).optimal
    assert flow.solve_with_info(torch.tensor([[5.0, 1, 3]])).optimal
