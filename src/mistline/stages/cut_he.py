"""Cut the records of one scale out of the registered H&E: same keys and squares as the scale's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.shards import Shards
from mistline.core.files import read_parquet
from mistline.core.provenance import record
from mistline.mist import he_crops
from mistline.mist.pyramid import RowWindow
from mistline.store.shard import ShardWriter
from mistline.workflow.digest import code_digest


def run(
    image: Annotated[Path, typer.Option(help="the registered H&E (OME-Zarr)")],
    index: Annotated[Path, typer.Option(help="the scale's index (parquet)")],
    shards: Annotated[Path, typer.Option(help="the shard folder to write")],
    params: Annotated[str, typer.Option(help="the shards section, as JSON")],
    threads: Annotated[int, typer.Option(min=1, help="records compressed at a time")] = 1,
) -> None:
    """Write the H&E shards of one scale."""
    settings = load_section(Shards, params, "shards")
    squares = he_crops.squares_of(read_parquet(index, made_by="cut_crops or cut_tiles for this slide"))
    window = RowWindow(image)
    expected = he_crops.expected_bytes(squares, window.n_channels)
    with ShardWriter(shards, expected, settings.max_gb) as writer:
        he_crops.cut(window, squares, writer, threads)
    record(
        "cut_he",
        outputs=[shards],
        inputs={"image": image, "index": index},
        params=settings.model_dump(mode="json"),
        code=code_digest("cut_he"),
    )
