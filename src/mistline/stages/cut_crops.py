"""Cut one crop a cell, with its genes, into shards, and write the index that describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.crops import Crops
from mistline.config.scales import load_scales
from mistline.config.shards import Shards
from mistline.core.files import read_parquet, write_parquet
from mistline.core.provenance import record
from mistline.mist import crops
from mistline.mist.described import read_described
from mistline.mist.expression import CountsFile
from mistline.mist.pyramid import RowWindow
from mistline.store.shard import ShardWriter
from mistline.workflow.digest import code_digest


def run(
    image: Annotated[Path, typer.Option(help="the slide's OME-Zarr")],
    image_summary: Annotated[Path, typer.Option(help="image.json")],
    cells: Annotated[Path, typer.Option(help="cells.parquet")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad")],
    shards: Annotated[Path, typer.Option(help="the shard folder to write")],
    index: Annotated[Path, typer.Option(help="the index (parquet) to write")],
    slide: Annotated[str, typer.Option(help="the slide's name")],
    donor: Annotated[str, typer.Option(help="whose tissue it is")],
    params: Annotated[str, typer.Option(help="the crops section, as JSON")],
    scales: Annotated[str, typer.Option(help="the scales section, as JSON")],
    shard_gb: Annotated[float, typer.Option(min=0.001, help="largest size of one shard file")] = Shards().max_gb,
    threads: Annotated[int, typer.Option(min=1, help="records compressed at a time")] = 1,
) -> None:
    """Write the cell shards and their index."""
    settings = load_section(Crops, params, "crops")
    all_scales = load_scales(scales)
    pixel_size_um = read_described(image_summary).pixel_size_um
    table = read_parquet(cells, crops.COLUMNS, made_by="read_cells for this slide")
    squares = crops.boxes(table, pixel_size_um, settings)
    described = crops.index_of(table, squares, pixel_size_um, all_scales, slide, donor)
    with CountsFile(counts) as rows:
        crops.require_same_cells(table, rows, cells)
        window = RowWindow(image)
        expected = crops.expected_bytes(described, window.n_channels)
        with ShardWriter(shards, expected, shard_gb) as writer:
            crops.cut(window, described, pixel_size_um, rows, writer, threads)
    write_parquet(index, described)
    record(
        "cut_crops",
        outputs=[shards, index],
        inputs={"image": image, "image_summary": image_summary, "cells": cells, "counts": counts},
        params=settings.model_dump(mode="json")
        | {
            "shard_gb": shard_gb,
            "slide": slide,
            "donor": donor,
            "scales": [item.model_dump(mode="json") for item in all_scales],
        },
        code=code_digest("cut_crops"),
    )
