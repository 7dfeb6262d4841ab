"""Confusion matrices: what cells of a class were taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mistline.report.plots.theme import Palette

_MOST_NUMBERS = 14  # classes above which the fields are too small for numbers
_LONGEST_NAME = 18


@dataclass(frozen=True)
class Matrix:
    """One matrix.

    Attributes:
        title: whose answers they are.
        counts: [true, predicted] cells.
    """

    title: str
    counts: NDArray[np.float64]


def confusion(palette: Palette, matrices: Sequence[Matrix], classes: Sequence[str]) -> Figure:
    """Draw matrices side by side; each row is divided by its cells, so that the diagonal is the recall."""
    names = [shorten(name, _LONGEST_NAME, placeholder="…") for name in classes]
    field = 0.42 if len(names) <= _MOST_NUMBERS else max(0.16, 5.6 / len(names))
    text = 0.085 * max(map(len, names))
    left, gap, bottom, top = 0.45 + text, 0.35, 0.35 + text, 0.4
    side = max(field * len(names), 0.105 * max(len(matrix.title) for matrix in matrices) - gap, 1.9)
    width, height = left + len(matrices) * (side + gap), bottom + side + top
    figure = Figure(figsize=(width, height))
    colours = LinearSegmentedColormap.from_list("confusion", [palette.paper, palette.main])
    for place, matrix in enumerate(matrices):
        axes = figure.add_axes(((left + place * (side + gap)) / width, bottom / height, side / width, side / height))
        _draw(axes, palette, matrix, names, colours)
        axes.set_yticks(range(len(names)), names if place == 0 else [])
    figure.axes[0].set_ylabel("labelled")
    return figure


def _draw(axes: Axes, palette: Palette, matrix: Matrix, names: Sequence[str], colours: LinearSegmentedColormap) -> None:
    total = matrix.counts.sum(axis=1, keepdims=True)
    share = np.divide(matrix.counts, total, out=np.zeros_like(matrix.counts), where=total > 0)
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="equal")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set(title=matrix.title, xlabel="answered")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
    if len(names) > _MOST_NUMBERS:
        return
    for (true, answered), value in np.ndenumerate(share):
        if value >= 0.005:
            ink = palette.paper if value > 0.55 else palette.ink
            axes.text(answered, true, f"{value:.2f}"[1:] if value < 0.995 else "1", ha="center", va="center",
                      fontsize=7.5, color=ink)  # fmt: skip
