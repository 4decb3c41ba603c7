"""The command line: `solverlayers list | run | compare | report | gallery | diagnose | gradients | doctor`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .specs import SpecError, split_specs

if TYPE_CHECKING:
    from .running import Hardware, Run

T = TypeVar("T")

_FOLDER = "SOLVERLAYERS_RUN_FOLDER"  # tells the processes that Lightning starts for further devices where the first one writes


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 for success, 1 if something does not work, 2 for a name or value that means nothing."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except SpecError as error:
        print(f"solverlayers: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads what is printed, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a folder that is not to be written, a disk that is full
        print(f"solverlayers: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped{arguments.goes_on}.", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names: `--device cuda` is no `--devices`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="solverlayers", description="Solvers as differentiable layers: train, compare, check.")
    top.add_argument("--version", action="version", version=_version())
    top.set_defaults(goes_on="")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    listing = commands.add_parser("list", help="tasks, solvers and rules, one line each")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="train a task and measure it")
    run.add_argument("task", metavar="TASK", help="a task of `solverlayers list`")
    run.add_argument("--rule", metavar="SPEC", help='how the gradient passes, such as "imle(step=10, samples=4)"')
    run.add_argument("--seed", type=int, help="of data, weights and noise (0)")
    run.add_argument("--resume", action="store_true", help="go on with the run in the folder after it was stopped")
    _shared(run)
    run.set_defaults(command=_run, goes_on="; the same command with --resume goes on from the last epoch")

    compare = commands.add_parser("compare", help="several rules on one task, several seeds each; goes on where it was stopped")
    compare.add_argument("task", metavar="TASK", help="a task of `solverlayers list`")
    compare.add_argument("--rules", metavar="SPECS", required=True, help='such as "dab,identity,blackbox(step=20)"')
    compare.add_argument("--seeds", type=int, default=3, help="runs per rule, with seeds 0, 1, ... (3)")
    compare.add_argument(
        "--sweep",
        metavar="FIELD=VALUES",
        action="append",
        default=[],
        help='a setting, preset, projection or noise, such as "beta=0.5,1,2"; given twice, all combinations',
    )
    compare.add_argument(
        "--together", action="store_true", help="train the seeds of a rule as one stacked model; times are of all"
    )
    _shared(compare)
    compare.set_defaults(command=_compare, goes_on="; the same command goes on from the last epoch")

    diagnose = commands.add_parser("diagnose", help="how good each rule's gradient is on a solver: bias, variance, direction")
    diagnose.add_argument("solver", metavar="SOLVER", help='a solver of `solverlayers list`, such as "topk(k=2)"')
    diagnose.add_argument("--rules", metavar="SPECS", default="all", help="all, or a list as in compare (all)")
    diagnose.add_argument("--size", type=int, default=6, help="entries of an instance along each dimension (6)")
    diagnose.add_argument("--batch", type=int, default=8, help="instances (8)")
    diagnose.add_argument("--loss", default="quadratic", help="of the solution: quadratic or linear (quadratic)")
    diagnose.add_argument("--sigma", type=float, default=1.0, help="of the Gumbel noise that smooths the loss (1)")
    diagnose.add_argument("--repeats", type=int, default=200, help="gradients drawn per rule (200)")
    diagnose.add_argument("--seed", type=int, default=0, help="of scores, loss and noise (0)")
    diagnose.add_argument("--out", type=Path, metavar="DIR", help="where results go (runs/diagnose/SOLVER)")
    diagnose.set_defaults(command=_diagnose)

    report = commands.add_parser("report", help="tables of the results at hand, as Markdown or into a page")
    report.add_argument("folders", metavar="DIR", nargs="*", type=Path, help="where results are (runs)")
    report.add_argument("--into", type=Path, metavar="FILE", help="fill the blocks <!-- results TASK --> of a page")
    report.set_defaults(command=_report)

    gallery = commands.add_parser("gallery", help="one HTML page of the runs at hand: tables, curves, pictures")
    gallery.add_argument("folders", metavar="DIR", nargs="*", type=Path, help="where results are (runs)")
    gallery.add_argument("--out", type=Path, metavar="FILE", help="the page (runs/gallery.html)")
    gallery.set_defaults(command=_gallery)

    gradients = commands.add_parser("gradients", help="rules' gradients in a trained vae beside the exact one: bias, variance")
    gradients.add_argument("folder", metavar="DIR", type=Path, help="of a finished run of the task vae")
    gradients.add_argument("--rules", metavar="SPECS", required=True, help='such as "reinmax,gumbel_softmax,relax"')
    gradients.set_defaults(command=_gradients)

    doctor = commands.add_parser("doctor", help="what works here: versions, devices, kernels, solvers, optional back ends")
    doctor.set_defaults(command=_doctor)
    return top


def _version() -> str:
    try:
        return f"solverlayers {metadata.version('solverlayers')}"
    except metadata.PackageNotFoundError:
        return "solverlayers, not installed (a checkout)"


def _shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--projection", metavar="P", help="of the scores: mean, norm, std or tangent")
    command.add_argument("--noise", metavar="SPEC", help='added to the scores in training, such as "gaussian(0.1)"')
    command.add_argument("--preset", help="quick (a look on two cores) or paper (the paper's own numbers)")
    command.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], help="change a setting of the preset")
    command.add_argument("--out", type=Path, metavar="DIR", help="where results go (runs/TASK/...)")
    command.add_argument("--devices", default="1", help="of Lightning's Trainer: a number, a list such as 0,1, or auto (1)")
    command.add_argument("--num-nodes", type=int, default=1, help="of Lightning's Trainer (1)")
    command.add_argument("--strategy", default="auto", help="of Lightning's Trainer, such as ddp (auto)")
    command.add_argument("--no-progress", action="store_true", help="no progress bar")


def _list(_: argparse.Namespace) -> int:
    from .catalogue import listing

    print(listing())
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from .doctor import examine

    return examine()


def _run(a: argparse.Namespace) -> int:
    from . import report
    from .comparing import execute
    from .running import is_finished

    run, folder = _place(a)
    try:
        finished = is_finished(folder)
        result = report.read_result(folder) if finished else _in_folder(folder, lambda: execute(run, folder, _hardware(a)))
    except ValueError as error:  # a diverged network, an instance without a solution
        if isinstance(error, SpecError):
            raise
        print(f"solverlayers: the run failed: {error}", file=sys.stderr)
        return 1
    if result is not None:
        print(report.result_table(result, folder))
    return 0


def _compare(a: argparse.Namespace) -> int:
    from .comparing import compare, comparison_table, sweep, write_comparison
    from .running import Run, is_main_process

    if a.seeds < 1:
        raise SpecError(f"--seeds {a.seeds}: at least one seed is needed.")
    runs = [
        Run.make(a.task, rule, a.projection, a.noise, a.preset, seed, a.set, swept)
        for rule in split_specs(a.rules)
        for swept in sweep(*a.sweep)
        for seed in range(a.seeds)
    ]
    folder = a.out or Path("runs") / runs[0].task / "compare"
    results, failures = compare(runs, folder, _hardware(a), a.together)
    if not is_main_process():
        return 0
    if results:
        print(comparison_table(runs[0].task, write_comparison(runs[0].task, results, failures, folder)))
        print(f"written to {folder}")
    for rule, reason in failures.items():
        print(f"solverlayers: {rule} failed: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _diagnose(a: argparse.Namespace) -> int:
    from .diagnose import Settings, diagnose, diagnosis_table, write_diagnosis

    settings = Settings(a.size, a.batch, a.loss, a.sigma, a.repeats, seed=a.seed)
    diagnosis = diagnose(a.solver, split_specs(a.rules), settings)
    folder = a.out or Path("runs") / "diagnose" / diagnosis.solver.partition("(")[0].lower()
    write_diagnosis(diagnosis, folder)
    print(f"gradients through {diagnosis.solver}, beside that of the smoothed loss (known to {diagnosis.error:.1%}):\n")
    print(diagnosis_table(diagnosis))
    for rule, reason in diagnosis.refused.items():
        print(f"\n{rule} does not apply: {reason}")
    print(f"\nwritten to {folder}")
    return 0


def _report(a: argparse.Namespace) -> int:
    from . import tables

    found = tables.collect(a.folders or [Path("runs")])
    if a.into:
        a.into.write_text(tables.fill(a.into.read_text(encoding="utf-8"), found), encoding="utf-8")
        print(f"written to {a.into}")
        return 0
    for task, runs in tables.groups(found).items():
        print(f"## {task}\n\n{tables.markdown(*tables.rows(task, runs))}\n")
    return 0


def _gallery(a: argparse.Namespace) -> int:
    from . import gallery, tables

    file = a.out or Path("runs") / "gallery.html"
    gallery.write(tables.collect(a.folders or [Path("runs")]), file)
    print(f"written to {file}")
    return 0


def _gradients(a: argparse.Namespace) -> int:
    from . import report
    from .gradient_study import study

    found = study(a.folder, split_specs(a.rules))
    rows = [[spec, *(f"{value:.3f}" for value in (q.bias, q.std, q.cosine))] for spec, q in found.items()]
    print(report.table(rows, ["rule", "bias", "std", "cosine"]))
    print(f"written to {a.folder}")
    return 0


def _hardware(a: argparse.Namespace) -> Hardware:
    from .running import Hardware

    return Hardware(a.devices, a.num_nodes, a.strategy, progress=not a.no_progress)


def _place(a: argparse.Namespace) -> tuple[Run, Path]:
    """The run that is meant, and its folder: a new one, or with --resume that of the run to go on with."""
    from .comparing import refuse_other
    from .running import Run, newest_folder, unused_folder

    given = (a.task, a.rule, a.projection, a.noise, a.preset, a.seed)
    run = Run.make(*given, a.set)
    root = Path("runs") / run.task
    if _FOLDER in os.environ:  # this process drives a further device of a run that has begun
        return Run.load(Path(os.environ[_FOLDER])), Path(os.environ[_FOLDER])
    if not a.resume:
        folder = a.out or unused_folder(root, run.name)
        if (folder / "run.json").exists():
            raise SpecError(f"{folder} holds a run already; go on with it with --resume, or choose another folder with --out.")
        return run, folder
    folder = a.out or newest_folder(root, run.name)
    stored = Run.load(folder)
    if stored.task != run.task:
        raise SpecError(f"{folder} holds a run of the task {stored.task!r}, not of {run.task!r}.")
    refuse_other(stored.updated(*given, a.set), folder)  # what is not typed again is as it was
    return stored, folder


def _in_folder(folder: Path, work: Callable[[], T]) -> T:
    """Do the work, while processes that Lightning starts can see which folder it is for."""
    os.environ[_FOLDER] = str(folder)
    try:
        return work()
    finally:
        del os.environ[_FOLDER]


if __name__ == "__main__":
    sys.exit(main())
