"""How a cell's crop is cut: the smallest square around its polygon, at native resolution, in one record with its genes.

The square holds the polygon's bounding box, is centred on it to the pixel, and is zero-padded where it leaves
the image. Cells come in the order of cells.parquet, that is by 1,024-px block, so that going through the table
once goes down the slide once: of the image, one row of blocks and its borders are held at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.config.crops import Crops
from mistline.config.scales import Scale
from mistline.core.errors import InputError
from mistline.core.geometry import tile_of, um_to_px
from mistline.core.log import progress
from mistline.mist.expression import CountsFile, totals_of
from mistline.mist.pyramid import RowWindow
from mistline.mist.workers import workers
from mistline.store.codec import MAX_GENES, encode
from mistline.store.shard import ShardWriter

_BLOCK_PX = 1024
_GROUP_CELLS = 4096  # cells of one row of blocks whose counts are read at a time
_PIECE_CELLS = 256  # cells a thread takes at a time
COLUMNS = ("cell_id", "x_um", "y_um", "x_min_um", "x_max_um", "y_min_um", "y_max_um", "n_counts", "n_genes")
_ROUNDING_PX = 1e-6  # micrometres divided by the pixel size: a vertex on a pixel's edge stays on it


def boxes(cells: pd.DataFrame, pixel_size_um: float, settings: Crops) -> pd.DataFrame:
    """Place the square of every cell.

    Args:
        cells: the table, with the bounding box of each polygon in micrometres.
        pixel_size_um: micrometres a pixel.
        settings: context around the polygon and smallest side.

    Returns:
        row_px, col_px (top-left corner, negative beyond the border) and side_px, int64, one row a cell.
    """
    low = um_to_px(cells[["x_min_um", "y_min_um"]].to_numpy(), pixel_size_um)
    high = um_to_px(cells[["x_max_um", "y_max_um"]].to_numpy(), pixel_size_um)
    first = np.floor(low + _ROUNDING_PX).astype(np.int64)  # the pixels the polygon touches
    end = np.ceil(high - _ROUNDING_PX).astype(np.int64)
    wanted = np.ceil((high - low).max(axis=1) * settings.context - _ROUNDING_PX).astype(np.int64)
    side = np.maximum(np.maximum((end - first).max(axis=1), wanted), settings.min_side_px)
    centred = np.floor((low + high - side[:, None]) / 2 + 0.5).astype(np.int64)
    corner = np.clip(centred, end - side[:, None], first)  # whatever the rounding: it holds the polygon
    return pd.DataFrame({"row_px": corner[:, 0], "col_px": corner[:, 1], "side_px": side})


def index_of(
    cells: pd.DataFrame, squares: pd.DataFrame, pixel_size_um: float, scales: Sequence[Scale], slide: str, donor: str
) -> pd.DataFrame:
    """Describe every record: where it lies, what it is, and the tile of every grid scale that holds its centre.

    Args:
        cells: the table.
        squares: what `boxes` returned for it.
        pixel_size_um: micrometres a pixel.
        scales: all scales of the dataset; those on a grid become the columns `<scale>_id`.
        slide: the slide's name.
        donor: whose tissue it is.
    """
    columns: dict[str, Any] = {"key": np.arange(len(cells), dtype=np.int64), "slide": slide, "donor": donor}
    columns |= {name: cells[name].to_numpy() for name in ("cell_id", "x_um", "y_um")}
    columns |= {name: squares[name].to_numpy() for name in ("row_px", "col_px", "side_px")}
    columns["side_um"] = squares["side_px"].to_numpy() * pixel_size_um
    columns |= {name: cells[name].to_numpy(dtype=np.int64) for name in ("n_counts", "n_genes")}
    yx_px = um_to_px(cells[["x_um", "y_um"]].to_numpy(), pixel_size_um)
    for scale in scales:
        if scale.size_px is not None:
            columns[f"{scale.name}_id"] = tile_names(tile_of(yx_px, scale.size_px))
    return pd.DataFrame(columns)


def expected_bytes(index: pd.DataFrame, n_channels: int) -> int:
    """Estimate what the records take, from above for usual stains: sizes the first map of the shards."""
    return int((index["side_px"] ** 2).sum() * n_channels * 0.8 + index["n_genes"].sum() * 4 + len(index) * 1024)


def tile_names(tiles: NDArray[np.integer[Any]]) -> list[str]:
    """Return the name `{row}_{col}` of each tile [n, 2]: the foreign key of the grid scales."""
    return [f"{row}_{column}" for row, column in tiles.tolist()]


def cut(
    image: RowWindow, index: pd.DataFrame, pixel_size_um: float, counts: CountsFile, writer: ShardWriter, threads: int
) -> None:
    """Cut every cell's square and append it with its genes to the shards; key = row of the index.

    Args:
        image: the slide's 8-bit image.
        index: what `index_of` returned.
        pixel_size_um: micrometres a pixel.
        counts: rows in the order of the index.
        writer: takes the records.
        threads: pieces compressed at a time; the bytes do not depend on it.

    Raises:
        InputError: a square lies wholly outside the image, or the counts are not those of the index.
    """
    corners = index[["row_px", "col_px", "side_px"]].to_numpy()
    _refuse_outside(image, index, corners)
    bounds = _bounds(index, pixel_size_um)
    first = np.maximum(np.minimum.reduceat(corners[:, 0], bounds[:-1]), 0)
    end = np.minimum(np.maximum.reduceat(corners[:, 0] + corners[:, 2], bounds[:-1]), image.n_rows)
    first = np.minimum.accumulate(first[::-1])[::-1]  # rows a later group needs stay in the window
    with workers(threads) as each:
        for number in progress(range(len(first)), "cut crops"):
            rows, top = slice(*bounds[number : number + 2]), int(first[number])
            window = image.rows(top, int(end[number]))
            genes = counts.rows(rows.start, rows.stop)
            _require_same_counts(index.iloc[rows], genes, counts.path)
            pieces = _Pieces(window, top, corners[rows], genes, rows.start)
            for records in each(pieces, range(0, genes.shape[0], _PIECE_CELLS)):
                for record in records:
                    writer.put(record)


def _bounds(index: pd.DataFrame, pixel_size_um: float) -> list[int]:
    """Return where groups of cells begin, and the number of cells; none reaches over a row of blocks."""
    block = tile_of(um_to_px(index[["x_um", "y_um"]].to_numpy(), pixel_size_um), _BLOCK_PX)[:, 0]
    return sorted({*range(0, len(index), _GROUP_CELLS), *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(index)})


def square(window: NDArray[np.uint8], row: int, column: int, side: int) -> NDArray[np.uint8]:
    """Cut one square [C, side, side] out of a window [C, rows, X]; zeros beyond it."""
    if row >= 0 and column >= 0 and row + side <= window.shape[1] and column + side <= window.shape[2]:
        return window[:, row : row + side, column : column + side]
    padded = np.zeros((window.shape[0], side, side), dtype=np.uint8)
    inside = window[:, max(row, 0) : max(row + side, 0), max(column, 0) : max(column + side, 0)]
    y, x = max(-row, 0), max(-column, 0)
    padded[:, y : y + inside.shape[1], x : x + inside.shape[2]] = inside
    return padded


class _Pieces:
    """Makes the records of one piece of a group; called by several threads."""

    def __init__(
        self, window: NDArray[np.uint8], top: int, corners: NDArray[np.int64], genes: sparse.csr_matrix, first_key: int
    ) -> None:
        self._first_key = first_key
        self._window = window
        self._corners = corners - (top, 0, 0)
        self._index, self._count = narrow(genes)
        self._bounds = genes.indptr

    def __call__(self, start: int) -> list[bytes]:
        corners = self._corners[start : start + _PIECE_CELLS]
        bounds = self._bounds[start : start + len(corners) + 1].tolist()
        window, index, count, key = self._window, self._index, self._count, self._first_key + start
        # Columns, not rows, become lists: a list a cell would set off collections of everything imported.
        return [
            encode(square(window, row, column, side), index[low:high], count[low:high], key)
            for row, column, side, low, high, key in zip(
                *corners.T.tolist(), bounds[:-1], bounds[1:], range(key, key + len(corners)), strict=True
            )
        ]


def narrow(genes: sparse.csr_matrix) -> tuple[NDArray[np.uint16], NDArray[np.unsignedinteger[Any]]]:
    """Return indices and data of a CSR matrix in the types a record stores, checked once for all its rows.

    Raises:
        ValueError: a gene's position, or a count, does not fit.
    """
    if genes.shape[1] > MAX_GENES:
        raise ValueError(f"{genes.shape[1]} genes, a record numbers {MAX_GENES}")
    if genes.nnz and int(genes.data.min()) < 0:
        raise ValueError("a count is negative")
    wide = genes.nnz and int(genes.data.max()) > np.iinfo(np.uint16).max
    return genes.indices.astype(np.uint16), genes.data.astype(np.uint32 if wide else np.uint16)


def require_same_cells(cells: pd.DataFrame, counts: CountsFile, table: Path) -> None:
    """Refuse counts that are not those of the table, cell by cell.

    Raises:
        InputError: the ids differ.
    """
    if not np.array_equal(counts.cell_ids(), cells["cell_id"].to_numpy(dtype=str)):
        raise InputError(counts.path, f"its cells are not those of {table}", "run read_cells for this slide again")


def _require_same_counts(index: pd.DataFrame, genes: sparse.csr_matrix, path: Path) -> None:
    if not np.array_equal(totals_of(genes), index["n_counts"].to_numpy()):
        raise InputError(path, "its sums are not the n_counts of the table", "run read_cells for this slide again")


def _refuse_outside(image: RowWindow, index: pd.DataFrame, corners: NDArray[np.int64]) -> None:
    row, column, side = corners.T
    outside = (row >= image.n_rows) | (column >= image.n_columns) | (row + side <= 0) | (column + side <= 0)
    if outside.any():
        cell = index["cell_id"].iloc[int(np.flatnonzero(outside)[0])]
        raise InputError(f"cell {cell}", "its polygon lies outside the image", "run read_cells for this slide again")
