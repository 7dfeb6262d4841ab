"""One TIFF file, read alone and checked: its full-resolution pages, and their maximum in bands of tile rows."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from mistline.core.errors import InputError, parsing, system_error

DOWNLOAD_AGAIN = "download it again and compare its size and checksum with the source's"
SEPARATE = 2  # planar configuration of a page whose samples lie in tiles of their own
_BAND_ROWS = 1024
_LARGEST_TILE_PX = 2**28
_DTYPES = ("uint8", "uint16")
_UNREADABLE = (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, RuntimeError, struct.error)
# A damaged file is reported once, by our own sentence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a file for its pages.

    Raises:
        InputError: it is missing, no TIFF, or ends before its last page or tile.
    """
    try:
        # A series would follow the OME-XML into other files; pages stay in this one.
        with parsing(path, "truncated or not a TIFF", DOWNLOAD_AGAIN):
            file = tifffile.TiffFile(path)
    except FileNotFoundError:
        raise InputError(path, "no such file", "copy it from the run's output bundle") from None
    with file:
        with parsing(path, "its pages are damaged or cut off", DOWNLOAD_AGAIN):
            _require_whole(path, file)
        yield file


def _require_whole(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a file that ends before its last page or tile: the pages that are left would look like an image."""
    last = file.pages[-1].aspage()
    file.filehandle.seek(last.offset)
    n_tags = int.from_bytes(file.filehandle.read(file.tiff.tagnosize), _order(file))
    file.filehandle.seek(last.offset + file.tiff.tagnosize + n_tags * file.tiff.tagsize)
    following = file.filehandle.read(file.tiff.offsetsize)
    if int.from_bytes(following, _order(file)) or len(following) < file.tiff.offsetsize:
        raise InputError(path, f"the file ends within page {len(file.pages)}", DOWNLOAD_AGAIN)
    size = file.filehandle.size
    for page in (page.aspage() for page in file.pages):
        levels = reduced(page)
        for image in (page, *levels):
            _require_its_tiles(path, image)
        lost = bool(page.subifds) and len(levels) != len(page.subifds)
        ends = np.concatenate(
            [np.add(item.dataoffsets, item.databytecounts, dtype=np.int64) for item in [page, *levels]]
        )
        if lost or (ends > size).any():
            what = f"the file ends after {size} bytes, before all tiles of this page are complete"
            raise InputError(f"{path}, page {page.index}", what, DOWNLOAD_AGAIN)


def _require_its_tiles(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse a page that claims another size than its tiles have, or tiles that no memory is meant to hold."""
    place = f"{path}, page of {page.imagelength} x {page.imagewidth} px"
    rows, columns = _tile_shape(page) if page.is_tiled else (int(page.rowsperstrip), int(page.imagewidth))
    if min(page.imagelength, page.imagewidth, rows, columns) < 1:
        raise InputError(place, "it has no pixels", DOWNLOAD_AGAIN)
    planes = int(page.samplesperpixel) if int(page.planarconfig) == SEPARATE else 1
    needed = planes * -(-page.imagelength // rows) * -(-page.imagewidth // columns)
    if not needed == len(page.dataoffsets) == len(page.databytecounts):
        what = f"it needs {needed} tiles of {rows} x {columns} px and has {len(page.dataoffsets)}"
        raise InputError(place, what, DOWNLOAD_AGAIN)
    if page.is_tiled and rows * columns > _LARGEST_TILE_PX:
        raise InputError(place, f"its tiles are {rows} x {columns} px", "save it in tiles of 1024 x 1024 px")


def _order(file: tifffile.TiffFile) -> Literal["little", "big"]:
    return "little" if file.byteorder == "<" else "big"


def full_pages(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Return the grey pages of full resolution; levels of a pyramid may also be pages of their own.

    Raises:
        InputError: there is none, or one is in colour, not 8 or 16 bit, or of another shape than the first.
    """
    pages = [page for page in (page.aspage() for page in file.pages) if not page.is_reduced]
    if not pages:
        raise InputError(path, "no full-resolution page", DOWNLOAD_AGAIN)
    for page in pages:
        place = f"{path}, page {page.index}"
        if page.ndim != 2:
            raise InputError(place, f"a grey plane has two axes, not {page.axes}", "use the stain's own grey image")
        if str(page.dtype) not in _DTYPES:
            raise InputError(place, f"pixels of type {page.dtype}, not uint8 or uint16", "use the instrument's image")
        if page.shape != pages[0].shape:
            raise InputError(place, f"a plane of {page.shape} px beside one of {pages[0].shape}", DOWNLOAD_AGAIN)
    return pages


class Bands:
    """The maximum over pages of equal geometry, in bands of whole tile rows.

    Args:
        path: the file, named in errors.
        pages: pages of equal shape, type and tiling.
        threads: tiles decoded at a time; the result does not depend on it.

    Raises:
        InputError: the pages differ.
    """

    def __init__(self, path: Path, pages: Sequence[tifffile.TiffPage], threads: int = 1) -> None:
        self._path = path
        self._pages = list(pages)
        first = self._pages[0]
        self.shape_px: tuple[int, int] = (int(first.shape[-2]), int(first.shape[-1]))
        self.dtype = np.dtype(first.dtype)
        self._tile = _tile_shape(first)
        for page in self._pages:
            if page.shape != first.shape or page.dtype != first.dtype or _tile_shape(page) != self._tile:
                raise InputError(
                    f"{path}, page {page.index}",
                    f"plane {page.dtype} {page.shape} in tiles {_tile_shape(page)} differs from the first,"
                    f" {first.dtype} {first.shape} in {self._tile}",
                    DOWNLOAD_AGAIN,
                )
            page.decode  # noqa: B018 - built here, once, before threads share it
        self._n_columns = -(-self.shape_px[1] // self._tile[1])
        self._n_tile_rows = -(-self.shape_px[0] // self._tile[0])
        self._tile_rows_a_band = max(1, _BAND_ROWS // self._tile[0])
        self._pool = ThreadPoolExecutor(max(1, threads))
        self._descriptor = os.open(path, os.O_RDONLY)

    def __enter__(self) -> Bands:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        os.close(self._descriptor)

    @property
    def n_bands(self) -> int:
        """Number of bands of the image."""
        return -(-self._n_tile_rows // self._tile_rows_a_band)

    def read(self, number: int) -> tuple[int, NDArray[np.unsignedinteger[Any]]]:
        """Decode one band: its first row and its pixels [rows, cols].

        Raises:
            InputError: a tile is missing, truncated or damaged; names file, page, tile row and column.
        """
        top = number * self._tile_rows_a_band
        tile_rows = range(top, min(top + self._tile_rows_a_band, self._n_tile_rows))
        first_row = top * self._tile[0]
        rows = min(tile_rows.stop * self._tile[0], self.shape_px[0]) - first_row
        band = np.zeros((rows, self.shape_px[1]), dtype=self.dtype)
        tiles = [(row, column) for row in tile_rows for column in range(self._n_columns)]
        # One thread takes a tile through all planes, so no two write to the same pixels.
        for _ in self._pool.map(lambda tile: self._project_tile(band, first_row, *tile), tiles):
            pass
        return first_row, band

    def _project_tile(self, band: NDArray[Any], first_row: int, row: int, column: int) -> None:
        y, x = row * self._tile[0] - first_row, column * self._tile[1]
        target = band[y : y + self._tile[0], x : x + self._tile[1]]
        for page in self._pages:
            pixels = self._decode_tile(page, row, column)
            np.maximum(target, pixels[: target.shape[0], : target.shape[1]], out=target)

    def _decode_tile(self, page: tifffile.TiffPage, row: int, column: int) -> NDArray[Any]:
        """Read and decode one tile or strip of one plane: [rows, cols], at least what the image needs of it."""
        index = row * self._n_columns + column
        place = f"{self._path}, page {page.index}, tile row {row}, column {column}"
        if index >= len(page.dataoffsets) or not page.databytecounts[index]:
            raise InputError(place, "the tile is missing", DOWNLOAD_AGAIN)
        n_bytes = page.databytecounts[index]
        try:
            data = os.pread(self._descriptor, n_bytes, page.dataoffsets[index])
        except OSError as error:
            raise system_error(error, place) or InputError(place, f"unreadable ({error})", DOWNLOAD_AGAIN) from error
        if len(data) != n_bytes:
            raise InputError(place, f"the file ends {n_bytes - len(data)} bytes too early", DOWNLOAD_AGAIN)
        try:
            pixels, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except _UNREADABLE as error:
            raise InputError(place, f"the tile is corrupt ({error})", DOWNLOAD_AGAIN) from error
        needed = (
            min(self._tile[0], self.shape_px[0] - row * self._tile[0]),
            min(self._tile[1], self.shape_px[1] - column * self._tile[1]),
        )
        if pixels is None or pixels.dtype != self.dtype or any(np.less(pixels.shape[1:3], needed)):
            found = "nothing" if pixels is None else f"{pixels.dtype} {pixels.shape[1:3]}"
            what = f"the tile is corrupt (it holds {found}, not {self.dtype} {needed})"
            raise InputError(place, what, DOWNLOAD_AGAIN)
        return pixels[0, :, :, 0]


def _tile_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return rows and columns of a tile; of a strip, when the page has no tiles."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.shape[-2])), int(page.shape[-1])


def reduced(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """Return the reduced levels below a page, finest first; empty without a pyramid."""
    return [level.aspage() for level in page.pages] if page.subifds else []
