"""An h5ad as anndata writes it: X, obs, var, obsm["spatial"] and the scale factors; nothing else is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray
from scipy import sparse

from mistline.config.slides import Values
from mistline.core.errors import InputError, parsing
from mistline.core.hdf5 import require_sound
from mistline.spots import values as checks
from mistline.spots.places import locate
from mistline.spots.table import Genes, Places, Table, warning
from mistline.xenium.cells import refuse_duplicates
from mistline.xenium.ids import Ids
from mistline.xenium.panel import is_ensembl

_AGAIN = "open it with anndata and write it again"
_BLOCK_VALUES = 1 << 24  # of a dense matrix, read at once
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl_ids")
_SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "feature_name")
_MEASURED_BY = ("array_row", "array_col")


def read_h5ad(path: Path, values: Values, um_per_unit: float | None) -> Table:
    """Read an h5ad.

    Args:
        path: the file.
        values: what X holds.
        um_per_unit: micrometres of one unit of obsm["spatial"]; None where the file tells it.

    Raises:
        InputError: it cannot be read, lacks X, names a cell or gene twice, holds a value that is not what `values`
            says or a coordinate that is no number, or does not tell the size of a unit.
    """
    with _open(path) as file:
        obs, cell_ids, genes = _measured(path, file, values)
        places, problems = _places(path, file, obs, cell_ids, um_per_unit)
    labels, left_out = _labels(obs)
    return Table(
        where=str(path),
        kind="h5ad",
        cell_ids=cell_ids,
        genes=genes,
        has_row=np.ones(len(obs), dtype=bool),
        in_tissue=_in_tissue(obs),
        places=places,
        labels=labels,
        left_out=left_out,
        problems=tuple(problems),
        files={path.name: path.stat().st_size},
    )


def read_cells(path: Path, values: Values) -> tuple[Ids, Genes]:
    """Return the names of the cells of an h5ad, and what was measured of them; wherever they lie.

    Args:
        path: the file.
        values: what X holds.

    Raises:
        InputError: as `read_h5ad`, but for places.
    """
    with _open(path) as file:
        _, cell_ids, genes = _measured(path, file, values)
    return cell_ids, genes


def _measured(path: Path, file: h5py.File, values: Values) -> tuple[pd.DataFrame, Ids, Genes]:
    obs, var = _frame(path, file, "obs"), _frame(path, file, "var")
    cell_ids = _ids(path, obs)
    matrix = checks.check(path, _matrix(path, file, (len(obs), len(var))), cell_ids, values)
    return obs, cell_ids, _genes(path, matrix, var)


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    with _reading(path):
        file = h5py.File(path, "r", locking=False)
    with file:
        with _reading(path):
            missing = [name for name in ("X", "obs", "var") if name not in file]
        if missing:
            raise InputError(path, f"an HDF5 file without {missing[0]}, so no h5ad of a matrix", _AGAIN)
        yield file


def _reading(path: Path) -> AbstractContextManager[None]:
    return parsing(path, "truncated or not an HDF5 file", "copy it again")


def _element(path: Path, file: h5py.File, name: str) -> Any:
    """Read one element as anndata does, after a look at how large it claims to be."""
    with _reading(path):
        require_sound(path, file[name])
        return read_elem(file[name])


def _frame(path: Path, file: h5py.File, name: str) -> pd.DataFrame:
    frame = _element(path, file, name)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(path, f"{name} is in the form of an early anndata", _AGAIN)
    return frame


def _ids(path: Path, obs: pd.DataFrame) -> Ids:
    if not len(obs):
        raise InputError(path, "it holds no cell", "leave this table out")
    ids = obs.index.astype(str).to_numpy(dtype=object)
    if (ids == "").any():
        raise InputError(path, "a cell has no name", "give every row of obs an id of its own")
    refuse_duplicates(ids, path)
    return ids


def _matrix(path: Path, file: h5py.File, shape: tuple[int, int]) -> sparse.csr_matrix:
    with _reading(path):
        stored = file["X"]
        if isinstance(stored, h5py.Group):
            given = _element(path, file, "X")
            given.check_format(full_check=True)  # scipy trusts indices that were not checked
            matrix = sparse.csr_matrix(given)
        else:
            require_sound(path, stored)
            rows = max(1, _BLOCK_VALUES // max(1, shape[1]))
            blocks = [sparse.csr_matrix(stored[start : start + rows]) for start in range(0, shape[0], rows)]
            matrix = sparse.vstack(blocks, format="csr")
    if matrix.dtype.kind not in "iufb":
        raise InputError(path, f"X holds values of type {matrix.dtype}, not numbers", _AGAIN)
    if matrix.shape != shape:
        raise InputError(path, f"X is {matrix.shape}, obs and var are {shape}", _AGAIN)
    return matrix


def _genes(path: Path, matrix: sparse.csr_matrix, var: pd.DataFrame) -> Genes:
    """Take Ensembl ids where there are some, else the names of var."""
    names = var.index.astype(str).tolist()
    ids, symbols = names, names
    for column in _ID_COLUMNS:
        if column in var and sum(map(is_ensembl, var[column].astype(str))) * 2 > len(var):
            ids = var[column].astype(str).tolist()
            break
    else:
        symbols = next((var[name].astype(str).tolist() for name in _SYMBOL_COLUMNS if name in var), names)
    types = var["feature_types"].astype(str).tolist() if "feature_types" in var else None
    return checks.sort_genes(path, matrix, ids, symbols, types)


def _places(
    path: Path, file: h5py.File, obs: pd.DataFrame, cell_ids: Ids, um_per_unit: float | None
) -> tuple[Places | None, list[dict[str, str]]]:
    with _reading(path):
        has_places = "spatial" in file.get("obsm", {})
    if not has_places:
        if um_per_unit is not None:
            what = "um_per_unit is set, and there is no obsm['spatial'] it could be of"
            raise InputError(path, what, "remove um_per_unit, or add the coordinates")
        what = "no coordinates (obsm['spatial'])"
        return None, [warning(what, "tasks and pictures of places leave this slide out; add coordinates if you can")]
    found = np.asarray(_element(path, file, "obsm/spatial"))
    if found.dtype.kind not in "iufb":
        raise InputError(path, "obsm['spatial'] holds no numbers", "give x and y of every cell")
    xy = found.astype(np.float64)
    problems = []
    if xy.ndim != 2 or xy.shape[1] < 2 or len(xy) != len(obs):
        raise InputError(path, f"obsm['spatial'] has the shape {xy.shape}", "give x and y of every cell")
    if xy.shape[1] > 2:
        problems.append(warning(f"obsm['spatial'] has {xy.shape[1]} columns", "the first two are taken as x and y"))
    lost = ~np.isfinite(xy[:, :2]).all(axis=1)
    if lost.any():
        what = f"{int(lost.sum())} cells have coordinates that are no number, such as {min(cell_ids[lost])!r}"
        raise InputError(path, what, "remove these cells or correct their coordinates")
    places, more = locate(path, xy[:, :2], _grid(obs), _scale_factors(path, file), um_per_unit)
    return places, problems + more


def _grid(obs: pd.DataFrame) -> NDArray[np.int64] | None:
    if not all(name in obs and pd.api.types.is_numeric_dtype(obs[name]) for name in _MEASURED_BY):
        return None
    found = obs[list(_MEASURED_BY)].to_numpy(dtype=np.float64, na_value=np.nan)
    return found.astype(np.int64) if np.isfinite(found).all() and (found == np.trunc(found)).all() else None


def _scale_factors(path: Path, file: h5py.File) -> dict[str, Any]:
    """Return the scale factors of uns["spatial"]; empty where there are none."""
    found: list[dict[str, Any]] = []
    with _reading(path):
        libraries = file.get("uns/spatial", {})
        for group in libraries.values():
            if isinstance(group, h5py.Group) and "scalefactors" in group:
                items = group["scalefactors"].items()
                found.append({name: float(item[()]) for name, item in items if item.shape == ()})
    if any(item != found[0] for item in found[1:]):
        raise InputError(path, f"it holds {len(found)} libraries of different scale", "give each as a slide of its own")
    return found[0] if found else {}


def _in_tissue(obs: pd.DataFrame) -> NDArray[np.bool_]:
    if "in_tissue" not in obs or not pd.api.types.is_numeric_dtype(obs["in_tissue"]):
        return np.ones(len(obs), dtype=bool)
    return obs["in_tissue"].to_numpy(dtype=np.float64, na_value=0) != 0


def _labels(obs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the text and categorical columns as labels, and why others of that kind are none."""
    kept: dict[str, Any] = {}
    left_out = {}
    for name in map(str, obs.columns):
        column = obs[name]
        if not (isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column)):
            continue
        texts = np.array([None if pd.isna(value) or str(value) == "" else str(value) for value in column], dtype=object)
        known = texts[texts != None]  # noqa: E711  an array is compared, element by element
        if not len(known):
            left_out[name] = "no value"
        elif len(set(known)) == len(obs) > 1:
            left_out[name] = "another value for every cell"
        else:
            kept[name] = texts
    return pd.DataFrame(kept, index=pd.RangeIndex(len(obs)), dtype=object), left_out
