"""Rows of a slide's counts.h5ad, a block at a time, and their log-normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError, first_line
from mistline.core.hdf5 import require_sound

BLOCK_ROWS = 16_384


class CountsFile:
    """An open counts.h5ad; a context manager. Rows are cells, columns genes in sorted order of their ids.

    Args:
        path: the file.

    Attributes:
        gene_ids: [G] str.
        symbols: [G] str.
        values: what the numbers are: counts, normalised or log.
        n_cells: rows.

    Raises:
        InputError: the file is missing, truncated or not a CSR matrix of counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r", locking=False)
            for name in ("X", "obs", "var"):
                require_sound(self.path, self._file[name])
            group = self._file["X"]
            if group.attrs.get("encoding-type") != "csr_matrix":
                raise InputError(path, "X is not a CSR matrix", "run read_cells for this slide again")
            var = self._file["var"]
            self.gene_ids = _texts(var[var.attrs["_index"]])
            self.symbols = _texts(var["symbol"])
            self.values = _texts(self._file["uns/values"]).item() if "uns/values" in self._file else "counts"
            self._data, self._indices = group["data"], group["indices"]
            self._indptr: NDArray[np.int64] = group["indptr"][:].astype(np.int64)
            self._require_whole()
        except FileNotFoundError:
            raise InputError(path, "no such file", "run read_cells for this slide") from None
        except (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
            what = f"not a readable h5ad ({first_line(error)})"
            raise InputError(path, what, "run read_cells for this slide again") from None
        self.n_cells = len(self._indptr) - 1

    def _require_whole(self) -> None:
        bounds = self._indptr
        if bounds[0] or (np.diff(bounds) < 0).any() or not bounds[-1] == len(self._data) == len(self._indices):
            raise ValueError("its rows do not fit its values")
        if self._data.dtype.kind not in "iuf" or self._indices.dtype.kind not in "iu":
            raise ValueError("its values are no numbers")
        if len(self.symbols) != len(self.gene_ids) or len(self.cell_ids()) != len(bounds) - 1:
            raise ValueError("its names are not those of its rows and columns")

    def __enter__(self) -> CountsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def cell_ids(self) -> NDArray[np.str_]:
        """Return the ids [n] in the order of the rows."""
        obs = self._file["obs"]
        return _texts(obs[obs.attrs["_index"]])

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return counts [stop - start, G] as CSR."""
        low, high = self._indptr[start], self._indptr[stop]
        shape = (stop - start, len(self.gene_ids))
        try:
            data, indices = self._data[low:high], self._indices[low:high]
        except (OSError, RuntimeError) as error:
            what = f"not a readable h5ad ({first_line(error)})"
            raise InputError(self.path, what, "run read_cells for this slide again") from error
        if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= len(self.gene_ids)):
            raise InputError(self.path, "a value lies outside the matrix", "run read_cells for this slide again")
        parts = (data, indices, self._indptr[start : stop + 1] - low)
        return sparse.csr_matrix(parts, shape=shape)

    def take(self, rows: NDArray[np.int64]) -> sparse.csr_matrix:
        """Return counts [len(rows), G] of some rows, in the order and as often as they are named.

        They are read in rising order, from each block of the file what lies between the first and the last.
        """
        rising, back = np.unique(rows, return_inverse=True)
        parts = [sparse.csr_matrix((0, len(self.gene_ids)), dtype=self._data.dtype)]
        for group in np.split(rising, np.flatnonzero(np.diff(rising // BLOCK_ROWS)) + 1):
            if len(group):
                parts.append(self.rows(group[0], group[-1] + 1)[group - group[0]])
        return sparse.vstack(parts, format="csr")[back]

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """Yield (first row, counts [at most `size`, G]) from top to bottom."""
        for start in range(0, self.n_cells, size):
            yield start, self.rows(start, min(start + size, self.n_cells))


def _texts(element: h5py.Dataset | h5py.Group) -> NDArray[np.str_]:
    """Return the strings of an element as anndata writes them: importing it takes longer than most stages.

    Raises:
        ValueError: one is missing.
    """
    if isinstance(element, h5py.Dataset):
        return np.asarray(element.asstr()[()], dtype=str)
    is_categorical = "codes" in element
    if (element["codes"][:] < 0).any() if is_categorical else element["mask"][:].any():
        raise ValueError(f"{element.name} lacks some entries")
    return _texts(element["categories"])[element["codes"][:]] if is_categorical else _texts(element["values"])


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
