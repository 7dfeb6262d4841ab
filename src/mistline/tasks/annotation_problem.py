"""The cells of an annotation task gathered: labels, folds, and what intervals resample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.store.folds import is_ever, is_part, numbers, require_same
from mistline.tasks.base import Inputs
from mistline.tasks.labels import encode, require_column
from mistline.tasks.stats import Unit, choose_unit

V = TypeVar("V", bound=np.generic)
_REMEDY = "run assign-folds again"
_USED = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be predicted.

    Args:
        cells: those trained on, chosen with or tested in some fold.
        labels: [N] codes.
        classes: names.
        folds: of `cells`, a column a fold (see `store.folds`).
        unit: what intervals resample; a code for each of the N cells, -1 where it is never tested.
        n_unlabelled: cells of the slides without a label.
    """

    cells: pd.DataFrame
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    folds: pd.DataFrame
    unit: Unit
    n_unlabelled: int

    @property
    def numbers(self) -> list[int]:
        """The folds, ascending."""
        return numbers(self.folds)

    @property
    def tested(self) -> NDArray[np.int64]:
        """Rows of the cells tested in some fold, ascending."""
        return np.flatnonzero(is_ever(self.folds, "test"))

    @property
    def n_tested(self) -> int:
        """Number of cells tested in some fold."""
        return len(self.tested)

    @property
    def interval(self) -> str:
        """A sentence on the intervals."""
        if self.unit.name != "cell" or len(self.numbers) == 1:
            return self.unit.note
        return f"{self.unit.note}; repeats are combined as if they tested the same cells, so that they narrow nothing"

    def rows(self, fold: int, part: str) -> NDArray[np.int64]:
        """Return the cells of one part of one fold, ascending."""
        return np.flatnonzero(is_part(self.folds, fold, part))

    def unit_of(self, rows: NDArray[np.int64]) -> Unit:
        """Return what is resampled, with the codes of these cells."""
        return replace(self.unit, codes=self.unit.codes[rows])

    def scored(self) -> pd.DataFrame:
        """Return slide, cell_id and truth of the cells tested in some fold."""
        truth = np.array(self.classes, dtype=object)[self.labels[self.tested]]
        return self.cells.iloc[self.tested][["slide", "cell_id"]].assign(truth=truth).reset_index(drop=True)

    def answers(self, predicted: Mapping[int, NDArray[np.int64]]) -> NDArray[np.object_]:
        """Return the class given to each of `scored`, by the first fold that tests it.

        Args:
            predicted: fold -> [n_test] codes.
        """
        return np.array(self.classes, dtype=object)[self.of_scored(predicted)]

    def of_scored(self, values: Mapping[int, NDArray[V]]) -> NDArray[V]:
        """Return the value of each of `scored`, by the first fold that tests it; `values` fold -> [n_test]."""
        found = np.zeros(len(self.cells), dtype=values[self.numbers[0]].dtype)
        for fold in reversed(self.numbers):
            found[self.rows(fold, "test")] = values[fold]
        return found[self.tested]

    def about(self) -> dict[str, Any]:
        """Return what a reader must know to trust the scores."""
        seen, tested, unseen = set(), set(), 0
        for fold in self.numbers:
            train, test = self.rows(fold, "train"), self.rows(fold, "test")
            seen |= set(self.cells["donor"].iloc[train])
            tested |= set(self.cells["donor"].iloc[test])
            unseen += int((~np.isin(self.labels[test], self.labels[train])).sum())
        return {
            "n_folds": len(self.numbers),
            "n_unlabelled": self.n_unlabelled,
            "n_tested_of_unseen_classes": unseen,  # wrong whatever is said
            "n_tested_in_train_split": int((self.cells["split"].iloc[self.tested] == "train").sum()),
            "donors_trained_on_and_tested": sorted(seen & tested),
        }


def gather(inputs: Inputs, label: str) -> Problem:
    """Read cells and folds.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, or folds of other cells.
    """
    cells = inputs.cells()
    column = require_column(cells, label, "annotation")
    labels, classes = encode(cells[column])
    folds = inputs.folds()
    require_same(folds, cells)
    used = np.flatnonzero(is_ever(folds, *_USED))
    if (labels[used] < 0).any():
        raise InputError("folds", "a cell without label is to be trained on or tested", _REMEDY)
    kept, folds = (table.iloc[used].reset_index(drop=True) for table in (cells, folds))
    unit = _unit(kept, np.flatnonzero(is_ever(folds, "test")))
    return Problem(kept, labels[used], classes, folds, unit, int((labels < 0).sum()))


def _unit(cells: pd.DataFrame, tested: NDArray[np.int64]) -> Unit:
    donors, slides = (cells[name].to_numpy(dtype=str)[tested] for name in ("donor", "slide"))
    unit = choose_unit(donors, slides)
    codes = np.full(len(cells), -1, dtype=np.int64)
    codes[tested] = unit.codes
    return replace(unit, codes=codes)
