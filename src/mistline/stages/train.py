"""Train a registered model on the sealed dataset."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.models.contract import Source
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import Identity, ModelFiles
from mistline.train.device import pick_device
from mistline.train.job import Job, check_files, launch
from mistline.train.source import open_source
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules


def run(
    dataset: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    registry_name: Annotated[str, typer.Option(help="Name in the registry of models.")],
    config: Annotated[Path, typer.Option(help="What the model is (JSON) to write.")],
    weights: Annotated[Path, typer.Option(help="Weights (safetensors) to write.")],
    genes: Annotated[Path, typer.Option(help="Genes the model reads (txt) to write.")],
    metrics: Annotated[Path, typer.Option(help="Course of the training (jsonl) to write.")],
    card: Annotated[Path, typer.Option(help="Model card (markdown) to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the training.")],
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")] = "{}",
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
    """Train a model."""
    package = find("models", registry_name, "--registry-name")
    section = load_section(importlib.import_module(f"{package}.params").Params, params, f"models.{model}.params")
    files = ModelFiles(config, weights, genes, metrics, card)
    check_files(files)
    version = read_manifest(dataset).version
    job = Job(
        stage="train",
        manifest=dataset,
        inputs={},
        open=partial(_open, dataset, scratch),
        package=package,
        section=section,
        identity=Identity(model, registry_name, section.model_dump(mode="json"), seed, version),
        files=files,
        code=code_digest("train", *folder_modules(package)),
        device=pick_device(devices),
        threads=threads,
    )
    launch(job, devices)


def _open(dataset: Path, scratch: Path | None, split: str, workers: int) -> Source:
    return open_source(dataset, split, workers=workers, scratch=scratch)  # type: ignore[arg-type]
