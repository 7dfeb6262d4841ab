"""Maps of a slide: its morphology, and its cells coloured by a group."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mistline.report.plots.theme import Corner, Palette, scale_bar

_BOX_INCH = (4.9, 4.6)
_LEGEND_ROW_INCH = 0.21
_DIMMED = 0.5


@dataclass(frozen=True)
class Overview:
    """A small copy of a slide's image.

    Attributes:
        pixels: uint8 [rows, cols] of the display channel.
        um_per_px: micrometres a pixel of this copy.
    """

    pixels: NDArray[np.uint8]
    um_per_px: float

    @property
    def extent_um(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top for `imshow`, in micrometres with y downwards."""
        rows, cols = self.pixels.shape
        return (0.0, cols * self.um_per_px, rows * self.um_per_px, 0.0)


@dataclass(frozen=True)
class Groups:
    """Cells with a group each.

    Attributes:
        xy_um: [n, 2] centroids.
        group: [n] index into `colours`.
        colours: group name -> colour, in the order of the legend.
        totals: group name -> cells of the whole slide (not only of those drawn).
    """

    xy_um: NDArray[np.float64]
    group: NDArray[np.int64]
    colours: Mapping[str, str]
    totals: Mapping[str, int]


def morphology(palette: Palette, overview: Overview) -> Figure:
    """Draw the image with its scale bar."""
    figure, axes = _panel(overview, legend_rows=0)
    axes.imshow(overview.pixels, cmap="gray", vmin=0, vmax=255, extent=overview.extent_um, interpolation="antialiased")
    scale_bar(axes, _corner(overview), 1.0, colour=palette.ink)
    return figure


def cells(palette: Palette, overview: Overview, groups: Groups) -> Figure:
    """Draw the cells' centroids over the dimmed image, with a legend of names and counts."""
    entries = [(name, colour) for name, colour in groups.colours.items() if groups.totals.get(name)]
    labels = [f"{textwrap.shorten(name, 24, placeholder='…')} ({groups.totals[name]:,})" for name, _ in entries]
    columns = max(1, min(len(entries), int(_width(overview) / (0.085 * max(map(len, labels), default=1) + 0.25))))
    rows = -(-len(entries) // columns)
    figure, axes = _panel(overview, legend_rows=rows)
    axes.imshow((overview.pixels * _DIMMED).astype(np.uint8), cmap="gray", vmin=0, vmax=255, extent=overview.extent_um)
    palette_rgb = np.array(list(groups.colours.values()))
    axes.scatter(
        groups.xy_um[:, 0],
        groups.xy_um[:, 1],
        c=palette_rgb[groups.group],
        s=_marker_area(figure, len(groups.xy_um)),
        linewidths=0,
        alpha=0.9,
        rasterized=True,
    )
    scale_bar(axes, _corner(overview), 1.0, colour=palette.ink)
    handles = [Line2D([], [], marker="o", ls="", ms=5.5, color=colour) for _, colour in entries]
    figure.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=columns,
        handletextpad=0.1, columnspacing=0.9, labelspacing=0.35, borderaxespad=0.2, borderpad=0.1,
    )  # fmt: skip
    return figure


def _corner(overview: Overview) -> Corner:
    left, right, bottom, _ = overview.extent_um
    return Corner(left, bottom, right - left)


def _width(overview: Overview) -> float:
    rows, cols = overview.pixels.shape
    return max(cols * min(_BOX_INCH[0] / cols, _BOX_INCH[1] / rows), 2.2)


def _panel(overview: Overview, legend_rows: int) -> tuple[Figure, Axes]:
    """Return a figure that an image fills, with room for a legend below it."""
    rows, cols = overview.pixels.shape
    inch = min(_BOX_INCH[0] / cols, _BOX_INCH[1] / rows)
    width, height = _width(overview), rows * inch
    strip = legend_rows * _LEGEND_ROW_INCH + (0.08 if legend_rows else 0)
    figure = Figure(figsize=(width, height + strip))
    share = cols * inch / width
    axes = figure.add_axes(((1 - share) / 2, strip / (height + strip), share, height / (height + strip)))
    left, right, bottom, top = overview.extent_um
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    return figure, axes


def _marker_area(figure: Figure, n: int) -> float:
    """Return the marker's area in square points that lets `n` cells just touch one another."""
    width, height = figure.get_size_inches() * 72
    return float(np.clip(0.45 * width * height / max(n, 1), 0.4, 28.0))
