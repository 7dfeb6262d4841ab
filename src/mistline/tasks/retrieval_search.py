"""Exact search among the cells of other slides, and what chance would find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.tasks import controls
from mistline.tasks.base import Estimate, Inputs, Row
from mistline.tasks.labels import encode, require_column
from mistline.tasks.stats import Unit, bootstrap_tables, choose_unit, resample_tables, tables_by_unit

if TYPE_CHECKING:
    from mistline.tasks.retrieval import Params

CHANCE = "k cells drawn at random from the same slides: expected from the shares of the classes, without scatter"
_PLACES = "the place of the cell within its slide alone, 0 .. 1"


@dataclass(frozen=True, slots=True)
class Search:
    """Who asks whom about one label.

    Args:
        label: name of the column.
        codes: [N] classes of all cells, -1 where unknown.
        queries: rows of the cells that ask.
        database: rows of the cells that may be found.
        groups: [N] slide (or donor) of all cells; a cell never finds one of its own.
        unit: what intervals resample; its codes belong to `queries`.
        n_unlabelled: test cells that would ask if they had a label.
    """

    label: str
    codes: NDArray[np.int64]
    queries: NDArray[np.int64]
    database: NDArray[np.int64]
    groups: NDArray[np.int64]
    unit: Unit
    n_unlabelled: int

    def parties(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return, slide by slide, (places in `queries`, rows that may be found)."""
        asking, found = self.groups[self.queries], self.groups[self.database]
        return [(np.flatnonzero(asking == own), self.database[found != own]) for own in np.unique(asking)]

    def about(self) -> dict[str, int]:
        """Return sizes for the result file."""
        reachable = np.zeros(len(self.queries), dtype=bool)
        for asking, database in self.parties():
            reachable[asking] = np.isin(self.codes[self.queries[asking]], self.codes[database])
        return {
            "n_queries": len(self.queries),
            "n_database": len(self.database),
            "n_classes": len(np.unique(self.codes[self.queries])),
            "n_unlabelled": self.n_unlabelled,
            "n_without_like": int((~reachable).sum()),  # wrong whatever is found
        }

    def score(self, points: NDArray[np.float32], params: Params) -> Row:
        """Search by [N, D] points, and score every k."""
        rank = first_alike(points, self, max(params.k))
        columns: dict[str, Estimate] = {}
        per_unit: dict[str, dict[str, float]] = {}
        classes = self.codes[self.queries]
        for k in params.k:
            shape = (int(classes.max()) + 1, 2)
            tables = tables_by_unit(self.unit, classes, (rank < k).astype(np.int64), shape)
            for name, function in ((f"recall_at_{k}", recall), (f"macro_recall_at_{k}", macro_recall)):
                rng = generator(params.seed, "evaluate", "retrieval", self.label, name)
                replicates = resample_tables(self.unit, tables, params.bootstrap, rng)
                total, key = tables.sum(axis=0), f"{self.label}_{name}"
                columns[key] = bootstrap_tables(function, total, replicates, params.confidence, (0.0, 1.0))
                per_unit[key] = self.unit.by_name(function(tables))
        return Row(columns, per_unit)


def searches(cells: pd.DataFrame, params: Params, group: str) -> list[Search]:
    """Return who asks whom, label by label.

    Args:
        cells: those that ask and those that may be found.
        params: labels and k.
        group: column whose value a cell and what it finds must not share.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, no labelled query, or fewer cells to be found than `k`.
    """
    groups = pd.factorize(cells[group])[0].astype(np.int64)
    found = []
    for label in params.labels:
        column = require_column(cells, label, "retrieval")
        codes, _ = encode(cells[column])
        asks, known = cells["asks"].to_numpy(dtype=bool), codes >= 0
        queries = np.flatnonzero(asks & known)
        if not len(queries):
            raise InputError(column, "no test cell is labelled", "label more cells")
        database = np.flatnonzero(cells["is_found"].to_numpy(dtype=bool) & known)
        who = cells.iloc[queries]
        unit = choose_unit(who["donor"].to_numpy(dtype=str), who["slide"].to_numpy(dtype=str))
        search = Search(label, codes, queries, database, groups, unit, int((asks & ~known).sum()))
        fewest = min(len(rows) for _, rows in search.parties())
        if fewest < max(params.k):
            what = f"{fewest} labelled cells can be found on other {group}s, {max(params.k)} are looked at"
            raise InputError(column, what, "label more cells or lower k")
        found.append(search)
    return found


