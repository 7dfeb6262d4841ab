"""Draw images of test cells with a trained generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section
from mistline.config.generation import Sampling
from mistline.core.errors import InputError
from mistline.core.provenance import record
from mistline.infer.generate import Drawer, check, check_protocol, draw, tested
from mistline.store.embeddings import Origin
from mistline.store.manifest import read_manifest
from mistline.store.pictures import Pictures, write_pictures
from mistline.train.checkpoint import load
from mistline.train.device import cpu_threads, pick_device
from mistline.train.encoded import check_pairs, open_encoded
from mistline.train.pairs import PairSource
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules

_SUBSET = "tested cells that a pair leads to"


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    generator: Annotated[Path, typer.Option(help="config.json of the generator; its weights lie beside it.")],
    autoencoder: Annotated[Path, typer.Option(help="config.json of the autoencoder; its weights lie beside it.")],
    latents: Annotated[list[Path], typer.Option(help="Folder of encode-cells, named as its slide; repeated.")],
    protocol: Annotated[str, typer.Option(help="What the generator is told of a cell.")],
    pictures: Annotated[Path, typer.Option(help="Images (safetensors) to write.")],
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Pairs (parquet) of pair-cells, for a flow; repeated.")
    ] = None,
    n_cells: Annotated[int, typer.Option(min=1, help="Test cells drawn of each slide.")] = 500,
    sampling: Annotated[str, typer.Option(help="Settings of the sampler, as JSON.")] = "{}",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Draw images of test cells."""
    settings = load_section(Sampling, sampling, "generation.sampling")
    version = read_manifest(manifest).version
    found, coder = load(generator), load(autoencoder)
    identity, model = found.identity, found.model
    if identity.dataset_version != version:
        what = f"trained on dataset version {identity.dataset_version[:12]}, this one is {version[:12]}"
        raise InputError(generator, what, "run train_generator again")
    package = find("models", identity.registry_name, str(generator))
    made_for: Any = model.made_for  # type: ignore[attr-defined]
    check_protocol(made_for, protocol)
    check_pairs(package, pairs or ())
    source = open_encoded(latents, pairs or (), "test", version)
    check(made_for, source.origin, coder.weights_sha256, str(generator))
    drawer = Drawer.on(pick_device(devices), model, coder.model)
    with cpu_threads(threads):
        cells = source.read(_tested(source, n_cells))
        drawn = draw(drawer, cells, protocol, settings, seed)
    about = {
        "protocol": protocol,
        "sampling": settings.model_dump(mode="json"),
        "image_size": made_for.image_size,
        "channels": list(drawer.autoencoder.channels),
        "seconds_per_image": drawn.seconds_per_image,
        **({"subset": _SUBSET} if isinstance(source, PairSource) else {}),
    }
    origin = Origin(identity.name, identity.seed, found.weights_sha256, version)
    write_pictures(pictures, Pictures(np.array(cells.slide), np.array(cells.record_id), drawn.images, origin, about))
    read = {f"latents:{folder.name}": folder for folder in latents} | {f"pairs:{own.name}": own for own in pairs or ()}
    record(
        "generate",
        outputs=[pictures],
        inputs={"manifest": manifest, "generator": generator, "autoencoder": autoencoder, **read},
        params={"protocol": protocol, "n_cells": n_cells, "sampling": settings.model_dump(mode="json")},
        code=code_digest("generate", *folder_modules(package)),
        seed=seed,
    )


def _tested(source: Any, n_cells: int) -> NDArray[np.int64]:
    """Return rows of the source that are drawn; of pairs the surest that leads to each tested cell."""
    if not isinstance(source, PairSource):
        return tested(source.cells, n_cells)
    rows = source.reaching(source.cells.iloc[tested(source.cells, n_cells)])
    if not len(rows):
        raise InputError("pairs", "none leads to a tested cell", "ask for other transitions or a coarser niche")
    return rows
