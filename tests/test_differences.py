"""Rules that solve again at shifted scores, against formulas written out with the solver, and against enumeration."""

import copy
import re

import pytest
import torch
from cases import SOLVERS
from torch import Tensor

from solverlayers import SolverLayer
from solverlayers.noise import Gaussian, draw_samples
from solverlayers.rules import AIMLE, IMLE, LPGD, Blackbox
from solverlayers.solver import Solver
from solverlayers.solvers.elementwise import HardFunction, Sign
from solverlayers.solvers.selection import Argmax, TopK

BOTH_SENSES = ["topk", "topk_smallest", "ranking", "ranking_descending", "assignment", "grid_path", "argmax_mask"]


def setting(name: str, batch: int = 7, seed: int = 0) -> tuple[Solver, Tensor, Tensor, dict[str, Tensor]]:
    torch.manual_seed(seed)
    case = SOLVERS[name]
    scores, instance = case.build(batch, torch.float64)
    return case.solver, scores, torch.randn(batch, *case.shape, dtype=torch.float64), instance


def pullback(layer: SolverLayer, x: Tensor, g: Tensor, **instance: Tensor) -> Tensor:
    return torch.autograd.grad(layer(x, **instance), x, g)[0]


@pytest.mark.parametrize("name", BOTH_SENSES)
def test_blackbox_is_its_formula_in_both_senses(name):
    """For costs `(y(w + step g) - y(w)) / step`, for gains the same with the shift turned (Vlastelica et al.)."""
    solver, x, g, instance = setting(name)
    y = lambda scores: solver(solver.clip(scores), **instance)  # noqa: E731
    step, sign = 0.8, 1 if solver.sense == "max" else -1
    one = sign * (y(x) - y(x - sign * step * g)) / step
    two = sign * (y(x + sign * step * g) - y(x - sign * step * g)) / (2 * step)
    assert one.any()
    assert torch.allclose(pullback(SolverLayer(solver, Blackbox(step)), x, g, **instance), one)
    assert torch.allclose(pullback(SolverLayer(solver, Blackbox(step, two_sided=True)), x, g, **instance), two)


def test_blackbox_is_the_gradient_of_its_interpolation():
    """`f_step(theta) = f(y') + (<theta, y(theta)> - <theta, y'>) / step`, `y' = argmax <theta, y> - step f(y)`."""
    vertices = SOLVERS["topk"].vertices.double()
    torch.manual_seed(1)
    theta, g = torch.randn(20, 5, dtype=torch.float64, requires_grad=True), torch.randn(20, 5, dtype=torch.float64)
    step = 0.9

    def interpolation(theta):
        y = vertices[(theta @ vertices.T).argmax(-1)]
        other = vertices[((theta - step * g) @ vertices.T).argmax(-1)]
        return (g * other).sum(-1) + ((theta * y).sum(-1) - (theta * other).sum(-1)) / step

    h = 1e-6
    slopes = [(interpolation(theta + h * e) - interpolation(theta - h * e)) / (2 * h) for e in torch.eye(5)]
    differences = torch.stack(slopes, 1)
    assert torch.allclose(pullback(SolverLayer(TopK(2), Blackbox(step)), theta, g), differences, atol=1e-7)


@pytest.mark.parametrize("name", BOTH_SENSES)
@pytest.mark.parametrize("two_sided", [False, True])
def test_automatic_step_is_the_rule_of_thumb(name, two_sided):
    solver, x, g, instance = setting(name)
    mask = instance.get("mask", torch.ones_like(x, dtype=torch.bool))
    step = (x.abs()[mask].mean() / g.abs()[mask].mean()).item()
    automatic = pullback(SolverLayer(solver, Blackbox("auto", two_sided)), x, g, **instance)
    assert automatic.any()
    assert torch.allclose(automatic, pullback(SolverLayer(solver, Blackbox(step, two_sided)), x, g, **instance))


