"""Estimators: unbiased by enumeration, less variance, and every gradient where it belongs."""

import copy
import math
import pickle
import re

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical

from solverlayers.distributions import KSubset, PerturbedSolution, PlackettLuce
from solverlayers.estimators import (
    ARM,
    LAX,
    REBAR,
    RELAX,
    DisARM,
    Exact,
    LearnedBaseline,
    LeaveOneOut,
    MovingAverage,
    ScoreFunction,
)
from solverlayers.estimators.latents import conditional_latent
from solverlayers.noise import Gaussian, Gumbel, TwoPointMargin
from solverlayers.solvers import Argmax, TopK

close = torch.testing.assert_close
COPIES = 20_000
MATRIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
THETA = torch.tensor([0.7, -0.4, 0.2, -1.1], dtype=torch.float64)


def quadratic(y: Tensor) -> Tensor:  # (..., 4) -> (...)
    return torch.einsum("...i,ij,...j->...", y, MATRIX, y)


def network(inputs: int = 4, flatten: bool = False) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Flatten(-2)] if flatten else []
    return nn.Sequential(*layers, nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def bernoulli(theta: Tensor) -> Independent:
    return Independent(Bernoulli(logits=theta, validate_args=False), 1, validate_args=False)


def categorical(theta: Tensor) -> OneHotCategorical:
    return OneHotCategorical(logits=theta, validate_args=False)


def two_categorical(theta: Tensor) -> Independent:
    return Independent(categorical(theta.unflatten(-1, (2, 2))), 1, validate_args=False)


LAWS = {
    "bernoulli": (bernoulli, quadratic),
    "categorical": (categorical, quadratic),
    "two categorical": (two_categorical, lambda y: quadratic(y.flatten(-2))),
    "plackett-luce": (PlackettLuce, lambda y: quadratic(y / 4)),
    "k-subset": (lambda theta: KSubset(theta, 2), quadratic),
}
CONDITIONAL = [name for name in LAWS if name != "k-subset"]


def estimators(law: str) -> dict:
    """Every estimator that applies to a law."""
    flat = law == "two categorical"
    found = {
        "score function": ScoreFunction(1, None),
        "leave one out": ScoreFunction(3),
        "moving average": ScoreFunction(1, MovingAverage()),
    }
    if not flat:
        found["learned"] = ScoreFunction(1, LearnedBaseline(network()))
    if law != "k-subset":
        found |= {"rebar": REBAR(0.7, 0.6), "rebar of two": REBAR(samples=2)}
        found |= {"relax": RELAX(network(flatten=flat)), "relax with loss": RELAX(network(flatten=flat), 0.5, samples=2)}
        found |= {"lax": LAX(network(flatten=flat))}
    if law == "bernoulli":
        found |= {"arm": ARM(), "disarm": DisARM(), "disarm of two": DisARM(2)}
    return found


PAIRS = [(law, name) for law in LAWS for name in estimators(law)]


def many(estimator, make, loss, theta: Tensor, copies: int = COPIES) -> tuple[Tensor, Tensor]:
    """Independent values and estimates at the same parameters.  # -> (copies,), (copies, n)"""
    theta = theta.expand(copies, *theta.shape).clone().requires_grad_()
    value = estimator(loss, make(theta))
    assert value.shape == (copies,)
    (gradient,) = torch.autograd.grad(value.sum(), theta)
    return value.detach(), gradient


def exact(make, loss, theta: Tensor) -> tuple[Tensor, Tensor]:
    theta = theta.clone().requires_grad_()
    value = Exact()(loss, make(theta))
    return value.detach(), torch.autograd.grad(value, theta)[0]


def assert_mean(draws: Tensor, expected: Tensor) -> None:
    """Within five standard errors.  # (copies, ...), (...)"""
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() <= 5 * error + 1e-12).all(), (draws.mean(0), expected, error)


@pytest.mark.parametrize(("law", "name"), PAIRS)
def test_unbiased_by_enumeration(law, name):
    make, loss = LAWS[law]
    torch.manual_seed(0)
    value, gradient = many(estimators(law)[name], make, loss, THETA)
    expected_value, expected = exact(make, loss, THETA)
    assert expected.norm() > 0.1
    assert_mean(value, expected_value)
    assert_mean(gradient, expected)


