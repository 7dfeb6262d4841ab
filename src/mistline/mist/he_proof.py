"""Proving that the H&E of a slide speaks of the same cells: its records are the squares of the scales' own indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.config.scales import Scale
from mistline.core.errors import InputError
from mistline.core.files import read_json, read_parquet
from mistline.mist.crops import square
from mistline.mist.he import CHANNELS
from mistline.mist.he_crops import squares_of
from mistline.mist.pyramid import Level
from mistline.mist.seal import SlideFiles
from mistline.store.reader import ShardReader

_RECORDS_READ = 32  # of each shard folder, evenly spread, are decoded and compared with index and image


def prove_he(files: SlideFiles, scales: Sequence[Scale]) -> Mapping[str, Any]:
    """Prove the H&E of one slide, whose other files are proven; return he/image.json.

    Args:
        files: where the slide lies.
        scales: all scales, the cell's included.

    Raises:
        InputError: two files disagree; names slide, scale and key.
    """
    summary: Mapping[str, Any] = read_json(files.he / "image.json")
    image: Mapping[str, Any] = read_json(files.folder / "image.json")
    for name in ("slide", "shape_px", "pixel_size_um"):
        if summary[name] != image[name]:
            raise _mismatch(files, "image", f"its {name} is {summary[name]}, the DAPI image's {image[name]}")
    _check_coverage(files, summary)
    pixels = Level(files.he / "image.ome.zarr")
    for scale in scales:
        _check_records(files, scale.name, pixels)
    return summary


def _mismatch(files: SlideFiles, scale: str, what: str) -> InputError:
    return InputError(f"slide {files.slide}, H&E, {scale}", what, "run register_he and cut_he of this slide again")


def _check_coverage(files: SlideFiles, summary: Mapping[str, Any]) -> None:
    coverage = read_parquet(files.he / "coverage.parquet")
    cells = read_parquet(files.folder / "cells.parquet", ["cell_id"])
    if not np.array_equal(coverage["cell_id"].to_numpy(dtype=str), cells["cell_id"].to_numpy(dtype=str)):
        raise _mismatch(files, "coverage", "its cells are not those of cells.parquet")
    missing = int((~coverage["covered"]).sum())
    if missing != summary["cells"]["not_covered"]:
        what = f"{missing} cells are not covered, its image.json says {summary['cells']['not_covered']}"
        raise _mismatch(files, "coverage", what)


def _check_records(files: SlideFiles, scale: str, pixels: Level) -> None:
    """Check the number of records, and that some of them are what the index cuts out of the image."""
    squares = squares_of(read_parquet(files.index(scale)))
    reader = ShardReader(files.he_shards(scale))
    if len(reader) != len(squares):
        raise _mismatch(files, scale, f"the shards hold {len(reader)} records, the index lists {len(squares)}")
    chosen = np.linspace(0, len(squares) - 1, min(_RECORDS_READ, len(squares))).astype(np.int64)
    for key in np.unique(chosen).tolist():
        record = reader[key]
        side = int(squares[key, 2])
        if record.image.shape != (len(CHANNELS), side, side) or len(record.gene_index):
            what = f"the record of key {key} is {record.image.shape} with {len(record.gene_index)} genes"
            raise _mismatch(files, scale, f"{what}, not {len(CHANNELS)} colours of {side} px and none")
        if not np.array_equal(record.image, _cut(pixels, *squares[key].tolist())):
            raise _mismatch(files, scale, f"the record of key {key} is not its square of the registered H&E")


def _cut(pixels: Level, row: int, column: int, side: int) -> NDArray[np.uint8]:
    top, left = max(row, 0), max(column, 0)
    window = pixels.read(slice(None), slice(top, max(row + side, top)), slice(left, max(column + side, left)))
    return square(window, row - top, column - left, side)
