"""The 8-bit image as OME-Zarr 0.5: written band by band with its pyramid, read back as windows of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import ZstdCodec
from zarr.errors import NodeNotFoundError

from mistline.core.errors import InputError, parsing

BAND_ROWS = 1024
CHUNK_PX = 1024  # a quarter of the calls that 512 px take, which cost as much as decoding
_SHARD_COLUMNS = 8192
_COARSEST_PX = 512
_FREE_PX, _MOST = 2**26, 4096  # an image may be so large anyway, or so many times its files: most of it may be black
_COLOURS = ("FFFFFF", "00FF00", "FF00FF", "FFFF00", "00FFFF", "FF0000", "0000FF")
_AGAIN = "remove the image and run its stage again"


@dataclass(frozen=True)
class Description:
    """What the metadata of an image says.

    Args:
        name: the slide.
        channels: names of the stains, in the order of the first axis.
        shape_px: rows, columns of the full resolution.
        pixel_size_um: micrometres a pixel of the full resolution.
    """

    name: str
    channels: Sequence[str]
    shape_px: tuple[int, int]
    pixel_size_um: float


def level_shapes(shape_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Return rows, columns of every level: halved, rounded up, until the longer side is at most 512."""
    shapes = [shape_px]
    while max(shapes[-1]) > _COARSEST_PX:
        rows, columns = shapes[-1]
        shapes.append(((rows + 1) // 2, (columns + 1) // 2))
    return shapes


def create(folder: Path, description: Description) -> list[Any]:
    """Create an empty pyramid; return its arrays uint8 [C, Y, X], full resolution first."""
    group = zarr.create_group(store=folder, zarr_format=3, attributes={"ome": _metadata(description)})
    return [
        group.create_array(
            name=str(level),
            shape=(len(description.channels), *shape),
            dtype="uint8",
            chunks=(1, *_chunk_shape(shape)),
            shards=(1, *_shard_shape(shape)),
            compressors=ZstdCodec(level=1, checksum=True),
            fill_value=0,
            dimension_names=("c", "y", "x"),
            config={"write_empty_chunks": True},  # so that a lost file is told from a black one
        )
        for level, shape in enumerate(level_shapes(description.shape_px))
    ]


class LevelWriter:
    """Take one channel's rows from top to bottom; write them and, halved, all coarser levels.

    A level holds at most one band of its own rows, so that memory follows from the slide's width alone.

    Args:
        arrays: what `create` returned, from this level on.
        channel: index of the channel.
    """

    def __init__(self, arrays: Sequence[Any], channel: int) -> None:
        self._array, self._channel = arrays[0], channel
        self._next = LevelWriter(arrays[1:], channel) if len(arrays) > 1 else None
        self._buffer = np.empty((min(BAND_ROWS, self._array.shape[1]), self._array.shape[2]), dtype=np.uint8)
        self._filled = 0
        self._written = 0

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Take the next rows [n, X]."""
        while len(rows):
            taken = min(len(rows), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._filled == len(self._buffer):
                self._flush()

    def finish(self) -> None:
        """Write what is left, on this level and all coarser ones."""
        if self._filled:
            self._flush()
        if self._next is not None:
            self._next.finish()

    def _flush(self) -> None:
        rows = self._buffer[: self._filled]
        self._array[self._channel, self._written : self._written + self._filled] = rows
        self._written += self._filled
        self._filled = 0
        if self._next is not None:
            self._next.append(halved(rows))


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of each 2 x 2 block, rounded half up; an odd last row or column counts double."""
    rows, columns = pixels.shape
    if rows % 2 or columns % 2:
        pixels = np.pad(pixels, ((0, rows % 2), (0, columns % 2)), mode="edge")
    total = pixels[0::2, 0::2].astype(np.uint16)
    total += pixels[0::2, 1::2]
    total += pixels[1::2, 0::2]
    total += pixels[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


class Level:
    """One level of an OME-Zarr that `create` made, of which all files are there.

    Args:
        image: the OME-Zarr.
        level: 0 is the full resolution.

    Attributes:
        shape: channels, rows, columns.

    Raises:
        InputError: it is missing or incomplete.
    """

    def __init__(self, image: Path, level: int = 0) -> None:
        self._image, self._number = Path(image), level
        try:
            with parsing(self._image, "not a readable OME-Zarr", _AGAIN):
                self._array: Any = zarr.open_array(store=image, path=str(level), mode="r", zarr_format=3)
                (channels, rows, columns), shards = map(int, self._array.shape), self._array.shards
                if self._array.dtype != np.uint8 or min(channels, rows, columns) < 1:
                    raise ValueError(f"{channels} channels of {rows} x {columns} px, type {self._array.dtype}")
                written = math.prod(-(-size // step) for size, step in zip(self._array.shape, shards, strict=True))
        except (FileNotFoundError, NodeNotFoundError):
            raise InputError(image, "no such image", "run the stage that makes it for this slide") from None
        sizes = [path.stat().st_size for path in self._image.glob(f"{level}/c/*/*/*")]
        whole = sum(size > 0 for size in sizes)
        if whole < written:  # zarr would read a lost or an empty file as black
            raise InputError(image, f"{written - whole} of {written} files of level {level} are missing", _AGAIN)
        if channels * rows * columns > max(_FREE_PX, _MOST * sum(sizes)):
            what = f"level {level} claims {rows} x {columns} px and its files hold {sum(sizes)} bytes"
            raise InputError(image, what, _AGAIN)
        self.shape = (channels, rows, columns)

    def read(self, channels: int | slice, rows: slice, columns: slice = slice(None)) -> NDArray[np.uint8]:
        """Return some of its pixels.

        Raises:
            InputError: a chunk is damaged.
        """
        with self._damage_told(rows):
            return np.asarray(self._array[channels, rows, columns])

    def read_rows(self, rows: slice, out: NDArray[np.uint8]) -> None:
        """Read whole rows of all channels into `out` [C, n, X].

        Raises:
            InputError: a chunk is damaged.
        """
        with self._damage_told(rows):
            self._array.get_basic_selection((slice(None), rows), out=NDBuffer.from_numpy_array(out))

    @contextmanager
    def _damage_told(self, rows: slice) -> Iterator[None]:
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            what = f"rows {rows.start} to {rows.stop} of level {self._number} are damaged ({error})"
            raise InputError(self._image, what, _AGAIN) from error


class RowWindow:
    """Full-resolution rows on demand, going down the slide; rows already read and still needed are kept.

    Args:
        image: an OME-Zarr that `create` made.

    Raises:
        InputError: it is missing or incomplete.
    """

    def __init__(self, image: Path) -> None:
        self._image = Path(image)
        self._level = Level(self._image)
        self.n_channels, self.n_rows, self.n_columns = self._level.shape
        self._start = self._end = 0
        self._buffer = np.empty((self.n_channels, 0, self.n_columns), dtype=np.uint8)

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows start .. stop - 1 as [C, stop - start, X]; `start` never goes back up, `stop` may.

        The array shows memory that the next call reads other rows into: fresh memory costs more than the reading.

        Raises:
            InputError: a chunk is damaged.
        """
        if not self._start <= start <= stop <= self.n_rows:
            raise ValueError(f"rows {start} to {stop} of {self.n_rows}, held from {self._start} on")
        if stop > self._end:
            self._read_on(start, stop)
        return self._buffer[:, start - self._start : stop - self._start]

    def _read_on(self, start: int, stop: int) -> None:
        """Let go of the rows above `start`, and read to `stop`: whole chunks, so that each is decoded once."""
        last = min(-(-stop // CHUNK_PX) * CHUNK_PX, self.n_rows)
        first = max(self._end, start // CHUNK_PX * CHUNK_PX)
        n_kept = max(self._end - start, 0)
        kept = self._buffer[:, start - self._start : self._end - self._start]
        n_held = n_kept + last - first
        if n_held > self._buffer.shape[1]:
            self._buffer = np.empty((self.n_channels, n_held + CHUNK_PX // 4, self.n_columns), dtype=np.uint8)
        self._buffer[:, :n_kept] = kept
        self._level.read_rows(slice(first, last), self._buffer[:, n_kept:n_held])
        self._start, self._end = (start if n_kept else first), last


def _chunk_shape(shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = shape
    return min(CHUNK_PX, rows), min(CHUNK_PX, columns)


def _shard_shape(shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = _chunk_shape(shape)
    return rows, min(_SHARD_COLUMNS // columns, -(-shape[1] // columns)) * columns


def _metadata(description: Description) -> dict[str, Any]:
    """Return the `ome` attributes of NGFF 0.5."""
    spaces = [{"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")]
    datasets = []
    for level in range(len(level_shapes(description.shape_px))):
        scale_um = description.pixel_size_um * 2**level
        transform = {"type": "scale", "scale": [1.0, scale_um, scale_um]}
        datasets.append({"path": str(level), "coordinateTransformations": [transform]})
    channels = [
        {
            "label": name,
            "active": index == 0,
            "color": _COLOURS[index % len(_COLOURS)],
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
        }
        for index, name in enumerate(description.channels)
    ]
    multiscale = {
        "name": description.name,
        "type": "mean",
        "axes": [{"name": "c", "type": "channel"}, *spaces],
        "datasets": datasets,
    }
    return {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels}}
