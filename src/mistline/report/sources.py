"""What the report reads of a result tree: summaries, column subsets, a small copy of each image, some records.

A slide of a million cells is never loaded: tables are read by column, images at the pyramid level that is
just large enough to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from mistline.core.errors import InputError, parsing
from mistline.core.files import read_json, read_parquet
from mistline.mist.pyramid import Level
from mistline.report.plots.tissue import Overview

OVERVIEW_PX = 1000
SPLITS = ("train", "val", "test", "gap")
_BAD_TABLE, _AGAIN = "not a readable parquet file", "run the stage that makes it again"


@dataclass(frozen=True)
class SlideSource:
    """One slide's results: its small summaries, and where the rest lies.

    Attributes:
        name, donor, tissue, disease: as in the slide sheet.
        folder: `slides/<name>` of the result tree.
        splits_file: which split each cell is in.
        bundle, image, cells: contents of the summaries of check_bundle, project_image and read_cells; `image` is
            empty for a slide given as a table.
        tiles: grid scale -> stored tiles; none for a table.
        he: contents of he/image.json; None where the slide has no H&E.
        patches: contents of patches.json; None but for a table with an image.
    """

    name: str
    donor: str
    tissue: str
    disease: str
    folder: Path
    splits_file: Path
    bundle: Mapping[str, Any]
    image: Mapping[str, Any]
    cells: Mapping[str, Any]
    tiles: Mapping[str, int]
    he: Mapping[str, Any] | None = None
    patches: Mapping[str, Any] | None = None

    @property
    def pixel_size_um(self) -> float:
        """Micrometres a pixel at full resolution."""
        return float(self.image["pixel_size_um"])

    @property
    def channel(self) -> str:
        """The channel pictures show: the first one."""
        return str(self.image["channels"][0])

    def shards(self, scale: str) -> Path:
        """Return the folder of a scale's shards."""
        return self.folder / "shards" / scale

    def index(self, scale: str) -> Path:
        """Return the index of a scale's shards."""
        return self.folder / "shards" / f"{scale}.parquet"


def open_slide(
    root: Path, splits: Path, entry: Mapping[str, Any], grid_scales: Sequence[str], has_image: bool = True
) -> SlideSource:
    """Read the summaries of one slide.

    Args:
        root: the result folder.
        splits: the folder of split files.
        entry: slide, donor, tissue and disease, `he` where it has an H&E, `image` where it is a table with one.
        grid_scales: names of the grid scales.
        has_image: False for a table.

    Raises:
        InputError: a file is missing, or the cells' counts do not add up.
    """
    folder = root / "slides" / entry["slide"]
    cells = read_json(folder / "cells.json")
    read, kept, excluded = cells["n_read"], cells["n_kept"], sum(cells["excluded"].values())
    if read != kept + excluded:
        raise InputError(
            folder / "cells.json",
            f"{read} cells read are not {kept} kept and {excluded} excluded",
            "run read-cells again for this slide",
        )
    return SlideSource(
        name=entry["slide"],
        donor=entry["donor"],
        tissue=entry["tissue"],
        disease=entry["disease"],
        folder=folder,
        splits_file=splits / f"{entry['slide']}.parquet",
        bundle=read_json(folder / "bundle.json"),
        image=read_json(folder / "image.json") if has_image else {},
        cells=cells,
        tiles={name: n_rows(folder / "shards" / f"{name}.parquet") for name in grid_scales},
        he=read_json(folder / "he" / "image.json") if entry.get("he") else None,
        patches=read_json(folder / "patches.json") if entry.get("image") else None,
    )


def unseen_genes(genes: Path, splits: Mapping[str, Any]) -> dict[str, int]:
    """Return slide -> how many of its genes no slide with training cells measured.

    Args:
        genes: the dataset's genes.parquet.
        splits: contents of splits.json.
    """
    found = dict.fromkeys(splits["slides"], 0)
    trained = {slide for slide, item in splits["slides"].items() if item["counts"]["train"]}
    if n_rows(genes):  # tables of positions have none
        for slides in read_parquet(genes, ["slides"])["slides"]:
            for slide in slides if trained.isdisjoint(slides) else ():
                found[slide] += 1
    return found


def n_rows(path: Path) -> int:
    """Return the number of rows of a parquet file from its footer.

    Raises:
        InputError: the file is missing or damaged.
    """
    return int(_parquet(path).metadata.num_rows)


def read_rows(path: Path, rows: Sequence[int]) -> pd.DataFrame:
    """Read some rows of a parquet file, one row group at a time, in the order asked for.

    Raises:
        InputError: the file is missing or damaged.
    """
    file = _parquet(path)
    wanted = np.asarray(rows, dtype=np.int64)
    found = []
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        inside = wanted[(wanted >= start) & (wanted < stop)]
        if len(inside):
            with parsing(path, _BAD_TABLE, _AGAIN):
                found.append(file.read_row_group(group).take(pa.array(inside - start)).to_pandas().set_index(inside))
        start = stop
    return pd.concat(found).loc[wanted]


def read_overview(slide: SlideSource) -> Overview:
    """Return a copy of the slide's display channel whose longer side is about `OVERVIEW_PX` pixels or less.

    Raises:
        InputError: the pyramid is missing or unreadable.
    """
    path = slide.folder / "image.ome.zarr"
    try:
        with parsing(path, "not a readable image pyramid", "run project-image again"):
            datasets = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]["datasets"]
            um_per_px = [float(item["coordinateTransformations"][0]["scale"][-1]) for item in datasets]
    except FileNotFoundError as error:
        raise InputError(path, f"not a readable image pyramid ({error})", "run project-image again") from None
    levels = [Level(path, number) for number in range(len(datasets))]
    chosen = max((number for number, level in enumerate(levels) if max(level.shape[1:]) >= OVERVIEW_PX), default=0)
    pixels = levels[chosen].read(0, slice(None))
    factor = min(1.0, OVERVIEW_PX / max(pixels.shape))
    rows, cols = (max(1, round(side * factor)) for side in pixels.shape)
    small = cv2.resize(pixels, (cols, rows), interpolation=cv2.INTER_AREA) if factor < 1 else pixels
    return Overview(small, um_per_px[chosen] * pixels.shape[1] / cols)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        with parsing(path, _BAD_TABLE, _AGAIN):
            return pq.ParquetFile(path)
    except FileNotFoundError:
        raise InputError(path, "no such file", "run the stage that makes it") from None
