"""Known labels of a slide's cells: a csv with `cell_id` and any other columns."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from mistline.core.errors import InputError, parsing
from mistline.xenium.cells import refuse_duplicates

PREFIX = "label_"


def read_labels(path: Path, cell_ids: pd.Index) -> pd.DataFrame:
    """Read the labels of a slide.

    Args:
        path: the csv; an empty field is a missing label.
        cell_ids: [n] ids of all cells of the bundle, kept or not.

    Returns:
        [n] rows in the order of `cell_ids`, one text column `label_<column>` each, None where there is no label.

    Raises:
        InputError: the file is missing or no csv, has no `cell_id` or nothing beside it, or names a cell twice or one
            that is not in the bundle.
    """
    table = _read(path)
    if "cell_id" not in table:
        what = f"no column cell_id (there are {', '.join(map(str, table.columns))})"
        raise InputError(path, what, _where_ids_are(table, cell_ids))
    if len(table.columns) < 2:
        raise InputError(path, "no column beside cell_id", "add a column of labels, such as cell_type")
    nameless = [str(name) for name in table.columns if not str(name) or str(name).startswith("Unnamed: ")]
    if nameless:
        raise InputError(path, "a column has no name", "name it or leave it out (of pandas: to_csv(index=False))")
    if (table["cell_id"] == "").any():
        raise InputError(path, "a row has no cell_id", "give every row the id of its cell")
    ids = table["cell_id"].to_numpy(dtype=object)
    refuse_duplicates(ids, path)
    foreign = ids[cell_ids.get_indexer(pd.Index(ids)) < 0]
    if len(foreign):
        raise InputError(
            path,
            f"labels of {len(foreign)} ids that are no cell of the bundle, such as {min(foreign)!r}",
            "use the ids of cells.parquet, or give the labels to the slide they belong to",
        )
    labels = table.set_index("cell_id").reindex(cell_ids).reset_index(drop=True).astype(object)
    labels.columns = [f"{PREFIX}{name}" for name in labels.columns]
    return labels.where(labels.notna() & (labels != ""), None)


def _where_ids_are(table: pd.DataFrame, cell_ids: pd.Index) -> str:
    """Return the remedy of a table without a column `cell_id`."""
    if len(table.columns) == 1 and any(mark in str(table.columns[0]) for mark in ";\t"):
        return "save it separated by commas"
    held = next((str(name) for name in table.columns if table[name].isin(cell_ids).any()), None)
    return f"rename {held} to cell_id" if held else "add a column cell_id with the ids of cells.parquet"


def _read(path: Path) -> pd.DataFrame:
    try:
        with parsing(path, "not a csv", "write comma-separated UTF-8 with a header"):
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            _refuse_ragged_rows(path, len(table.columns))
    except FileNotFoundError:
        raise InputError(path, "no such file", "correct labels: of the slide in the config") from None
    return table


def _refuse_ragged_rows(path: Path, n_columns: int) -> None:
    """Refuse rows of another length: pandas takes what is missing for an empty label, a field too many for a name."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.reader(stream)):
            if row and len(row) != n_columns:
                what = f"row {number} below the header has {len(row)} of {n_columns} fields"
                raise InputError(path, what, "the file may be cut off: write it again")