def first_alike(points: NDArray[np.float32], search: Search, k: int) -> NDArray[np.int64]:
    """Return [n_queries] how many cells are nearer than the first one with the query's label; k if none of k has it.

    Cells are compared block by block, never all with all.

    Args:
        points: [N, D] of all cells.
        search: who asks whom.
        k: nearest cells that are looked at.
    """
    from sklearn.neighbors import NearestNeighbors

    rank = np.empty(len(search.queries), dtype=np.int64)
    for asking, database in search.parties():
        nearest = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points[database])
        rows = search.queries[asking]
        found = nearest.kneighbors(points[rows], return_distance=False)
        alike = search.codes[database][found] == search.codes[rows][:, None]
        rank[asking] = np.where(alike.any(axis=1), alike.argmax(axis=1), k)
    return rank


def recall(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of queries that are answered, [R]; tables are [R, class, not or answered]."""
    n = tables.sum(axis=(1, 2))
    return np.where(n > 0, tables[:, :, 1].sum(axis=1) / np.maximum(n, 1), np.nan)


def macro_recall(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean over the classes among the queries of the share that is answered, [R]."""
    n = tables.sum(axis=2)
    share, n_classes = tables[:, :, 1] / np.maximum(n, 1), (n > 0).sum(axis=1)
    return np.where(n_classes > 0, share.sum(axis=1) / np.maximum(n_classes, 1), np.nan)


def representations(
    inputs: Inputs, cells: pd.DataFrame, seed: int
) -> dict[str, tuple[str, Callable[[], NDArray[np.float32]]]]:
    """Return row -> (what it is, how to compute its [N, D]); places are taken within a slide's own bounds."""
    found = controls.representations(inputs, cells, seed)
    if "coordinates" in found:
        found["coordinates"] = partial(controls.scaled_places, cells)
    return {
        name: (_PLACES if name == "coordinates" else controls.DESCRIPTIONS.get(name, ""), points)
        for name, points in found.items()
    }


def chance(search: Search, params: Params) -> Row:
    """Return what drawing at random would find, in closed form."""
    classes = search.codes[search.queries]
    n_alike, n_all = np.empty(len(classes)), np.empty(len(classes))
    for asking, database in search.parties():
        n_alike[asking] = np.bincount(search.codes[database], minlength=search.codes.max() + 1)[classes[asking]]
        n_all[asking] = len(database)
    columns: dict[str, Estimate] = {}
    per_unit: dict[str, dict[str, float]] = {}
    for k in params.k:
        drawn = np.arange(k)[:, None]
        found = 1 - np.prod(np.maximum(n_all - n_alike - drawn, 0) / (n_all - drawn), axis=0)
        for name, average in ((f"recall_at_{k}", _mean), (f"macro_recall_at_{k}", _mean_of_classes)):
            key, value = f"{search.label}_{name}", average(classes, found)
            columns[key] = Estimate(value, value, value)
            own = [search.unit.codes == number for number in range(search.unit.n_units)]
            per_unit[key] = search.unit.by_name(np.array([average(classes[rows], found[rows]) for rows in own]))
    return Row(columns, per_unit)


def _mean(classes: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    del classes
    return float(values.mean())


def _mean_of_classes(classes: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    n = np.bincount(classes)
    return float((np.bincount(classes, values) / np.maximum(n, 1))[n > 0].mean())
