"""Export a slide for viewers: one SpatialData zarr, and the groups that Xenium Explorer loads on the bundle."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section
from mistline.config.viewer import Viewer
from mistline.core.errors import InputError
from mistline.core.files import atomic_path, read_parquet
from mistline.core.provenance import record
from mistline.export.explorer import write_groups
from mistline.export.imputed import imputed_tables
from mistline.export.names import safe_names
from mistline.export.raster import LabelRaster
from mistline.export.spatial import Content, library, write_store
from mistline.export.table import as_groups, build_table, by_size, require_same_cells
from mistline.mist.described import read_described
from mistline.mist.kmeans import Settings, fit_kmeans
from mistline.mist.metacell_quality import as_types
from mistline.mist.pyramid import RowWindow
from mistline.store.absent import read_absent
from mistline.store.embeddings import read_embedding, read_origin
from mistline.store.manifest import read_manifest
from mistline.workflow.digest import code_digest
from mistline.xenium.layout import detect
from mistline.xenium.outlines import read_outlines

logger = logging.getLogger("mistline.export")

_RESTARTS, _ITERATIONS = 3, 50


def run(
    bundle: Annotated[Path, typer.Option(help="the unzipped output bundle of the Xenium run: its polygons are drawn")],
    manifest: Annotated[Path, typer.Option(help="manifest.json of the sealed dataset")],
    slide: Annotated[str, typer.Option(help="the slide's name")],
    image: Annotated[Path, typer.Option(help="image.ome.zarr of the slide")],
    image_summary: Annotated[Path, typer.Option(help="image.json")],
    cells: Annotated[Path, typer.Option(help="cells.parquet")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad")],
    splits: Annotated[Path, typer.Option(help="the slide's split file")],
    metacells: Annotated[Path, typer.Option(help="metacells.parquet")],
    store: Annotated[Path, typer.Option(help="the SpatialData zarr to write")],
    groups: Annotated[Path, typer.Option(help="the folder of Explorer groups (csv) to write")],
    embedding: Annotated[list[Path] | None, typer.Option(help="an embedding (parquet) of the slide; repeated")] = None,
    imputed: Annotated[
        list[Path] | None, typer.Option(help="genes a model imputed at every cell of the slide (parquet); repeated")
    ] = None,
    he: Annotated[Path | None, typer.Option(help="H&E on the pixel grid of the slide (OME-Zarr)")] = None,
    params: Annotated[str, typer.Option(help="the viewer section, as JSON")] = "{}",
    seed: Annotated[int, typer.Option(help="the run's seed")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="does not change the result")] = 1,
) -> None:
    """Export one slide."""
    settings = load_section(Viewer, params, "viewer")
    library()  # seconds of import: what is missing is said before anything else
    version = read_manifest(manifest).version
    table, levels = _describe(cells, splits, metacells)
    embeddings = _embeddings([path for path in embedding or [] if read_absent(path) is None], table, version)
    k = settings.n_clusters or table[levels[0]].nunique()
    for name, rows in embeddings.items():
        table[f"cluster_{name}"] = _cluster(rows, k, Settings(_RESTARTS, _ITERATIONS, seed, threads), f"viewer {name}")
    pixel_size_um = read_described(image_summary).pixel_size_um
    RowWindow(image)  # refuses an image with a lost file, which would be shown black
    xy_um = table[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    measured = build_table(table, counts, embeddings, xy_um)
    content = Content(
        images={"morphology": image} | ({"he": he} if he else {}),
        labels=_rasters(bundle, pd.Index(table["cell_id"]), pixel_size_um),
        table=measured,
        pixel_size_um=pixel_size_um,
        about={"slide": slide, "dataset_version": version, "pixel_size_um": pixel_size_um},
        imputed=imputed_tables(imputed or [], slide, measured, version),
    )
    with atomic_path(store) as part:
        write_store(part, content, threads)
    with atomic_path(groups) as part:
        part.mkdir()
        write_groups(part, table, _shown(table, levels))
    inputs = {
        "bundle": bundle, "manifest": manifest, "image": image, "image_summary": image_summary, "cells": cells,
        "counts": counts, "splits": splits, "metacells": metacells,
    }  # fmt: skip
    for name, paths in {"embedding": embedding, "imputed": imputed}.items():
        inputs |= {f"{name}[{number}]": path for number, path in enumerate(paths or [])}
    inputs |= {"he": he} if he else {}
    record(
        "export_viewer",
        outputs=[store, groups],
        inputs=inputs,
        params=settings.model_dump(mode="json") | {"slide": slide},
        code=code_digest("export_viewer"),
        seed=seed,
    )


def _describe(cells: Path, splits: Path, metacells: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return everything known of each cell, types as categories, and the names of the meta-cell levels."""
    table, split, assigned = read_parquet(cells), read_parquet(splits), read_parquet(metacells)
    for path, other in ((splits, split), (metacells, assigned)):
        require_same_cells(path, other["cell_id"].to_numpy(), table)
    for name in (name for name in table if str(name).startswith("label_")):
        types = as_types(table[name])
        table[name] = pd.to_numeric(table[name]) if types is None else pd.Categorical(types)
    table["split"] = pd.Categorical(split["split"], categories=["train", "val", "test", "gap"])
    levels = sorted((name for name in assigned if re.fullmatch(r"l\d+", name)), key=lambda name: int(name[1:]))
    for name in ("metacell", *levels):
        table[name] = as_groups(assigned[name].to_numpy())
    table["metacell_distance"] = assigned["distance"]
    return table.rename(columns=safe_names(table.columns)), levels


def _shown(table: pd.DataFrame, levels: list[str]) -> list[str]:
    """Return the columns Explorer gets: known types, split, meta-cell levels and clusters."""
    chosen = [name for name in table if str(name).startswith(("label_", "cluster_"))]
    return [name for name in (*chosen, *levels, "split") if isinstance(table[name].dtype, pd.CategoricalDtype)]


def _embeddings(paths: list[Path], table: pd.DataFrame, version: str) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings by model, or by model and seed where a model comes with several."""
    origins = [read_origin(path) for path in paths]
    times = Counter(origin.model for origin in origins)
    found = {}
    for path, origin in zip(paths, origins, strict=True):
        if origin.dataset_version != version:
            raise InputError(path, "it was made from another version of the dataset", "run embed again")
        ids, rows = read_embedding(path)
        require_same_cells(path, ids, table)
        found[origin.model if times[origin.model] == 1 else f"{origin.model}.seed-{origin.seed}"] = rows
    names = safe_names(found)
    return {names[name]: rows for name, rows in found.items()}


def _cluster(rows: NDArray[np.float32], k: int, settings: Settings, purpose: str) -> pd.Categorical:
    if k > len(rows):
        logger.warning("%s: %d cells cannot form %d clusters; %d are made", purpose, len(rows), k, len(rows))
    return as_groups(by_size(fit_kmeans(rows, min(k, len(rows)), settings, purpose).labels))


def _rasters(bundle: Path, cell_ids: pd.Index, pixel_size_um: float) -> dict[str, Any]:
    layout = detect(bundle)
    outlines = {"cells": read_outlines(layout.cell_boundaries, cell_ids)}
    without = len(cell_ids) - len(np.unique(outlines["cells"].owner))
    if without:
        what = f"{without} cells of cells.parquet have no polygon any more"
        raise InputError(layout.cell_boundaries, what, "run read_cells for this slide again")
    if layout.nucleus_boundaries:
        outlines["nuclei"] = read_outlines(layout.nucleus_boundaries, cell_ids)
    return {name: LabelRaster(found, pixel_size_um) for name, found in outlines.items()}
