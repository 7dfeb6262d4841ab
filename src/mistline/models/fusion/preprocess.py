"""From counts to the numbers that the networks read: the most variable genes, logged and standardised.

`n` cells, `G` genes given, `F` genes kept. What is fitted is fitted on training cells. The matrix stays sparse; only
the rows of a batch become dense.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError

_N_BINS, _FEWEST = 20, 50  # genes are compared with others of about the same mean: so many bins, of so many genes
_LEAST_SPREAD = 1e-6
_ENTRIES = 1 << 20  # of a sparse matrix that are looked at at once


@dataclass(frozen=True, slots=True)
class Scaler:
    """Mean and spread of the kept genes, of all cells alike or slide by slide.

    Args:
        mean: [1 or slides, F].
        spread: [1 or slides, F], positive.
        clip: standardised values are cut at it.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    clip: float

    def dense(self, rows: sparse.csr_matrix, slide: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return [n, F] standardised values of logged rows.

        Args:
            rows: [n, F].
            slide: [n] number of each row's slide; not looked at where all are scaled alike.
        """
        values: NDArray[np.float32] = rows.toarray()
        if len(self.mean) == 1:
            values -= self.mean[0]
            values /= self.spread[0]
        else:
            for number in np.unique(slide):
                own = slide == number
                values[own] = (values[own] - self.mean[number]) / self.spread[number]
        return np.clip(values, -self.clip, self.clip, out=values)


def log_rows(counts: sparse.csr_matrix, values: str, depth: float) -> sparse.csr_matrix:
    """Return the counts brought to one depth (over all genes given) and logged, float32; zero stays zero.

    Args:
        counts: [n, G].
        values: counts, normalised (only logged) or log (taken as they are).
        depth: that counts are brought to.
    """
    # The places are shared with the counts: on a large slide a copy of them would be as much as the values.
    logged = sparse.csr_matrix((counts.data.astype(np.float32), counts.indices, counts.indptr), counts.shape)
    if values == "counts":
        total = np.asarray(counts.sum(axis=1), dtype=np.float64).reshape(-1)
        factor = (depth / np.maximum(total, 1)).astype(np.float32)
        logged.data *= np.repeat(factor, np.diff(logged.indptr))
    if values != "log":
        np.log1p(logged.data, out=logged.data)
    return logged


def choose_genes(train: sparse.csr_matrix, n_genes: int, min_cells: int) -> NDArray[np.int64]:
    """Return the columns of the most variable genes, rising.

    Variance over mean of the values before the log, standardised among genes of about the same mean.

    Args:
        train: [n, G] logged rows of the training cells.
        n_genes: at most so many.
        min_cells: cells in which a gene must occur; fewer where there are fewer cells than that.

    Raises:
        InputError: no gene occurs in so many cells.
    """
    occurs = np.bincount(train.indices[train.data != 0], minlength=train.shape[1])
    found = np.flatnonzero(occurs >= min(min_cells, train.shape[0]))
    if not len(found):
        what = f"no gene occurs in {min_cells} of the {train.shape[0]} training cells"
        raise InputError("counts", what, "lower min_cells, or give slides with genes")
    if len(found) <= n_genes:
        return found
    raw = sparse.csr_matrix((np.expm1(train.data.astype(np.float64)), train.indices, train.indptr), train.shape)
    mean, variance = (values[found] for values in moments(raw))
    dispersion = np.log(np.maximum(variance, 1e-12) / np.maximum(mean, 1e-12))
    n_bins = max(1, min(_N_BINS, len(found) // _FEWEST))
    bins = np.argsort(np.argsort(mean, kind="stable"), kind="stable") * n_bins // len(found)
    score = np.zeros(len(found))
    for number in np.unique(bins):
        own = bins == number
        spread = dispersion[own].std() if own.sum() > 1 else 0.0
        score[own] = (dispersion[own] - dispersion[own].mean()) / spread if spread > 0 else 1.0
    chosen = np.argsort(-score, kind="stable")[:n_genes]
    return np.sort(found[chosen])


def fit_scaler(parts: Sequence[sparse.csr_matrix], clip: float) -> Scaler:
    """Return mean and spread of each part's logged rows [n, F]; a gene that never varies keeps spread 1."""
    found = [moments(rows) for rows in parts]
    mean = np.stack([mean for mean, _ in found]).astype(np.float32)
    spread = np.sqrt(np.stack([variance for _, variance in found]))
    return Scaler(mean, np.where(spread > _LEAST_SPREAD, spread, 1).astype(np.float32), clip)


def moments(rows: sparse.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ([F] mean, [F] variance) of the columns; zeros count."""
    n, width = max(rows.shape[0], 1), rows.shape[1]
    mean, square, present = np.zeros(width), np.zeros(width), np.zeros(width)
    for index, data in _blocks(rows):
        mean += np.bincount(index, data, width)
        present += np.bincount(index, minlength=width)
    mean /= n
    for index, data in _blocks(rows):
        square += np.bincount(index, (data - mean[index]) ** 2, width)
    return mean, (square + (rows.shape[0] - present) * mean**2) / n


def _blocks(rows: sparse.csr_matrix) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    """Yield columns and values of the stored entries, so many at a time."""
    for start in range(0, rows.nnz, _ENTRIES):
        part = slice(start, start + _ENTRIES)
        yield rows.indices[part], rows.data[part].astype(np.float64)


def stack(parts: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
    """Return the rows of all parts; the part itself where there is one."""
    return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")


def select(rows: sparse.csr_matrix, columns: Sequence[int] | NDArray[Any]) -> sparse.csr_matrix:
    """Return some columns, with sorted indices; the matrix itself where they are all of its columns."""
    if len(columns) == rows.shape[1] and np.array_equal(columns, np.arange(len(columns))):
        return rows
    chosen = sparse.csr_matrix(rows[:, columns])
    chosen.sort_indices()
    return chosen
