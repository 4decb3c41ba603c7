"""Several rules on one task, several seeds each."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import report
from .running import Hardware, Run, is_finished, task_class, train, train_together
from .specs import SpecError, split_specs

Results = dict[str, list[dict[str, Any]]]


def compare(runs: Sequence[Run], folder: Path, hardware: Hardware, together: bool = False) -> tuple[Results, dict[str, str]]:
    """Run what is not finished yet. Results by label, and for labels that could not be run to their end the reason.

    With `together` the seeds of a rule are trained as one stacked model.
    """
    failures: dict[str, str] = {}
    named: dict[str, Run] = {}
    for run in runs:
        other = named.setdefault(run.name, run)
        if other != run:
            raise SpecError(
                f"{other.label!r} and {run.label!r} would share the folder {run.name!r}. Name each once, and parameters by "
                f"keyword, as in lpgd(tau=-1)."
            )
        if (folder / run.name / "run.json").exists():
            refuse_other(run, folder / run.name)
    groups = _groups(runs) if together else [[run] for run in runs]
    for number, group in enumerate(groups, 1):
        if all(is_finished(folder / run.name) for run in group):
            continue
        seeds = f"seed{'s' if len(group) > 1 else ''} {', '.join(str(run.seed) for run in group)}"
        print(f"[{number}/{len(groups)}] {group[0].label}, {seeds}", flush=True)
        try:
            if len(group) > 1:
                execute_together(group, folder, hardware)
            else:
                execute(group[0], folder / group[0].name, hardware)
        except ValueError as error:  # a diverged network, an instance without a solution: the other rules go on
            failures[group[0].label] = f"{seeds}: {error}"
    results: Results = {}
    for run in runs:
        if is_finished(folder / run.name):
            results.setdefault(run.label, []).append(report.read_result(folder / run.name))
    return results, failures


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ by their seeds alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(dataclasses.replace(run, seed=0)), []).append(run)
    return list(groups.values())


def execute_together(runs: Sequence[Run], folder: Path, hardware: Hardware) -> None:
    """Train seeds as one model, or go on with it, and write what each leaves behind."""
    place = folder / f"{runs[0].name}-and-{len(runs) - 1}-more"
    if (place / "run.json").exists():
        refuse_other(runs[0], place)
    try:
        tasks = train_together(runs, place, hardware) or []
    except RuntimeError as error:  # a rule that adapts itself, an operation that torch.func.vmap does not know
        raise SpecError(f"these runs do not go together ({error}). Compare them one by one, without --together.") from error
    for run, task in zip(runs, tasks):
        run.save(folder / run.name)
        report.write_result(run, task, folder / run.name, [other.seed for other in runs])


def execute(run: Run, folder: Path, hardware: Hardware) -> dict[str, Any] | None:
    """Train a run, or go on with it, and write what it leaves behind; None on all but the first device."""
    task = train(run, folder, hardware)
    return None if task is None else report.write_result(run, task, folder)


def sweep(*texts: str) -> list[str | None]:
    """The settings of sweeps, one for each combination of their values; `[None]` where nothing is swept.

    >>> sweep("beta=0.5, 1, 2")
    ['beta=0.5', 'beta=1', 'beta=2']
    >>> sweep("margin=0,1", "projection=none,norm")
    ['margin=0, projection=none', 'margin=0, projection=norm', 'margin=1, projection=none', 'margin=1, projection=norm']
    """
    axes = []
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not values.strip():
            raise SpecError(f"cannot read --sweep {text!r}; write field=value,value,... such as beta=0.5,1,2.")
        axes.append([f"{field.strip()}={value}" for value in split_specs(values)])
    return [", ".join(values) or None for values in itertools.product(*axes)]


def refuse_other(run: Run, folder: Path) -> None:
    """Raises SpecError if the folder holds a run with other settings."""
    differences = differing(run, Run.load(folder))
    if differences:
        raise SpecError(f"{folder} holds a run with other settings: {differences}. Choose another folder with --out.")


def differing(new: Run, old: Run) -> str:
    """The settings in which two runs differ, for a message."""
    a, b = ({**dataclasses.asdict(run), **run.config} for run in (new, old))
    return ", ".join(f"{k} is {b.get(k)!r} there and {a[k]!r} here" for k in a if k != "config" and a[k] != b.get(k))


def mean_and_spread(values: Iterable[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of a sample; None for a single value."""
    listed = list(values)
    return statistics.fmean(listed), statistics.stdev(listed) if len(listed) > 1 else None


def summarise(results: Results) -> list[dict[str, Any]]:
    """One row per rule: number of seeds, mean and standard deviation of every metric and of the time."""
    rows = []
    for rule, runs in results.items():
        row: dict[str, Any] = {"rule": rule, "seeds": len(runs)}
        metrics = [{**r["metrics"], "cpu_seconds": r["cpu_seconds"], "seconds": r["seconds"]} for r in runs]
        for name in metrics[0]:
            row[name], row[f"{name}_std"] = mean_and_spread(m[name] for m in metrics)
        rows.append(row)
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


def comparison_table(task: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rules below each other, mean ± standard deviation over the seeds."""
    columns = (*task_class(task).columns, "solver_seconds", "seconds", "cpu_seconds")
    shown = [name for name in columns if any(row.get(name) is not None for row in rows)]
    header = ["rule", "seeds", *(name.replace("_", " ") for name in shown)]
    return report.table([[row["rule"], str(row["seeds"]), *(cell(row, name) for name in shown)] for row in rows], header)


def cell(row: Mapping[str, Any], name: str) -> str:
    """Mean and standard deviation of a measurement, as a table has them."""
    mean, spread = row.get(name), row.get(f"{name}_std")
    if mean is None:
        return "-"
    if report.is_share(name):
        return f"{100 * mean:.2f}" + (f" ± {100 * spread:.2f} %" if spread is not None else " %")
    return f"{mean:.4g}" + (f" ± {spread:.2g}" if spread is not None else "")


def write_comparison(task: str, results: Results, failures: Mapping[str, str], folder: Path) -> list[dict[str, Any]]:
    """`compare.csv`, `compare.json` and `compare.png`; returns the rows of the table."""
    rows = summarise(results)
    report.write_csv(folder / "compare.csv", rows)
    report.write_json(folder / "compare.json", {"task": task, "rows": rows, "failures": dict(failures)})
    curves = {rule: [r["history"] for r in runs] for rule, runs in results.items()}
    report.draw_curves(folder / "compare.png", curves, f"{task}: mean and range over the seeds", task_class(task).headline)
    task_class(task).draw_comparison(results, folder)
    return rows
