"""The plane of rate and distortion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import report

Path2D = tuple[list[tuple[float, float]], list[str]]
"""Points (rate, distortion), and what is written beside each."""


def sweeps(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Path2D]:
    """The runs of a comparison by rule: a point for each value of the sweep, the mean over its seeds."""
    found: dict[str, Path2D] = {}
    for label, runs in results.items():
        swept = runs[0]["swept"]
        points, names = found.setdefault(label.removesuffix(f", {swept}") if swept else label, ([], []))
        points.append(tuple(sum(r["metrics"][of] for r in runs) / len(runs) for of in ("rate", "distortion")))  # type: ignore[arg-type]
        names.append(swept or "")
    return found


def draw_plane(file: Path, paths: Mapping[str, Path2D]) -> None:
    """The plane of rate and distortion, with lines of equal evidence lower bound (Alemi et al., 2018)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for label, (points, names) in paths.items():
        axes.plot(*zip(*points), "o-", markersize=5, linewidth=1.2, label=label)
        for point, name in zip(points, names):
            axes.annotate(name, point, xytext=(5, 4), textcoords="offset points", fontsize=7, color=report.INK)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(8).tick_values(left + low, right + high):
        axes.plot([left, right], [total - left, total - right], color=report.LIGHT, linewidth=0.7, zorder=0)
        if low < total - right < high:
            axes.annotate(f"{total:g}", (right, total - right), fontsize=7, color="gray", va="center")
    axes.set(xlim=(left, right), ylim=(low, high), xlabel="rate R, nats", ylabel="distortion D, nats (unseen images)")
    axes.set_title("grey lines: equal D + R, the negative ELBO", fontsize=10, color=report.INK)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    report.save(figure, file)
