"""Names on the command line: rules, relaxations, solvers and noise as calls, such as `imle(step=10, samples=4)`."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn

from solverlayers import Solver
from solverlayers import estimators as estimators_module
from solverlayers import losses as losses_module
from solverlayers import noise as noise_module
from solverlayers import relaxations as relaxations_module
from solverlayers import rules as rules_module
from solverlayers import solvers as solvers_module
from solverlayers.estimators import Baseline, Estimator
from solverlayers.losses import SolverLoss
from solverlayers.noise import Noise
from solverlayers.projections import PROJECTIONS
from solverlayers.relaxations import Relaxation
from solverlayers.rules import DAB, Rule

from .notebook_noise import NotebookSumOfGamma
from .two_stage import TwoStageLoss


class SpecError(ValueError):
    """A name or a call on the command line that means nothing; the message says what would."""


def final_classes(module: types.ModuleType, base: type) -> dict[str, type]:
    """The public classes of `module` under `base` that nothing there extends, by their name on the command line."""
    found = [c for name, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base) and not name.startswith("_")]
    final = [c for c in found if c is not base and not any(other is not c and issubclass(other, c) for other in found)]
    return {spec_name(c): c for c in sorted(final, key=spec_name)}


def spec_name(cls: type) -> str:
    """`StraightThrough` is `straight_through`, `DAB` is `dab`, and `SPOPlusLoss` is `spo_plus`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower().removesuffix("_loss")


def loss_target(cls: type[SolverLoss]) -> str | None:
    """What a loss compares scores with, `"y_true"` or `"true_scores"`; None for one that needs anything else."""
    given = [p.name for p in parameters(cls.forward) if p.name not in ("self", "scores")]
    return given[0] if given in (["y_true"], ["true_scores"]) else None


RULES: dict[str, type[Rule]] = final_classes(rules_module, Rule)
ESTIMATORS: dict[str, type[Estimator]] = final_classes(estimators_module, Estimator)
BASELINES: dict[str, type[Baseline]] = final_classes(estimators_module, Baseline)
NOISES: dict[str, type[Noise]] = final_classes(noise_module, Noise) | {spec_name(NotebookSumOfGamma): NotebookSumOfGamma}
RELAXATIONS: dict[str, type[Relaxation]] = final_classes(relaxations_module, Relaxation)
SOLVERS: dict[str, type[Solver]] = {
    spec_name(c): c for c in vars(solvers_module).values() if inspect.isclass(c) and issubclass(c, Solver)
}


