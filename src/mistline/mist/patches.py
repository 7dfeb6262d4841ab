"""The patch of every spot of a table: a square of the slide's image around its place, resized once and stored.

Records are those of cells.parquet, in its order, in red, green and blue and without genes, which counts.h5ad has.
Where a square leaves the image it is padded with zeros, and counted; one wholly outside is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.patches import Patches
from mistline.core.errors import InputError
from mistline.core.geometry import um_to_px
from mistline.core.log import progress
from mistline.mist.crops import square
from mistline.mist.workers import workers
from mistline.spots.picture import Picture
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter

CHANNELS = ("red", "green", "blue")
_PIECE_RECORDS = 64
_NO_GENES = np.zeros(0, dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose patches they are."""

    slide: str
    donor: str


def index_of(
    cells: pd.DataFrame, shape_px: tuple[int, int], um_per_px: float, settings: Patches, owner: Owner
) -> pd.DataFrame:
    """Place the square of every spot on the image.

    Args:
        cells: cell_id, x_um, y_um.
        shape_px: rows, columns of the image, whose first pixel's corner is the origin of the coordinates.
        um_per_px: of the image.
        settings: sides of the squares.
        owner: slide and donor.

    Returns:
        key, slide, donor, cell_id, x_um, y_um, row_px, col_px (top-left corner, negative beyond the border), side_px
        (on the image), side_um and is_padded.

    Raises:
        InputError: a square lies wholly outside the image.
    """
    side = max(1, round(settings.side_um / um_per_px))
    yx_px = um_to_px(cells[["x_um", "y_um"]].to_numpy(), um_per_px)
    corner = np.floor(yx_px - side / 2 + 0.5).astype(np.int64)
    end = corner + side
    outside = (corner >= shape_px).any(axis=1) | (end <= 0).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        place = f"row {yx_px[row, 0]:.0f}, column {yx_px[row, 1]:.0f}"
        what = f"its patch lies wholly outside the image of {shape_px[0]} x {shape_px[1]} px ({place})"
        n = f"{int(outside.sum())} of {len(cells)} cells do; " if outside.sum() > 1 else ""
        where = f"slide {owner.slide}, cell {cells['cell_id'].iloc[row]}"
        raise InputError(where, what, f"{n}correct image or image_um_per_px of the slide")
    return pd.DataFrame(
        {
            "key": np.arange(len(cells), dtype=np.int64),
            "slide": owner.slide,
            "donor": owner.donor,
            **{name: cells[name].to_numpy() for name in ("cell_id", "x_um", "y_um")},
            "row_px": corner[:, 0],
            "col_px": corner[:, 1],
            "side_px": side,
            "side_um": side * um_per_px,
            "is_padded": (corner < 0).any(axis=1) | (end > shape_px).any(axis=1),
        }
    )


def cut(picture: Picture, index: pd.DataFrame, size_px: int, writer: ShardWriter, threads: int) -> NDArray[np.float32]:
    """Cut every square and append it to the shards; key = row of the index.

    Args:
        picture: the image.
        index: what `index_of` returned.
        size_px: side that squares are resized to.
        writer: takes the records.
        threads: records made at a time; the bytes do not depend on it.

    Returns:
        [n, 3] mean of each channel of each record.
    """
    places = index[["row_px", "col_px", "side_px"]].to_numpy(dtype=np.int64).tolist()
    colours = np.empty((len(places), len(CHANNELS)), dtype=np.float32)
    starts = range(0, len(places), _PIECE_RECORDS)
    with workers(threads) as each:
        for first in progress(starts, "cut patches"):
            # The image is read by one thread; a piece is a few megabytes.
            windows = [_window(picture, *place) for place in places[first : first + _PIECE_RECORDS]]

            def make(number: int, windows: Sequence[NDArray[np.uint8]] = windows) -> NDArray[np.uint8]:
                return resized(windows[number], size_px)

            for key, image in enumerate(each(make, range(len(windows))), first):
                colours[key] = mean_colour(image)
                writer.put(encode(image, _NO_GENES, _NO_GENES, key))
    return colours


def resized(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Resize [3, S, S] as the loader does: area averaging when it shrinks, bilinear when it grows."""
    if image.shape[1] == size_px:
        return np.ascontiguousarray(image)
    how = cv2.INTER_AREA if size_px < image.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(channel, (size_px, size_px), interpolation=how) for channel in image])


def mean_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return [C], the mean of each channel of [C, S, S]."""
    return image.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)


def expected_bytes(n: int, size_px: int) -> int:
    """Estimate what the records take: sizes the first map of the shards."""
    return int(n * (size_px**2 * len(CHANNELS) * 0.8 + 256))


def _window(picture: Picture, row: int, column: int, side: int) -> NDArray[np.uint8]:
    """Cut one square [3, side, side]; zeros beyond the image."""
    rows, columns = picture.shape_px
    top, left = max(row, 0), max(column, 0)
    pixels = picture.read((top, min(row + side, rows)), (left, min(column + side, columns)))
    return square(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), row - top, column - left, side)
