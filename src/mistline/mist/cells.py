"""Which cells enter the dataset, joined by id, in one order for every per-cell file of the slide.

A cell without polygon, counts or image is excluded here, once, with a reason, and counted. Nothing later on
excludes a cell or fills one in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.cells import Cells
from mistline.core.errors import InputError
from mistline.core.geometry import px_to_um, tile_of, um_to_px
from mistline.xenium.boundaries import Polygons
from mistline.xenium.counts import Counts

BLOCK_PX = 1024  # cells are stored block by block, so that neighbours in the file are neighbours on the slide
REASONS = ("no_polygon", "no_counts_row", "outside_image", "degenerate_polygon", "below_min_counts")

logger = logging.getLogger("mistline.mist")


@dataclass(frozen=True)
class Raw:
    """The tables of a bundle.

    Args:
        where: the bundle, for errors.
        cells: `mistline.xenium.cells.read_cells`.
        polygons: in the order of `cells`.
        n_nuclei: in the order of `cells`; None when the bundle has no nucleus boundaries.
        counts: in the matrix's own order.
        shape_px: rows, cols of the morphology image.
        pixel_size_um: micrometres a pixel.
    """

    where: str
    cells: pd.DataFrame
    polygons: Polygons
    n_nuclei: NDArray[np.int64] | None
    counts: Counts
    shape_px: tuple[int, int]
    pixel_size_um: float


@dataclass(frozen=True)
class Joined:
    """The kept cells.

    Args:
        table: cells.parquet, without labels.
        cell_rows: [n] each kept cell's row among `Raw.cells`.
        count_rows: [n] its row in the counts matrix.
        summary: what cells.json says of the join.
    """

    table: pd.DataFrame
    cell_rows: NDArray[np.int64]
    count_rows: NDArray[np.int64]
    summary: dict[str, Any]


def join(raw: Raw, settings: Cells) -> Joined:
    """Join cells, polygons and counts by id and exclude what cannot be used.

    Raises:
        InputError: the matrix holds ids that are no cell, x and y look swapped, polygons lie away from their
            centroids, the counts contradict cells.parquet, more than `max_excluded_share` of the cells lack a usable
            polygon, counts or image, or no cell remains.
    """
    count_row = _rows_of_counts(raw)
    _refuse_swapped(raw, settings.max_excluded_share)
    _refuse_strayed(raw)
    per_row = _sums(raw.counts)
    n_counts = np.where(count_row >= 0, per_row["n_counts"][count_row], 0)
    differing = _compare_counts(raw, count_row, n_counts, settings.max_excluded_share)
    reason = _reasons(raw, count_row, n_counts, settings.min_counts)
    excluded = {name: int((reason == name).sum()) for name in REASONS}
    _refuse_share(raw, excluded, settings.max_excluded_share)
    rows = np.flatnonzero(reason == "")
    if not len(rows):
        raise InputError(raw.where, f"no cell remains ({_told(excluded)})", "lower cells.min_counts or leave it out")
    rows = rows[_order(raw, rows)]
    summary = {
        "n_read": len(raw.cells),
        "n_kept": len(rows),
        "excluded": excluded,
        "control_features": raw.counts.features.n_by_other_type,
        "control_counts": int(raw.counts.control_counts.sum()),
        "joins": {
            "cells_without_polygon": int((raw.polygons.n_vertices == 0).sum()),
            "polygons_without_cell": 0,  # refused while reading
            "cells_without_counts": int((count_row < 0).sum()),
            "counts_without_cell": 0,  # refused above
            "counts_differ_from_cells": differing,
        },
    }
    table = _table(raw, rows, {name: values[count_row[rows]] for name, values in per_row.items()})
    return Joined(table=table, cell_rows=rows, count_rows=count_row[rows], summary=summary)


def _rows_of_counts(raw: Raw) -> NDArray[np.int64]:
    """Return each cell's row in the matrix, -1 where it has none."""
    cell_ids = pd.Index(raw.cells["cell_id"])
    foreign = raw.counts.cell_ids[cell_ids.get_indexer(pd.Index(raw.counts.cell_ids)) < 0]
    if len(foreign):
        raise InputError(
            f"{raw.where}, feature matrix",
            f"{len(foreign)} barcodes are no cell of cells.parquet, such as {min(foreign)!r}",
            "use the matrix and the tables of one run",
        )
    return pd.Index(raw.counts.cell_ids).get_indexer(cell_ids).astype(np.int64)


def _sums(counts: Counts) -> dict[str, NDArray[np.int64]]:
    """Return what cells.parquet tells of each row of the matrix."""
    pointers = counts.matrix.indptr
    filled = np.diff(pointers) > 0
    total = np.zeros(len(counts.cell_ids), dtype=np.int64)
    if filled.any():  # an empty row takes no entry, so the next filled row starts where it would have
        total[filled] = np.add.reduceat(counts.matrix.data, pointers[:-1][filled], dtype=np.int64)
    return {
        "n_counts": total,
        "n_genes": np.diff(pointers).astype(np.int64),
        "n_control_counts": counts.control_counts,
    }


def _extent_um(raw: Raw) -> NDArray[np.float64]:
    """Return the image's width and height in micrometres."""
    return px_to_um(np.array(raw.shape_px), raw.pixel_size_um)


