"""Cut the image patch of every cell or spot of a table into shards, and write the index that describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mistline.config.base import load_section
from mistline.config.patches import Patches
from mistline.config.shards import Shards
from mistline.core.errors import InputError
from mistline.core.files import read_json, read_parquet, write_json, write_parquet, writing
from mistline.core.provenance import record
from mistline.mist import patches
from mistline.spots.picture import open_picture
from mistline.store.shard import ShardWriter
from mistline.workflow.digest import code_digest


def run(
    image: Annotated[Path, typer.Option(help="the slide's image: RGB as TIFF, JPEG or PNG")],
    bundle_report: Annotated[Path, typer.Option(help="bundle.json of the table")],
    cells: Annotated[Path, typer.Option(help="cells.parquet")],
    slide: Annotated[str, typer.Option(help="the slide's name")],
    donor: Annotated[str, typer.Option(help="whose tissue it is")],
    shards: Annotated[Path, typer.Option(help="the shard folder to write")],
    index: Annotated[Path, typer.Option(help="the index (parquet) to write")],
    summary: Annotated[Path, typer.Option(help="patches.json to write: scale, sides and what was padded")],
    image_um_per_px: Annotated[
        float | None, typer.Option(help="micrometres a pixel of the image; absent: a unit of the coordinates is one")
    ] = None,
    params: Annotated[str, typer.Option(help="the patches section, as JSON")] = "{}",
    shard_gb: Annotated[float, typer.Option(min=0.001, help="largest size of one shard file")] = Shards().max_gb,
    threads: Annotated[int, typer.Option(min=1, help="records made at a time")] = 1,
) -> None:
    """Write the patches and their index."""
    settings = load_section(Patches, params, "patches")
    um_per_px, source = _scale(read_json(bundle_report), slide, image_um_per_px)
    table = read_parquet(cells, ("cell_id", "x_um", "y_um"), made_by="read_table for this slide")
    with writing(shards.parent):
        shards.parent.mkdir(parents=True, exist_ok=True)
    with open_picture(image, shards.parent) as picture:
        described = patches.index_of(table, picture.shape_px, um_per_px, settings, patches.Owner(slide, donor))
        with ShardWriter(shards, patches.expected_bytes(len(described), settings.size_px), shard_gb) as writer:
            colours = patches.cut(picture, described, settings.size_px, writer, threads)
        shape_px = picture.shape_px
    described[list(patches.CHANNELS)] = colours
    write_parquet(index, described)
    about: dict[str, Any] = {
        "slide": slide,
        "shape_px": list(shape_px),
        "um_per_px": um_per_px,
        "um_per_px_from": source,
        "side_px": int(described["side_px"].iloc[0]),
        "side_um": float(described["side_um"].iloc[0]),
        "size_px": settings.size_px,
        "channels": list(patches.CHANNELS),
        "records": len(described),
        "padded": int(described["is_padded"].sum()),
    }
    write_json(summary, about)
    record(
        "cut_patches",
        outputs=[shards, index, summary],
        inputs={"image": image, "bundle": bundle_report, "cells": cells},
        params=settings.model_dump(mode="json")
        | {"image_um_per_px": image_um_per_px, "shard_gb": shard_gb, "slide": slide, "donor": donor},
        code=code_digest("cut_patches"),
    )


def _scale(bundle: dict[str, Any], slide: str, given: float | None) -> tuple[float, str]:
    """Return micrometres a pixel of the image, and who says so."""
    if not bundle["has_coordinates"]:
        what = "has an image, and its table has no coordinates on it"
        raise InputError(f"slide {slide}", what, "remove image, or add obsm['spatial'] to the table")
    if given is not None:
        return given, "image_um_per_px of the slide"
    return float(bundle["um_per_unit"]), "um_per_unit: the coordinates are pixels of the image"
