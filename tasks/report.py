"""What a run leaves behind: numbers, tables and pictures."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .specs import SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .base import Task
    from .keypoints import PairBatch
    from .running import Run

History = Sequence[Mapping[str, Any]]
INK, LIGHT, GOOD, BAD = "#1b1b1b", "#d9d9d9", "#1b7f3b", "#c0392b"
PACKAGES = ("solverlayers", "torch", "numpy", "scipy", "lightning", "matplotlib")
LABELS = {
    "loss": "loss",
    "negative_elbo": "negative ELBO, nats",
    "train_negative_elbo": "negative ELBO in training, nats",
    "importance_bound": "importance-weighted bound, nats",
    "bce_plus_kl": "cross-entropy + KL, nats",
    "auxiliary_loss": "loss of the rule's own network",
    "exact_match": "exact match",
    "element_accuracy": "right positions",
    "train_exact_match": "exact match in training",
    "solver_share": "share of training spent in the solver",
    "label_share": "paths that equal the label",
    "hamming": "hamming (share of wrong entries)",
    "regret": "regret",
    "cost_ratio": "cost / optimal cost",
    "cell_accuracy": "right cells",
    "agreement": "agreement of the approximator",
    "moved": "moved (share with a gradient)",
    "solver_seconds": "solver seconds",
    "reconstruction_error": "squared error of a pixel",
    "linear_accuracy": "accuracy of a linear classifier on the code",
    "active_share": "share of code units that vary",
    "accuracy": "accuracy",
    "corrupted_accuracy": "accuracy on corrupted images",
}
SHARES = {"exact_match", "train_exact_match", "hamming", "cost_ratio", "agreement", "moved"}


class Quality(Protocol):
    """How good a gradient is: `solverlayers.diagnostics.GradientQuality`, or what has these of it."""

    @property
    def bias(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def cosine(self) -> float: ...


def is_share(name: str) -> bool:
    """Whether a measurement is read in per cent: one of `SHARES`, any share or accuracy."""
    return name in SHARES or not {"accuracy", "share"}.isdisjoint(name.split("_"))


def versions() -> dict[str, str]:
    """Versions of Python and of what results depend on."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed (a checkout)" if package == "solverlayers" else "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the checkout that runs, with `+changes` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not (here.parent / ".git").exists():  # installed into somebody else's repository, perhaps
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_result(run: Run, task: Task, folder: Path, together: Sequence[int] = ()) -> dict[str, Any]:
    """Pictures first, `result.json` last: where it is, the run is complete. Returns its content.

    `together` are the seeds that were trained as one model; times are then those of all.
    """
    last = task.history[-1]
    device = torch.cuda.get_device_name() if task.device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    result = {
        **dataclasses.asdict(run),
        "spec": run.rule,
        "rule": repr(task.rule),
        "noise": None if task.noise is None else repr(task.noise),
        "metrics": task.metrics(),
        "together": list(together),
        "seconds": last["seconds"],
        "cpu_seconds": last["cpu_seconds"],
        "device": device,
        "data": task.note,
        "versions": versions(),
        "git_commit": git_commit(),
        "history": task.history,
    }
    draw_curves(folder / "curve.png", {run.rule: [task.history]}, f"{run.task}, {run.name}", task.headline)
    with torch.no_grad():
        task.draw(folder)
    write_json(folder / "result.json", result)
    return result


def read_result(folder: Path) -> dict[str, Any]:
    """What `write_result` wrote."""
    found: dict[str, Any] = read_json(folder / "result.json", ("task", "metrics", "history"))
    return found


def read_json(file: Path, keys: Collection[str] = ()) -> Any:
    """The content of a file; raises SpecError, which names it, if it is none, or lacks keys that it should have."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(f"{file} cannot be read ({error}). Remove it, or the folder that it is in.") from error
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if lacking:
        raise SpecError(f"{file} has no {', '.join(lacking)}. Remove it, or the folder that it is in.")
    return content


def write_json(file: Path, content: Any) -> None:
    """Write all or nothing: a run that is killed here leaves no half file."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    part.replace(file)


