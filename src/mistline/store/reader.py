"""Reading records by key from a folder of shards; safe across fork, spawn and read-only folders."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.store.codec import Packed, Record, unpack
from mistline.store.shard import CONTENTS, KEY

_REMEDY = "remove the shard folder and run its stage again"


class ShardReader:
    """Records 0 .. n-1 of a folder that `ShardWriter` wrote.

    Files are opened at the first read of each process, so an instance may be made, and used, before a fork; it
    pickles as its path. Nothing is locked and nothing is written.

    Args:
        folder: the shard folder.

    Raises:
        InputError: a file of the folder is missing or has another size than when it was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        contents = read_json(self.folder / CONTENTS)
        try:
            self._names: list[str] = sorted(contents)
            counts, sizes = ([_whole(contents[name][key]) for name in self._names] for key in ("n_records", "n_bytes"))
        except (KeyError, TypeError, ValueError):
            raise InputError(self.folder / CONTENTS, "it does not say what the shards hold", _REMEDY) from None
        self._ends = list(accumulate(counts))
        for name, n_bytes in zip(self._names, sizes, strict=True):
            _check_size(self.folder / name, n_bytes)
        self._n = self._ends[-1] if self._ends else 0
        self._pid = -1
        self._files: list[_File] = []
        self._gets: list[Callable[[bytes], Any]] = []

    def __len__(self) -> int:
        return self._n

    @property
    def ends(self) -> tuple[int, ...]:
        """One past the last key of each shard."""
        return tuple(self._ends)

    def __reduce__(self) -> tuple[type[ShardReader], tuple[Path]]:
        return type(self), (self.folder,)

    def __getitem__(self, key: int) -> Record:
        """Read and decode one record.

        Raises:
            IndexError: no such key.
            InputError: the record is missing or damaged; names the shard and the key.
        """
        return self.packed([key])[0].record()

    def packed(self, keys: Sequence[int], pixels: bool = True) -> list[Packed]:
        """Read and check several records, in the order asked for; ascending keys are read fastest.

        Args:
            keys: of the records.
            pixels: see `codec.unpack`.

        Raises:
            IndexError: no such key.
            InputError: a record is missing or damaged; names the shard and the key.
        """
        found = []
        for key, view in zip(keys, self._views(keys), strict=True):
            try:
                found.append(unpack(view, key, "", pixels, self._files))
            except InputError as error:  # named here: spelling a path for each record would cost as much as reading it
                raise InputError(self._where(key), error.what, error.remedy) from None
        return found

    def raw(self, key: int) -> bytes:
        """Read one record's bytes, unchecked."""
        return bytes(self._views([key])[0])

    def _where(self, key: int) -> str:
        return f"{self.folder / self._names[bisect_right(self._ends, key)]}, key {key}"

    def _views(self, keys: Sequence[int]) -> list[memoryview]:
        if self._pid != os.getpid():
            self._open()
        found = []
        for key in keys:
            if not 0 <= key < self._n:
                raise IndexError(f"{self.folder}: no key {key}, the shards hold {self._n} records")
            try:
                value = self._gets[bisect_right(self._ends, key)](KEY.pack(key))
            except lmdb.Error as error:
                raise InputError(self._where(key), f"unreadable ({error})", _REMEDY) from error
            if value is None:
                raise InputError(self._where(key), "the record is missing", _REMEDY)
            found.append(value)
        return found

    def _open(self) -> None:
        with _LOCK:
            self._files = [_open_file(self.folder / name) for name in self._names]
            self._gets = [file.transaction.get for file in self._files]
        self._pid = os.getpid()


class _File:
    """An open shard of this process, with one read transaction that lives as long."""

    def __init__(self, path: Path) -> None:
        self.env: Any = lmdb.open(str(path), readonly=True, lock=False, subdir=False, create=False, max_dbs=0)
        self.transaction: Any = self.env.begin(buffers=True)

    def close(self) -> None:
        self.transaction.abort()
        self.env.close()


# LMDB refuses to open a file twice in one process, so readers of one file share it; it is closed with the last.
# Files are known by inode: a shard that is made anew at the same place is another file.
_FILES: WeakValueDictionary[tuple[int, int], _File] = WeakValueDictionary()
_LOCK = threading.Lock()


def _open_file(path: Path) -> _File:
    try:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        file = _FILES.get(key)
        if file is None:
            file = _FILES[key] = _File(path)
    except FileNotFoundError:
        raise InputError(path, "the shard is missing", _REMEDY) from None
    except lmdb.Error as error:
        raise InputError(path, f"not a readable shard ({error})", _REMEDY) from error
    return file


def _close_inherited() -> None:
    """Close, in a forked child, what its parent had open: the child opens its own."""
    global _LOCK
    _LOCK = threading.Lock()
    for file in list(_FILES.values()):
        file.close()
    _FILES.clear()


os.register_at_fork(after_in_child=_close_inherited)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError
    return value


def _check_size(path: Path, n_bytes: int) -> None:
    # LMDB maps the file: reading past the end of a truncated one would kill the process.
    if not path.is_file():
        raise InputError(path, "the shard is missing", _REMEDY)
    size = path.stat().st_size
    if size != n_bytes:
        raise InputError(path, f"the shard is truncated: {size} bytes, {n_bytes} were written", _REMEDY)
