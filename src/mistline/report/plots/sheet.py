"""Sheets of crops and tiles: the same micrometres a centimetre for every picture of a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mistline.report.plots.theme import Corner, Palette, scale_bar

_COLUMNS = 6
_PANEL_INCH = 1.62
_TITLE_INCH = 0.42
_INSET_INCH = 0.05
_FRAME_COLOUR = "#1a1f27"


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        pixels: uint8 [side, side], or [side, side, 3] in colour.
        side_um: its side in micrometres.
        title: its id.
        note: a second line.
    """

    pixels: NDArray[np.uint8]
    side_um: float
    title: str
    note: str


def sheet(palette: Palette, tiles: Sequence[Tile]) -> Figure:
    """Draw the pictures in rows of six, centred in frames that are all as wide as the largest of them.

    All lie in one axes whose unit is the inch: axes of their own would cost more than the pictures.
    """
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = columns * _PANEL_INCH, rows * (_PANEL_INCH + _TITLE_INCH)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    frame_um = max(tile.side_um for tile in tiles)
    frame = _PANEL_INCH - 2 * _INSET_INCH
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        left = column * _PANEL_INCH + _INSET_INCH
        bottom = (row + 1) * (_PANEL_INCH + _TITLE_INCH) - _INSET_INCH
        axes.add_patch(Rectangle((left, bottom - frame), frame, frame, color=_FRAME_COLOUR, zorder=0))
        half = frame * tile.side_um / frame_um / 2
        x, y = left + frame / 2, bottom - frame / 2
        extent = (x - half, x + half, y + half, y - half)
        axes.imshow(tile.pixels, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
        axes.text(left, bottom - frame - 0.2, tile.title, fontsize=8, color=palette.ink)
        axes.text(left, bottom - frame - 0.055, tile.note, fontsize=7.5, color=palette.soft)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    for row in range(rows):
        bottom = (row + 1) * (_PANEL_INCH + _TITLE_INCH) - _INSET_INCH
        corner = Corner(_INSET_INCH, bottom, frame)
        scale_bar(axes, corner, frame_um / frame, colour=palette.ink, share=0.4)
    return figure
