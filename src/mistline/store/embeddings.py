"""A slide's embedding on disk: one row a cell, and what made it, streamed in and out.

Parquet with the columns `cell_id, e0, e1, ...` (float32); the file's schema carries, as JSON, which model, seed,
weights and dataset version it was made from, so that a reader can refuse what does not belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mistline.core.errors import InputError, parsing
from mistline.core.files import atomic_path

ORIGIN_KEY = b"mistline"
ABSENT_KEY = b"mistline_not_run"  # of a file without rows: why (see `store.absent`)
_REMEDY = "run embed again"
_GROUP_ROWS = 4096  # 16 MB of 1,024 columns; a column of a group costs the same however few rows it has


@dataclass(frozen=True, slots=True)
class Origin:
    """What an embedding was made from.

    Args:
        model: name of the run, as in the tables.
        seed: its training seed.
        model_sha256: hash of its weights file.
        dataset_version: hash of the manifest.
    """

    model: str
    seed: int
    model_sha256: str
    dataset_version: str


class EmbeddingWriter:
    """Append blocks of rows; the file appears when the block succeeds.

    Blocks of any size become row groups of 4,096 rows: the file does not tell how it was made.

    Args:
        path: the parquet file.
        origin: what the rows are made from.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self._atomic: AbstractContextManager[Path] = atomic_path(path)
        self._path = path
        self._origin = origin
        self._writer: Any = None
        self._ids: list[str] = []
        self._blocks: list[NDArray[np.float32]] = []

    def __enter__(self) -> EmbeddingWriter:
        self._part = self._atomic.__enter__()
        return self

    def put(self, cell_ids: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Append rows.

        Args:
            cell_ids: n ids.
            rows: [n, D].

        Raises:
            InputError: a row holds a value that is not finite; names the cell.
        """
        _refuse_non_finite(self._path, cell_ids, rows)
        self._ids += cell_ids
        self._blocks.append(np.array(rows, dtype=np.float32))  # a copy: the caller may use its memory again
        while len(self._ids) >= _GROUP_ROWS:
            self._write(_GROUP_ROWS)

    def _write(self, n: int) -> None:
        """Write the first rows that wait as a row group."""
        rows = np.concatenate(self._blocks)
        ids, self._ids, self._blocks, rows = self._ids[:n], self._ids[n:], [rows[n:].copy()], rows[:n]
        columns = {"cell_id": pa.array(ids, pa.string())}
        columns |= {f"e{i}": pa.array(np.ascontiguousarray(rows[:, i])) for i in range(rows.shape[1])}
        about = {ORIGIN_KEY: json.dumps(asdict(self._origin), sort_keys=True)}
        table = pa.table(columns).replace_schema_metadata(about)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._part, table.schema, compression="zstd", write_page_checksum=True)
        self._writer.write_table(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._ids and kind is None:
                self._write(len(self._ids))
            if self._writer is not None:
                self._writer.close()
            elif kind is None:
                raise InputError(self._path, "no cell to embed", "leave this slide out")
        except BaseException as problem:
            self._atomic.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._atomic.__exit__(kind, error, trace)


def read_origin(path: Path) -> Origin:
    """Read what an embedding was made from.

    Raises:
        InputError: the file is missing, damaged or carries no origin.
    """
    about = (_open(path).schema_arrow.metadata or {}).get(ORIGIN_KEY)
    if about is None:
        raise InputError(path, "does not say which model and dataset it was made from", _REMEDY)
    with parsing(path, "does not say which model and dataset it was made from", _REMEDY):
        values = json.loads(about)
        kinds = {"model": str, "seed": int, "model_sha256": str, "dataset_version": str}
        if {name: type(value) for name, value in values.items()} != kinds:
            raise ValueError(f"{', '.join(kinds)} are texts and a number")
        return Origin(**values)


def read_blocks(path: Path) -> Iterator[tuple[NDArray[np.str_], NDArray[np.float32]]]:
    """Yield (cell ids [n], rows [n, D]) in the order of the file.

    Raises:
        InputError: the file is missing, damaged or says "not run", or a value is not finite; names the cell.
    """
    file = _open(path)
    absent = (file.schema_arrow.metadata or {}).get(ABSENT_KEY)
    if absent is not None:
        raise InputError(path, f"not run: {absent.decode('utf-8', 'replace')}", "leave out what builds on it")
    for number in range(file.num_row_groups):
        with parsing(path, "not a readable embedding", _REMEDY):
            table = file.read_row_group(number)
            ids = _ids(table.column("cell_id"))
            names = [name for name in table.column_names if name != "cell_id"]
            rows = np.column_stack([table.column(name).to_numpy() for name in names]).astype(np.float32, copy=False)
        _refuse_non_finite(path, ids, rows)
        yield ids, rows


def read_embedding(path: Path) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Return a slide's (cell ids [n], rows [n, D]) at once; raises as `read_blocks`."""
    blocks = list(read_blocks(path))
    if not blocks:
        raise InputError(path, "the file has no row", _REMEDY)
    return np.concatenate([ids for ids, _ in blocks]), np.concatenate([rows for _, rows in blocks])


def _ids(column: pa.ChunkedArray) -> NDArray[np.str_]:
    if not pa.types.is_string(column.type) or column.null_count:
        raise ValueError("its cell ids are no texts")
    return np.array(column.to_pylist(), dtype=np.str_)


def _open(path: Path) -> Any:
    try:
        with parsing(path, "not a readable parquet file", _REMEDY):
            return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(path, "no such file", "run embed") from None


def _refuse_non_finite(path: Path, cell_ids: Sequence[str] | NDArray[np.str_], rows: NDArray[np.float32]) -> None:
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        first = cell_ids[int(np.argmax(bad))]
        raise InputError(
            path, f"the embedding of cell {first} is not finite ({int(bad.sum())} such cells)", "train the model again"
        )
