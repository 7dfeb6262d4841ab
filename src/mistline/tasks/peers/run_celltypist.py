"""CellTypist on the cells of one fold. Runs under the Python of its own environment, without this package.

Reads job.json, train.h5ad (`obs["label"]`) and query.h5ad of the folder it is given, writes result.npz: cell,
classes, probability. CellTypist's scores are one-vs-rest and do not sum to 1; here each row is divided by its sum,
which leaves the order of the classes as it is.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scanpy as sc


def prepare(path: Path) -> anndata.AnnData:
    """Return the cells as the method wants them: log1p of counts brought to 10,000 a cell."""
    cells = anndata.read_h5ad(path)
    values = cells.uns["values"]
    cells.X = cells.X.astype(np.float32)
    if values != "log":
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
    return cells


def run(folder: Path, job: dict[str, Any]) -> None:
    """Train and predict."""
    os.environ["CELLTYPIST_FOLDER"] = str(folder / "celltypist")  # else it makes one in the user's home
    import celltypist

    train, query = prepare(folder / "train.h5ad"), prepare(folder / "query.h5ad")
    options = job["options"]
    model = celltypist.train(
        train,
        labels="label",
        check_expression=False,  # a panel's cells do not add up to 10,000 where values are given as log
        n_jobs=job["threads"],
        C=options["C"],
        max_iter=options["max_iter"],
        use_SGD=options["use_SGD"],
        random_state=job["seed"],
    )
    found = celltypist.annotate(query, model=model, majority_voting=False).probability_matrix
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
