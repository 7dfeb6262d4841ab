"""What a model told of cells at unseen places, on disk: one parquet file, a row a cell.

`store.filled` and `store.perturbed` say which further columns their rows have. What was told of a cell is the
probability of each meta-cell or, of a model without these, a profile. The schema carries, as JSON, the origin as an
embedding has it and how the cells were made; and the expression that what was told are weights of: that of the
meta-cells, or 1 on the diagonal.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mistline.core.errors import InputError, parsing
from mistline.core.files import atomic_path
from mistline.store.embeddings import ORIGIN_KEY, Origin

WAYS = ("generated", "widened", "section_mean")
"""From windows of the model's size; from wider ones, as no cell lay near enough; from no window at all."""

_ABOUT, _GENES, _EXPRESSION = b"mistline.about", b"mistline.genes", b"mistline.expression"
_QUANTISED, _COLUMN = b"mistline.quantised", "told"
_TOLERANCE = 0.02  # of a sum of probabilities: each is rounded to float16


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """`n` cells over `W` meta-cells of `T` genes, or over `W = T` genes.

    Args:
        slide: [n] names.
        cell_id: [n].
        round: int16 [n] in which it was generated, from 1.
        way: [n] of `WAYS`.
        told: [n, W] float32: probabilities, rows of sum 1, or log-normalised profiles; stored as float16.
        is_quantised: whether these are probabilities.
        genes: [T] ids.
        expression: float32 [W, T] log-normalised mean of each meta-cell, or 1 on the diagonal.
        origin: the model's run, seed, hash of its weights, and the dataset.
        about: how they were made, JSON values only.
    """

    slide: NDArray[np.str_]
    cell_id: NDArray[np.str_]
    round: NDArray[np.int16]
    way: NDArray[np.str_]
    told: NDArray[np.float32]
    is_quantised: bool
    genes: tuple[str, ...]
    expression: NDArray[np.float32]
    origin: Origin
    about: Mapping[str, Any]


Own = TypeVar("Own", bound=Told)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Own]):
    """One kind of such files.

    Args:
        cells: the class of its rows.
        what: what it holds, in words.
        stage: the command that writes it.
        columns: further columns besides those of `Told`, and their types.
        lists: further lists [T] of texts, one a gene.
        wrong: tells what is wrong with the further columns; empty where nothing is.
    """

    cells: type[Own]
    what: str
    stage: str
    columns: Mapping[str, pa.DataType]
    wrong: Callable[[Own], str]
    lists: tuple[str, ...] = ()

    def write(self, path: Path, own: Own) -> None:
        """Write such cells; equal cells are equal bytes.

        Raises:
            InputError: there is none, or what is given does not fit together.
        """
        wrong = self._wrong(own)
        if wrong:
            raise InputError(path, wrong, "train the model again")
        columns = {name: _column(getattr(own, name), kind) for name, kind in self._kinds.items()}
        rounded = np.ascontiguousarray(own.told, dtype=np.float16).ravel()
        columns[_COLUMN] = pa.FixedSizeListArray.from_arrays(pa.array(rounded), own.told.shape[1])
        schema = {
            ORIGIN_KEY: json.dumps(asdict(own.origin), sort_keys=True),
            _ABOUT: json.dumps(dict(own.about), sort_keys=True),
            _QUANTISED: json.dumps(own.is_quantised),
            _GENES: json.dumps(list(own.genes)),
            _EXPRESSION: base64.b64encode(np.ascontiguousarray(own.expression, dtype="<f4").tobytes()),
            **{_key(name): json.dumps(list(getattr(own, name))) for name in self.lists},
        }
        with atomic_path(path) as part:
            table = pa.table(columns).replace_schema_metadata(schema)
            pq.write_table(table, part, compression="zstd", write_page_checksum=True)

    def read(self, path: Path) -> Own:
        """Read such cells.

        Raises:
            InputError: the file is missing or damaged, or holds something else.
        """
        try:
            with parsing(path, f"not readable as {self.what}", f"run {self.stage} again"):
                own = self._read(pq.read_table(path, page_checksum_verification=True))
        except FileNotFoundError:
            raise InputError(path, "no such file", f"run {self.stage}") from None
        wrong = self._wrong(own)
        if wrong:
            raise InputError(path, wrong, f"run {self.stage} again")
        return own

    @property
    def _kinds(self) -> dict[str, pa.DataType]:
        texts = {name: pa.string() for name in ("slide", "cell_id", "way")}
        return {**texts, "round": pa.int16(), **self.columns}

    def _read(self, table: pa.Table) -> Own:
        schema = table.schema.metadata or {}
        genes = tuple(json.loads(schema[_GENES]))
        flat = table.column(_COLUMN).combine_chunks().flatten().to_numpy(zero_copy_only=False)
        told = flat.astype(np.float32).reshape(len(table), -1)
        is_quantised = bool(json.loads(schema[_QUANTISED]))
        if is_quantised:  # sums of what was rounded
            total = told.sum(axis=1, keepdims=True)
            told = np.where(np.abs(total - 1) < _TOLERANCE, told / np.maximum(total, 1e-6), told)
        further: dict[str, Any] = {name: _values(table.column(name), kind) for name, kind in self._kinds.items()}
        further |= {name: tuple(json.loads(schema[_key(name)])) for name in self.lists}
        return self.cells(
            **further,
            told=told,
            is_quantised=is_quantised,
            genes=genes,
            expression=np.frombuffer(base64.b64decode(schema[_EXPRESSION]), dtype="<f4").reshape(-1, len(genes)),
            origin=Origin(**json.loads(schema[ORIGIN_KEY])),
            about=json.loads(schema[_ABOUT]),
        )

    def _wrong(self, own: Own) -> str:
        n, (k, width), told = len(own.cell_id), own.expression.shape, own.told
        if not n:
            return "there is no generated cell"
        for name in self._kinds:
            if len(getattr(own, name)) != n:
                return f"{n} cells and {len(getattr(own, name))} values of {name}"
        if told.shape != (n, k) or not np.isfinite(told).all():
            return f"what is told, {list(told.shape)}, is not finite, or not of {n} cells over {k} columns"
        lengths = {len(own.genes), *(len(getattr(own, name)) for name in self.lists)}
        if lengths != {width} or not np.isfinite(own.expression).all():
            return f"the meta-cells' expression is not finite, or not of the {len(own.genes)} genes"
        if own.is_quantised and (not (np.abs(told.sum(axis=1) - 1) < _TOLERANCE).all() or told.min() < 0):
            return "the probabilities of a cell do not sum to 1"
        if not np.isin(own.way, WAYS).all():
            return f"a cell was generated in a way that is none of {', '.join(WAYS)}"
        return self.wrong(own)


def _column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():  # names repeat, and ids cost nothing more
        return pa.array(values.tolist(), kind).dictionary_encode()
    return pa.array(values, kind)


def _values(column: pa.ChunkedArray, kind: pa.DataType) -> NDArray[Any]:
    if kind == pa.string():
        if column.null_count:
            raise ValueError("a name is missing")
        return np.array(column.to_pylist(), dtype=np.str_)
    if column.type != kind or column.null_count:
        raise ValueError(f"a column is of {column.type}, not {kind}, or has gaps")
    return np.asarray(column.to_numpy())


def _key(name: str) -> bytes:
    return f"mistline.{name}".encode()
