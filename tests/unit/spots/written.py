"""Small tables with known content: layers by height, each with genes of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

GENES = tuple(f"ENSG{number:011d}" for number in range(12))
SPOT_PX = 137.0  # distance of two spots of the array
N_LAYERS = 3


def hexagons(rows: int = 16, cols: int = 16) -> np.ndarray:
    """Return [n, 2] (array_row, array_col) as Visium counts them."""
    return np.array([(row, 2 * col + row % 2) for row in range(rows) for col in range(cols)])


def pixels(grid: np.ndarray, turn: float = 0.1) -> np.ndarray:
    """Return [n, 2] x, y of array positions on an image that is a little turned."""
    xy = np.column_stack([grid[:, 1] / 2, grid[:, 0] * np.sqrt(3) / 2]) * SPOT_PX
    return xy @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + 2000


def counts_of(layer: np.ndarray, seed: int = 0) -> sparse.csr_matrix:
    """Return [n, G] counts in which every layer has genes of its own."""
    own = np.arange(len(GENES)) % N_LAYERS == layer[:, None]
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(1 + 12 * own).astype(np.int32))


def table(n: int = 240, seed: int = 0, **changes: Any) -> anndata.AnnData:
    """Return cells at random places of a field of 100 x 100 units."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 100, (n, 2))
    layer = np.minimum((xy[:, 1] / 100 * N_LAYERS).astype(int), N_LAYERS - 1)
    obs = pd.DataFrame({"layer": [f"L{k}" for k in layer]}, index=[f"c{seed}-{i:03d}" for i in range(n)])
    made = {"X": counts_of(layer, seed), "obs": obs, "var": pd.DataFrame(index=list(GENES)), "obsm": {"spatial": xy}}
    return anndata.AnnData(**made | changes)


def write_h5ad(path: Path, data: anndata.AnnData | None = None) -> Path:
    """Write a table, and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (table() if data is None else data).write_h5ad(path)
    return path


def write_visium(folder: Path, *, header: bool = True, flat: bool = False, matrix: bool = True, **changes: Any) -> Path:
    """Write a Visium folder; the first spot is beside the tissue, and the matrix knows the others.

    Args:
        folder: to write.
        header: whether the positions have one.
        flat: no folder `spatial`.
        matrix: whether there is one.
        changes: `factors`, `barcodes` of the matrix, or `positions` in place of what is written.
    """
    grid = hexagons()
    ids = [f"AAAC{number:04d}-1" for number in range(len(grid))]
    xy = pixels(grid)
    positions = pd.DataFrame(
        {
            "barcode": ids,
            "in_tissue": [0] + [1] * (len(ids) - 1),
            "array_row": grid[:, 0],
            "array_col": grid[:, 1],
            "pxl_row_in_fullres": xy[:, 1].round().astype(int),
            "pxl_col_in_fullres": xy[:, 0].round().astype(int),
        }
    )
    positions = changes.get("positions", positions)
    spatial = folder if flat else folder / "spatial"
    spatial.mkdir(parents=True)
    name = "tissue_positions.csv" if header else "tissue_positions_list.txt"
    positions.to_csv(spatial / name, index=False, header=header)
    factors: Mapping[str, float] = changes.get("factors", {"spot_diameter_fullres": 89.0})
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    if matrix:
        barcodes = changes.get("barcodes", ids[1:])
        layer = np.minimum(grid[1 : 1 + len(barcodes), 0] * N_LAYERS // 16, N_LAYERS - 1)
        write_matrix(folder / "filtered_feature_bc_matrix.h5", barcodes, counts_of(layer))
    return folder


def write_matrix(path: Path, barcodes: list[str], counts: sparse.csr_matrix) -> None:
    """Write a 10x feature matrix."""
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array([counts.shape[1], counts.shape[0]])
        features = group.create_group("features")
        features["id"] = np.array(GENES, dtype="S")
        features["name"] = np.array([f"G{number}" for number in range(len(GENES))], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * len(GENES), dtype="S")
