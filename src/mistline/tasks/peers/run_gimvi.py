"""gimVI on one slide and fold. Runs under the Python of its own environment, without this package.

Reads job.json, spatial.h5ad and reference.h5ad (`layers["counts"]`, `uns["wanted"]`) of the folder it is given, writes
result.npz: cell, genes, imputed. One latent of both sides is trained on counts (Lopez et al. 2019); wanted genes are
decoded from the latent of the slide's cells.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scvi

TARGET_SUM = 1e4  # of the slide's open genes: the scale that values are given on
SIDES = {"spatial": "this slide holds", "reference": "the reference holds"}


def prepare(path: Path) -> anndata.AnnData:
    """Return one side as the method wants it: counts of all genes."""
    cells = anndata.read_h5ad(path)
    if "counts" not in cells.layers:
        sys.exit(f"gimVI models counts, and {SIDES[path.stem]} none")
    cells.X = cells.layers["counts"].astype(np.float32)
    return cells


def not_empty(cells: anndata.AnnData) -> np.ndarray:
    """Return bool [n]: the depth of an empty cell has no logarithm."""
    return np.asarray(cells.X.sum(axis=1)).ravel() > 0


def run(folder: Path, job: dict[str, Any]) -> None:
    """Train on both sides and decode."""
    options = job["options"]
    scvi.settings.seed, scvi.settings.num_threads = job["seed"], job["threads"]
    cells, single = prepare(folder / "spatial.h5ad"), prepare(folder / "reference.h5ad")
    genes, wanted, full = list(single.var_names), list(single.uns["wanted"]), not_empty(cells)
    seen, single = cells[full].copy(), single[not_empty(single)].copy()
    for side in (single, seen):
        scvi.external.GIMVI.setup_anndata(side)
    model = scvi.external.GIMVI(single, seen, n_latent=options["latent"])
    model.train(max_epochs=options["epochs"], batch_size=options["batch_size"], enable_progress_bar=False)
    shares = np.asarray(model.get_imputed_values(normalized=True)[1], dtype=np.float64)
    place = {gene: number for number, gene in enumerate(genes)}
    depth = shares[:, [place[gene] for gene in cells.var_names]].sum(axis=1, keepdims=True)
    found = np.log1p(shares[:, [place[gene] for gene in wanted]] / depth * TARGET_SUM)
    imputed = np.tile(found.mean(axis=0), (cells.n_obs, 1))  # an empty cell tells nothing of itself
    imputed[full] = found
    np.savez(
        folder / "result.npz",
        cell=cells.obs_names.to_numpy(dtype=np.str_),
        genes=np.array(wanted, dtype=np.str_),
        imputed=imputed.astype(np.float32),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
