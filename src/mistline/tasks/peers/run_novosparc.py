"""novoSpaRc on one slide and fold. Runs under the Python of its own environment, without this package.

Reads job.json, spatial.h5ad (`obsm["spatial"]`) and reference.h5ad (`uns["wanted"]`) of the folder it is given, writes
result.npz: cell, genes, imputed. Single cells are carried to the slide's places by optimal transport (Nitzan et al.
2019; Moriel et al. 2021): all genes that both sides have are its markers, and what is carried is the wanted genes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anndata
import novosparc
import numpy as np


def prepare(folder: Path, limit: int, seed: int) -> tuple[anndata.AnnData, anndata.AnnData, np.ndarray]:
    """Return single cells and the slide over shared genes, and what the single cells have of wanted genes [m, W].

    Of more than `limit` single cells (0: no limit) so many are drawn: the method holds all pairs of them.
    """
    cells, single = (anndata.read_h5ad(folder / name) for name in ("spatial.h5ad", "reference.h5ad"))
    if 0 < limit < single.n_obs:
        single = single[np.sort(np.random.default_rng(seed).choice(single.n_obs, limit, replace=False))].copy()
    wanted = np.asarray(single[:, list(single.uns["wanted"])].X, dtype=np.float64)
    single = single[:, cells.var_names].copy()
    for side in (cells, single):
        side.X = np.asarray(side.X, dtype=np.float64)
    return cells, single, wanted


def run(folder: Path, job: dict[str, Any]) -> None:
    """Transport single cells to places and take wanted genes with them."""
    options = job["options"]
    np.random.seed(job["seed"])  # noqa: NPY002  (the method draws from numpy's own)
    cells, single, wanted = prepare(folder, options["reference_cells"], job["seed"])
    tissue = novosparc.cm.Tissue(dataset=single, locations=np.asarray(cells.obsm["spatial"]))
    tissue.setup_linear_cost(np.arange(single.n_vars), cells.X)
    tissue.setup_smooth_costs(num_neighbors_s=options["neighbours"], num_neighbors_t=options["neighbours"])
    tissue.reconstruct(alpha_linear=options["alpha"], epsilon=options["epsilon"])
    weights = np.asarray(tissue.gw)  # [m, n]
    np.savez(
        folder / "result.npz",
        cell=cells.obs_names.to_numpy(dtype=np.str_),
        genes=np.array(single.uns["wanted"], dtype=np.str_),
        imputed=(weights.T @ wanted / weights.sum(axis=0)[:, None]).astype(np.float32),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
