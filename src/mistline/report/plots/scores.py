"""Scores of models and controls as points with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mistline.report.plots.theme import Palette, panels

_LONGEST_NAME = 40


@dataclass(frozen=True)
class Bar:
    """One row: a model or a control, its value and its interval (None where there is none)."""

    name: str
    is_control: bool
    value: float | None
    low: float | None
    high: float | None


def scores(palette: Palette, metrics: Mapping[str, Sequence[Bar]], colours: Mapping[str, str]) -> Figure:
    """Draw one panel a metric; models in their own colour, controls hollow and grey."""
    names = [_label(bar) for bar in next(iter(metrics.values()))]
    left = 0.3 + 0.078 * max(map(len, names))
    figure, row = panels(len(metrics), size=(2.6, 0.95 + 0.27 * len(names)), left=left, gap=0.25)
    for axes, (metric, bars) in zip(row, metrics.items(), strict=True):
        _panel(axes, palette, metric, bars, colours)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_yticks(range(len(names)), names if axes is row[0] else [])
    return figure


def _label(bar: Bar) -> str:
    return shorten(f"control: {bar.name}" if bar.is_control else bar.name, _LONGEST_NAME, placeholder="…")


def _panel(axes: Axes, palette: Palette, metric: str, bars: Sequence[Bar], colours: Mapping[str, str]) -> None:
    for row, bar in enumerate(bars):
        if bar.value is None:
            continue
        colour = palette.control if bar.is_control else colours[bar.name]
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [row, row], color=colour, lw=2.2, solid_capstyle="round", zorder=2)
        face = palette.paper if bar.is_control else colour
        axes.plot(bar.value, row, "o", ms=6.5, mfc=face, mec=colour, mew=1.6, zorder=3)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(metric)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.08)
