"""A result that is not there, and why: a published method that cannot be installed or run leaves this in its place.

The file is the parquet that an embedding or predictions would be, without a row; its schema carries the same
origin, and the reason. So the line goes on, and the tables say "not run" instead of leaving the method out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mistline.core.errors import InputError, parsing
from mistline.core.files import atomic_path
from mistline.store.embeddings import ABSENT_KEY, ORIGIN_KEY, Origin


def write_absent(path: Path, columns: Sequence[str], origin: Origin, reason: str) -> None:
    """Write a file without rows that says why.

    Args:
        path: the parquet file.
        columns: names of the text columns a result would have.
        origin: what the result would have been made from.
        reason: one sentence.
    """
    schema = pa.schema([(name, pa.string()) for name in columns])
    about = {ORIGIN_KEY: json.dumps(asdict(origin), sort_keys=True), ABSENT_KEY: reason}
    with atomic_path(path) as part:
        pq.write_table(schema.empty_table().replace_schema_metadata(about), part)


def read_absent(path: Path) -> str | None:
    """Return why the result is not there, or None where it is.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with parsing(path, "not a readable parquet file", "run the stage that makes it again"):
            about = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise InputError(path, "no such file", "run the stage that makes it") from None
    reason = about.get(ABSENT_KEY)
    return None if reason is None else str(reason.decode("utf-8", "replace"))
