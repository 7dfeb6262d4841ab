"""The pictures of the viewer: tiles of the image pyramid, and a sheet of crops exactly as their records hold them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mistline.mist.pyramid import Level, level_shapes
from mistline.report.viewer_pack import Blocks
from mistline.store.reader import ShardReader

TILE_PX = 512
_QUALITY = 78
_SHEET_PX = 1024  # width of the sheet of crops
_METHOD = 4  # libwebp's effort; more takes longer than it saves


@dataclass(frozen=True)
class Layer:
    """An image that can lie under the cells.

    Attributes:
        name: such as `DAPI`.
        path: of the OME-Zarr.
        channels: those to show: one, or three for red, green and blue.
        shape_px: rows, columns at full resolution.
        pixel_size_um: at full resolution.
    """

    name: str
    path: Path
    channels: slice
    shape_px: tuple[int, int]
    pixel_size_um: float


def add_layer(blocks: Blocks, layer: Layer, budget: int) -> list[dict[str, Any]]:
    """Store levels of an image, coarsest first, as long as they fit.

    Args:
        blocks: takes the tiles.
        layer: the image.
        budget: bytes the tiles may add to the page.

    Returns:
        One entry a level: um_per_px, width, height, and the numbers of its tiles, row by row.
    """
    shapes = level_shapes(layer.shape_px)
    found: list[dict[str, Any]] = []
    end = blocks.size + budget
    for number in range(len(shapes) - 1, -1, -1):
        start = len(blocks.texts)
        tiles = _tiles(blocks, Level(layer.path, number), layer.channels, end)
        if tiles is None:
            blocks.cut(start)
            break
        rows, columns = shapes[number]
        scale_um = layer.pixel_size_um * 2**number
        found.append({"um_per_px": scale_um, "width": columns, "height": rows, "tiles": tiles})
    return found


def _tiles(blocks: Blocks, level: Level, channels: slice, end: int) -> list[int] | None:
    """Store the tiles of a level; None as soon as they do not fit."""
    _, rows, columns = level.shape
    found = []
    for row in range(0, rows, TILE_PX):
        band = level.read(channels, slice(row, min(row + TILE_PX, rows)))
        for column in range(0, columns, TILE_PX):
            found.append(blocks.add_bytes(_webp(band[:, :, column : column + TILE_PX], quality=_QUALITY)))
            if blocks.size > end:
                return None
    return found


def add_crops(blocks: Blocks, reader: ShardReader, keys: Sequence[int], budget: int) -> dict[str, Any] | None:
    """Store the first channels of some records, without loss, as many as fit.

    Args:
        blocks: takes the sheet.
        reader: the records.
        keys: those to store, in this order; the last ones are left out where not all fit.
        budget: bytes the sheet may add to the page.

    Returns:
        The sheet's number, and [left, top, side] of the first keys on it; None where no crop fits.
    """
    images = [_shown(reader[key].image) for key in keys]
    while images:
        sheet, places = _sheet(images)
        data = _webp(sheet, lossless=True)
        length = -(-len(data) // 3) * 4
        if length <= budget:
            return {"block": blocks.add_bytes(data), "places": places}
        images = images[: min(len(images) - 1, int(len(images) * budget / length))]
    return None


def _shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.shape[0] == 3 else image[:1]


def _sheet(images: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], list[list[int]]]:
    """Place squares on shelves, tall ones first."""
    width = max(_SHEET_PX, max(image.shape[2] for image in images))
    order = sorted(range(len(images)), key=lambda number: (-images[number].shape[1], number))
    places: list[list[int]] = [[] for _ in images]
    left = top = shelf = 0
    for number in order:
        side = images[number].shape[1]
        if left + side > width:
            left, top, shelf = 0, top + shelf, 0
        shelf = max(shelf, side)
        places[number] = [left, top, side]
        left += side
    sheet = np.zeros((images[0].shape[0], top + shelf, width), dtype=np.uint8)
    for image, (x, y, side) in zip(images, places, strict=True):
        sheet[:, y : y + side, x : x + side] = image
    return sheet, places


def _webp(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    """Return [C, H, W] as WebP."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)))
    picture.convert("RGB").save(stream, "WEBP", method=_METHOD, **options)
    return stream.getvalue()
