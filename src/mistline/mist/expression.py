"""Rows of a slide's counts.h5ad, a block at a time, and their log-normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from anndata.io import read_elem
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError

BLOCK_ROWS = 16_384


class CountsFile:
    """An open counts.h5ad; a context manager. Rows are cells, columns genes in sorted order of their ids.

    Args:
        path: the file.

    Attributes:
        gene_ids: [G] str.
        symbols: [G] str.
        n_cells: rows.

    Raises:
        InputError: the file is missing, truncated or not a CSR matrix of counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r", locking=False)
            group = self._file["X"]
            if group.attrs.get("encoding-type") != "csr_matrix":
                raise InputError(path, "X is not a CSR matrix", "run read_cells for this slide again")
            var = read_elem(self._file["var"])
            self._data, self._indices = group["data"], group["indices"]
            self._indptr: NDArray[np.int64] = group["indptr"][:].astype(np.int64)
        except FileNotFoundError:
            raise InputError(path, "no such file", "run read_cells for this slide") from None
        except (OSError, KeyError) as error:
            raise InputError(path, f"not a readable h5ad ({error})", "run read_cells for this slide again") from None
        self.gene_ids: NDArray[np.str_] = np.asarray(var.index, dtype=str)
        self.symbols: NDArray[np.str_] = np.asarray(var["symbol"], dtype=str)
        self.n_cells = len(self._indptr) - 1

    def __enter__(self) -> CountsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def cell_ids(self) -> NDArray[np.str_]:
        """Return the ids [n] in the order of the rows."""
        obs = self._file["obs"]
        return np.asarray(read_elem(obs[obs.attrs["_index"]]), dtype=str)

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return counts [stop - start, G] as CSR."""
        low, high = self._indptr[start], self._indptr[stop]
        shape = (stop - start, len(self.gene_ids))
        parts = (self._data[low:high], self._indices[low:high], self._indptr[start : stop + 1] - low)
        return sparse.csr_matrix(parts, shape=shape)

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """Yield (first row, counts [at most `size`, G]) from top to bottom."""
        for start in range(0, self.n_cells, size):
            yield start, self.rows(start, min(start + size, self.n_cells))


def totals_of(counts: sparse.csr_matrix) -> NDArray[np.int64]:
    """Return the sum of each row [n]."""
    return np.asarray(counts.sum(axis=1, dtype=np.int64)).ravel()


def log_normalise(counts: sparse.csr_matrix, target_sum: float) -> sparse.csr_matrix:
    """Scale each row to `target_sum` and take log(1 + x), in float32; a row without counts stays zero.

    Args:
        counts: [n, G] counts.
        target_sum: the total every row is scaled to.
    """
    totals = totals_of(counts).astype(np.float64)
    factor = np.divide(target_sum, totals, out=np.zeros_like(totals), where=totals > 0)
    scaled = counts.data * np.repeat(factor, np.diff(counts.indptr))
    return sparse.csr_matrix((np.log1p(scaled).astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
