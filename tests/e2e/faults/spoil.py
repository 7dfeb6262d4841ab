"""Ways in which a bundle goes bad: each takes the bundle's folder and changes what lies in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

Spoil = Callable[[Path], None]
Change = Callable[[np.ndarray], np.ndarray]
ZSTACK = "morphology.ome.tif"
FOCUS = "morphology_focus/morphology_focus_000{}.ome.tif"
MATRIX = "cell_feature_matrix.h5"


def planes(path: Path) -> tuple[np.ndarray, str]:
    """Return the full-resolution planes [Z, Y, X] of a file and its OME-XML."""
    with tifffile.TiffFile(path) as file:
        pages = [page for page in file.pages if not page.is_reduced]
        return np.stack([page.asarray() for page in pages]), pages[0].description


def write_planes(path: Path, pixels: list[np.ndarray] | np.ndarray, description: str, **options: Any) -> None:
    """Write planes with the OME-XML they had."""
    with tifffile.TiffWriter(path, bigtiff=True, ome=False) as writer:
        for number, plane in enumerate(pixels):
            text = description.encode() if number == 0 else None
            writer.write(plane, tile=(256, 256), compression="zlib", description=text, metadata=None, **options)


def image(name: str, change: Callable[[np.ndarray], list[np.ndarray] | np.ndarray], **options: Any) -> Spoil:
    """Write an image anew."""

    def spoil(bundle: Path) -> None:
        pixels, description = planes(bundle / name)
        write_planes(bundle / name, change(pixels), description, **options)

    return spoil


def typed(kind: str) -> Spoil:
    """Store the z-stack as another type of pixel."""
    return image(ZSTACK, lambda pixels: pixels.astype(kind))


def matrix(name: str, change: Change, *, panel: bool = True) -> Spoil:
    """Change one dataset of the feature matrix."""

    def spoil(bundle: Path) -> None:
        with h5py.File(bundle / MATRIX, "r+") as file:
            values = change(file["matrix"][name][()])
            del file["matrix"][name]
            file["matrix"].create_dataset(name, data=values)
        if not panel:
            (bundle / "gene_panel.json").unlink()

    return spoil


def nth(value: Any, place: int = 3) -> Change:
    """Set one value."""

    def change(values: np.ndarray) -> np.ndarray:
        kind = np.float32 if isinstance(value, float) else values.dtype
        values = values.astype(kind)
        values[place] = value
        return values

    return change


def table(name: str, change: Callable[[pa.Table], pa.Table]) -> Spoil:
    """Change one parquet table."""

    def spoil(bundle: Path) -> None:
        path = bundle / f"{name}.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return spoil


def column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    """Change one column of a table."""

    def changed(values: pa.Table) -> pa.Table:
        number = values.schema.get_field_index(name)
        return values.set_column(number, name, pa.array(change(values[name].to_pylist())))

    return changed


def without_cells(n: int) -> Spoil:
    """Take the last `n` cells out of the feature matrix."""

    def spoil(bundle: Path) -> None:
        with h5py.File(bundle / MATRIX, "r+") as file:
            group = file["matrix"]
            kept = len(group["barcodes"]) - n
            n_entries = int(group["indptr"][kept])
            shape = group["shape"][()]
            shape[1] = kept
            for name, last in (("barcodes", kept), ("indptr", kept + 1), ("data", n_entries), ("indices", n_entries)):
                values = group[name][:last]
                del group[name]
                group[name] = values
            group["shape"][...] = shape

    return spoil


def experiment(**values: Any) -> Spoil:
    """Change what experiment.xenium says."""

    def spoil(bundle: Path) -> None:
        path = bundle / "experiment.xenium"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil
