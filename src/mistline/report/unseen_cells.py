"""Cells of a slide of which some were hidden and filled: what was measured of them, and what their surroundings say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from mistline.core.errors import InputError
from mistline.core.files import read_parquet
from mistline.graphs.build import nearest_others
from mistline.mist.expression import BLOCK_ROWS, CountsFile
from mistline.report.sources import SlideSource

NEIGHBOURS = 10  # visible cells whose mean is the control, and whose likeness makes a gene spatial
_RANKED_CELLS = 5000  # visible cells around a hole that genes are ranked on
_DEPTH_BLOCKS = 4  # of a slide that the depth is looked up in
_CHUNK, _GENES_AT_ONCE = 1024, 512

Rows = NDArray[np.int64]
Table = NDArray[np.float32]


class FilledSlide:
    """One slide with hidden cells; tables are read as they are asked for.

    Args:
        source: the slide.
        genes: ids that models generated.
        hidden: ids of the hidden cells.
        depth: sum of these genes that cells are scaled to.

    Attributes:
        genes: [G] rows of `genes` that were measured here.
        symbols: [G].
        xy_um: float64 [N, 2].
        visible: int64 [v] rows of cells that were never hidden.

    Raises:
        InputError: a hidden cell is none of the slide's, every cell is hidden, or none of the genes was measured.
    """

    def __init__(self, source: SlideSource, genes: Sequence[str], hidden: Sequence[str], depth: float) -> None:
        cells = read_parquet(source.folder / "cells.parquet", ["cell_id", "x_um", "y_um"])
        self._source, self._depth = source, depth
        self.xy_um = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
        self._ids = pd.Index(cells["cell_id"].astype(str))
        with CountsFile(source.folder / "counts.h5ad") as counts:
            place = pd.Index(counts.gene_ids).get_indexer(pd.Index(genes))
            self.genes = np.flatnonzero(place >= 0)
            self._columns = place[self.genes]
            self.symbols = counts.symbols[self._columns]
        is_visible = np.ones(len(cells), dtype=bool)
        is_visible[self.rows(hidden)] = False
        self.visible = np.flatnonzero(is_visible)
        if not len(self.visible) or not len(self.genes):
            lack = "visible cell" if len(self.genes) else "gene that was generated"
            raise InputError(f"slide {source.name}", f"has no {lack}", "run generate-cells again")
        self._tree = cKDTree(self.xy_um[self.visible])

    def rows(self, cell_ids: Sequence[str]) -> Rows:
        """Return the rows of cells.

        Raises:
            InputError: one is none of the slide's.
        """
        found = self._ids.get_indexer(pd.Index(cell_ids))
        if (found < 0).any():
            what = f"cell {cell_ids[int(np.argmax(found < 0))]} was filled and is not stored"
            raise InputError(f"slide {self._source.name}", what, "run generate-cells again")
        return found.astype(np.int64)

    def measured(self, rows: Rows) -> sparse.csr_matrix:
        """Return [n, G] log-normalised."""
        with CountsFile(self._source.folder / "counts.h5ad") as counts:
            return _logged(counts.take(rows)[:, self._columns], self._depth, counts.values)

    def around(self, rows: Rows) -> Table:
        """Return [n, G], the mean of the visible cells nearest to each: what a model must beat."""
        k = min(NEIGHBOURS, len(self.visible))
        near = np.asarray(self._tree.query(self.xy_um[rows], k=k)[1]).reshape(len(rows), k)
        used, place = np.unique(near, return_inverse=True)
        weights = sparse.csr_matrix(
            (np.full(place.size, 1 / k), place.ravel(), np.arange(len(rows) + 1) * k), (len(rows), len(used))
        )
        found: Table = (weights @ self.measured(self.visible[used])).toarray().astype(np.float32)
        return found

    def most_spatial(self, centre_um: NDArray[np.float64]) -> int:
        """Return the gene, a column of [G], of largest Moran's I over the visible cells around a place."""
        near = np.atleast_1d(self._tree.query(centre_um, k=min(_RANKED_CELLS, len(self.visible)))[1])
        xy, values = self.xy_um[self.visible[near]], self.measured(self.visible[near]).tocsc()
        beside = nearest_others(xy, NEIGHBOURS)
        parts = [
            _moran(values[:, first : first + _GENES_AT_ONCE].toarray(), beside)
            for first in range(0, len(self.genes), _GENES_AT_ONCE)
        ]
        return int(np.argmax(np.concatenate(parts)))

    def chunks(self, rows: Rows) -> Iterator[tuple[slice, Table, Table]]:
        """Yield parts of `rows` with what was measured of them, and their control, both [n, G]."""
        for first in range(0, len(rows), _CHUNK):
            part = slice(first, first + _CHUNK)
            yield part, self.measured(rows[part]).toarray(), self.around(rows[part])


def training_depth(slides: Sequence[SlideSource], genes: Sequence[str]) -> float:
    """Return the median sum of some genes over training cells, of a few blocks of each slide; 1 at least."""
    found = [np.zeros(0)]
    for slide in slides:
        is_train = (read_parquet(slide.splits_file, ["split"])["split"] == "train").to_numpy()
        if not is_train.any() or not slide.bundle["panel"]["n_genes"]:
            continue
        with CountsFile(slide.folder / "counts.h5ad") as counts:
            columns = np.flatnonzero(np.isin(counts.gene_ids, list(genes)))
            starts = range(0, counts.n_cells, BLOCK_ROWS)
            for start in sorted({starts[number * len(starts) // _DEPTH_BLOCKS] for number in range(_DEPTH_BLOCKS)}):
                stop = min(start + BLOCK_ROWS, counts.n_cells)
                sums = np.asarray(counts.rows(start, stop)[:, columns].sum(axis=1)).ravel()
                found.append(sums[is_train[start:stop]])
    sums = np.concatenate(found)
    return max(float(np.median(sums)), 1.0) if len(sums) else 1.0


def _moran(values: Table, beside: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Moran's I of genes [n, g], of the k rows beside each [n, k]; that of a constant is minus infinity."""
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    alike = sum(((centred * centred[column]).sum(axis=0) for column in beside.T), np.zeros(values.shape[1]))
    spread = (centred**2).sum(axis=0)
    known = spread > 1e-9
    return np.where(known, alike / max(beside.shape[1], 1) / np.where(known, spread, 1), -np.inf)


def _logged(counts: sparse.csr_matrix, depth: float, values: str) -> sparse.csr_matrix:
    """Return counts as tasks compare them: scaled to the depth and logged, but for what a table gives as such."""
    if values == "log":
        return counts.astype(np.float32)
    if values == "normalised":
        return counts.astype(np.float32).log1p()
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return (
        (sparse.diags(depth / np.maximum(totals, 1.0)) @ counts.astype(np.float64)).log1p().astype(np.float32).tocsr()
    )
