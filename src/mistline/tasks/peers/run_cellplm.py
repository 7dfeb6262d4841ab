"""CellPLM on one slide. Runs under the Python of its own environment, without this package.

Reads job.json and slide.h5ad of the folder it is given, and the checkpoint and config that the job names; writes
result.npz: cell, embedding. The embedding is the latent of its pretrained encoder (Wen et al. 2024), zero-shot: all
cells of a batch see each other. Its genes are Ensembl ids; symbols are not translated, which would ask a web service.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
from CellPLM.pipeline.cell_embedding import CellEmbeddingPipeline

NAME = "trained"


def prepare(path: Path) -> anndata.AnnData:
    """Return the slide as the method wants it: counts, of which it takes log1p itself."""
    cells = anndata.read_h5ad(path)
    cells.X = cells.X.astype(np.float32)
    if cells.uns["values"] == "log":
        cells.X.data = np.expm1(cells.X.data)
    del cells.uns["values"]
    cells.var_names = [name.split(".")[0] for name in cells.var_names]
    return cells


def pipeline(folder: Path, options: dict[str, Any]) -> CellEmbeddingPipeline:
    """Return the pretrained model; its own loader wants both files under one name, and weights of this device."""
    stored = torch.load(options["weights"], map_location="cpu", weights_only=True)
    torch.save({"model_state_dict": stored["model_state_dict"]}, folder / f"{NAME}.best.ckpt")
    shutil.copy(options["config"], folder / f"{NAME}.config.json")
    return CellEmbeddingPipeline(pretrain_prefix=NAME, pretrain_directory=str(folder))


def run(folder: Path, job: dict[str, Any]) -> None:
    """Embed the slide."""
    torch.manual_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    options = job["options"]
    cells = prepare(folder / "slide.h5ad")
    method = pipeline(folder, options)
    known = int(cells.var_names.isin(method.model.gene_set).sum())
    if not known:
        sys.exit("none of the slide's genes is known to CellPLM, which names them by Ensembl ids")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = {"batch_size": options["batch_size"]}
    found = method.predict(cells, inference_config=given, ensembl_auto_conversion=False, device=device)
    np.savez(
        folder / "result.npz",
        cell=np.array(cells.obs_names, dtype=np.str_),
        embedding=found.float().cpu().numpy(),
    )


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    run(FOLDER, json.loads((FOLDER / "job.json").read_text(encoding="utf-8")))
