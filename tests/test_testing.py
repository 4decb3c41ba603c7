"""The contract kit finds what it says it finds: one broken solver or rule for each law."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
import torch

from solverlayers import Solution, Solver
from solverlayers.autograd import replace_gradient
from solverlayers.rule_laws import RULE_LAWS
from solverlayers.rules import DAB, Identity, Perturbed, Rule, SurrogateRule
from solverlayers.solver_laws import SOLVER_LAWS
from solverlayers.solvers import Argmax, Assignment, TopK
from solverlayers.testing import check_rule, check_solver


@dataclass(frozen=True)
class Broken(Solver):
    """An argmax with one fault."""

    fault: str = ""
    constant_sum = True
    binary = True

    def solve(self, scores, mask=None):
        if mask is not None and scores.numel():
            used = torch.where(mask, scores, 0)
            scores = torch.where(mask, used, used.min() - 1)
        return _FAULTS[self.fault](self, scores, mask)


def argmax(solver, scores, mask):
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1)


def single_precision(solver, scores, mask):
    return argmax(solver, scores, mask).float()


def squeezed(solver, scores, mask):
    return scores.argmax(-1)


def in_place(solver, scores, mask):
    y = argmax(solver, scores, mask)
    scores += 1
    return y


_CACHE: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}


def cached(solver, scores, mask):
    return _CACHE.setdefault((scores.shape, scores.dtype), torch.zeros_like(scores)).copy_(argmax(solver, scores, mask))


def random(solver, scores, mask):
    return argmax(solver, scores + torch.rand(scores.shape), mask).to(scores)


def argmin(solver, scores, mask):
    return argmax(solver, -scores, mask)


def of_the_whole_batch(solver, scores, mask):
    y = argmax(solver, scores, mask)
    return y.roll(1, -1) if len(scores) > 1 else y


def first_alone(solver, scores, mask):
    return argmax(solver, scores, mask) if len(scores) else scores.new_zeros(0, 3)


def strides(solver, scores, mask):
    return argmax(solver, scores, mask) if scores.is_contiguous() else argmax(solver, scores.roll(1, -1), mask)


def margin(solver, scores, mask):
    best = argmax(solver, scores, mask)
    return torch.where((best * scores).sum(-1, keepdim=True) > 20, best.roll(1, -1), best)


def shifted_by_sum(solver, scores, mask):
    best = argmax(solver, scores, mask)
    return torch.where(scores.sum(-1, keepdim=True) > 30, best.roll(1, -1), best)


def everywhere(solver, scores, mask):
    y = argmax(solver, scores, mask)
    return y if mask is None else torch.where(mask, y, 1)


def not_padded(solver, scores, mask):
    if mask is not None and mask.shape[-1] > 5:
        scores = -scores
    return argmax(solver, scores, mask)


def doubled(solver, scores, mask):
    return 2 * argmax(solver, scores, mask)


def elsewhere(solver, scores, mask):
    return argmax(solver, scores, mask).to("meta")


def runner_up(solver, scores, mask):
    return torch.zeros_like(scores).scatter_(-1, scores.topk(2).indices[..., 1:], 1)


def mask_in_place(solver, scores, mask):
    y = argmax(solver, scores, mask)
    if mask is not None:
        mask[:] = True
    return y


def the_scores(solver, scores, mask):
    return scores.copy_(argmax(solver, scores, mask))


def a_view(solver, scores, mask):
    return scores.detach()


_FAULTS = {
    f.__name__: f
    for f in (
        argmax, single_precision, squeezed, in_place, cached, random, argmin, of_the_whole_batch, first_alone, strides, margin,
        shifted_by_sum, everywhere, not_padded, doubled, elsewhere, runner_up, mask_in_place, the_scores, a_view,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Fickle(Solver):
    """Of equal scores the first one, and at the next call the last one."""

    calls: list[int] = field(default_factory=list, compare=False)

    def solve(self, scores):
        self.calls.append(len(scores))
        return argmax(self, scores, None) if len(self.calls) % 2 else argmax(self, scores.flip(-1), None).flip(-1)


class Careless(Argmax):
    """Its proofs are about other scores."""

    def solve_with_info(self, *scores, **instance):
        info = super().solve_with_info(*scores, **instance)
        return Solution(info.solution, info.objective + 1, info.optimal, info.bound + 1)


@dataclass(frozen=True)
class WrongTangent(Argmax):
    how: str = "halved"

    def tangent(self, direction, **instance):
        if self.how == "halved":
            return direction / 2
        if self.how == "oblique":
            return direction - direction[..., :1]
        return torch.zeros_like(direction)


class Unequal(Argmax):
    """Every copy is another."""

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__


class Nameless(Argmax):
    def __repr__(self):
        return "a solver"


@dataclass(frozen=True)
class Restarting(Broken):
    """An argmax whose starts have one fault."""

    fault: str = "argmax"
    start: str = "ignored"

    def optimise(self, scores, warm_start=None, **instance):
        return warm_start if warm_start is not None and self.start == "trusted" else super().optimise(scores, **instance)

    def optimise_with_start(self, scores, **instance):
        y = self.optimise(-scores if self.start == "another" else scores, **instance)
        return y, y[:1] if self.start == "one for all" else y


class OneWay(Argmax):
    """It takes gains for costs."""

    def optimise(self, scores, sense=None, **instance):
        return self.solve(scores, **instance)


class Optimist(Argmax):
    def solve_with_info(self, *scores, **instance):
        info = super().solve_with_info(*scores, **instance)
        return Solution(info.solution, info.objective, info.optimal, info.bound + 1)


class Gullible(Argmax):
    def check(self, *scores, **instance):
        pass

    def solve(self, scores, mask=None):
        return super().solve(scores.nan_to_num(0.0), mask)


class OneDimension(Argmax):
    event_dim = 2


class Dense(Argmax):
    one_hot = False

    def __call__(self, *scores, **instance):
        return scores[0].softmax(-1).round()


class TwoAtATime(TopK):
    one_hot = True


class Lonely(TopK):
    separable = True


def masked(batch):
    return {"mask": torch.tensor([[True, False, True, True, False]]).repeat(batch, 1)}


SOLVERS = [
    ("facts", OneDimension(), {}, "event_dim is 2, but one instance's scores have shape (5,). Set `event_dim = 1`."),
    ("shape", Broken("single_precision"), {}, "the solution is torch.float32 on cpu but its scores are torch.float64 on cpu."),
    ("shape", Broken("squeezed"), {}, "Broken.solve returned shape (5,) for scores of shape (5, 5); a solution"),
    ("shape", Broken("elsewhere"), {}, "the solution is torch.float32 on meta but its scores are torch.float32 on cpu."),
    ("declared", Broken("doubled"), {}, "it says `binary = True`, but the solution has entries other than 0 and 1: "),
    ("declared", TwoAtATime(2), {}, "it says `one_hot = True`, but rows of the solution are not one-hot: "),
    ("declared", Lonely(2), {}, "it says `separable = True`, but an entry of the solution depends on scores of other entries."),
    ("no gradient", Dense(), {"dtypes": (torch.float64,)}, "the solution requires a gradient; "),
    ("inputs unchanged", Broken("in_place"), {}, "`solve` changes the scores in place."),
    ("inputs unchanged", Broken("cached"), {}, "a second call changes the solution of the first: they share memory."),
    ("inputs unchanged", Broken("mask_in_place"), {"instance": masked}, "`solve` changes `mask` in place. Work on a copy, "),
    ("no gradient", Broken("the_scores"), {}, "the solution requires a gradient; "),
    ("inputs unchanged", Broken("the_scores"), {"skip": "no gradient"}, "`solve` changes the scores in place."),
    ("inputs unchanged", Broken("a_view"), {"skip": ("declared",)}, "the solution shares memory with the scores. Return "),
    ("determinism", Broken("random"), {}, "solved twice: instance "),
    ("determinism", Fickle(), {}, "solved twice: instance "),
    ("optimality", Broken("runner_up"), {"vertices": torch.eye(5)}, "has objective "),
    ("optimality", Broken("runner_up"), {}, "of the solutions found for other scores has "),
    ("optimality", Broken("argmin"), {}, "is `sense = 'max'` right?"),
    ("optimality", Broken("argmin"), {"vertices": torch.eye(5)}, "It is the worst: is `sense = 'max'` right? Scores: ["),
    ("optimality", Broken("argmax"), {"vertices": torch.eye(5)[1:]}, "is none of its 4 solutions."),
    ("batch", Broken("of_the_whole_batch"), {"skip": "optimality"}, "solved in a batch and alone differ: instance 0 gives"),
    (
        "empty batch",
        Broken("first_alone"),
        {},
        "Broken.solve returned shape (0, 3) for scores of shape (0, 5); a solution",
    ),
    (
        "layouts",
        Broken("strides"),
        {"skip": ("samples", "optimality")},
        "strided scores and contiguous ones differ: ",
    ),
    ("scale", Broken("margin"), {"skip": "optimality"}, "(if the scale matters, set `scale_free = False`): instance "),
    (
        "constant",
        Broken("shifted_by_sum"),
        {"skip": "optimality"},
        "(if a constant matters, set `constant_sum = False`)",
    ),
    ("tangent", WrongTangent("halved"), {}, "`tangent` is not idempotent: projected twice and once differ: instance 0 gives"),
    ("tangent", WrongTangent("oblique"), {}, "`tangent` is not self-adjoint: <Pa, b> and <a, Pb> differ: instance 0 gives"),
    ("tangent", WrongTangent("zero"), {}, "`tangent` changes a difference of two solutions: instance "),
    ("mask", Broken("everywhere"), {"instance": masked, "skip": "optimality"}, "the solution is not 0 outside the mask: "),
    ("padding", Broken("not_padded"), {}, "padded with entries outside the mask: instance 0 gives"),
    ("refusals", Gullible(), {}, "NaN scores in instance 4 are accepted; `check` raises InstanceError."),
    ("info", Optimist(), {}, "instance 0 is called optimal, but its bound is "),
    ("info", Careless(), {}, "`objective` is not <scores, y> + offset(y): instance 0 gives "),
    ("senses", OneWay(), {}, '`optimise(-scores, sense="min")` and `solve` differ: instance 0 gives '),
    ("starts", Restarting(start="another"), {}, "`optimise_with_start` and `solve` differ: instance 0 gives "),
    ("starts", Restarting(start="one for all"), {}, "the start has shape (1, 5); its first dimension is the batch of 5."),
    ("starts", Restarting(start="trusted"), {}, "from a start and anew, objectives differ: instance "),
    ("pickle", Unequal(), {}, "copied, Unequal() is not equal to itself. Make the class a frozen dataclass."),
    ("repr", Nameless(), {}, "repr is a solver; it is the constructor call, as in a dataclass."),
]


@pytest.mark.parametrize(("law", "solver", "options", "text"), SOLVERS, ids=[f"{law}-{s!r}" for law, s, _, _ in SOLVERS])
def test_a_broken_solver_is_found(law, solver, options, text):
    _CACHE.clear()
    with pytest.raises(AssertionError, match=f"^{type(solver).__name__} breaks the law '{law}': .*{re.escape(text)}"):
        check_solver(solver, shape=(5,), **options)


def test_every_law_of_a_solver_can_be_broken():
    """`samples` follows from `batch`, and is about the oracle, which is not the user's."""
    assert {law for law, *_ in SOLVERS} == SOLVER_LAWS.keys() - {"samples"}


