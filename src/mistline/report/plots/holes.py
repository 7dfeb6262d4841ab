"""Holes in tissue that were filled: maps of a gene beside one another, and the error by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mistline.report.plots.theme import MODEL_COLOURS, Corner, Palette, legend_beside, panels, scale_bar, shortened

_PANEL_INCH, _TITLE_INCH, _GAP_INCH, _BAR_INCH = 2.3, 0.27, 0.08, 0.85
_MOST_COLUMNS = 4
_LONGEST_NAME = 30
_LEGEND_INCH = 2.5
_DASHES = ("-", "--", ":", "-.")  # where there are more models than colours


@dataclass(frozen=True)
class Maps:
    """One place of a slide, drawn once for each way of knowing it.

    Attributes:
        xy_um: [m, 2] cells, y downwards.
        panels: title -> [m] expression of the gene.
        hole_um: left, top, right and bottom of the hole.
        white: expression at the bright end of the scale; the dark end is 0.
        label: of the scale.
    """

    xy_um: NDArray[np.float64]
    panels: Mapping[str, NDArray[np.floating]]
    hole_um: tuple[float, float, float, float]
    white: float
    label: str


def maps(palette: Palette, drawn: Maps) -> Figure:
    """Draw the panels in rows, on one scale."""
    n = len(drawn.panels)
    columns = min(n, _MOST_COLUMNS)
    rows = -(-n // columns)
    extent = np.ptp(drawn.xy_um, axis=0)
    tall = _PANEL_INCH * float(np.clip(extent[1] / max(extent[0], 1e-9), 0.5, 1.6))
    step = tall + _TITLE_INCH
    width, height = columns * (_PANEL_INCH + _GAP_INCH) + _GAP_INCH + _BAR_INCH, rows * step + _GAP_INCH
    figure = Figure(figsize=(width, height))
    for number, (title, values) in enumerate(drawn.panels.items()):
        row, column = divmod(number, columns)
        left, bottom = _GAP_INCH + column * (_PANEL_INCH + _GAP_INCH), height - (row + 1) * step
        axes = figure.add_axes((left / width, bottom / height, _PANEL_INCH / width, tall / height))
        dots = _map(axes, palette, drawn, values)
        axes.set_title(shortened(title, _LONGEST_NAME), fontsize=9)
        if number == 0:
            (x0, x1), (y1, _) = axes.get_xlim(), axes.get_ylim()
            scale_bar(axes, Corner(x0, y1, x1 - x0), 1.0, colour=palette.ink, share=0.3)
    strip = ((width - _BAR_INCH + 0.1) / width, (height - step + 0.12) / height, 0.13 / width, 0.85 * tall / height)
    figure.colorbar(dots, cax=figure.add_axes(strip), label=drawn.label, extend="max")
    return figure


def _map(axes: Axes, palette: Palette, drawn: Maps, values: NDArray[np.floating]) -> PathCollection:
    """Draw one panel; return what the scale is of."""
    low, high = drawn.xy_um.min(axis=0), drawn.xy_um.max(axis=0)
    margin = max(0.02 * float((high - low).max()), 1.0)
    area = float(np.clip(0.5 * (_PANEL_INCH * 72) ** 2 / max(len(values), 1), 0.6, 40.0))
    dots = axes.scatter(
        drawn.xy_um[:, 0],
        drawn.xy_um[:, 1],
        c=values,
        s=area,
        cmap="viridis",
        vmin=0,
        vmax=drawn.white,
        linewidths=0,
        rasterized=True,
    )
    left, top, right, bottom = drawn.hole_um
    axes.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, ec=palette.ink, lw=0.9, ls=(0, (4, 3)))
    )
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(high[1] + margin, low[1] - margin), aspect="equal")
    axes.set_axis_off()
    return dots


@dataclass(frozen=True)
class Depths:
    """The error of one model by round.

    Attributes:
        name: of the model.
        rounds: [k].
        ratio, low, high: [k] to the control's error on the same cells, and its interval.
    """

    name: str
    rounds: Sequence[int]
    ratio: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def depths(palette: Palette, drawn: Sequence[Depths], colours: Mapping[str, str], control: str) -> Figure:
    """Draw the models' errors as shares of the control's, which is a line at 1."""
    figure, (axes,) = panels(1, size=(4.6, max(2.9, 0.6 + 0.2 * len(drawn))), gap=0.3)
    axes.axhline(1, color=palette.control, lw=1.4, ls=(0, (5, 2)), zorder=2, label=f"control: {control}")
    order = sorted(line.name for line in drawn)  # as colours are given out
    for place, line in enumerate(drawn):
        aside = np.asarray(line.rounds) + 0.05 * (place - (len(drawn) - 1) / 2) / max(len(drawn) / 6, 1)
        ends = np.array([np.subtract(line.ratio, line.low), np.subtract(line.high, line.ratio)]).clip(min=0)
        dashes = _DASHES[order.index(line.name) // len(MODEL_COLOURS) % len(_DASHES)]
        axes.errorbar(
            aside, line.ratio, ends, color=colours[line.name], lw=1.6, ls=dashes, marker="o", ms=4, elinewidth=0.9,
            zorder=3, label=shortened(line.name, _LONGEST_NAME),
        )  # fmt: skip
    axes.set(xlabel="round in which cells were filled", ylabel="RMSE, as a share of the control's")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(x=0.08)
    axes.grid(axis="y")
    legend_beside(figure, axes, _LEGEND_INCH)
    return figure
