"""What is known of the records besides what their shards hold: numbers at once, names when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.data.tables import SPLITS, SlideTable

_TEXTS = ("key", "slide", "donor", "record_id", "split", "tiles", "labels")


class Columns:
    """The columns of the records that a dataset holds, of all its slides.

    Args:
        tables: one a slide.
        rows: of each slide, the rows wanted, ascending.

    Attributes:
        tables: as given.
        ends: [slides] one past the last record of each slide.
        rows: as given; they are keys of the shards.
        slides: names of those with a record.
    """

    def __init__(self, tables: Sequence[SlideTable], rows: Sequence[NDArray[np.int32]]) -> None:
        self.tables = tables
        self.rows = rows
        self.ends = np.cumsum([len(rows) for rows in self.rows], dtype=np.int64)
        self.slides = tuple(table.slide for table, own in zip(tables, rows, strict=True) if len(own))
        self._labels = sorted({name for table in tables for name in table.labels})

    def __len__(self) -> int:
        return int(self.ends[-1])

    def place(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return slide [B] (a position in `tables`) and row [B] of each record."""
        slide = np.searchsorted(self.ends, index, side="right")
        row = np.empty(len(index), dtype=np.int64)
        for number, at in parts(slide):
            first = self.ends[number - 1] if number else 0
            row[at] = self.rows[number][index[at] - first]
        return slide, row

    def numbers(self, slide: NDArray[np.int64], row: NDArray[np.int64]) -> dict[str, Tensor | None]:
        """Return xy_um, side_um and metacell of a batch."""
        xy_um = np.empty((len(row), 2), dtype=np.float32)
        side_um = np.empty(len(row), dtype=np.float32)
        has_metacell = self.tables[0].metacell is not None
        metacell = np.empty(len(row) if has_metacell else 0, dtype=np.int64)
        for number, at in parts(slide):
            table, here = self.tables[number], row[at]
            xy_um[at], side_um[at] = table.xy_um[here], table.side_um[here]
            if table.metacell is not None:
                metacell[at] = table.metacell[here]
        return {
            "xy_um": torch.from_numpy(xy_um),
            "side_um": torch.from_numpy(side_um),
            "metacell": torch.from_numpy(metacell) if has_metacell else None,
        }

    def texts(self, slide: NDArray[np.int64], row: NDArray[np.int64]) -> dict[str, Any]:
        """Return the names of a batch: key, slide, donor, record_id, split, tiles and labels."""
        n = len(row)
        text = {name: np.empty(n, dtype=object) for name in ("slide", "donor", "record_id", "split")}
        tiles = {name: np.empty(n, dtype=object) for name in self.tables[0].tiles}
        labels = {name: np.empty(n, dtype=object) for name in self._labels}
        for number, at in parts(slide):
            table, here = self.tables[number], row[at]
            text["slide"][at], text["donor"][at] = table.slide, table.donor
            text["record_id"][at] = table.ids.take(here).to_pylist()
            text["split"][at] = np.array(SPLITS, dtype=object)[table.split[here]]
            for name, values in tiles.items():
                values[at] = table.tiles[name].take(here).to_pylist()
            for name, values in labels.items():
                values[at] = table.labels[name].take(here).to_pylist() if name in table.labels else None
        return {
            "key": [f"{of}/{name}" for of, name in zip(text["slide"], text["record_id"], strict=True)],
            **{name: values.tolist() for name, values in text.items()},
            "tiles": {name: values.tolist() for name, values in tiles.items()},
            "labels": {name: values.tolist() for name, values in labels.items()},
        }


class Names:
    """The names of a batch, looked up when first asked for: a training step needs none.

    Args:
        columns: of the dataset.
        slide: [B] see `Columns.place`.
        row: [B].
    """

    def __init__(self, columns: Columns, slide: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        self._columns: Columns | None = columns
        self._place = slide, row
        self._found: Mapping[str, Any] = {}

    @classmethod
    def known(cls, texts: Mapping[str, Any]) -> Names:
        """Return names that need no looking up: all that `Columns.texts` would give."""
        names = cls.__new__(cls)
        everywhere = np.arange(len(texts["key"]))
        names._columns, names._place, names._found = None, (np.zeros_like(everywhere), everywhere), texts
        return names

    def __len__(self) -> int:
        return len(self._place[1])

    def __getitem__(self, name: str) -> Any:
        """Return one of key, slide, donor, record_id, split, tiles and labels."""
        if self._columns is not None:
            self._found, self._columns = self._columns.texts(*self._place), None
        return self._found[name]

    def __getstate__(self) -> dict[str, Any]:
        """Travel as names, without the tables they come from."""
        return {"_columns": None, "_place": self._place, "_found": {name: self[name] for name in _TEXTS}}


def parts(slide: NDArray[np.int64]) -> list[tuple[int, Any]]:
    """Return (slide, where its records are in the batch) of each slide; a slice where there is one slide alone."""
    if not len(slide):
        return []
    first = int(slide[0])
    if (slide == first).all():
        return [(first, slice(None))]
    return [(number, np.flatnonzero(slide == number)) for number in np.unique(slide).tolist()]
