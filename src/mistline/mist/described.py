"""What `bundle.json` and `image.json` say of a slide's image, checked: a file of a run may be damaged or edited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json


@dataclass(frozen=True)
class Described:
    """A slide's image.

    Args:
        slide: whose it is.
        shape_px: rows and columns at full resolution.
        pixel_size_um: micrometres a pixel.
    """

    slide: str
    shape_px: tuple[int, int]
    pixel_size_um: float


def read_described(path: Path) -> Described:
    """Read `bundle.json` (of a Xenium bundle) or `image.json`.

    Raises:
        InputError: the file is missing, no JSON object, lacks one of these values, or has one that cannot be.
    """
    values = _object(path, read_json(path))
    image = _object(path, values["image"]) if "image" in values else values
    slide, shape, size = values["slide"], image["shape_px"], values["pixel_size_um"]
    if not isinstance(slide, str):
        raise _wrong(path, "slide", slide, "a name")
    if not isinstance(shape, list) or [type(side) for side in shape] != [int, int] or min(shape) < 1:
        raise _wrong(path, "shape_px", shape, "two whole numbers above zero")
    if type(size) not in (int, float) or not 0 < size < math.inf:
        raise _wrong(path, "pixel_size_um", size, "a number above zero")
    return Described(slide, (shape[0], shape[1]), float(size))


def _object(path: Path, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(path, "not the JSON object it should be", "remove it and run its stage again")
    return value


def _wrong(path: Path, key: str, value: Any, wanted: str) -> InputError:
    return InputError(path, f"{key} is {value!r}, not {wanted}", "remove it and run its stage again")