def test_automatic_step_follows_the_loss():
    x, g = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    layer = SolverLayer(TopK(2), Blackbox("auto"))
    once = pullback(layer, x, g)
    assert torch.allclose(pullback(layer, x, 1e6 * g), 1e6 * once)
    assert torch.allclose(pullback(layer, 1e4 * x, g), once / 1e4)
    assert not pullback(layer, x, torch.zeros_like(g)).any()
    assert pullback(layer, torch.zeros_like(x).requires_grad_(), g).any()  # zero scores are no reason for a zero gradient
    half = pullback(layer, x.detach().half().requires_grad_(), (1e-4 * g).half())  # the step itself is beyond half precision
    assert half.dtype == torch.float16
    assert half.isfinite().all()


@pytest.mark.parametrize("rule", [Blackbox("auto"), IMLE("auto", samples=2, noise=Gaussian(1e-9))])
def test_automatic_step_under_transforms_is_that_of_each_batch(rule):
    torch.manual_seed(0)
    x, g = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1)
    layer = SolverLayer(TopK(2), rule)
    pairs = zip(x.flatten(0, 1), g.flatten(0, 1))
    loop = torch.stack([pullback(layer, a.clone().requires_grad_(), b) for a, b in pairs]).view_as(x)

    def loss(a, b):
        return (layer(a) * b).sum()

    vmap = lambda f: torch.vmap(f, randomness="different")  # noqa: E731
    inside = vmap(vmap(torch.func.grad(loss)))(x, g)
    outside = torch.func.grad(lambda a: vmap(vmap(loss))(a, g).sum())(x)
    between = vmap(torch.func.grad(lambda a, b: vmap(loss)(a, b).sum()))(x, g)
    for found in (inside, outside, between):
        assert torch.allclose(found, loop)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while it compiles
@pytest.mark.parametrize("rule", [Blackbox("auto"), Blackbox(1.0, two_sided=True), LPGD(1.0, rho=0.5)])
def test_compiles_and_refuses_a_second_derivative(rule):
    x, g = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    layer = SolverLayer(TopK(2), rule)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(pullback(compiled, x, g), pullback(layer, x, g))
    first = torch.autograd.grad((layer(x) * g).sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="is zero almost everywhere and says nothing, so it is refused"):
        first.sum().backward()


def test_imle_shares_its_noise_and_averages():
    x, g = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    for step, two_sided in ((2.0, False), (2.0, True), ("auto", False), ("auto", True)):
        rule = IMLE(step, sigma=0.7, samples=6, noise=Gaussian(), two_sided=two_sided)
        torch.manual_seed(3)
        found = pullback(SolverLayer(TopK(2), rule), x, g)
        torch.manual_seed(3)
        eta = draw_samples(Gaussian(), x.detach(), 6).added_to(x.detach(), 0.7)
        size = 2.0 if step == "auto" else step
        if step == "auto":
            size = (x.abs().mean() / g.abs().mean()).item()
        y = lambda scores: torch.stack([TopK(2)(s) for s in scores])  # noqa: E731
        less = y(eta - size * g)
        expected = (y(eta + size * g) - less) / (2 * size) if two_sided else (y(eta) - less) / size
        assert torch.allclose(found, expected.mean(0), atol=1e-6)


# LPGD


@pytest.mark.parametrize("name", BOTH_SENSES)
def test_lpgd_without_proximity(name):
    solver, x, g, instance = setting(name)
    lower, upper, average = (
        pullback(SolverLayer(solver, rule), x, g, **instance) for rule in (LPGD(0.8), LPGD(-0.8), LPGD(0.8, two_sided=True))
    )
    assert torch.equal(lower, pullback(SolverLayer(solver, Blackbox(0.8)), x, g, **instance))
    assert torch.allclose(average, (lower + upper) / 2)
    assert not torch.equal(lower, upper)


