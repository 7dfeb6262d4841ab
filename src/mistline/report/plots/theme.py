"""How every figure looks, and how it becomes files and an embedded picture.

Charts are drawn on light paper; on a dark page the style sheet turns their lightness round and keeps their hues.
Pictures of tissue are drawn on black, as microscopists know them. Colours: Okabe and Ito's set and Paul Tol's
discrete rainbow, both readable with any colour vision.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A63D2", "#A6761D")
SPLIT_COLOURS = {"train": "#56B4E9", "val": "#F0E442", "test": "#E8743B", "gap": "#9A9A9A"}
GROUP_COLOURS = (
    "#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#8DA0FF", "#B3DE69",
    "#E31A5C", "#7FE0D0", "#B07D3C", "#DDAAEE", "#FFFFFF", "#8C8C8C", "#3F7F5F",
)  # fmt: skip
_DPI = 144
_LONGEST_SIDE_PX = 4000


@dataclass(frozen=True)
class Palette:
    """The inks of one kind of paper."""

    name: str
    paper: str
    ink: str
    soft: str
    grid: str
    main: str
    accent: str
    control: str


LIGHT = Palette("light", "#ffffff", "#1c2430", "#566070", "#e3e7ec", "#0072B2", "#C2410C", "#8b94a1")
LIGHTBOX = Palette("lightbox", "#0b0d10", "#f2f4f7", "#b6bfca", "#2c3440", "#5BB4E5", "#F59E5B", "#8b96a4")


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes:
        source: data URI.
        paper: name of the palette it was drawn with.
        width, height: shown size in CSS pixels.
        alt: what a person who does not see it should know.
        caption: the sentence below it.
        name: file name without ending in the folder of figures.
    """

    source: str
    paper: str
    width: int
    height: int
    alt: str
    caption: str
    name: str

    @property
    def size(self) -> int:
        """Bytes it adds to the page."""
        return len(self.source)


@dataclass(frozen=True)
class Corner:
    """The lower left corner of a picture inside axes, and the picture's width, in units of the axes."""

    left: float
    bottom: float
    width: float


@contextmanager
def styled(palette: Palette) -> Iterator[None]:
    """Apply the house style with the inks of `palette` to figures made inside the block."""
    settings: dict[str, Any] = {
        "figure.facecolor": palette.paper,
        "savefig.facecolor": palette.paper,
        "axes.facecolor": palette.paper,
        "axes.edgecolor": palette.soft,
        "axes.labelcolor": palette.ink,
        "axes.titlecolor": palette.ink,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "grid.color": palette.grid,
        "grid.linewidth": 0.8,
        "xtick.color": palette.soft,
        "ytick.color": palette.soft,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "legend.labelcolor": palette.ink,
        "text.color": palette.ink,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "svg.hashsalt": "mistline",
        "svg.fonttype": "path",
        "figure.dpi": _DPI,
    }
    with mpl.rc_context(settings):
        yield


def chart(draw: Callable[[Palette], Figure], *, folder: Path, name: str, alt: str, caption: str) -> Picture:
    """Draw a chart, and save it as PNG and SVG."""
    image = _drawn(draw, LIGHT, folder, name)
    return _picture(image, _data_uri(_palette_png(image), "png"), LIGHT, alt, caption, name)


def tissue(
    draw: Callable[[Palette], Figure], *, folder: Path, name: str, alt: str, caption: str, budget: int
) -> Picture:
    """Draw a picture of tissue on black; the embedded copy is a thumbnail of at most `budget` bytes."""
    image = _drawn(draw, LIGHTBOX, folder, name)
    return _picture(image, _data_uri(thumbnail(image, budget), "webp"), LIGHTBOX, alt, caption, name)


def _drawn(draw: Callable[[Palette], Figure], palette: Palette, folder: Path, name: str) -> Image.Image:
    with styled(palette):
        figure = draw(palette)
        data = _png(figure)
        save(figure, data, folder, name)
    return _open(data)


def _picture(image: Image.Image, source: str, palette: Palette, alt: str, caption: str, name: str) -> Picture:
    width, height = image.width * 96 // _DPI, image.height * 96 // _DPI
    return Picture(source, palette.name, width, height, alt, caption, name)


