"""The laws of a rule, one function each; `solverlayers.testing.check_rule` runs them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor

from .layer import SolverLayer
from .oracle import Oracle
from .rules.base import Rule, SurrogateRule
from .solver import Solver
from .solver_laws import _importable

_SEED = 1234
_DRAWS = 50
_ROWS = 12
"""Of a Jacobian, at most."""


@dataclass
class RuleTrial:
    """A rule in a layer, and the instances it is tried on."""

    rule: Rule
    solver: Solver
    draw: Callable[[int], Tensor]
    batch: int
    instance: dict[str, Tensor]
    tolerance: float
    law: str = ""

    def __post_init__(self) -> None:
        self.scores = self.draw(self.batch)
        self.layer = SolverLayer(self.solver, copy.deepcopy(self.rule).to(self.scores)).train()
        self.weights = torch.randn_like(self.solver(self.scores, **self.instance))

    def fail(self, text: str) -> NoReturn:
        raise AssertionError(f"{type(self.rule).__name__} with {self.solver!r} breaks the law {self.law!r}: {text}")

    def close(self, got: Tensor, expected: Tensor, text: str) -> None:
        if got.shape != expected.shape:
            self.fail(f"{text}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}.")
        if not torch.allclose(got, expected, rtol=self.tolerance, atol=self.tolerance):
            worst = (got - expected).abs().flatten().argmax()
            self.fail(f"{text}: {got.flatten()[worst]:.9g}, expected {expected.flatten()[worst]:.9g}.")

    def run(self, scores: Tensor, layer: SolverLayer | None = None, seed: int = _SEED, /, **instance: Tensor) -> Tensor:
        """The layer from always the same random numbers, so that two runs can be compared."""
        self.seed(seed)
        y = (self.layer if layer is None else layer)(scores, **{**self.instance, **instance})
        assert isinstance(y, Tensor)
        return y

    def gradient(
        self, scores: Tensor, layer: SolverLayer | None = None, /, weights: Tensor | None = None, **instance: Tensor
    ) -> Tensor:
        """The gradient of a loss that is linear in the solution."""
        weights = self.weights if weights is None else weights
        layer = self.twin(layer)  # a rule may learn in its backward pass
        x = scores.detach().clone().requires_grad_()
        y = self.run(x, layer, **instance)
        return torch.autograd.grad((y * weights[: len(y)].to(y)).sum(), x)[0]

    def twin(self, layer: SolverLayer | None = None) -> SolverLayer:
        """A copy of the layer with a rule of its own, and the same solver."""
        layer = self.layer if layer is None else layer
        return SolverLayer(self.solver, copy.deepcopy(layer.rule)).train(layer.training)

    def seed(self, seed: int = _SEED) -> None:
        """Seeds what rules draw from here; `torch.manual_seed` does so for all kinds of devices, which takes longer."""
        torch.default_generator.manual_seed(seed)
        if self.scores.is_cuda:
            torch.cuda.manual_seed(seed)

    @cached_property
    def draws(self) -> bool:
        """Whether the rule draws random numbers."""
        before = self.random_state()
        self.layer(self.scores, **self.instance)
        return not torch.equal(before, self.random_state())

    def random_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self.scores.device) if self.scores.is_cuda else torch.get_rng_state()


def _shape(t: RuleTrial) -> None:
    for dtype in (torch.float32, torch.float64):
        layer = t.twin().to(dtype)
        x = t.scores.to(dtype)
        y, g = t.run(x, layer), t.gradient(x, layer)
        if y.shape != t.weights.shape or y.dtype != dtype:
            t.fail(f"the output is {y.dtype} of shape {tuple(y.shape)}, expected {dtype} of {tuple(t.weights.shape)}.")
        if g.shape != x.shape or g.dtype != dtype:
            t.fail(f"the gradient is {g.dtype} of shape {tuple(g.shape)}, expected {dtype} of {tuple(x.shape)}.")
        if not (y.isfinite().all() and g.isfinite().all()):
            t.fail(f"the output or the gradient of {dtype} scores is not finite.")


def _autocast(t: RuleTrial) -> None:
    """Scores in half precision, as a network under autocast makes them."""
    layer = t.twin().float()
    for dtype in (torch.bfloat16, torch.float16):
        x = t.scores.to(dtype)
        with torch.autocast(x.device.type, dtype):
            y, g = t.run(x, layer), t.gradient(x, layer)
        if (y.shape, y.dtype, g.shape, g.dtype) != (t.weights.shape, dtype, x.shape, dtype):
            t.fail(
                f"{dtype} scores give {y.dtype} of shape {tuple(y.shape)} and a gradient of {g.dtype} of shape "
                f"{tuple(g.shape)}, expected {dtype} of {tuple(t.weights.shape)} and {tuple(x.shape)}."
            )
        if not (y.isfinite().all() and g.isfinite().all()):
            t.fail(f"the output or the gradient of {dtype} scores is not finite.")
        if not t.draws:
            single = t.run(x.float(), layer).to(dtype)
            t.close(y.float(), single.float(), f"{dtype} scores and the same in single precision differ")


def _batches(t: RuleTrial) -> None:
    for count in (0, 1):
        rows = {key: value[:count] for key, value in t.instance.items()}
        x = t.scores[:count]
        if (y := t.run(x, **rows)).shape != (count, *t.weights.shape[1:]):
            t.fail(f"{count} instances give shape {tuple(y.shape)}, expected {(count, *t.weights.shape[1:])}.")
        if (g := t.gradient(x, **rows)).shape != x.shape:
            t.fail(f"the gradient of {count} instances has shape {tuple(g.shape)}, expected {tuple(x.shape)}.")


def _samples(t: RuleTrial) -> None:
    """Sample dimensions in front of the batch; a loop over them gives the same where nothing is drawn."""
    x = torch.stack([t.scores, t.draw(t.batch)]).requires_grad_()
    y = t.run(x)
    weights = torch.stack([t.weights, -t.weights])
    (g,) = torch.autograd.grad((y * weights).sum(), x)
    if not t.draws:
        t.close(y, torch.stack([t.run(one) for one in x.detach()]), "samples in one call and in a loop differ")
        loop = torch.stack([t.gradient(one, weights=w) for one, w in zip(x, weights)])
        t.close(g, loop, "gradients of samples in one call and in a loop differ")
    elif y.shape != (2, *t.weights.shape):
        t.fail(f"two samples give shape {tuple(y.shape)}, expected {(2, *t.weights.shape)}.")


def _inputs(t: RuleTrial) -> None:
    x = t.scores.clone().requires_grad_()
    state = copy.deepcopy(t.layer.state_dict())
    torch.autograd.grad((t.run(x) * t.weights).sum(), x)
    if not torch.equal(x, t.scores):
        t.fail("the scores are changed in place.")
    if any(not torch.equal(value, state[key]) for key, value in t.layer.state_dict().items()):
        t.fail("a forward and backward pass changes the rule's parameters.")


def _evaluation(t: RuleTrial) -> None:
    layer = t.twin().eval()
    if not torch.equal(t.run(t.scores, layer), t.solver(t.scores, **t.instance)):
        t.fail("in eval() the output is not the solver's own solution.")


def _seeds(t: RuleTrial) -> None:
    if not torch.equal(t.run(t.scores), t.run(t.scores)):
        t.fail("the same seed gives another output.")
    if not torch.equal(t.gradient(t.scores), t.gradient(t.scores)):
        t.fail("the same seed gives another gradient.")


def _linearity(t: RuleTrial) -> None:
    """A gradient of zero gives zero: an instance that the loss does not look at gets no gradient."""
    x = t.scores.clone().requires_grad_()
    (g,) = torch.autograd.grad((t.run(x, t.twin()) * 0).sum(), x)
    if (g != 0).any():
        t.fail("a loss that does not depend on the solution has a gradient in the scores.")


def _auxiliary(t: RuleTrial) -> None:
    """The auxiliary loss is pure, reaches exactly the rule's parameters, and the task's loss never does."""
    x = t.scores.clone().requires_grad_()
    parameters = [p for p in t.layer.parameters() if p.requires_grad]
    y = t.run(x)
    state, loss = t.random_state(), t.layer.auxiliary_loss(x, y, **t.instance)
    if loss.ndim or not loss.isfinite():
        t.fail(f"auxiliary_loss is {loss}; it is a finite scalar.")
    if not torch.equal(loss, t.layer.auxiliary_loss(x, y, **t.instance)) or not torch.equal(state, t.random_state()):
        t.fail("auxiliary_loss called twice differs, or draws random numbers; it is pure.")
    if not parameters:
        if loss != 0:
            t.fail(f"auxiliary_loss is {loss}, but the rule has no parameters.")
        return
    if any(g is not None for g in torch.autograd.grad(y.sum(), parameters, retain_graph=True, allow_unused=True)):
        t.fail("the task's loss has a gradient in the rule's parameters.")
    to_scores, *to_rule = torch.autograd.grad(loss, [x, *parameters], allow_unused=True)
    if to_scores is not None and (to_scores != 0).any():
        t.fail("auxiliary_loss has a gradient in the scores.")
    if any(g is None for g in to_rule):
        t.fail("auxiliary_loss does not reach every parameter of the rule.")


def _mask(t: RuleTrial) -> None:
    mask = t.instance.get("mask")
    if mask is None:
        return
    y, g = t.run(t.scores), t.gradient(t.scores)
    if (g[~mask] != 0).any():
        t.fail(f"the gradient outside the mask is not zero: {g[~mask].tolist()}.")
    for garbage in (torch.nan, torch.inf, 1e30):
        x = torch.where(mask, t.scores, garbage)
        t.close(t.run(x), y, f"{garbage} outside the mask changes the output")
        t.close(t.gradient(x), g, f"{garbage} outside the mask changes the gradient")


def _grad(t: RuleTrial) -> None:
    got = torch.func.grad(lambda x: (t.run(x) * t.weights).sum())(t.scores)
    t.close(got, t.gradient(t.scores), "torch.func.grad and autograd differ")


def _vmap(t: RuleTrial) -> None:
    """Mapped over scores, and over scores and instance data."""
    x = torch.stack([t.scores, t.draw(t.batch)])
    stacked = {key: torch.stack([value, value]) for key, value in t.instance.items()}

    def gradient(one: Tensor, rows: dict[str, Tensor]) -> Tensor:
        return torch.func.grad(lambda z: (t.layer(z, **rows) * t.weights).sum())(one)

    for rows, axis in ((t.instance, None), (stacked, 0))[: 1 + bool(stacked)]:
        y = torch.func.vmap(lambda one, r: t.layer(one, **r), (0, axis), randomness="different")(x, rows)
        g = torch.func.vmap(gradient, (0, axis), randomness="different")(x, rows)
        if y.shape != (2, *t.weights.shape) or g.shape != x.shape:
            t.fail(f"vmap gives output {tuple(y.shape)} and gradient {tuple(g.shape)} for scores {tuple(x.shape)}.")
        if not t.draws:
            t.close(y, torch.stack([t.run(one) for one in x]), "vmap and a loop differ")
            t.close(g, torch.stack([t.gradient(one) for one in x]), "gradients under vmap and in a loop differ")


def _jacrev(t: RuleTrial) -> None:
    x = t.scores.clone().requires_grad_()
    y = t.run(x)
    some = slice(None, None, -(-y.numel() // _ROWS))  # a backward pass each
    rows = [torch.autograd.grad(entry, x, retain_graph=True)[0] for entry in y.flatten()[some]]
    jacobian = torch.func.jacrev(t.run)(t.scores).reshape(-1, *x.shape)
    t.close(jacobian[some], torch.stack(rows), "torch.func.jacrev and autograd differ")


def _second(t: RuleTrial) -> None:
    """Second derivatives are refused, or those of the surrogate; never a silent zero."""
    direction = torch.randn_like(t.scores)
    try:
        second = _second_derivative(t, direction, _SEED)
    except RuntimeError as error:
        if "second derivative" not in str(error).lower():
            t.fail(f"second derivatives are refused without saying so: {error}")
        return
    if not second.isfinite().all():
        t.fail("the second derivative is not finite.")
    if isinstance(t.layer.rule, SurrogateRule):
        t.close(second, _surrogate_second(t, direction), "the second derivative and that of the surrogate differ")
    elif not any((_second_derivative(t, direction, seed) != 0).any() for seed in range(_DRAWS)):
        t.fail("the second derivative is a silent zero; refuse it.")


def _second_derivative(t: RuleTrial, direction: Tensor, seed: int) -> Tensor:
    x = t.scores.clone().requires_grad_()
    (g,) = torch.autograd.grad((t.run(x, t.twin(), seed) * t.weights).sin().sum(), x, create_graph=True)
    if not g.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad((g * direction).sum(), x)[0]


def _surrogate_second(t: RuleTrial, direction: Tensor) -> Tensor:
    """The same second derivative, with the surrogate in the solver's place by arithmetic."""
    x = t.scores.clone().requires_grad_()
    oracle = Oracle(t.solver, t.instance)
    rule = t.layer.rule
    assert isinstance(rule, SurrogateRule)
    hard = t.run(x).detach()
    theta = oracle.pack((oracle.inside(x),))
    soft = rule.surrogate(oracle, theta, hard)
    y = hard + soft - soft.detach()
    (g,) = torch.autograd.grad((y * t.weights).sin().sum(), x, create_graph=True)
    if not g.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad((g * direction).sum(), x)[0]


