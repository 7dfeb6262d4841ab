"""What every stage that trains a model does: start its processes, train, write the five files, forget the state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from mistline.config.base import Section
from mistline.core.errors import ConfigError
from mistline.core.files import remove
from mistline.core.provenance import record
from mistline.models.contract import Context, Source
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import GENES, WEIGHTS, Identity, ModelFiles, save
from mistline.train.device import cpu_threads, gpu_count
from mistline.train.distributed import Place, found, joined
from mistline.train.run import is_trainable, train
from mistline.train.spawn import spawn

Open = Callable[[str, int], Source]  # split and number of processes that may read ahead -> its records


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of a training is told; it travels as a pickle.

    Args:
        stage: that trains.
        manifest: of the sealed dataset.
        inputs: option name -> what else is read, for the sidecars.
        open: what opens a split.
        package: of the registered model.
        section: its settings.
        identity: what the trained model will be.
        files: to write.
        code: digest of the stage's and the model's code.
        device: cpu or cuda.
        threads: CPU threads of one process.
    """

    stage: str
    manifest: Path
    inputs: Mapping[str, Path]
    open: Open
    package: str
    section: Section
    identity: Identity
    files: ModelFiles
    code: str
    device: str
    threads: int

    def of(self, place: Place) -> str:
        """Return the device of one of several processes."""
        return f"cuda:{place.local % gpu_count()}" if self.device == "cuda" and place.world > 1 else self.device

    def resume(self) -> Path:
        """Return the folder of an unfinished training's state: of these settings and this code, and no other's."""
        told = json.dumps([asdict(self.identity), self.code], sort_keys=True)
        return self.files.weights.parent / "resume" / hashlib.sha256(told.encode()).hexdigest()[:16]


def check_files(files: ModelFiles) -> None:
    """Refuse files that `checkpoint.load` would not find.

    Raises:
        ConfigError: weights and genes have other names, or lie elsewhere than the config.
    """
    folders = {files.weights.parent, files.genes.parent, files.config.parent}
    if (files.weights.name, files.genes.name) != (WEIGHTS, GENES) or len(folders) > 1:
        raise ConfigError("train", "the model's files lie apart", f"write {WEIGHTS} and {GENES} beside --config")


def launch(job: Job, devices: int) -> None:
    """Train in this process, or in one for each of several GPUs.

    Args:
        job: what to do.
        devices: GPUs granted.
    """
    place = found()
    one_of_few = job.device == "cuda" and place.world == 1 and is_trainable(job.package)
    world = min(devices, gpu_count()) if one_of_few else 1
    if world > 1:
        spawn(world, partial(work, replace(job, threads=max(job.threads // world, 1))))
    else:
        with joined(place, job.of(place)):
            work(job, place)


def work(job: Job, place: Place) -> None:
    """Train in one process; the one of rank 0 writes the files."""
    context = Context(job.identity.seed, job.of(place), job.threads, job.resume())
    parts = {name: job.open(name, job.threads - 1) for name in ("train", "val")}
    with cpu_threads(job.threads):
        trained = train(job.package, job.section, parts["train"], parts["val"], context)
    if place.rank:
        return
    files = job.files
    cells = {f"{name} cells": part.count() for name, part in parts.items()}
    save(files, job.identity, trained, {**cells, **_cohort(job.manifest)})
    record(
        job.stage,
        outputs=[files.config, files.weights, files.genes, files.metrics, files.card],
        inputs={"dataset": job.manifest, **job.inputs},
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
