"""Lines of models and controls over one quantity: calibration, distance to a border, labels given, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from mistline.report.plots.theme import Palette, panels

_LONGEST_NAME = 32
_LEGEND_INCH = 2.5
_DASHES = ((None, None), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (8, 3), (3, 3))


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: of the model or control; lines of the same name look the same.
        is_control: drawn grey, and dashed to tell one control from another.
        x, y: equally many; without x for a y, leave both out.
        faint: one of several runs that make up a line.
    """

    name: str
    is_control: bool
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """One axes.

    Attributes:
        title, xlabel, ylabel: of the axes.
        series: its lines.
        diagonal: whether to draw where both are equal.
        ticks: places on the x axis and their names, which then is logarithmic; none for a plain axis.
        limits: of the y axis; None where the lines decide.
    """

    title: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    diagonal: bool = False
    ticks: Mapping[float, str] | None = None
    limits: tuple[float, float] | None = None


def curves(palette: Palette, drawn: Sequence[Panel], colours: Mapping[str, str], markers: bool = True) -> Figure:
    """Draw the panels side by side, with one legend for all on their right."""
    figure, row = panels(len(drawn), size=(3.55, 2.9), gap=0.75)
    names = dict.fromkeys((line.name, line.is_control) for panel in drawn for line in panel.series)
    controls = sorted(name for name, is_control in names if is_control)
    styles = {name: _style(palette, name, controls, colours) for name, _ in names}
    for axes, panel in zip(row, drawn, strict=True):
        _draw(axes, palette, panel, styles, markers)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + _LEGEND_INCH, height)
    for axes in row:
        box = axes.get_position()
        share = width / (width + _LEGEND_INCH)
        axes.set_position((box.x0 * share, box.y0, box.width * share, box.height))
    handles = [Line2D([], [], marker="o" if markers else "", ms=4, **styles[name]) for name, _ in names]
    labels = [shorten(f"control: {name}" if control else name, _LONGEST_NAME, placeholder="…")
              for name, control in names]  # fmt: skip
    place = ((width - 0.1) / (width + _LEGEND_INCH), 0.94)
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=place, handlelength=2.8)  # dashes are seen
    return figure


def _style(palette: Palette, name: str, controls: Sequence[str], colours: Mapping[str, str]) -> dict[str, object]:
    if name not in controls:
        return {"color": colours[name], "lw": 1.8}
    dashes = _DASHES[controls.index(name) % len(_DASHES)]
    return {"color": palette.control, "lw": 1.4, "dashes": dashes if dashes[0] else (None, None)}


def _draw(
    axes: Axes, palette: Palette, panel: Panel, styles: Mapping[str, Mapping[str, object]], markers: bool
) -> None:
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], color=palette.soft, lw=0.9, zorder=1)
    for line in panel.series:
        more = {"alpha": 0.25, "lw": 0.8, "zorder": 2} if line.faint else {"zorder": 3}
        marker = {"marker": "o", "ms": 3.6} if markers and not line.faint else {}
        axes.plot(line.x, line.y, **{**styles[line.name], **more, **marker})
    axes.grid(axis="y")
    axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if panel.limits:
        axes.set_ylim(*panel.limits)
    if panel.ticks is None:
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(panel.ticks)))
    axes.xaxis.set_major_formatter(FixedFormatter(list(panel.ticks.values())))
    axes.xaxis.set_minor_locator(NullLocator())
