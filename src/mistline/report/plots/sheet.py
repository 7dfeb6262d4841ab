"""Sheets of crops and tiles: the same micrometres a centimetre for every picture of a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mistline.report.plots.theme import Palette, scale_bar

_COLUMNS = 6
_PANEL_INCH = 1.62
_TITLE_INCH = 0.42


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        pixels: uint8 [side, side].
        side_um: its side in micrometres.
        title: its id.
        note: a second line.
    """

    pixels: NDArray[np.uint8]
    side_um: float
    title: str
    note: str


def sheet(palette: Palette, tiles: Sequence[Tile]) -> Figure:
    """Draw the pictures in rows of six, centred in frames that are all as wide as the largest of them."""
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = columns * _PANEL_INCH, rows * (_PANEL_INCH + _TITLE_INCH)
    figure = Figure(figsize=(width, height))
    frame_um = max(tile.side_um for tile in tiles)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        inset = 0.05
        axes = figure.add_axes(
            (
                (column * _PANEL_INCH + inset) / width,
                1 - ((row + 1) * (_PANEL_INCH + _TITLE_INCH) - inset) / height,
                (_PANEL_INCH - 2 * inset) / width,
                (_PANEL_INCH - 2 * inset) / height,
            )
        )
        half, frame = tile.side_um / 2, frame_um / 2
        axes.set_facecolor("#1a1f27")
        axes.imshow(
            tile.pixels, cmap="gray", vmin=0, vmax=255, extent=(-half, half, half, -half), interpolation="antialiased"
        )
        axes.set(xlim=(-frame, frame), ylim=(frame, -frame), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.text(0, 1.115, tile.title, transform=axes.transAxes, fontsize=8, color=palette.ink, va="bottom")
        axes.text(0, 1.02, tile.note, transform=axes.transAxes, fontsize=7.5, color=palette.soft, va="bottom")
        if column == 0:
            scale_bar(axes, 1.0, colour=palette.ink, share=0.4)
    return figure
