"""Train a registered model on the sealed dataset."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.core.errors import ConfigError
from mistline.core.files import remove
from mistline.core.provenance import record
from mistline.models.contract import Context
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import GENES, WEIGHTS, Identity, ModelFiles, save
from mistline.train.device import cpu_threads, pick_device
from mistline.train.run import train
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
    if (weights.name, genes.name) != (WEIGHTS, GENES) or len({weights.parent, genes.parent, config.parent}) > 1:
        raise ConfigError("train", "the model's files lie apart", f"write {WEIGHTS} and {GENES} beside --config")
    context = Context(seed, pick_device(devices), threads, resume=weights.parent / "resume")
    parts = {
        split: open_source(dataset, split=split, workers=threads - 1, scratch=scratch) for split in ("train", "val")
    }
    with cpu_threads(threads):
        trained = train(package, section, parts["train"], parts["val"], context)
    version = read_manifest(dataset).version
    identity = Identity(model, registry_name, section.model_dump(mode="json"), seed, version)
    files = ModelFiles(config, weights, genes, metrics, card)
    save(files, identity, trained, {f"{split} cells": part.count() for split, part in parts.items()})
    record(
        "train",
        outputs=[config, weights, genes, metrics, card],
        inputs={"dataset": dataset},
        params=section.model_dump(mode="json"),
        code=code_digest("train", *folder_modules(package)),
        seed=seed,
    )
    remove(context.resume)
