"""Which cells or spots of a table enter the dataset, in one order for every file of the slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.cells import Cells
from mistline.core.errors import InputError
from mistline.core.geometry import tile_of, um_to_px
from mistline.mist.labels import PREFIX
from mistline.spots.table import Table

BLOCK_UM = 200.0  # cells are stored block by block, so that neighbours in the file are neighbours on the slide
REASONS = ("not_in_tissue", "no_counts_row", "below_min_counts")


@dataclass(frozen=True)
class Kept:
    """The kept cells.

    Args:
        table: cells.parquet.
        rows: [n] each kept cell's row of the table that was read.
        summary: what cells.json says.
    """

    table: pd.DataFrame
    rows: NDArray[np.int64]
    summary: dict[str, Any]


def keep(table: Table, settings: Cells, values: str, labels: pd.DataFrame | None = None) -> Kept:
    """Exclude, with a reason, what cannot be used, and bring the rest into order.

    Args:
        table: what was read.
        settings: the section cells.
        values: what the matrix holds; `min_counts` is a number of counts, and asks other values not to be all zero.
        labels: [n] rows, columns `label_<column>`, from a labels file.

    Raises:
        InputError: the labels file has a column that the table has too, more than `max_excluded_share` of the cells
            lack a row of the matrix, or no cell remains.
    """
    known = _labels(table, labels)
    n_counts = np.asarray(table.genes.matrix.sum(axis=1, dtype=np.float64)).ravel()
    n_genes = np.diff(table.genes.matrix.indptr).astype(np.int64)
    too_few = n_counts < settings.min_counts if values == "counts" else (n_genes == 0) & (settings.min_counts > 0)
    tests = {
        "not_in_tissue": ~table.in_tissue,
        "no_counts_row": ~table.has_row,
        "below_min_counts": too_few & bool(table.genes.ids),  # positions alone hold no counts to be too few
    }
    reason = np.select([tests[name] for name in REASONS], REASONS, default="")
    excluded = {name: int((reason == name).sum()) for name in REASONS}
    _refuse_share(table, excluded, settings.max_excluded_share)
    rows = np.flatnonzero(reason == "")
    if not len(rows):
        told = ", ".join(f"{name} {n}" for name, n in excluded.items() if n)
        raise InputError(table.where, f"no cell remains ({told})", "lower cells.min_counts or leave it out")
    rows = rows[_order(table, rows)]
    kept = _columns(table, rows).assign(n_counts=n_counts[rows], n_genes=n_genes[rows])
    kept = pd.concat([kept, known.iloc[rows].reset_index(drop=True)], axis=1)
    summary = {
        "n_read": len(table.cell_ids),
        "n_kept": len(rows),
        "excluded": excluded,
        "control_features": dict(table.genes.other_features),
        "control_counts": 0,
        "joins": {"cells_without_counts": int((~table.has_row).sum())},
        "labels": {name.removeprefix(PREFIX): int(kept[name].notna().sum()) for name in known},
        "columns_left_out": dict(table.left_out),
    }
    return Kept(kept, rows, summary)


def _labels(table: Table, labels: pd.DataFrame | None) -> pd.DataFrame:
    own = table.labels.add_prefix(PREFIX)
    if labels is None:
        return own
    both = sorted(set(own) & set(labels))
    if both:
        what = f"the column {both[0].removeprefix(PREFIX)} is in obs and in the labels file"
        raise InputError(table.where, what, "rename it in the labels file")
    return pd.concat([own, labels.reset_index(drop=True)], axis=1)


def _refuse_share(table: Table, excluded: dict[str, int], share: float) -> None:
    n = int(table.in_tissue.sum())
    if excluded["no_counts_row"] > share * n:
        raise InputError(
            table.where,
            f"{excluded['no_counts_row']} of {n} spots in the tissue have no row in the matrix, more than"
            f" cells.max_excluded_share {share:g}",
            "use the matrix and the positions of one run, or raise cells.max_excluded_share",
        )


def _order(table: Table, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort by place on the array, else by block of place, then y and x; without coordinates by id."""
    ids = table.cell_ids[rows].astype(str)
    if table.places is None:
        return np.argsort(ids, kind="stable")
    if table.places.grid is not None:
        grid = table.places.grid[rows]
        return np.lexsort((ids, grid[:, 1], grid[:, 0]))
    xy_um = table.places.xy_um[rows]
    block = tile_of(um_to_px(xy_um, BLOCK_UM), 1)
    return np.lexsort((ids, xy_um[:, 0], xy_um[:, 1], block[:, 1], block[:, 0]))


def _columns(table: Table, rows: NDArray[np.int64]) -> pd.DataFrame:
    xy_um = np.full((len(rows), 2), np.nan) if table.places is None else table.places.xy_um[rows]
    found = {"cell_id": table.cell_ids[rows], "x_um": xy_um[:, 0], "y_um": xy_um[:, 1]}
    if table.places is not None and table.places.grid is not None:
        grid = table.places.grid[rows].astype(np.int32)
        found |= {"array_row": pd.array(grid[:, 0], dtype="Int32"), "array_col": pd.array(grid[:, 1], dtype="Int32")}
    return pd.DataFrame(found)
