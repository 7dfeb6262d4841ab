"""Rule read_table: read a slide given as an h5ad or a Visium folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import anndata
import pandas as pd
import typer

from mistline.config.base import load_section, validate
from mistline.config.cells import Cells
from mistline.config.slides import Slide
from mistline.core.files import atomic_path, write_json, write_parquet
from mistline.core.provenance import record
from mistline.mist.labels import read_labels
from mistline.mist.spots import Kept, keep
from mistline.spots.reading import read_table
from mistline.spots.table import Table
from mistline.workflow.digest import code_digest
from mistline.xenium.panel import kind_of_ids

logger = logging.getLogger("mistline.stages")


def run(
    table: Annotated[Path, typer.Option(help="an h5ad, or a Visium folder")],
    slide: Annotated[str, typer.Option(help="the slide's name")],
    donor: Annotated[str, typer.Option(help="whose tissue it is")],
    tissue: Annotated[str, typer.Option(help="organ")],
    disease: Annotated[str, typer.Option(help="diagnosis, or healthy")],
    report: Annotated[Path, typer.Option(help="bundle.json to write: what the table is")],
    cells: Annotated[Path, typer.Option(help="cells.parquet to write: the kept cells")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad to write: their values")],
    summary: Annotated[Path, typer.Option(help="cells.json to write: what was kept and excluded, and why")],
    values: Annotated[str, typer.Option(help="what the matrix holds: counts, normalised or log")] = "counts",
    um_per_unit: Annotated[float | None, typer.Option(help="micrometres of one unit of the coordinates")] = None,
    labels: Annotated[Path | None, typer.Option(help="csv with cell_id and known labels")] = None,
    params: Annotated[str, typer.Option(help="the section cells, as JSON")] = "{}",
) -> None:
    """Read a table; exclude, with a reason, cells that cannot be used."""
    section = load_section(Cells, params, "cells")
    given = {"slide": slide, "table": str(table), "donor": donor, "tissue": tissue, "disease": disease}
    entry = validate(Slide, given | {"values": values, "um_per_unit": um_per_unit}, "read-table")
    found = read_table(table, entry.values, um_per_unit)
    known = read_labels(labels, pd.Index(found.cell_ids)) if labels else None
    kept = keep(found, section, values, known)
    for problem in found.problems:
        logger.warning("%s: %s; %s.", table, problem["what"], problem["remedy"])
    write_json(report, _describe(entry, found))
    write_parquet(cells, kept.table)
    _write_counts(counts, found, kept, values)
    write_json(summary, {"slide": slide, **kept.summary})
    record(
        "read_table",
        outputs=[report, cells, counts, summary],
        inputs={"table": table} | ({"labels": labels} if labels else {}),
        params=section.model_dump(mode="json") | {"values": values, "um_per_unit": um_per_unit},
        code=code_digest("read_table"),
    )


def _describe(entry: Slide, found: Table) -> dict[str, Any]:
    places, genes = found.places, found.genes
    return {
        **entry.model_dump(mode="json", include={"slide", "donor", "tissue", "disease", "values"}),
        "kind": found.kind,
        "has_coordinates": places is not None,
        "um_per_unit": places.um_per_unit if places else None,
        "um_per_unit_from": places.source if places else None,
        "panel": {
            "name": None,
            "n_genes": len(genes.ids),
            "n_controls": dict(genes.other_features),
            "gene_ids": kind_of_ids(genes.ids),
        },
        "n_cells": len(found.cell_ids),
        "problems": list(found.problems),
        "files": dict(found.files),
    }


def _write_counts(path: Path, found: Table, kept: Kept, values: str) -> None:
    data = anndata.AnnData(
        X=found.genes.matrix[kept.rows],
        obs=pd.DataFrame(index=pd.Index(kept.table["cell_id"], name="cell_id")),
        var=pd.DataFrame(
            {"symbol": pd.Series(found.genes.symbols, dtype=object).to_numpy()},
            index=pd.Index(found.genes.ids, name="gene_id", dtype=object),
        ),
        uns={"values": values},
    )
    with atomic_path(path) as part:
        data.write_h5ad(part, compression="gzip", compression_opts=1)
