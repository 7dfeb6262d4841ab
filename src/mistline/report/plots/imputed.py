"""Imputed genes: maps of each gene beside what was measured, and how far the methods' sd can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from mistline.report.plots.theme import MODEL_COLOURS, Corner, Palette, legend_beside, panels, scale_bar, shortened

_PANEL_INCH, _GAP_INCH, _BAR_INCH = 2.2, 0.08, 0.95
_HEAD_INCH, _GENE_INCH, _FOOT_INCH = 0.3, 0.26, 0.24
_LONGEST_NAME = 28
_LEGEND_INCH = 2.3
_DASHES = ("-", "--", ":", "-.")  # where there are more models than colours


@dataclass(frozen=True)
class Gene:
    """One gene on one slide, told several ways.

    Attributes:
        title: its name and what is known of it.
        panels: title -> [n] values; what was measured comes first.
        notes: [panels] lines below them.
        white: value at the bright end of the scale; the dark end is 0.
    """

    title: str
    panels: Mapping[str, NDArray[np.floating]]
    notes: Sequence[str]
    white: float


def maps(palette: Palette, xy_um: NDArray[np.float64], genes: Sequence[Gene]) -> Figure:
    """Draw a row a gene, its panels on one scale.

    Args:
        palette: inks.
        xy_um: [n, 2] cells, y downwards.
        genes: which all have the same panels.
    """
    n = len(genes[0].panels)
    extent = np.ptp(xy_um, axis=0)
    tall = _PANEL_INCH * float(np.clip(extent[1] / max(extent[0], 1e-9), 0.45, 1.6))
    step = _GENE_INCH + tall + _FOOT_INCH
    width, height = n * (_PANEL_INCH + _GAP_INCH) + _GAP_INCH + _BAR_INCH, _HEAD_INCH + len(genes) * step + _GAP_INCH
    figure = Figure(figsize=(width, height))
    for row, gene in enumerate(genes):
        top = height - _HEAD_INCH - row * step
        figure.text(_GAP_INCH / width, (top - 0.7 * _GENE_INCH) / height, gene.title, weight="bold", fontsize=9.5)
        bottom = top - _GENE_INCH - tall
        for column, ((title, values), note) in enumerate(zip(gene.panels.items(), gene.notes, strict=True)):
            left = _GAP_INCH + column * (_PANEL_INCH + _GAP_INCH)
            axes = figure.add_axes((left / width, bottom / height, _PANEL_INCH / width, tall / height))
            dots = _map(axes, xy_um, values, gene.white)
            middle = (left + _PANEL_INCH / 2) / width
            figure.text(middle, (bottom - 0.7 * _FOOT_INCH) / height, note, ha="center", fontsize=8.5)
            if row == 0:
                place = (height - 0.65 * _HEAD_INCH) / height
                figure.text(middle, place, shortened(title, _LONGEST_NAME), ha="center", weight="bold", fontsize=9)
            if row == column == 0:
                (x0, x1), (y1, _) = axes.get_xlim(), axes.get_ylim()
                scale_bar(axes, Corner(x0, y1, x1 - x0), 1.0, colour=palette.ink, share=0.3)
        strip = ((width - _BAR_INCH + 0.1) / width, (bottom + 0.06) / height, 0.13 / width, 0.9 * tall / height)
        figure.colorbar(dots, cax=figure.add_axes(strip), label="log-normalised", extend="max")
    return figure


def _map(axes: Axes, xy_um: NDArray[np.float64], values: NDArray[np.floating], white: float) -> PathCollection:
    """Draw one panel, high values over low ones; return what the scale is of."""
    low, high = xy_um.min(axis=0), xy_um.max(axis=0)
    margin = max(0.02 * float((high - low).max()), 1.0)
    area = float(np.clip(0.5 * (_PANEL_INCH * 72) ** 2 / max(len(values), 1), 0.6, 40.0))
    order = np.argsort(values, kind="stable")
    dots = axes.scatter(
        xy_um[order, 0], xy_um[order, 1], c=values[order], s=area, cmap="viridis", vmin=0, vmax=white, linewidths=0,
        rasterized=True,
    )  # fmt: skip
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(high[1] + margin, low[1] - margin), aspect="equal")
    axes.set_axis_off()
    return dots


@dataclass(frozen=True)
class Calibration:
    """How often the truth lay inside a model's intervals.

    Attributes:
        name: of the model.
        nominal: [k] shares that intervals of its sd claim to hold.
        covered: [k] shares that they held.
    """

    name: str
    nominal: Sequence[float]
    covered: Sequence[float]


def calibration(palette: Palette, drawn: Sequence[Calibration], colours: Mapping[str, str]) -> Figure:
    """Draw the shares held against the shares claimed; a model that knows how unsure it is lies on the diagonal."""
    figure, (axes,) = panels(1, size=(3.6, max(3.5, 0.6 + 0.2 * len(drawn))), gap=0.3)
    axes.plot([0, 1], [0, 1], color=palette.control, lw=1.4, ls=(0, (5, 2)), zorder=2, label="as claimed")
    order = sorted(line.name for line in drawn)  # as colours are given out
    for line in drawn:
        dashes = _DASHES[order.index(line.name) // len(MODEL_COLOURS) % len(_DASHES)]
        axes.plot(
            line.nominal, line.covered, color=colours[line.name], lw=1.6, ls=dashes, marker="o", ms=4, zorder=3,
            label=shortened(line.name, _LONGEST_NAME),
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share that the interval claims", ylabel="share that it held")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.grid()
    legend_beside(figure, axes, _LEGEND_INCH)
    return figure
