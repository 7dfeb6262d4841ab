"""Writing records into LMDB files of bounded size, whole folder or nothing, same records same bytes."""

from __future__ import annotations

import json
import shutil
import struct
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from mistline.core.errors import OutputError
from mistline.core.files import atomic_path

CONTENTS = "shards.json"
KEY = struct.Struct(">Q")
_BATCH_RECORDS = 1000
_BATCH_BYTES = 16 * 2**20
_PAGE = 4096
_LEAF_BYTES = _PAGE - 16
_INLINE = 2022  # a value up to here lies in a leaf page among others, a larger one in pages of its own
_SPARE_BYTES = 2 * 2**20


class _PageCount:
    """How large an LMDB file grows by appending, so that a file can be closed before it is too large."""

    def __init__(self) -> None:
        self._pages = 3
        self._leaf_room = 0

    def add(self, length: int) -> int:
        """Count a value of `length` bytes; return the file's size with it, branch pages taken as one in 100."""
        if length <= _INLINE:
            node = (length + 19) // 2 * 2
        else:
            node = 26
            self._pages += _whole_pages(length + 16) // _PAGE
        if node > self._leaf_room:
            self._pages += 1
            self._leaf_room = _LEAF_BYTES
        self._leaf_room -= node
        return self._pages * _PAGE * 101 // 100


class ShardWriter:
    """Append records to `0000.lmdb`, `0001.lmdb`, ... of a folder; keys are 0, 1, 2, ... over all files.

    Equal arguments and records give equal bytes: batches end at fixed points, and the map grows between batches,
    never by way of an aborted transaction, whose pages would be recycled with their content. Appending leaves no
    gaps (0.02 % of a file are pages that a batch replaced), so that a file needs no compacting copy, which would
    cost a quarter of the time and map the whole file into memory.

    Args:
        folder: where the files go; appears as a whole when the block succeeds.
        expected_bytes: estimated payload, which sizes the first map; it doubles when that is too small.
        shard_gb: largest size of one file in 1e9 bytes.
    """

    def __init__(self, folder: Path, expected_bytes: int, shard_gb: float) -> None:
        self.n_records = 0
        self._folder = Path(folder)
        self._limit = int(shard_gb * 1e9)
        self._expected = int(expected_bytes)
        self._atomic: AbstractContextManager[Path] = atomic_path(self._folder)
        self._contents: dict[str, dict[str, int]] = {}
        self._env: Any = None
        self._transaction: Any = None

    def __enter__(self) -> ShardWriter:
        self._part = self._atomic.__enter__()
        try:
            self._part.mkdir()
        except OSError as problem:
            self._atomic.__exit__(type(problem), problem, problem.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._abandon()
        except (OSError, OutputError) as problem:
            self._atomic.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._atomic.__exit__(kind, error, trace)

    def put(self, record: bytes) -> int:
        """Append one record and return its key.

        Raises:
            OutputError: the disk is full.
        """
        size = len(record)
        try:
            if self._env is None or (self._pages.add(size) > self._limit and self._file_records):
                self._close_file()
                self._open_file(size)
            if self._batch_records == _BATCH_RECORDS or self._batch_bytes + size > _BATCH_BYTES:
                self._end_batch()
            if self._transaction is None:
                self._begin_batch(size)
            self._transaction.put(KEY.pack(self.n_records), record, append=True)
        except lmdb.Error as problem:
            raise self._unwritable(problem) from problem
        self.n_records += 1
        self._file_records += 1
        self._batch_records += 1
        self._batch_bytes += size
        return self.n_records - 1

    def _open_file(self, size: int) -> None:
        self._pages = _PageCount()
        self._pages.add(size)
        self._file_records = self._batch_records = self._batch_bytes = 0
        self._name = f"{len(self._contents):04d}.lmdb"
        self._map = _whole_pages(max(int(min(self._expected, self._limit) * 1.2), size) + _SPARE_BYTES)
        # sync=False: atomic_path flushes the finished file, once.
        self._env = lmdb.open(
            str(self._part / self._name),
            map_size=self._map,
            subdir=False,
            lock=False,
            sync=False,
            metasync=False,
            max_dbs=0,
        )

    def _begin_batch(self, size: int) -> None:
        used = (self._env.info()["last_pgno"] + 1) * _PAGE
        # The values, at worst one unfilled page and one leaf page each, and the tree above them.
        wanted = used + max(_BATCH_BYTES, size) + 2 * _BATCH_RECORDS * _PAGE + _SPARE_BYTES
        while self._map < wanted:
            self._map *= 2
            self._env.set_mapsize(self._map)
        self._transaction = self._env.begin(write=True)

    def _end_batch(self) -> None:
        if self._transaction is not None:
            self._transaction.commit()
            self._transaction = None
        self._batch_records = self._batch_bytes = 0

    def _close_file(self) -> None:
        if self._env is None:
            return
        self._end_batch()
        self._env.close()
        self._env = None
        final = self._part / self._name
        final.chmod(0o444)
        self._contents[self._name] = {"n_records": self._file_records, "n_bytes": final.stat().st_size}

    def _finish(self) -> None:
        try:
            self._close_file()
        except lmdb.Error as problem:
            raise self._unwritable(problem) from problem
        (self._part / CONTENTS).write_text(json.dumps(self._contents, indent=1, sort_keys=True) + "\n", "utf-8")

    def _abandon(self) -> None:
        if self._transaction is not None:
            self._transaction.abort()
        if self._env is not None:
            self._env.close()

    def _unwritable(self, problem: lmdb.Error) -> OutputError:
        # A write that the disk takes half of is an "Input/output error" to LMDB: the space left tells.
        if shutil.disk_usage(self._part).free < _BATCH_BYTES:
            return OutputError(
                self._folder, "the disk is full", "free space or choose another --directory, then run again"
            )
        what = f"the shard cannot be written ({problem})"
        return OutputError(self._folder, what, "free space on the disk, or have it checked, then run again")


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
