"""OME-TIFFs: tiled, pyramidal, JPEG2000 lossless, written from one pass over the tiles.

Tiles are drawn in quadtree order, so that a tile of a coarser level is the mean of four that were just made.
Their encoded bytes wait in one scratch file; only their places are held.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from mistline.core.seeds import derive
from mistline.xenium.toy.render import Painter
from mistline.xenium.toy.settings import ToySlide
from mistline.xenium.toy.zarrzip import ZarrZip

_MOST_LEVELS = 7
_SOFTWARE = "mistline toy"
_NAMED = ("ch0000_dapi", "ch0001_atp1a1_cd45_e-cadherin", "ch0002_18s", "ch0003_alphasma_vimentin")
FOCUS_FOLDER = "morphology_focus"


@dataclass(frozen=True)
class ImageFile:
    """One OME-TIFF of a bundle: its name below the bundle and the planes it holds."""

    name: str
    planes: tuple[str, ...]
    stain: str


def image_files(slide: ToySlide) -> list[ImageFile]:
    """Return the images a bundle of the slide's layout holds."""
    stack = ImageFile("morphology.ome.tif", tuple(f"z{number}" for number in range(slide.n_planes)), "DAPI")
    if slide.form.focus == "file":
        single = [ImageFile("morphology_mip.ome.tif", ("mip",), "DAPI")]
        return [stack, *single, ImageFile("morphology_focus.ome.tif", ("focus0",), "DAPI")]
    stems = _NAMED if slide.form.focus == "named" else [f"morphology_focus_{number:04d}" for number in range(4)]
    return [stack] + [
        ImageFile(f"{FOCUS_FOLDER}/{stems[number]}.ome.tif", (f"focus{number}",), stain)
        for number, stain in enumerate(slide.stains)
    ]


