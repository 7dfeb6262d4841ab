"""Atomic writers: a reader sees the old file, the new file or no file, never half of one.

Everything is written beside its final place in a hidden `.<name>. ... .part`, flushed to disk and renamed. A killed
run leaves at most that part, which the next run clears (`mistline.core.parts`).
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mistline.core.errors import InputError, OutputError, parsing, shown, system_error
from mistline.core.parts import Part
from mistline.core.parts import remove as remove

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MEASURE = r"(?!label_).*_(?:um|px)"  # names of columns that hold lengths
_OF_RUST = re.compile(r"\(os error (\d+)\)")  # all that errors of safetensors tell of the system's reason
_AGAIN = "remove it and run its stage again"
_UMASK = os.umask(0o077)  # can only be read by setting it
os.umask(_UMASK)


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn what the operating system refuses of a working file or folder into one sentence.

    Raises:
        OutputError: the disk is full or fails, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        told = system_error(error, where, writing=True)
        if told is None:
            raise
        raise told from error


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path (for a file or a folder) that becomes `final` when the block succeeds.

    Raises:
        OutputError: the disk is full, the folder cannot be written, or a process of another machine makes the same.
    """
    final = Path(final)
    part: Part | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        part = Part(final)
        yield part.path
        _let_others_read(part.path)
        _sync(part.path)
        _require_ours(final, part)
        part.place()
        _sync_folder(final.parent)
        part.clear_leftovers()
    except OSError as error:
        if part is not None:
            _require_ours(final, part)
        told = system_error(error, final, writing=True)
        if told is None:
            raise
        raise told from error
    except OutputError:
        if part is not None:
            _require_ours(final, part)
        raise
    except Exception as error:
        number = _OF_RUST.search(str(error))
        told = number and system_error(OSError(int(number[1]), str(error)), final, writing=True)
        if not told:
            raise
        raise told from error
    finally:
        if part is not None:
            part.close()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal values are equal bytes. NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a key that an object of it lacks is an error that names the file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return parse_json(path, as_object=lambda values: _Object(values).of(path))
    except FileNotFoundError:
        raise InputError(path, "no such file", "run the stage that makes it") from None


def parse_json(
    path: Path,
    what: str = "not valid JSON",
    remedy: str = _AGAIN,
    as_object: Callable[[dict[str, Any]], Any] | None = None,
) -> Any:
    """Read a JSON file that anybody may have written.

    Args:
        path: the file.
        what: what it is where it is damaged.
        remedy: what to do then.
        as_object: makes what an object of it becomes.

    Raises:
        InputError: it is no JSON in UTF-8, is nested too deeply, or holds a number that is not finite or too long.
        FileNotFoundError: there is no file.
    """
    with parsing(path, what, remedy):
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_hook=as_object, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    """JSON has no NaN and no infinity; Python's reader takes both, and numbers that overflow."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no number of JSON")
    return number


class _MissingError(InputError, KeyError):
    """A key that is not there; whoever expects a KeyError may catch it as one."""

    __str__ = Exception.__str__


class _Object(dict[str, Any]):
    """A JSON object that knows its file."""

    def of(self, path: Path) -> _Object:
        self._path = path
        return self

    def __missing__(self, key: str) -> NoReturn:
        raise _MissingError(self._path, f"it holds no {key!r}", _AGAIN)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as zstd parquet, without its index."""
    with atomic_path(path) as part:
        table.to_parquet(part, index=False, compression="zstd")


def read_parquet(path: Path, columns: Sequence[str] | None = None, made_by: str = "its stage") -> pd.DataFrame:
    """Read a table that a stage wrote, or some columns of it.

    Args:
        path: the file.
        columns: those to read; absent: all.
        made_by: the stage, for the remedy.

    Raises:
        InputError: the file is missing, truncated or lacks a column.
    """
    import pandas as pd  # here and below: a dry run imports this module, and needs no tables

    with _reading_table(path, made_by):
        table = pd.read_parquet(path, columns=None if columns is None else list(columns))
        for name in table.columns[table.columns.str.fullmatch(_MEASURE)]:
            if not pd.api.types.is_numeric_dtype(table[name]):
                raise ValueError(f"{name} holds no numbers")
        return table


def read_arrow(path: Path, columns: Sequence[str] | None = None, made_by: str = "its stage") -> pa.Table:
    """Read a table that a stage wrote as it lies in the file: texts in dictionaries and lists stay what they are.

    Args:
        path: the file.
        columns: those to read; absent: all.
        made_by: the stage, for the remedy.

    Raises:
        InputError: the file is missing, truncated or lacks a column.
    """
    import pyarrow.parquet as pq

    with _reading_table(path, made_by):
        return pq.read_table(path, columns=None if columns is None else list(columns))


def parquet_columns(path: Path, made_by: str = "its stage") -> list[str]:
    """Return the names of the columns of a table that a stage wrote.

    Raises:
        InputError: the file is missing or truncated.
    """
    import pyarrow.parquet as pq

    with _reading_table(path, made_by):
        return [str(name) for name in pq.read_schema(path).names]


@contextmanager
def _reading_table(path: Path, made_by: str) -> Iterator[None]:
    try:
        with parsing(path, "truncated or not the table it should be", f"remove it and run {made_by} again"):
            yield
    except FileNotFoundError:
        raise InputError(path, "no such file", f"run {made_by}") from None


def _let_others_read(path: Path) -> None:
    """Give a file the mode that any new file has: safetensors writes its files for their owner alone."""
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) == 0o600:
        path.chmod(0o666 & ~_UMASK)


def _sync(path: Path) -> None:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_ours(final: Path, part: Part) -> None:
    if not part.is_ours():
        what = "its unfinished part was removed meanwhile, by hand or by a process of another machine that makes it too"
        raise OutputError(final, what, "let one process make it, then run again")
