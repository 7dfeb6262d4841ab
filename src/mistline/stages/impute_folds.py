"""Impute the genes of each fold while they are closed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.core.errors import ConfigError
from mistline.core.files import remove
from mistline.core.hashing import hash_file, hash_json
from mistline.core.provenance import record
from mistline.infer.impute import impute_folds, method_of
from mistline.mist.pair import open_pairs, read_genes
from mistline.store.embeddings import Origin
from mistline.store.imputed import write_imputed
from mistline.store.manifest import read_manifest
from mistline.train.device import cpu_threads
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules


def run(
    protocol: Annotated[str, typer.Option(help="How genes were divided.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    registry_name: Annotated[str, typer.Option(help="Name in the registry of models.")],
    seed: Annotated[int, typer.Option(help="Seed of the run.")],
    slide: Annotated[list[str], typer.Option(help="Names of the judged slides; repeated.")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet of each slide; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    reference: Annotated[Path, typer.Option(help="counts.h5ad of the single cells.")],
    genes: Annotated[Path, typer.Option(help="Division of the genes (parquet).")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    imputed: Annotated[Path, typer.Option(help="Imputed genes (parquet) to write.")],
    max_cells: Annotated[int | None, typer.Option(help="Cells of a slide that are judged; all without it.")] = None,
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Fit and impute, slide by slide and fold by fold; a killed job goes on with the fold it was at."""
    package = find("models", registry_name, "--registry-name")
    section = load_section(importlib.import_module(f"{package}.params").Params, params, f"models.{model}.params")
    if len({len(column) for column in (slide, cells, counts)}) != 1:
        raise ConfigError("impute-folds", "the options of the slides are not equally many", "repeat each once a slide")
    digest = code_digest("impute_folds", *folder_modules(package))
    settings = {"max_cells": max_cells, **section.model_dump(mode="json")}
    made_from = hash_json([digest, settings, hash_file(reference), hash_file(genes)])
    origin = Origin(model, seed, made_from, read_manifest(manifest).version)
    method = method_of(package, section, origin, imputed, threads, devices)
    files = dict(zip(slide, zip(cells, counts, strict=True), strict=True))
    with cpu_threads(threads):
        found = impute_folds(method, open_pairs(files, reference, genes, max_cells), read_genes(genes), protocol)
    write_imputed(imputed, found)
    record(
        "impute_folds",
        outputs=[imputed],
        inputs={"manifest": manifest, "genes": genes, "reference": reference},
        params={"protocol": protocol, **settings},
        code=digest,
        seed=seed,
    )
    remove(method.resume.parent)
