"""Writing embeddings as h5ad, block by block: memory does not grow with the slide.

The elements are those of anndata's on-disk format, written with h5py: anndata can write no matrix by parts, and takes
longer to import than a small slide takes to embed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray

from mistline.core.files import atomic_path
from mistline.core.hdf5 import hdf5_errors
from mistline.models.contract import Block
from mistline.store.embeddings import Origin

_CHUNK_ROWS = 4096
# of elements: encoding-type, encoding-version
_WHOLE, _FRAME, _DICT = ("anndata", "0.1.0"), ("dataframe", "0.2.0"), ("dict", "0.1.0")
_ARRAY, _STRINGS = ("array", "0.2.0"), ("string-array", "0.2.0")
_TEXT, _NUMBER = ("string", "0.2.0"), ("numeric-scalar", "0.2.0")


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
        with ExitStack() as stack:
            part = stack.enter_context(self._atomic)
            stack.enter_context(hdf5_errors())
            self._file = stack.enter_context(h5py.File(part, "w"))
            _say(self._file.create_group("obsm"), _DICT)
            self._stack = stack.pop_all()
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
        try:
            if kind is None:
                self._finish()
        except BaseException as problem:
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def _append(self, name: str, rows: NDArray[np.float32]) -> None:
        if name not in self._arrays:
            shape = rows.shape[1:]
            dataset = self._file.create_dataset(
                name, (0, *shape), "float32", maxshape=(None, *shape), chunks=(_CHUNK_ROWS, *shape)
            )
            _say(dataset, _ARRAY)
            self._arrays[name] = dataset
        dataset = self._arrays[name]
        start = len(dataset)
        dataset.resize(start + len(rows), axis=0)
        dataset[start:] = rows

    def _finish(self) -> None:
        width = self._arrays["X"].shape[1]
        for name, index, ids in (("obs", "cell_id", self._ids), ("var", "_index", [f"e{i}" for i in range(width)])):
            frame = self._file.create_group(name)
            _say(frame, _FRAME, _index=index, **{"column-order": np.array([], dtype=h5py.string_dtype())})
            _say(frame.create_dataset(index, data=ids, dtype=h5py.string_dtype()), _STRINGS)
        for name in ("layers", "obsp", "uns", "varm", "varp"):
            _say(self._file.create_group(name), _DICT)
        for name, value in asdict(self._origin).items():
            _say(self._file.create_dataset(f"uns/{name}", data=value), _TEXT if isinstance(value, str) else _NUMBER)
        _say(self._file, _WHOLE)


def _say(element: h5py.Group | h5py.Dataset, form: tuple[str, str], **more: str | np.ndarray) -> None:
    """Say what an element is."""
    kind, version = form
    element.attrs.update({"encoding-type": kind, "encoding-version": version, **more})
