"""Toy tissue as tables: the cells of the synthetic slides without their images, which take most of the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import yaml
from scipy import sparse

from mistline.xenium.toy.cells import Tissue
from mistline.xenium.toy.cohort import plan_cohort
from mistline.xenium.toy.panel import CELL_TYPES, DOMAINS
from mistline.xenium.toy.settings import ToySlide


def tissue_table(slide: ToySlide) -> anndata.AnnData:
    """Return a slide's cells as an h5ad: counts of genes by symbol, places, cell type and domain."""
    tissue = Tissue(slide)
    blocks = [tissue.cells(block) for block in tissue.plan.blocks()]
    n_genes = tissue.panel.n_genes
    counts = sparse.vstack([cells.counts[:, :n_genes] for cells in blocks]).tocsr().astype(np.float32)
    drafts = [cells.draft for cells in blocks]
    types, domains = (np.concatenate([getattr(draft, name) for draft in drafts]) for name in ("types", "domains"))
    obs = pd.DataFrame({"cell_type": np.array(CELL_TYPES)[types], "domain": np.array(DOMAINS)[domains]})
    obs.index = pd.Index(np.concatenate([cells.ids for cells in blocks]), dtype=object)
    var = pd.DataFrame(index=pd.Index(tissue.panel.symbols[:n_genes], dtype=object))
    xy_um = np.concatenate([draft.xy_um for draft in drafts])
    return anndata.AnnData(counts, obs=obs, var=var, obsm={"spatial": xy_um})


def write_tissues(folder: Path, n_slides: int, n_cells: int, spacing_um: float, **config: Any) -> Path:
    """Write an h5ad for each slide of a cohort and a configuration; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for slide in plan_cohort(n_slides, n_cells, 0, ["1.3"], n_planes=1, spacing_um=spacing_um):
        tissue_table(slide).write_h5ad(folder / f"{slide.name}.h5ad")
        about = {"slide": slide.name, "table": f"{slide.name}.h5ad", "um_per_unit": 1.0, "donor": slide.donor}
        rows.append({**about, "tissue": slide.tissue, "disease": "healthy"})
    (folder / "config.yaml").write_text(yaml.safe_dump({"slides": rows, **config}, sort_keys=False))
    return folder
