"""Atomic writers: a reader sees the old file, the new file or no file, never half of one.

Everything is written beside its final place under `.<name>.part`, flushed to disk and renamed. A killed
run leaves at most that hidden part, which the next run replaces.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistline.core.errors import InputError, OutputError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path (for a file or a folder) that becomes `final` when the block succeeds.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    final = Path(final)
    part = final.with_name(f".{final.name}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        yield part
        _sync(part)
        if final.is_dir() and not final.is_symlink():
            shutil.rmtree(final)  # rename cannot replace a folder that holds something
        part.replace(final)
        _sync_folder(final.parent)
    except OSError as error:
        remove(part)
        raise _as_output_error(final, error) from error
    except BaseException:
        remove(part)
        raise


def remove(path: Path) -> None:
    """Remove a file or a whole folder; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"not valid JSON ({error})", "remove it and run its stage again") from None


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as zstd parquet, without its index."""
    with atomic_path(path) as part:
        table.to_parquet(part, index=False, compression="zstd")


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


def _as_output_error(path: Path, error: OSError) -> Exception:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutputError(path, "the disk is full", "free space or choose another --directory, then run again")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return OutputError(path, "no permission to write here", "choose a folder you may write to (--directory)")
    return error
