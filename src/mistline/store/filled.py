"""Cells of holes as a model filled them, on disk: one parquet file a run and protocol.

A row a hidden cell: where it is hidden, in which round and in which way it was filled, its own meta-cell (which the
model never read), and what was told of it: the probability of each meta-cell or, of a model without these, a profile.
The schema carries, as JSON, the origin as an embedding has it and how the cells were filled; and the expression that
what was told are weights of: that of the meta-cells, or 1 on the diagonal.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import atomic_path
from mistline.store.embeddings import ORIGIN_KEY, Origin

WAYS = ("generated", "widened", "section_mean")
"""From windows of the model's size; from wider ones, as no cell lay near enough; from no window at all."""

_ABOUT, _GENES, _EXPRESSION = b"mistline.about", b"mistline.genes", b"mistline.expression"
_QUANTISED = b"mistline.quantised"
_TOLERANCE = 0.02  # of a sum of probabilities: each is rounded to float16
_REMEDY = "run generate-cells again"


@dataclass(frozen=True, slots=True)
class Filled:
    """`n` hidden cells over `W` meta-cells of `T` genes, or over `W = T` genes.

    Args:
        slide: [n] names.
        hole: int16 [n] number of the hole on its slide.
        cell_id: [n].
        round: int16 [n] in which it was filled, from 1.
        way: [n] of `WAYS`.
        metacell: int32 [n] its own; -1 where it has none.
        told: [n, W] float32: probabilities, rows of sum 1, or log-normalised profiles; stored as float16.
        is_quantised: whether these are probabilities.
        genes: [T] ids.
        expression: float32 [W, T] log-normalised mean of each meta-cell, or 1 on the diagonal.
        origin: the model's run, seed, hash of its weights, and the dataset.
        about: how they were filled, JSON values only.
    """

    slide: NDArray[np.str_]
    hole: NDArray[np.int16]
    cell_id: NDArray[np.str_]
    round: NDArray[np.int16]
    way: NDArray[np.str_]
    metacell: NDArray[np.int32]
    told: NDArray[np.float32]
    is_quantised: bool
    genes: tuple[str, ...]
    expression: NDArray[np.float32]
    origin: Origin
    about: Mapping[str, Any]


def write_filled(path: Path, filled: Filled) -> None:
    """Write filled cells; equal cells are equal bytes.

    Raises:
        InputError: there is none, or what is given does not fit together.
    """
    wrong = _wrong(filled)
    if wrong:
        raise InputError(path, wrong, "train the model again")
    rounded = np.ascontiguousarray(filled.told, dtype=np.float16).ravel()
    columns = {
        "slide": pa.array(filled.slide.tolist(), pa.string()).dictionary_encode(),
        "hole": pa.array(filled.hole, pa.int16()),
        "cell_id": pa.array(filled.cell_id.tolist(), pa.string()),
        "round": pa.array(filled.round, pa.int16()),
        "way": pa.array(filled.way.tolist(), pa.string()).dictionary_encode(),
        "metacell": pa.array(filled.metacell, pa.int32()),
        "told": pa.FixedSizeListArray.from_arrays(pa.array(rounded), filled.told.shape[1]),
    }
    expression = np.ascontiguousarray(filled.expression, dtype="<f4")
    told = {
        ORIGIN_KEY: json.dumps(asdict(filled.origin), sort_keys=True),
        _ABOUT: json.dumps(dict(filled.about), sort_keys=True),
        _QUANTISED: json.dumps(filled.is_quantised),
        _GENES: json.dumps(list(filled.genes)),
        _EXPRESSION: base64.b64encode(expression.tobytes()),
    }
    with atomic_path(path) as part:
        table = pa.table(columns).replace_schema_metadata(told)
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_filled(path: Path) -> Filled:
    """Read filled cells.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        filled = _filled(table)
    except FileNotFoundError:
        raise InputError(path, "no such file", "run generate-cells") from None
    except (OSError, KeyError, TypeError, ValueError) as error:  # ValueError: pyarrow's ArrowInvalid
        what = f"not readable as filled cells ({type(error).__name__}: {error})"
        raise InputError(path, what, _REMEDY) from None
    wrong = _wrong(filled)
    if wrong:
        raise InputError(path, wrong, _REMEDY)
    return filled


def _filled(table: pa.Table) -> Filled:
    about = table.schema.metadata or {}
    genes = tuple(json.loads(about[_GENES]))
    flat = table.column("told").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    told = flat.astype(np.float32).reshape(len(table), -1)
    is_quantised = bool(json.loads(about[_QUANTISED]))
    if is_quantised:  # sums of what was rounded
        total = told.sum(axis=1, keepdims=True)
        told = np.where(np.abs(total - 1) < _TOLERANCE, told / np.maximum(total, 1e-6), told)
    slide, cell_id, way = (
        np.array(table.column(name).to_pylist(), dtype=np.str_) for name in ("slide", "cell_id", "way")
    )
    return Filled(
        slide=slide,
        hole=table.column("hole").to_numpy(),
        cell_id=cell_id,
        round=table.column("round").to_numpy(),
        way=way,
        metacell=table.column("metacell").to_numpy(),
        told=told,
        is_quantised=is_quantised,
        genes=genes,
        expression=np.frombuffer(base64.b64decode(about[_EXPRESSION]), dtype="<f4").reshape(-1, len(genes)),
        origin=Origin(**json.loads(about[ORIGIN_KEY])),
        about=json.loads(about[_ABOUT]),
    )


def _wrong(filled: Filled) -> str:
    """Return what is wrong with filled cells; empty where nothing is."""
    n, (k, width), told = len(filled.cell_id), filled.expression.shape, filled.told
    if not n:
        return "there is no filled cell"
    for name in ("slide", "hole", "round", "way", "metacell"):
        if len(getattr(filled, name)) != n:
            return f"{n} cells and {len(getattr(filled, name))} values of {name}"
    if told.shape != (n, k) or not np.isfinite(told).all():
        return f"what is told, {list(told.shape)}, is not finite, or not of {n} cells over {k} columns"
    if len(filled.genes) != width or not np.isfinite(filled.expression).all():
        return f"the meta-cells' expression is not finite, or not of the {len(filled.genes)} genes"
    if filled.is_quantised and (not (np.abs(told.sum(axis=1) - 1) < _TOLERANCE).all() or told.min() < 0):
        return "the probabilities of a cell do not sum to 1"
    if not np.isin(filled.way, WAYS).all():
        return f"a cell was filled in a way that is none of {', '.join(WAYS)}"
    if int(filled.metacell.max()) >= k:
        return f"a cell's own meta-cell is {int(filled.metacell.max())}, and there are {k}"
    return ""
