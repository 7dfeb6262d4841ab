"""An H&E image in colour: any window of its pixels, at any level of its pyramid, without decoding the whole slide.

Decoded tiles are kept up to a bound, so that neighbouring windows share them. Strips are not fit for windows: those
that are compressed are decoded once into a scratch file, those that are not are read where they lie.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.xenium.ome import read_ome
from mistline.xenium.tiff import DOWNLOAD_AGAIN, opened, reduced

_CACHE_BYTES = 384 * 2**20  # a band across a slide 40,000 px wide, in tiles of 1,024 px
_LARGEST_STRIP = 2**30
_SAVE_AS = "save it as 8-bit RGB OME-TIFF or TIFF, as Xenium Explorer takes it"
_COLOUR = ("RGB", "YCBCR")
_UNREADABLE = (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, RuntimeError, struct.error)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes:
        page: its page of the file.
        shape_px: rows, columns.
        per_px: (x, y) pixels of the full resolution a pixel of this level.
    """

    page: tifffile.TiffPage
    shape_px: tuple[int, int]
    per_px: tuple[float, float]


class Histology:
    """An open H&E.

    Attributes:
        path: the file.
        levels: the full resolution first.
        pixel_size_um: as its OME-XML says; None when it does not say.
        axes: `YXS` or `SYX`.
        n_decoded: tiles and strips decoded so far.
    """

    def __init__(self, path: Path, file: tifffile.TiffFile, scratch: Path, threads: int) -> None:
        self.path = path
        full, rest = _colour_pages(path, file)
        self.axes = str(full.axes)
        self.levels = [_level(full, full)] + [_level(page, full) for page in rest]
        ome = read_ome(path, file)
        self.pixel_size_um = ome.pixel_size_um if ome else None
        self.n_decoded = 0
        self._scratch = scratch
        self._pool = ThreadPoolExecutor(max(1, threads))
        self._descriptor = os.open(path, os.O_RDONLY)
        self._readers: dict[int, _Tiles | _Rows] = {}

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows, columns of the full resolution."""
        return self.levels[0].shape_px

    def read(self, level: int, rows: tuple[int, int], columns: tuple[int, int]) -> Pixels:
        """Return a window [rows, columns, 3] of a level; it must lie inside the image.

        Raises:
            InputError: a tile is damaged; names it.
        """
        if level not in self._readers:
            self._readers[level] = self._open(level)
        return self._readers[level].read(rows, columns)

    def close(self) -> None:
        """Close the files and remove the scratch file."""
        self._pool.shutdown(cancel_futures=True)
        for reader in self._readers.values():
            reader.close()
        os.close(self._descriptor)

    def _open(self, level: int) -> _Tiles | _Rows:
        page, shape = self.levels[level].page, self.levels[level].shape_px
        planar = page.axes == "SYX"
        page.decode  # noqa: B018 - built here, once, before threads share it
        if page.is_tiled:
            return _Tiles(page, shape, self._decode, self._pool)
        if page.is_contiguous:
            return _Rows(os.dup(self._descriptor), int(page.dataoffsets[0]), shape, planar, self._place(page))
        return self._spooled(page, shape, planar)

    def _spooled(self, page: tifffile.TiffPage, shape: tuple[int, int], planar: bool) -> _Rows:
        """Decode all strips once, in order, into a file of raw rows."""
        strip = int(page.rowsperstrip) * shape[1] * (1 if planar else 3)
        if min(strip, shape[0] * shape[1] * 3) > _LARGEST_STRIP:
            what = f"one strip holds {min(int(page.rowsperstrip), shape[0])} rows of {shape[1]} px"
            raise InputError(self._place(page), what, "save it as a tiled TIFF")
        height = min(int(page.rowsperstrip), shape[0])
        in_plane = -(-shape[0] // height)
        with tempfile.TemporaryFile(dir=self._scratch) as stream:  # without a name: whatever happens, nothing is left
            for number in range(len(page.dataoffsets)):
                rows = min(height, shape[0] - number % in_plane * height)
                stream.write(np.ascontiguousarray(self._decode(page, number, (rows, shape[1]))).data)
            stream.flush()
            return _Rows(os.dup(stream.fileno()), 0, shape, planar, self._place(page))

    def _decode(self, page: tifffile.TiffPage, number: int, needed: tuple[int, int]) -> Pixels:
        """Read and decode one tile or strip: [rows, columns, samples], cut to what is needed of it."""
        place = f"{self._place(page)}, tile {number}"
        n_bytes = int(page.databytecounts[number]) if number < len(page.dataoffsets) else 0
        if not n_bytes:
            raise InputError(place, "the tile is missing", DOWNLOAD_AGAIN)
        data = os.pread(self._descriptor, n_bytes, int(page.dataoffsets[number]))
        try:
            pixels, _, _ = page.decode(data, number, jpegtables=page.jpegtables)
        except _UNREADABLE as error:
            raise InputError(place, f"the tile is corrupt ({error})", DOWNLOAD_AGAIN) from error
        samples = 1 if page.axes == "SYX" else 3
        if pixels is None or pixels.dtype != np.uint8 or pixels.shape[3] != samples or _short(pixels, needed):
            found = "nothing" if pixels is None else f"{pixels.dtype} {pixels.shape[1:]}"
            raise InputError(place, f"the tile is corrupt (it holds {found})", DOWNLOAD_AGAIN)
        self.n_decoded += 1
        tile: Pixels = pixels[0, : needed[0], : needed[1]]
        return tile

    def _place(self, page: tifffile.TiffPage) -> str:
        return f"{self.path}, level of {page.imagelength} x {page.imagewidth} px"


@contextmanager
def open_histology(path: Path, scratch: Path, threads: int = 1) -> Iterator[Histology]:
    """Open an H&E image.

    Args:
        path: an OME-TIFF or TIFF, tiled or in strips, with or without a pyramid.
        scratch: folder where compressed strips may be unpacked into a nameless file.
        threads: tiles decoded at a time; the pixels do not depend on it.

    Raises:
        InputError: it is missing, damaged, or no 8-bit RGB image.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "correct he_image in the slide sheet")
    with opened(path) as file:
        histology = Histology(path, file, scratch, threads)
        try:
            yield histology
        finally:
            histology.close()


