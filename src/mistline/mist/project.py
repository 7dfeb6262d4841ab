"""From raw planes to the 8-bit pyramid, in two passes that hold a few bands of rows.

First pass: every compressed tile is decoded once, the maximum over z goes to a file of raw rows and into an
exact histogram. Second pass: those rows through a table to 8 bit and into the pyramid.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.config.image import Image
from mistline.core.log import progress
from mistline.mist.pyramid import BAND_ROWS, Description, LevelWriter, create, level_shapes
from mistline.mist.window import Histogram, lookup_table, measure
from mistline.xenium.morphology import Source, open_bands

logger = logging.getLogger("mistline.mist")


def project(
    found: Sequence[Source], settings: Image, *, slide: str, pixel_size_um: float, folder: Path, threads: int
) -> dict[str, Any]:
    """Write the OME-Zarr of one slide into `folder`, which must not exist; return what image.json holds.

    Args:
        found: one source a channel, of one shape.
        settings: the intensity window.
        slide: the slide's name.
        pixel_size_um: micrometres a pixel.
        folder: the zarr to make; also holds the raw rows while they are needed.
        threads: tiles decoded at a time; the result does not depend on it.

    Raises:
        InputError: a tile is damaged, or a channel is constant.
    """
    channels = [source.channel for source in found]
    shape_px = found[0].shape_px
    arrays = create(folder, Description(slide, channels, shape_px, pixel_size_um))
    windows: dict[str, list[float]] = {}
    for index, source in enumerate(found):
        spool = folder / ".rows.raw"
        histogram = _spool_maximum(source, spool, threads)
        low, high = measure(histogram, settings, f"{source.path}, channel {source.channel}")
        logger.info("%s %s: %d planes, window %g to %g", slide, source.channel, source.n_planes, low, high)
        table = lookup_table(low, high, histogram.counts.size)
        _write_levels(spool, np.dtype(source.dtype), table, LevelWriter(arrays, index), source)
        spool.unlink()
        windows[source.channel] = [low, high]
    return {
        "slide": slide,
        "channels": channels,
        "source": {source.channel: source.kind for source in found},
        "shape_px": list(shape_px),
        "pixel_size_um": pixel_size_um,
        "window": windows,
        "window_mode": settings.window,
        "levels": len(level_shapes(shape_px)),
    }


def _spool_maximum(source: Source, spool: Path, threads: int) -> Histogram:
    """Write the maximum over z as raw rows; return its histogram."""
    histogram = Histogram(np.dtype(source.dtype))
    with open_bands(source, threads) as bands, spool.open("wb") as stream:
        for number in progress(range(bands.n_bands), f"project {source.channel}"):
            _, band = bands.read(number)
            histogram.add(band)
            stream.write(band.data)
    return histogram


def _write_levels(
    spool: Path, dtype: np.dtype[Any], table: NDArray[np.uint8], writer: LevelWriter, source: Source
) -> None:
    n_rows, n_columns = source.shape_px
    with spool.open("rb") as stream:
        for start in progress(range(0, n_rows, BAND_ROWS), f"write {source.channel}"):
            rows = min(BAND_ROWS, n_rows - start)
            band = np.fromfile(stream, dtype=dtype, count=rows * n_columns).reshape(rows, n_columns)
            writer.append(table[band])
    writer.finish()
