"""Proving that all files of a slide speak of the same cells: one key, `slide/cell_id`, at every scale.

Nothing is repaired here. Any difference is an error that names slide, scale and key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.scales import Scale
from mistline.core.errors import InputError
from mistline.core.files import read_json, read_parquet
from mistline.core.geometry import tile_of, um_to_px
from mistline.mist.expression import CountsFile
from mistline.mist.splits import GAP, SPLITS
from mistline.mist.vocabulary import Panel
from mistline.store.reader import ShardReader

_RECORDS_READ = 32  # of each shard folder, evenly spread, are decoded and compared with the index


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """Where one slide's part of the dataset lies.

    Attributes:
        slide: its name.
        donor: whose tissue it is.
        folder: `slides/<slide>`.
        splits: its split file.
        has_he: whether it has an H&E.
        has_patches: whether it is a table with an image.
    """

    slide: str
    donor: str
    folder: Path
    splits: Path
    has_he: bool = False
    has_patches: bool = False

    def index(self, scale: str) -> Path:
        """Return the index of a scale."""
        return self.folder / "shards" / f"{scale}.parquet"

    def shards(self, scale: str) -> Path:
        """Return the shard folder of a scale."""
        return self.folder / "shards" / scale

    @property
    def he(self) -> Path:
        """The folder of the registered H&E."""
        return self.folder / "he"

    def he_shards(self, scale: str) -> Path:
        """Return the folder of a scale's H&E records."""
        return self.he / "shards" / scale


@dataclass(frozen=True, slots=True)
class Proven:
    """What the proof found out on the way.

    Attributes:
        panel: the slide's genes.
        channels: names of the image's channels.
        pixel_size_um: micrometres a pixel.
        summary: cells.json.
        records: scale -> number of records.
        sides: split -> number of cells.
    """

    panel: Panel
    channels: tuple[str, ...]
    pixel_size_um: float
    summary: Mapping[str, Any]
    records: dict[str, int]
    sides: dict[str, int]


def prove(files: SlideFiles, scales: Sequence[Scale], levels: Mapping[str, NDArray[np.int32]]) -> Proven:
    """Prove one slide.

    Args:
        files: where it lies.
        scales: all scales, the cell's included.
        levels: level -> [K] group of each meta-cell.

    Raises:
        InputError: two files disagree; names slide, scale and key.
    """
    cells = read_parquet(files.folder / "cells.parquet", ["cell_id", "x_um", "y_um", "n_counts", "n_genes"])
    summary = _check_summary(files, len(cells))
    image = read_json(files.folder / "image.json")
    grids = [scale for scale in scales if scale.size_px is not None]
    index = read_parquet(files.index("cell"))
    _check_same_cells(files, cells, "cell", "the cell index", index["cell_id"])
    _check_columns(files, cells, index)
    splits = read_parquet(files.splits, ["cell_id", "split"])
    _check_same_cells(files, cells, "splits", str(files.splits.name), splits["cell_id"])
    sides = _check_sides(files, splits["split"])
    _check_metacells(files, cells, levels)
    tables = {scale.name: read_parquet(files.index(scale.name)) for scale in grids}
    for scale in grids:
        members = _check_membership(files, scale, index, tables[scale.name], float(image["pixel_size_um"]))
        _check_tile_sums(files, scale.name, tables[scale.name], members, cells)
        _check_shared(files, scale.name, members, sides, len(tables[scale.name]))
        for coarser in (item.name for item in grids if f"{item.name}_id" in tables[scale.name] and item != scale):
            _check_nested(files, scale.name, coarser, tables)
    with CountsFile(files.folder / "counts.h5ad") as counts:
        _check_same_cells(files, cells, "genes", "counts.h5ad", pd.Series(counts.cell_ids()))
        for name, table in {"cell": index, **tables}.items():
            _check_records(files, name, table, len(image["channels"]), counts)
        panel = Panel(counts.gene_ids, counts.symbols)
    return Proven(
        panel=panel,
        channels=tuple(image["channels"]),
        pixel_size_um=float(image["pixel_size_um"]),
        summary=summary,
        records={"cell": len(index)} | {name: len(table) for name, table in tables.items()},
        sides={name: int((sides == code).sum()) for code, name in enumerate(SPLITS)},
    )


def _mismatch(files: SlideFiles, scale: str, what: str) -> InputError:
    return InputError(f"slide {files.slide}, {scale}", what, "run the stages of this slide again from read_cells")


