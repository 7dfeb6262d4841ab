"""Train a registered model on the sealed dataset."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import Section, load_section
from mistline.core.errors import ConfigError
from mistline.core.files import remove
from mistline.core.provenance import record
from mistline.models.contract import Context
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import GENES, WEIGHTS, Identity, ModelFiles, save
from mistline.train.device import cpu_threads, gpu_count, pick_device
from mistline.train.distributed import Place, found, joined
from mistline.train.run import is_trainable, train
from mistline.train.source import open_source
from mistline.train.spawn import spawn
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
    version = read_manifest(dataset).version
    identity = Identity(model, registry_name, section.model_dump(mode="json"), seed, version)
    files = ModelFiles(config, weights, genes, metrics, card)
    code = code_digest("train", *folder_modules(package))
    job = _Job(dataset, package, section, identity, files, code, pick_device(devices), threads, scratch)
    place = found()
    world = min(devices, gpu_count()) if job.device == "cuda" and place.world == 1 and is_trainable(package) else 1
    if world > 1:
        spawn(world, partial(_train, replace(job, threads=max(threads // world, 1))))
    else:
        with joined(place, job.of(place)):
            _train(job, place)


@dataclass(frozen=True, slots=True)
class _Job:
    """What every process of a training is told; it travels as a pickle."""

    dataset: Path
    package: str
    section: Section
    identity: Identity
    files: ModelFiles
    code: str
    device: str
    threads: int
    scratch: Path | None

    def of(self, place: Place) -> str:
        """Return the device of one of several processes."""
        return f"cuda:{place.local % gpu_count()}" if self.device == "cuda" and place.world > 1 else self.device

    def resume(self) -> Path:
        """Return the folder of an unfinished training's state: of these settings and this code, and no other's."""
        told = json.dumps([asdict(self.identity), self.code], sort_keys=True)
        return self.files.weights.parent / "resume" / hashlib.sha256(told.encode()).hexdigest()[:16]


def _train(job: _Job, place: Place) -> None:
    """Train in one process; the one of rank 0 writes the files."""
    context = Context(job.identity.seed, job.of(place), job.threads, job.resume())
    workers = job.threads - 1
    parts = {name: open_source(job.dataset, name, workers=workers, scratch=job.scratch) for name in ("train", "val")}
    with cpu_threads(job.threads):
        trained = train(job.package, job.section, parts["train"], parts["val"], context)
    if place.rank:
        return
    files = job.files
    cells = {f"{name} cells": part.count() for name, part in parts.items()}
    save(files, job.identity, trained, {**cells, **_cohort(job.dataset)})
    record(
        "train",
        outputs=[files.config, files.weights, files.genes, files.metrics, files.card],
        inputs={"dataset": job.dataset},
        params=job.section.model_dump(mode="json"),
        code=job.code,
        seed=job.identity.seed,
    )
    remove(context.resume.parent)


def _cohort(manifest: Path) -> dict[str, list[str]]:
    """Return whose tissue the dataset is of, for the card; which donors are trained on is in its splits."""
    slides = read_manifest(manifest).slides.values()
    plural = {"donor": "donors", "tissue": "tissues", "disease": "diseases"}
    return {f"{many} of the dataset": sorted({str(slide[one]) for slide in slides}) for one, many in plural.items()}
