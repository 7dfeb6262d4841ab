"""Proving that the patches of a table speak of the same cells: one record for every row of cells.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mistline.core.errors import InputError
from mistline.core.files import read_json, read_parquet
from mistline.mist.patches import CHANNELS, mean_colour
from mistline.mist.seal import SlideFiles
from mistline.store.reader import ShardReader

_RECORDS_READ = 32  # evenly spread, are decoded and compared with the index


def prove_patches(files: SlideFiles) -> Mapping[str, Any]:
    """Prove the patches of one slide, whose tables are proven; return patches.json.

    Raises:
        InputError: two files disagree; names slide and key.
    """
    summary: Mapping[str, Any] = read_json(files.folder / "patches.json")
    index = read_parquet(files.index("cell"), made_by="cut_patches for this slide")
    cells = read_parquet(files.folder / "cells.parquet", ["cell_id", "x_um", "y_um"])
    _check_index(files, index, cells)
    told = (summary["slide"], summary["records"], summary["padded"])
    if told != (files.slide, len(index), int(index["is_padded"].sum())):
        raise _mismatch(files, "patches.json is not of this index")
    _check_records(files, index, int(summary["size_px"]))
    return summary


def _mismatch(files: SlideFiles, what: str) -> InputError:
    return InputError(f"slide {files.slide}, patches", what, "run cut_patches of this slide again")


def _check_index(files: SlideFiles, index: pd.DataFrame, cells: pd.DataFrame) -> None:
    if len(index) != len(cells):
        raise _mismatch(files, f"the index lists {len(index)} cells, cells.parquet {len(cells)}")
    for name in ("cell_id", "x_um", "y_um"):
        differs = np.flatnonzero(index[name].to_numpy() != cells[name].to_numpy())
        if len(differs):
            row = int(differs[0])
            what = f"{name} of row {row} is {cells[name][row]} in cells.parquet and {index[name][row]} in the index"
            raise _mismatch(files, what)
    if (index["key"].to_numpy() != np.arange(len(index))).any():
        raise _mismatch(files, "the keys of the index are not 0, 1, 2, ...")
    for column, value in (("slide", files.slide), ("donor", files.donor)):
        if (index[column] != value).any():
            raise _mismatch(files, f"the index names another {column} than {value}")


def _check_records(files: SlideFiles, index: pd.DataFrame, size_px: int) -> None:
    """Check the number of records, and that some of them are what the index describes."""
    reader = ShardReader(files.shards("cell"))
    if len(reader) != len(index):
        raise _mismatch(files, f"the shards hold {len(reader)} records, the index lists {len(index)}")
    chosen = np.linspace(0, len(index) - 1, min(_RECORDS_READ, len(index))).astype(np.int64)
    for key in np.unique(chosen).tolist():
        record = reader[key]
        if record.image.shape != (len(CHANNELS), size_px, size_px) or len(record.gene_index):
            what = f"the record of key {key} is {record.image.shape} with {len(record.gene_index)} genes"
            raise _mismatch(files, f"{what}, not {len(CHANNELS)} colours of {size_px} px and none")
        if not np.array_equal(mean_colour(record.image), index.loc[key, list(CHANNELS)].to_numpy(dtype=np.float32)):
            raise _mismatch(files, f"the record of key {key} is not the one that the index describes")
