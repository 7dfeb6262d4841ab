"""`cell_feature_matrix.h5`: 10x's compressed sparse columns (one a cell), appended block by block."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from scipy.sparse import csr_matrix

from mistline.xenium.toy.panel import Panel
from mistline.xenium.toy.settings import ToySlide

_CHUNK = 65_536


class MatrixFile:
    """A writer of one matrix."""

    def __init__(self, path: Path, slide: ToySlide, panel: Panel) -> None:
        self._file = h5py.File(path, "w")
        self._file.attrs["chemistry_description"] = "Xenium"
        self._file.attrs["filetype"] = "matrix"
        self._file.attrs["version"] = 2
        matrix = self._file.create_group("matrix")
        features = matrix.create_group("features")
        features["_all_tag_keys"] = np.array([b"genome"])
        columns = {"id": panel.ids, "name": panel.symbols, "feature_type": panel.types}
        for name, values in columns.items():
            features[name] = np.array([value.encode() for value in values])
        features["genome"] = np.array([b"Unknown"] * len(panel.ids))
        matrix["shape"] = np.array([len(panel.ids), slide.n_cells], dtype=np.int32)
        width = len(str(slide.n_cells)) if slide.form.integer_ids else 10
        self._barcodes = matrix.create_dataset("barcodes", (slide.n_cells,), f"S{width}")
        self._indptr = matrix.create_dataset("indptr", (slide.n_cells + 1,), np.int64)
        self._data, self._indices = (
            matrix.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(_CHUNK,), compression="gzip")
            for name, kind in (("data", np.int32), ("indices", np.int64))
        )
        self._n_cells = self._n_entries = 0

    def __enter__(self) -> MatrixFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, barcodes: np.ndarray, counts: csr_matrix) -> None:
        """Add cells: barcodes [n] and counts [n, features]."""
        cells = slice(self._n_cells, self._n_cells + len(barcodes))
        entries = slice(self._n_entries, self._n_entries + counts.nnz)
        self._barcodes[cells] = barcodes.astype(self._barcodes.dtype)
        self._indptr[cells.start + 1 : cells.stop + 1] = counts.indptr[1:] + self._n_entries
        for dataset, values in ((self._data, counts.data), (self._indices, counts.indices)):
            dataset.resize((entries.stop,))
            dataset[entries] = values
        self._n_cells, self._n_entries = cells.stop, entries.stop
