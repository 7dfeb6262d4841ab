"""Pairs of cells on disk: a control cell, the target-state cell that it was matched to, and how surely.

One parquet file a slide, a pair a row; the file also tells which states the slide's cells have, for the sentence that
is due where a whole cohort gives no pair.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mistline.core.errors import InputError
from mistline.core.files import atomic_path, read_parquet

COLUMNS = ("slide", "split", "transition", "group", "control_id", "target_id", "confidence")
_TEXTS = COLUMNS[:-1]
_STATES = b"mistline.states"
_MADE_BY = "pair_cells for this slide"


@dataclass(frozen=True, slots=True)
class States:
    """What a slide could have been paired by.

    Args:
        label: name of the column of labels.
        values: value -> number of cells; empty where the slide lacks the column.
    """

    label: str
    values: dict[str, int]


def write_pairs(path: Path, pairs: pd.DataFrame, states: States) -> None:
    """Write the pairs of one slide.

    Args:
        path: the parquet file.
        pairs: with `COLUMNS`; may have no row.
        states: of the slide's cells.
    """
    types = [(name, pa.string()) for name in _TEXTS] + [(COLUMNS[-1], pa.float32())]
    told = {_STATES: json.dumps([states.label, states.values], sort_keys=True).encode()}
    columns = [pa.array(pairs[name], type=kind) for name, kind in types]
    with atomic_path(path) as part:
        pq.write_table(pa.table(columns, schema=pa.schema(types, metadata=told)), part, compression="zstd")


def read_pairs(paths: Sequence[Path]) -> pd.DataFrame:
    """Return the pairs of some slides, in the order of the files and of their rows.

    Raises:
        InputError: a file is missing, damaged, or no table of pairs; or no file holds a pair.
    """
    tables = [_read(path) for path in paths]
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    if found.empty:
        raise InputError("pairs", _none_found(paths), "name others in `transitions`, or a coarser `niche`")
    return found


def read_states(path: Path) -> States:
    """Return the states that a slide's cells have.

    Raises:
        InputError: the file is missing, or no table of pairs.
    """
    try:
        label, values = json.loads(pq.read_schema(path).metadata[_STATES])
    except FileNotFoundError:
        raise InputError(path, "no such file", f"run {_MADE_BY}") from None
    except (OSError, ValueError, TypeError, KeyError):  # ValueError: pyarrow's ArrowInvalid
        raise InputError(path, "not a table of pairs", f"remove it and run {_MADE_BY} again") from None
    return States(str(label), {str(name): int(n) for name, n in values.items()})


def best_of_targets(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one pair of every target: the surest, and of equally sure ones that of the first control's id."""
    order = pairs.sort_values(["slide", "target_id", "confidence", "control_id"], ascending=[True, True, False, True])
    return order.drop_duplicates(["slide", "target_id"]).sort_index()


def _read(path: Path) -> pd.DataFrame:
    read_states(path)
    table = read_parquet(path, COLUMNS, _MADE_BY)
    confidence = table["confidence"].to_numpy(dtype=np.float64)
    if table[list(_TEXTS)].isna().any(axis=None) or not ((confidence > 0) & (confidence <= 1)).all():
        what = "a pair lacks a field, or its confidence lies outside of 0 .. 1"
        raise InputError(path, what, f"remove it and run {_MADE_BY} again")
    return table


def _none_found(paths: Sequence[Path]) -> str:
    states = [read_states(path) for path in paths]
    label = states[0].label if states else "label"
    values = sorted({value for item in states for value in item.values})
    has = f"its values are {', '.join(values)}" if values else "none of the slides has this column"
    return f"no two cells of a transition share a niche on any of {len(paths)} slides (column {label}: {has})"
