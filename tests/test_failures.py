"""Instances that cannot be solved: in a solver of one's own, through wrappers, and in the loss of a learned bridge."""

from __future__ import annotations

import copy
import re
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from solverlayers import InfeasibleError, InstanceError, InstanceSolver, Solver, SolverLayer, SolverTimeoutError
from solverlayers.rules import DAB, Identity
from solverlayers.solvers import Cached, GraphMatching, GridShortestPath, Parallel, TopK


def whole(text):
    return f"^{re.escape(text)}$"


# Solvers of one's own


@dataclass(frozen=True)
class Hurried(InstanceSolver):
    """The signs of scores, unless their sum is negative (no solution) or more than 10 (no time, ones are known)."""

    def solve_instance(self, scores):
        if scores.sum() < 0:
            raise InfeasibleError("nothing is that small.")
        if scores.sum() > 10:
            raise SolverTimeoutError("too slow.", incumbent=np.ones_like(scores))
        return np.sign(scores)


SCORES = torch.tensor([[1.0, -0.5], [-2.0, 1.0], [20.0, 0.0], [2.0, 1.0], [-3.0, 0.0]])


def test_a_function_of_one_instance_says_that_it_has_no_solution():
    message = "Hurried: instance 1 failed (2 of 5 instances): nothing is that small."
    with pytest.raises(InfeasibleError, match=whole(message)) as caught:
        Hurried()(SCORES)
    assert caught.value.instances.tolist() == [False, True, False, False, True]
    assert caught.value.incumbent is None


@pytest.mark.parametrize("wrap", [lambda solver: solver, Cached, lambda solver: Parallel(solver, workers=2)])
def test_a_layer_goes_on_without_the_instances_that_a_function_refuses(wrap):
    skip = SolverLayer(wrap(Hurried()), Identity(), on_failure="skip")
    assert skip(SCORES).tolist() == [[1, -1], [0, 0], [0, 0], [1, 1], [0, 0]]
    assert skip.failures == 3
    assert skip.failed.tolist() == [False, True, True, False, True]
    last = SolverLayer(wrap(Hurried()), Identity(), on_failure="last")
    assert last(SCORES).tolist() == [[1, -1], [0, 0], [1, 1], [1, 1], [0, 0]]
    assert last.failed.tolist() == [False, True, False, False, True]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes on exceptions")
def test_a_foreign_error_names_the_instance_in_a_note():
    @dataclass(frozen=True)
    class Faulty(InstanceSolver):
        def solve_instance(self, scores):
            return {1.0: scores}[scores[0]]

    with pytest.raises(KeyError) as caught:
        Faulty()(torch.tensor([[1.0], [1.0], [2.0]]))
    assert caught.value.__notes__ == ["Faulty: raised for instance 2 of 3."]


@dataclass(frozen=True)
class Vague(Solver):
    def solve(self, scores):
        raise InfeasibleError("Vague: something is wrong.")


@pytest.mark.parametrize("solver", [Vague(), Cached(Vague()), Parallel(Vague(), workers=2)], ids=lambda s: type(s).__name__)
def test_an_error_that_names_no_instance_passes_through_wrappers_and_policies(solver):
    for call in (solver, SolverLayer(solver, Identity(), on_failure="skip")):
        with pytest.raises(InstanceError, match=whole("Vague: something is wrong.")):
            call(torch.randn(4, 3))


# What takes no part in the loss of a bridge


def bridges(shape):
    torch.manual_seed(0)
    return [DAB("equivariant", shape=shape), DAB("batch", shape=shape, commitment=0.5)]


@pytest.mark.parametrize("rule", bridges((4,)), ids=["equivariant", "batch"])
@pytest.mark.parametrize("samples", [(), (3,)], ids=["batch", "samples"])
def test_a_bridge_learns_nothing_from_skipped_instances(rule, samples):
    """Its loss, the gradients of that and its agreement are those without the instances that failed, by data or by NaN."""
    x = torch.randn(*samples, 5, 4)
    x[..., 3, 1] = torch.nan
    k = torch.tensor([2, 9, 1, 2, 3])
    good = [0, 2, 4]
    layer, alone = (SolverLayer(TopK(), copy.deepcopy(rule), on_failure=policy) for policy in ("skip", "raise"))
    found = []
    for each, scores, chosen in ((layer, x, k), (alone, x[..., good, :], k[good])):
        scores = scores.clone().requires_grad_()
        y = each(scores, k=chosen)
        loss = each.auxiliary_loss(scores, y, k=chosen)
        loss.backward()
        grad = torch.zeros_like(scores) if scores.grad is None else scores.grad
        weights = [p.grad for p in each.parameters()]
        found.append((loss.detach(), each.agreement(scores, y, k=chosen), grad, weights))
    (loss, agreement, grad, weights), (loss2, agreement2, grad2, weights2) = found
    torch.testing.assert_close((loss, agreement, weights), (loss2, agreement2, weights2))
    torch.testing.assert_close(grad[..., good, :], grad2)
    assert not grad[..., [1, 3], :].any()


def test_a_bridge_of_skipped_instances_alone_has_no_loss():
    layer = SolverLayer(TopK(9), bridges((4,))[0], on_failure="skip")
    x = torch.randn(3, 4)
    assert layer.auxiliary_loss(x, layer(x)) == 0


def test_what_an_earlier_call_skipped_is_not_left_out_of_another_batch():
    layer = SolverLayer(TopK(), bridges((4,))[0], on_failure="skip")
    x, k = torch.randn(3, 4), torch.tensor([1, 2, 3])
    y = layer(x, k=k)
    expected = layer.auxiliary_loss(x, y, k=k)
    layer(x, k=torch.tensor([1, 9, 3]))
    assert layer.auxiliary_loss(x, y, k=k) == expected
    assert layer.auxiliary_loss(x[:2], y[:2], k=k[:2]).isfinite()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, while it traces
def test_graphs_leave_skipped_instances_out_as_well():
    layer = SolverLayer(GridShortestPath(), bridges((3, 3))[0], on_failure="skip")
    x = torch.rand(3, 3, 3)
    x[1, 1] = torch.inf

    def step(scores):
        return layer.auxiliary_loss(scores, layer(scores))

    expected = step(x)
    assert torch.allclose(expected, step(x[[0, 2]]))
    assert torch.allclose(torch.compile(step, fullgraph=True, backend="aot_eager")(x), expected)
    assert layer.failed.tolist() == [False, True, False]


def test_a_bridge_for_several_score_tensors():
    """Scores and solutions are tuples, and the bridge sees them as one vector."""
    torch.manual_seed(0)
    vertices, edges = torch.rand(2, 3, 3, requires_grad=True), torch.rand(2, 2, 2, requires_grad=True)
    graphs = {name: torch.tensor([[[0, 1], [1, 2]]]).expand(2, 2, 2) for name in ("edge_index1", "edge_index2")}
    layer = SolverLayer(GraphMatching(), DAB("batch", shape=(13,)))
    y = layer(vertices, edges, **graphs)
    loss = layer.auxiliary_loss((vertices, edges), y, **graphs)
    packed = [torch.cat([part.flatten(1) for part in parts], 1).detach() for parts in ((vertices, edges), y)]
    learned = layer.rule.approximator(packed[0])
    assert torch.allclose(loss, 10 * (learned - packed[1]).square().sum(1).mean())
    agreement = layer.agreement((vertices, edges), y, **graphs)
    assert torch.allclose(agreement, ((learned - packed[1]).abs() < 0.5).float().mean())
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    assert vertices.grad is None
