"""What `cells.zarr.zip` holds of the cells in each layout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mistline.xenium.toy.cells import Cells
from mistline.xenium.toy.ids import SUFFIX
from mistline.xenium.toy.settings import ToySlide
from mistline.xenium.toy.tables import nucleus_area_um2
from mistline.xenium.toy.zarrzip import RowArray, ZarrZip

_SUMMARY = (
    "cell_centroid_x",
    "cell_centroid_y",
    "cell_area",
    "nucleus_centroid_x",
    "nucleus_centroid_y",
    "nucleus_area",
    "z_level",
    "nucleus_count",
)


class CellArrays:
    """The arrays of `cells.zarr.zip` that grow with the cells."""

    def __init__(self, target: ZarrZip, slide: ToySlide) -> None:
        self._slide = slide
        columns = list(_SUMMARY[: 8 if slide.form.since_2 else 7])
        self._id = RowArray(target, "cell_id", "<u4", () if slide.form.integer_ids else (2,))
        self._summary, self._columns = RowArray(target, "cell_summary", "<f8", (len(columns),)), columns
        self._mask_value = None
        self._polygons: list[tuple[RowArray, RowArray]] = []
        if slide.form.since_2:
            target.group("polygon_sets")
            for number in (0, 1):
                target.group(f"polygon_sets/{number}")
                names = (f"polygon_sets/{number}/cell_index", f"polygon_sets/{number}/num_vertices")
                self._polygons.append((RowArray(target, names[0], "<u4"), RowArray(target, names[1], "<i4")))
        elif not slide.form.integer_ids:
            self._mask_value = RowArray(target, "seg_mask_value", "<u4")

    def append(self, cells: Cells, n_nuclei: int) -> None:
        """Add the cells of a block."""
        fixed = not self._slide.form.since_2
        paired = np.stack([cells.prefix, np.full(len(cells.prefix), SUFFIX)], axis=1)
        self._id.append(cells.prefix if self._slide.form.integer_ids else paired)
        self._summary.append(_summary(cells, self._slide)[:, : len(self._columns)])
        if self._mask_value is not None:
            self._mask_value.append(cells.rows + 1)
        shapes = ((cells.nuclei.cell, cells.nuclei.outlines(fixed)), (np.arange(len(cells.ids)), cells.outlines))
        for (index, sizes), (owner, outlines) in zip(self._polygons, shapes, strict=False):
            index.append(cells.draft.first + owner)
            sizes.append(outlines.sizes + 1)

    def close(self) -> None:
        """Write what waits."""
        self._id.close()
        self._summary.close({"column_names": self._columns})
        if self._mask_value is not None:
            self._mask_value.close()
        for index, sizes in self._polygons:
            index.close()
            sizes.close()


def _summary(cells: Cells, slide: ToySlide) -> NDArray[np.float64]:
    centroid = cells.outlines.centroid_um()
    nucleus = np.full((len(cells.ids), 2), np.nan)
    nucleus[cells.nuclei.cell[::-1]] = cells.nuclei.centre_um[::-1]
    level = 3.0 * np.rint(cells.depth * (slide.n_planes - 1))
    columns = (
        *centroid.T,
        cells.outlines.area_um2(),
        *nucleus.T,
        nucleus_area_um2(cells, slide),
        level,
        cells.nucleus_count,
    )
    return np.stack(columns, axis=1)


def close_group(zarr: ZarrZip, slide: ToySlide) -> None:
    """Describe the group and its label masks, whose chunks were put while the image was drawn."""
    attributes = {
        "major_version": slide.form.schema_version,
        "minor_version": 0,
        "number_cells": slide.n_cells,
        "polygon_set_names": ["nucleus", "cell"],
        "spatial_units": "microns",
    }
    zarr.group("", attributes)
    zarr.group("masks")
    for number in (0, 1):
        zarr.array(f"masks/{number}", slide.image_shape, (slide.tile, slide.tile), np.dtype("<u4"))
    to_pixels = np.diag([1 / slide.pixel_size_um, 1 / slide.pixel_size_um, 1, 1]).astype("<f4")
    zarr.put("masks/homogeneous_transform", (0, 0), to_pixels)
    zarr.array("masks/homogeneous_transform", (4, 4), (4, 4), np.dtype("<f4"))
