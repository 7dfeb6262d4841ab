"""Change genes of circles of the test slides, and generate the rings around them with a trained generator of cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.perturbation import Perturbation
from mistline.core.errors import InputError
from mistline.core.provenance import record
from mistline.infer.fill_slides import read_cells
from mistline.infer.fillers import load_filler
from mistline.infer.perturb_slides import Opened, perturb_slides
from mistline.mist.metacells import Vocabulary, read_vocabulary
from mistline.store.manifest import read_manifest
from mistline.store.perturbed import write_perturbed
from mistline.train.device import cpu_threads, pick_device
from mistline.train.source import open_source


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    generator: Annotated[Path, typer.Option(help="config.json of the generator; its weights lie beside it.")],
    perturbed: Annotated[Path, typer.Option(help="Generated rings (parquet) to write.")],
    params: Annotated[str, typer.Option(help="Settings of the perturbation, as JSON.")],
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
    """Change circles of the test slides and generate what lies around them."""
    rule, sealed = load_section(Perturbation, params, "perturbation"), read_manifest(manifest)
    found = load_filler(generator, sealed.version)

    def opened(slide: str) -> Opened:
        whole, test = (open_source(manifest, split, (slide,), threads - 1, scratch) for split in (None, "test"))
        return Opened(read_cells(found.model, whole, test), whole)

    def vocabulary() -> Vocabulary:
        if "metacells" not in sealed.content:
            raise InputError(manifest, "the dataset has no meta-cells", "train the model with meta-cells of its own")
        return read_vocabulary(sealed.locate(sealed.content["metacells"]["path"]))

    with cpu_threads(threads):
        found.model.net.to(pick_device(devices)).eval()
        slides = [(name, partial(opened, name)) for name in open_source(manifest, "test").slides]
        cells = perturb_slides(found.model, slides, rule, found.origin, vocabulary)
    write_perturbed(perturbed, cells)
    record(
        "perturb",
        outputs=[perturbed],
        inputs={"manifest": manifest, "generator": generator},
        params=rule.model_dump(mode="json"),
        code=found.code("perturb"),
        seed=found.origin.seed,
    )
