"""Content hashes (sha256, hexadecimal)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError

_MARK = ".snakemake_timestamp"


def hash_file(path: Path) -> str:
    """Hash a file's bytes, or a folder's relative names and bytes in sorted order.

    The mark that Snakemake leaves in a folder it was given as an output is no part of its content.

    Raises:
        InputError: it is not there.
    """
    path = Path(path)
    if not path.is_dir():
        try:
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            raise InputError(path, "no such file", "run the stage that makes it") from None
    digest = hashlib.sha256()
    for item in sorted(item for item in path.rglob("*") if item.is_file() and item.name != _MARK):
        digest.update(f"{item.relative_to(path).as_posix()}\0{hash_file(item)}\n".encode())
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """Hash a JSON value independently of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
