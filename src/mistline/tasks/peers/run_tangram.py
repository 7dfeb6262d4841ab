"""Tangram on one slide and fold. Runs under the Python of its own environment, without this package.

Reads job.json, spatial.h5ad and reference.h5ad (`uns["wanted"]`) of the folder it is given, writes result.npz: cell,
genes, imputed. Single cells are mapped on the slide's cells by the genes both have (Biancalani et al. 2021, mode
"cells"); wanted genes are projected by that map.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import tangram as tg
import torch
from scipy import sparse


def prepare(folder: Path, limit: int, seed: int) -> tuple[anndata.AnnData, anndata.AnnData, np.ndarray]:
    """Return single cells and the slide over shared genes, and what the single cells have of wanted genes [m, W].

    Genes are named by number, since the method lowers names, and two may then be one. Of more than `limit` single
    cells (0: no limit) so many are drawn: the map has a number for every pair of cells.
    """
    cells, single = (anndata.read_h5ad(folder / name) for name in ("spatial.h5ad", "reference.h5ad"))
    if 0 < limit < single.n_obs:
        single = single[np.sort(np.random.default_rng(seed).choice(single.n_obs, limit, replace=False))].copy()
    wanted = np.asarray(single[:, list(single.uns["wanted"])].X, dtype=np.float32)
    single = single[:, cells.var_names].copy()
    for side in (cells, single):
        side.var_names = [f"g{number}" for number in range(side.n_vars)]
        side.X = sparse.csr_matrix(side.X)  # of dense single cells it asks for what only sparse ones have
    return cells, single, wanted


def run(folder: Path, job: dict[str, Any]) -> None:
    """Map and project."""
    options, seed = job["options"], job["seed"]
    torch.set_num_threads(job["threads"])
    cells, single, wanted = prepare(folder, options["reference_cells"], seed)
    names = cells.obs_names.to_numpy(dtype=np.str_)
    tg.pp_adatas(single, cells)
    np.random.seed(seed)  # noqa: NPY002  (the method draws from numpy's own, and takes a seed of 0 for none)
    torch.manual_seed(seed)
    found = tg.map_cells_to_space(
        single,
        cells,
        mode="cells",
        device="cuda" if torch.cuda.is_available() else "cpu",
        learning_rate=options["learning_rate"],
        num_epochs=options["epochs"],
        density_prior=options["density"],
        random_state=seed or None,
        verbose=False,
    )
    share = cells.n_obs / single.n_obs  # the projection sums what is mapped on a cell; so it is of one cell's size
    np.savez(
        folder / "result.npz",
        cell=names,
        genes=np.array(single.uns["wanted"], dtype=np.str_),
        imputed=(np.asarray(found.X).T @ wanted * share).astype(np.float32),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
