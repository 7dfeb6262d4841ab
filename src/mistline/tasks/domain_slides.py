"""The slides of a domain task gathered: labels, folds, neighbours and borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.store.folds import is_ever, is_part, numbers, require_same
from mistline.store.parts import PARTS
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
        cells: those that are something in some fold; of a slide all or none.
        labels: [N], -1 where unknown.
        classes: names of the classes.
        folds: of `cells`, a column a fold (see `store.folds`).
        slides: those with test cells.
        unit: what intervals resample; its codes belong to `slides`.
        n_tested: cells tested.
        n_unlabelled: cells of the dataset without a label.
    """

    cells: pd.DataFrame
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    folds: pd.DataFrame
    slides: tuple[SlideDomains, ...]
    unit: Unit
    n_tested: int
    n_unlabelled: int

    @property
    def numbers(self) -> list[int]:
        """The folds, ascending."""
        return numbers(self.folds)

    def rows(self, fold: int, part: str) -> NDArray[np.int64]:
        """Return the cells of one part of one fold, ascending."""
        return np.flatnonzero(is_part(self.folds, fold, part))

    def tested(self) -> NDArray[np.bool_]:
        """Return [N] whether a cell is tested in some fold."""
        return is_ever(self.folds, "test")

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
    require_same(folds, cells)
    n_unlabelled = int((labels < 0).sum())
    used = np.flatnonzero(is_ever(folds, *PARTS))
    cells, folds = (table.iloc[used].reset_index(drop=True) for table in (cells, folds))
    labels = labels[used]
    tested = is_ever(folds, "test")
    if (labels[tested] < 0).any():
        raise InputError("folds", "a cell without label is to be tested", _REMEDY)
    slides = tuple(
        _slide(str(name), own, labels, len(classes))
        for name, own in cells.groupby("slide", sort=False)
        if tested[own.index.to_numpy()].any()
    )
    names, donors = (np.array([getattr(item, key) for item in slides]) for key in ("name", "donor"))
    return Problem(cells, labels, classes, folds, slides, choose_unit(donors, names), int(tested.sum()), n_unlabelled)


def _slide(name: str, own: pd.DataFrame, labels: NDArray[np.int64], n_classes: int) -> SlideDomains:
    rows = own.index.to_numpy()
    graph = ring_graph(own)
    xy_um = own[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    return SlideDomains(name, str(own["donor"].iloc[0]), rows, graph, borders(graph, labels[rows], xy_um, n_classes))
