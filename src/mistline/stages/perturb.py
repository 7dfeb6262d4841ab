"""Change genes of circles of the test slides, and generate the rings around them with a trained generator of cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mistline.config.base import load_section
from mistline.config.perturbation import Perturbation
from mistline.core.errors import InputError
from mistline.core.provenance import record
from mistline.infer.fill_slides import read_cells
from mistline.infer.perturb_slides import Opened, perturb_slides
from mistline.mist.metacells import Vocabulary, read_vocabulary
from mistline.store.embeddings import Origin
from mistline.store.manifest import read_manifest
from mistline.store.perturbed import write_perturbed
from mistline.train.checkpoint import load
from mistline.train.device import cpu_threads, pick_device
from mistline.train.source import open_source
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules

_ASKED = ("tell", "expression", "window_um", "content_of")


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
    rule, sealed, found = load_section(Perturbation, params, "perturbation"), read_manifest(manifest), load(generator)
    identity = found.identity
    if identity.dataset_version != sealed.version:
        what = f"trained on dataset version {identity.dataset_version[:12]}, this one is {sealed.version[:12]}"
        raise InputError(generator, what, "run train again")
    model: Any = found.model
    if not all(hasattr(model, name) for name in _ASKED):
        what = f"a {identity.registry_name}, which cannot generate cells at a place"
        raise InputError(generator, what, "give a run of a generator of cells, such as gest")

    def opened(slide: str) -> Opened:
        whole, test = (open_source(manifest, split, (slide,), threads - 1, scratch) for split in (None, "test"))
        return Opened(read_cells(model, whole, test), whole)

    def vocabulary() -> Vocabulary:
        if "metacells" not in sealed.content:
            raise InputError(manifest, "the dataset has no meta-cells", "train the model with meta-cells of its own")
        return read_vocabulary(sealed.locate(sealed.content["metacells"]["path"]))

    origin = Origin(identity.name, identity.seed, found.weights_sha256, sealed.version)
    with cpu_threads(threads):
        model.net.to(pick_device(devices)).eval()
        slides = [(name, partial(opened, name)) for name in open_source(manifest, "test").slides]
        cells = perturb_slides(model, slides, rule, origin, vocabulary)
    write_perturbed(perturbed, cells)
    record(
        "perturb",
        outputs=[perturbed],
        inputs={"manifest": manifest, "generator": generator},
        params=rule.model_dump(mode="json"),
        code=code_digest("perturb", *folder_modules(find("models", identity.registry_name, str(generator)))),
        seed=identity.seed,
    )
