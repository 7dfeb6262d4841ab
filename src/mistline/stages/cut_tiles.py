"""Cut the tiles of one grid scale, with the summed genes of their cells, into shards; write their index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.scales import load_scales
from mistline.config.shards import Shards
from mistline.core.errors import ConfigError
from mistline.core.files import read_parquet, write_parquet
from mistline.core.provenance import record
from mistline.mist import tiles
from mistline.mist.crops import require_same_cells
from mistline.mist.described import read_described
from mistline.mist.expression import CountsFile
from mistline.mist.pyramid import RowWindow
from mistline.store.shard import ShardWriter
from mistline.workflow.digest import code_digest


def run(
    scale: Annotated[str, typer.Option(help="name of the grid scale")],
    image: Annotated[Path, typer.Option(help="the slide's OME-Zarr")],
    image_summary: Annotated[Path, typer.Option(help="image.json")],
    cells: Annotated[Path, typer.Option(help="cells.parquet")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad")],
    shards: Annotated[Path, typer.Option(help="the shard folder to write")],
    index: Annotated[Path, typer.Option(help="the index (parquet) to write")],
    slide: Annotated[str, typer.Option(help="the slide's name")],
    donor: Annotated[str, typer.Option(help="whose tissue it is")],
    params: Annotated[str, typer.Option(help="the shards section, as JSON")],
    scales: Annotated[str, typer.Option(help="the scales section, as JSON")],
    threads: Annotated[int, typer.Option(min=1, help="tiles compressed at a time")] = 1,
) -> None:
    """Write the shards of one grid scale and their index."""
    settings = load_section(Shards, params, "shards")
    all_scales = load_scales(scales)
    sizes = {item.name: item.size_px for item in all_scales if item.size_px is not None}
    if scale not in sizes:
        raise ConfigError("scales", f"no grid scale {scale!r}", f"choose one of {', '.join(sizes)}")
    pixel_size_um = read_described(image_summary).pixel_size_um
    table = read_parquet(cells, made_by="read_cells for this slide")
    grid = tiles.grid_of(table, pixel_size_um, scale, sizes[scale])
    with CountsFile(counts) as rows:
        require_same_cells(table, rows, cells)
        window = RowWindow(image)
        expected = tiles.expected_bytes(grid, window.n_channels)
        with ShardWriter(shards, expected, settings.max_gb) as writer:
            sums = tiles.cut(window, grid, rows, writer, threads)
    write_parquet(index, tiles.index_of(grid, sums, pixel_size_um, all_scales, slide, donor))
    record(
        "cut_tiles",
        outputs=[shards, index],
        inputs={"image": image, "image_summary": image_summary, "cells": cells, "counts": counts},
        params=settings.model_dump(mode="json")
        | {
            "scale": scale,
            "slide": slide,
            "donor": donor,
            "scales": [item.model_dump(mode="json") for item in all_scales],
        },
        code=code_digest("cut_tiles"),
    )
