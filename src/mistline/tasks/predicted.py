"""A model's predictions put beside the cells of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.store.predictions import PREFIX, class_columns

_REMEDY = "run predict again"


def rows_of(cells: pd.DataFrame, table: pd.DataFrame) -> NDArray[np.int64]:
    """Return, for each row of `table` (slide, cell_id), the row of that cell in `cells`; -1 where it is not there."""
    place = pd.MultiIndex.from_frame(cells[["slide", "cell_id"]].astype(object))
    return place.get_indexer(pd.MultiIndex.from_frame(table[["slide", "cell_id"]].astype(object)))


def by_fold(
    table: pd.DataFrame, cells: pd.DataFrame, tested: Mapping[int, NDArray[np.int64]], classes: Sequence[str]
) -> dict[int, NDArray[np.float64]]:
    """Return fold -> [N, L] probabilities; zero for cells that are not predicted in that fold.

    Args:
        table: predictions, as `store.predictions` keeps them.
        cells: [N] slide, cell_id.
        tested: fold -> rows (in `cells`) that must be predicted.
        classes: [L] names, in the order wanted.

    Raises:
        InputError: the predictions are of other classes, or a tested cell has none.
    """
    known = [name.removeprefix(PREFIX) for name in class_columns(table)]
    if sorted(known) != sorted(classes):
        what = f"they are of the classes {', '.join(known)}, the labels of {', '.join(classes)}"
        raise InputError("predictions", what, _REMEDY)
    row = rows_of(cells, table)
    columns = [f"{PREFIX}{name}" for name in classes]
    found = {}
    for fold, rows in tested.items():
        own = (table["fold"] == fold).to_numpy() & (row >= 0)
        found[fold] = np.zeros((len(cells), len(columns)))
        found[fold][row[own]] = table.loc[own, columns].to_numpy()
        missing = int((found[fold][rows].sum(axis=1) == 0).sum())
        if missing:
            raise InputError("predictions", f"{missing} test cells of fold {fold} have none", _REMEDY)
    return found
