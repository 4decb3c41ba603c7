"""Tables from the results of runs: one row for what was run, mean and standard deviation over its seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .comparing import cell, summarise
from .report import read_json
from .running import TASKS, task_class
from .specs import SpecError

BLOCK = re.compile(r"(?P<open><!-- results (?P<task>\w+)(?P<columns>[^>]*?) -->\n)(?P<rows>.*?)(?P<close><!-- end -->)", re.S)
FIGURE = "the paper's figure"


@dataclass(frozen=True)
class Found:
    """A finished run: what it left in `result.json`, and the folder of its pictures."""

    result: dict[str, Any]
    folder: Path | None

    @property
    def label(self) -> str:
        """What was run but for the seed, as on the command line: `blackbox(step=20) --projection std --set n=10`."""
        r = self.result
        parts = [r.get("spec") or r["rule"]]
        parts += [f"--{option} {r[option]}" for option in ("projection", "noise") if r[option]]
        parts += [] if r["preset"] == "quick" else [f"--preset {r['preset']}"]
        return " ".join([*parts, *(f"--set {name}={value}" for name, value in changes(r).items())])


def changes(result: dict[str, Any]) -> dict[str, Any]:
    """The settings in which a run differs from its preset."""
    preset = task_class(result["task"]).presets[result["preset"]]
    stored = {name: tuple(v) if isinstance(v, list) else v for name, v in result["config"].items()}
    return {name: v for name, v in stored.items() if getattr(preset, name, None) != v}


def collect(roots: Iterable[Path]) -> list[Found]:
    """All results below the folders, those of other programs left out; raises SpecError where there is none.

    Of runs that were done twice, with one seed, the newer counts: a seed that is taken for two would shrink the spread.
    """
    roots = list(roots)
    files = sorted({file for root in roots for file in root.rglob("*.json")}, key=lambda file: (file.stat().st_mtime_ns, file))
    found = {}
    for file in files:
        content = read_json(file)
        if isinstance(content, dict) and content.get("task") in TASKS and "metrics" in content:
            run = Found(content, file.parent if file.name == "result.json" else None)
            found[content["task"], run.label, content["seed"]] = run
    if not found:
        raise SpecError(f"no results in {', '.join(map(str, roots))}; `solverlayers run` and `compare` leave them.")
    return list(found.values())


def groups(found: Sequence[Found]) -> dict[str, dict[str, list[Found]]]:
    """Runs by task, then by what was run; in both the order is that of the tasks, then that of the names."""
    tree: dict[str, dict[str, list[Found]]] = {}
    for name in TASKS:
        for run in sorted((f for f in found if f.result["task"] == name), key=lambda f: (f.label, f.result["seed"])):
            tree.setdefault(name, {}).setdefault(run.label, []).append(run)
    return tree


def columns(task: str) -> tuple[str, ...]:
    """The measurements of a task that a table shows."""
    return (*task_class(task).columns, "solver_share", "seconds")


def rows(task: str, runs: dict[str, list[Found]], shown: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Header and cells: what was run, its seeds, and the measurements that at least one row has."""
    summary = summarise({label: [run.result for run in of] for label, of in runs.items()})
    names = [name for name in shown or columns(task) if any(row.get(name) is not None for row in summary)]
    header = ["run", "seeds", *(name.replace("_", " ") for name in names)]
    return header, [[row["rule"], str(row["seeds"]), *(cell(row, name) for name in names)] for row in summary]


def markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table of Markdown.

    >>> print(markdown(["run", "loss"], [["dab", "1.5"]]))
    | run | loss |
    |---|---|
    | dab | 1.5 |
    """
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("|" + "|".join("---" if c == "---" else f" {c} " for c in line) + "|" for line in lines)


def fill(text: str, found: Sequence[Found]) -> str:
    """A page whose blocks `<!-- results TASK [column ...] -->` to `<!-- end -->` hold the tables of the results.

    A last column with the title "the paper's figure" is kept as it stands: nobody can measure it.
    """
    tree = groups(found)

    def block(match: re.Match[str]) -> str:
        task = match["task"]
        if task not in tree:
            raise SpecError(f"there are no results of {task!r}, whose table is to be filled.")
        header, cells = rows(task, tree[task], match["columns"].split())
        figures = _figures(match["rows"])
        cells = [[f"`{cell[0]}`", *cell[1:], figures.get(f"`{cell[0]}`", "")] for cell in cells]
        if not figures:
            cells = [cell[:-1] for cell in cells]
        return match["open"] + markdown([*header, *([FIGURE] if figures else [])], cells) + "\n" + match["close"]

    filled, blocks = BLOCK.subn(block, text)
    if not blocks:
        raise SpecError("the page has no block <!-- results TASK --> ... <!-- end --> to be filled.")
    return filled


def _figures(table: str) -> dict[str, str]:
    """The hand-written last column of a table by its first."""
    lines = [[word.strip() for word in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    if not lines or lines[0][-1] != FIGURE:
        return {}
    return {line[0]: line[-1] for line in lines[2:]}
