"""Reading the cells of a part of a dataset: ids, places and content (meta-cells or profiles), by slide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.models.contract import Batch, Needs, Source
from mistline.models.gest.vocabulary import NEEDS, Query, columns, values_of
from mistline.models.gest.windows import Cells

_BATCH = 8192

_Part = tuple[list[str], NDArray[np.float32], NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Slide:
    """The cells of one slide.

    Args:
        cell_id: [n], in the order of the source.
        cells: [n] of them.
    """

    cell_id: Sequence[str]
    cells: Cells


@dataclass(frozen=True, slots=True)
class Reader:
    """What knows the content of a cell.

    Args:
        genes: [T] ids of the meta-cells' genes, or of the profiles'.
        n_metacells: K; None where content is profiles.
        query: how counts are normalised, and of meta-cells, the model's own; None where these are the dataset's, and
            come with the cells.
        min_overlap: share of the genes that a slide must measure.
    """

    genes: tuple[str, ...]
    n_metacells: int | None
    query: Query | None
    min_overlap: float

    def read(self, source: Source) -> dict[str, Slide]:
        """Return the slides of a part.

        Raises:
            InputError: a cell has no place or no meta-cell, or a slide measured too few genes.
        """
        places = None if self.query is None else columns(self.genes, source, self.min_overlap)
        found: dict[str, list[_Part]] = defaultdict(list)
        for batch in source.batches(Needs(batch_size=_BATCH) if places is None else NEEDS):
            xy_um, content = batch.xy_um.numpy().astype(np.float32), self._content(batch, places)
            names, ids = np.asarray(batch.slide, dtype=object), np.asarray(batch.record_id, dtype=object)
            for name in dict.fromkeys(names.tolist()):
                own = names == name
                if not np.isfinite(xy_um[own]).all():
                    raise InputError(f"slide {name}", "some of its cells have no place", "leave this slide out")
                found[name].append((ids[own].tolist(), xy_um[own], content[own]))
        return {name: _joined(parts) for name, parts in found.items()}

    def _content(self, batch: Batch, places: NDArray[np.int64] | None) -> NDArray[np.generic]:
        """Return int64 [B], or float32 [B, T]."""
        if self.query is not None and places is not None:
            given = values_of(batch, places)
            return self.query.profiles(*given) if self.n_metacells is None else self.query.assign(*given)
        if batch.metacell is None:
            what = "its cells have no meta-cells, and the model was trained with those of a dataset"
            raise InputError("dataset", what, "use the model with the dataset it was trained on")
        metacell = batch.metacell.numpy().astype(np.int64)
        if len(metacell) and not 0 <= metacell.min() <= metacell.max() < (self.n_metacells or 0):
            what = f"meta-cell {metacell.max()} is none of the model's {self.n_metacells}"
            raise InputError("dataset", what, "use the model with the dataset it was trained on")
        return metacell


def _joined(parts: list[_Part]) -> Slide:
    ids = [name for own, _, _ in parts for name in own]
    return Slide(ids, Cells(*(np.concatenate([part[i] for part in parts]) for i in (1, 2))))