def level_shapes(slide: ToySlide) -> list[tuple[int, int]]:
    """Return the shape of every pyramid level, the full resolution first."""
    shapes = [slide.image_shape]
    while len(shapes) < _MOST_LEVELS and (len(shapes) < 2 or max(shapes[-1]) > slide.tile):
        shapes.append((max(shapes[-1][0] // 2, 1), max(shapes[-1][1] // 2, 1)))
    return shapes


class TileSpool:
    """Encoded tiles of all planes and levels, in a scratch file."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._pool = path, ThreadPoolExecutor(threads)
        self._file: BinaryIO = path.open("w+b")
        self._places: dict[tuple[str, int, int, int], tuple[int, int]] = {}
        self._end = 0

    def __enter__(self) -> TileSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        self._file.close()
        self._path.unlink(missing_ok=True)

    def put(self, names: list[str], level: int, row: int, col: int, planes: NDArray[np.uint16]) -> None:
        """Encode and keep one tile of every plane."""
        self._file.seek(self._end)
        for name, data in zip(names, self._pool.map(_encode, planes), strict=True):
            self._file.write(data)
            self._places[name, level, row, col] = (self._end, len(data))
            self._end += len(data)

    def tiles(self, name: str, level: int, shape: tuple[int, int], side: int) -> Iterator[bytes]:
        """Yield a plane's tiles in the order of a TIFF."""
        for row in range(-(-shape[0] // side)):
            for col in range(-(-shape[1] // side)):
                start, size = self._places[name, level, row, col]
                self._file.seek(start)
                yield self._file.read(size)


def draw(painter: Painter, spool: TileSpool, masks: ZarrZip) -> None:
    """Draw the whole slide into the spool, and its label masks into `cells.zarr.zip`."""
    shapes = level_shapes(painter.slide)
    side, top = painter.slide.tile, len(shapes) - 1
    for row in range(-(-shapes[top][0] // side)):
        for col in range(-(-shapes[top][1] // side)):
            _draw(painter, spool, masks, shapes, (top, row, col))


def _draw(
    painter: Painter, spool: TileSpool, masks: ZarrZip, shapes: list[tuple[int, int]], place: tuple[int, int, int]
) -> NDArray[np.uint16] | None:
    """Draw a tile and all that lies below it in the pyramid; return its planes, or none outside the image."""
    level, row, col = place
    side = painter.slide.tile
    height, width = shapes[level]
    if level == 0:
        if row * side >= height or col * side >= width:
            return None
        tile = painter.tile(row, col)
        for number, mask in enumerate(tile.masks):
            masks.put(f"masks/{number}", (row, col), mask)
        planes = tile.planes
    else:
        planes = np.zeros((len(painter.names), side, side), dtype=np.uint16)
        half = side // 2
        for down in (0, 1):
            for right in (0, 1):
                finer = _draw(painter, spool, masks, shapes, (level - 1, 2 * row + down, 2 * col + right))
                if finer is not None:
                    planes[:, down * half : (down + 1) * half, right * half : (right + 1) * half] = _halve(finer)
        planes[:, max(height - row * side, 0) :], planes[:, :, max(width - col * side, 0) :] = 0, 0
    if row * side < height and col * side < width:
        spool.put(painter.names, level, row, col, planes)
    return planes


def _halve(planes: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the mean of each 2 x 2 pixels, halves rounded up."""
    rows = planes[:, ::2].astype(np.uint32) + planes[:, 1::2]
    return ((rows[:, :, ::2] + rows[:, :, 1::2] + 2) // 4).astype(np.uint16)


def _encode(plane: NDArray[np.uint16]) -> bytes:
    encoded = imagecodecs.jpeg2k_encode(np.ascontiguousarray(plane), level=0, reversible=True, codecformat="j2k")
    return bytes(encoded)


def write_images(bundle: Path, slide: ToySlide, spool: TileSpool) -> None:
    """Write every OME-TIFF of a bundle from the spool."""
    files = image_files(slide)
    for number, file in enumerate(files):
        linked = files[1:] if number and slide.form.since_2 else [file]
        (bundle / file.name).parent.mkdir(parents=True, exist_ok=True)
        _write_tiff(bundle / file.name, slide, file, spool, _ome_xml(slide, file, linked))


def _write_tiff(path: Path, slide: ToySlide, file: ImageFile, spool: TileSpool, xml: str) -> None:
    shapes, side = level_shapes(slide), slide.tile
    with tifffile.TiffWriter(path, bigtiff=True, ome=False) as writer:
        for level, shape in enumerate(shapes):
            per_cm = 1e4 / (slide.pixel_size_um * 2**level)
            writer.write(
                (tile for name in file.planes for tile in spool.tiles(name, level, shape, side)),
                shape=(len(file.planes), *shape),
                dtype=np.uint16,
                tile=(side, side),
                compression="jpeg2000",
                photometric="minisblack",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                subifds=0 if level else len(shapes) - 1,
                description=None if level else xml.encode(),
                metadata=None,
                software=_SOFTWARE,
            )


def _ome_xml(slide: ToySlide, file: ImageFile, linked: list[ImageFile]) -> str:
    """Describe a file; files that are channels of one image name each other."""
    height, width = slide.image_shape
    plane = [(0, 0, z, z) for z in range(len(file.planes))] if len(linked) == 1 else None
    data = "".join(
        f'<TiffData FirstC="{channel}" FirstT="0" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">'
        f"<UUID FileName={quoteattr(Path(linked[owner].name).name)}>{_uuid(slide, linked[owner].name)}</UUID>"
        "</TiffData>"
        for owner, channel, z, ifd in (plane or [(number, number, 0, 0) for number in range(len(linked))])
    )
    channels = "".join(
        f'<Channel ID="Channel:{number}" Name={quoteattr(item.stain)} SamplesPerPixel="1"/>'
        for number, item in enumerate(linked)
    )
    size = repr(slide.pixel_size_um)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation='
        '"http://www.openmicroscopy.org/Schemas/OME/2016-06 http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd" '
        f'UUID="{_uuid(slide, file.name)}" Creator="{_SOFTWARE}">'
        f'<Image ID="Image:0" Name={quoteattr(slide.name)}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{width}" SizeY="{height}" '
        f'SizeC="{len(linked)}" SizeZ="{len(file.planes)}" SizeT="1" PhysicalSizeX="{size}" PhysicalSizeXUnit="µm" '
        f'PhysicalSizeY="{size}" PhysicalSizeYUnit="µm">{channels}{data}</Pixels></Image></OME>'
    )


def _uuid(slide: ToySlide, name: str) -> str:
    """Derive the file's UUID from the seed: random ones would change the bytes."""
    halves = (derive(slide.seed, "toy", slide.name, name, part) for part in ("high", "low"))
    value = next(halves) << 64 | next(halves)
    return f"urn:uuid:{uuid.UUID(int=value, version=4)}"
