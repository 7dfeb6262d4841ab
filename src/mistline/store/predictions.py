"""A model's predictions for one task, protocol and seed, with what made them.

Parquet: `slide, cell_id, fold, part` and one float32 column `p_<class>` a class, rows summing to 1; the schema
carries the same origin as an embedding does (`store.embeddings.Origin`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mistline.core.errors import InputError
from mistline.core.files import atomic_path
from mistline.store.embeddings import ORIGIN_KEY, Origin

KEYS = ("slide", "cell_id", "fold", "part")
PREFIX = "p_"
_TOLERANCE = 1e-3


def write_predictions(path: Path, table: pd.DataFrame, origin: Origin) -> None:
    """Write predictions.

    Args:
        path: the parquet file.
        table: the columns named above.
        origin: what they are made from.

    Raises:
        InputError: a row is not finite or does not sum to 1; names the cell.
    """
    names = class_columns(table)
    rows = table[names].to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(rows).all(axis=1) | (np.abs(rows.sum(axis=1) - 1) > _TOLERANCE)
    if wrong.any():
        first = table.iloc[int(wrong.argmax())]
        what = f"the prediction of cell {first['slide']}/{first['cell_id']} is no distribution"
        raise InputError(path, what, "mend the model")
    stored = pa.Table.from_pandas(table[[*KEYS, *names]], preserve_index=False)
    about = {ORIGIN_KEY: json.dumps(asdict(origin), sort_keys=True)}
    with atomic_path(path) as part:
        pq.write_table(stored.replace_schema_metadata(about), part, compression="zstd", write_page_checksum=True)


def class_columns(table: pd.DataFrame) -> list[str]:
    """Return the names of the columns that hold a class's probability."""
    return [str(name) for name in table.columns if str(name).startswith(PREFIX)]
