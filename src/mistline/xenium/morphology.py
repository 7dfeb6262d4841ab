"""Morphology images: which file and pages hold a stain, and their maximum over z, one row band at a time.

Every file is opened alone: the OME-XML of in-focus images names their siblings, and following it would merge
channels. Each compressed tile is decoded once; a band's height follows from the tiles, never from the slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from mistline.xenium.tiff import DOWNLOAD_AGAIN, Bands, full_pages, opened, reduced

NUCLEI = "DAPI"
_LOW_RESOLUTION_PX = 1024


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
    found = {name: found[name] for name in sorted(found, key=lambda name: (name != NUCLEI, name))}
    _require_one_shape(list(found.values()))
    return found


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
    with opened(source.path) as file:
        levels = [reduced(file.pages[page].aspage()) for page in source.pages]
        if not all(levels):
            return None
        large = [number for number, level in enumerate(levels[0]) if max(level.shape) >= _LOW_RESOLUTION_PX]
        number = large[-1] if large else 0
        bands = Bands(source.path, [level[number] for level in levels], threads)
        with bands:
            return np.concatenate([bands.read(band)[1] for band in range(bands.n_bands)])


@contextmanager
def open_bands(source: Source, threads: int) -> Iterator[Bands]:
    """Open the full-resolution planes of a source.

    Raises:
        InputError: the file cannot be read or its planes differ.
    """
    with opened(source.path) as file, Bands(source.path, [file.pages[n] for n in source.pages], threads) as bands:
        yield bands


def _nuclei_source(path: Path, kind: str) -> Source:
    with opened(path) as file:
        pages = full_pages(path, file)
        return _source(NUCLEI, kind, path, pages, read_ome(path, file))


def _focus_sources(path: Path, *, alone: bool) -> list[Source]:
    """Return the stains of one in-focus file; only a file that is alone may leave its stain unnamed."""
    with opened(path) as file:
        pages = full_pages(path, file)
        ome = read_ome(path, file)
        names = channel_of_file(path, ome, len(pages)) or ((NUCLEI,) if alone else ())
        if not names:
            raise InputError(
                path, "neither its OME-XML nor its name says which stain it holds", "restore the original file name"
            )
        if len(names) > 1 and len(names) != len(pages):
            raise InputError(path, f"{len(pages)} planes for the channels {', '.join(names)}", DOWNLOAD_AGAIN)
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


def _require_one_shape(found: list[Source]) -> None:
    first = found[0]
    for source in found[1:]:
        if source.shape_px != first.shape_px:
            raise InputError(
                source.path,
                f"channel {source.channel} has {source.shape_px} px, {first.channel} has {first.shape_px}",
                "use images of one run",
            )
