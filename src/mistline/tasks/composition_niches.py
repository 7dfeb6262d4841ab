"""The niches of a cohort: which cells are in them, of which split they are, and what lives there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.geometry import tile_of
from mistline.core.seeds import generator
from mistline.tasks.base import Inputs
from mistline.tasks.composition import Params
from mistline.tasks.controls import left_out, require_coordinates
from mistline.tasks.labels import encode, require_column
from mistline.tasks.stats import FEWEST_UNITS, Unit, choose_unit

SPLITS = ("train", "val", "test")
RowsOf = Callable[[pd.DataFrame], NDArray[np.floating] | sparse.csr_matrix]
_ALONE = (
    f"intervals resample niches: fewer than {FEWEST_UNITS} test donors and slides; neighbouring niches are alike, so "
    "the intervals are too narrow and say nothing of another donor"
)


@dataclass(frozen=True, slots=True)
class Niches:
    """The niches that are fitted on or scored.

    Args:
        cells: of these niches, of all slides.
        member: [number of cells] the niche of each.
        table: slide, donor, split, x_um, y_um (centre), one row a niche.
        truth: [T, L] proportions of the labelled cells.
        classes: names of the classes.
        unit: what is resampled; its codes belong to the test niches.
        left_out: why niches are missing -> how many.
        n_unlabelled: cells of these niches without a label.
    """

    cells: pd.DataFrame
    member: NDArray[np.int64]
    table: pd.DataFrame
    truth: NDArray[np.float64]
    classes: tuple[str, ...]
    unit: Unit
    left_out: Mapping[str, int]
    n_unlabelled: int

    @property
    def split(self) -> NDArray[np.object_]:
        """[T] train, val or test."""
        return self.table["split"].to_numpy(dtype=object)

    @property
    def unit_name(self) -> str:
        """What intervals resample: donor, slide or niche."""
        return "niche" if self.unit.name == "cell" else self.unit.name

    @property
    def note(self) -> str:
        """A sentence for the result file."""
        return _ALONE if self.unit.name == "cell" else self.unit.note

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the niches of a split."""
        return np.flatnonzero(self.split == split)

    def count(self, split: str) -> int:
        """Return the number of niches of a split."""
        return len(self.rows(split))

    def absent_in_training(self) -> list[str]:
        """Return the classes that no training niche has."""
        seen = self.truth[self.rows("train")].sum(axis=0) > 0
        return [name for name, is_seen in zip(self.classes, seen, strict=True) if not is_seen]

    def controls_left_out(self, inputs: Inputs) -> dict[str, str]:
        """Return control -> why it says nothing here."""
        return left_out(inputs, self.cells)

    @property
    def groups(self) -> NDArray[np.int64]:
        """[number of test items] what is resampled where there are too few donors and slides: the niches."""
        return np.arange(self.count("test"))

    def points(self, rows_of: RowsOf) -> NDArray[np.float32]:
        """Return [T, D] means over the cells of each niche."""
        return pooled(self.cells, self.member, rows_of)


def pooled(cells: pd.DataFrame, member: NDArray[np.int64], rows_of: RowsOf) -> NDArray[np.float32]:
    """Return [T, D] means over the cells of each niche; only one slide's cells are held at a time.

    Args:
        cells: numbered from 0.
        member: [number of cells] the niche of each, 0 to T - 1, none without a cell; a niche lies on one slide.
        rows_of: cells of one slide -> [n, D].
    """
    blocks, order = [], []
    for _, part in cells.groupby("slide", sort=False):
        found, code = np.unique(member[part.index.to_numpy()], return_inverse=True)
        weight = 1 / np.bincount(code)[code]
        mean = sparse.csr_matrix((weight, (code, np.arange(len(code)))), shape=(len(found), len(code)))
        block = mean @ rows_of(part)
        blocks.append(np.asarray(block.todense() if sparse.issparse(block) else block, dtype=np.float32))
        order.append(found)
    return np.concatenate(blocks)[np.argsort(np.concatenate(order), kind="stable")]


