"""From an H&E and its alignment to an image on the DAPI grid: first the check, then the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.geometry import um_to_px
from mistline.mist.he import CHANNELS, Registered, covered_cells, resample
from mistline.mist.he_check import Fit, Nuclei, compare_readings, measure, readings
from mistline.mist.he_verdict import MOST_OFFSET_UM, Subject, judge, require_covered
from mistline.mist.pyramid import Description, level_shapes
from mistline.xenium.alignment import Alignment
from mistline.xenium.histology import Histology

_DAPI = "DAPI"


@dataclass(frozen=True)
class Slide:
    """What is known of the slide.

    Attributes:
        described: image.json.
        image: the slide's OME-Zarr.
        cells: cells.parquet.
        most_uncovered: share of cells that may lie beside the H&E.
    """

    described: Mapping[str, Any]
    image: Path
    cells: pd.DataFrame
    most_uncovered: float

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows, columns of the DAPI image."""
        return int(self.described["shape_px"][0]), int(self.described["shape_px"][1])

    @property
    def pixel_size_um(self) -> float:
        """Micrometres a pixel."""
        return float(self.described["pixel_size_um"])


def register(
    slide: Slide, histology: Histology, alignment: Alignment, folder: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Check the alignment and write the registered H&E into `folder`, which must not exist.

    Returns:
        What image.json of the H&E holds; and for each cell whether it lies wholly on the H&E.

    Raises:
        InputError: the alignment does not fit the slide, the H&E shows too few of its cells, or a tile is damaged.
    """
    name = str(slide.described["slide"])
    subject = Subject(name, slide.pixel_size_um, alignment, histology.pixel_size_um)
    registered = Registered(histology, alignment.matrix)
    fit, others = _compare(slide, registered, alignment)
    warnings = judge(subject, fit, others)
    if fit is None:
        why = "no place on the H&E has nuclei enough" if _has_dapi(slide) else "image.channels has none"
        warnings.append(f"the alignment was not compared with {_DAPI}: {why}")
    covered = covered_cells(registered, slide.cells, slide.shape_px, slide.pixel_size_um)
    require_covered(subject, covered, slide.most_uncovered, _hint(slide, registered))
    if not covered.all():
        warnings.append(f"{int((~covered).sum())} cells do not lie wholly on the H&E: their H&E is white in part")
    share = resample(registered, Description(name, CHANNELS, slide.shape_px, slide.pixel_size_um), folder)
    found = {
        "slide": name,
        "channels": list(CHANNELS),
        "shape_px": list(slide.shape_px),
        "pixel_size_um": slide.pixel_size_um,
        "levels": len(level_shapes(slide.shape_px)),
        "source": _source(registered, alignment),
        "covered_share": round(share, 6),
        "cells": {"n": len(covered), "not_covered": int((~covered).sum())},
        "check": {
            "dapi": fit.values() if fit else None,
            "other_readings": {key: round(other.best, 4) for key, other in others.items()},
            "landmarks": _landmarks(alignment, slide.pixel_size_um),
        },
        "warnings": warnings,
    }
    return found, pd.DataFrame({"cell_id": slide.cells["cell_id"].to_numpy(), "covered": covered})


def _has_dapi(slide: Slide) -> bool:
    return _DAPI in slide.described["channels"]


def _compare(slide: Slide, registered: Registered, alignment: Alignment) -> tuple[Fit | None, dict[str, Fit]]:
    """Compare with DAPI, also by other readings of the matrix; where the dataset has no DAPI, landmarks must do."""
    if not _has_dapi(slide):
        if alignment.landmarks is None or alignment.landmarks.error_px is None:
            what = f"cannot be checked: image.channels has no {_DAPI}, and the alignment has no landmarks to judge"
            remedy = f"add {_DAPI} to image.channels, or give four or more keypoints"
            raise InputError(f"slide {slide.described['slide']}, H&E alignment", what, remedy)
        return None, {}
    yx_px = um_to_px(slide.cells[["x_um", "y_um"]].to_numpy(), slide.pixel_size_um)
    nuclei = Nuclei(slide.image, list(slide.described["channels"]).index(_DAPI), slide.pixel_size_um, yx_px)
    fit = measure(registered, nuclei, MOST_OFFSET_UM)
    return fit, compare_readings(registered, nuclei, slide.pixel_size_um, MOST_OFFSET_UM)


def _hint(slide: Slide, registered: Registered) -> str:
    """Say which other reading of the matrix would show all cells, for the error that asks."""
    histology = registered.histology
    for name, matrix in readings(registered.matrix, histology.shape_px, slide.pixel_size_um).items():
        other = Registered(histology, matrix)
        shown: NDArray[np.bool_] = covered_cells(other, slide.cells, slide.shape_px, slide.pixel_size_um)
        if (~shown).sum() <= slide.most_uncovered * len(shown):
            return f"; read {name} they would"
    return ""


def _source(registered: Registered, alignment: Alignment) -> dict[str, Any]:
    histology = registered.histology
    pixel_size_um = histology.pixel_size_um
    return {
        "axes": histology.axes,
        "shape_px": list(histology.shape_px),
        "levels": [list(level.shape_px) for level in histology.levels],
        "pixel_size_um": pixel_size_um,
        "alignment": alignment.kind,
        "matrix": [[round(value, 9) for value in row] for row in alignment.matrix.tolist()],
    }


def _landmarks(alignment: Alignment, pixel_size_um: float) -> dict[str, Any] | None:
    found = alignment.landmarks
    if found is None:
        return None
    error, largest = (
        None if value is None else round(value * pixel_size_um, 3) for value in (found.error_px, found.largest_px)
    )
    return {"n": found.n, "error_um": error, "largest_um": largest, "worst": found.worst}