def test_a_solver_that_keeps_all_laws():
    check_solver(Restarting(start="ignored"), shape=(5,))
    check_solver(Broken("argmax"), shape=(5,), vertices=torch.eye(5))
    check_solver(Broken("argmax"), shape=(5,), instance=masked)


def test_the_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_solver(Argmax(), shape=(3,))
    check_rule(Perturbed(), Argmax(), shape=(3,))
    assert torch.equal(torch.rand(2), expected)


def test_wrong_use_of_the_kit():
    with pytest.raises(ValueError, match=r"^unknown law 'speed'; use some of 'facts', "):
        check_solver(Argmax(), shape=(3,), skip="speed")
    with pytest.raises(ValueError, match=r"^give shape=, the shape of one instance's scores"):
        check_solver(Argmax())


def test_a_heuristic_need_not_be_optimal():
    @dataclass(frozen=True)
    class Worst(Solver):
        exact: bool = True

        def solve(self, scores):
            return Argmax()(-scores)

    with pytest.raises(AssertionError, match="breaks the law 'optimality'"):
        check_solver(Worst(), shape=(5,))
    check_solver(Worst(exact=False), shape=(5,), skip="info")


# Rules


class Faulty(SurrogateRule):
    """Identity with one fault."""

    calls = 0

    def __init__(self, fault="", size=4):
        super().__init__()
        self.fault, self.size = fault, size
        if fault in ("reaches the rule", "no loss", "commits"):
            self.scale = torch.nn.Parameter(torch.ones(size))

    def forward(self, oracle, theta):
        y = oracle(theta)
        if self.fault == "half" and theta.dtype == torch.float64:
            return replace_gradient(y, theta).float()
        if self.fault == "sharp" and torch.is_autocast_enabled("cpu"):
            return replace_gradient(y, theta) / 0
        if self.fault == "empty" and not len(theta):
            return theta[..., :1]
        if self.fault == "one sample":
            return replace_gradient(y, theta - theta.flatten(0, -2).mean(0))
        if self.fault == "in place":
            with torch.no_grad():
                theta.data += 1
        if self.fault == "soft in eval":
            return theta.softmax(-1)
        if self.fault == "counts":
            Faulty.calls += 1
            return replace_gradient(y, theta * Faulty.calls)
        if self.fault == "offset":
            return _Offset.apply(y, theta)
        if self.fault == "silent":
            return _Silent.apply(y, theta)
        return super().forward(oracle, theta)

    def surrogate(self, oracle, theta, y):
        return theta * self.scale if self.fault == "reaches the rule" else theta

    def auxiliary_loss(self, oracle, theta, y):
        if self.fault == "commits":
            return ((theta * self.scale - y.detach()) ** 2).sum()
        if self.fault == "no loss" or not hasattr(self, "scale"):
            return theta.new_zeros(()).requires_grad_() * 1
        return ((theta.detach() * self.scale - y.detach()) ** 2).sum()

    def __repr__(self):
        return "a rule" if self.fault == "nameless" else f"Faulty({self.fault!r})"


