"""Generated images of cells on disk, with what made them: one safetensors file.

Each set of images (`generated`, `dealt`, `autoencoder`) is one uint8 tensor, a row for each cell. The header carries,
as JSON under one key (several would be stored in no fixed order), the origin as an embedding has it, the cells, how
the images were drawn, and a checksum of every tensor.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mistline.core.errors import InputError
from mistline.core.files import atomic_path
from mistline.store.embeddings import Origin

_KEY = "mistline"
_REMEDY = "run generate again"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images of n cells.

    Args:
        slide: [n] names.
        cell_id: [n] ids.
        images: name of a set -> uint8 [n, C, S, S].
        origin: the generator's run, seed, hash of its weights, and the dataset.
        about: how they were drawn, JSON values only.
    """

    slide: NDArray[np.str_]
    cell_id: NDArray[np.str_]
    images: Mapping[str, NDArray[np.uint8]]
    origin: Origin
    about: Mapping[str, Any]


def write_pictures(path: Path, pictures: Pictures) -> None:
    """Write images; equal pictures are equal bytes.

    Raises:
        InputError: there is none, or a set is not uint8 [n, C, S, S] of the n cells.
    """
    wrong = _wrong(pictures)
    if wrong:
        raise InputError(path, wrong, "mend what draws them")
    arrays = {name: np.ascontiguousarray(pictures.images[name]) for name in sorted(pictures.images)}
    header = {
        "origin": asdict(pictures.origin),
        "about": dict(pictures.about),
        "slide": [str(name) for name in pictures.slide],
        "cell_id": [str(name) for name in pictures.cell_id],
        "crc32": {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()},
    }
    with atomic_path(path) as part:
        save_file(arrays, part, {_KEY: json.dumps(header, sort_keys=True, ensure_ascii=False)})


def read_origin(path: Path) -> Origin:
    """Read what images were made from, and no image.

    Raises:
        InputError: the file is missing, damaged or carries no origin.
    """
    return _read(path, with_images=False).origin


def read_pictures(path: Path) -> Pictures:
    """Read images.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    return _read(path, with_images=True)


def _read(path: Path, with_images: bool) -> Pictures:
    if not Path(path).is_file():
        raise InputError(path, "no such file", "run generate")
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            arrays = {name: file.get_tensor(name) for name in header["crc32"]} if with_images else {}
        slide, cell_id = (np.array(header[name], dtype=np.str_) for name in ("slide", "cell_id"))
        found = Pictures(slide, cell_id, arrays, Origin(**header["origin"]), header["about"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        what = f"not readable as generated images ({type(error).__name__}: {error})"
        raise InputError(path, what, _REMEDY) from None
    for name, array in arrays.items():
        if zlib.crc32(array.tobytes()) != header["crc32"][name]:
            raise InputError(path, f"the images {name!r} are not those that were written", _REMEDY)
    wrong = _wrong(found) if with_images else ""
    if wrong:
        raise InputError(path, wrong, _REMEDY)
    return found


def _wrong(pictures: Pictures) -> str:
    """Return what is wrong with images; empty where nothing is."""
    n = len(pictures.cell_id)
    if not n or len(pictures.slide) != n:
        return f"{n} cells of {len(pictures.slide)} slides: each cell has one slide, and one cell is the least"
    if not pictures.images:
        return "there is no image"
    shape = next(iter(pictures.images.values())).shape
    for name, array in pictures.images.items():
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[2] != array.shape[3]:
            return f"the images {name!r} are {array.dtype} {list(array.shape)}, not uint8 [n, C, S, S]"
        if array.shape != shape or len(array) != n:
            return f"the images {name!r} are {list(array.shape)}, the first {list(shape)}, of {n} cells"
    return ""
