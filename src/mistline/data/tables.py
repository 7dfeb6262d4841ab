"""The columns of one slide at one scale: a few arrays, never an object a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_arrow
from mistline.store.manifest import Manifest

SPLITS = ("train", "val", "test", "gap")  # positions are the codes of `SlideTable.split`
_GAP = SPLITS.index("gap")


@dataclass(frozen=True, slots=True)
class SlideTable:
    """What is known of a slide's records besides what their shards hold; row = key of the record.

    Attributes:
        slide: name.
        donor: whose tissue it is.
        ids: [n] `cell_id` or `row_col`.
        xy_um: float32 [n, 2].
        side_um: float32 [n].
        split: int8 [n] positions in `SPLITS`.
        metacell: int32 [n]; None for tiles.
        tiles: coarser scale -> [n] ids, dictionary-encoded.
        labels: column -> [n] values.
        shown: bool [n], whether the H&E shows the cell, or a cell of the tile; None unless asked for.
    """

    slide: str
    donor: str
    ids: pa.Array
    xy_um: NDArray[np.float32]
    side_um: NDArray[np.float32]
    split: NDArray[np.int8]
    metacell: NDArray[np.int32] | None
    tiles: Mapping[str, pa.Array]
    labels: Mapping[str, pa.Array]
    shown: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def read_slide(manifest: Manifest, slide: str, scale: str, he: bool = False) -> SlideTable:
    """Read the columns of one slide.

    Args:
        manifest: of the dataset.
        slide: its name.
        scale: cell or a grid scale.
        he: whether to read what the H&E shows.

    Raises:
        InputError: a file is missing or has another number of rows than the manifest states.
    """
    entry = manifest.slides[slide]
    here = entry["scales"][scale]
    is_cell = manifest.scales[scale]["unit"] == "cell"
    path = manifest.locate(here["index"]["path"])
    schema = parquet_columns(path)
    id_column = "cell_id" if is_cell else f"{scale}_id"
    coarser = [name for name in manifest.scales if name != scale and f"{name}_id" in schema]
    columns = [id_column, "x_um", "y_um", "side_px", *(f"{name}_id" for name in coarser)]
    index = _read(path, columns, here["records"])
    of_cells = _read_split(manifest, entry)
    pixel_size_um = float(entry["pixel_size_um"])
    return SlideTable(
        slide=slide,
        donor=entry["donor"],
        ids=_whole(index[id_column]),
        xy_um=np.column_stack([index["x_um"].to_numpy(), index["y_um"].to_numpy()]).astype(np.float32),
        side_um=(index["side_px"].to_numpy() * pixel_size_um).astype(np.float32),
        split=of_cells if is_cell else _tile_split(manifest, entry, scale, index[id_column], of_cells),
        metacell=_read_metacell(manifest, entry) if is_cell else None,
        tiles={name: _whole(index[f"{name}_id"].dictionary_encode()) for name in coarser},
        labels=_read_labels(manifest, entry) if is_cell else {},
        shown=_read_shown(manifest, entry, scale, index[id_column]) if he else None,
    )


def _read(path: Path, columns: Sequence[str], n: int) -> pa.Table:
    table = read_arrow(path, columns, "the stage that makes it, then seal_dataset")
    if len(table) != n:
        raise InputError(path, f"{len(table)} rows, the manifest states {n}", "run seal_dataset again")
    return table


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return one array: rows of many chunks are slow to take."""
    combined = column.unify_dictionaries().combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _file(manifest: Manifest, entry: Mapping[str, Any], name: str) -> Path:
    return manifest.locate(entry["files"][name]["path"])


def _n_cells(manifest: Manifest, entry: Mapping[str, Any]) -> int:
    return int(entry["scales"]["cell"]["records"])


def _read_split(manifest: Manifest, entry: Mapping[str, Any]) -> NDArray[np.int8]:
    """Return the split of each cell [n]."""
    path = _file(manifest, entry, "splits")
    table = _read(path, ["split"], _n_cells(manifest, entry))
    codes = pc.index_in(_whole(table["split"]), pa.array(SPLITS))
    if codes.null_count:
        raise InputError(path, "it names a split other than train, val, test and gap", "run make_splits again")
    return np.asarray(codes.to_numpy(), dtype=np.int8)


def _read_metacell(manifest: Manifest, entry: Mapping[str, Any]) -> NDArray[np.int32]:
    table = _read(_file(manifest, entry, "metacells"), ["metacell"], _n_cells(manifest, entry))
    return np.asarray(table["metacell"].to_numpy(), dtype=np.int32)


def _read_labels(manifest: Manifest, entry: Mapping[str, Any]) -> dict[str, pa.Array]:
    path = _file(manifest, entry, "cells")
    columns = [name for name in parquet_columns(path) if name.startswith("label_")]
    table = _read(path, columns, _n_cells(manifest, entry)) if columns else {}
    found = {}
    for name in columns:
        column = table[name]
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        found[name.removeprefix("label_")] = _whole(column.dictionary_encode() if text else column)
    return found


def _read_shown(
    manifest: Manifest, entry: Mapping[str, Any], scale: str, ids: pa.ChunkedArray
) -> NDArray[np.bool_] | None:
    """Return whether the H&E shows each record [n]; None where the dataset does not say."""
    named = entry["he"].get("coverage")
    if named is None:
        return None
    covered = _read(manifest.locate(named["path"]), ["covered"], _n_cells(manifest, entry))["covered"].to_numpy()
    if manifest.scales[scale]["unit"] == "cell":
        return np.asarray(covered, dtype=bool)
    return np.bincount(_tile_of_cells(manifest, entry, scale, ids), covered, len(ids)) > 0


def _tile_split(
    manifest: Manifest, entry: Mapping[str, Any], scale: str, tiles: pa.ChunkedArray, of_cells: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Return the split of each tile [n]: that of its cells; gap if any of them is in the gap.

    Raises:
        InputError: a tile's cells are of two of train, val and test, or it has none.
    """
    present = np.zeros((len(tiles), len(SPLITS)), dtype=bool)
    present[_tile_of_cells(manifest, entry, scale, tiles), of_cells] = True
    sides = present[:, :_GAP].sum(axis=1)
    wrong = (sides > 1) | ~present.any(axis=1)
    if wrong.any():
        name = tiles[int(wrong.argmax())].as_py()
        what = f"{scale} tile {name} has cells of {sides[wrong][0]} splits"
        raise InputError(f"slide {entry['slide']}", what, "run make_splits again")
    return np.where(present[:, _GAP], _GAP, present.argmax(axis=1)).astype(np.int8)


def _tile_of_cells(
    manifest: Manifest, entry: Mapping[str, Any], scale: str, tiles: pa.ChunkedArray
) -> NDArray[np.int64]:
    """Return the row of the tile that holds each cell."""
    cells = entry["scales"]["cell"]
    path = manifest.locate(cells["index"]["path"])
    member = _read(path, [f"{scale}_id"], cells["records"])[f"{scale}_id"]
    tile = pd.Index(tiles.to_pandas()).get_indexer(pd.Index(member.to_pandas()))
    if (tile < 0).any():
        raise InputError(path, f"cells point to {scale} tiles that do not exist", "run cut_tiles again")
    return np.asarray(tile, dtype=np.int64)
