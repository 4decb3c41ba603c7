"""Several rules on one task, several seeds each."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import report
from .running import Hardware, Run, is_finished, task_class, train
from .specs import SpecError

Results = dict[str, list[dict[str, Any]]]


def compare(runs: Sequence[Run], folder: Path, hardware: Hardware) -> tuple[Results, dict[str, str]]:
    """Run what is not finished yet. Results by rule, and for rules that could not be run to their end the reason."""
    results: Results = {}
    failures: dict[str, str] = {}
    for number, run in enumerate(runs, 1):
        place = folder / run.name
        if (place / "run.json").exists():
            refuse_other(run, place)
        if not is_finished(place):
            print(f"[{number}/{len(runs)}] {run.rule}, seed {run.seed}", flush=True)
            try:
                execute(run, place, hardware)
            except ValueError as error:  # a diverged network, an instance without a solution: the other rules go on
                failures[run.rule] = f"seed {run.seed}: {error}"
                continue
        if is_finished(place):
            results.setdefault(run.rule, []).append(report.read_result(place))
    return results, failures


def execute(run: Run, folder: Path, hardware: Hardware) -> dict[str, Any] | None:
    """Train a run, or go on with it, and write what it leaves behind; None on all but the first device."""
    task = train(run, folder, hardware)
    return None if task is None else report.write_result(run, task, folder)


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
    return report.table([[row["rule"], str(row["seeds"]), *(_cell(row, name) for name in shown)] for row in rows], header)


def _cell(row: Mapping[str, Any], name: str) -> str:
    mean, spread = row.get(name), row.get(f"{name}_std")
    if mean is None:
        return "-"
    if name in report.SHARES:
        return f"{100 * mean:.2f}" + (f" ± {100 * spread:.2f} %" if spread is not None else " %")
    return f"{mean:.3g}" + (f" ± {spread:.2g}" if spread is not None else "")


def write_comparison(task: str, results: Results, failures: Mapping[str, str], folder: Path) -> list[dict[str, Any]]:
    """`compare.csv`, `compare.json` and `compare.png`; returns the rows of the table."""
    rows = summarise(results)
    report.write_csv(folder / "compare.csv", rows)
    report.write_json(folder / "compare.json", {"task": task, "rows": rows, "failures": dict(failures)})
    curves = {rule: [r["history"] for r in runs] for rule, runs in results.items()}
    report.draw_curves(folder / "compare.png", curves, f"{task}: mean and range over the seeds", task_class(task).headline)
    return rows