@pytest.mark.parametrize("name", ["topk", "topk_smallest", "ranking", "ranking_descending", "threshold", "grid_path"])
@pytest.mark.parametrize("tau", [0.7, -0.7])
def test_lpgd_solves_the_proximal_problem(name, tau):
    """`argmax <theta - tau g, y> - rho/2 |y - y(theta)|^2` over all solutions, listed; also where they differ in their sums."""
    case, rho = SOLVERS[name], 0.6
    solver, x, g, _ = setting(name, batch=200)
    if name == "grid_path":  # costs that stay positive through all shifts
        x, g = (1 + 2 * x.detach().square()).requires_grad_(), g.clamp(-1, 1)
    vertices = case.vertices.double().flatten(1)
    sign = 1 if solver.sense == "max" else -1
    theta, gradient = sign * x.detach().flatten(1), g.flatten(1)
    first = vertices[(theta @ vertices.T).argmax(-1)]
    distance = (first[:, None] - vertices).square().sum(-1)
    second = vertices[((theta - tau * gradient) @ vertices.T - rho / 2 * distance).argmax(-1)]
    expected = sign * (first - second) / tau
    assert expected.any()
    found = pullback(SolverLayer(solver, LPGD(tau, rho)), x, g).flatten(1)
    assert torch.allclose(found, expected)
    assert found.count_nonzero() < pullback(SolverLayer(solver, LPGD(tau)), x, g).count_nonzero()  # it stays nearer