def result_table(result: Mapping[str, Any], folder: Path) -> str:
    """The short table at the end of a run."""
    metrics = result["metrics"]
    ordered = dict.fromkeys(name for name in (*LABELS, *metrics) if name in metrics)
    rows = [(LABELS.get(name, name), readable(name, metrics[name])) for name in ordered]
    seconds, of_cpu = (f"{time:.0f}" if time >= 10 else f"{time:.1f}" for time in (result["seconds"], result["cpu_seconds"]))
    rows.append(("seconds", f"{seconds} ({of_cpu} of CPU)"))
    projection = f", projection {result['projection']}" if result["projection"] else ""
    noise = f", noise {result['noise']}" if result["noise"] else ""
    title = f"{result['task']}: {result['rule']}{projection}{noise}, preset {result['preset']}, seed {result['seed']}"
    return "\n".join([title, table(rows), *advice(metrics), f"written to {folder}"])


def advice(metrics: Mapping[str, float]) -> list[str]:
    """What to do where almost no gradient passed."""
    if metrics.get("moved", 1.0) > 0.01:
        return []
    return ["hardly any gradient passed the solver: try a larger step, of the order of |scores| / |gradient|, or step='auto'"]


def readable(name: str, value: float) -> str:
    """A share in per cent, anything else with four digits."""
    return f"{100 * value:.2f} %" if is_share(name) else f"{value:.4g}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> str:
    """Text columns, the first to the left and the others to the right.

    >>> print(table([("loss", "1.5"), ("hamming", "20.00 %")]))
      loss         1.5
      hamming  20.00 %
    """
    lines = [list(map(str, row)) for row in ([header] if header else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ["  " + "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    if header:
        text.insert(1, "  " + "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row, the columns of the first."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# ---- pictures; Figure without pyplot needs no screen and keeps no global state ----


def draw_curves(
    file: Path | IO[bytes], runs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], title: str, headline: str
) -> None:
    """Headline and loss on unseen instances against training steps: the mean over the runs of a name, and their range.

    Where the headline is the loss it is drawn once.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    records = [record["test"] for histories in runs.values() for history in histories for record in history]
    same = all(math.isclose(record[headline], record["loss"], rel_tol=1e-5) for record in records)
    names = [headline] if same else [headline, "loss"]
    figure = Figure(figsize=(5 * len(names), 4 + 0.22 * len(runs)), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        for rule, histories in runs.items():
            _draw_band(axes, histories, name, rule)
        axes.set_xlabel("training steps")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(f"{LABELS.get(name, name)}{', %' if is_share(name) else ''}, unseen instances")
        axes.grid(color=LIGHT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    if is_share(headline):
        figure.axes[0].set_ylim(-2, 102)
    if len(runs) > 1:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=9)
    save(figure, file)


def _draw_band(axes: Axes, histories: Sequence[History], name: str, label: str) -> None:
    length = min(map(len, histories))
    steps = [record["step"] for record in histories[0][:length]]
    scale = 100 if is_share(name) else 1
    values = torch.tensor([[scale * record["test"][name] for record in history[:length]] for history in histories])
    line = axes.plot(steps, values.mean(0).tolist(), label=label, linewidth=1.8, marker="." if length < 30 else None)[0]
    if len(histories) > 1:
        low, high = values.aminmax(dim=0)
        axes.fill_between(steps, low.tolist(), high.tolist(), color=line.get_color(), alpha=0.18, linewidth=0)


def draw_sequences(file: Path, truth: Tensor, predicted: Tensor) -> None:
    """Sorted sequences as bars; a number at the wrong position is red, with the outline of the right one.  # (K, n), (K, n)"""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    figure.suptitle("numbers in the predicted order (bars), the true order (outlines); red: wrong", fontsize=11, color=INK)
    for axes, right, ours in zip(figure.subplots(2, -(-len(truth) // 2)).flat, truth.tolist(), predicted.tolist()):
        positions = range(len(right))
        axes.bar(positions, ours, width=0.8, color=[GOOD if a == b else BAD for a, b in zip(ours, right)], alpha=0.75)
        axes.bar(positions, right, width=0.8, fill=False, edgecolor=INK, linewidth=1.2)
        axes.set_ylim(0, 1.05)
        axes.set_xticks(positions, [f"{value:.2f}" for value in ours], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, file)


def draw_maps(file: Path, images: Tensor, seen: Tensor, costs: Tensor, path: Tensor, truth: Tensor) -> None:
    """A map in each row: its image, the costs the network sees with the path it takes, the true costs with the cheapest path.

    Shapes: images (K, 3, H * P, W * P) uint8, all others (K, H, W).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(images), 8.2), layout="constrained")
    grid = figure.subplots(3, len(images), squeeze=False)
    for k in range(len(images)):
        paid, best = (float((costs[k] * p[k]).sum()) for p in (path, truth))
        optimal = paid <= best * (1 + 1e-5)
        panels = (
            (images[k].permute(1, 2, 0), None, "the image"),
            (seen[k], path[k], f"costs seen, path taken: pays {paid:.1f}"),
            (costs[k], truth[k], f"true costs, cheapest path: {best:.1f}"),
        )
        for axes, (picture, way, caption) in zip(grid[:, k], panels):
            axes.imshow(picture.numpy(), cmap="viridis")
            if way is not None:
                y, x = way.nonzero(as_tuple=True)
                axes.plot(x.tolist(), y.tolist(), "o", color="white", markeredgecolor=INK, markersize=6)
            axes.set_title(caption, fontsize=8, color=INK)
            axes.set_axis_off()
        grid[1, k].title.set_color(GOOD if optimal else BAD)
    save(figure, file)


def draw_matchings(file: Path, pairs: PairBatch, y: Tensor) -> None:
    """Two graphs side by side in each panel, a line for each match: green where it is true, red where not.  # (K, n, m)"""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6 * -(-len(y) // 2)), layout="constrained")
    figure.suptitle("matched points; green: right, red: wrong", fontsize=11, color=INK)
    for k, axes in zip(range(len(y)), figure.subplots(-(-len(y) // 2), 2, squeeze=False).flat):
        sides = [pairs.points1[k].cpu() * torch.tensor([1, -1]), pairs.points2[k].cpu() * torch.tensor([1, -1])]
        sides[1] = sides[1] + torch.tensor([6.0, 0.0])  # points have unit variance
        for points, mask, edges in zip(sides, (pairs.mask1[k], pairs.mask2[k]), (pairs.edges1[k], pairs.edges2[k])):
            for i, j in edges.mT[edges[0] >= 0].tolist():
                axes.plot(*points[[i, j]].T.tolist(), color=LIGHT, linewidth=0.8, zorder=1)
            axes.plot(*points[mask.cpu()].T.tolist(), "o", color=INK, markersize=4, zorder=3)
        for i, j in y[k].nonzero().tolist():
            colour = GOOD if pairs.truth[k, i, j] else BAD
            axes.plot(*torch.stack([sides[0][i], sides[1][j]]).T.tolist(), color=colour, linewidth=1, alpha=0.8, zorder=2)
        axes.set_axis_off()
    save(figure, file)


def draw_quality(file: Path, qualities: Mapping[str, Quality], title: str) -> None:
    """Bias against standard deviation, one dot per rule; both relative to the exact gradient, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    floor = 1e-3  # where a rule without any spread is drawn
    for number, (spec, q) in enumerate(sorted(qualities.items(), key=lambda found: -found[1].cosine), start=1):
        colour = GOOD if q.cosine > 0.9 else BAD if q.cosine < 0.5 else INK
        place = max(q.std, floor), max(q.bias, floor)
        axes.plot(*place, "o", color=colour, markersize=6, label=f"{number}  {spec}: {q.cosine:.2f}")
        shift = (-12 if number % 2 else 6, 4)
        axes.annotate(str(number), place, xytext=shift, textcoords="offset points", fontsize=8, color=INK)
    axes.legend(
        title="rule: cosine with the exact gradient", loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.tick_params(axis="x", which="minor", labelsize=7, labelrotation=60)
    axes.set_xlabel("standard deviation / size of the exact gradient (left edge: none)")
    axes.set_ylabel("bias / size of the exact gradient")
    axes.set_title(title, fontsize=11, color=INK)
    axes.grid(color=LIGHT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, file)


def save(figure: Figure, file: Path | IO[bytes]) -> None:
    """Write a picture on white."""
    figure.savefig(file, dpi=110, facecolor="white")