def _check_summary(files: SlideFiles, n: int) -> Mapping[str, Any]:
    """Check that every cell read was kept or excluded with a reason."""
    summary: dict[str, Any] = read_json(files.folder / "cells.json")
    excluded = sum(summary["excluded"].values())
    if summary["n_kept"] != n or summary["n_read"] != n + excluded:
        what = f"{summary['n_read']} cells read are not {n} kept and {excluded} excluded"
        raise _mismatch(files, "cells.json", what)
    return summary


def _check_same_cells(files: SlideFiles, cells: pd.DataFrame, scale: str, name: str, found: pd.Series) -> None:
    """Check that a file lists the same ids in the same order."""
    expected = cells["cell_id"].to_numpy(dtype=object)
    got = found.to_numpy(dtype=object)
    n = min(len(expected), len(got))
    differs = np.flatnonzero(expected[:n] != got[:n])
    if len(differs):
        row = int(differs[0])
        raise _mismatch(files, scale, f"row {row} is {expected[row]} in cells.parquet and {got[row]} in {name}")
    if len(expected) != len(got):
        raise _mismatch(files, scale, f"cells.parquet lists {len(expected)} cells and {name} {len(got)}")


def _check_columns(files: SlideFiles, cells: pd.DataFrame, index: pd.DataFrame) -> None:
    """Check what the cell index repeats of cells.parquet, and its keys."""
    doubled = cells["cell_id"].duplicated()
    if doubled.any():
        raise _mismatch(files, "cell", f"key {files.slide}/{cells['cell_id'][doubled.idxmax()]} is listed twice")
    _check_keys(files, "cell", index)
    for name in ("x_um", "y_um", "n_counts", "n_genes"):
        differs = np.flatnonzero(cells[name].to_numpy() != index[name].to_numpy())
        if len(differs):
            row = int(differs[0])
            key = f"{files.slide}/{cells['cell_id'][row]}"
            raise _mismatch(
                files, "cell", f"key {key} has {name} {cells[name][row]} in cells.parquet, {index[name][row]} here"
            )


def _check_keys(files: SlideFiles, scale: str, index: pd.DataFrame) -> None:
    if (index["key"].to_numpy() != np.arange(len(index))).any():
        raise _mismatch(files, scale, "the keys of the index are not 0, 1, 2, ...")
    for column, value in (("slide", files.slide), ("donor", files.donor)):
        other = index[column] != value
        if other.any():
            raise _mismatch(files, scale, f"the index names {column} {index[column][other.idxmax()]}, not {value}")


def _check_sides(files: SlideFiles, split: pd.Series) -> NDArray[np.int8]:
    codes = pd.Index(SPLITS).get_indexer(pd.Index(split)).astype(np.int8)
    if (codes < 0).any():
        raise _mismatch(files, "splits", f"unknown split {split[int((codes < 0).argmax())]!r}")
    return codes


def _check_metacells(files: SlideFiles, cells: pd.DataFrame, levels: Mapping[str, NDArray[np.int32]]) -> None:
    found = read_parquet(files.folder / "metacells.parquet")
    _check_same_cells(files, cells, "meta-cells", "metacells.parquet", found["cell_id"])
    metacell = found["metacell"].to_numpy()
    for level, groups in levels.items():
        if len(metacell) and (metacell.min() < 0 or metacell.max() >= len(groups)):
            raise _mismatch(files, "meta-cells", f"meta-cell {metacell.max()} is none of the {len(groups)} in use")
        if (found[level].to_numpy() != groups[metacell]).any():
            raise _mismatch(files, "meta-cells", f"{level} is of another vocabulary than metacells.h5ad")