class _Plain(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(y, theta):
        return y.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


class _Offset(_Plain):
    @staticmethod
    def backward(ctx, grad):
        return None, grad + 1


class _Silent(_Plain):
    """A gradient that cannot be differentiated, and does not say so."""

    @staticmethod
    def backward(ctx, grad):
        return None, grad.detach()


FAULTS = [
    ("shape", "half", {}, "the output is torch.float32 of shape (3, 4), expected torch.float64 of (3, 4)."),
    ("autocast", "sharp", {}, "the output or the gradient of torch.bfloat16 scores is not finite."),
    ("batches", "empty", {}, "0 instances give shape (0, 1), expected (0, 4)."),
    ("samples", "one sample", {}, "gradients of samples in one call and in a loop differ: "),
    ("inputs unchanged", "in place", {}, "the scores are changed in place."),
    ("evaluation", "soft in eval", {}, "in eval() the output is not the solver's own solution."),
    ("seeds", "counts", {"skip": "samples"}, "the same seed gives another gradient."),
    ("zero gradient", "offset", {}, "a loss that does not depend on the solution has a gradient in the scores."),
    ("auxiliary loss", "reaches the rule", {}, "the task's loss has a gradient in the rule's parameters."),
    ("auxiliary loss", "commits", {}, "auxiliary_loss has a gradient in the scores."),
    ("auxiliary loss", "no loss", {}, "auxiliary_loss does not reach every parameter of the rule."),
    ("second derivative", "silent", {}, "the second derivative and that of the surrogate differ: "),
    ("repr", "nameless", {}, "repr is a rule; it is the constructor call."),
]


@pytest.mark.parametrize(("law", "fault", "options", "text"), FAULTS, ids=[fault for _, fault, _, _ in FAULTS])
def test_a_broken_rule_is_found(law, fault, options, text):
    expected = f"^Faulty with Argmax\\(\\) breaks the law '{law}': {re.escape(text)}"
    with pytest.raises(AssertionError, match=expected):
        check_rule(Faulty(fault), Argmax(), shape=(4,), **options)


def test_a_rule_blind_to_the_sense_is_found():
    class Blind(Rule):
        either_sense = True

        def forward(self, oracle, theta):
            return replace_gradient(oracle(theta), theta)

    with pytest.raises(AssertionError, match=r"^Blind with Assignment.* breaks the law 'senses': the gradients of costs "):
        check_rule(Blind(), Assignment(), shape=(3, 3), skip="copies")


def test_commitment_reaches_the_scores_by_design():
    rule = DAB("equivariant", shape=(4,), commitment=0.5)
    with pytest.raises(AssertionError, match="auxiliary_loss has a gradient in the scores"):
        check_rule(rule, Argmax(), shape=(4,))
    check_rule(rule, Argmax(), shape=(4,), skip="auxiliary loss")


def test_rules_that_keep_all_laws():
    check_rule(Identity(), Assignment(), shape=(3, 3))
    check_rule(Faulty(), Argmax(), shape=(4,), instance=lambda batch: {"mask": torch.ones(batch, 4, dtype=torch.bool)})
    assert isinstance(Faulty(), Rule)
    assert {law for law, *_ in FAULTS} <= RULE_LAWS.keys()


def test_an_error_within_a_law_breaks_it():
    @dataclass(frozen=True)
    class OnlyFloats(Solver):
        def solve(self, scores):
            if not scores.is_floating_point():
                raise RuntimeError("integers are beyond me")
            return TopK(1).solve(scores)

    with pytest.raises(AssertionError, match=r"^OnlyFloats breaks the law '[a-z ]+': RuntimeError: integers are beyond me"):
        check_solver(OnlyFloats(), shape=(4,), skip=["pickle"])
