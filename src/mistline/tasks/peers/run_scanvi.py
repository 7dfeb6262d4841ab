"""scANVI on the cells of one fold. Runs under the Python of its own environment, without this package.

Reads job.json, train.h5ad (`obs["label"]`) and query.h5ad of the folder it is given, writes result.npz: cell,
classes, probability. As its authors advise, scVI is trained first and scANVI begins with its weights (Xu et al. 2021).
Both are trained on the labelled training cells alone: the genes of asked cells are read when these are predicted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scvi

UNLABELLED = "(none)"  # the method wants a name for cells without a label; here there are none


def prepare(path: Path) -> anndata.AnnData:
    """Return the cells as the method wants them: counts."""
    cells = anndata.read_h5ad(path)
    if cells.uns["values"] != "counts":
        sys.exit(f"scANVI models counts, and these slides hold values that are {cells.uns['values']}")
    cells.X = cells.X.astype(np.float32)
    return cells


def trained(train: anndata.AnnData, options: dict[str, Any]) -> Any:
    """Return scANVI, trained; 0 epochs stand for the package's own number of them."""
    scvi.model.SCVI.setup_anndata(train)
    first = scvi.model.SCVI(
        train, n_latent=options["latent"], n_layers=options["layers"], gene_likelihood=options["likelihood"]
    )
    first.train(max_epochs=options["epochs"] or None, enable_progress_bar=False)
    second = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category=UNLABELLED, labels_key="label")
    second.train(max_epochs=options["label_epochs"] or None, enable_progress_bar=False)
    return second


def run(folder: Path, job: dict[str, Any]) -> None:
    """Train and predict."""
    scvi.settings.seed, scvi.settings.num_threads = job["seed"], job["threads"]
    train, query = prepare(folder / "train.h5ad"), prepare(folder / "query.h5ad")
    train = train[np.asarray(train.X.sum(axis=1)).ravel() > 0].copy()  # the depth of an empty cell has no logarithm
    query.obs["label"] = UNLABELLED
    found = trained(train, job["options"]).predict(query, soft=True)
    probability = found.to_numpy(dtype=np.float64)
    np.savez(
        folder / "result.npz",
        cell=np.array(found.index, dtype=np.str_),
        classes=np.array(found.columns, dtype=np.str_),
        probability=(probability / probability.sum(axis=1, keepdims=True)).astype(np.float32),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