def _colour_pages(path: Path, file: tifffile.TiffFile) -> tuple[tifffile.TiffPage, list[tifffile.TiffPage]]:
    """Return the page of full resolution, and the coarser ones, finest first; a slide's label is none."""
    pages = [page.aspage() for page in file.pages]
    full = pages[0]
    place = f"{path}, page 0"
    colours = getattr(full.photometric, "name", str(full.photometric))  # a number where it is none that is known
    if full.axes not in ("YXS", "SYX") or full.samplesperpixel != 3 or colours not in _COLOUR:
        found = f"{full.samplesperpixel} sample(s) of {colours} along {full.axes}"
        raise InputError(place, f"an H&E image has red, green and blue, not {found}", _SAVE_AS)
    if full.dtype != np.uint8:
        raise InputError(place, f"pixels of type {full.dtype}, not uint8", _SAVE_AS)
    coarser = reduced(full) or [page for page in pages[1:] if page.is_reduced]
    shape = (full.imagelength, full.imagewidth)
    return full, [
        page for page in coarser if page.axes == full.axes and page.dtype == full.dtype and _same(page, shape)
    ]


def _same(page: tifffile.TiffPage, shape: tuple[int, int]) -> bool:
    """Tell whether a page shows the same field: both sides smaller by one factor, but for the rounding of each side."""
    rows, columns = page.imagelength, page.imagewidth
    if rows >= shape[0] or columns >= shape[1] or page.samplesperpixel != 3:
        return False
    return abs(rows * shape[1] / shape[0] - columns) <= 1.5 + 1.5 * shape[1] / shape[0]


def _level(page: tifffile.TiffPage, full: tifffile.TiffPage) -> Level:
    shape = (int(page.imagelength), int(page.imagewidth))
    return Level(page, shape, (full.imagewidth / shape[1], full.imagelength / shape[0]))


