"""The image that the coordinates of a table lie on: windows of its pixels, whatever the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from mistline.core.errors import InputError, parsing
from mistline.xenium.histology import open_histology

_SAVE_AS = "save it as 8-bit RGB TIFF, JPEG or PNG"
_AGAIN = "copy it again"
_JPEG, _PNG, _TIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ENDS = {_JPEG: b"\xff\xd9", _PNG: b"IEND"}  # a file without one was cut off; a decoder would fill the rest in grey
_FREE_BYTES, _MOST = 2**26, 256  # an image may be so large anyway, or so many times its file
_TAIL_BYTES = 64 * 1024  # cameras and scanners may write a little behind the end

Read = Callable[[tuple[int, int], tuple[int, int]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Picture:
    """An open image.

    Args:
        shape_px: rows, columns.
        read: (first and end row, first and end column) inside of it -> uint8 [rows, columns, 3].
    """

    shape_px: tuple[int, int]
    read: Read


@contextmanager
def open_picture(path: Path, scratch: Path) -> Iterator[Picture]:
    """Open an image; a TIFF is read window by window, a JPEG or PNG is decoded as a whole.

    Args:
        path: the file.
        scratch: folder where compressed strips of a TIFF may be unpacked into a nameless file.

    Raises:
        InputError: it is missing, damaged, or no 8-bit RGB image.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "correct image in the slide sheet")
    with path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(_TIFF):
        with open_histology(path, scratch) as histology:
            yield Picture(histology.shape_px, lambda rows, columns: histology.read(0, rows, columns))
    elif start.startswith(_JPEG) or start == _PNG:
        pixels = _decoded(path, _PNG if start == _PNG else _JPEG)
        yield Picture(pixels.shape[:2], lambda rows, columns: pixels[slice(*rows), slice(*columns)])
    else:
        raise InputError(path, "no TIFF, JPEG or PNG", _SAVE_AS)


def _require_plausible(path: Path, n_bytes: int, header: type[JpegImageFile | PngImageFile]) -> None:
    """Refuse an image that claims more pixels than its bytes can tell of: they would fill memory."""
    with parsing(path, "the image is damaged", _AGAIN), header(path) as found:
        columns, rows = found.size
    n_pixels = 3 * rows * columns
    if n_pixels > _FREE_BYTES and n_pixels > _MOST * n_bytes:
        raise InputError(path, f"it claims {rows} x {columns} px and has {n_bytes} bytes", _SAVE_AS)


def _decoded(path: Path, kind: bytes) -> NDArray[np.uint8]:
    data = path.read_bytes()
    if _ENDS[kind] not in data[-_TAIL_BYTES:]:
        raise InputError(path, "the file ends before its image does", _AGAIN)
    _require_plausible(path, len(data), JpegImageFile if kind == _JPEG else PngImageFile)
    try:
        pixels = imagecodecs.jpeg8_decode(data) if kind == _JPEG else imagecodecs.png_decode(data)
    except (RuntimeError, ValueError) as error:
        raise InputError(path, f"the image is damaged ({error})", _AGAIN) from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        found = f"{pixels.dtype} with {1 if pixels.ndim == 2 else pixels.shape[2]} channels"
        raise InputError(path, f"an image has red, green and blue of 8 bits, not {found}", _SAVE_AS)
    return np.asarray(pixels)
