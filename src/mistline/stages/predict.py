"""Train a model on the labels of each fold of a task, and predict the cells it has not seen."""

from __future__ import annotations

import importlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from mistline.config.base import load_section
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import remove, write_text
from mistline.core.provenance import record
from mistline.core.seeds import derive
from mistline.models.contract import Context
from mistline.store.embeddings import Origin, read_origin
from mistline.store.folds import read_folds
from mistline.store.manifest import read_manifest
from mistline.store.predictions import write_predictions
from mistline.train.checkpoint import Checkpoint, load
from mistline.train.device import cpu_threads, pick_device
from mistline.train.images import open_images
from mistline.train.metacells import read_metacells
from mistline.train.predict import predict_fold
from mistline.train.problem import Folds, SlideFiles
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules

logger = logging.getLogger("mistline.train")


def run(
    task: Annotated[str, typer.Option(help="Name of the task.")],
    protocol: Annotated[str, typer.Option(help="Way of judging.")],
    label: Annotated[str, typer.Option(help="Label column that is predicted.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    registry_name: Annotated[str, typer.Option(help="Name in the registry of models.")],
    seed: Annotated[int, typer.Option(help="Seed of the training.")],
    slide: Annotated[list[str], typer.Option(help="Names of the slides; repeated.")],
    donor: Annotated[list[str], typer.Option(help="Donor of each slide; repeated.")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet of each slide; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    folds: Annotated[Path, typer.Option(help="The task's division of the cells (parquet).")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    predictions: Annotated[Path, typer.Option(help="Predictions (parquet) to write.")],
    metrics: Annotated[Path, typer.Option(help="Course of the trainings (jsonl) to write.")],
    embedding: Annotated[
        list[Path] | None, typer.Option(help="Embedding of each slide, run after run; repeated.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="config.json of the trained run that the model begins with.")
    ] = None,
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Train and predict, fold by fold."""
    package = find("models", registry_name, "--registry-name")
    section = load_section(importlib.import_module(f"{package}.params").Params, params, f"models.{model}.params")
    built_upon = [tuple((embedding or [])[number :: len(slide)]) for number in range(len(slide))]
    columns: tuple[list[Any], ...] = (slide, donor, cells, counts, built_upon)
    if len({len(column) for column in columns}) != 1 or len(embedding or []) % len(slide):
        raise ConfigError(
            "predict", "the options of the slides are not equally many", "repeat each of them once a slide"
        )
    version = read_manifest(manifest).version
    reads_images = hasattr(section, "reads") and "image" in section.reads()
    images = {name: open_images(manifest, name) for name in slide} if reads_images else None
    begun = _begun_with(start, getattr(section, "start", None), version)
    # A run that was trained on tables gives cells their meta-cells by their genes.
    asks = begun is not None and begun.model.query is None
    metacells = {name: read_metacells(manifest, name) for name in slide} if asks else None
    files = [SlideFiles(*row) for row in zip(*columns, strict=True)]
    problems = Folds(files, read_folds(folds), label, version, images, metacells)
    resume = predictions.with_name(f"{predictions.stem}.resume")
    found, rows, device = [], [], pick_device(devices)
    with cpu_threads(threads):
        for fold, problem in problems.problems():
            logger.info(
                "%s, %s, fold %d: %d slides, %d genes", task, protocol, fold, len(problem.slides), len(problem.genes)
            )
            context = Context(derive(seed, "predict", task, fold), device, threads, resume / str(fold))
            given = problem if begun is None else replace(problem, start=begun.model)
            table, course = predict_fold(package, section, given, context)
            found.append(table.assign(fold=fold))
            rows += [{"fold": fold, **row} for row in course]
    built_on = {read_origin(path).model_sha256 for path in embedding or []}
    built_on |= set() if begun is None else {begun.weights_sha256}
    digest = code_digest("predict", *folder_modules(package))
    origin = Origin(model, seed, "+".join([digest, *sorted(built_on)]), version)
    write_predictions(predictions, pd.concat(found, ignore_index=True), origin)
    write_text(metrics, "".join(json.dumps(row) + "\n" for row in rows))
    record(
        "predict",
        outputs=[predictions, metrics],
        inputs={"manifest": manifest, "folds": folds, **({} if start is None else {"start": start})},
        params={"task": task, "protocol": protocol, "label": label, **section.model_dump(mode="json")},
        code=digest,
        seed=seed,
    )
    remove(resume)


def _begun_with(config: Path | None, name: str | None, version: str) -> Any:
    """Return the trained run that the model begins with, as a `Checkpoint`; None where its settings name none.

    Raises:
        ConfigError: it is given and not named, or the other way round, or is another run or no run of gest.
        InputError: it is damaged, or was trained on another dataset.
    """
    if (config is None) != (name is None):
        raise ConfigError("predict", "--start and the model's setting start belong together", "give both or neither")
    if config is None:
        return None
    found: Checkpoint = load(config)
    told = found.identity
    if (told.name, told.registry_name) != (name, "gest"):
        what = f"the run {told.name} of {told.registry_name}, and the settings name {name} of gest"
        raise ConfigError(str(config), what, "give that run's config.json")
    if told.dataset_version != version:
        what = f"trained on dataset version {told.dataset_version[:12]}, this one is {version[:12]}"
        raise InputError(config, what, "run train again")
    return found