def _check_membership(
    files: SlideFiles, scale: Scale, index: pd.DataFrame, tiles: pd.DataFrame, pixel_size_um: float
) -> NDArray[np.int64]:
    """Return [n] the row of each cell's tile, after checking that it is the tile the cell lies in and has a record."""
    name = scale.name
    _check_keys(files, name, tiles)
    place = tiles[["row", "col"]].to_numpy(dtype=np.int64) @ (2**32, 1)
    named = tiles["row"].astype(str) + "_" + tiles["col"].astype(str)
    if (np.diff(place) <= 0).any() or (named != tiles[f"{name}_id"]).any():
        raise _mismatch(files, name, "tiles of the index are not sorted, unique and named row_col")
    members = pd.Index(tiles[f"{name}_id"]).get_indexer(pd.Index(index[f"{name}_id"])).astype(np.int64)
    if (members < 0).any():
        row = int((members < 0).argmax())
        key = f"{files.slide}/{index['cell_id'][row]}"
        raise _mismatch(files, name, f"key {key} points to tile {index[f'{name}_id'][row]}, which has no record")
    yx_px = um_to_px(index[["x_um", "y_um"]].to_numpy(), pixel_size_um)
    wrong = place[members] != tile_of(yx_px, int(scale.size_px or 0)) @ (2**32, 1)
    if wrong.any():
        row = int(wrong.argmax())
        key = f"{files.slide}/{index['cell_id'][row]}"
        raise _mismatch(files, name, f"key {key} does not lie in its tile {index[f'{name}_id'][row]}")
    return members


def _check_tile_sums(
    files: SlideFiles, scale: str, tiles: pd.DataFrame, members: NDArray[np.int64], cells: pd.DataFrame
) -> None:
    """Check that every tile counts its cells, and their transcripts, exactly."""
    counted = np.bincount(members, minlength=len(tiles))
    summed = np.zeros(len(tiles), dtype=np.int64)
    np.add.at(summed, members, cells["n_counts"].to_numpy(dtype=np.int64))
    for name, sums in (("n_cells", counted), ("n_counts", summed)):
        differs = np.flatnonzero(tiles[name].to_numpy() != sums)
        if len(differs):
            row = int(differs[0])
            key = f"{files.slide}/{tiles[f'{scale}_id'][row]}"
            raise _mismatch(files, scale, f"key {key} states {name} {tiles[name][row]}, its cells sum to {sums[row]}")


def _check_shared(
    files: SlideFiles, scale: str, members: NDArray[np.int64], sides: NDArray[np.int8], n_tiles: int
) -> None:
    """Check that no tile holds cells of two of train, val and test."""
    present = np.zeros((n_tiles, len(SPLITS)), dtype=bool)
    present[members, sides] = True
    shared = present[:, :GAP].sum(axis=1) > 1
    if shared.any():
        what = f"{int(shared.sum())} tiles hold cells of more than one of train, val and test"
        raise InputError(f"slide {files.slide}, {scale}", what, "run make_splits again")


def _check_nested(files: SlideFiles, scale: str, coarser: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Check that tiles inside a coarser tile hold its cells together."""
    fine, coarse = tables[scale], tables[coarser]
    inside = pd.Index(coarse[f"{coarser}_id"]).get_indexer(pd.Index(fine[f"{coarser}_id"]))
    if (inside < 0).any():
        row = int((inside < 0).argmax())
        key = f"{files.slide}/{fine[f'{scale}_id'][row]}"
        raise _mismatch(
            files, scale, f"key {key} points to {coarser} {fine[f'{coarser}_id'][row]}, which has no record"
        )
    summed = np.zeros(len(coarse), dtype=np.int64)
    np.add.at(summed, inside, fine["n_cells"].to_numpy(dtype=np.int64))
    if (summed != coarse["n_cells"].to_numpy()).any():
        raise _mismatch(files, scale, f"its tiles do not hold the cells of the {coarser} tiles around them")


def _check_records(files: SlideFiles, scale: str, index: pd.DataFrame, n_channels: int, counts: CountsFile) -> None:
    """Check the number of records, and some of them against the index and the counts."""
    reader = ShardReader(files.shards(scale))
    if len(reader) != len(index):
        raise _mismatch(files, scale, f"the shards hold {len(reader)} records, the index lists {len(index)}")
    rows = np.unique(np.linspace(0, len(index) - 1, min(_RECORDS_READ, len(index))).astype(np.int64)).tolist()
    for row in rows:
        record = reader[row]
        side = int(index["side_px"][row])
        stated = ((n_channels, side, side), int(index["n_counts"][row]), int(index["n_genes"][row]))
        if stated != (record.image.shape, int(record.gene_count.sum()), len(record.gene_index)):
            raise _mismatch(files, scale, f"the record of key {row} is not the one that the index describes")
        if scale == "cell":
            expected = counts.rows(row, row + 1)
            expected.sort_indices()
            if not np.array_equal(expected.indices, record.gene_index) or not np.array_equal(
                expected.data, record.gene_count
            ):
                key = f"{files.slide}/{index['cell_id'][row]}"
                raise _mismatch(files, scale, f"key {key} has other genes in its record than in counts.h5ad")