def _short(pixels: NDArray[Any], needed: tuple[int, int]) -> bool:
    return pixels.shape[1] < needed[0] or pixels.shape[2] < needed[1]


class _Tiles:
    """Windows of a tiled page; tiles used last are kept."""

    def __init__(
        self,
        page: tifffile.TiffPage,
        shape: tuple[int, int],
        decode: Callable[[tifffile.TiffPage, int, tuple[int, int]], Pixels],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._page, self._shape, self._decode, self._pool = page, shape, decode, pool
        self._side = (int(page.tilelength), int(page.tilewidth))
        self._grid = (-(-shape[0] // self._side[0]), -(-shape[1] // self._side[1]))
        self._planes = 3 if page.axes == "SYX" else 1
        self._held: OrderedDict[int, Pixels] = OrderedDict()
        self._bytes = 0

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> Pixels:
        window = np.empty((rows[1] - rows[0], columns[1] - columns[0], 3), dtype=np.uint8)
        across = range(columns[0] // self._side[1], -(-columns[1] // self._side[1]))
        for row in range(rows[0] // self._side[0], -(-rows[1] // self._side[0])):
            for column, tile in zip(across, self._tiles([row * self._grid[1] + c for c in across]), strict=True):
                top, left = row * self._side[0], column * self._side[1]
                y0, y1 = max(rows[0], top), min(rows[1], top + tile.shape[0])
                x0, x1 = max(columns[0], left), min(columns[1], left + tile.shape[1])
                window[y0 - rows[0] : y1 - rows[0], x0 - columns[0] : x1 - columns[0]] = tile[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return window

    def close(self) -> None:
        self._held.clear()

    def _tiles(self, numbers: Sequence[int]) -> list[Pixels]:
        missing = [number for number in numbers if number not in self._held]
        fresh = dict(zip(missing, self._pool.map(self._make, missing), strict=True))
        found = [fresh[number] if number in fresh else self._held[number] for number in numbers]
        for number, tile in zip(numbers, found, strict=True):
            if number not in self._held:
                self._bytes += tile.nbytes
            self._held[number] = tile
            self._held.move_to_end(number)
        while self._bytes > _CACHE_BYTES:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return found

    def _make(self, number: int) -> Pixels:
        row, column = divmod(number, self._grid[1])
        needed = (
            min(self._side[0], self._shape[0] - row * self._side[0]),
            min(self._side[1], self._shape[1] - column * self._side[1]),
        )
        in_plane = self._grid[0] * self._grid[1]
        planes = [self._decode(self._page, number + plane * in_plane, needed) for plane in range(self._planes)]
        return np.ascontiguousarray(planes[0]) if len(planes) == 1 else np.concatenate(planes, axis=2)


class _Rows:
    """Windows of raw rows that lie one after the other in a file, pixel by pixel or plane by plane."""

    def __init__(self, descriptor: int, offset: int, shape: tuple[int, int], planar: bool, place: str) -> None:
        self._descriptor, self._offset, self._shape, self._planar, self._place = (
            descriptor,
            offset,
            shape,
            planar,
            place,
        )

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> Pixels:
        if self._planar:
            area = self._shape[0] * self._shape[1]
            return np.stack([self._part(plane * area, 1, rows, columns)[..., 0] for plane in range(3)], axis=2)
        return self._part(0, 3, rows, columns)

    def close(self) -> None:
        os.close(self._descriptor)

    def _part(self, start: int, samples: int, rows: tuple[int, int], columns: tuple[int, int]) -> Pixels:
        n_bytes = (columns[1] - columns[0]) * samples
        part = np.empty((rows[1] - rows[0], n_bytes), dtype=np.uint8)
        for number, row in enumerate(range(*rows)):
            place = self._offset + start + (row * self._shape[1] + columns[0]) * samples
            data = os.pread(self._descriptor, n_bytes, place)
            if len(data) != n_bytes:
                raise InputError(self._place, f"the file ends within row {row}", DOWNLOAD_AGAIN)
            part[number] = np.frombuffer(data, dtype=np.uint8)
        return part.reshape(len(part), -1, samples)
