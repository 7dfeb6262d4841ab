"""A task's division of the cells: one row a cell, one column a fold.

Columns: slide, cell_id and, named by the number of each fold, what the cell is in it (see `store.parts`); null where
its slide takes no part in that fold. So a fold costs one byte a cell in memory and next to nothing on disk: with a row
for each cell and fold, a cohort whose donors go out in turn would have hundreds of millions of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.store.parts import PARTS

KEYS = ["slide", "cell_id"]
_PART = pd.CategoricalDtype(list(PARTS))
_STAGE = "assign-folds"
_REMEDY = f"run {_STAGE} again"


def encode(part: NDArray[Any]) -> NDArray[np.int8]:
    """Return [n] the place in `PARTS` of each name; -1 of none."""
    return np.asarray(pd.Categorical(part, dtype=_PART).codes)


def division(cells: pd.DataFrame, codes: Mapping[int, NDArray[np.int8]]) -> pd.DataFrame:
    """Return the table of a division.

    Args:
        cells: [N] slide, cell_id.
        codes: fold -> [N] places in `PARTS`; -1 of cells that take no part.
    """
    keys = {name: cells[name].to_numpy() for name in KEYS}
    parts = {str(fold): pd.Categorical.from_codes(own, dtype=_PART) for fold, own in codes.items()}
    return pd.DataFrame({**keys, **parts}, copy=False)


def numbers(table: pd.DataFrame) -> list[int]:
    """Return the folds of a division, ascending."""
    return sorted(int(name) for name in table.columns if name not in KEYS)


def is_part(table: pd.DataFrame, fold: int, *parts: str) -> NDArray[np.bool_]:
    """Return [N] whether each cell is one of these parts of a fold."""
    return table[str(fold)].isin(parts).to_numpy()


def is_ever(table: pd.DataFrame, *parts: str) -> NDArray[np.bool_]:
    """Return [N] whether each cell is one of these parts in some fold."""
    found = np.zeros(len(table), dtype=bool)
    for fold in numbers(table):
        found |= is_part(table, fold, *parts)
    return found


def require_same(table: pd.DataFrame, cells: pd.DataFrame) -> None:
    """Refuse a division of other cells, or of these in another order.

    Raises:
        InputError: it is one.
    """
    if any(not np.array_equal(table[name].to_numpy(dtype=object), cells[name].to_numpy(dtype=object)) for name in KEYS):
        raise InputError("folds", "their cells are not those of the dataset", _REMEDY)


def read_folds(path: Path) -> pd.DataFrame:
    """Read a division.

    Raises:
        InputError: the file is missing, damaged or no division.
    """
    names = parquet_columns(path, _STAGE)
    folds = [name for name in names if name not in KEYS]
    if not {*KEYS} <= {*names} or not all(name.isdecimal() for name in folds):
        raise InputError(path, "it is no division of cells, with slide, cell_id and a column a fold", _REMEDY)
    table = {name: read_parquet(path, [name], _STAGE)[name] for name in KEYS}
    for name in folds:  # one at a time: parquet unpacks a cell's part to four bytes, one is kept
        table[name] = read_parquet(path, [name], _STAGE)[name].astype(_PART)
    return pd.DataFrame(table, copy=False)
