"""Genes as a method imputed them, on disk: one parquet file a run, a row a cell, in the order of the slides' cells.

Two kinds of such files: of tested genes, each imputed while it was closed (`fold` says in which fold), and of genes
that the slides do not measure. The schema carries, as JSON, the origin as an embedding has it, the genes, and how it
was made: `about` holds `seconds` and `peak_mb` of the method, by slide and fold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mistline.core.errors import InputError, parsing
from mistline.core.files import atomic_path
from mistline.store.embeddings import ORIGIN_KEY, Origin

KEYS = ("slide", "cell_id")
_ABOUT, _GENES = b"mistline.about", b"mistline.genes"
_MEAN, _SD = "mean", "sd"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImputedGenes:
    """`n` cells of some slides and `W` genes.

    Args:
        slide: [n] names.
        cell_id: [n].
        genes: [W] ids.
        symbols: [W].
        fold: int [W] in which fold a gene was tested; -1 for genes that no slide measures.
        mean: float32 [n, W] log-normalised; NaN where a slide does not have the gene among its tested ones.
        sd: float32 [n, W]; None of a method that does not say how unsure it is.
        origin: run, seed, hash of the code and settings, and the dataset.
        about: how it was made, JSON values only.
    """

    slide: NDArray[np.str_]
    cell_id: NDArray[np.str_]
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    fold: NDArray[np.int64]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None
    origin: Origin
    about: Mapping[str, Any]


def write_imputed(path: Path, own: ImputedGenes) -> None:
    """Write imputed genes; equal values are equal bytes.

    Raises:
        InputError: what is given does not fit together, or an imputed value is infinite.
    """
    wrong = _wrong(own)
    if wrong:
        raise InputError(path, wrong, "run the method again")
    columns: dict[str, Any] = {
        "slide": pa.array(own.slide.tolist(), pa.string()).dictionary_encode(),
        "cell_id": pa.array(own.cell_id.tolist(), pa.string()),
    }
    for name, values in ((_MEAN, own.mean), (_SD, own.sd)):
        if values is not None:
            flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    genes = {"id": list(own.genes), "symbol": list(own.symbols), "fold": own.fold.tolist()}
    schema = {
        ORIGIN_KEY: json.dumps(asdict(own.origin), sort_keys=True),
        _ABOUT: json.dumps(dict(own.about), sort_keys=True),
        _GENES: json.dumps(genes),
    }
    with atomic_path(path) as part:
        table = pa.table(columns).replace_schema_metadata(schema)
        pq.write_table(table, part, compression="zstd", write_page_checksum=True, use_dictionary=["slide"])


def read_imputed(path: Path) -> ImputedGenes:
    """Read imputed genes.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    try:
        with parsing(path, "not readable as imputed genes", "run the method again"):
            own = _imputed(pq.read_table(path, page_checksum_verification=True))
    except FileNotFoundError:
        raise InputError(path, "no such file", "run impute-folds or impute-slide") from None
    wrong = _wrong(own)
    if wrong:
        raise InputError(path, wrong, "run the method again")
    return own


def _imputed(table: pa.Table) -> ImputedGenes:
    schema = table.schema.metadata or {}
    genes = json.loads(schema[_GENES])
    given = {
        name: table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
        for name in (_MEAN, _SD)
        if name in table.column_names
    }
    return ImputedGenes(
        slide=np.array(table.column("slide").to_pylist(), dtype=np.str_),
        cell_id=np.array(table.column("cell_id").to_pylist(), dtype=np.str_),
        genes=tuple(genes["id"]),
        symbols=tuple(genes["symbol"]),
        fold=np.array(genes["fold"], dtype=np.int64),
        mean=given[_MEAN],
        sd=given.get(_SD),
        origin=Origin(**json.loads(schema[ORIGIN_KEY])),
        about=json.loads(schema[_ABOUT]),
    )


def _wrong(own: ImputedGenes) -> str:
    """Return what is wrong with imputed genes; empty where nothing is."""
    shape = (len(own.cell_id), len(own.genes))
    if not all(shape):
        return "there is no cell or no gene"
    if len(own.slide) != shape[0] or not len(own.symbols) == len(own.fold) == shape[1]:
        return "ids of cells and slides, or genes, symbols and folds, are not equally many"
    for name, values in ((_MEAN, own.mean), (_SD, own.sd)):
        if values is not None and (values.shape != shape or np.isinf(values).any()):
            return (
                f"{name}, {list(values.shape)}, is infinite somewhere, or not of {shape[0]} cells and {shape[1]} genes"
            )
    return ""
