"""H&E records: the squares of an index, cut out of the registered H&E, under the same keys and without genes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.log import progress
from mistline.mist.crops import square
from mistline.mist.pyramid import RowWindow
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter

_BLOCK_PX = 1024  # cells and tiles are sorted by rows of this height, or by less
_GROUP_RECORDS = 4096
_PIECE_RECORDS = 64
_NO_GENES = np.zeros(0, dtype=np.uint16)


def squares_of(index: pd.DataFrame) -> NDArray[np.int64]:
    """Return row, column and side [n, 3] of the squares that an index describes, of cells or of a grid."""
    side = index["side_px"].to_numpy(dtype=np.int64)
    if "row_px" in index:
        corner = index[["row_px", "col_px"]].to_numpy(dtype=np.int64)
    else:
        corner = index[["row", "col"]].to_numpy(dtype=np.int64) * side[:, None]
    return np.column_stack([corner, side])


def expected_bytes(squares: NDArray[np.int64], n_channels: int) -> int:
    """Estimate what the records take: sizes the first map of the shards."""
    return int((squares[:, 2] ** 2).sum() * n_channels * 0.8 + len(squares) * 256)


def cut(image: RowWindow, squares: NDArray[np.int64], writer: ShardWriter, threads: int) -> None:
    """Cut every square and append it to the shards; key = row of the index.

    Args:
        image: the registered H&E.
        squares: what `squares_of` returned.
        writer: takes the records.
        threads: pieces compressed at a time; the bytes do not depend on it.

    Raises:
        InputError: a square lies wholly outside the image.
    """
    row, column, side = squares.T
    outside = (row >= image.n_rows) | (column >= image.n_columns) | (row + side <= 0) | (column + side <= 0)
    if outside.any():
        what = f"the square of key {int(outside.argmax())} lies outside the H&E's grid"
        raise InputError("the index", what, "run register_he for this slide again")
    groups = list(_groups(squares))
    starts = [group.start for group in groups]
    first = np.maximum(np.minimum.reduceat(row, starts), 0)
    end = np.minimum(np.maximum.reduceat(row + side, starts), image.n_rows)
    first = np.minimum.accumulate(first[::-1])[::-1]  # rows a later group needs stay in the window
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for number, group in enumerate(progress(groups, "cut H&E")):
            window = image.rows(int(first[number]), int(end[number]))
            places = (squares[group] - (int(first[number]), 0, 0)).tolist()
            keyed = list(enumerate(places, group.start))
            pieces = [keyed[start : start + _PIECE_RECORDS] for start in range(0, len(keyed), _PIECE_RECORDS)]

            def make(piece: list[tuple[int, list[int]]], window: NDArray[np.uint8] = window) -> list[bytes]:
                return [encode(square(window, *place), _NO_GENES, _NO_GENES, key) for key, place in piece]

            for records in pool.map(make, pieces):
                for record in records:
                    writer.put(record)


def _groups(squares: NDArray[np.int64]) -> Iterator[slice]:
    """Split the squares into runs within one band of rows, of bounded number."""
    band = (squares[:, 0] + squares[:, 2] // 2) // _BLOCK_PX
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(band)) + 1, [len(band)]])
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        for part in range(start, stop, _GROUP_RECORDS):
            yield slice(part, min(part + _GROUP_RECORDS, stop))
