"""Polygons of cells and nuclei, vertex by vertex: what a viewer draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.xenium.ids import decode, require_ids
from mistline.xenium.tables import columns_of, stream_columns

_REMEDY = "restore the table as the instrument wrote it, then run read_cells for this slide again"


@dataclass(frozen=True, slots=True)
class Outlines:
    """Closed polygons, by owner.

    Args:
        owner: [p] row of each polygon's cell among the ids asked for, ascending; a cell may own several.
        start: [p + 1] where each polygon's vertices begin.
        xy_um: float32 [v, 2] vertices, in the order of the file.
    """

    owner: NDArray[np.int64]
    start: NDArray[np.int64]
    xy_um: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.owner)


def read_outlines(path: Path, cell_ids: pd.Index) -> Outlines:
    """Read the polygons of some cells; those of other cells are passed over.

    Several polygons of one cell (nuclei) are told apart by `label_id`, where the table has it. Rows may come in any
    order as long as the vertices of a polygon follow one another.

    Args:
        path: cell_boundaries.parquet or nucleus_boundaries.parquet.
        cell_ids: [n] ids, unique.

    Raises:
        InputError: the table cannot be read, lacks a column or holds a vertex that is no finite number.
    """
    parts = list(_batches(path, cell_ids, "label_id" in columns_of(path)))
    cell = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, dtype=np.int64)
    label = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, dtype=np.int64)
    xy_um = np.concatenate([part[2] for part in parts]) if parts else np.empty((0, 2), dtype=np.float32)
    if not np.isfinite(xy_um).all():
        raise InputError(path, "a vertex is no finite number", _REMEDY)
    order = np.lexsort((label, cell))  # stable: vertices keep the order of the file
    cell, label = cell[order], label[order]
    first = np.flatnonzero(np.diff(cell, prepend=-1).astype(bool) | np.diff(label, prepend=-1).astype(bool))
    return Outlines(cell[first], np.append(first, len(cell)), xy_um[order])


def _batches(
    path: Path, cell_ids: pd.Index, has_label: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield (row of the cell, label within the cell, vertices) of each batch, wanted cells only."""
    for batch in stream_columns(path, ["cell_id", "vertex_x", "vertex_y", *(["label_id"] if has_label else [])]):
        column = batch.column("cell_id")
        require_ids(column.type, f"{path}, column cell_id")
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        if encoded.null_count:
            raise InputError(path, f"{encoded.null_count} vertices have no cell_id", _REMEDY)
        position = cell_ids.get_indexer(pd.Index(decode(encoded.dictionary, f"{path}, column cell_id")))
        cell = position[encoded.indices.to_numpy(zero_copy_only=False)].astype(np.int64)
        kept = cell >= 0
        label = _numbers(path, batch, "label_id", np.int64) if has_label else np.zeros(len(cell), dtype=np.int64)
        xy_um = np.stack([_numbers(path, batch, name, np.float32) for name in ("vertex_x", "vertex_y")], axis=1)
        yield cell[kept], label[kept], xy_um[kept]


def _numbers(path: Path, batch: pa.RecordBatch, name: str, kind: type) -> NDArray[np.generic]:
    column = batch.column(name)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)) or column.null_count:
        raise InputError(path, f"{name} is not a number everywhere", _REMEDY)
    return column.to_numpy(zero_copy_only=False).astype(kind)
