"""The label columns of a table of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import ConfigError, InputError

PREFIX = "label_"


def require_column(cells: pd.DataFrame, label: str, task: str) -> str:
    """Return the name of a label's column.

    Raises:
        ConfigError: no slide has it; lists those there are.
    """
    column = f"{PREFIX}{label}"
    if column not in cells:
        names = [str(name) for name in cells.columns]
        have = ", ".join(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)) or "none"
        raise ConfigError(
            f"tasks.{task}.params.label: {label}",
            f"no slide has this label column (there are: {have})",
            "name a column of the slides' labels",
        )
    return column


def encode(values: pd.Series) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return ([n] codes, -1 where unknown; names of the classes, sorted).

    Raises:
        InputError: fewer than two classes.
    """
    codes, classes = pd.factorize(values, sort=True)
    if len(classes) < 2:
        found = f"all {classes[0]!r}" if len(classes) else "all unknown"
        raise InputError(str(values.name), f"the labels are {found}", "choose labels of several classes")
    return codes.astype(np.int64), tuple(map(str, classes))
