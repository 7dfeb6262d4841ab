"""`cells.zarr.zip`: a zarr v2 group in an uncompressed zip, written chunk by chunk in any order."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DATE = (1980, 1, 1, 0, 0, 0)  # a real one would change the bytes of every run
ROWS_PER_CHUNK = 16_384


class ZarrZip:
    """A writer; names are paths within the group."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._groups: set[str] = set()

    def __enter__(self) -> ZarrZip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def group(self, name: str = "", attributes: Mapping[str, Any] | None = None) -> None:
        """Declare a group; the root is named ''."""
        if name not in self._groups:
            self._groups.add(name)
            self._json(_join(name, ".zgroup"), {"zarr_format": 2})
            self._json(_join(name, ".zattrs"), dict(attributes or {}))

    def array(
        self,
        name: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Declare an array; chunks may have been put before. A chunk that is not put reads as zero."""
        described = {
            "zarr_format": 2,
            "shape": list(shape),
            "chunks": list(chunks),
            "dtype": dtype.str,
            "compressor": {"id": "zlib", "level": 1},
            "fill_value": 0,
            "order": "C",
            "filters": None,
        }
        self._json(_join(name, ".zarray"), described)
        self._json(_join(name, ".zattrs"), dict(attributes or {}))

    def put(self, name: str, place: tuple[int, ...], chunk: NDArray[np.generic]) -> None:
        """Write one whole chunk."""
        self._bytes(_join(name, ".".join(map(str, place))), zlib.compress(np.ascontiguousarray(chunk).tobytes(), 1))

    def _json(self, name: str, value: Mapping[str, Any]) -> None:
        self._bytes(name, json.dumps(value, indent=1, sort_keys=True).encode())

    def _bytes(self, name: str, data: bytes) -> None:
        self._zip.writestr(zipfile.ZipInfo(name, _DATE), data)


class RowArray:
    """An array that grows row by row, written in chunks of `ROWS_PER_CHUNK` rows."""

    def __init__(self, target: ZarrZip, name: str, dtype: str, width: tuple[int, ...] = ()) -> None:
        self._target, self._name, self._dtype, self._width = target, name, np.dtype(dtype), width
        self._waiting: list[NDArray[np.generic]] = []
        self._n_waiting = self._n_rows = self._n_chunks = 0

    def append(self, rows: NDArray[np.generic]) -> None:
        """Add rows, [n, *width]."""
        self._waiting.append(rows.astype(self._dtype))
        self._n_waiting += len(rows)
        self._n_rows += len(rows)
        while self._n_waiting >= ROWS_PER_CHUNK:
            self._flush()

    def close(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Write what waits, and the array's description."""
        if self._n_waiting:
            self._flush()
        shape, chunks = (self._n_rows, *self._width), (ROWS_PER_CHUNK, *self._width)
        self._target.array(self._name, shape, chunks, self._dtype, attributes)

    def _flush(self) -> None:
        rows = np.concatenate(self._waiting)
        chunk, rest = rows[:ROWS_PER_CHUNK], rows[ROWS_PER_CHUNK:]
        padded = np.zeros((ROWS_PER_CHUNK, *self._width), dtype=self._dtype)
        padded[: len(chunk)] = chunk
        self._target.put(self._name, (self._n_chunks, *(0 for _ in self._width)), padded)
        self._waiting, self._n_waiting = [rest], len(rest)
        self._n_chunks += 1


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name