def test_exact_is_the_sum_over_all_solutions():
    theta = THETA.clone().requires_grad_()
    p = torch.sigmoid(theta)
    total = theta.new_zeros(())
    for number in range(16):
        b = torch.tensor([number >> i & 1 for i in range(4)], dtype=torch.float64)
        total = total + (p**b * (1 - p) ** (1 - b)).prod() * quadratic(b)
    value = Exact()(quadratic, bernoulli(theta))
    close(value, total)
    first, expected = (torch.autograd.grad(v, theta, create_graph=True)[0] for v in (value, total))
    close(first, expected)
    close(torch.autograd.grad(first.square().sum(), theta)[0], torch.autograd.grad(expected.square().sum(), theta)[0])


@pytest.mark.parametrize("law", ["categorical", "plackett-luce"])
@pytest.mark.parametrize("name", ["score function", "rebar", "relax", "lax"])
def test_impossible_entries_get_no_gradient(law, name):
    mask = torch.tensor([True, True, False, True])
    make = {
        "categorical": lambda theta: categorical(torch.where(mask, theta, -math.inf)),
        "plackett-luce": lambda theta: PlackettLuce(theta, mask),
    }[law]
    small = THETA[mask]
    inside = MATRIX[mask][:, mask]
    torch.manual_seed(0)
    _, gradient = many(estimators(law)[name], make, quadratic, THETA)
    assert (gradient[:, ~mask] == 0).all()
    _, expected = exact(LAWS[law][0], lambda y: torch.einsum("...i,ij,...j->...", y, inside, y), small)
    assert_mean(gradient[:, mask], expected)


# ---- perturbed scores ----


@pytest.mark.parametrize("estimator", [ScoreFunction(1, None), ScoreFunction(4), LAX(network()), LAX(network(), samples=3)])
@pytest.mark.parametrize("solver", [Argmax(), TopK(1, largest=False)])
def test_any_solver_in_perturbation_space(estimator, solver):
    sign = 1 if solver.sense == "max" else -1
    torch.manual_seed(0)
    value, gradient = many(estimator, lambda t: PerturbedSolution(solver, t, 2.0, Gumbel()), quadratic, THETA)
    expected_value, expected = exact(lambda t: categorical(sign * t / 2.0), quadratic, THETA)
    assert_mean(value, expected_value)
    assert_mean(gradient, expected)


def test_perturbed_solution_of_a_smooth_law_against_differences():
    """Gaussian noise on a top-2: the gradient of the smoothed loss by central differences with common noise."""
    torch.manual_seed(0)
    _, gradient = many(ScoreFunction(4), lambda t: PerturbedSolution(TopK(2), t, 0.8), quadratic, THETA)
    eta, half = THETA + 0.8 * torch.randn(200_000, 4, dtype=torch.float64), 0.05
    for i in range(4):
        shift = half * torch.eye(4, dtype=torch.float64)[i]
        slope = (quadratic(TopK(2)(eta + shift)) - quadratic(TopK(2)(eta - shift))) / (2 * half)
        both = math.hypot(slope.std() / math.sqrt(len(eta)), gradient[:, i].std() / math.sqrt(COPIES))
        assert abs(slope.mean() - gradient[:, i].mean()) < 5 * both


# ---- the second draw ----


@pytest.mark.parametrize("law", CONDITIONAL)
def test_scores_drawn_again_have_the_same_solution_and_the_same_law(law):
    make, _ = LAWS[law]
    torch.manual_seed(0)
    found = conditional_latent(make(THETA), "test")
    z = found.scores(found.theta, found.noise(50_000))
    y = found.solution(z)
    again = found.conditional(found.theta, y, torch.rand(z.shape, dtype=torch.float64))
    assert torch.equal(found.solution(again), y)
    for moment in (lambda x: x, lambda x: x**2, lambda x: x * x.roll(1, -1), torch.sigmoid):
        difference = moment(z).flatten(1) - moment(again).flatten(1)
        assert_mean(difference, torch.zeros(4, dtype=torch.float64))


