"""A table as the page shows it and as a CSV file holds it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column; `note` explains the title, `parts` are further CSV columns such as low and high."""

    title: str
    numeric: bool = False
    note: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A field.

    Attributes:
        text: what is shown.
        value: what the CSV holds, and what a numeric column is sorted by; None where there is none.
        mark: CSS class.
        tag: a short label behind the text.
        parts: values of the column's further CSV columns.
        note: explanation shown on hovering.
        sub: a second, smaller line.
    """

    text: str
    value: Any = None
    mark: str = ""
    tag: str = ""
    parts: tuple[Any, ...] = ()
    note: str = ""
    sub: str = ""

    @property
    def sort(self) -> Any:
        """What the browser sorts by where that is not the text."""
        return self.value if isinstance(self.value, int | float) else None


@dataclass(frozen=True)
class Row:
    """A line; `mark` is its CSS class."""

    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a name (its CSV file's), a caption and what to say when it has no rows."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: str = "Nothing to show."
    total: Row | None = field(default=None)


def cell(value: Any, decimals: int = 2) -> Cell:
    """Return a field for a text, a number or None."""
    if value is None:
        return Cell("–")
    if isinstance(value, bool | str):
        return Cell(str(value), value)
    if isinstance(value, int):
        return Cell(f"{value:,}", value)
    return Cell(f"{value:,.{decimals}f}", float(value))


def row(*values: Any, mark: str = "") -> Row:
    """Return a line of plain values; fields that are Cells already stay as they are."""
    return Row(tuple(value if isinstance(value, Cell) else cell(value) for value in values), mark)


def columns(*titles: str, numeric: Sequence[str] = (), notes: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """Return columns from their titles; those in `numeric` are aligned right and sorted as numbers."""
    return tuple(Column(title, title in numeric, (notes or {}).get(title, "")) for title in titles)


def share(part: int, whole: int) -> Cell:
    """Return a percentage; none of nothing has no share."""
    if whole == 0:
        return Cell("–")
    percent = 100 * part / whole
    return Cell(f"{percent:.2f} %" if part else "0 %", percent)


def csv_name(title: str) -> str:
    """Return a column's name in the CSV: lower case, words joined by underscores."""
    return "_".join("".join(char if char.isalnum() else " " for char in title.lower()).split())


def write_csv(table: Table, folder: Path) -> None:
    """Write `<name>.csv` into a folder that exists: full precision, empty where there is no value."""
    header = [name for column in table.columns for name in _csv_columns(column)]
    with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for line in table.rows:
            pairs = zip(table.columns, line.cells, strict=True)
            writer.writerow([item for column, field_ in pairs for item in _csv_fields(column, field_)])


def _csv_columns(column: Column) -> list[str]:
    name = csv_name(column.title)
    return [name, *(f"{name}_{part}" for part in column.parts)]


def _csv_fields(column: Column, field_: Cell) -> list[Any]:
    parts = field_.parts or (None,) * len(column.parts)
    return ["" if value is None else value for value in (field_.value, *parts)]
