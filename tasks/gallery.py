"""One page of all runs at hand: tables, curves and pictures in a single HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from . import report, tables
from .catalogue import task_summary
from .running import task_class
from .tables import Found

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { font-weight: 600; } h2 { margin-top: 3rem; border-top: 1px solid #d9d9d9; padding-top: 1.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .8rem; border-bottom: 1px solid #e6e6e6; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 16rem; } .wide { overflow-x: auto; }
img { max-width: 100%; } figure { margin: 1.2rem 0; } figcaption, .note { color: #555; }
code { background: #f3f3f3; padding: .1rem .3rem; } nav a { margin-right: 1rem; }
"""


def render(found: Sequence[Found]) -> str:
    """The page."""
    tree = tables.groups(found)
    links = "".join(f'<a href="#{name}">{escape(name)}</a>' for name in tree)
    parts = [_section(name, runs) for name, runs in tree.items()]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>solverlayers: runs</title><style>{STYLE}</style>'
        f"</head><body><h1>solverlayers: runs</h1><nav>{links}</nav>{''.join(parts)}</body></html>\n"
    )


def _section(task: str, runs: dict[str, list[Found]]) -> str:
    header, cells = tables.rows(task, runs)
    curves = {label: [run.result["history"] for run in of] for label, of in runs.items()}
    image = io.BytesIO()
    report.draw_curves(image, curves, "mean and range over the seeds", task_class(task).headline)
    pictures = "".join(_pictures(label, of[0]) for label, of in runs.items())
    notes = sorted({run.result["data"] for of in runs.values() for run in of if run.result.get("data")})
    data = f'<p class="note">Data: {escape("; ".join(notes))}.</p>' if notes else ""
    return (
        f'<h2 id="{task}">{escape(task)}</h2><p>{escape(task_summary(task))}</p>{data}'
        f'<div class="wide">{_table(header, cells)}</div>{_figure(image.getvalue(), "")}{pictures}'
    )


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _pictures(label: str, run: Found) -> str:
    """All pictures of a run but the curve, which is drawn for all runs together."""
    if run.folder is None:
        return ""
    files = sorted(file for file in run.folder.glob("*.png") if file.name != "curve.png")
    captions = (f"<code>{escape(label)}</code>, seed {run.result['seed']}: {file.stem.replace('_', ' ')}" for file in files)
    return "".join(_figure(file.read_bytes(), caption) for file, caption in zip(files, captions))


def _figure(png: bytes, caption: str) -> str:
    image = f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f"<figure>{image}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


def write(found: Sequence[Found], file: Path) -> None:
    """Write the page, its folder too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render(found), encoding="utf-8")
