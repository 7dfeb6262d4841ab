"""The part of a remote file that lies here: a sparse file, and a mark for every block that is in it.

A process may be killed anywhere: a block is marked after it is written, so the next one goes on from the marks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from mistline.core.errors import OutputError, system_error
from mistline.core.files import read_json, write_json
from mistline.fetch.http import Version

BLOCK = 2**16
_HERE = b"\x01"


class Copy:
    """A folder with the blocks of one remote file; one process at a time has it open.

    Args:
        folder: where; made if it is absent.
        address: of the remote file: what was begun of another is forgotten.

    Raises:
        OutputError: the folder cannot be written, or another process has it open.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.version: Version | None = None
        self._folder, self._address = folder, address
        self._blocks = bytearray()
        self._stack = ExitStack()
        with ExitStack() as stack, _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._marks = self._opened(stack, "blocks")
            self._lock()
            self._data = self._opened(stack, "archive.zip")
            self._resume()
            self._stack = stack.pop_all()

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    @property
    def n_here(self) -> int:
        """Blocks that are here."""
        return self._blocks.count(_HERE)

    def begin(self, version: Version) -> None:
        """Begin with a state of the file; nothing of it is here yet."""
        self.forget_all()
        with _writing(self._folder):
            os.ftruncate(self._data, version.n_bytes)
            write_json(self._description, {"address": self._address, **asdict(version)})
        self.version, self._blocks = version, bytearray(-(-version.n_bytes // BLOCK))

    def forget_all(self) -> None:
        """Forget the file and all its blocks."""
        with _writing(self._folder):
            self._description.unlink(missing_ok=True)  # first: without it nothing else counts
            os.ftruncate(self._marks, 0)
            os.ftruncate(self._data, 0)
        self.version, self._blocks = None, bytearray()

    def forget(self, start: int, end: int) -> None:
        """Forget the blocks that hold bytes `start` to `end`."""
        first, stop = start // BLOCK, -(-end // BLOCK)
        self._blocks[first:stop] = bytes(stop - first)
        with _writing(self._folder):
            os.pwrite(self._marks, bytes(stop - first), first)

    def gap(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the first stretch of blocks that is missing of bytes `start` to `end`, None where all is here."""
        stop = -(-end // BLOCK)
        first = self._blocks.find(b"\0", start // BLOCK, stop)
        if first < 0 or self.version is None:
            return None
        last = self._blocks.find(_HERE, first, stop)
        return first * BLOCK, min((stop if last < 0 else last) * BLOCK, self.version.n_bytes)

    def missing(self, start: int, end: int) -> int:
        """Return how many bytes of the blocks that hold bytes `start` to `end` are not here."""
        return self._blocks.count(b"\0", start // BLOCK, -(-end // BLOCK)) * BLOCK

    def put(self, start: int, data: bytes) -> None:
        """Write one block, whose first byte is `start`."""
        with _writing(self._folder):
            os.pwrite(self._data, data, start)
            os.pwrite(self._marks, _HERE, start // BLOCK)
        self._blocks[start // BLOCK] = 1

    def read(self, start: int, n: int) -> bytes:
        """Read bytes that are here."""
        return os.pread(self._data, n, start)

    @property
    def _description(self) -> Path:
        return self._folder / "version.json"

    def _opened(self, stack: ExitStack, name: str) -> int:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        stack.callback(os.close, descriptor)
        return descriptor

    def _lock(self) -> None:
        """Keep other processes out; the system lets go of it however this one ends."""
        try:
            fcntl.flock(self._marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = "another process is fetching this bundle"
            raise OutputError(self._folder, what, "let it finish, or end it and run again") from None
        except OSError:
            pass  # a file system without locks

    def _resume(self) -> None:
        with suppress(Exception):  # whatever is wrong with what lies here, it is fetched anew
            told = read_json(self._description)
            address, version = told.pop("address"), Version(**told)
            marks = os.pread(self._marks, -(-version.n_bytes // BLOCK), 0)
            if address == self._address and os.fstat(self._data).st_size == version.n_bytes:
                self.version, self._blocks = version, bytearray(marks.ljust(-(-version.n_bytes // BLOCK), b"\0"))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (system_error(error, folder, writing=True) or error) from error
