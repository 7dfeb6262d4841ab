"""Contact sheets: small images in rows and columns, with differences below them where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mistline.report.plots.theme import Palette

# On black paper no difference is dark: what changed stands out, and both signs can be told with any colour vision.
CHANGES = LinearSegmentedColormap.from_list("changes", ("#8fd3ff", "#2f86c5", "#11151b", "#d1762a", "#ffd08a"))
_PANEL_INCH, _INSET_INCH, _GAP_INCH = 0.92, 0.03, 0.2
_LABEL_INCH, _HEAD_INCH, _TITLE_INCH, _SECOND_INCH, _BAR_INCH = 1.12, 0.26, 0.24, 0.13, 0.62
_CHARACTERS, _TITLE_CHARACTERS = 15, 14  # of the label of a row and of a column
_FRAME_COLOUR = "#1a1f27"


@dataclass(frozen=True)
class Line:
    """A row of images.

    Attributes:
        label, note: left of it; the note is smaller.
        images: uint8 [S, S] or [S, S, 3] for each column; None for none.
        changes: grey levels [S, S] of each column, drawn below the images; none where no column has any.
    """

    label: str
    note: str
    images: Sequence[NDArray[np.uint8] | None]
    changes: Sequence[NDArray[np.float64] | None] = ()


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        groups: heads of neighbouring columns and how many each stands above; they are set apart.
        titles: of the columns; a second line is smaller.
        lines: the rows.
        white: grey level that is drawn white.
        limit: grey levels at the ends of the colours of changes.
    """

    groups: Sequence[tuple[str, int]]
    titles: Sequence[str]
    lines: Sequence[Line]
    white: float
    limit: float = 1.0


def contact(palette: Palette, drawn: Sheet) -> Figure:
    """Draw the sheet; all images lie in one axes whose unit is the inch."""
    lefts = _lefts(drawn.groups)
    has_changes = any(line.changes for line in drawn.lines)
    rows = sum(2 if line.changes else 1 for line in drawn.lines)
    width = lefts[-1] + _PANEL_INCH + 2 * _INSET_INCH
    top = _head(drawn) + _TITLE_INCH + (_SECOND_INCH if any("\n" in title for title in drawn.titles) else 0)
    height = top + rows * _PANEL_INCH + len(drawn.lines) * _INSET_INCH * 2 + (_BAR_INCH if has_changes else 0.06)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _heads(axes, palette, drawn, lefts)
    y = top
    for line in drawn.lines:
        _label(axes, palette, (line.label, line.note), y)
        for left, image in zip(lefts, line.images, strict=True):
            _image(axes, (left, y), image, {"cmap": "gray", "vmin": 0, "vmax": drawn.white})
        y += _PANEL_INCH
        if line.changes:
            _label(axes, palette, ("", "change from\nown genes"), y)
            for left, change in zip(lefts, line.changes, strict=True):
                if change is not None:
                    _image(axes, (left, y), change, {"cmap": CHANGES, "vmin": -drawn.limit, "vmax": drawn.limit})
            y += _PANEL_INCH
        y += 2 * _INSET_INCH
    if has_changes:
        _bar(axes, palette, drawn.limit, (lefts[0], y + 0.14))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return figure


def _lefts(groups: Sequence[tuple[str, int]]) -> list[float]:
    """Return where each column begins."""
    found, left = [], _LABEL_INCH
    for _, n in groups:
        found += [left + place * _PANEL_INCH for place in range(n)]
        left += n * _PANEL_INCH + _GAP_INCH
    return found


def _heads(axes: Axes, palette: Palette, drawn: Sheet, lefts: Sequence[float]) -> None:
    start = 0
    for text, n in drawn.groups:
        left, right = lefts[start] + _INSET_INCH, lefts[start + n - 1] + _PANEL_INCH - _INSET_INCH
        axes.text((left + right) / 2, 0.17, text, fontsize=8.5, weight="bold", color=palette.ink, ha="center")
        if text and n > 1:
            axes.plot([left, right], [_HEAD_INCH - 0.03] * 2, color=palette.soft, lw=0.8)
        start += n
    for left, title in zip(lefts, drawn.titles, strict=True):
        middle = left + _PANEL_INCH / 2
        name, _, note = title.partition("\n")
        top = _head(drawn)
        axes.text(middle, top + 0.16, _cut(name, _TITLE_CHARACTERS), fontsize=8, color=palette.ink, ha="center")
        axes.text(middle, top + 0.3, note, fontsize=7.2, color=palette.soft, ha="center")


def _head(drawn: Sheet) -> float:
    """Return the room of the groups' heads; none where they have none."""
    return _HEAD_INCH if any(text for text, _ in drawn.groups) else 0.0


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _label(axes: Axes, palette: Palette, texts: tuple[str, str], top: float) -> None:
    middle = top + _PANEL_INCH / 2
    label = _cut(texts[0], _CHARACTERS)
    place = _LABEL_INCH - 0.09
    if label:
        axes.text(place, middle - 0.04, label, fontsize=8, color=palette.ink, ha="right", va="bottom")
    anchor = "top" if label else "center"
    axes.text(place, middle, texts[1], fontsize=7.2, color=palette.soft, ha="right", va=anchor, linespacing=1.25)


def _image(
    axes: Axes, corner: tuple[float, float], image: NDArray[np.generic] | None, colours: dict[str, object]
) -> None:
    left, top = corner[0] + _INSET_INCH, corner[1] + _INSET_INCH
    side = _PANEL_INCH - 2 * _INSET_INCH
    axes.add_patch(Rectangle((left, top), side, side, color=_FRAME_COLOUR, zorder=0))
    if image is not None:
        extent = (left, left + side, top + side, top)
        axes.imshow(image, extent=extent, interpolation="antialiased", **colours)


def _bar(axes: Axes, palette: Palette, limit: float, corner: tuple[float, float]) -> None:
    """Draw the colours of changes with what their ends stand for."""
    left, top = corner
    length, height = 2.6, 0.11
    ramp = np.linspace(-1, 1, 256)[None]
    axes.imshow(ramp, cmap=CHANGES, vmin=-1, vmax=1, extent=(left, left + length, top + height, top), aspect="auto")
    for share, text in ((0, f"−{limit:g}"), (0.5, "0"), (1, f"+{limit:g}")):
        axes.text(left + share * length, top + height + 0.16, text, fontsize=7.5, color=palette.ink, ha="center")
    told = "grey levels of 255, less and more than by own genes"
    axes.text(left + length + 0.28, top + height, told, fontsize=7.5, color=palette.soft, va="bottom")
