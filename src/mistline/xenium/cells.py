"""The table of cells: ids, centroids and areas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mistline.core.errors import InputError
from mistline.xenium.ids import Ids, decode
from mistline.xenium.tables import stream_columns

_COLUMNS = {
    "x_centroid": "x_um",
    "y_centroid": "y_um",
    "cell_area": "cell_area_um2",
    "nucleus_area": "nucleus_area_um2",
    "transcript_counts": "transcript_counts",
}
_MAY_BE_ABSENT = {"nucleus_area_um2"}  # a cell without nucleus


def read_cells(path: Path) -> pd.DataFrame:
    """Read cells.parquet, in the file's order.

    Returns:
        cell_id (str), x_um, y_um (centroid), cell_area_um2, nucleus_area_um2 (NaN: no nucleus), transcript_counts.

    Raises:
        InputError: the file cannot be read, holds no cell, lacks a column, has an id twice or a value that is no
            finite number.
    """
    batches = list(stream_columns(path, ["cell_id", *_COLUMNS]))
    if not sum(batch.num_rows for batch in batches):
        raise InputError(path, "the table holds no cell", "check the run: its segmentation found nothing")
    table = pa.Table.from_batches(batches)
    cells = pd.DataFrame({"cell_id": decode(table["cell_id"], f"{path}, column cell_id")})
    for stored, name in _COLUMNS.items():
        cells[name] = _numbers(path, stored, table[stored])
    refuse_duplicates(cells["cell_id"].to_numpy(), path)
    for name in set(_COLUMNS.values()) - _MAY_BE_ABSENT:
        _refuse_unfinite(path, cells, name)
    return cells


def refuse_duplicates(ids: Ids, where: Path | str) -> None:
    """Check that no id occurs twice.

    Raises:
        InputError: names how many do, and one of them.
    """
    doubled = pd.Index(ids).duplicated()
    if doubled.any():
        raise InputError(
            where,
            f"{int(doubled.sum())} cell ids occur more than once, such as {min(ids[doubled])!r}",
            "use the file as the instrument wrote it; merged runs need one slide each",
        )


def _numbers(path: Path, stored: str, column: pa.ChunkedArray) -> np.ndarray:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(
            path,
            f"column {stored} is stored as {column.type}, not as numbers",
            "use the table as the instrument wrote it",
        )
    return column.cast(pa.float64(), safe=False).to_numpy()  # nulls become NaN


def _refuse_unfinite(path: Path, cells: pd.DataFrame, name: str) -> None:
    bad = ~np.isfinite(cells[name].to_numpy())
    if bad.any():
        stored = next(key for key, value in _COLUMNS.items() if value == name)
        raise InputError(
            path,
            f"{stored} is no finite number for {int(bad.sum())} cells, such as {cells['cell_id'][bad].min()!r}",
            "use the table as the instrument wrote it",
        )
