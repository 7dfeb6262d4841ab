"""GraphST on one slide. Runs under the Python of its own environment, without this package.

Reads job.json and slide.h5ad (`obsm["spatial"]`, micrometres) of the folder it is given, writes result.npz: cell,
embedding. The embedding is what GraphST itself clusters: principal components of its reconstruction.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scanpy as sc
from GraphST.GraphST import GraphST
from sklearn.decomposition import PCA

GENES = 3000  # GraphST's own number of variable genes


def prepare(path: Path) -> anndata.AnnData:
    """Return the slide after GraphST's own preprocessing, which asks for raw counts and more genes than a panel has."""
    cells = anndata.read_h5ad(path)
    values = cells.uns["values"]
    cells.X = cells.X.astype(np.float32)
    flavor = "seurat_v3" if values == "counts" else "seurat"
    if cells.n_vars <= GENES:
        cells.var["highly_variable"] = True
    elif values == "counts":
        sc.pp.highly_variable_genes(cells, flavor=flavor, n_top_genes=GENES)
    if values == "counts":
        sc.pp.normalize_total(cells, target_sum=1e4)
    if values != "log":
        sc.pp.log1p(cells)
    if "highly_variable" not in cells.var:
        sc.pp.highly_variable_genes(cells, flavor=flavor, n_top_genes=GENES)
    sc.pp.scale(cells, zero_center=False, max_value=10)
    return cells


def run(folder: Path, job: dict[str, Any]) -> None:
    """Fit the slide and reduce what comes out."""
    options = job["options"]
    method = GraphST(
        prepare(folder / "slide.h5ad"),
        epochs=options["epochs"],
        random_seed=job["seed"],
        datatype=options["datatype"],
    )
    cells = method.train()
    components = min(options["components"], *cells.obsm["emb"].shape)
    embedding = PCA(n_components=components, random_state=job["seed"]).fit_transform(cells.obsm["emb"])
    np.savez(
        folder / "result.npz",
        cell=np.array(cells.obs_names, dtype=np.str_),
        embedding=embedding.astype(np.float32),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