def save(figure: Figure, png: bytes, folder: Path, name: str) -> None:
    """Write `name`.png and `name`.svg; the same figure gives the same bytes."""
    (folder / f"{name}.png").write_bytes(png)
    figure.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None, "Creator": None})


def thumbnail(image: Image.Image, budget: int) -> bytes:
    """Encode as WebP of at most `budget` bytes, giving up quality first and size then."""
    for quality in (86, 74, 62):
        data = _webp(image, quality)
        if len(data) * 4 / 3 <= budget:
            return data
    while len(data) * 4 / 3 > budget and min(image.size) > 32:
        image = image.resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS)
        data = _webp(image, 62)
    return data


def panels(n: int, *, size: tuple[float, float], left: float = 0.72, gap: float = 0.5) -> tuple[Figure, list[Axes]]:
    """Return a figure with `n` axes side by side and room for titles and labels; fixed, so that it costs nothing.

    Args:
        n: number of axes.
        size: width of one axes with its gap, and height of the figure, in inches.
        left: room left of the first axes, for its tick labels and label.
        gap: room between two axes, for tick labels.
    """
    width, height = left + n * size[0] - gap + 0.15, size[1]
    figure = Figure(figsize=(width, height))
    top, bottom = 0.32, 0.56
    axes = [
        figure.add_axes(
            ((left + place * size[0]) / width, bottom / height, (size[0] - gap) / width, 1 - (top + bottom) / height)
        )
        for place in range(n)
    ]
    return figure, axes


def colours(names: Sequence[str]) -> dict[str, str]:
    """Give every name its colour by its place among the sorted names: the same in every figure of a page."""
    return {name: MODEL_COLOURS[place % len(MODEL_COLOURS)] for place, name in enumerate(sorted(set(names)))}


def legend_beside(figure: Figure, axes: Axes, inch: float) -> None:
    """Widen a figure by so many inches on the right, and put the legend there."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + inch, height)
    box, share = axes.get_position(), width / (width + inch)
    axes.set_position((box.x0 * share, box.y0, box.width * share, box.height))
    figure.legend(*axes.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(share, 0.92), handlelength=2.6)


def shortened(name: str, longest: int) -> str:
    """Return a name of at most so many letters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def scale_bar(axes: Axes, corner: Corner, um_per_unit: float, *, colour: str, share: float = 0.25) -> float:
    """Draw a bar of a round length in the lower left corner of a picture, and its length above it.

    Args:
        axes: axes with y downwards.
        corner: where the picture lies in them.
        um_per_unit: micrometres of one unit of the axes.
        colour: of bar and text.
        share: greatest part of the picture's width the bar takes.

    Returns:
        The bar's length in micrometres.
    """
    length_um = round_length(corner.width * um_per_unit * share)
    x, y = corner.left + 0.035 * corner.width, corner.bottom - 0.035 * corner.width
    end = x + length_um / um_per_unit
    for ink, width in (("#000000a0", 5.0), (colour, 2.6)):
        axes.plot([x, end], [y, y], color=ink, lw=width, solid_capstyle="butt", zorder=5)
    axes.annotate(
        format_length(length_um),
        (x, y),
        (0, 4.5),
        textcoords="offset points",
        color=colour,
        va="bottom",
        zorder=5,
        bbox={"facecolor": "#000000a0", "edgecolor": "none", "boxstyle": "square,pad=0.12"},
    )
    return length_um


def round_length(limit_um: float) -> float:
    """Return the greatest of 1, 2, 5, 10, 20, ... that is not above `limit_um`."""
    power = 10.0 ** math.floor(math.log10(limit_um))
    return max(step * power for step in (1, 2, 5) if step * power <= limit_um * (1 + 1e-9))


def format_length(um: float) -> str:
    """Write a length with its unit: 50 um, 2 mm."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 4})
    return stream.getvalue()


def _open(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    return image


def _palette_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.quantize(96, dither=Image.Dither.NONE).save(stream, format="png", optimize=True)
    return stream.getvalue()


def _webp(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="webp", quality=quality, method=4)
    return stream.getvalue()


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