def test_second_draw_is_the_papers_formula():
    v = torch.rand(100, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = torch.sigmoid(THETA)
    b = (torch.rand(100, 4, generator=torch.Generator().manual_seed(1)) < p).double()
    u = torch.where(b > 0, v * p + 1 - p, v * (1 - p))
    close(conditional_latent(bernoulli(THETA), "test").conditional(THETA, b, v), torch.logit(p) + torch.logit(u))
    pi, b = THETA.softmax(-1), torch.eye(4, dtype=torch.float64)[torch.randint(4, (100,))]
    v_b = (v * b).sum(-1, keepdim=True)
    expected = -torch.log(torch.where(b > 0, 0, -v.log() / pi) - v_b.log())
    close(conditional_latent(categorical(THETA), "test").conditional(THETA, b, v), expected)


@pytest.mark.parametrize("law", CONDITIONAL)
def test_relaxation_tends_to_the_solution_inside_the_hull(law):
    make, _ = LAWS[law]
    torch.manual_seed(0)
    found = conditional_latent(make(THETA), "test")
    z = found.scores(found.theta, found.noise(100))
    y = found.solution(z)
    close(found.relax(z, torch.tensor(1e-6)), y, atol=1e-3, rtol=0)
    if law != "bernoulli":
        close(found.relax(z, torch.tensor(3.0)).sum(-1), y.sum(-1))


# ---- variance ----


def toy(b: Tensor) -> Tensor:
    return (b - 0.499) ** 2


def train_control(estimator: nn.Module, make, loss, theta: Tensor, steps: int) -> nn.Module:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator(loss, make(theta)).mean().backward()
        optimizer.step()
    return estimator


def test_less_variance_on_the_toy_of_the_papers():
    """`E (b - 0.499)^2`: the relaxed loss is a poor control there, a learned one is not, and pairs are best of all."""
    theta = torch.tensor(0.3, dtype=torch.float64)
    surrogate = nn.Sequential(nn.Unflatten(-1, (-1, 1)), nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1)).double()
    found = {"sf": ScoreFunction(1, None), "arm": ARM(), "disarm": DisARM(), "rebar": REBAR(), "relax": RELAX(surrogate)}
    for name in ("rebar", "relax"):
        train_control(found[name], lambda t: Bernoulli(logits=t), toy, theta.expand(100), 200)
    spread = {}
    for name, estimator in found.items():
        _, gradient = many(estimator, lambda t: Bernoulli(logits=t), toy, theta)
        p = torch.sigmoid(theta)
        assert_mean(gradient, p * (1 - p) * (0.501**2 - 0.499**2))
        spread[name] = float(gradient.std())
    assert spread["rebar"] < 1.02 * spread["sf"]  # it learns to switch its control off
    assert spread["relax"] < 0.1 * spread["sf"]
    assert spread["disarm"] < 0.9 * spread["arm"] < 0.01 * spread["sf"]


def test_leave_one_out_has_less_variance_and_training_reduces_it_further():
    spread = [many(e, bernoulli, quadratic, THETA)[1].var(0).sum() for e in (ScoreFunction(4, None), ScoreFunction(4))]
    assert spread[1] < 0.9 * spread[0]
    for estimator in (REBAR(2.0, 0.1), RELAX(network())):
        before = many(estimator, bernoulli, quadratic, THETA)[1].var(0).sum()
        train_control(estimator, bernoulli, quadratic, THETA.expand(200, 4), 100)
        after = many(estimator, bernoulli, quadratic, THETA)[1].var(0).sum()
        assert after < 0.5 * before


# ---- which gradient goes where ----


