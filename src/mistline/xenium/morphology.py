"""Morphology images: which file and pages hold a stain, and their maximum over z, one row band at a time.

Every file is opened alone: the OME-XML of in-focus images names their siblings, and following it would merge
channels. Each compressed tile is decoded once; a band's height follows from the tiles, never from the slide.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.xenium.layout import Layout
from mistline.xenium.ome import Ome, channel_of_file, normalised, read_ome

NUCLEI = "DAPI"
_BAND_ROWS = 1024
_LOW_RESOLUTION_PX = 1024
_DTYPES = ("uint8", "uint16")
_AGAIN = "download it again and compare its size and checksum with the source's"
_UNREADABLE = (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, RuntimeError, struct.error)


@dataclass(frozen=True)
class Source:
    """Where one stain comes from.

    Args:
        channel: the stain's name.
        kind: `z-stack`, `mip` or `focus`.
        path: the file.
        pages: its full-resolution pages of this stain, one a plane.
        shape_px: rows, columns.
        dtype: `uint8` or `uint16`.
        pixel_size_um: as its OME-XML says; None when it does not say.
    """

    channel: str
    kind: str
    path: Path
    pages: tuple[int, ...]
    shape_px: tuple[int, int]
    dtype: str
    pixel_size_um: float | None

    @property
    def n_planes(self) -> int:
        """Number of z planes."""
        return len(self.pages)


def sources(layout: Layout) -> dict[str, Source]:
    """Find the stains of a bundle: DAPI from the z-stack, else the projection, else in-focus; others in-focus.

    Raises:
        InputError: an image is unreadable, not 8 or 16 bit, in colour, unnamed, or of another shape than the rest;
            or two files hold one stain.
    """
    found: dict[str, Source] = {}
    for path, kind in ((layout.zstack, "z-stack"), (layout.mip, "mip")):
        if path is not None and NUCLEI not in found:
            found[NUCLEI] = _nuclei_source(path, kind)
    in_focus: dict[str, Source] = {}
    for path in layout.focus:
        for source in _focus_sources(path, alone=len(layout.focus) == 1):
            if source.channel in in_focus:
                other = in_focus[source.channel].path.name
                raise InputError(path, f"channel {source.channel} is also in {other}", "keep one file a channel")
            in_focus[source.channel] = source
    found = in_focus | found
    if not found:
        raise InputError(layout.root, "no morphology image", "copy morphology.ome.tif or morphology_focus/ of the run")
    _require_one_shape(list(found.values()))
    return {name: found[name] for name in sorted(found, key=lambda name: (name != NUCLEI, name))}


def choose(found: dict[str, Source], channels: Sequence[str], where: str | Path) -> list[Source]:
    """Return the sources of the channels asked for, in their order.

    Raises:
        InputError: a channel is not in the bundle; lists those that are.
    """
    missing = [channel for channel in channels if channel not in found]
    if missing:
        raise InputError(
            where,
            f"no channel {missing[0]!r}; the bundle has {', '.join(found)}",
            "correct image.channels or leave the slide out",
        )
    return [found[channel] for channel in channels]


def read_low_resolution(source: Source, threads: int = 1) -> NDArray[np.unsignedinteger[Any]] | None:
    """Read the maximum over z of a reduced level, about 1,024 px or more on its longer side.

    Returns:
        [rows, cols] of the file's type, its scale being the ratio to `source.shape_px`; None without a pyramid.

    Raises:
        InputError: a tile is damaged.
    """
    with _opened(source.path) as file:
        levels = [_reduced(file.pages[page]) for page in source.pages]
        if not all(levels):
            return None
        large = [number for number, level in enumerate(levels[0]) if max(level.shape) >= _LOW_RESOLUTION_PX]
        number = large[-1] if large else 0
        bands = Bands(source.path, [level[number] for level in levels], threads)
        with bands:
            return np.concatenate([bands.read(band)[1] for band in range(bands.n_bands)])


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
                    _AGAIN,
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
            raise InputError(place, "the tile is missing", _AGAIN)
        n_bytes = page.databytecounts[index]
        data = os.pread(self._descriptor, n_bytes, page.dataoffsets[index])
        if len(data) != n_bytes:
            raise InputError(place, f"the file ends within this tile, {n_bytes - len(data)} bytes too early", _AGAIN)
        try:
            pixels, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except _UNREADABLE as error:
            raise InputError(place, f"the tile is corrupt ({error})", _AGAIN) from error
        needed = (
            min(self._tile[0], self.shape_px[0] - row * self._tile[0]),
            min(self._tile[1], self.shape_px[1] - column * self._tile[1]),
        )
        if pixels is None or pixels.dtype != self.dtype or any(np.less(pixels.shape[1:3], needed)):
            found = "nothing" if pixels is None else f"{pixels.dtype} {pixels.shape[1:3]}"
            raise InputError(place, f"the tile is corrupt (it holds {found}, not {self.dtype} {needed})", _AGAIN)
        return pixels[0, :, :, 0]


@contextmanager
def open_bands(source: Source, threads: int) -> Iterator[Bands]:
    """Open the full-resolution planes of a source.

    Raises:
        InputError: the file cannot be read or its planes differ.
    """
    with _opened(source.path) as file, Bands(source.path, [file.pages[n] for n in source.pages], threads) as bands:
        yield bands


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    try:
        # A series would follow the OME-XML into other files; pages stay in this one.
        file = tifffile.TiffFile(path)
        list(file.pages)
    except FileNotFoundError:
        raise InputError(path, "no such file", "copy it from the run's output bundle") from None
    except _UNREADABLE as error:
        raise InputError(path, f"truncated or not a TIFF ({error})", _AGAIN) from error
    with file:
        yield file


def _nuclei_source(path: Path, kind: str) -> Source:
    with _opened(path) as file:
        pages = _full_pages(path, file)
        return _source(NUCLEI, kind, path, pages, read_ome(path, file))


def _focus_sources(path: Path, *, alone: bool) -> list[Source]:
    """Return the stains of one in-focus file; only a file that is alone may leave its stain unnamed."""
    with _opened(path) as file:
        pages = _full_pages(path, file)
        ome = read_ome(path, file)
        names = channel_of_file(path, ome) or ((NUCLEI,) if alone else ())
        if not names:
            raise InputError(
                path, "neither its OME-XML nor its name says which stain it holds", "restore the original file name"
            )
        if len(names) > 1 and len(names) != len(pages):
            raise InputError(path, f"{len(pages)} planes for the channels {', '.join(names)}", _AGAIN)
        groups = [pages] if len(names) == 1 else [[page] for page in pages]
        return [_source(normalised(n), "focus", path, group, ome) for n, group in zip(names, groups, strict=True)]


def _source(channel: str, kind: str, path: Path, pages: list[tifffile.TiffPage], ome: Ome | None) -> Source:
    first = pages[0]
    return Source(
        channel=channel,
        kind=kind,
        path=path,
        pages=tuple(page.index for page in pages),
        shape_px=(int(first.shape[0]), int(first.shape[1])),
        dtype=str(first.dtype),
        pixel_size_um=ome.pixel_size_um if ome else None,
    )


def _full_pages(path: Path, file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Return the pages of full resolution, checked; levels of a pyramid may also be pages of their own."""
    pages = [page for page in (page.aspage() for page in file.pages) if not page.is_reduced]
    if not pages:
        raise InputError(path, "no full-resolution page", _AGAIN)
    for page in pages:
        place = f"{path}, page {page.index}"
        if page.ndim != 2:
            raise InputError(place, f"a grey plane has two axes, not {page.axes}", "use the stain's own grey image")
        if str(page.dtype) not in _DTYPES:
            raise InputError(place, f"pixels of type {page.dtype}, not uint8 or uint16", "use the instrument's image")
        if page.shape != pages[0].shape:
            raise InputError(place, f"a plane of {page.shape} px beside one of {pages[0].shape}", _AGAIN)
    return pages


def _require_one_shape(found: list[Source]) -> None:
    first = found[0]
    for source in found[1:]:
        if source.shape_px != first.shape_px:
            raise InputError(
                source.path,
                f"channel {source.channel} has {source.shape_px} px, {first.channel} has {first.shape_px}",
                "use images of one run",
            )


def _tile_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return rows and columns of a tile; of a strip, when the page has no tiles."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.shape[-2])), int(page.shape[-1])


def _reduced(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    page = page.aspage()
    return [level.aspage() for level in page.pages] if page.subifds else []
