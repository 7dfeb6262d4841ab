"""Rule read_cells: join cells, boundaries and counts of a slide by id."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anndata
import pandas as pd
import typer

from mistline.config.base import load_section
from mistline.config.cells import Cells
from mistline.core.files import write_json, write_parquet
from mistline.core.hdf5 import write_h5ad
from mistline.core.provenance import record
from mistline.mist.cells import Joined, Raw, join
from mistline.mist.described import Described, read_described
from mistline.mist.labels import read_labels
from mistline.workflow.digest import code_digest
from mistline.xenium.boundaries import count_nuclei, read_polygons
from mistline.xenium.cells import read_cells
from mistline.xenium.counts import Counts, read_counts
from mistline.xenium.layout import detect
from mistline.xenium.panel import read_panel


def run(
    bundle: Annotated[Path, typer.Option(help="the unzipped output bundle of the Xenium run")],
    check: Annotated[Path, typer.Option(help="bundle.json of check-bundle")],
    cells: Annotated[Path, typer.Option(help="cells.parquet to write: the kept cells")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad to write: their gene counts")],
    summary: Annotated[Path, typer.Option(help="cells.json to write: what was kept and excluded, and why")],
    labels: Annotated[Path | None, typer.Option(help="csv with cell_id and known labels")] = None,
    params: Annotated[str, typer.Option(help="the section cells, as JSON")] = "{}",
) -> None:
    """Join a slide's tables; exclude, with a reason, cells that cannot be used."""
    section = load_section(Cells, params, "cells")
    described = read_described(check)
    raw = _read(bundle, described)
    joined = join(raw, section)
    table, n_labelled = _with_labels(joined, raw, labels)
    write_parquet(cells, table)
    _write_counts(counts, raw.counts, joined)
    write_json(summary, {"slide": described.slide, **joined.summary, "labels": n_labelled})
    record(
        "read_cells",
        outputs=[cells, counts, summary],
        inputs={"bundle": bundle, "check": check} | ({"labels": labels} if labels else {}),
        params=section.model_dump(mode="json"),
        code=code_digest("read_cells"),
    )


def _read(bundle: Path, described: Described) -> Raw:
    layout = detect(bundle)
    table = read_cells(layout.cells)
    ids = pd.Index(table["cell_id"])
    return Raw(
        where=str(bundle),
        cells=table,
        polygons=read_polygons(layout.cell_boundaries, ids),
        n_nuclei=count_nuclei(layout.nucleus_boundaries, ids) if layout.nucleus_boundaries else None,
        counts=read_counts(layout.matrix, read_panel(layout.gene_panel) if layout.gene_panel else None),
        shape_px=described.shape_px,
        pixel_size_um=described.pixel_size_um,
    )


def _with_labels(joined: Joined, raw: Raw, path: Path | None) -> tuple[pd.DataFrame, dict[str, int]]:
    if path is None:
        return joined.table, {}
    labels = read_labels(path, pd.Index(raw.cells["cell_id"])).iloc[joined.cell_rows].reset_index(drop=True)
    table = pd.concat([joined.table, labels], axis=1)
    return table, {str(name).removeprefix("label_"): int(labels[name].notna().sum()) for name in labels}


def _write_counts(path: Path, counts: Counts, joined: Joined) -> None:
    data = anndata.AnnData(
        X=counts.matrix[joined.count_rows],
        obs=pd.DataFrame(index=pd.Index(joined.table["cell_id"], name="cell_id")),
        var=pd.DataFrame({"symbol": list(counts.symbols)}, index=pd.Index(counts.gene_ids, name="gene_id")),
    )
    write_h5ad(path, data, compression="gzip", compression_opts=1)
