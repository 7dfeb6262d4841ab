"""Images in the form that the published SPATIA loader reads.

One LMDB file (no folder, no lock file): key `{dataset}/{cell_id}`, value 256 x 256 raw bytes of one channel, row by
row. The loader takes one file for all data sets, which is why slides share one here; `{dataset}` is the slide's name.
Tiles are keyed `{dataset}/grid_{row}_{col}_{side}_256`, as its tile script keys them.

Pixels are those of its way of resizing (bilinear on floats, smoothed first when shrinking, mirrored at the rim, then
truncated), up to one grey level.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError, OutputError
from mistline.core.files import atomic_path
from mistline.core.log import progress
from mistline.store.codec import Packed
from mistline.store.reader import ShardReader

SIDE_PX = 256
_PAGE = 4096
_VALUE_PAGES = SIDE_PX * SIDE_PX // _PAGE + 1  # LMDB's own header makes it one page more
_BATCH_RECORDS = 512  # a whole slide in one transaction would keep 70 KB a cell in memory
_SPARE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """One slide at one scale.

    Args:
        dataset: first part of its keys.
        ids: [n] second part, one a record, in the order of the shards.
        shards: folder of the records.
    """

    dataset: str
    ids: Sequence[str]
    shards: Path


class Resizer:
    """Brings square crops to 256 x 256, into one buffer that the next call overwrites."""

    def __init__(self) -> None:
        self._rims: dict[int, tuple[int, NDArray[np.float32]]] = {}
        self._float = np.empty((SIDE_PX, SIDE_PX), dtype=np.float32)
        self._bytes = np.empty((SIDE_PX, SIDE_PX), dtype=np.uint8)

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a crop uint8 [s, s]."""
        side = crop.shape[0]
        if side == SIDE_PX:
            self._bytes[:] = crop
            return self._bytes
        source = crop.astype(np.float32)
        if side > SIDE_PX:
            source = _smoothed(source, (side / SIDE_PX - 1) / 2)
        cv2.resize(source, (SIDE_PX, SIDE_PX), dst=self._float, interpolation=cv2.INTER_LINEAR)
        if 1 < side < SIDE_PX:
            if side not in self._rims:
                self._rims[side] = _rim(side)
            _mirror(self._float, *self._rims[side])
        np.copyto(self._bytes, self._float, casting="unsafe")  # truncates
        return self._bytes


def _rim(side: int) -> tuple[int, NDArray[np.float32]]:
    """Return a pixel between the centres of the first two source pixels, and the weights of those before the first.

    A pixel at -x, beyond the first centre, is what lies at x: the first source pixel and a share of the way to the
    second. That way is known from the pixel returned; OpenCV stops at the first centre.
    """
    source = (np.arange(SIDE_PX) + 0.5) * side / SIDE_PX - 0.5
    within = int(np.searchsorted(source, 1.0, side="right")) - 1
    return within, (-source[source < 0] / source[within]).astype(np.float32)


def _mirror(image: NDArray[np.float32], within: int, weights: NDArray[np.float32]) -> None:
    """Give the rim on all sides its mirrored values, in place."""
    n = len(weights)
    for lines in (image.T, image.T[::-1], image, image[::-1]):
        lines[:n] += weights[:, None] * (lines[within] - lines[0])


def _smoothed(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur by a Gaussian cut off at four sigma, mirrored at the border."""
    width = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (width, width), sigma, borderType=cv2.BORDER_REFLECT_101)


def write_published(path: Path, sources: Sequence[Source], channel: int = 0) -> int:
    """Write one LMDB file of all sources; equal records give equal bytes.

    Args:
        path: the file.
        sources: slides, each with its own name.
        channel: which channel of the records.

    Returns:
        The number of records written.

    Raises:
        InputError: a shard is damaged, or holds another number of records than there are ids.
        OutputError: the disk is too small, or the file cannot be written.
    """
    total = sum(len(source.ids) for source in sources)
    n_bytes = total * (_VALUE_PAGES * _PAGE + 128)
    _require_space(path, n_bytes)
    resize = Resizer()
    with atomic_path(path) as part:
        env = _open(part, n_bytes + n_bytes // 50 + _SPARE_BYTES)
        try:
            # Every slide's name and slash as bytes: keys must come in LMDB's own order.
            for source in sorted(sources, key=lambda source: f"{source.dataset}/".encode()):
                for batch in _batches(source):
                    with env.begin(write=True) as transaction:
                        for key, record in batch:
                            transaction.put(key, resize(record.image()[channel]).data, append=True)
        except lmdb.Error as problem:
            raise OutputError(
                path, f"it cannot be written ({problem})", "free space on the disk, then run again"
            ) from problem
        finally:
            env.close()
    return total


def _batches(source: Source) -> Iterator[list[tuple[bytes, Packed]]]:
    reader = ShardReader(source.shards)
    if len(reader) != len(source.ids):
        what = f"the shards hold {len(reader)} records, their index {len(source.ids)}"
        raise InputError(source.shards, what, "run the stage that cuts them, then seal_dataset")
    keys = [f"{source.dataset}/{name}".encode() for name in source.ids]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    starts = range(0, len(order), _BATCH_RECORDS)
    for start in progress(starts, source.dataset):
        rows = order[start : start + _BATCH_RECORDS]
        yield [(keys[row], record) for row, record in zip(rows, reader.packed(rows), strict=True)]


def _open(path: Path, map_bytes: int) -> Any:
    return lmdb.open(
        str(path),
        map_size=-(-map_bytes // _PAGE) * _PAGE,
        subdir=False,
        lock=False,
        mode=0o644,
        sync=False,  # atomic_path flushes the finished file, once
        metasync=False,
        max_dbs=0,
    )


def _require_space(path: Path, n_bytes: int) -> None:
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        what = f"{n_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise OutputError(path, what, "choose another disk, or fewer slides with --slide")
