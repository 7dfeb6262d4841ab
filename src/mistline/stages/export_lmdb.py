"""Command export-lmdb: the images of a sealed dataset in the form that the published SPATIA loader reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mistline.core.errors import ConfigError
from mistline.core.files import read_parquet
from mistline.core.provenance import record
from mistline.export.published_lmdb import SIDE_PX, Source, write_published
from mistline.store.manifest import Manifest, read_manifest
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.export")


def run(
    dataset: Annotated[Path, typer.Option(help="manifest.json of the sealed dataset, or the result folder")],
    out: Annotated[Path, typer.Option(help="the LMDB file to write")],
    slide: Annotated[list[str] | None, typer.Option(help="a slide to export; repeated; all without it")] = None,
    scale: Annotated[str, typer.Option(help="cell, or a grid scale")] = "cell",
    channel: Annotated[str | None, typer.Option(help="the stain; the dataset's first without it")] = None,
) -> None:
    """Write one LMDB of 256 x 256 raw images, keyed {slide}/{cell_id}."""
    manifest = read_manifest(dataset)
    _require_known("--scale", [scale], list(manifest.scales))
    _require_known("--slide", list(slide or []), list(manifest.slides))
    _require_known("--channel", [channel] if channel else [], list(manifest.channels))
    chosen = channel or manifest.channels[0]
    names = list(dict.fromkeys(slide or manifest.slides))
    sources = [_source(manifest, name, scale) for name in names]
    n = write_published(out, sources, manifest.channels.index(chosen))
    logger.info("%s: %d images of %d slides, %s, %.2f GB", out, n, len(names), chosen, out.stat().st_size / 1e9)
    record(
        "export_lmdb",
        outputs=[out],
        inputs={"dataset": manifest.path},
        params={"slides": names, "scale": scale, "channel": chosen},
        code=code_digest("export_lmdb"),
    )


def _source(manifest: Manifest, slide: str, scale: str) -> Source:
    entry = manifest.slides[slide]["scales"][scale]
    index = manifest.locate(entry["index"]["path"])
    if manifest.scales[scale]["unit"] == "cell":
        ids = read_parquet(index, ["cell_id"])["cell_id"].tolist()
    else:
        tiles = read_parquet(index, ["row", "col", "side_px"]).itertuples(index=False)
        ids = [f"grid_{row}_{column}_{side}_{SIDE_PX}" for row, column, side in tiles]
    return Source(slide, ids, manifest.locate(entry["shards"]["path"]))


def _require_known(option: str, values: list[str], known: list[str]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"export-lmdb {option}", f"unknown {', '.join(unknown)}", f"choose from {', '.join(known)}")
