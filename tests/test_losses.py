"""Losses: values and gradients against enumeration, closed forms, differences, and numbers worked out by hand."""

import math
import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import SOLVERS
from scipy import stats
from torch import Tensor

from solverlayers import InstanceError, losses
from solverlayers.noise import Gaussian, Gumbel, SumOfGamma
from solverlayers.solver import Solver
from solverlayers.solvers.elementwise import HardFunction, Sign, Threshold
from solverlayers.solvers.grid_path import GridShortestPath
from solverlayers.solvers.selection import Argmax, TopK
from solverlayers.solvers.sorting import Ranking


@dataclass(frozen=True)
class Listed(Solver):
    """The best of listed solutions, with a price of each that the scores do not touch: the reference, in either sense."""

    vertices: tuple[tuple[float, ...], ...]
    prices: tuple[float, ...]
    sense: str = "max"

    binary = True
    scale_free = False

    def solve(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        sign = 1 if self.sense == "max" else -1
        vertices, prices = (torch.tensor(t).to(scores) for t in (self.vertices, self.prices))
        usable = torch.where(mask, scores, 0) if mask is not None else scores
        values = sign * (usable @ vertices.T + prices)
        if mask is not None:
            values = values.masked_fill((vertices * ~mask[:, None]).any(-1), -torch.inf)
        return vertices[values.argmax(-1)]

    def offset(self, y: Tensor, **instance: Tensor) -> Tensor:
        vertices, prices = (torch.tensor(t).to(y) for t in (self.vertices, self.prices))
        return prices[(y.unsqueeze(-2) == vertices).all(-1).to(torch.int8).argmax(-1)]


PRICED = tuple(
    Listed(((1.0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1), (1, 0, 1, 1), (0, 0, 0, 0)), (0.3, -0.2, 0.5, 0.0, 0.1), sense)
    for sense in ("max", "min")
)
NAMES = ["topk", "topk_smallest", "ranking", "ranking_descending", "assignment_mask", "argmax_mask", "threshold", "priced_max"]
NAMES += ["priced_min", "ranking_mask", "sign"]


@dataclass(frozen=True)
class Setting:
    """A batch of instances with all their solutions, seen as a maximum."""

    solver: Solver
    scores: Tensor
    true: Tensor
    y_true: Tensor
    instance: dict[str, Tensor]
    solutions: list[Tensor]  # of each instance, (V, n)
    prices: list[Tensor]

    @property
    def sign(self) -> int:
        return 1 if self.solver.sense == "max" else -1

    def best(self, b: int, theta: Tensor) -> Tensor:
        """The greatest value for instance `b`, over the list."""
        return (self.solutions[b] @ theta.flatten() + self.prices[b]).max()

    def value(self, b: int, theta: Tensor, y: Tensor) -> Tensor:
        match = (self.solutions[b] == y.flatten()).all(-1).nonzero()[0, 0]
        return (theta * y).sum() + self.prices[b][match]

    def each(self, value) -> Tensor:
        return torch.stack([value(b) for b in range(len(self.scores))])


def setting(name: str, batch: int = 6) -> Setting:
    torch.manual_seed(0)
    if name.startswith("priced"):
        solver = PRICED[name == "priced_min"]
        x, instance = torch.randn(batch, 4, dtype=torch.float64, requires_grad=True), {}
        lists = [torch.tensor(solver.vertices).double()] * batch
        sign = 1 if solver.sense == "max" else -1
        prices = [sign * torch.tensor(solver.prices).double()] * batch
    else:
        case = SOLVERS[name]
        solver = case.solver
        x, instance = case.build(batch, torch.float64)
        rows = [{k: v[b] for k, v in instance.items()} for b in range(batch)]
        lists = [(case.vertices(**row) if callable(case.vertices) else case.vertices).double().flatten(1) for row in rows]
        prices = [torch.zeros(len(v), dtype=torch.float64) for v in lists]
    true = torch.randn_like(x)
    y_true = torch.stack([v[torch.randint(len(v), ())] for v in lists]).view_as(x)
    return Setting(solver, x, true, y_true, instance, lists, prices)


def gradient(loss: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(loss.sum(), x)[0]


def slopes(function, x: Tensor, h: float = 1e-6) -> Tensor:
    """Central differences of a loss per instance.  # (B, *E)"""
    x = x.detach()
    out = torch.zeros_like(x).flatten(1)
    for i in range(out.shape[1]):
        e = torch.zeros_like(out)
        e[:, i] = h
        out[:, i] = (function(x + e.view_as(x)) - function(x - e.view_as(x))) / (2 * h)
    return out.view_as(x)


def loss_of(kind: str, s: Setting):
    """A loss, its second argument, and `eta` that a listing takes for each instance."""
    sign = s.sign
    if kind == "imitation":
        return losses.ImitationLoss(s.solver), s.y_true, lambda b, x: sign * x[b]
    if kind == "spo":
        return losses.SPOPlusLoss(s.solver), s.true, lambda b, x: sign * (2 * x[b] - s.true[b])
    return losses.StructuredHingeLoss(s.solver, margin=0.4), s.y_true, lambda b, x: sign * x[b]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["imitation", "hinge", "spo"])
def test_imitation_losses_by_enumeration(name, kind):
    """`max_y (<eta, y> + margin |y - y_true|^2) - <eta, y_true>` over the list, and its slopes."""
    s = setting(name)
    if kind == "hinge" and not (s.solver.binary or s.solver.constant_norm):
        with pytest.raises(ValueError, match=r"^StructuredHingeLoss needs distances of solutions that are linear"):
            losses.StructuredHingeLoss(s.solver)
        return
    loss, target, eta = loss_of(kind, s)
    usable = s.instance.get("mask", torch.ones_like(s.scores, dtype=torch.bool))

    def listed(b, x):
        theta = torch.where(usable[b], eta(b, x), 0)
        y_true = s.y_true[b] if kind != "spo" else s.solver(s.true, **s.instance)[b]
        values = s.solutions[b] @ theta.flatten() + s.prices[b]
        if kind == "hinge":
            values = values + 0.4 * (s.solutions[b] - y_true.flatten()).square().sum(-1)
        return values.max() - s.value(b, theta, y_true)

    found = loss(s.scores, target, **s.instance)
    assert found.shape == (len(s.scores),)
    assert torch.allclose(found, s.each(lambda b: listed(b, s.scores)))
    assert (found >= -1e-12).all()
    assert found.max() > 0
    assert torch.allclose(gradient(found, s.scores), slopes(lambda x: loss(x, target, **s.instance), s.scores), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_spo_plus_bounds_the_regret_and_has_the_authors_form(name):
    s = setting(name, batch=20)
    loss = losses.SPOPlusLoss(s.solver)(s.scores, s.true, **s.instance)
    regret = losses.regret(s.solver, s.scores, s.true, **s.instance)
    assert (regret >= -1e-12).all()
    assert (loss >= regret - 1e-9).all()
    assert loss.sum() > regret.sum() > 0
    if not name.startswith("priced") and "mask" not in s.instance:  # formula and subgradient as published, for costs
        c, chat = -s.sign * s.true, -s.sign * s.scores.detach()
        y = lambda cost: s.solver(-s.sign * cost)  # noqa: E731
        dot = lambda a, b: (a * b).flatten(1).sum(-1)  # noqa: E731
        w = y(2 * chat - c)
        published = -dot(2 * chat - c, w) + 2 * dot(chat, y(c)) - dot(c, y(c))
        assert torch.allclose(loss, published)
        assert torch.equal(gradient(loss, s.scores), -s.sign * 2 * (y(c) - w))


def test_spo_plus_by_hand():
    """Two routes of predicted cost 2 and 1, true cost 1 and 4: the decision is the second, the regret 3.

    `2 c_hat - c = (3, -2)`, so the inner minimum is -2 at the second: the loss is 2 + 2*2 - 1 = 5, its subgradient 2 (1, -1).
    """

    @dataclass(frozen=True)
    class Cheapest(Argmax):
        sense = "min"

        def solve(self, scores, mask=None):
            return super().solve(-scores, mask)

    predicted = torch.tensor([[2.0, 1.0]], requires_grad=True)
    true = torch.tensor([[1.0, 4.0]])
    loss = losses.SPOPlusLoss(Cheapest())(predicted, true)
    assert loss.item() == 5
    assert gradient(loss, predicted).tolist() == [[2.0, -2.0]]
    assert losses.regret(Cheapest(), predicted, true).item() == 3
    # The perturbation gradient with sigma 1: (z(c_hat) - z(c_hat - c)) = 1 - min(1, -3) = 4, the true cost of the decision.
    loss = losses.PerturbationGradientLoss(Cheapest(), sigma=1.0)(predicted, true)
    assert loss.item() == 4
    # With sigma 0.1 both optima are the second route: the cost is exact and the gradient zero.
    loss = losses.PerturbationGradientLoss(Cheapest(), sigma=0.1)(predicted, true)
    assert loss.item() == pytest.approx(4)
    assert not gradient(loss, predicted).any()
    # The hinge with margin 1 and the first route true: max(-2, -1 + 2) - (-2) = 3.
    hinge = losses.StructuredHingeLoss(Cheapest())(predicted, torch.tensor([[1.0, 0.0]]))
    assert hinge.item() == 3
    assert gradient(hinge, predicted).tolist() == [[1.0, -1.0]]


# Fenchel-Young


def two_vertex_maximum(theta: Tensor, sigma: float) -> Tensor:
    """`E max(theta_0 + sigma Z_0, theta_1 + sigma Z_1)` for normal Z (Clark, 1961)."""
    spread = sigma * math.sqrt(2)
    d = (theta[..., 0] - theta[..., 1]) / spread
    less, more, density = (torch.from_numpy(f(d.numpy())) for f in (stats.norm.sf, stats.norm.cdf, stats.norm.pdf))
    return theta[..., 0] * more + theta[..., 1] * less + spread * density


def test_fenchel_young_value_of_two_classes():
    theta, y_true = torch.tensor([[0.4, -0.3], [2.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    torch.manual_seed(0)
    loss = losses.FenchelYoungLoss(Argmax(), sigma=0.8, samples=200_000)(theta, y_true)
    expected = two_vertex_maximum(theta, 0.8) - (theta * y_true).sum(-1)
    assert torch.allclose(loss, expected, atol=0.01)


@pytest.mark.parametrize("noise", [Gumbel(), Gumbel(0.5)])
def test_fenchel_young_with_gumbel_noise_is_cross_entropy(noise):
    """Value `s logsumexp(theta / s) + s euler - <theta, y>` with `s = sigma scale`, gradient `softmax(theta / s) - y`."""
    x = torch.tensor([[0.4, -0.3, 1.0]], dtype=torch.float64, requires_grad=True)
    y_true, s = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64), 0.8 * noise.scale
    torch.manual_seed(0)
    loss = losses.FenchelYoungLoss(Argmax(), sigma=0.8, samples=400_000, noise=noise)(x, y_true)
    expected = s * torch.logsumexp(x / s, -1) + s * 0.5772156649 - (x * y_true).sum(-1)
    assert torch.allclose(loss, expected, atol=0.01)
    assert torch.allclose(gradient(loss, x), torch.softmax(x / s, -1) - y_true, atol=0.005)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("noise", "multiplicative"), [(Gaussian(), False), (SumOfGamma(2), False), (Gaussian(), True)])
def test_fenchel_young_gradient_is_that_of_its_value(name, noise, multiplicative):
    s = setting(name)
    loss = losses.FenchelYoungLoss(s.solver, sigma=0.7, samples=5, noise=noise, multiplicative=multiplicative)

    def value(x):
        torch.manual_seed(4)  # common random numbers
        return loss(x, s.y_true, **s.instance)

    assert torch.allclose(gradient(value(s.scores), s.scores), slopes(value, s.scores), atol=1e-6)
    if noise.mean == 0:
        assert (value(s.scores) >= -1e-12).all()


@pytest.mark.parametrize("name", ["priced_max", "priced_min", "topk_smallest"])
def test_fenchel_young_value_by_enumeration(name):
    """`E max_y <theta + sigma Z, y> - <theta, y_true>` from the listing, without the control variate."""
    s = setting(name, batch=2)
    torch.manual_seed(1)
    z = 0.7 * torch.randn(20_000, *s.scores.shape, dtype=torch.float64)
    theta = s.sign * s.scores.detach()
    plain = torch.stack([(theta[b] + z[:, b]) @ s.solutions[b].T + s.prices[b] for b in range(2)], 1).amax(-1)
    plain = plain - s.each(lambda b: s.value(b, theta[b], s.y_true[b]))
    loss = losses.FenchelYoungLoss(s.solver, sigma=0.7, samples=20_000)(s.scores.detach(), s.y_true)
    assert ((loss - plain.mean(0)).abs() < 5 * plain.std(0) / 20_000**0.5).all()


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_multiplicative_fenchel_young_of_two_classes(sigma):
    """The expected greater one of two log-normal numbers, as Margrabe (1978) prices an exchange, and its derivative."""
    x = torch.tensor([[0.4, 0.3], [2.0, 0.5], [1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    y_true = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    torch.manual_seed(0)
    loss = losses.FenchelYoungLoss(Argmax(), sigma, samples=400_000, multiplicative=True)(x, y_true)
    spread = sigma * math.sqrt(2)
    better = (x[:, 0] / x[:, 1]).log() / spread + spread / 2
    first, second = torch.special.ndtr(better), torch.special.ndtr(spread - better)
    expected = x[:, 0] * first + x[:, 1] * second - (x * y_true).sum(-1)
    assert torch.allclose(loss, expected, atol=0.02)
    assert torch.allclose(gradient(loss, x), torch.stack([first, second], -1) - y_true, atol=0.02)


def test_multiplicative_fenchel_young_keeps_the_sign_of_costs():
    """The gradient `y_true - E W y` in costs, with tours through perturbed costs found one by one, none of them clipped."""
    torch.manual_seed(0)
    costs = torch.rand(2, 5, 5, dtype=torch.float64, requires_grad=True)
    seen = []

    class Watching(GridShortestPath):
        def solve(self, scores, **instance):
            seen.append(scores)
            return super().solve(scores, **instance)

        def clip(self, scores):
            assert (scores >= 0).all()
            return scores

    y_true = GridShortestPath()(torch.rand(2, 5, 5, dtype=torch.float64))
    loss = losses.FenchelYoungLoss(Watching(), sigma=1.0, samples=8, multiplicative=True)(costs, y_true)
    weights = seen[0].view(8, 2, 5, 5) / costs.detach()
    paths = torch.stack([GridShortestPath()(w * costs.detach()) for w in weights])
    assert torch.allclose(gradient(loss, costs), (weights * (y_true - paths)).mean(0))
    assert (loss >= 0).all()


def test_factors_have_mean_one():
    message = (
        "FenchelYoungLoss: multiplicative=True with noise=Gumbel(scale=1.0), whose factors do not have mean one. Leave `noise` "
        "out, which is Gaussian(), and say with `sigma` how large it is."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        losses.FenchelYoungLoss(Argmax(), noise=Gumbel(), multiplicative=True)


def simplex_projection(z: Tensor) -> Tensor:
    """By bisection on the threshold."""
    low, high = z.min() - 1, z.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (z - middle).clamp_min(0).sum() > 1 else (low, middle)
    return (z - low).clamp_min(0)


def test_regularised_fenchel_young_is_the_sparsemax_loss():
    torch.manual_seed(0)
    x, strength = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), 0.8
    y_true = torch.eye(5, dtype=torch.float64)[torch.randint(5, (6,))]
    loss = losses.RegularizedFenchelYoungLoss(Argmax(), strength)(x, y_true)
    mu = torch.stack([simplex_projection(row / strength) for row in x.detach()])
    expected = (x * (mu - y_true)).sum(-1) - strength / 2 * (mu.square() - y_true.square()).sum(-1)
    assert torch.allclose(loss, expected)
    assert torch.allclose(gradient(loss, x), mu - y_true)
    assert (loss >= 0).all()


@pytest.mark.parametrize("name", ["topk", "topk_smallest", "ranking_descending", "argmax_mask"])
def test_regularised_fenchel_young_gradient_and_zero(name):
    s = setting(name)
    loss = losses.RegularizedFenchelYoungLoss(s.solver, 0.7)
    value = loss(s.scores, s.y_true, **s.instance)
    assert (value > -1e-9).all()
    assert torch.allclose(gradient(value, s.scores), slopes(lambda x: loss(x, s.y_true, **s.instance), s.scores), atol=1e-5)
    sure = 100 * s.sign * (s.y_true - s.y_true.mean())  # a wide margin: the mixture is the solution itself
    best = s.solver(sure, **s.instance)
    assert torch.allclose(loss(sure, best, **s.instance), torch.zeros(len(best), dtype=torch.float64), atol=1e-9)


# Perturbation gradient


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("priced")])
@pytest.mark.parametrize("two_sided", [False, True])
def test_perturbation_gradient(name, two_sided):
    s = setting(name)
    usable = s.instance.get("mask", torch.ones_like(s.scores, dtype=torch.bool))
    theta, true = (torch.where(usable, s.sign * t.detach(), 0) for t in (s.scores, s.true))
    sigma = 0.6
    loss = losses.PerturbationGradientLoss(s.solver, sigma, two_sided)
    value = loss(s.scores, s.true, **s.instance)
    more, width = (theta + sigma * true, 2 * sigma) if two_sided else (theta, sigma)
    expected = s.each(lambda b: (s.best(b, theta[b] - sigma * true[b]) - s.best(b, more[b])) / width)
    assert torch.allclose(value, expected)
    assert torch.allclose(gradient(value, s.scores), slopes(lambda x: loss(x, s.true, **s.instance), s.scores), atol=1e-6)
    decision = -(true * s.solver(s.scores.detach(), **s.instance)).flatten(1).sum(-1)  # as a cost
    if not two_sided:
        assert (value >= decision - 1e-9).all()
    tiny = losses.PerturbationGradientLoss(s.solver, 1e-7, two_sided)(s.scores, s.true, **s.instance)
    assert torch.allclose(tiny, decision, atol=1e-6)


def test_an_offset_cannot_be_scaled():
    message = (
        f"PerturbationGradientLoss scales the objective, and part of that of {PRICED[0]!r} does not depend on the scores. "
        f"Use SPOPlusLoss or FenchelYoungLoss."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        losses.PerturbationGradientLoss(PRICED[0])


# Pools


def pool_reference(kind: str, s: Setting, pool: Tensor, b: int) -> Tensor:
    theta, true = s.sign * s.scores[b].detach().flatten(), s.sign * s.true[b].flatten()
    rows = pool[:, b] if pool.ndim > s.scores.ndim else pool
    prices = torch.stack([s.value(b, torch.zeros_like(s.scores[b]), row) for row in rows])
    v, w = rows.flatten(1) @ theta + prices, rows.flatten(1) @ true + prices
    contrasts = v - s.value(b, theta.view_as(s.scores[b]), s.y_true[b])
    best = int(w.argmax())
    return {
        "nce": contrasts.mean(),
        "map": contrasts.max(),
        "pointwise": (v - w).square().mean(),
        "pairwise": torch.stack([(0.3 + v[p] - v[best]).clamp_min(0) for p in range(len(v)) if p != best]).mean(),
        "listwise": -sum(
            math.exp(w[p] / 0.5)
            / sum(math.exp(x / 0.5) for x in w)
            * (v[p] / 0.5 - math.log(sum(math.exp(x / 0.5) for x in v)))
            for p in range(len(v))
        ),
    }[kind]


POOLS = {
    "nce": lambda solver: losses.NCELoss(solver),
    "map": lambda solver: losses.MAPLoss(solver),
    "pointwise": lambda solver: losses.PointwiseRankingLoss(solver),
    "pairwise": lambda solver: losses.PairwiseRankingLoss(solver, margin=0.3),
    "listwise": lambda solver: losses.ListwiseRankingLoss(solver, temperature=0.5),
}


@pytest.mark.parametrize("name", ["topk", "topk_smallest", "ranking_descending", "priced_max", "priced_min", "assignment"])
@pytest.mark.parametrize("kind", list(POOLS))
@pytest.mark.parametrize("shared", [True, False])
def test_pool_losses(name, kind, shared):
    s = setting(name)
    pool = s.solutions[0][:4].reshape(-1, *s.scores.shape[1:])
    if not shared:
        pool = torch.stack([v[torch.randperm(len(v))[:4]] for v in s.solutions], 1).view(-1, *s.scores.shape)
    loss = POOLS[kind](s.solver)
    target = s.y_true if kind in ("nce", "map") else s.true
    value = loss(s.scores, target, pool, **s.instance)
    assert torch.allclose(value, s.each(lambda b: torch.as_tensor(pool_reference(kind, s, pool, b))))
    expected = slopes(lambda x: loss(x, target, pool, **s.instance), s.scores)
    assert torch.allclose(gradient(value, s.scores), expected, atol=1e-5)


def test_map_loss_over_all_solutions_is_the_imitation_loss():
    s = setting("priced_min")
    found = losses.MAPLoss(s.solver)(s.scores, s.y_true, s.solutions[0])
    assert torch.allclose(found, losses.ImitationLoss(s.solver)(s.scores, s.y_true))


@pytest.mark.parametrize("kind", list(POOLS))
def test_a_better_order_of_the_pool_is_a_lower_loss(kind):
    """In both senses, scores that agree with the true ones do better than scores that contradict them."""
    for name in ("topk", "topk_smallest"):
        s = setting(name)
        loss, pool = POOLS[kind](s.solver), s.solutions[0]
        target = s.solver(s.true) if kind in ("nce", "map") else s.true
        assert (loss(s.true, target, pool) < loss(-s.true, target, pool)).all()


def test_pool_shapes_are_checked_and_forbidden_entries_allowed():
    loss = losses.NCELoss(TopK(1))
    message = (
        "NCELoss: `pool` has shape (2, 5) but the scores have shape (3, 4); expected at least one solution for all, (P, 4), or "
        "for each instance, (P, 3, 4)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loss(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(2, 5))
    scores = torch.tensor([[0.0, -torch.inf, 2.0]])
    pool = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    assert loss(scores, pool[:1], pool).item() == 1.0


# Pushforward


PRICE = torch.tensor([3.0, 1.0, -2.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize(("noise", "antithetic"), [(Gumbel(), False), (Gaussian(), True)])
def test_pushforward_is_unbiased(noise, antithetic):
    """With Gumbel noise a choice has softmax probabilities: the expectation and its gradient are known exactly."""
    sigma, theta = 0.7, torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
    x = theta.repeat(40_000, 1).requires_grad_()
    torch.manual_seed(0)
    cost = lambda y: (y @ PRICE).square()  # noqa: E731
    value = losses.Pushforward(Argmax(), sigma, 6, noise, antithetic=antithetic)(x, cost)
    g = gradient(value, x)
    if isinstance(noise, Gumbel):
        p = torch.softmax(theta / sigma, -1)
        mean = (p * PRICE**2).sum()
        slope = p * (PRICE**2 - mean) / sigma
    else:
        z = torch.randn(400_000, 4, dtype=torch.float64)
        y = torch.nn.functional.one_hot((theta + sigma * z).argmax(-1), 4)
        samples = (cost(y.double())[:, None] - 4) * z / sigma
        mean, slope = cost(y.double()).mean(), samples.mean(0)
    assert abs(value.mean() - mean) < 5 * value.std() / len(g) ** 0.5 + 0.02
    assert ((g.mean(0) - slope).abs() < 5 * g.std(0) / len(g) ** 0.5 + (0 if isinstance(noise, Gumbel) else 0.05)).all()


def test_pushforward_second_derivative():
    sigma, theta = 0.7, torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
    x = theta.repeat(200_000, 1).requires_grad_()
    torch.manual_seed(0)
    value = losses.Pushforward(Argmax(), sigma, 4, Gumbel())(x, lambda y: y @ PRICE)
    g = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    h = torch.autograd.grad(g[:, 0].sum(), x)[0]
    exact = torch.autograd.functional.hessian(lambda t: (torch.softmax(t / sigma, -1) * PRICE).sum(), theta)[0]
    assert ((h.mean(0) - exact).abs() < 5 * h.std(0) / len(h) ** 0.5).all()


def test_pushforward_reaches_the_parameters_of_the_cost():
    price = PRICE.clone().requires_grad_()
    x = torch.zeros(2000, 4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    value = losses.Pushforward(Argmax(), 1.0, 5, Gumbel())(x, lambda y: y @ price).mean()
    assert torch.allclose(torch.autograd.grad(value, price)[0], torch.full((4,), 0.25, dtype=torch.float64), atol=0.02)


def test_pushforward_of_any_function_and_in_evaluation():
    solver = HardFunction(lambda x: torch.stack([(x > 0).sum(-1), (x > 1).sum(-1)], -1).to(x.dtype))
    x = torch.randn(3, 5, requires_grad=True)
    loss = losses.Pushforward(solver, samples=7)
    assert gradient(loss(x, lambda y: y[..., 0] * y[..., 1]), x).any()
    loss.eval()
    assert torch.equal(loss(x, lambda y: y[..., 0]), (x > 0).sum(-1).float())
    message = (
        "Pushforward: the cost of solutions of shape (7, 3, 2) has shape (7, 3, 2); expected one number per sample and "
        "instance, (7, 3). Sum over the last dimensions of each solution."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loss.train()(x, lambda y: y)


# What all share


def calls(s: Setting):
    yield losses.FenchelYoungLoss(s.solver, samples=3), (s.y_true,)
    yield losses.StructuredHingeLoss(s.solver), (s.y_true,)
    yield losses.RegularizedFenchelYoungLoss(s.solver), (s.y_true,)
    yield losses.ImitationLoss(s.solver), (s.y_true,)
    yield losses.SPOPlusLoss(s.solver), (s.true,)
    yield losses.PerturbationGradientLoss(s.solver), (s.true,)
    yield losses.Pushforward(s.solver, samples=3), (lambda y: y.flatten(2).square().sum(-1),)
    pool = s.y_true.unsqueeze(0).repeat(3, *[1] * s.y_true.ndim)
    yield losses.MAPLoss(s.solver), (s.y_true, pool)
    yield losses.PairwiseRankingLoss(s.solver), (s.true, pool)


@pytest.mark.parametrize("name", ["argmax_mask", "ranking_mask", "topk_each"])
def test_garbage_outside_the_mask_does_not_matter(name):
    s = setting(name)
    assert "mask" in s.instance
    dirty = torch.where(s.instance["mask"], s.scores.detach(), torch.nan).requires_grad_()
    true = torch.where(s.instance["mask"], s.true, torch.inf)
    for loss, arguments in calls(s):
        arguments = tuple(true if a is s.true else a for a in arguments)
        torch.manual_seed(0)
        value = loss(dirty, *arguments, **s.instance)
        slope = gradient(value, dirty)
        torch.manual_seed(0)
        clean = loss(s.scores, *(s.true if a is true else a for a in arguments), **s.instance)
        assert torch.allclose(value, clean)
        assert not slope[~s.instance["mask"]].any()
        assert torch.allclose(slope, gradient(clean, s.scores))


def test_all_losses_are_finite_copied_and_named():
    s = setting("topk_smallest")
    for loss, arguments in calls(s):
        value = loss(s.scores, *arguments)
        assert value.shape == (6,)
        assert value.isfinite().all()
        assert gradient(value, s.scores).isfinite().all()
        assert repr(pickle.loads(pickle.dumps(loss))) == repr(loss)
        assert repr(loss).startswith(type(loss).__name__ + "(solver=TopK(")
        empty = [a[:0] if isinstance(a, Tensor) and a.shape == s.scores.shape else a for a in arguments]
        empty = [a[:, :0] if isinstance(a, Tensor) and a.ndim == 3 else a for a in empty]
        assert loss(s.scores[:0], *empty).shape == (0,)


def test_sample_dimensions_precede_the_batch():
    s = setting("topk")
    x = torch.randn(3, *s.scores.shape, dtype=torch.float64)
    for loss, target in (
        (losses.SPOPlusLoss(s.solver), s.true),
        (losses.StructuredHingeLoss(s.solver), s.y_true),
        (losses.PerturbationGradientLoss(s.solver), s.true),
    ):
        assert torch.allclose(loss(x, target), torch.stack([loss(row, target) for row in x]))


def test_transforms():
    s = setting("topk")
    for loss, target in ((losses.SPOPlusLoss(s.solver), s.true), (losses.StructuredHingeLoss(s.solver), s.y_true)):
        expected = gradient(loss(s.scores, target), s.scores)
        assert torch.allclose(torch.func.grad(lambda x, t, f=loss: f(x, t).sum())(s.scores.detach(), target), expected)
        single = torch.func.grad(lambda x, t, f=loss: f(x[None], t[None]).sum())
        assert torch.allclose(torch.vmap(single)(s.scores.detach(), target), expected)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(s.scores, target), loss(s.scores, target))


def test_a_regret_of_many():
    s = setting("topk")
    expected = losses.regret(s.solver, s.scores, s.true)
    each = torch.vmap(lambda x, t: losses.regret(s.solver, x[None], t[None])[0])(s.scores.detach(), s.true)
    assert torch.allclose(each, expected)


def test_skipped_instances_have_no_loss():
    x = torch.randn(3, 4, requires_grad=True)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    y_true = torch.eye(4)[:3]
    for kind in (losses.FenchelYoungLoss, losses.SPOPlusLoss, losses.StructuredHingeLoss, losses.PerturbationGradientLoss):
        loss = kind(Argmax(), on_failure="skip")
        torch.manual_seed(0)
        value = loss(x, y_true, mask=mask)
        assert value[1] == 0
        assert not gradient(value, x)[1].any()
        torch.manual_seed(0)
        assert torch.equal(value[[0, 2]], kind(Argmax())(x, y_true)[[0, 2]])


WITH_TARGETS = {
    "y_true": (losses.ImitationLoss, losses.FenchelYoungLoss, losses.RegularizedFenchelYoungLoss, losses.StructuredHingeLoss),
    "true_scores": (losses.SPOPlusLoss, losses.PerturbationGradientLoss),
}
OVER_A_POOL = {
    "y_true": (losses.NCELoss, losses.MAPLoss),
    "true_scores": (losses.PointwiseRankingLoss, losses.PairwiseRankingLoss, losses.ListwiseRankingLoss),
}


@pytest.mark.parametrize(
    ("name", "kind", "arguments"),
    [(name, kind, ()) for name, kinds in WITH_TARGETS.items() for kind in kinds]
    + [(name, kind, (torch.eye(4),)) for name, kinds in OVER_A_POOL.items() for kind in kinds],
)
def test_nan_in_targets(name, kind, arguments):
    """It is the target that is named, not the scores; with `on_failure="skip"` nothing but its instance is lost."""
    torch.manual_seed(0)
    x, target = torch.randn(3, 4, requires_grad=True), torch.eye(4)[:3]
    target[1, 2] = torch.nan
    message = f"{kind.__name__}: instance 1 has NaN in `{name}` (1 of 3 instances)."
    with pytest.raises(InstanceError, match=f"^{re.escape(message)}$") as caught:
        kind(Argmax())(x, target, *arguments)
    assert caught.value.instances.tolist() == [False, True, False]
    inside = torch.ones(3, 4, dtype=torch.bool)
    inside[1, 2] = False
    assert kind(Argmax())(x, target, *arguments, mask=inside).isfinite().all()
    if not arguments:
        for a, b in ((x, target), (target.clone().requires_grad_(), x.detach())):
            torch.manual_seed(1)
            value = kind(Argmax(), on_failure="skip")(a, b)
            torch.manual_seed(1)
            alone = kind(Argmax())(*(t.detach().nan_to_num(0.0) for t in (a, b)))
            assert torch.equal(value[[0, 2]], alone[[0, 2]])
            assert value[1] == 0
            slope = gradient(value, a)
            assert slope.isfinite().all()
            assert not slope[1].any()


def test_nan_in_true_scores_of_a_regret():
    true = torch.tensor([[1.0, 2.0], [0.0, torch.nan]])
    with pytest.raises(InstanceError, match=r"^regret: instance 1 has NaN in `true_scores` \(1 of 2 instances\)\.$"):
        losses.regret(Argmax(), torch.ones(2, 2), true)
    assert losses.regret(Argmax(), torch.ones(2, 2), true, mask=~true.isnan()).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.NCELoss(Argmax())(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([[1.0, 0], [0, torch.nan]])),
            ValueError,
            "NCELoss: solution 1 of `pool` has NaN.",
        ),
        (
            lambda: losses.NCELoss(Argmax())(torch.ones(1, 2), torch.ones(1, 2), [[1.0, 0]]),
            TypeError,
            "NCELoss: `pool` is a list; expected a tensor of solutions.",
        ),
        (
            lambda: losses.regret(Argmax(), torch.zeros(3, 4), np.zeros((3, 4))),
            TypeError,
            "regret: the scores are a Tensor and the true scores a ndarray; expected tensors. Use `torch.as_tensor`.",
        ),
        (
            lambda: losses.SPOPlusLoss(Argmax),
            TypeError,
            f"solver is {Argmax!r}; expected an instance of Solver, such as TopK(2).",
        ),
        (
            lambda: losses.SPOPlusLoss(Argmax())(torch.zeros(2, 3), torch.zeros(2, 4)),
            ValueError,
            "SPOPlusLoss: `true_scores` has shape (2, 4) but the scores have shape (2, 3); each instance needs a target of the "
            "shape of its scores.",
        ),
        (
            lambda: losses.ImitationLoss(TopK())(torch.zeros(2, 3), torch.zeros(2, 3), k=torch.ones(2, requires_grad=True)),
            ValueError,
            "ImitationLoss: `k` requires a gradient, but only scores get one; instance data are constants. Pass `k.detach()`.",
        ),
        (
            lambda: losses.FenchelYoungLoss(Argmax(), samples=0),
            ValueError,
            "FenchelYoungLoss: samples=0 and sigma=1.0; both must be positive.",
        ),
        (
            lambda: losses.SPOPlusLoss(Argmax())(torch.zeros(2, 3), np.zeros((2, 3))),
            TypeError,
            "SPOPlusLoss: `true_scores` is a ndarray; expected a tensor. Use `torch.as_tensor`.",
        ),
        (
            lambda: losses.SPOPlusLoss(Argmax())(np.zeros((2, 3)), torch.zeros(2, 3)),
            TypeError,
            "Argmax: the scores are ndarray; expected a tensor with a batch dimension. Use `torch.as_tensor`.",
        ),
        (
            lambda: losses.regret(Argmax(), torch.zeros(3, 4), torch.zeros(2, 4)),
            ValueError,
            "regret: the scores have shape (3, 4) and the true scores (2, 4); expected one for each.",
        ),
        (
            lambda: losses.PerturbationGradientLoss(Argmax(), sigma=-1.0),
            ValueError,
            "PerturbationGradientLoss: sigma=-1.0; it must be positive.",
        ),
        (
            lambda: losses.StructuredHingeLoss(Argmax(), margin=-1.0),
            ValueError,
            "StructuredHingeLoss: margin=-1.0; it must not be negative.",
        ),
        (
            lambda: losses.ListwiseRankingLoss(Argmax(), temperature=0),
            ValueError,
            "ListwiseRankingLoss: temperature=0; it must be positive.",
        ),
    ],
)
def test_wrong_use_is_refused(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_a_hard_function_has_no_objective():
    solver = HardFunction(torch.sign, same_shape=True)
    message = (
        f"SPOPlusLoss compares the objectives of solutions, and {solver!r} is a general hard function that maximises nothing. "
        f"Use Pushforward, or a loss of your own on the output of a SolverLayer."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        losses.SPOPlusLoss(solver)


@pytest.mark.parametrize("solver", [TopK(2), TopK(2, largest=False), Ranking(), Threshold(), Sign()], ids=repr)
def test_every_loss_teaches_a_linear_model(solver):
    """Predicting scores from features, a few dozen steps cut the regret to a fraction, in both senses."""
    torch.manual_seed(0)
    features, world = torch.randn(100, 6), torch.randn(6, 5)
    true = features @ world
    y_true = solver(true)
    pool = y_true.unique(dim=0)
    start = losses.regret(solver, torch.randn(100, 5), true).mean()
    for loss, arguments in (
        (losses.FenchelYoungLoss(solver, samples=5), (y_true,)),
        (losses.StructuredHingeLoss(solver), (y_true,)),
        (losses.SPOPlusLoss(solver), (true,)),
        (losses.PerturbationGradientLoss(solver, sigma=1.0), (true,)),
        (losses.Pushforward(solver, samples=20), (lambda y: -true_gain(solver, true, y),)),
        (losses.MAPLoss(solver), (y_true, pool)),
        (losses.PairwiseRankingLoss(solver, margin=0.1), (true, pool)),
        (losses.ListwiseRankingLoss(solver), (true, pool)),
        (losses.PointwiseRankingLoss(solver), (true, pool)),
    ):
        model = torch.nn.Linear(6, 5)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(40):
            optimiser.zero_grad()
            loss(model(features), *arguments).mean().backward()
            optimiser.step()
        assert losses.regret(solver, model(features).detach(), true).mean() < 0.35 * start, loss


def true_gain(solver: Solver, true: Tensor, y: Tensor) -> Tensor:
    return (1 if solver.sense == "max" else -1) * (true * y).sum(-1)
