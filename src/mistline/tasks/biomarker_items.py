"""The patients (or slides) of a cohort, what is asked of each, and their cells pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import ConfigError, InputError
from mistline.tasks.base import Inputs
from mistline.tasks.biomarker import Params
from mistline.tasks.labels import require_column

_SHEET, _HEALTHY = "disease", "healthy"


@dataclass(frozen=True, slots=True)
class Cohort:
    """What is predicted.

    Args:
        cells: of the items, of all slides.
        items: [I] names of donors or slides, sorted.
        donor: [I] whose tissue it is.
        tissue: [I] of the sheet, joined where a donor has several; None where not given.
        positive: [I] the target.
        values: True and False -> what the target's values were.
        key: column of `cells` that holds the item.
        n_without_target: items that are not scored because the target is not known of them or not asked for.
    """

    cells: pd.DataFrame
    items: NDArray[np.str_]
    donor: NDArray[np.str_]
    tissue: tuple[str | None, ...]
    positive: NDArray[np.bool_]
    values: Mapping[bool, tuple[str, ...]]
    key: str
    n_without_target: int

    def n_cells(self) -> NDArray[np.int64]:
        """Return [I] numbers of cells."""
        return np.bincount(self._code(self.cells), minlength=len(self.items))

    def pooled(
        self, rows_of: Callable[[pd.DataFrame], NDArray[np.floating] | sparse.csr_matrix]
    ) -> NDArray[np.float64]:
        """Return [I, D] means over the cells of each item; only one slide's cells are held at a time.

        Args:
            rows_of: cells of one slide -> [n, D].
        """
        total: NDArray[np.float64] | None = None
        for _, part in self.cells.groupby("slide", sort=False):
            code = self._code(part)
            adds = sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))), (len(self.items), len(code)))
            block = adds @ rows_of(part)
            dense = np.asarray(block.todense() if sparse.issparse(block) else block, dtype=np.float64)
            total = dense if total is None else total + dense
        if total is None:
            raise InputError("tasks.biomarker", "no cell is there", "look at the slides of the run")
        return total / self.n_cells()[:, None]

    def _code(self, cells: pd.DataFrame) -> NDArray[np.int64]:
        return np.searchsorted(self.items, cells[self.key].to_numpy(dtype=str))


def gather(inputs: Inputs, params: Params) -> Cohort:
    """Find the target of every item.

    Raises:
        ConfigError: no slide has the target's label column, or its values leave it open what is positive.
        InputError: an item of two values, or too few donors of a class.
    """
    cells, sheet = inputs.cells(), inputs.sheet()
    table = sheet if params.target == _SHEET else cells
    column = _SHEET if params.target == _SHEET else require_column(cells, params.target, "biomarker")
    known = table.dropna(subset=[column]).groupby(params.per)[column].agg(lambda found: sorted(set(map(str, found))))
    for item, found in known.items():
        if len(found) > 1:
            what = f"{params.per} {item} is both {found[0]!r} and {found[1]!r}"
            raise InputError(f"tasks.biomarker, {params.target}", what, _remedy(params.per))
    value = known.map(lambda found: found[0])
    values = _meanings(sorted(set(value)), params)
    value = value[value.isin([*values[True], *values[False]])].sort_index()
    items = value.index.to_numpy(dtype=str)
    asked = cells[cells[params.per].isin(items)].reset_index(drop=True)
    empty = sorted(set(items) - set(asked[params.per]))
    if empty:
        raise InputError("tasks.biomarker", f"{params.per} {empty[0]} has no cell", "leave it out with only:")
    about = sheet.groupby(params.per)
    donor = about["donor"].first().loc[items].to_numpy(dtype=str)
    tissue = about["tissue"].agg(lambda found: "+".join(sorted(set(found))) if found.notna().all() else None)
    positive = value.isin(values[True]).to_numpy()
    _require_donors(donor, positive, values, params)
    left = len(about) - len(items)
    return Cohort(asked, items, donor, tuple(tissue.loc[items]), positive, values, params.per, left)


def _remedy(per: str) -> str:
    return "correct it, or set per: slide" if per == "donor" else "correct it, or name a target of slides"


def _meanings(found: list[str], params: Params) -> dict[bool, tuple[str, ...]]:
    """Return which of the values found are positive and which negative."""
    where = f"tasks.biomarker.params.positive, values of {params.target}: {', '.join(found) or 'none'}"
    for name in (*params.positive, *params.negative):
        if name not in found:
            raise ConfigError(where, f"nobody is {name!r}", "name a value that is there")
    if set(params.positive) & set(params.negative):
        raise ConfigError(where, "a value is both positive and negative", "name it once")
    if not params.positive and len(found) != 2:
        raise ConfigError(where, f"there are {len(found)} values, not two", "say which are positive")
    ranked = sorted(found, key=lambda name: (name != _HEALTHY, name))
    positive = params.positive or tuple(name for name in ranked if name not in params.negative)[-1:]
    negative = params.negative or tuple(name for name in found if name not in positive)
    if not negative:
        raise ConfigError(where, "every value is positive", "leave one out, or add slides of another")
    return {True: tuple(positive), False: tuple(negative)}


def _require_donors(
    donor: NDArray[np.str_], positive: NDArray[np.bool_], values: Mapping[bool, tuple[str, ...]], params: Params
) -> None:
    needed = 2 * params.folds
    for side in (True, False):
        n = len(set(donor[positive == side]))
        if n < needed:
            what = f"{n} donors are {' or '.join(values[side])}, {params.folds} folds need {needed}"
            raise InputError(f"tasks.biomarker, {params.target}", what, "add donors, lower folds or leave the task out")
