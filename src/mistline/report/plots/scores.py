"""Scores of models and controls as points with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mistline.report.plots.theme import Palette


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
    rows = max(len(bars) for bars in metrics.values())
    figure = Figure(figsize=(2.2 + 2.6 * len(metrics), 0.75 + 0.27 * rows), layout="constrained")
    first: Axes | None = None
    for place, (metric, bars) in enumerate(metrics.items()):
        axes = figure.add_subplot(1, len(metrics), place + 1, sharey=first)
        _panel(axes, palette, metric, bars, colours)
        if first is None:
            first = axes
            axes.set_yticks(range(len(bars)), [f"control: {bar.name}" if bar.is_control else bar.name for bar in bars])
            axes.set_ylim(len(bars) - 0.4, -0.6)
        else:
            axes.tick_params(labelleft=False)
    return figure


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
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.08)
