"""Who is trained on and who is tested when the expression of tissue is predicted from its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mistline.core.errors import ConfigError, InputError
from mistline.store.folds import division, encode

_PART_OF_SPLIT = {"train": "train", "val": "val", "test": "test", "gap": "buffer"}


def dataset_split(cells: pd.DataFrame) -> pd.DataFrame:
    """Take the dataset's own split as one fold."""
    part = cells["split"].map(_PART_OF_SPLIT).to_numpy(dtype=object)
    return division(cells, {0: encode(part)})


def leave_out(cells: pd.DataFrame, column: str, tested: Sequence[str]) -> pd.DataFrame:
    """Test each slide, or each donor, on models of all others.

    Args:
        cells: slide, donor and cell_id of all cells.
        column: slide or donor: what goes out together.
        tested: those that are tested; none for each of them, in turn.

    Raises:
        ConfigError: one of `tested` is not there.
        InputError: there is only one.
    """
    names = cells[column].unique().tolist()
    unknown = [name for name in tested if name not in names]
    if unknown:
        what = f"no {column} is called {unknown[0]} (there are: {', '.join(map(str, names))})"
        raise ConfigError("tasks.expression.params.test", what, f"name {column}s of this run")
    if len(names) < 2:
        raise InputError("tasks.expression", f"there is one {column}, and it cannot be left out", "add another")
    train, test = encode(np.array(["train", "test"]))
    folds = {number: np.where(cells[column] == name, test, train) for number, name in enumerate(tested or names)}
    return division(cells, folds)
