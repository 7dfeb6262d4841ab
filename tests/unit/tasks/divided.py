"""A division (`store.folds`) with a row for each cell and fold: how tests look at one, and make one by hand."""

from __future__ import annotations

import pandas as pd

from mistline.store.folds import KEYS, division, encode


def long(table: pd.DataFrame) -> pd.DataFrame:
    """Return slide, cell_id, fold, part of a division, without the cells that take no part in a fold."""
    found = table.melt(KEYS, var_name="fold", value_name="part").dropna()
    return found.astype({"fold": int, "part": object}).reset_index(drop=True)


def wide(parts: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the division of `cells` that these rows of slide, cell_id, fold and part tell of."""
    cells = cells[KEYS]
    found = {fold: cells.merge(own, how="left", on=KEYS)["part"] for fold, own in parts.groupby("fold")}
    return division(cells, {int(str(fold)): encode(part.to_numpy(dtype=object)) for fold, part in found.items()})
