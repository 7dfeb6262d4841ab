"""Checking a raw bundle: what it is, and what is wrong with it, from the headers of its files.

What makes a bundle unreadable is raised; what a reader should know becomes a warning of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.geometry import um_to_px
from mistline.xenium import orientation
from mistline.xenium.bundle import Experiment, check_pixel_size, read_experiment, version_hint
from mistline.xenium.cells import read_cells
from mistline.xenium.counts import Features, read_features
from mistline.xenium.layout import Layout, detect
from mistline.xenium.morphology import NUCLEI, Source, choose, open_bands, read_low_resolution, sources
from mistline.xenium.panel import Panel, is_ensembl, kind_of_ids, read_panel
from mistline.xenium.tables import n_rows, require_columns

_MAX_WHOLE_READ_PX = 4096 * 4096


def check(bundle: Path, channels: Sequence[str]) -> dict[str, Any]:
    """Check a bundle.

    Args:
        bundle: its folder.
        channels: stains that must be there.

    Returns:
        bundle.json without what the slide sheet says.

    Raises:
        InputError: the bundle cannot be used; the sentence says where, what and what to do.
    """
    layout = detect(bundle)
    experiment = read_experiment(layout.experiment)
    for table in (layout.cell_boundaries, layout.nucleus_boundaries):
        if table is not None:
            require_columns(table, ["cell_id", "vertex_x", "vertex_y"])
            _require_rows(table)
    panel = read_panel(layout.gene_panel) if layout.gene_panel else Panel()
    features = read_features(layout.matrix, panel)
    found = sources(layout)
    used = choose(found, channels, bundle)
    for source in found.values():
        check_pixel_size(experiment.pixel_size_um, source.path, source.pixel_size_um)
    cells = read_cells(layout.cells)
    problems = [
        *_about_files(layout, experiment, found),
        *_about_counts(experiment, features, len(cells)),
        *_about_orientation(found.get(NUCLEI), cells, experiment.pixel_size_um),
    ]
    return {
        "layout": layout.name,
        "xoa": experiment.xoa,
        "pixel_size_um": experiment.pixel_size_um,
        "image": _image(layout, found, used[0]),
        "panel": {
            "name": experiment.panel_name or panel.name,
            "n_genes": len(features.gene_ids),
            "n_controls": features.n_by_other_type,
            "gene_ids": kind_of_ids(features.gene_ids),
        },
        "n_cells": len(cells),
        "n_cells_announced": experiment.n_cells,
        "problems": problems,
        "files": {path.relative_to(layout.root).as_posix(): path.stat().st_size for path in _files(layout)},
    }


def _require_rows(path: Path) -> None:
    if not n_rows(path):
        raise InputError(path, "the table holds no polygon", "check the run: its segmentation found nothing")


def _image(layout: Layout, found: dict[str, Source], shown: Source) -> dict[str, Any]:
    return {
        "shape_px": list(shown.shape_px),
        "dtype": shown.dtype,
        "channels": {
            name: {
                "kind": source.kind,
                "file": source.path.relative_to(layout.root).as_posix(),
                "n_planes": source.n_planes,
            }
            for name, source in found.items()
        },
    }


def _files(layout: Layout) -> list[Path]:
    named = [
        layout.experiment, layout.cells, layout.cell_boundaries, layout.nucleus_boundaries, layout.matrix,
        layout.gene_panel, layout.zstack, layout.mip, *layout.focus,
    ]  # fmt: skip
    return [path for path in named if path is not None]


def _warning(what: str, remedy: str) -> dict[str, str]:
    return {"level": "warning", "what": what, "remedy": remedy}


def _about_files(layout: Layout, experiment: Experiment, found: dict[str, Source]) -> list[dict[str, str]]:
    problems = []
    hint = version_hint(experiment.xoa)
    if hint is not None and hint[0] != int(layout.name.split(".")[0]):
        problems.append(
            _warning(
                f"the files are laid out as in {layout.name}, experiment.xenium names {experiment.xoa}",
                "nothing, if the bundle was made anew by another software; the files decide",
            )
        )
    if NUCLEI in found and found[NUCLEI].kind != "z-stack":
        problems.append(
            _warning(
                f"no z-stack: {NUCLEI} is taken from the {found[NUCLEI].kind} image",
                "add morphology.ome.tif of the run to project it from all planes",
            )
        )
    if layout.nucleus_boundaries is None:
        problems.append(
            _warning("no nucleus_boundaries.parquet: the number of nuclei is unknown", "copy it from the run")
        )
    unknown = [name for name, source in found.items() if source.pixel_size_um is None]
    if unknown:
        problems.append(
            _warning(
                f"the OME-XML of {', '.join(unknown)} states no pixel size: it could not be compared",
                "use the image as the instrument wrote it",
            )
        )
    return problems


def _about_counts(experiment: Experiment, features: Features, n_cells: int) -> list[dict[str, str]]:
    problems = []
    if experiment.n_cells is not None and experiment.n_cells != n_cells:
        problems.append(
            _warning(
                f"experiment.xenium announces {experiment.n_cells} cells, cells.parquet holds {n_cells}",
                "check that cells.parquet is complete",
            )
        )
    if features.n_cells != n_cells:
        problems.append(
            _warning(
                f"the feature matrix holds {features.n_cells} cells, cells.parquet {n_cells}",
                "check that both are of one run; cells without counts are excluded and counted",
            )
        )
    if kind_of_ids(features.gene_ids) == "symbol":
        problems.append(
            _warning(
                "genes are known by symbol only: they meet no gene of a slide that has Ensembl ids",
                "add gene_panel.json of the run, which maps symbols to Ensembl ids",
            )
        )
    else:
        unnamed = [gene for gene in features.gene_ids if not is_ensembl(gene)]
        if unnamed:
            problems.append(
                _warning(
                    f"{len(unnamed)} of {len(features.gene_ids)} genes have no Ensembl id, such as {unnamed[0]!r}",
                    "nothing, if they are custom targets; else add gene_panel.json of the run",
                )
            )
    n_proteins = features.n_by_other_type.get("Protein Expression", 0)
    if n_proteins:
        problems.append(_warning(f"{n_proteins} protein features are left out", "nothing; the dataset holds genes"))
    return problems


def _about_orientation(source: Source | None, cells: pd.DataFrame, pixel_size_um: float) -> list[dict[str, str]]:
    """Refuse a bundle whose DAPI image lies under the cells only when x and y are exchanged."""
    if source is None:
        return [_warning(f"no {NUCLEI} image: the orientation of the tables could not be checked", "check it by eye")]
    image = _nuclei_image(source)
    if image is None:
        return [
            _warning(
                f"{source.path.name} has no pyramid: the orientation of the tables was not checked",
                "check the crops in the report by eye",
            )
        ]
    yx_px = um_to_px(cells[["x_um", "y_um"]].to_numpy(), pixel_size_um)
    verdict = orientation.judge(image, source.shape_px, yx_px)
    if verdict == "transposed":
        raise InputError(
            source.path,
            "x and y look swapped: its nuclei lie under the centroids of cells.parquet only when x and y are exchanged",
            "use cells.parquet and the image as the instrument wrote them, the image neither rotated nor mirrored",
        )
    if verdict == "inconclusive":
        return [
            _warning(
                f"{NUCLEI} is not clearly brighter at the cells' centroids than at the transposed places",
                "check the crops in the report by eye: a nucleus must be in the middle of each",
            )
        ]
    return []


def _nuclei_image(source: Source) -> NDArray[np.unsignedinteger[Any]] | None:
    """Return a reduced image, the whole of a small one, None for a large one without a pyramid."""
    reduced = read_low_resolution(source)
    if reduced is not None or source.shape_px[0] * source.shape_px[1] > _MAX_WHOLE_READ_PX:
        return reduced
    with open_bands(source, threads=1) as bands:
        return np.concatenate([bands.read(number)[1] for number in range(bands.n_bands)])