def gather(inputs: Inputs, params: Params) -> Niches:
    """Cut the slides into niches, keep those that can be judged and draw at most `max_niches` of a split.

    Raises:
        ConfigError: no slide has the label column.
        InputError: one class, slides without coordinates, or no niche to fit on or to score.
    """
    cells = inputs.cells()
    column = require_column(cells, params.label, "composition")
    require_coordinates(cells, "composition")
    labels, classes = encode(cells[column])
    member, table = tiles(cells, params.niche_um)
    counts = counted(member, labels, (len(table), len(classes)))
    n_labelled = counts.sum(axis=1)
    whole, enough = table["n_splits"].to_numpy() == 1, n_labelled >= params.min_cells
    used = whole & table["split"].isin(SPLITS).to_numpy()
    drawn = draw(np.flatnonzero(used & enough), table["split"].to_numpy(), params.max_niches, params.seed)
    left = {
        "across two splits": int((~whole).sum()),
        f"fewer than {params.min_cells} labelled cells": int((used & ~enough).sum()),
        "not drawn": int((used & enough).sum()) - len(drawn),
    }
    require(table["split"].to_numpy()[drawn], f"{{split}} niche of {params.niche_um:g} um can be judged", left)
    number = np.full(len(table), -1)
    number[drawn] = np.arange(len(drawn))
    inside = number[member] >= 0
    kept = table.iloc[drawn].reset_index(drop=True)
    tested = kept[kept["split"] == "test"]
    unit = choose_unit(*(tested[name].to_numpy(dtype=str) for name in ("donor", "slide")))
    truth = counts[drawn] / n_labelled[drawn, None]
    unlabelled = int((labels[inside] < 0).sum())
    rows = cells[inside].reset_index(drop=True)
    return Niches(rows, number[member][inside], kept, truth, classes, unit, left, unlabelled)


def tiles(cells: pd.DataFrame, side_um: float) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Return ([n] tile of each cell; slide, donor, split, n_splits, x_um, y_um of each tile)."""
    yx = tile_of(cells[["y_um", "x_um"]].to_numpy(dtype=np.float64), side_um)  # type: ignore[arg-type]
    keyed = pd.DataFrame({"slide": cells["slide"], "row": yx[:, 0], "col": yx[:, 1], "split": cells["split"]})
    keyed["donor"] = cells["donor"]
    grouped = keyed.groupby(["slide", "row", "col"], sort=False)
    table = grouped.agg(donor=("donor", "first"), split=("split", "first"), n_splits=("split", "nunique")).reset_index()
    table["x_um"], table["y_um"] = (table["col"] + 0.5) * side_um, (table["row"] + 0.5) * side_um
    return grouped.ngroup().to_numpy(), table


def counted(member: NDArray[np.int64], labels: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return [T, L] labelled cells of each niche by class, [n] niche and [n] class (-1: no label) of cells given."""
    known = labels >= 0
    flat = member[known] * shape[1] + labels[known]
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def draw(rows: NDArray[np.int64], split: NDArray[np.object_], most: int, seed: int) -> NDArray[np.int64]:
    """Return at most so many of the rows of each split, in rising order."""
    drawn = []
    for name in SPLITS:
        own = rows[split[rows] == name]
        rng = generator(seed, "evaluate", "composition", name)
        drawn.append(rng.choice(own, most, replace=False) if len(own) > most else own)
    return np.sort(np.concatenate(drawn))


def require(split: NDArray[np.object_], what: str, left: Mapping[str, int]) -> None:
    """Refuse a draw without an item to fit on or to score.

    Args:
        split: of the items drawn.
        what: what there is none of, with `{split}` in it.
        left: why items are missing -> how many.
    """
    for name in ("train", "test"):
        if not (split == name).any():
            reasons = ", ".join(f"{number} {reason}" for reason, number in left.items() if number)
            said = f"no {what.format(split=name)} ({reasons or 'no cell is there'})"
            raise InputError("tasks.composition", said, "change niche_um, lower min_cells or look at splits.json")
