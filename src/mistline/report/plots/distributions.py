"""Histograms: image intensities with the recorded window, and per-cell quantities as small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mistline.report.plots.theme import Palette, panels

_BINS = 40


@dataclass(frozen=True)
class Quantity:
    """Values of one kind, one a cell; those that are not finite are left out and the title's n says so."""

    title: str
    unit: str
    values: NDArray[np.float64]
    logarithmic: bool = False
    decimals: int = 0


@dataclass(frozen=True)
class Intensities:
    """A histogram of pixel values.

    Attributes:
        edges: [bins + 1] pixel values.
        counts: [bins] pixels.
        window: the values mapped to 0 and 255.
        unit: what the x axis shows.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    window: tuple[float, float]
    unit: str


def small_multiples(palette: Palette, quantities: Sequence[Quantity]) -> Figure:
    """Draw one histogram for each quantity, with its median and its number of cells."""
    figure, row = panels(len(quantities), size=(3.2, 2.5))
    for axes, quantity in zip(row, quantities, strict=True):
        _histogram(axes, palette, quantity)
    row[0].set_ylabel("cells")
    return figure


def intensity(palette: Palette, data: Intensities) -> Figure:
    """Draw the histogram of intensities on a logarithmic count axis, with the recorded window."""
    figure, (axes,) = panels(1, size=(4.6, 2.5))
    axes.stairs(np.maximum(data.counts, 0.5), data.edges, fill=True, color=palette.main, alpha=0.85, baseline=0.5)
    axes.set(yscale="log", ylabel="pixels", xlabel=data.unit, xlim=(data.edges[0], data.edges[-1]))
    axes.set_ylim(0.5, max(data.counts.max(), 1) * 4)
    for value, name, side in ((data.window[0], "→ 0", "left"), (data.window[1], "→ 255", "right")):
        axes.axvline(value, color=palette.accent, lw=1.3)
        axes.annotate(
            f"{value:.0f} {name}", (value, 1), (4 if side == "left" else -4, -3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha=side, va="top", fontsize=8.5, color=palette.accent,
        )  # fmt: skip
    axes.set_title(f"n = {int(data.counts.sum()):,} pixels")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_minor_locator(NullLocator())
    return figure


def counts_histogram(palette: Palette, quantity: Quantity, ylabel: str) -> Figure:
    """Draw one histogram whose items are not cells."""
    figure, (axes,) = panels(1, size=(4.6, 2.6))
    _histogram(axes, palette, quantity)
    axes.set_ylabel(ylabel)
    return figure


def _histogram(axes: Axes, palette: Palette, quantity: Quantity) -> None:
    finite = quantity.values[np.isfinite(quantity.values)]
    axes.set_title(f"{quantity.title}  (n = {len(finite):,})")
    axes.set_xlabel(quantity.unit)
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if len(finite) == 0:
        axes.text(0.5, 0.5, "no value", ha="center", va="center", transform=axes.transAxes, color=palette.soft)
        return
    axes.hist(finite, bins=_edges(finite, quantity), color=palette.main, alpha=0.85)
    if quantity.logarithmic:
        _logarithmic(axes, finite)
    median = float(np.median(finite))
    axes.axvline(median, color=palette.accent, lw=1.3)
    axes.annotate(
        f"median {median:,.{quantity.decimals}f}", (1, 1), (0, -2), xycoords="axes fraction",
        textcoords="offset points", ha="right", va="top", fontsize=8.5, color=palette.accent,
    )  # fmt: skip
    axes.set_ylim(0, axes.get_ylim()[1] * 1.16)


def _logarithmic(axes: Axes, values: NDArray[np.float64]) -> None:
    axes.set_xscale("log")
    decades = np.log10(values.max() / max(values.min(), 1e-9))
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if decades > 2.5 else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _edges(values: NDArray[np.float64], quantity: Quantity) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if quantity.logarithmic:
        low = max(low, 1.0)
        return np.geomspace(low, max(high, low * 1.5), _BINS + 1)
    if np.all(values == np.round(values)) and high - low < _BINS:  # a bar for every whole number: no comb of gaps
        return np.arange(low - 0.5, high + 1.5)
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
