"""The true labels of cells, one row each, for the slide sheet's `labels` column."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mistline.xenium.toy.cells import Cells
from mistline.xenium.toy.panel import CELL_TYPES, DOMAINS, REACH_UM

COLUMNS = (
    "cell_id",
    "cell_type",
    "domain",
    "nucleus_area_um2",
    "nucleus_eccentricity",
    "nucleus_brightness",
    "sender_within_60um",
)


def label_rows(cells: Cells) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a block. What a cell without nucleus cannot have is empty."""
    count = cells.nucleus_count
    long, short = cells.nuclei.axes_um.T
    area = np.bincount(cells.nuclei.cell, weights=np.pi * long * short, minlength=len(count))
    eccentricity = np.zeros(len(count))
    eccentricity[cells.nuclei.cell] = np.sqrt(1 - (short / long) ** 2)
    near = cells.sender_um <= REACH_UM
    for row, cell_id in enumerate(cells.ids):
        morphology = ("", "", "")
        if count[row]:
            morphology = (f"{area[row]:.4f}", f"{eccentricity[row]:.4f}", f"{cells.brightness[row]:.4f}")
        names = (CELL_TYPES[cells.draft.types[row]], DOMAINS[cells.draft.domains[row]])
        yield (str(cell_id), *names, *morphology, "yes" if near[row] else "no")
