"""Atomic writers: a reader sees the old file, the new file or no file, never half of one.

Everything is written beside its final place in a hidden `.<name>. ... .part`, flushed to disk and renamed. A killed
run leaves at most that part, which the next run clears (`mistline.core.parts`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistline.core.errors import InputError, OutputError, system_error
from mistline.core.parts import Part
from mistline.core.parts import remove as remove

if TYPE_CHECKING:
    import pandas as pd


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
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "no such file", "run the stage that makes it") from None
    except OSError as error:
        raise (system_error(error, path) or error) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"not valid JSON ({error})", "remove it and run its stage again") from None


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
        return pd.read_parquet(path, columns=None if columns is None else list(columns))


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
        yield
    except FileNotFoundError:
        raise InputError(path, "no such file", f"run {made_by}") from None
    except (OSError, ValueError) as error:  # ValueError: pyarrow's ArrowInvalid
        told = system_error(error, path) if isinstance(error, OSError) else None
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        what = f"truncated or not the table it should be ({reason})"
        raise told or InputError(path, what, f"remove it and run {made_by} again") from error


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
