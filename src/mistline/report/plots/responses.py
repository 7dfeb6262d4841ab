"""Lines of what images answer: a nucleus to the levels of an edit, and quality to speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mistline.report.plots.theme import MODEL_COLOURS, Palette, panels

_LEGEND_INCH = 2.1
_MARKERS = ("o", "s", "^", "D", "v")
_TIMES = (0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
_FAINT = 12  # cells above which their own lines are not drawn


@dataclass(frozen=True)
class Response:
    """A measure of the nucleus over the levels of an edit.

    Attributes:
        title, unit: of the measure.
        ways: name of a way of drawing -> [cells, levels].
        controls: the ways among them that are controls.
    """

    title: str
    unit: str
    ways: Mapping[str, NDArray[np.float64]]
    controls: frozenset[str] = frozenset()


def responses(palette: Palette, drawn: Sequence[Response], levels: Sequence[str], label: str) -> Figure:
    """Draw a panel a measure: each cell's line and their mean, over levels that are evenly apart."""
    figure, row = panels(len(drawn), size=(3.0, 2.7), gap=0.72)
    places = np.arange(len(levels))
    styles = {name: _style(palette, number, name in drawn[0].controls) for number, name in enumerate(drawn[0].ways)}
    for axes, response in zip(row, drawn, strict=True):
        for name, values in response.ways.items():
            colour, dashes = styles[name]
            if name not in response.controls and len(values) <= _FAINT:
                axes.plot(places, values.T, color=colour, lw=0.8, alpha=0.35, zorder=2)
            axes.plot(places, values.mean(axis=0), "o-", color=colour, lw=1.9, ms=4, dashes=dashes, zorder=3)
        axes.set_xticks(places, levels)
        axes.set(title=response.title, xlabel=label, ylabel=response.unit)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
        axes.margins(x=0.06)
    handles = [
        Line2D([], [], color=colour, marker="o", ms=4, lw=1.9, dashes=dashes) for colour, dashes in styles.values()
    ]
    _legend(figure, row, handles, list(styles))
    return figure


@dataclass(frozen=True)
class Point:
    """One way of drawing.

    Attributes:
        name: of the way of merging.
        steps: of the sampler.
        speedup: over no merging in the most steps.
        value, low, high: quality and its interval; drawn of the first point only, so that points can be seen.
    """

    name: str
    steps: int
    speedup: float
    value: float
    low: float
    high: float


def speed(palette: Palette, metrics: Mapping[str, Sequence[Point]]) -> Figure:
    """Draw a panel a metric: quality against speed-up, one line for a way of merging and a number of steps.

    The first point of each metric is no merging in the most steps; the band is its interval.
    """
    figure, row = panels(len(metrics), size=(3.0, 2.9), gap=0.72)
    points = next(iter(metrics.values()))
    names = list(dict.fromkeys(point.name for point in points))
    steps = list(dict.fromkeys(point.steps for point in points))
    colours = {name: palette.control if number == 0 else MODEL_COLOURS[number - 1] for number, name in enumerate(names)}
    for axes, (metric, own) in zip(row, metrics.items(), strict=True):
        axes.axhspan(own[0].low, own[0].high, color=palette.control, alpha=0.2, lw=0, zorder=1)
        for number, n in enumerate(steps):
            _lines(axes, [point for point in own if point.steps == n], colours, _MARKERS[number % len(_MARKERS)])
        axes.axvline(1, color=palette.soft, lw=0.8, ls=":", zorder=1)
        axes.set(title=metric, xlabel="times as fast")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _times(axes, [point.speedup for point in own])
        axes.grid(axis="y")
    handles = [Line2D([], [], color=colours[name], lw=2.2) for name in names]
    handles += [
        Line2D([], [], color=palette.soft, lw=0, marker=_MARKERS[number % len(_MARKERS)], ms=5)
        for number in range(len(steps))
    ]
    handles.append(Patch(color=palette.control, alpha=0.2))
    told = [*names, *(f"{n} steps" for n in steps), "interval of no merging"]
    _legend(figure, row, handles, told)
    return figure


def _times(axes: Axes, speedups: Sequence[float]) -> None:
    """Let equal factors be equally far apart."""
    low, high = min(1.0, *speedups) / 1.08, max(1.0, *speedups) * 1.08
    ticks = [tick for tick in _TIMES if low <= tick <= high]
    step = -(-len(ticks) // 6)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks[::step]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks[::step]]))
    axes.xaxis.set_minor_locator(NullLocator())


def _lines(axes: Axes, points: Sequence[Point], colours: Mapping[str, str], marker: str) -> None:
    plain = points[0]  # no merging: every line begins there
    for name in dict.fromkeys(point.name for point in points):
        own = [point for point in points if point.name == name]
        line = own if name == plain.name else [plain, *own]
        axes.plot([p.speedup for p in line], [p.value for p in line], color=colours[name], lw=1.3, zorder=2)
        for point in own:
            axes.plot(point.speedup, point.value, marker, color=colours[name], ms=5, zorder=3)


def _style(palette: Palette, number: int, is_control: bool) -> tuple[str, tuple[float | None, float | None]]:
    return (palette.control, (4, 2)) if is_control else (MODEL_COLOURS[number], (None, None))


def _legend(figure: Figure, row: Sequence[Axes], handles: Sequence[object], labels: Sequence[str]) -> None:
    """Put one legend right of all panels."""
    width, height = figure.get_size_inches()
    share = width / (width + _LEGEND_INCH)
    figure.set_size_inches(width + _LEGEND_INCH, height)
    for axes in row:
        box = axes.get_position()
        axes.set_position((box.x0 * share, box.y0, box.width * share, box.height))
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(share, 0.92), handlelength=2.6)
