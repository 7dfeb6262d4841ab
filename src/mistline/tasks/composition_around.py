"""The cells of a cohort that are asked what lives around them, and the truth of that.

As the neighbourhood composition of Nicheformer (Schaar et al., bioRxiv 2024.04.15.589472): one cell's embedding is to
tell which types its neighbours are of, in which proportions. There neighbours lie within a radius, here in the niche.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.tasks.base import Inputs
from mistline.tasks.composition import Params
from mistline.tasks.composition_niches import SPLITS, Niches, RowsOf, counted, draw, pooled, require, tiles
from mistline.tasks.controls import require_coordinates
from mistline.tasks.labels import encode, require_column
from mistline.tasks.stats import choose_unit


@dataclass(frozen=True, slots=True)
class Around(Niches):
    """Cells that are asked, each with the others of its niche: a row of `table` and `truth` is a cell.

    Args:
        asked: [T] the row of each in `cells`, which holds all cells of their niches.
    """

    asked: NDArray[np.int64]

    @property
    def groups(self) -> NDArray[np.int64]:
        """[number of test cells] the niche of each: its cells share their answer but for one of them."""
        return np.unique(self.member[self.asked[self.rows("test")]], return_inverse=True)[1]

    def points(self, rows_of: RowsOf) -> NDArray[np.float32]:
        """Return [T, D], the rows of the asked cells."""
        return pooled(self.cells.iloc[self.asked].reset_index(drop=True), np.arange(len(self.asked)), rows_of)

    def others(self, rows_of: RowsOf) -> NDArray[np.float32]:
        """Return [T, D] means over the other cells of each asked cell's niche."""
        n = np.bincount(self.member)[self.member[self.asked], None]
        mean = pooled(self.cells, self.member, rows_of)[self.member[self.asked]]
        return ((mean * n - self.points(rows_of)) / (n - 1)).astype(np.float32)


def gather_cells(inputs: Inputs, params: Params) -> Around:
    """Cut the slides into niches, keep the cells that can be asked and draw at most `max_cells` of a split.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, slides without coordinates, or no cell to fit on or to score.
    """
    cells = inputs.cells()
    column = require_column(cells, params.label, "composition")
    require_coordinates(cells, "composition")
    labels, classes = encode(cells[column])
    member, niches = tiles(cells, params.niche_um)
    counts = counted(member, labels, (len(niches), len(classes)))[member]
    known = np.flatnonzero(labels >= 0)
    counts[known, labels[known]] -= 1  # the cell itself
    n_labelled, split = counts.sum(axis=1), cells["split"].to_numpy(dtype=object)
    whole, enough = (niches["n_splits"].to_numpy() == 1)[member], n_labelled >= params.min_cells
    used = whole & np.isin(split, SPLITS)
    drawn = draw(np.flatnonzero(used & enough), split, params.max_cells, params.seed)
    left = {
        "across two splits": int((~whole).sum()),
        f"with fewer than {params.min_cells} labelled cells around": int((used & ~enough).sum()),
        "not drawn": int((used & enough).sum()) - len(drawn),
    }
    require(split[drawn], f"{{split}} cell can be asked of its niche of {params.niche_um:g} um", left)
    seen = np.unique(member[drawn])
    inside = np.isin(member, seen)
    place = np.cumsum(inside) - 1  # of a cell among those kept
    table = cells.iloc[drawn][["slide", "donor", "split", "x_um", "y_um"]].reset_index(drop=True)
    tested = table[table["split"] == "test"]
    return Around(
        cells=cells[inside].reset_index(drop=True),
        member=np.searchsorted(seen, member[inside]),
        table=table,
        truth=counts[drawn] / n_labelled[drawn, None],
        classes=classes,
        unit=choose_unit(*(tested[name].to_numpy(dtype=str) for name in ("donor", "slide"))),
        left_out=left,
        n_unlabelled=int((labels[inside] < 0).sum()),
        asked=place[drawn],
    )
