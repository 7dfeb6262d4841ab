"""A Visium folder as Space Ranger writes it: positions, scale factors and, where it is there, the matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mistline.config.slides import Values
from mistline.core.errors import InputError, parsing
from mistline.core.files import read_json
from mistline.spots.places import locate
from mistline.spots.table import Genes, Table, warning
from mistline.xenium.cells import refuse_duplicates
from mistline.xenium.counts import read_counts
from mistline.xenium.ids import Ids

POSITIONS = (
    "tissue_positions.csv", "tissue_positions.parquet", "tissue_positions_list.csv", "tissue_positions_list.txt",
)  # fmt: skip
FACTORS = "scalefactors_json.json"
MATRIX = "filtered_feature_bc_matrix.h5"
_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
_FARTHEST = 2**31  # pixels, rows or columns; no image has as many
_AS_WRITTEN = "use the file as Space Ranger wrote it"


def is_visium(folder: Path) -> bool:
    """Return whether a folder holds the positions of spots."""
    return _positions_path(folder) is not None


def read_visium(folder: Path, values: Values, um_per_unit: float | None) -> Table:
    """Read a Visium folder: the run's `outs`, or only its `spatial` folder, or the files of both in one.

    Args:
        folder: the folder.
        values: counts; Space Ranger writes nothing else.
        um_per_unit: micrometres a pixel of the full-resolution image; None to take it from the array of spots.

    Raises:
        InputError: a file cannot be read, names a spot twice or contradicts another, or other values than counts
            are announced.
    """
    path = _positions_path(folder)
    if path is None:
        raise InputError(folder, f"no positions of spots here ({', '.join(POSITIONS)})", "give the outs folder")
    if values != "counts":
        raise InputError(folder, f"values: {values} is set, and a Visium folder holds counts", "remove values")
    positions = _read_positions(path)
    ids = positions["barcode"].to_numpy(dtype=object)
    refuse_duplicates(ids, path)
    xy = positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(dtype=np.float64)
    grid = positions[["array_row", "array_col"]].to_numpy(dtype=np.int64)
    factors = path.parent / FACTORS
    told = read_json(factors) if factors.is_file() else {}
    if not isinstance(told, dict):
        raise InputError(factors, "not a JSON object", _AS_WRITTEN)
    places, problems = locate(folder, xy, grid, told, um_per_unit)
    matrix = _matrix_path(folder)
    genes, has_row = _read_genes(folder, matrix, ids) if matrix else (_no_genes(len(ids)), np.ones(len(ids), bool))
    if matrix is None:
        what = f"no matrix ({MATRIX}): positions and labels only, no gene"
        problems.append(warning(what, "add the matrix where genes are needed"))
    read = [item for item in (path, factors, matrix) if item is not None and item.is_file()]
    return Table(
        where=str(folder),
        kind="visium",
        cell_ids=ids,
        genes=genes,
        has_row=has_row,
        in_tissue=positions["in_tissue"].to_numpy() != 0,
        places=places,
        labels=pd.DataFrame(index=pd.RangeIndex(len(ids))),
        left_out={},
        problems=tuple(problems),
        files={item.relative_to(folder).as_posix(): item.stat().st_size for item in sorted(read)},
    )


def _positions_path(folder: Path) -> Path | None:
    candidates = (base / name for base in (folder, folder / "spatial") for name in POSITIONS)
    return next((path for path in candidates if path.is_file()), None)


def _read_positions(path: Path) -> pd.DataFrame:
    with parsing(path, "unreadable", _AS_WRITTEN):
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            with path.open(encoding="utf-8") as stream:
                has_header = stream.readline().split(",")[0].strip().strip('"') == "barcode"
            names = None if has_header else list(_COLUMNS)
            table = pd.read_csv(path, header=0 if has_header else None, names=names)
            if not isinstance(table.index, pd.RangeIndex):  # pandas takes a field too many for a name of the row
                raise ValueError("its rows have more fields than there are columns")
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise InputError(path, f"no column {missing[0]}", _AS_WRITTEN)
    table = table[list(_COLUMNS)]
    numbers = table[list(_COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
    lost = ~(numbers.abs() <= _FARTHEST).all(axis=1) | table["barcode"].isna()
    if lost.any():
        what = f"{int(lost.sum())} rows lack a number, such as that of {table['barcode'][lost].iloc[0]}"
        raise InputError(path, what, _AS_WRITTEN)
    if not len(table):
        raise InputError(path, "it holds no spot", _AS_WRITTEN)
    return numbers.assign(barcode=table["barcode"].astype(str))


def _matrix_path(folder: Path) -> Path | None:
    found = sorted(folder.glob(f"*{MATRIX}"))
    if len(found) > 1:
        raise InputError(folder, f"{len(found)} matrices: {', '.join(path.name for path in found)}", "leave one there")
    if not found and (folder / MATRIX.removesuffix(".h5")).is_dir():
        what = f"the matrix is there as a folder of text files, not as {MATRIX}"
        raise InputError(folder, what, "add the .h5 of the run, or give the slide as h5ad")
    return found[0] if found else None


def _read_genes(folder: Path, path: Path, ids: Ids) -> tuple[Genes, np.ndarray[Any, np.dtype[np.bool_]]]:
    counts = read_counts(path)
    row = pd.Index(counts.cell_ids).get_indexer(pd.Index(ids))
    foreign = counts.cell_ids[pd.Index(ids).get_indexer(pd.Index(counts.cell_ids)) < 0]
    if len(foreign):
        what = f"{len(foreign)} barcodes of {path.name} have no position, such as {min(foreign)!r}"
        raise InputError(folder, what, "use the matrix and the positions of one run")
    has_row = row >= 0
    place = sparse.csr_matrix(
        (np.ones(int(has_row.sum()), dtype=np.int32), (np.flatnonzero(has_row), row[has_row])),
        shape=(len(ids), len(counts.cell_ids)),
    )
    matrix = sparse.csr_matrix(place @ counts.matrix)
    matrix.sort_indices()
    return Genes(matrix, counts.gene_ids, counts.symbols, counts.features.n_by_other_type), has_row


def _no_genes(n: int) -> Genes:
    return Genes(sparse.csr_matrix((n, 0), dtype=np.int32), (), (), {})