class Decoder(nn.Module):
    """A loss with weights of its own, which remembers what it was first called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(MATRIX.clone())
        self.seen: list[Tensor] = []

    def forward(self, y: Tensor) -> Tensor:
        self.seen.append(y)
        return torch.einsum("...i,ij,...j->...", y, self.weight, y)


@pytest.mark.parametrize("name", list(estimators("bernoulli")))
def test_value_and_gradient_of_the_loss_itself_are_means_over_the_samples(name):
    torch.manual_seed(0)
    estimator, decoder = estimators("bernoulli")[name], Decoder()
    value = estimator(decoder, bernoulli(THETA.expand(5, 4).clone().requires_grad_()))
    y = decoder.seen[0]
    close(value, quadratic(y).mean(0))
    value.mean().backward()
    close(decoder.weight.grad, torch.einsum("sbi,sbj->ij", y, y) / y[..., 0].numel())


@pytest.mark.parametrize("make", [lambda: REBAR(0.7, 0.6), lambda: RELAX(network(), 0.5), lambda: LAX(network())])
def test_variance_reaches_the_control_alone_and_is_its_gradient(make):
    estimator, theta = make(), THETA.expand(50, 4).clone().requires_grad_()

    def gradients(estimator: nn.Module) -> Tensor:
        torch.manual_seed(0)
        return torch.autograd.grad(estimator(quadratic, bernoulli(theta)).sum(), theta, retain_graph=True)[0]

    def second_moment(estimator: nn.Module) -> float:
        return float(gradients(estimator).square().sum(-1).mean())

    decoder = Decoder()
    torch.manual_seed(0)
    estimator(decoder, bernoulli(theta)).mean().backward()
    frozen = copy.deepcopy(estimator).requires_grad_(False)
    close(theta.grad * 50, gradients(frozen))
    y = decoder.seen[0]
    close(decoder.weight.grad, torch.einsum("sbi,sbj->ij", y, y) / 50)
    for parameter in estimator.parameters():
        for index in range(min(3, parameter.numel())):
            sides = []
            for shift in (1e-4, -1e-4):
                with torch.no_grad():
                    parameter.view(-1)[index] += shift
                sides.append(second_moment(estimator))
                with torch.no_grad():
                    parameter.view(-1)[index] -= shift
            slope = (sides[0] - sides[1]) / 2e-4
            assert float(parameter.grad.view(-1)[index]) == pytest.approx(slope, rel=2e-2, abs=1e-4)


def test_no_gradient_of_the_control_in_eval_mode():
    estimator = RELAX(network()).eval()
    theta = THETA.clone().requires_grad_()
    estimator(quadratic, bernoulli(theta)).backward()
    assert theta.grad is not None
    assert all(p.grad is None for p in estimator.parameters())


def test_learned_baseline_is_trained_on_the_squared_error():
    estimator, decoder = ScoreFunction(2, LearnedBaseline(network())), Decoder()
    theta = torch.randn(6, 4, dtype=torch.float64).requires_grad_()
    estimator(decoder, bernoulli(theta)).mean().backward()
    clone = copy.deepcopy(estimator.baseline.network)
    clone.zero_grad()
    (quadratic(decoder.seen[0]) - clone(theta.detach()).squeeze(-1)).square().mean().backward()
    for ours, expected in zip(estimator.baseline.network.parameters(), clone.parameters()):
        close(ours.grad, expected.grad)


def test_moving_average_is_that_of_earlier_losses():
    baseline = MovingAverage(0.5)
    losses = [torch.full((1, 4), float(value)) for value in (2.0, 4.0, 8.0)]
    assert [float(baseline(x, None)) for x in losses] == pytest.approx([0.0, 2.0, (4.0 + 0.5 * 2.0) / 1.5])
    again = MovingAverage(0.5)
    again.load_state_dict(baseline.state_dict())
    guess = float(again.eval()(losses[0], None))
    assert guess == float(again(losses[1], None)) == pytest.approx((8.0 + 2.0 + 0.5) / 1.75)


# ---- second derivatives, transforms, errors ----


@pytest.mark.parametrize(("law", "estimator"), [("bernoulli", ScoreFunction(3)), ("categorical", ScoreFunction(1, None))])
def test_second_derivatives_of_the_score_function_are_unbiased(law, estimator):
    make, loss = LAWS[law]
    torch.manual_seed(0)
    theta = THETA.expand(COPIES, 4).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(estimator(loss, make(theta)).sum(), theta, create_graph=True)
    rows = [torch.autograd.grad(gradient[:, i].sum(), theta, retain_graph=True)[0] for i in range(4)]
    hessian = torch.autograd.functional.hessian(lambda t: Exact()(loss, make(t)), THETA)
    assert_mean(torch.stack(rows, 1), hessian)


SECOND = (
    "This estimator gives a first derivative; differentiating the estimate again would lose the terms that come from the "
    "sampling, so it is refused. Take first derivatives only (no `create_graph=True`, no nested `torch.func.grad`), or use "
    "ScoreFunction or Exact, whose derivatives of every order are right."
)


@pytest.mark.parametrize(
    ("law", "estimator"),
    [(law, e) for law in CONDITIONAL[:2] for e in (REBAR(), RELAX(network()), LAX(network()))]
    + [("bernoulli", ARM()), ("bernoulli", DisARM())],
)
def test_second_derivatives_of_the_others_are_refused(law, estimator):
    make, loss = LAWS[law]
    theta = THETA.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(estimator(loss, make(theta)), theta, create_graph=True)
    with pytest.raises(RuntimeError, match=f"^{re.escape(SECOND)}$"):
        torch.autograd.grad(gradient.sum(), theta)
    with pytest.raises(RuntimeError, match=f"^{re.escape(SECOND)}$"):
        torch.func.grad(lambda t: torch.func.grad(lambda s: estimator(loss, make(s)))(t).sum())(THETA)


@pytest.mark.parametrize(("law", "name"), [pair for pair in PAIRS if pair[1] != "moving average"])
def test_under_vmap(law, name):
    make, loss = LAWS[law]
    estimator = estimators(law)[name]
    torch.manual_seed(0)
    each = torch.func.vmap(torch.func.grad(lambda t: estimator(loss, make(t))), randomness="different")
    assert_mean(each(THETA.expand(5000, 4)), exact(make, loss, THETA)[1])


def test_a_solver_under_vmap():
    lax = LAX(network())
    value = torch.func.vmap(
        torch.func.grad(lambda t: lax(quadratic, PerturbedSolution(Argmax(), t[None], 1.0, Gumbel())).sum()),
        randomness="different",
    )(THETA.expand(5000, 4))
    assert_mean(value, exact(categorical, quadratic, THETA)[1])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch, about its own tracing
@pytest.mark.parametrize("estimator", [ScoreFunction(2), DisARM(), RELAX(network(), 0.5)])
def test_under_compile_without_a_graph_break(estimator):
    def step(theta: Tensor) -> Tensor:
        return estimator(quadratic, bernoulli(theta))

    torch.manual_seed(0)
    theta = THETA.expand(COPIES, 4).clone().requires_grad_()
    torch.compile(step, fullgraph=True, backend="aot_eager")(theta).sum().backward()
    assert_mean(theta.grad, exact(bernoulli, quadratic, THETA)[1])


@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(),
        ScoreFunction(1, MovingAverage(0.5)),
        REBAR(),
        RELAX(network()),
        LAX(network()),
        ARM(),
        DisARM(3),
        Exact(),
    ],
)
def test_copies_and_names(estimator):
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert repr(twin) == repr(estimator)
        states = twin.state_dict(), estimator.state_dict()
        assert states[0].keys() == states[1].keys()
    if not list(estimator.children()):
        assert repr(eval(repr(estimator))) == repr(estimator)
    assert repr(ScoreFunction()) == "ScoreFunction(samples=8, baseline=LeaveOneOut())"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ScoreFunction()(lambda y: y, bernoulli(THETA)),
            ValueError,
            "ScoreFunction: the loss has shape (8, 4) for solutions of shape (8, 4); it must have one number per sample and "
            "instance, shape (8,). Do not average over instances in the loss; entries that make one instance together belong "
            "to one event: `torch.distributions.Independent(distribution, 1)`.",
        ),
        (
            lambda: ScoreFunction(1),
            ValueError,
            "ScoreFunction: samples=1; it must be an integer of at least 2 with LeaveOneOut(); fewer samples go with None, "
            "MovingAverage() or LearnedBaseline(network).",
        ),
        (lambda: ARM(0), ValueError, "ARM: samples=0; it must be an integer of at least 1."),
        (
            lambda: ScoreFunction(2, 0.5),
            TypeError,
            "ScoreFunction: baseline is 0.5; expected a Baseline such as LeaveOneOut(), or None.",
        ),
        (
            lambda: ARM()(quadratic, categorical(THETA)),
            TypeError,
            "ARM is for Bernoulli latents (also under Independent), not OneHotCategorical. Use REBAR, RELAX or ScoreFunction.",
        ),
        (
            lambda: REBAR()(quadratic, PerturbedSolution(Argmax(), THETA[None])),
            TypeError,
            "REBAR draws perturbed scores again, given their solution, which is known for Bernoulli, OneHotCategorical and "
            "PlackettLuce, but not for PerturbedSolution. Use LAX or ScoreFunction.",
        ),
        (
            lambda: RELAX(network())(quadratic, KSubset(THETA, 2)),
            TypeError,
            "RELAX needs a distribution that is a solver of perturbed scores: Bernoulli, OneHotCategorical and PlackettLuce "
            "(also under Independent, except the last), or PerturbedSolution; KSubset is none. Use ScoreFunction.",
        ),
        (
            lambda: LAX(network())(quadratic, PerturbedSolution(Argmax(), THETA[None], noise=TwoPointMargin())),
            TypeError,
            "TwoPointMargin(alpha=1.0) has no differentiable density, which estimators need; use Gaussian or Gumbel.",
        ),
        (
            lambda: RELAX(nn.Linear(4, 2).double())(quadratic, bernoulli(THETA)),
            ValueError,
            "the surrogate returned shape (2, 1, 2); it must return one number per instance, shape (2, 1) or (2, 1, 1). For "
            "events of several dimensions begin it with `nn.Flatten(-2)`.",
        ),
        (
            lambda: LAX(quadratic),
            TypeError,
            f"LAX: surrogate is {quadratic!r}; expected an nn.Module from perturbed scores to one number per instance, such as "
            "nn.Sequential(nn.Linear(n, 32), nn.Tanh(), nn.Linear(32, 1)).",
        ),
        (lambda: REBAR(0.0), ValueError, "REBAR: temperature=0.0; it must be positive."),
        (lambda: MovingAverage(1.0), ValueError, "MovingAverage: decay=1.0; it must be at least 0 and less than 1."),
        (
            lambda: torch.func.grad(lambda t: ScoreFunction(1, MovingAverage())(quadratic, bernoulli(t)))(THETA),
            RuntimeError,
            "MovingAverage keeps a state, which a torch.func transform cannot update; use LeaveOneOut.",
        ),
        *[
            (
                lambda estimator=estimator: estimator(bernoulli(torch.zeros(2)), quadratic),
                TypeError,
                f"{type(estimator).__name__}: the distribution is a function; call `estimator(loss, distribution)` with one of "
                f"torch.distributions or solverlayers.distributions.",
            )
            for estimator in (ScoreFunction(), Exact())
        ],
        (
            lambda: Exact()(quadratic, PerturbedSolution(Argmax(), THETA[None], noise=Gaussian())),
            TypeError,
            "Exact: the solutions of PerturbedSolution(Argmax(), sigma=1.0, noise=Gaussian(scale=1.0)) cannot be listed; use "
            "ScoreFunction.",
        ),
        (
            lambda: Exact()(quadratic, bernoulli(torch.zeros(20))),
            ValueError,
            "Exact: 2 solutions of each of 20 parts make 2^20 together, more than 65536; use an estimator that samples.",
        ),
        (
            lambda: ScoreFunction(1, LearnedBaseline(network()))(quadratic, Independent(Normal(THETA, 1.0), 1)),
            TypeError,
            "LearnedBaseline: Normal has no logits to guess the loss from; use LeaveOneOut.",
        ),
    ],
)
def test_errors_say_what_to_do(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_leave_one_out_is_the_mean_of_the_others():
    losses = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 0.0]])
    close(LeaveOneOut()(losses, None), torch.tensor([[4.0, 10.0], [3.5, 5.0], [1.5, 15.0]]))
