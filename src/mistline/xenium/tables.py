"""Reading parquet tables: headers first, then a few columns at a time, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mistline.core.errors import InputError, system_error

_BATCH_ROWS = 1 << 18


@contextmanager
def open_table(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet file; its footer is read, its rows are not.

    Raises:
        InputError: the file is missing, truncated or no parquet file, also when that shows only while reading rows.
    """
    try:
        with pq.ParquetFile(path) as table:
            yield table
    except FileNotFoundError:
        raise InputError(path, "no such file", "copy it from the run's output bundle") from None
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        told = system_error(error, path) if isinstance(error, OSError) else None
        raise told or InputError(
            path,
            f"truncated or not a parquet file ({_first_line(error)})",
            "copy it again from the run's output bundle",
        ) from error


def columns_of(path: Path) -> dict[str, pa.DataType]:
    """Return the name and type of every column."""
    with open_table(path) as table:
        schema = table.schema_arrow
    return {field.name: field.type for field in schema}


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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