def parameters(cls: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a constructor, or a function, that have a name."""
    return [p for p in inspect.signature(cls).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


LOSSES: dict[str, type[SolverLoss]] = {
    name: c for name, c in final_classes(losses_module, SolverLoss).items() if loss_target(c)
} | {spec_name(TwoStageLoss): TwoStageLoss}


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """The known name that `name` means, whatever its case and underscores.

    >>> choose("rule", "StraightThrough", ["dab", "straight_through"])
    'straight_through'
    >>> choose("task", "sort", ["sorting", "paths"])
    Traceback (most recent call last):
    solverlayers.tasks.specs.SpecError: unknown task 'sort' (did you mean 'sorting'?); use one of: paths, sorting.
    """
    plain = {_plain(k): k for k in known}
    if _plain(name) in plain:
        return plain[_plain(name)]
    raise SpecError(f"unknown {kind} {name!r}{_hint(_plain(name), plain)}; use one of: {', '.join(sorted(plain.values()))}.")


def make_rule(spec: str, shape: tuple[int, ...], output_shape: tuple[int, ...] | None = None) -> Rule:
    """The rule that `spec` names; a DAB without an approximator gets "batch", and a named one gets the shapes.

    >>> make_rule("imle(step=10, samples=4)", (5,))
    IMLE(step=10, sigma=1.0, samples=4, noise=Gumbel(scale=1.0), two_sided=False)
    >>> make_rule("straight_through(softmax(0.5))", (5,))
    StraightThrough(relaxation=Softmax(temperature=0.5))
    """
    name, args, kwargs = _parse("rule", spec, [*NOISES, *RELAXATIONS], _make_part)
    cls = RULES[choose("rule", name, RULES)]
    given = _bind("rule", cls, args, kwargs)
    if cls is DAB:
        given.setdefault("approximator", "batch")
        given.setdefault("shape", shape)
        given.setdefault("output_shape", output_shape)
    return _build("rule", cls, given)


def _make_part(spec: str) -> Noise | Relaxation | None:
    name = choose("noise or relaxation", spec.partition("(")[0], [*NOISES, *RELAXATIONS])
    return make_noise(spec) if name in NOISES else make_relaxation(spec)


def make_relaxation(spec: str) -> Relaxation:
    """The relaxation that `spec` names.

    >>> make_relaxation("ranks(soft_sort(0.1))")
    Ranks(permutation=SoftSort(temperature=0.1, descending=False))
    """
    name, args, kwargs = _parse("relaxation", spec, RELAXATIONS, make_relaxation)
    cls = RELAXATIONS[choose("relaxation", name, RELAXATIONS)]
    return _build("relaxation", cls, _bind("relaxation", cls, args, kwargs))


def make_estimator(spec: str, network: Callable[[], nn.Module]) -> Estimator:
    """The estimator that `spec` names; it, or its baseline, gets a new `network()` where it needs one.

    >>> make_estimator("score_function(1, baseline=moving_average(0.5))", lambda: nn.Linear(5, 1))
    ScoreFunction(samples=1, baseline=MovingAverage(decay=0.5))
    """
    name, args, kwargs = _parse("estimator", spec, BASELINES, partial(_make_baseline, network=network))
    cls = ESTIMATORS[choose("estimator", name, ESTIMATORS)]
    return _build("estimator", cls, _with_network(cls, _bind("estimator", cls, args, kwargs), network))


def make_rule_or_estimator(spec: str, shape: tuple[int, ...], network: Callable[[], nn.Module]) -> Rule | Estimator:
    """What `spec` names, for tasks that take both."""
    name = choose("rule or estimator", spec.partition("(")[0], [*RULES, *ESTIMATORS])
    return make_rule(spec, shape) if name in RULES else make_estimator(spec, network)


def make_rule_or_loss(spec: str, shape: tuple[int, ...], solver: Solver) -> Rule | SolverLoss:
    """What `spec` names, for tasks that take both.

    >>> from solverlayers.solvers import Argmax
    >>> make_rule_or_loss("structured_hinge(0.5)", (5,), Argmax())
    StructuredHingeLoss(solver=Argmax(), margin=0.5, on_failure='raise')
    """
    name = choose("rule or loss", spec.partition("(")[0], [*RULES, *LOSSES])
    if name in RULES:
        return make_rule(spec, shape)
    name, args, kwargs = _parse("loss", spec)
    cls = LOSSES[choose("loss", name, LOSSES)]
    loss: SolverLoss = _build("loss", cls, _bind("loss", cls, [solver, *args], kwargs))
    return loss


def _make_baseline(spec: str, network: Callable[[], nn.Module]) -> Baseline:
    name, args, kwargs = _parse("baseline", spec)
    cls = BASELINES[choose("baseline", name, BASELINES)]
    return _build("baseline", cls, _with_network(cls, _bind("baseline", cls, args, kwargs), network))


def _with_network(cls: type, given: dict[str, Any], network: Callable[[], nn.Module]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    needed = [p.name for p in parameters(cls) if hints.get(p.name) is nn.Module and p.name not in given]
    return given | {name: network() for name in needed}


def make_noise(spec: str | None) -> Noise | None:
    """The noise that `spec` names, None for no noise.

    >>> make_noise("gaussian(0.5)")
    Gaussian(scale=0.5)
    """
    if spec is None or spec.lower() == "none":
        return None
    return make("noise", spec, NOISES)


def make_solver(spec: str) -> Solver:
    """The solver that `spec` names.

    >>> make_solver("topk(k=2)")
    TopK(k=2, largest=True)
    """
    return make("solver", spec, SOLVERS)


def make(kind: str, spec: str, known: Mapping[str, type]) -> Any:
    """What `spec` names, by the names of the `known` classes; `kind` is what messages call it."""
    name, args, kwargs = _parse(kind, spec)
    cls = known[choose(kind, name, known)]
    return _build(kind, cls, _bind(kind, cls, args, kwargs))


def make_projection(name: str | None) -> str | None:
    """The name of a projection as the layer takes it, None for no projection."""
    return None if name is None or name.lower() == "none" else choose("projection", name, PROJECTIONS)


def split_specs(text: str) -> list[str]:
    """The specs of a list, each once; commas within brackets separate parameters.

    >>> split_specs("dab, imle(step=10, samples=4), identity")
    ['dab', 'imle(step=10, samples=4)', 'identity']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    specs = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not specs:
        raise SpecError(f'no rule in {text!r}; write a list such as "dab,identity,blackbox(step=20)".')
    return specs


def parse_value(kind: str, text: str, hint: Any) -> Any:
    """`text` as a literal of type `hint`; a plain word is a string.  # for `--set field=value`"""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = text.strip()
    return _fit(kind, value, hint)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace("-", "")


def _hint(name: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {known[close[0]]!r}?)" if close else ""


def _parse(
    kind: str, spec: str, parts: Iterable[str] = NOISES, make_part: Callable[[str], Any] = lambda spec: make_noise(spec)
) -> tuple[str, list[Any], dict[str, Any]]:
    """Name, positional and keyword values of a spec; values are literals, words, or specs of parts such as noise."""
    try:
        node = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise SpecError(_malformed(kind, spec)) from None
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or any(k.arg is None for k in node.keywords):
        raise SpecError(_malformed(kind, spec))

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) or (isinstance(node, ast.Name) and node.id in parts):
            return make_part(ast.unparse(node))
        return _value(kind, spec, node)

    return node.func.id, [value(a) for a in node.args], {str(k.arg): value(k.value) for k in node.keywords}


