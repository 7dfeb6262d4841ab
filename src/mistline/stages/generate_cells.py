"""Hide squares of the test slides and fill them with a trained generator of cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.holes import SIDES_UM, Holes
from mistline.core.errors import ConfigError
from mistline.core.provenance import record
from mistline.infer.fill_slides import Cells, fill_slides, read_cells
from mistline.infer.fillers import load_filler
from mistline.store.filled import write_filled
from mistline.store.manifest import read_manifest
from mistline.train.device import cpu_threads, pick_device
from mistline.train.source import open_source


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    generator: Annotated[Path, typer.Option(help="config.json of the generator; its weights lie beside it.")],
    protocol: Annotated[str, typer.Option(help="Which holes: the protocol of the task unseen_generation.")],
    filled: Annotated[Path, typer.Option(help="Filled cells (parquet) to write.")],
    params: Annotated[str, typer.Option(help="Settings of the holes, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
    scratch: Annotated[
        Path | None,
        typer.Option(
            envvar="MISTLINE_SCRATCH",
            help="Folder on this node's own disk to copy the shards to first; without it they are read in place.",
        ),
    ] = None,
) -> None:
    """Fill hidden squares of the test slides."""
    rule = load_section(Holes, params, "holes")
    if protocol not in SIDES_UM:
        raise ConfigError("--protocol", f"unknown protocol {protocol!r}", f"choose one of {', '.join(SIDES_UM)}")
    found = load_filler(generator, read_manifest(manifest).version)

    def opened(slide: str) -> Cells:
        whole, test = (open_source(manifest, split, (slide,), threads - 1, scratch) for split in (None, "test"))
        return read_cells(found.model, whole, test)

    with cpu_threads(threads):
        found.model.net.to(pick_device(devices)).eval()
        slides = open_source(manifest, "test").slides
        cells = fill_slides(found.model, [partial(opened, name) for name in slides], protocol, rule, found.origin)
    write_filled(filled, cells)
    record(
        "generate_cells",
        outputs=[filled],
        inputs={"manifest": manifest, "generator": generator},
        params={"protocol": protocol, **rule.model_dump(mode="json")},
        code=found.code("generate_cells"),
        seed=found.origin.seed,
    )
