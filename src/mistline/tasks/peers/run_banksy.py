"""BANKSY on one slide. Runs under the Python of its own environment, without this package.

Reads job.json and slide.h5ad (`obsm["spatial"]`, micrometres) of the folder it is given, writes result.npz: cell,
embedding. The embedding is what BANKSY itself clusters: principal components of the neighbour-augmented matrix.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "Agg"  # the package draws while it is imported

import anndata
import numpy as np
import scanpy as sc
from banksy.embed_banksy import generate_banksy_matrix
from banksy.initialize_banksy import initialize_banksy
from sklearn.decomposition import PCA

DECAY = "scaled_gaussian"
GENES = 2000


def prepare(path: Path) -> anndata.AnnData:
    """Return the slide brought to one depth, with the most variable genes where there are many."""
    cells = anndata.read_h5ad(path)
    cells.X = cells.X.astype(np.float32)
    if cells.uns["values"] == "counts":
        sc.pp.normalize_total(cells)
    if cells.n_vars > GENES:
        logged = cells.copy()
        if cells.uns["values"] != "log":
            sc.pp.log1p(logged)
        sc.pp.highly_variable_genes(logged, flavor="seurat", n_top_genes=GENES)
        cells = cells[:, logged.var["highly_variable"].to_numpy()].copy()
    cells.obs["x"], cells.obs["y"] = cells.obsm["spatial"].T
    return cells


def run(folder: Path, job: dict[str, Any]) -> None:
    """Augment the slide and reduce what comes out."""
    options = job["options"]
    cells = prepare(folder / "slide.h5ad")
    graphs = initialize_banksy(
        cells,
        ("x", "y", "spatial"),
        num_neighbours=options["neighbours"],
        nbr_weight_decay=DECAY,
        max_m=1,
        plt_edge_hist=False,
        plt_nbr_weights=False,
        plt_theta=False,
    )
    _, augmented = generate_banksy_matrix(cells, graphs, [options["lambda"]], max_m=1, verbose=False)
    dense = augmented.X.toarray() if hasattr(augmented.X, "toarray") else np.asarray(augmented.X)
    components = min(options["components"], *dense.shape)
    reduced = PCA(n_components=components, random_state=job["seed"]).fit_transform(np.nan_to_num(dense, nan=0.0))
    np.savez(
        folder / "result.npz",
        cell=np.array(cells.obs_names, dtype=np.str_),
        embedding=reduced.astype(np.float32),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
