"""How a grid scale is cut: square tiles from (0, 0) that hold a cell's centre, with the summed genes of their cells.

Tiles do not overlap; the last row and column are zero-padded. Empty tiles are not stored. Rows of tiles are
taken in groups of about one 1,024-px block, the order of cells.parquet, so that cells and image are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.config.scales import Scale
from mistline.core.geometry import px_to_um, tile_of, um_to_px
from mistline.core.log import progress
from mistline.mist.crops import narrow, square, tile_names
from mistline.mist.expression import CountsFile
from mistline.mist.pyramid import RowWindow
from mistline.mist.workers import workers
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter

_BLOCK_PX = 1024


@dataclass(frozen=True)
class Grid:
    """The tiles of one scale that hold cells.

    Args:
        name: the scale's.
        size_px: side of a tile.
        tiles: [T, 2] row, column of each tile, sorted.
        tile_of_cell: [n] position in `tiles` of each cell's tile.
    """

    name: str
    size_px: int
    tiles: NDArray[np.int64]
    tile_of_cell: NDArray[np.int64]


def grid_of(cells: pd.DataFrame, pixel_size_um: float, name: str, size_px: int) -> Grid:
    """Find the tiles that hold the centre of a cell.

    Args:
        cells: the table.
        pixel_size_um: micrometres a pixel.
        name: the scale's.
        size_px: side of a tile.
    """
    yx_px = um_to_px(cells[["x_um", "y_um"]].to_numpy(), pixel_size_um)
    tiles, inverse = np.unique(tile_of(yx_px, size_px), axis=0, return_inverse=True)
    return Grid(name, size_px, tiles, inverse.reshape(-1))


def expected_bytes(grid: Grid, n_channels: int) -> int:
    """Estimate what the records take: sizes the first map of the shards."""
    return int(len(grid.tiles) * grid.size_px**2 * n_channels * 0.8)


def cut(image: RowWindow, grid: Grid, counts: CountsFile, writer: ShardWriter, threads: int) -> pd.DataFrame:
    """Cut every tile and append it with its summed genes to the shards; key = row of `grid.tiles`.

    Args:
        image: the slide's 8-bit image.
        grid: what `grid_of` returned.
        counts: rows in the order of the cells table.
        writer: takes the records.
        threads: tiles compressed at a time; the bytes do not depend on it.

    Returns:
        n_cells, n_counts, n_genes of each tile.
    """
    sums: list[pd.DataFrame] = []
    with workers(threads) as each:
        for group in progress(list(_groups(grid)), f"cut {grid.name} tiles"):
            genes, n_cells = _summed(grid, group, counts)
            for record in _encoded(image, grid, group, genes, each):
                writer.put(record)
            totals = np.asarray(genes.sum(axis=1, dtype=np.int64)).ravel()
            sums.append(
                pd.DataFrame(
                    {"n_cells": n_cells, "n_counts": totals, "n_genes": np.diff(genes.indptr).astype(np.int64)}
                )
            )
    return pd.concat(sums, ignore_index=True)


def index_of(
    grid: Grid, sums: pd.DataFrame, pixel_size_um: float, scales: Sequence[Scale], slide: str, donor: str
) -> pd.DataFrame:
    """Describe every record, with the tile of each coarser grid whose size is a multiple of this one's."""
    row, column = grid.tiles.T
    xy_um = px_to_um((grid.tiles + 0.5) * grid.size_px, pixel_size_um)
    columns: dict[str, Any] = {"key": np.arange(len(row), dtype=np.int64), "slide": slide, "donor": donor}
    columns |= {f"{grid.name}_id": tile_names(grid.tiles), "row": row, "col": column}
    columns |= {"x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "side_px": np.int64(grid.size_px)}
    columns |= {name: sums[name].to_numpy() for name in ("n_cells", "n_counts", "n_genes")}
    for other in scales:
        if other.size_px is not None and other.size_px > grid.size_px and other.size_px % grid.size_px == 0:
            columns[f"{other.name}_id"] = tile_names(grid.tiles // (other.size_px // grid.size_px))
    return pd.DataFrame(columns)


def _groups(grid: Grid) -> Iterator[slice]:
    """Split the sorted tiles into runs of whole tile rows, together at most one block high where a tile is lower."""
    band = grid.tiles[:, 0] // max(1, _BLOCK_PX // grid.size_px)
    bounds = [0, *(np.flatnonzero(np.diff(band)) + 1).tolist(), len(band)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def _summed(grid: Grid, group: slice, counts: CountsFile) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """Return the summed counts [tiles of the group, G] and the number of cells of each tile."""
    members = np.flatnonzero((grid.tile_of_cell >= group.start) & (grid.tile_of_cell < group.stop))
    first, last = int(members[0]), int(members[-1]) + 1
    tile = grid.tile_of_cell[members] - group.start
    shape = (group.stop - group.start, last - first)
    which = sparse.csr_matrix((np.ones(len(members), dtype=np.int64), (tile, members - first)), shape=shape)
    genes = (which @ counts.rows(first, last).astype(np.int64)).tocsr()
    genes.eliminate_zeros()
    genes.sort_indices()
    return genes, np.bincount(tile, minlength=shape[0]).astype(np.int64)


def _encoded(
    image: RowWindow, grid: Grid, group: slice, genes: sparse.csr_matrix, each: Callable[..., Iterator[Any]]
) -> Iterator[bytes]:
    size = grid.size_px
    tiles = grid.tiles[group]
    index, count = narrow(genes)
    for row in np.unique(tiles[:, 0]).tolist():
        window = image.rows(row * size, min((row + 1) * size, image.n_rows))
        own = np.flatnonzero(tiles[:, 0] == row)

        def make(number: int, window: NDArray[np.uint8] = window) -> bytes:
            bounds = slice(genes.indptr[number], genes.indptr[number + 1])
            pixels = square(window, 0, int(tiles[number, 1]) * size, size)
            return encode(pixels, index[bounds], count[bounds], group.start + number)

        yield from each(make, own.tolist())
