"""Writing embeddings as h5ad, block by block: memory does not grow with the slide."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from numpy.typing import NDArray

from mistline.core.files import atomic_path
from mistline.models.contract import Block
from mistline.store.embeddings import Origin

_CHUNK_ROWS = 4096


class AnnotatedWriter:
    """Append blocks; the file appears when the block succeeds.

    X is z, every part of a block becomes an entry of obsm, uns says what made it.

    Args:
        path: the h5ad file.
        origin: what the rows are made from.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self._atomic: AbstractContextManager[Path] = atomic_path(path)
        self._origin = origin
        self._ids: list[str] = []
        self._arrays: dict[str, h5py.Dataset] = {}

    def __enter__(self) -> AnnotatedWriter:
        self._file = h5py.File(self._atomic.__enter__(), "w")
        write_elem(self._file, "obsm", {})
        return self

    def put(self, block: Block) -> None:
        """Append n cells."""
        self._ids.extend(map(str, block.cell_id))
        self._append("X", np.asarray(block.z, dtype=np.float32))
        for name, rows in block.parts.items():
            self._append(f"obsm/{name}", np.asarray(rows, dtype=np.float32))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._file.close()
        self._atomic.__exit__(kind, error, trace)

    def _append(self, name: str, rows: NDArray[np.float32]) -> None:
        if name not in self._arrays:
            shape = rows.shape[1:]
            dataset = self._file.create_dataset(
                name, (0, *shape), "float32", maxshape=(None, *shape), chunks=(_CHUNK_ROWS, *shape)
            )
            dataset.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            self._arrays[name] = dataset
        dataset = self._arrays[name]
        start = len(dataset)
        dataset.resize(start + len(rows), axis=0)
        dataset[start:] = rows

    def _finish(self) -> None:
        width = self._arrays["X"].shape[1]
        elements: dict[str, Any] = {
            "obs": pd.DataFrame(index=pd.Index(self._ids, dtype=object, name="cell_id")),
            "var": pd.DataFrame(index=pd.Index([f"e{i}" for i in range(width)], dtype=object)),
            "uns": asdict(self._origin),
            **{name: {} for name in ("layers", "obsp", "varm", "varp")},
        }
        for name, value in elements.items():
            write_elem(self._file, name, value)
        self._file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