def _outside(xy_um: NDArray[np.float64], extent_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ((xy_um < 0) | (xy_um >= extent_um)).any(axis=1)


def _refuse_swapped(raw: Raw, share: float) -> None:
    xy_um = raw.cells[["x_um", "y_um"]].to_numpy()
    as_given = _outside(xy_um, _extent_um(raw)).mean()
    swapped = _outside(xy_um[:, ::-1], _extent_um(raw)).mean()
    if as_given > share and swapped <= min(share, as_given / 2):
        raise InputError(
            f"{raw.where}, cells.parquet",
            f"x and y look swapped: {as_given:.0%} of the centroids lie outside the image, {swapped:.0%} with x and y"
            " exchanged",
            "exchange x_centroid and y_centroid, and vertex_x and vertex_y, in the tables of the bundle",
        )


def _refuse_strayed(raw: Raw) -> None:
    """Refuse a slide whose centroids mostly lie outside their own polygons' boxes."""
    xy_um = raw.cells[["x_um", "y_um"]].to_numpy()
    known = raw.polygons.n_vertices > 0
    inside, exchanged = (_in_box(points[known], raw.polygons.box_um[known]) for points in (xy_um, xy_um[:, ::-1]))
    if not known.any() or inside.mean() >= 0.5:
        return
    cause = "x and y look swapped in one of the two tables" if exchanged.mean() > 0.5 else "they are of different runs"
    raise InputError(
        f"{raw.where}, cell_boundaries.parquet",
        f"{1 - inside.mean():.0%} of the centroids of cells.parquet lie outside their own polygon: {cause}",
        "use cells.parquet and cell_boundaries.parquet as the instrument wrote them",
    )


def _in_box(xy_um: NDArray[np.float64], box_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    x, y = xy_um.T
    x_min, x_max, y_min, y_max = box_um.T
    return (x >= x_min) & (x <= x_max) & (y >= y_min) & (y <= y_max)


def _compare_counts(raw: Raw, count_row: NDArray[np.int64], n_counts: NDArray[np.int64], share: float) -> int:
    """Compare gene totals with what cells.parquet states; return the number of cells that differ."""
    stated = raw.cells["transcript_counts"].to_numpy()
    differs = (count_row >= 0) & (stated != n_counts)
    n_differing = int(differs.sum())
    if not n_differing:
        return 0
    example = int(np.flatnonzero(differs)[np.argmin(raw.cells["cell_id"].to_numpy()[differs])])
    what = (
        f"gene counts of {n_differing} of {len(stated)} cells differ from transcript_counts in cells.parquet, such as"
        f" {raw.cells['cell_id'][example]!r} ({n_counts[example]} and {stated[example]:g})"
    )
    if n_differing > share * len(stated):
        raise InputError(f"{raw.where}, feature matrix", what, "use the matrix and cells.parquet of one run")
    logger.warning("%s: %s", raw.where, what)
    return n_differing


def _reasons(raw: Raw, count_row: NDArray[np.int64], n_counts: NDArray[np.int64], min_counts: int) -> NDArray[np.str_]:
    """Return each cell's first reason for exclusion, "" where there is none."""
    width_um, height_um = _extent_um(raw)
    x_min, x_max, y_min, y_max = raw.polygons.box_um.T  # NaN compares false, and no_polygon comes first
    away = (x_max <= 0) | (y_max <= 0) | (x_min >= width_um) | (y_min >= height_um)
    tests = {
        "no_polygon": raw.polygons.n_vertices == 0,
        "no_counts_row": count_row < 0,
        "outside_image": away | _outside(raw.cells[["x_um", "y_um"]].to_numpy(), _extent_um(raw)),
        "degenerate_polygon": raw.polygons.is_flat,
        "below_min_counts": n_counts < min_counts,
    }
    return np.select([tests[name] for name in REASONS], REASONS, default="")


def _refuse_share(raw: Raw, excluded: dict[str, int], share: float) -> None:
    unusable = {name: n for name, n in excluded.items() if name != "below_min_counts" and n}
    total = sum(unusable.values())
    if total > share * len(raw.cells):
        raise InputError(
            raw.where,
            f"{total} of {len(raw.cells)} cells lack a usable polygon, counts or image ({_told(unusable)}), more than"
            f" cells.max_excluded_share {share:g}",
            "check that all files are of one run, or raise cells.max_excluded_share",
        )


def _told(excluded: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in excluded.items() if n) or "none excluded"


def _order(raw: Raw, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort by block (row, col), then y, x and id."""
    xy_um = raw.cells[["x_um", "y_um"]].to_numpy()[rows]
    block = tile_of(um_to_px(xy_um, raw.pixel_size_um), BLOCK_PX)
    ids = raw.cells["cell_id"].to_numpy()[rows].astype(str)
    return np.lexsort((ids, xy_um[:, 0], xy_um[:, 1], block[:, 1], block[:, 0]))


def _table(raw: Raw, rows: NDArray[np.int64], per_cell: dict[str, NDArray[np.int64]]) -> pd.DataFrame:
    cells = raw.cells.iloc[rows].reset_index(drop=True)
    box = raw.polygons.box_um[rows]
    missing = pd.array([pd.NA] * len(rows), dtype="Int32")
    return pd.DataFrame(
        {
            "cell_id": cells["cell_id"],
            "x_um": cells["x_um"],
            "y_um": cells["y_um"],
            **{name: box[:, i] for i, name in enumerate(("x_min_um", "x_max_um", "y_min_um", "y_max_um"))},
            "cell_area_um2": cells["cell_area_um2"],
            "nucleus_area_um2": cells["nucleus_area_um2"],
            "n_nuclei": missing if raw.n_nuclei is None else raw.n_nuclei[rows].astype(np.int32),
            **per_cell,
        }
    )
