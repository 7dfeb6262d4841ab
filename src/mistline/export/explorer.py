"""Groups of cells for Xenium Explorer: a CSV `cell_id,group` a column, loaded on top of the original bundle."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

logger = logging.getLogger("mistline.export")


def write_groups(folder: Path, cells: pd.DataFrame, columns: Sequence[str]) -> None:
    """Write `<column>.csv` for every column.

    Args:
        folder: an empty folder.
        cells: `cell_id`, as the bundle's own viewer shows it, and the columns; missing where a cell has no group.
        columns: which to write; safe names (`mistline.export.names`).
    """
    for column in columns:
        known = cells.loc[cells[column].notna(), ["cell_id", column]]
        with (folder / f"{column}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["cell_id", "group"])
            writer.writerows(zip(known["cell_id"].astype(str), known[column].astype(str), strict=True))
        without = len(cells) - len(known)
        left_out = f", {without} cells without a value left out" if without else ""
        logger.info("%s.csv: %d cells in %d groups%s", column, len(known), known[column].nunique(), left_out)