def _copies(t: RuleTrial) -> None:
    copies = {"copied": copy.deepcopy(t.layer)}
    if _importable(type(t.rule)) and _importable(type(t.solver)):
        copies["pickled"] = pickle.loads(pickle.dumps(t.layer))
    y, g = t.run(t.scores), t.gradient(t.scores)
    for how, layer in copies.items():
        if not torch.equal(t.run(t.scores, layer), y) or not torch.equal(t.gradient(t.scores, layer), g):
            t.fail(f"{how}, the layer gives another output or gradient from the same seed.")
        if repr(layer.rule) != repr(t.layer.rule):
            t.fail(f"{how}, the rule calls itself {layer.rule!r} and not {t.layer.rule!r}.")


def _state(t: RuleTrial) -> None:
    other = t.twin()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    other.load_state_dict(t.layer.state_dict())
    if not torch.equal(t.gradient(t.scores, other), t.gradient(t.scores)):
        t.fail("a layer that loads the state of another gives another gradient.")


def _senses(t: RuleTrial) -> None:
    """What a rule that says `either_sense` gives for costs is what it gives for them turned into gains."""
    if not t.rule.either_sense or t.solver.sense == "max":
        return
    results = []
    for turns in (True, False):
        x = t.scores.clone().requires_grad_()
        oracle = Oracle(t.solver, t.instance, turns=turns)
        theta = oracle.pack((oracle.inside(x),))
        t.seed()
        y = copy.deepcopy(t.layer.rule)(oracle, theta)
        results.append((y, torch.autograd.grad((y * t.weights).sum(), x)[0]))
    (y, g), (other_y, other_g) = results
    t.close(other_y, y, "solutions for costs and for the same costs turned differ")
    t.close(other_g, g, "the gradients of costs and of the same costs turned differ")


def _repr(t: RuleTrial) -> None:
    if not repr(t.rule).startswith(f"{type(t.rule).__name__}("):
        t.fail(f"repr is {t.rule!r}; it is the constructor call.")


RULE_LAWS: dict[str, Callable[[RuleTrial], None]] = {
    "shape": _shape,
    "autocast": _autocast,
    "batches": _batches,
    "samples": _samples,
    "inputs unchanged": _inputs,
    "evaluation": _evaluation,
    "seeds": _seeds,
    "zero gradient": _linearity,
    "auxiliary loss": _auxiliary,
    "mask": _mask,
    "grad": _grad,
    "vmap": _vmap,
    "jacrev": _jacrev,
    "second derivative": _second,
    "senses": _senses,
    "copies": _copies,
    "state": _state,
    "repr": _repr,
}
"""The laws by name, in the order in which they are checked."""
