"""Imputed genes as tables of their own: never a column of the table of what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from mistline.core.errors import InputError
from mistline.export.names import safe_names
from mistline.export.table import CELLS, INSTANCE, REGION, require_same_cells
from mistline.store.imputed import ImputedGenes, read_imputed

PREFIX = "imputed_"
_REMEDY = "run impute-slide again"


def imputed_tables(
    paths: Sequence[Path], slide: str, table: anndata.AnnData, version: str
) -> dict[str, anndata.AnnData]:
    """Return what models imputed, a table a model: X is the mean, the layer `sd` how unsure it is.

    Args:
        paths: files of genes that no slide measures, of one slide.
        slide: its name.
        table: what was measured, which the same label image describes.
        version: of the dataset.

    Raises:
        InputError: a file is of another slide or version of the dataset, of other cells or of a measured gene.
    """
    read = [read_imputed(path) for path in paths]
    times = Counter(own.origin.model for own in read)
    found = {}
    for path, own in zip(paths, read, strict=True):
        _check(path, own, slide, table, version)
        origin = own.origin
        name = origin.model if times[origin.model] == 1 else f"{origin.model}.seed-{origin.seed}"
        found[name] = _table(own, table)
    names = safe_names(found)
    return {f"{PREFIX}{names[name]}": one for name, one in found.items()}


def _check(path: Path, own: ImputedGenes, slide: str, table: anndata.AnnData, version: str) -> None:
    if own.origin.dataset_version != version:
        raise InputError(path, "it was made from another version of the dataset", _REMEDY)
    if (own.slide != slide).any() or (own.fold >= 0).any():
        raise InputError(path, f"it holds another slide than {slide}, or tested genes", _REMEDY)
    measured = sorted(set(own.genes) & set(table.var_names))
    if measured:
        raise InputError(path, f"the slide measures {measured[0]}: what is imputed never stands in its place", _REMEDY)
    require_same_cells(path, own.cell_id, table.obs)


def _table(own: ImputedGenes, measured: anndata.AnnData) -> anndata.AnnData:
    obs = measured.obs[["cell_id", INSTANCE]].copy()
    obs[REGION] = pd.Categorical([CELLS] * len(obs))
    var = pd.DataFrame({"symbol": list(own.symbols)}, index=pd.Index(list(own.genes), dtype=object))
    about = {"model": own.origin.model, "seed": own.origin.seed, "is_imputed": True, "values": "log"}
    return anndata.AnnData(
        np.ascontiguousarray(own.mean, dtype=np.float32),
        obs,
        var,
        uns={"imputed": about},
        layers={} if own.sd is None else {"sd": np.ascontiguousarray(own.sd, dtype=np.float32)},
        obsm={"spatial": measured.obsm["spatial"]},
    )