def _malformed(kind: str, spec: str) -> str:
    example = {
        "rule": "'blackbox(step=20)'",
        "estimator": "'rebar(samples=2)'",
        "baseline": "'moving_average(0.9)'",
        "loss": "'fenchel_young(samples=4)'",
        "noise": "'gaussian(0.1)'",
        "relaxation": "'softmax(0.5)'",
        "solver": "'topk(k=2)'",
        "augmentation": "'patch_gaussian(size=16, sigma=0.5)'",
    }[kind]
    return f"cannot read the {kind} {spec!r}; write a name, or a name with its parameters such as {example}."


def _value(kind: str, spec: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id  # a word, whose quotes a shell may have eaten
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SpecError(
            f"cannot read {ast.unparse(node)!r} in the {kind} {spec!r}; values are numbers, True or False, tuples, and words."
        ) from None


def _bind(kind: str, cls: type, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by parameter name, each of the type that the constructor announces."""
    known = [p.name for p in parameters(cls)]
    name = spec_name(cls)
    if len(args) > len(known):
        takes = f"takes only {', '.join(known)}" if known else "takes no parameters"
        raise SpecError(f"{kind} {name!r} {takes}, not {len(args)} values.")
    given = dict(zip(known, args))
    for key, value in kwargs.items():
        if key not in known:
            valid = f"use {', '.join(known)}" if known else "it has none"
            raise SpecError(f"{kind} {name!r} has no parameter {key!r}{_hint(key, dict(zip(known, known)))}; {valid}.")
        if key in given:
            raise SpecError(f"{kind} {name!r} got {key!r} twice.")
        given[key] = value
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    return {key: _fit(f"{kind} {name!r}: {key}", value, hints.get(key, Any)) for key, value in given.items()}


def _fit(what: str, value: Any, hint: Any) -> Any:
    """`value` if it can be a `hint`; a whole number is a number."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if Any in options or any(_is(value, option) for option in options):
        return value
    raise SpecError(f"{what}={value!r} is {_readable(type(value))}; expected {' or '.join(map(_readable, options))}.")


def _is(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    cls = typing.get_origin(hint) or hint
    return isinstance(cls, type) and isinstance(value, cls)


def _readable(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    cls = typing.get_origin(hint) or hint
    words = {float: "a number", int: "a whole number", str: "a word", bool: "True or False", tuple: "a tuple"}
    words[type(None)] = "None"
    return words.get(cls, f"a {getattr(cls, '__name__', cls)}")


def _build(kind: str, cls: type, given: dict[str, Any]) -> Any:
    missing = [p.name for p in parameters(cls) if p.default is p.empty and p.name not in given]
    if missing:
        example = f"{spec_name(cls)}({', '.join(f'{m}=...' for m in missing)})"
        raise SpecError(f"{kind} {spec_name(cls)!r} needs {', '.join(missing)}: write {example}.")
    try:
        return cls(**given)
    except (ValueError, TypeError) as error:
        raise SpecError(f"{kind} {spec_name(cls)!r}: {error}") from error
