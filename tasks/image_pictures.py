"""Pictures of images: rows of them, with what was said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from .report import BAD, GOOD, INK, save


@dataclass(frozen=True)
class Row:
    """Images (K, C, H, W) in [0, 1], all of a picture alike, behind their name; of each what is seen and what is true."""

    name: str
    images: Tensor
    seen: Sequence[int] = ()
    truth: Sequence[int] = ()


def draw_rows(file: Path, rows: Mapping[str, Tensor], title: str) -> None:
    """Images below each other, one kind to a row, behind its name.  # each (K, C, H, W) in [0, 1]"""
    draw_answers(file, [Row(name, images) for name, images in rows.items()], title)


def draw_answers(file: Path, rows: Sequence[Row], title: str, columns: Sequence[str] = ()) -> None:
    """Rows below each other, under the names of their columns; what is seen is green where it is true.

    All is one mosaic: an `Axes` for each image would take a second and more to lay out.
    """
    from matplotlib.figure import Figure

    count, _, height, width = rows[0].images.shape
    above = height // 3 if rows[0].seen else 2  # room for the class
    mosaic = torch.cat([torch.cat(list(functional.pad(row.images, (1, 1, above, 1), value=1.0)), 2) for row in rows], 1)
    figure = Figure(
        figsize=(2.4 + 0.8 * count * width / height, 0.8 + 0.8 * len(rows) * (above + 1 + height) / height),
        layout="constrained",
    )
    figure.suptitle(title, fontsize=11, color=INK)
    axes = figure.subplots()
    axes.imshow(mosaic.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([(k + 0.5) * (width + 2) for k in range(len(columns))], columns, fontsize=9)
    step = above + 1 + height
    axes.set_yticks([k * step + above + height / 2 for k in range(len(rows))], [row.name for row in rows], fontsize=9)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    for k, row in enumerate(rows):
        for j, (answer, truth) in enumerate(zip(row.seen, row.truth, strict=True)):
            place = (j + 0.5) * (width + 2), k * step + above / 2
            colour = GOOD if answer == truth else BAD
            axes.text(*place, str(answer), ha="center", va="center", fontsize=9, color=colour)
    save(figure, file)
