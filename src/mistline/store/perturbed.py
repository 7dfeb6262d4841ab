"""Rings of tissue as a model generated them around circles that were changed, on disk: one parquet file a run.

A row a slide, circle, variant, width and cell of the ring: how far it is from the circle's centre, in which round and
in which way it was generated, and what was told of it, as in `store.filled`. The cells of a ring are the same, in the
same order, in each of its variants. The schema carries the origin, the genes and the expression that what was told are
weights of, and how it was made.
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
from mistline.store.filled import WAYS

CONTROL, PERTURBED, RANDOM_GENES, ELSEWHERE = "control", "perturbed", "random_genes", "elsewhere"
VARIANTS = (CONTROL, PERTURBED, RANDOM_GENES, ELSEWHERE)
"""The circle as measured; changed as asked; as many other genes changed; the same change far away."""

_ABOUT, _GENES, _SYMBOLS = b"mistline.about", b"mistline.genes", b"mistline.symbols"
_EXPRESSION, _QUANTISED = b"mistline.expression", b"mistline.quantised"
_TOLERANCE = 0.02  # of a sum of probabilities: each is rounded to float16
_REMEDY = "run perturb again"
_TEXTS = ("slide", "variant", "cell_id", "way")
_NUMBERS = {"roi": pa.int16(), "sigma": pa.float32(), "distance_um": pa.float32(), "round": pa.int16()}


@dataclass(frozen=True, slots=True)
class Perturbed:
    """`n` generated cells over `W` meta-cells of `T` genes, or over `W = T` genes.

    Args:
        slide: [n] names.
        roi: int16 [n] number of the circle on its slide.
        variant: [n] of `VARIANTS`.
        sigma: float32 [n] width of the change in radii; 0 for the control.
        cell_id: [n].
        distance_um: float32 [n] from the circle's centre.
        round: int16 [n] in which it was generated, from 1.
        way: [n] of `store.filled.WAYS`.
        told: [n, W] float32: probabilities, rows of sum 1, or log-normalised profiles; stored as float16.
        is_quantised: whether these are probabilities.
        genes: [T] ids.
        symbols: [T].
        expression: float32 [W, T] log-normalised mean of each meta-cell, or 1 on the diagonal.
        origin: the model's run, seed, hash of its weights, and the dataset.
        about: how they were made, JSON values only.
    """

    slide: NDArray[np.str_]
    roi: NDArray[np.int16]
    variant: NDArray[np.str_]
    sigma: NDArray[np.float32]
    cell_id: NDArray[np.str_]
    distance_um: NDArray[np.float32]
    round: NDArray[np.int16]
    way: NDArray[np.str_]
    told: NDArray[np.float32]
    is_quantised: bool
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    expression: NDArray[np.float32]
    origin: Origin
    about: Mapping[str, Any]


def write_perturbed(path: Path, perturbed: Perturbed) -> None:
    """Write generated rings; equal cells are equal bytes.

    Raises:
        InputError: there is none, or what is given does not fit together.
    """
    wrong = _wrong(perturbed)
    if wrong:
        raise InputError(path, wrong, "train the model again")
    rounded = np.ascontiguousarray(perturbed.told, dtype=np.float16).ravel()
    texts = {name: pa.array(getattr(perturbed, name).tolist(), pa.string()) for name in _TEXTS}
    columns = {
        **{name: values if name == "cell_id" else values.dictionary_encode() for name, values in texts.items()},
        **{name: pa.array(getattr(perturbed, name), kind) for name, kind in _NUMBERS.items()},
        "told": pa.FixedSizeListArray.from_arrays(pa.array(rounded), perturbed.told.shape[1]),
    }
    expression = np.ascontiguousarray(perturbed.expression, dtype="<f4")
    schema = {
        ORIGIN_KEY: json.dumps(asdict(perturbed.origin), sort_keys=True),
        _ABOUT: json.dumps(dict(perturbed.about), sort_keys=True),
        _QUANTISED: json.dumps(perturbed.is_quantised),
        _GENES: json.dumps(list(perturbed.genes)),
        _SYMBOLS: json.dumps(list(perturbed.symbols)),
        _EXPRESSION: base64.b64encode(expression.tobytes()),
    }
    with atomic_path(path) as part:
        table = pa.table(columns).replace_schema_metadata(schema)
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_perturbed(path: Path) -> Perturbed:
    """Read generated rings.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        perturbed = _perturbed(table)
    except FileNotFoundError:
        raise InputError(path, "no such file", "run perturb") from None
    except (OSError, KeyError, TypeError, ValueError) as error:  # ValueError: pyarrow's ArrowInvalid
        what = f"not readable as perturbed cells ({type(error).__name__}: {error})"
        raise InputError(path, what, _REMEDY) from None
    wrong = _wrong(perturbed)
    if wrong:
        raise InputError(path, wrong, _REMEDY)
    return perturbed


def _perturbed(table: pa.Table) -> Perturbed:
    schema = table.schema.metadata or {}
    genes = tuple(json.loads(schema[_GENES]))
    flat = table.column("told").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    told = flat.astype(np.float32).reshape(len(table), -1)
    is_quantised = bool(json.loads(schema[_QUANTISED]))
    if is_quantised:  # sums of what was rounded
        total = told.sum(axis=1, keepdims=True)
        told = np.where(np.abs(total - 1) < _TOLERANCE, told / np.maximum(total, 1e-6), told)
    columns: dict[str, Any] = {name: np.array(table.column(name).to_pylist(), dtype=np.str_) for name in _TEXTS}
    columns |= {name: table.column(name).to_numpy() for name in _NUMBERS}
    return Perturbed(
        **columns,
        told=told,
        is_quantised=is_quantised,
        genes=genes,
        symbols=tuple(json.loads(schema[_SYMBOLS])),
        expression=np.frombuffer(base64.b64decode(schema[_EXPRESSION]), dtype="<f4").reshape(-1, len(genes)),
        origin=Origin(**json.loads(schema[ORIGIN_KEY])),
        about=json.loads(schema[_ABOUT]),
    )


def _wrong(own: Perturbed) -> str:
    """Return what is wrong with perturbed cells; empty where nothing is."""
    n, (k, width), told = len(own.cell_id), own.expression.shape, own.told
    if not n:
        return "there is no generated cell"
    for name in (*_TEXTS, *_NUMBERS):
        if len(getattr(own, name)) != n:
            return f"{n} cells and {len(getattr(own, name))} values of {name}"
    if told.shape != (n, k) or not np.isfinite(told).all():
        return f"what is told, {list(told.shape)}, is not finite, or not of {n} cells over {k} columns"
    if not len(own.genes) == len(own.symbols) == width or not np.isfinite(own.expression).all():
        return f"the meta-cells' expression is not finite, or not of the {len(own.genes)} genes"
    if own.is_quantised and (not (np.abs(told.sum(axis=1) - 1) < _TOLERANCE).all() or told.min() < 0):
        return "the probabilities of a cell do not sum to 1"
    if not np.isin(own.way, WAYS).all() or not np.isin(own.variant, VARIANTS).all():
        return f"a cell was generated in a way that is none of {', '.join(WAYS)}, or for none of {', '.join(VARIANTS)}"
    return ""
