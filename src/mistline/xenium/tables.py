"""Reading parquet tables: headers first, then a few columns at a time, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mistline.core.errors import InputError, parsing

_BATCH_ROWS = 1 << 18


@contextmanager
def open_table(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet file; its footer is read, its rows are not.

    Raises:
        InputError: the file is missing, truncated or no parquet file, also when that shows only while reading rows.
    """
    again = "copy it again from the run's output bundle"
    try:
        with parsing(path, "truncated or not a parquet file", again), pq.ParquetFile(path) as table:
            yield table
    except FileNotFoundError:
        raise InputError(path, "no such file", "copy it from the run's output bundle") from None


def columns_of(path: Path) -> dict[str, pa.DataType]:
    """Return the name and type of every column.

    Raises:
        InputError: the file cannot be read, or two columns have one name.
    """
    with open_table(path) as table:
        schema = table.schema_arrow
    found = {field.name: field.type for field in schema}
    if len(found) < len(schema):
        raise InputError(path, "two columns have one name", "use the table as the instrument wrote it")
    return found


def n_rows(path: Path) -> int:
    """Return the number of rows the footer announces."""
    with open_table(path) as table:
        return int(table.metadata.num_rows)


def stream_columns(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield batches that hold only `columns`, in the file's row order.

    Raises:
        InputError: a column is missing, or the file cannot be read.
    """
    require_columns(path, columns)
    with open_table(path) as table:
        yield from table.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns))


def require_columns(path: Path, columns: Sequence[str]) -> None:
    """Check that a table has the columns.

    Raises:
        InputError: one is missing; names those that are there.
    """
    there = columns_of(path)
    missing = [name for name in columns if name not in there]
    if missing:
        raise InputError(
            path,
            f"column {', '.join(missing)} is missing (there are {', '.join(there)})",
            "use the table as the instrument wrote it",
        )
