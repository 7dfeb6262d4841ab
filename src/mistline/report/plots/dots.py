"""Dots of cells in several panels with one legend: maps of the tissue, and maps of an embedding."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mistline.report.plots.theme import Corner, Palette, scale_bar

_SIDE_INCH = 3.4
_TITLE_INCH = 0.3
_GAP_INCH = 0.12
_LEGEND_ROW_INCH = 0.21
_REST = "#3a4048"  # cells that are not asked about


@dataclass(frozen=True)
class Dots:
    """One panel.

    Attributes:
        title: above it.
        group: [n] name of each cell's group; None for cells that have none, drawn dim and below.
    """

    title: str
    group: NDArray[np.object_]


def dots(
    palette: Palette,
    xy: NDArray[np.float64],
    drawn: Sequence[Dots],
    colours: Mapping[str, str],
    is_tissue: bool,
) -> Figure:
    """Draw the same cells once a panel.

    Args:
        palette: inks.
        xy: [n, 2]; of tissue in micrometres with y downwards, each panel then has a scale bar.
        drawn: the panels.
        colours: group -> colour, in the order of the legend.
        is_tissue: whether the places are of a tissue, whose sides keep their proportion.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.03 * max(float((high - low).max()), 1e-9)
    low, high = low - margin, high + margin
    extent = high - low
    aspect = float(np.clip(extent[1] / extent[0], 0.3, 1.6)) if is_tissue else 0.85
    height = _SIDE_INCH * aspect
    width = len(drawn) * (_SIDE_INCH + _GAP_INCH)
    entries, columns = _legend_entries(colours, width)
    strip = -(-len(entries) // columns) * _LEGEND_ROW_INCH + 0.1
    figure = Figure(figsize=(width, height + _TITLE_INCH + strip))
    for place, panel in enumerate(drawn):
        box = (place * (_SIDE_INCH + _GAP_INCH) / width, strip / (height + _TITLE_INCH + strip), _SIDE_INCH / width)
        axes = figure.add_axes((*box, height / (height + _TITLE_INCH + strip)))
        axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]) if is_tissue else (low[1], high[1]))
        axes.set_aspect("equal" if is_tissue else "auto", adjustable="datalim")
        axes.set_axis_off()
        _scatter(axes, xy, panel.group, colours, _area(height, len(xy)))
        axes.text(0.015, 1.02, panel.title, transform=axes.transAxes, fontsize=9.5, fontweight="bold", va="bottom")
        if is_tissue:
            scale_bar(axes, Corner(low[0], high[1], extent[0]), 1.0, colour=palette.ink)
    handles = [Line2D([], [], marker="o", ls="", ms=5.5, color=colours[name]) for name in entries]
    labels = [textwrap.shorten(name, 26, placeholder="…") for name in entries]
    figure.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=columns, handletextpad=0.1,
        columnspacing=0.9, labelspacing=0.35, borderaxespad=0.2, borderpad=0.1,
    )  # fmt: skip
    return figure


def _legend_entries(colours: Mapping[str, str], width: float) -> tuple[list[str], int]:
    names = list(colours)
    longest = min(max(map(len, names), default=1), 26)
    return names, max(1, min(len(names), int(width / (0.085 * longest + 0.28))))


def _scatter(
    axes: Axes, xy: NDArray[np.float64], group: NDArray[np.object_], colours: Mapping[str, str], area: float
) -> None:
    known = np.array([name in colours for name in group], dtype=bool)
    axes.scatter(*xy[~known].T, c=_REST, s=area, linewidths=0, rasterized=True)
    axes.scatter(
        *xy[known].T, c=[colours[name] for name in group[known]], s=area, linewidths=0, alpha=0.95, rasterized=True
    )


def _area(height: float, n: int) -> float:
    """Return a marker's area in square points that lets `n` cells just touch one another."""
    return float(np.clip(0.5 * _SIDE_INCH * height * 72**2 / max(n, 1), 0.4, 30.0))
