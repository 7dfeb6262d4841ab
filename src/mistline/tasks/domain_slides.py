"""The slides of a domain task gathered: labels, folds, neighbours and borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.tasks.base import Inputs
from mistline.tasks.domain_folds import ring_graph
from mistline.tasks.domain_metrics import Borders, borders
from mistline.tasks.labels import encode, require_column
from mistline.tasks.stats import Unit, choose_unit

_REMEDY = "run assign-folds again"


@dataclass(frozen=True, slots=True)
class SlideDomains:
    """One slide of the task.

    Args:
        name: of the slide.
        donor: whose tissue it is.
        rows: [n] of its cells in the table of all cells.
        graph: [n, n] ring neighbours.
        borders: of its n cells.
    """

    name: str
    donor: str
    rows: NDArray[np.int64]
    graph: sparse.csr_matrix
    borders: Borders


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be predicted.

    Args:
        cells: of all slides.
        labels: [N], -1 where unknown.
        classes: names of the classes.
        folds: row (in `cells`), fold, part.
        slides: those with test cells.
        unit: what intervals resample; its codes belong to `slides`.
        n_tested: cells tested.
    """

    cells: pd.DataFrame
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    folds: pd.DataFrame
    slides: tuple[SlideDomains, ...]
    unit: Unit
    n_tested: int

    def rows(self, fold: int, part: str) -> NDArray[np.int64]:
        """Return the cells of one part of one fold."""
        chosen = (self.folds["fold"] == fold) & (self.folds["part"] == part)
        return self.folds.loc[chosen, "row"].to_numpy()

    def tested(self) -> NDArray[np.bool_]:
        """Return [N] whether a cell is tested in some fold."""
        mask = np.zeros(len(self.cells), dtype=bool)
        mask[self.folds.loc[self.folds["part"] == "test", "row"]] = True
        return mask

    def names(self, codes: NDArray[np.int64]) -> NDArray[np.object_]:
        """Return the classes' names of some codes."""
        return np.array(self.classes, dtype=object)[codes]

    def scored(self) -> pd.DataFrame:
        """Return slide, cell_id and truth of the tested cells."""
        tested = self.tested()
        return self.cells.loc[tested, ["slide", "cell_id"]].assign(truth=self.names(self.labels[tested]))


def gather(inputs: Inputs, label: str) -> Problem:
    """Read cells and folds, and find the borders of every slide that is tested.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, or folds of other cells.
    """
    cells = inputs.cells()
    column = require_column(cells, label, "domains")
    labels, classes = encode(cells[column])
    folds = inputs.folds()
    place = pd.MultiIndex.from_frame(cells[["slide", "cell_id"]])
    row = place.get_indexer(pd.MultiIndex.from_frame(folds[["slide", "cell_id"]].astype(object)))
    if (row < 0).any():
        raise InputError("folds", f"{int((row < 0).sum())} of their cells are not in the dataset", _REMEDY)
    folds = pd.DataFrame({"row": row, "fold": folds["fold"].to_numpy(), "part": folds["part"].to_numpy(dtype=object)})
    tested = np.unique(folds.loc[folds["part"] == "test", "row"])
    if (labels[tested] < 0).any():
        raise InputError("folds", "a cell without label is to be tested", _REMEDY)
    slides = tuple(
        _slide(str(name), own, labels, len(classes))
        for name, own in cells.groupby("slide", sort=False)
        if np.isin(own.index.to_numpy(), tested).any()
    )
    names, donors = (np.array([getattr(item, key) for item in slides]) for key in ("name", "donor"))
    return Problem(cells, labels, classes, folds, slides, choose_unit(donors, names), len(tested))


def _slide(name: str, own: pd.DataFrame, labels: NDArray[np.int64], n_classes: int) -> SlideDomains:
    rows = own.index.to_numpy()
    graph = ring_graph(own)
    xy_um = own[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    return SlideDomains(name, str(own["donor"].iloc[0]), rows, graph, borders(graph, labels[rows], xy_um, n_classes))
