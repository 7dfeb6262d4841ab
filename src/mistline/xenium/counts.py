"""The cell x feature matrix of `cell_feature_matrix.h5`: gene counts kept, controls removed and counted.

10x stores features x barcodes by columns (CSC), which is cells x features by rows (CSR). It is read a few
million entries at a time; what stays in memory is one int32 value and one int32 gene number an entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError, first_line, system_error
from mistline.core.hdf5 import require_sound
from mistline.xenium.cells import refuse_duplicates
from mistline.xenium.ids import Ids, decode
from mistline.xenium.panel import Panel, gene_ids, is_missing

GENE = "Gene Expression"
NOT_CONTROLS = frozenset({GENE, "Protein Expression"})
_CHUNK_ENTRIES = 1 << 22
_MOST = np.iinfo(np.int32).max
_COPY_AGAIN = "copy it again from the run's output bundle"
_AS_WRITTEN = "use the matrix as the instrument wrote it"
_DATASETS = (
    "barcodes", "data", "indices", "indptr", "shape", "features/id", "features/name", "features/feature_type",
)  # fmt: skip
_KINDS = {"data": "iuf", "indices": "iu", "indptr": "iu", "shape": "iu"}  # the others are text
Group = Mapping[str, h5py.Dataset]


@dataclass(frozen=True)
class Features:
    """The matrix's header.

    Args:
        n_cells: barcodes.
        n_entries: values stored.
        gene_ids: ids of the gene features, in the file's order, Ensembl where known.
        symbols: their symbols.
        types: [n_features] type of every feature, genes included.
    """

    n_cells: int
    n_entries: int
    gene_ids: tuple[str, ...]
    symbols: tuple[str, ...]
    types: NDArray[np.object_]

    @property
    def n_by_other_type(self) -> dict[str, int]:
        """Number of features of every type but genes."""
        return dict(sorted(Counter(str(kind) for kind in self.types if kind != GENE).items()))


@dataclass(frozen=True)
class Counts:
    """Gene counts of every barcode.

    Args:
        cell_ids: [n] in the file's order.
        matrix: [n, G] int32 CSR; columns in the order of `gene_ids`.
        gene_ids: [G] sorted.
        symbols: [G] symbol of each.
        control_counts: [n] counts of control features, which the matrix does not hold.
        features: the header.
    """

    cell_ids: Ids
    matrix: sparse.csr_matrix
    gene_ids: tuple[str, ...]
    symbols: tuple[str, ...]
    control_counts: NDArray[np.int64]
    features: Features


def read_features(path: Path, panel: Panel | None = None) -> Features:
    """Read the header: shapes, gene ids and feature types.

    Raises:
        InputError: the file is missing, truncated, no 10x matrix, contradicts itself, holds no gene or one twice.
    """
    with _open(path) as group:
        return _features(path, group, panel)


def read_counts(path: Path, panel: Panel | None = None) -> Counts:
    """Read the matrix.

    Raises:
        InputError: as for `read_features`, or a barcode occurs twice, or a value is negative, not a whole number,
            outside the matrix or stored twice.
    """
    with _open(path) as group:
        features = _features(path, group, panel)
        cell_ids = decode(np.asarray(group["barcodes"][()]), f"{path}, barcodes")
        refuse_duplicates(cell_ids, path)
        order = sorted(range(len(features.gene_ids)), key=lambda gene: features.gene_ids[gene])
        matrix, control_counts = _read_matrix(path, group, features, np.argsort(order))
    return Counts(
        cell_ids=cell_ids,
        matrix=matrix,
        gene_ids=tuple(features.gene_ids[gene] for gene in order),
        symbols=tuple(features.symbols[gene] for gene in order),
        control_counts=control_counts,
        features=features,
    )


@contextmanager
def _open(path: Path) -> Iterator[Group]:
    """Open a matrix: its datasets by name, each of one axis and of a type that can hold what it should."""
    if not path.is_file():
        raise InputError(path, "no such file", "copy it from the run's output bundle")
    with _reading(path), h5py.File(path, "r", locking=False) as file:
        if "matrix" not in file or any(name not in file["matrix"] for name in _DATASETS):
            raise InputError(path, "an HDF5 file, but not a 10x feature matrix", _AS_WRITTEN)
        require_sound(path, file["matrix"])
        group = {name: file["matrix"][name] for name in _DATASETS}
        for name, data in group.items():
            wanted = _KINDS.get(name, "SO")
            if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in wanted:
                kind = "one row of numbers" if name in _KINDS else "text"
                raise InputError(path, f"matrix/{name} is not {kind}", _AS_WRITTEN)
        yield group


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file that HDF5 cannot read further; bugs of ours are none of these errors."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        told = system_error(error, path) if isinstance(error, OSError) else None
        what = f"truncated or not an HDF5 file ({first_line(error)})"
        raise told or InputError(path, what, _COPY_AGAIN) from error


def _features(path: Path, group: Group, panel: Panel | None) -> Features:
    stored, names, types = (_text(path, group, f"features/{key}") for key in ("id", "name", "feature_type"))
    shape = group["shape"][()].tolist()
    if len(shape) != len(("features", "cells")):
        raise InputError(path, f"its shape has {len(shape)} numbers", _AS_WRITTEN)
    n_features, n_cells = shape
    n_entries = len(group["data"])
    sizes_agree = (
        len(stored) == len(names) == len(types) == n_features
        and len(group["barcodes"]) == n_cells
        and len(group["indptr"]) == n_cells + 1
        and len(group["indices"]) == n_entries
    )
    if not sizes_agree:
        raise InputError(path, "the matrix's shape contradicts its features, barcodes or entries", _COPY_AGAIN)
    if not n_cells:
        raise InputError(path, "the matrix holds no cell", "check the run: its segmentation found nothing")
    is_gene = types == GENE
    if not is_gene.any():
        raise InputError(path, f'no feature has the type "{GENE}"', _AS_WRITTEN)
    symbols = tuple(names[is_gene])
    ids = tuple(gene_ids(tuple(stored[is_gene]), symbols, panel))
    _require_ids(path, ids, symbols)
    return Features(n_cells=n_cells, n_entries=n_entries, gene_ids=ids, symbols=symbols, types=types)


def _require_ids(path: Path, ids: Sequence[str], symbols: Sequence[str]) -> None:
    missing = [symbol for gene, symbol in zip(ids, symbols, strict=True) if is_missing(gene)]
    if missing:
        what = f"{len(missing)} of {len(ids)} genes have no id, such as the one with the symbol {missing[0]!r}"
        raise InputError(path, what, "add gene_panel.json of the run, or give every gene its Ensembl id in features/id")
    doubled = sorted(gene for gene, times in Counter(ids).items() if times > 1)
    if doubled:
        raise InputError(path, f"{len(doubled)} gene ids occur more than once, such as {doubled[0]}", _AS_WRITTEN)


def _text(path: Path, group: Group, name: str) -> NDArray[np.object_]:
    try:
        found: NDArray[np.object_] = group[name].asstr()[()].astype(object)
    except (TypeError, UnicodeDecodeError):
        raise InputError(path, f"matrix/{name} is not text", _AS_WRITTEN) from None
    if any("\0" in value for value in found):
        raise InputError(path, f"matrix/{name} holds a zero byte", _COPY_AGAIN)
    return found


def _read_matrix(
    path: Path, group: Group, features: Features, rank: NDArray[np.int64]
) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """Return the gene counts and each cell's control counts; `rank` is each gene's place in the sorted order."""
    indptr = _pointers(path, group, features)
    column = np.full(len(features.types), -1, dtype=np.int32)
    column[features.types == GENE] = rank
    is_control = ~np.isin(features.types.astype(str), list(NOT_CONTROLS))
    data = np.empty(features.n_entries, dtype=np.int32)
    gene = np.empty(features.n_entries, dtype=np.int32)
    n_kept = np.zeros(features.n_cells, dtype=np.int64)
    control = np.zeros(features.n_cells, dtype=np.int64)
    filled = 0
    for first, last in _chunks(indptr):
        entries = slice(int(indptr[first]), int(indptr[last]))
        feature, value = group["indices"][entries], group["data"][entries]
        if feature.size and (feature.min() < 0 or feature.max() >= len(features.types)):
            raise InputError(path, "an entry lies outside the matrix", _COPY_AGAIN)
        bad = _no_counts(features, feature, value)
        if bad.any():
            raise _no_count(path, group, indptr, entries.start + np.flatnonzero(bad))
        cell = np.repeat(np.arange(last - first), np.diff(indptr[first : last + 1]))
        kept = column[feature] >= 0
        stop = filled + int(kept.sum())
        data[filled:stop], gene[filled:stop] = value[kept], column[feature[kept]]
        filled = stop
        n_kept[first:last] = np.bincount(cell[kept], minlength=last - first)
        weight = np.where(is_control[feature], value, 0)
        control[first:last] = np.bincount(cell, weights=weight, minlength=last - first)
    pointers = np.concatenate([[0], np.cumsum(n_kept)])
    shape = (features.n_cells, len(features.gene_ids))
    matrix = sparse.csr_matrix((data[:filled], gene[:filled], pointers), shape=shape)
    matrix.sort_indices()
    if not matrix.has_canonical_format:
        raise InputError(path, "a cell has two values for one gene", _AS_WRITTEN)
    matrix.eliminate_zeros()
    return matrix, control


def _pointers(path: Path, group: Group, features: Features) -> NDArray[np.int64]:
    indptr = group["indptr"][()].astype(np.int64)
    if indptr[0] != 0 or indptr[-1] != features.n_entries or (np.diff(indptr) < 0).any():
        raise InputError(path, "the matrix's column pointers contradict its entries", _COPY_AGAIN)
    return indptr


def _chunks(indptr: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield runs of cells that hold about _CHUNK_ENTRIES entries (always at least one cell)."""
    first, n_cells = 0, len(indptr) - 1
    while first < n_cells:
        last = int(np.searchsorted(indptr, indptr[first] + _CHUNK_ENTRIES, side="right")) - 1
        last = min(max(last, first + 1), n_cells)
        yield first, last
        first = last


def _no_counts(features: Features, feature: NDArray[np.integer[Any]], value: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which entries are no count; of proteins, which have intensities, none."""
    with np.errstate(invalid="ignore"):  # NaN compares false
        is_count = (value >= 0) & (value <= _MOST) & (value == np.trunc(value))
    return ~is_count & (features.types[feature] != "Protein Expression")


def _no_count(path: Path, group: Group, indptr: NDArray[np.int64], bad: NDArray[np.int64]) -> InputError:
    """Name the first of the entries `bad`, which are no counts."""
    entry = int(bad[0])
    barcode = group["barcodes"].asstr()[int(np.searchsorted(indptr, entry, side="right")) - 1]
    symbol = group["features/name"].asstr()[int(group["indices"][entry])]
    return InputError(
        path,
        f"the count of {symbol} in cell {barcode} is {group['data'][entry]:g}, not a whole number from 0 to {_MOST}"
        + (f" ({len(bad)} such entries at least)" if len(bad) > 1 else ""),
        "use the raw matrix as the instrument wrote it, neither normalised nor corrected",
    )
