"""Put the H&E of a slide on the DAPI image's grid, after checking that it lies where its alignment says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from mistline.config.base import load_section
from mistline.config.cells import Cells
from mistline.core.files import atomic_path, read_json, read_parquet, write_json, write_parquet
from mistline.core.provenance import record
from mistline.mist.he_register import Slide, register
from mistline.workflow.digest import code_digest
from mistline.xenium.alignment import read_alignment
from mistline.xenium.histology import open_histology

logger = logging.getLogger("mistline.mist")


def run(
    he_image: Annotated[Path, typer.Option(help="the H&E (OME-TIFF or TIFF, RGB)")],
    he_alignment: Annotated[Path, typer.Option(help="csv: matrix, affine or keypoints")],
    dapi: Annotated[Path, typer.Option(help="the slide's OME-Zarr")],
    image_summary: Annotated[Path, typer.Option(help="image.json")],
    cells: Annotated[Path, typer.Option(help="cells.parquet")],
    image: Annotated[Path, typer.Option(help="the OME-Zarr folder to write")],
    summary: Annotated[Path, typer.Option(help="he/image.json to write")],
    coverage: Annotated[Path, typer.Option(help="he/coverage.parquet to write: which cells the H&E shows")],
    params: Annotated[str, typer.Option(help="the cells section, as JSON")],
    threads: Annotated[int, typer.Option(min=1, help="tiles decoded at a time")] = 1,
) -> None:
    """Write the registered H&E, what was found out about its alignment, and the cells it shows."""
    settings = load_section(Cells, params, "cells")
    described: dict[str, Any] = read_json(image_summary)
    slide = Slide(
        described, dapi, read_parquet(cells, made_by="read_cells for this slide"), settings.max_excluded_share
    )
    alignment = read_alignment(he_alignment)
    with atomic_path(image) as part, open_histology(he_image, part.parent, threads) as histology:
        found, covered = register(slide, histology, alignment, part)
    for warning in found["warnings"]:
        logger.warning("slide %s, H&E: %s", described["slide"], warning)
    write_json(summary, found)
    write_parquet(coverage, covered)
    record(
        "register_he",
        outputs=[image, summary, coverage],
        inputs={
            "he_image": he_image,
            "he_alignment": he_alignment,
            "dapi": dapi,
            "image_summary": image_summary,
            "cells": cells,
        },
        params=settings.model_dump(mode="json", include={"max_excluded_share"}),
        code=code_digest("register_he"),
    )
