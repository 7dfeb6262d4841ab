"""Polygons of cells and nuclei, reduced to what the dataset needs while they stream past.

Rows may come in any order, even with the vertices of a polygon scattered over the file: every figure here is
independent of it, to the last bit. That is why a flat polygon is recognised by the spread of its vertices (in
integers, so that no order of summation matters) and not by the area its vertices enclose when followed in turn.
"""

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

MIN_THICKNESS_UM = 0.01  # root mean square distance of the vertices from the line through them
_STEPS_PER_UM = 1024
_FARTHEST_UM = 1e5  # of a vertex from the origin, so that sums of squares stay exact; a slide is 75 mm long
_LABEL_BITS = 32
_REMEDY = "use the table that belongs to this bundle's cells.parquet"


@dataclass(frozen=True)
class Polygons:
    """What is known of each cell's polygon, in the order of the cell ids asked for.

    Args:
        n_vertices: [n] vertices found; 0 means no polygon.
        box_um: [n, 4] x_min, x_max, y_min, y_max in micrometres; NaN without polygon.
        is_flat: [n] fewer than three distinct vertices, or all on one line.
    """

    n_vertices: NDArray[np.int64]
    box_um: NDArray[np.float64]
    is_flat: NDArray[np.bool_]


def read_polygons(path: Path, cell_ids: pd.Index) -> Polygons:
    """Read the bounding box of every cell's polygon.

    Args:
        path: cell_boundaries.parquet.
        cell_ids: [n] ids of the bundle's cells, unique.

    Raises:
        InputError: the table cannot be read, has a vertex that is no number, or polygons of ids that are no cell.
    """
    n = len(cell_ids)
    low, high = np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
    count = np.zeros(n, dtype=np.int64)
    origin = np.zeros((n, 2), dtype=np.int64)  # any vertex of the cell; moments do not depend on which
    moments = np.zeros((n, 5), dtype=np.int64)  # sums of x, y, xx, yy, xy in steps
    for codes, batch in _grouped(path, cell_ids, ["vertex_x", "vertex_y"]):
        xy_um = _vertices(path, batch)
        order = np.argsort(codes, kind="stable")
        cell, start, length = np.unique(codes[order], return_index=True, return_counts=True)
        xy_um = xy_um[order]
        low[cell] = np.minimum(low[cell], np.minimum.reduceat(xy_um, start))
        high[cell] = np.maximum(high[cell], np.maximum.reduceat(xy_um, start))
        steps = np.rint(xy_um * _STEPS_PER_UM).astype(np.int64)
        fresh = count[cell] == 0
        origin[cell[fresh]] = steps[start[fresh]]
        x, y = (steps - np.repeat(origin[cell], length, axis=0)).T
        moments[cell] += np.add.reduceat(np.stack([x, y, x * x, y * y, x * y], axis=1), start)
        count[cell] += length
    box = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
    box[count == 0] = np.nan
    return Polygons(n_vertices=count, box_um=box, is_flat=(count > 0) & _is_flat(count, moments))


def count_nuclei(path: Path, cell_ids: pd.Index) -> NDArray[np.int64]:
    """Count each cell's nuclei.

    A cell may have several, told apart by `label_id`; tables without that column (1.x) hold one a cell.

    Args:
        path: nucleus_boundaries.parquet.
        cell_ids: [n] ids of the bundle's cells, unique.

    Raises:
        InputError: as for `read_polygons`.
    """
    has_label = "label_id" in columns_of(path)
    found = [np.empty(0, dtype=np.int64)]
    for codes, batch in _grouped(path, cell_ids, ["label_id"] if has_label else []):
        label = _labels(path, batch) if has_label else np.zeros(len(codes), dtype=np.int64)
        found.append(np.unique(codes << _LABEL_BITS | label))
    nuclei = np.unique(np.concatenate(found))
    return np.bincount(nuclei >> _LABEL_BITS, minlength=len(cell_ids))


def _grouped(path: Path, cell_ids: pd.Index, columns: list[str]) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
    """Yield each batch with the position of its rows' cells among `cell_ids`."""
    foreign: set[str] = set()
    for batch in stream_columns(path, ["cell_id", *columns]):
        column = batch.column("cell_id")
        require_ids(column.type, f"{path}, column cell_id")
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        if encoded.null_count:
            raise InputError(path, f"{encoded.null_count} vertices have no cell_id", _REMEDY)
        ids = decode(encoded.dictionary, f"{path}, column cell_id")
        position = cell_ids.get_indexer(pd.Index(ids))
        rows = encoded.indices.to_numpy(zero_copy_only=False)
        codes = position[rows].astype(np.int64)
        foreign.update(ids[np.unique(rows[codes < 0])])
        if batch.num_rows and not foreign:
            yield codes, batch
    if foreign:
        raise InputError(
            path, f"polygons of {len(foreign)} ids that are no cell of the bundle, such as {min(foreign)!r}", _REMEDY
        )


def _vertices(path: Path, batch: pa.RecordBatch) -> NDArray[np.float64]:
    columns = [batch.column(name) for name in ("vertex_x", "vertex_y")]
    if not all(pa.types.is_floating(column.type) or pa.types.is_integer(column.type) for column in columns):
        raise InputError(path, "vertex_x or vertex_y is not stored as numbers", _REMEDY)
    numbers = [column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for column in columns]
    xy_um = np.stack(numbers, axis=1)
    if not np.isfinite(xy_um).all():
        raise InputError(path, "a vertex is no finite number", "copy the table again from the run's output bundle")
    if (np.abs(xy_um) > _FARTHEST_UM).any():
        far = float(np.abs(xy_um).max())
        raise InputError(path, f"a vertex lies at {far:g} um, on no slide", "use the table as the instrument wrote it")
    return xy_um


def _labels(path: Path, batch: pa.RecordBatch) -> NDArray[np.int64]:
    column = batch.column("label_id")
    if not pa.types.is_integer(column.type) or column.null_count:
        raise InputError(path, "label_id is not a whole number everywhere", _REMEDY)
    label = column.to_numpy(zero_copy_only=False).astype(np.int64)
    if label.size and (label.min() < 0 or label.max() >= 1 << _LABEL_BITS):
        raise InputError(path, f"a label_id does not fit {_LABEL_BITS} bits", _REMEDY)
    return label


def _is_flat(count: NDArray[np.int64], moments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell whether the smaller principal spread of the vertices is below MIN_THICKNESS_UM."""
    x, y, xx, yy, xy = moments.T
    a, b, c = (count * xx - x * x), (count * xy - x * y), (count * yy - y * y)  # n^2 times the covariance, exact
    a, b, c = a.astype(np.float64), b.astype(np.float64), c.astype(np.float64)
    largest = (a + c) / 2 + np.hypot((a - c) / 2, b)
    smallest = np.divide(a * c - b * b, largest, out=np.zeros_like(a), where=largest > 0)
    thickness_um = np.sqrt(np.maximum(smallest, 0)) / np.maximum(count, 1) / _STEPS_PER_UM
    return thickness_um < MIN_THICKNESS_UM