def test_lpgd_needs_a_linear_distance():
    message = (
        "LPGD needs distances of solutions that are linear in the solution: solutions of zeros and ones, or of one norm; "
        "Sign(margin=0.5, event_dim=1) declares neither. If its solutions are such, set `binary = True` or "
        "`constant_norm = True` in its class. Otherwise use a rule or a loss without distances, such as Blackbox or Identity, "
        "SPOPlusLoss or FenchelYoungLoss."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(Sign(margin=0.5), LPGD(1.0, rho=0.1))
    SolverLayer(Sign(margin=0.5), LPGD(1.0))
    message = "LPGD: tau=0.0 and rho=0.0; tau is a number other than zero, and rho not negative."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(Argmax(), LPGD(0.0))


# AIMLE


def train(layer: SolverLayer, x: Tensor, g: Tensor, times: int) -> None:
    for _ in range(times):
        pullback(layer, x, g)


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("two_sided", [False, True])
def test_aimle_is_imle_with_a_relative_step(samples, two_sided):
    torch.manual_seed(0)
    x, g = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    layer = SolverLayer(TopK(2), AIMLE(samples=samples, sigma=0.5, start=0.8, two_sided=two_sided))
    step = 0.8 * x.norm().item() / g.norm().item()
    torch.manual_seed(5)
    found = pullback(layer, x, g)
    torch.manual_seed(5)
    expected = pullback(SolverLayer(TopK(2), IMLE(step, 0.5, samples, two_sided=two_sided)), x, g)
    assert expected.any()
    assert torch.allclose(found, expected, atol=1e-6)


def test_aimle_counts_per_instance_and_sample():
    """With one huge step every instance and sample moves all of its six entries: a count of six, not a share of one."""
    x, g = torch.zeros(5, 6), torch.ones(5, 6)
    x[:, :3], g[:, :3] = 1, -1
    rule = AIMLE(target=2.0, samples=3, sigma=1e-6, start=1e6)
    train(SolverLayer(TopK(3), rule), -x.requires_grad_(), g, 1)
    assert rule.nonzeros == pytest.approx(0.9 * 2 + 0.1 * 6)


def test_aimle_step_falls_as_well_as_grows():
    torch.manual_seed(0)
    x, g = torch.randn(8, 10, requires_grad=True), torch.randn(8, 10)
    dense = AIMLE(target=1.0, rate=0.05, sigma=1e-3, start=5.0)
    train(SolverLayer(TopK(5), dense), x, g, 40)
    assert dense.alpha < 5 - 30 * 0.05  # a share of at most one, compared with the target, could never make it fall
    sparse = AIMLE(target=4.0, rate=0.05, sigma=1e-3, start=0.0)
    layer = SolverLayer(TopK(5), sparse)
    assert not pullback(layer, x, g).any()  # a step of zero is a gradient of zero, not a division by it
    train(layer, x, g, 100)
    assert sparse.alpha > 0.1
    assert 2 < sparse.nonzeros < 6
    lowest = AIMLE(target=1e-9, rate=1.0, start=0.5)
    train(SolverLayer(TopK(5), lowest), x, g, 3)
    assert lowest.alpha >= 0


def test_aimle_adapts_in_training_backward_passes_only():
    x = torch.randn(3, 5, requires_grad=True)
    layer = SolverLayer(TopK(2), AIMLE(rate=0.5))
    layer(x)
    with torch.no_grad():
        layer(x)
    layer.eval()
    assert torch.equal(layer(x), TopK(2)(x))
    assert layer.rule.alpha == 1
    assert layer.rule.nonzeros == 1


def test_aimle_state_is_saved_and_copied():
    x, g = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    layer = SolverLayer(TopK(2), AIMLE(target=3.0, rate=0.25))
    train(layer, x, g, 3)
    twin = SolverLayer(TopK(2), AIMLE(target=3.0, rate=0.25))
    twin.load_state_dict(layer.state_dict())
    clone = copy.deepcopy(layer)
    train(layer, x, g, 1)
    for other in (twin, clone):
        assert other.rule.alpha != layer.rule.alpha
        train(other, x, g, 1)
        assert other.rule.alpha == layer.rule.alpha
    assert eval(repr(layer.rule), {"AIMLE": AIMLE, "Gumbel": type(layer.rule.noise)}).target == 3.0


def test_aimle_refuses_transforms():
    layer = SolverLayer(TopK(2), AIMLE())
    message = (
        "AIMLE adapts its step in the backward pass, which torch.func and torch.compile forbid. Use it in plain eager mode, "
        "call eval() first, or use IMLE(step='auto')."
    )
    x = torch.randn(2, 5)
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        torch.func.grad(lambda a: layer(a).sum())(x)
    with pytest.raises(Exception, match=r"AIMLE adapts its step|Observed exception"):
        torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    layer.eval()
    assert torch.equal(torch.vmap(layer)(x.unsqueeze(0))[0], TopK(2)(x))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Blackbox(0.0), "Blackbox: step=0.0; it must be a positive number or 'auto'."),
        (IMLE("often"), "IMLE: step='often'; it must be a positive number or 'auto'."),
        (IMLE(samples=0), "IMLE: samples=0 and sigma=1.0; both must be positive."),
        (
            AIMLE(rate=0.0),
            "AIMLE: target=1.0, rate=0.0 and start=1.0; target and rate must be positive, and start not negative.",
        ),
    ],
)
def test_wrong_parameters_are_refused(rule, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SolverLayer(Argmax(), rule)


@pytest.mark.parametrize("rule", [Blackbox("auto"), AIMLE(), LPGD(1.0)])
def test_a_hard_function_is_refused(rule):
    with pytest.raises(ValueError, match=f"^{type(rule).__name__} solves again with shifted scores"):
        SolverLayer(HardFunction(torch.sign, same_shape=True), rule)


def test_skipped_instances_get_no_gradient():
    """An instance that fails in either solve has a gradient of zero, the others are as they would be alone."""
    x, g = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    for rule in (Blackbox(1.0, two_sided=True), LPGD(-1.0, rho=0.1)):
        found = pullback(SolverLayer(Argmax(), rule, on_failure="skip"), x, g, mask=mask)
        assert not found[1].any()
        assert torch.equal(found[[0, 2]], pullback(SolverLayer(Argmax(), rule), x, g)[[0, 2]])
