"""What must hold of whatever was made from files that were accepted, and what stands for it in a comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from mistline.mist.pyramid import Level
from mistline.store.reader import ShardReader
from tests.fuzz.cases import WrongError


def digest(*parts: Any) -> str:
    """Return a hash of arrays, texts or bytes."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype.kind == "O":
            part = part.astype(str)
        found.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else str(part).encode())
    return found.hexdigest()


def read_strict(path: Path) -> Any:
    """Read JSON without NaN or infinity."""

    def refuse(name: str) -> NoReturn:
        raise WrongError(f"{path.name} holds {name}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def require(holds: bool, what: str) -> None:
    """Raise where something does not hold."""
    if not holds:
        raise WrongError(what)


def bundle_report(work: Path, _: Any) -> Any:
    """Judge bundle.json of check-bundle."""
    told = read_strict(work / "out/bundle.json")
    require(told["n_cells"] > 0 and 0 < told["pixel_size_um"] < 1e6, "no cell, or no pixel size")
    require(all(side > 0 for side in told["image"]["shape_px"]), "an image without pixels")
    require(told["panel"]["n_genes"] > 0, "no gene")
    return {key: value for key, value in told.items() if key != "files"}


def image(work: Path, _: Any) -> Any:
    """Judge the pyramid of project-image."""
    told = read_strict(work / "out/image.json")
    level = Level(work / "out/image.ome.zarr")
    require(level.shape == (len(told["channels"]), *told["shape_px"]), "the image has another shape than it says")
    require(all(low < high for low, high in told["window"].values()), "an empty window")
    return {**told, "pixels": digest(level.read(slice(None), slice(None)))}


def kept_cells(work: Path, _: Any) -> Any:
    """Judge cells.parquet, counts.h5ad and cells.json of read-cells or read-table."""
    out = work / "out"
    described = out / "bundle.json"
    is_placed = not described.exists() or read_strict(described)["has_coordinates"]  # a table may lack places
    told, data = read_strict(out / "cells.json"), _counts(out / "counts.h5ad")
    table = _cells(out / "cells.parquet", is_placed)
    require(table["cell_id"].tolist() == data.obs_names.tolist(), "table and counts are of other cells")
    sums = np.asarray(data.X.sum(axis=1)).ravel()
    if data.X.dtype.kind == "i":
        require(np.array_equal(sums, table["n_counts"]), "n_counts is not the sum of the counts")
        require(np.array_equal(np.diff(data.X.indptr), table["n_genes"]), "n_genes is not the number of genes")
    require(told["n_kept"] == len(table), "cells.json tells another number")
    require(told["n_read"] == len(table) + sum(told["excluded"].values()), "cells were lost without a reason")
    _require_told(work, told, data)
    return {"cells": digest(*(table[name].to_numpy() for name in table)), "counts": _hash(data), "told": told}


def _require_told(work: Path, told: dict[str, Any], data: anndata.AnnData) -> None:
    """Counts of a bundle that are not what they were must have been noticed beside cells.parquet."""
    if told.get("joins", {}).get("counts_differ_from_cells") != 0:
        return
    good = anndata.read_h5ad(work / "counts.h5ad")
    both = data.obs_names.intersection(good.obs_names)
    sums = [np.asarray(item[both].X.sum(axis=1)).ravel() for item in (data, good)]
    require(np.array_equal(*sums), "counts changed, and nobody noticed")


def _cells(path: Path, is_placed: bool) -> pd.DataFrame:
    table = pd.read_parquet(path)
    ids = table["cell_id"]
    require(len(table) > 0 and ids.is_unique and all(isinstance(item, str) and item for item in ids), "ids are no ids")
    xy = table[[name for name in ("x_um", "y_um") if name in table]].to_numpy()
    if is_placed:
        require(bool(np.isfinite(xy).all()), "a coordinate is not finite")
    else:
        require(bool(np.isnan(xy).all()), "a coordinate where there are none")
    if "x_min_um" in table:
        box = table[["x_min_um", "x_max_um", "y_min_um", "y_max_um"]].to_numpy()
        require(bool(np.isfinite(box).all()), "a box is not finite")
        require(bool((box[:, 0] <= box[:, 1]).all() and (box[:, 2] <= box[:, 3]).all()), "a box is inside out")
        areas = table["cell_area_um2"].to_numpy()
        require(bool(np.isfinite(areas).all()), "an area is not finite")
    return table


def _counts(path: Path) -> anndata.AnnData:
    data = anndata.read_h5ad(path)
    require(sparse.issparse(data.X) and bool(np.isfinite(data.X.data).all()), "values are not finite")
    require(not data.X.nnz or data.X.data.min() > 0, "a stored value is not above zero")
    names = data.var_names
    require(bool(names.is_unique) and (names != "").all() and names.is_monotonic_increasing, "genes are no genes")
    return data


def _hash(data: anndata.AnnData) -> str:
    matrix = data.X
    names = [data.var_names.to_numpy(), data.obs_names.to_numpy(), data.var["symbol"].to_numpy()]
    return digest(matrix.data, matrix.indices, matrix.indptr, *names)


def reference(work: Path, _: Any) -> Any:
    """Judge counts.h5ad and reference.json of read-reference."""
    data, told = _counts(work / "out/counts.h5ad"), read_strict(work / "out/reference.json")
    require(told["n_cells"] == data.n_obs and told["n_genes"] == data.n_vars, "reference.json tells other numbers")
    return {"counts": _hash(data), "told": told}


def crops(work: Path, _: Any) -> Any:
    """Judge the shards and the index of cut-crops or cut-patches."""
    index = pd.read_parquet(work / "out/shards/cell.parquet")
    reader = ShardReader(work / "out/shards/cell")
    require(index["key"].tolist() == list(range(len(reader))) != [], "index and shards differ")
    numbers = index.select_dtypes("number").to_numpy(dtype=np.float64)
    require(bool(np.isfinite(numbers).all()), "the index holds what is not finite")
    found = []
    for key in range(len(reader)):
        record = reader[key]
        found += [record.image, record.gene_index, record.gene_count]
        if "n_counts" in index:
            require(int(record.gene_count.sum()) == index["n_counts"][key], "a record has other counts than its row")
        require(record.image.shape[1] == record.image.shape[2] > 0, "a crop without pixels")
    return digest(*found, *(index[name].to_numpy() for name in index))


def registered(work: Path, _: Any) -> Any:
    """Judge what register-he wrote."""
    told = read_strict(work / "out/he.json")
    level = Level(work / "out/he.ome.zarr")
    covered = pd.read_parquet(work / "out/coverage.parquet")
    return [told, digest(level.read(slice(None), slice(None))), digest(*(covered[name].to_numpy() for name in covered))]


def embedding(_: Path, read: Any) -> Any:
    """Judge (origin, ids, rows)."""
    origin, ids, rows = read
    require(rows.ndim == 2 and len(ids) == len(rows) > 0 and rows.shape[1] > 0, "an embedding without numbers")
    require(bool(np.isfinite(rows).all()) and rows.dtype == np.float32, "an embedding that is not finite")
    require(all(isinstance(origin[name], str) for name in ("model", "model_sha256", "dataset_version")), "no origin")
    return [origin, digest(ids, rows)]


def plain(_: Path, read: Any) -> Any:
    """Compare what was read as it is shown."""
    return _shown(read)


def _shown(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return digest(value.shape, value)
    if isinstance(value, pd.DataFrame):
        return digest(*value.columns, *(value[name].to_numpy() for name in value))
    if isinstance(value, dict):
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_shown(item) for item in value]
    return str(value)
