"""Train a registered generator of cell images on encoded cells."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mistline.config.base import load_section
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import Identity, ModelFiles
from mistline.train.device import pick_device
from mistline.train.encoded import check_pairs, open_encoded
from mistline.train.job import Job, check_files, launch
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    registry_name: Annotated[str, typer.Option(help="Name in the registry of models.")],
    latents: Annotated[list[Path], typer.Option(help="Folder of encode-cells, named as its slide; repeated.")],
    config: Annotated[Path, typer.Option(help="What the model is (JSON) to write.")],
    weights: Annotated[Path, typer.Option(help="Weights (safetensors) to write.")],
    genes: Annotated[Path, typer.Option(help="Genes the model reads (txt) to write; none.")],
    metrics: Annotated[Path, typer.Option(help="Course of the training (jsonl) to write.")],
    card: Annotated[Path, typer.Option(help="Model card (markdown) to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the training.")],
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Pairs (parquet) of pair-cells, for a flow; repeated.")
    ] = None,
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Train a generator."""
    package = find("models", registry_name, "--registry-name")
    section = load_section(importlib.import_module(f"{package}.params").Params, params, f"models.{model}.params")
    check_pairs(package, pairs or ())
    files = ModelFiles(config, weights, genes, metrics, card)
    check_files(files)
    version = read_manifest(manifest).version
    read = {f"latents:{folder.name}": folder for folder in latents} | {f"pairs:{own.name}": own for own in pairs or ()}
    job = Job(
        stage="train_generator",
        manifest=manifest,
        inputs=read,
        open=partial(_open, tuple(latents), tuple(pairs or ()), version),
        package=package,
        section=section,
        identity=Identity(model, registry_name, section.model_dump(mode="json"), seed, version),
        files=files,
        code=code_digest("train_generator", *folder_modules(package)),
        device=pick_device(devices),
        threads=threads,
    )
    launch(job, devices)


def _open(latents: tuple[Path, ...], pairs: tuple[Path, ...], version: str, split: str, workers: int) -> Any:
    del workers
    return open_encoded(latents, pairs, split, version)  # type: ignore[arg-type]
