"""Embed every cell of a slide with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.core.errors import InputError
from mistline.core.provenance import record
from mistline.infer.embed import write_blocks
from mistline.models.contract import Context
from mistline.store.embeddings import Origin
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import load
from mistline.train.device import cpu_threads, pick_device
from mistline.train.source import open_source
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules


def run(
    dataset: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    model_config: Annotated[Path, typer.Option(help="config.json of the model; its weights lie beside it.")],
    slide: Annotated[str, typer.Option(help="Slide to embed.")],
    embedding: Annotated[Path, typer.Option(help="Embedding (parquet) to write.")],
    h5ad: Annotated[Path, typer.Option(help="Embedding (h5ad) to write.")],
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
    """Embed a slide."""
    found = load(model_config)
    identity = found.identity
    version = read_manifest(dataset).version
    if identity.dataset_version != version:
        what = f"trained on dataset version {identity.dataset_version[:12]}, this one is {version[:12]}"
        raise InputError(model_config, what, "run train again")
    source = open_source(dataset, slides=(slide,), workers=threads - 1, scratch=scratch)
    context = Context(identity.seed, pick_device(devices), threads, resume=embedding.parent / "resume")
    origin = Origin(identity.name, identity.seed, found.weights_sha256, version)
    with cpu_threads(threads):
        write_blocks(found.model.embed(source, context), embedding, h5ad, origin, source.count())
    record(
        "embed",
        outputs=[embedding, h5ad],
        inputs={"dataset": dataset, "model_config": model_config},
        params={"slide": slide, "model": identity.name},
        code=code_digest("embed", *folder_modules(find("models", identity.registry_name, str(model_config)))),
        seed=identity.seed,
    )
