"""The meta-cells of one slide's cells, from a sealed dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mistline.core.errors import InputError
from mistline.models.contract import Needs
from mistline.train.source import open_source

_BATCH = 8192


def read_metacells(manifest: Path, slide: str) -> pd.Series:
    """Return each cell's row of the meta-cell vocabulary, by cell_id.

    Raises:
        InputError: the dataset has no meta-cells.
    """
    ids: list[str] = []
    rows = []
    for batch in open_source(manifest, slides=(slide,)).batches(Needs(batch_size=_BATCH)):
        if batch.metacell is None:
            what = "its cells have no meta-cells, and the model begins with a run that was trained with a dataset's"
            raise InputError(manifest, what, "use that run with the dataset it was trained on")
        ids.extend(batch.record_id)
        rows.append(batch.metacell.numpy().astype(np.int64))
    return pd.Series(np.concatenate([*rows, np.empty(0, dtype=np.int64)]), index=ids)
