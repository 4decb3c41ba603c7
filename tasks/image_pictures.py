"""Pictures of images: rows of them, and grids with what was said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .report import BAD, GOOD, INK, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_rows(file: Path, rows: Mapping[str, Tensor], title: str) -> None:
    """Images below each other, one kind to a row, with its name in front.  # each (K, C, H, W) in [0, 1]"""
    from matplotlib.figure import Figure

    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(1.5 + 0.9 * columns, 0.6 + 0.95 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for line, (name, images) in zip(figure.subplots(len(rows), columns, squeeze=False), rows.items()):
        for axes, image in zip(line, images):
            _show(axes, image)
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9, color=INK)
    save(figure, file)


def draw_answers(
    file: Path, grid: Sequence[tuple[str, Sequence[Tensor], Sequence[int], int]], columns: Sequence[str], title: str
) -> None:
    """An image in each row in several versions, above each the class that was seen, green where it is the true one.

    A row is its name, its K images (C, H, W) in [0, 1], the K answers, and the true class.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 + 1.1 * len(columns), 0.8 + 1.15 * len(grid)), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    for number, (line, (name, images, answers, truth)) in enumerate(
        zip(figure.subplots(len(grid), len(columns), squeeze=False), grid)
    ):
        for axes, image, answer, column in zip(line, images, answers, columns):
            _show(axes, image)
            caption = f"{column}\n{answer}" if number == 0 else str(answer)
            axes.set_title(caption, fontsize=9, pad=3, color=GOOD if answer == truth else BAD)
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9, color=INK)
    save(figure, file)


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
