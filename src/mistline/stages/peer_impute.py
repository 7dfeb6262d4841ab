"""Impute each fold's closed genes with a published method; that it cannot be run is a result too."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mistline.config.base import load_section
from mistline.core.errors import ConfigError
from mistline.core.files import read_json, remove, write_json
from mistline.core.hashing import hash_file, hash_json
from mistline.core.provenance import record
from mistline.infer.impute import Method, impute_folds
from mistline.mist.pair import open_pairs, read_genes
from mistline.models.contract import Context
from mistline.models.peer.params import METHODS, Params
from mistline.scrna.view import Imputed, TrainView
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin
from mistline.store.imputed import KEYS, ImputedGenes, write_imputed
from mistline.store.manifest import read_manifest
from mistline.tasks.peers import environment as made
from mistline.tasks.peers.exchange import NotRunError, imputed_of, write_view
from mistline.tasks.peers.run import Job, identity, modules, run_measured, scratch
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.tasks")


def run(
    protocol: Annotated[str, typer.Option(help="How genes were divided.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    seed: Annotated[int, typer.Option(help="Seed of the method's draws.")],
    environment: Annotated[Path, typer.Option(help="Folder of the method's environment.")],
    status: Annotated[Path, typer.Option(help="What came of making it (JSON).")],
    slide: Annotated[list[str], typer.Option(help="Names of the judged slides; repeated.")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet of each slide; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    reference: Annotated[Path, typer.Option(help="counts.h5ad of the single cells.")],
    genes: Annotated[Path, typer.Option(help="Division of the genes (parquet).")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    imputed: Annotated[Path, typer.Option(help="Imputed genes (parquet) to write.")],
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")],
    max_cells: Annotated[int | None, typer.Option(help="Cells of a slide that are judged; all without it.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Impute, slide by slide and fold by fold, or write why it could not be done."""
    section = load_section(Params, params, f"models.{model}.params")
    if len({len(column) for column in (slide, cells, counts)}) != 1:
        raise ConfigError("peer-impute", "the options of the slides are not equally many", "repeat each once a slide")
    state = made.read(status)
    code = code_digest("peer_impute", *modules(section.method))
    settings = {"max_cells": max_cells, **section.model_dump(mode="json")}
    made_from = hash_json([identity(code, state.lock_sha256, settings, seed), hash_file(reference), hash_file(genes)])
    origin = Origin(model, seed, made_from, read_manifest(manifest).version)
    resume = imputed.with_name(f"{imputed.stem}.resume")
    job = Job(section.method, environment, section.settings, seed, threads, section.max_minutes)
    method = Method(_Peer, job, origin, "cpu", threads, resume / made_from[:16])
    files = dict(zip(slide, zip(cells, counts, strict=True), strict=True))
    try:
        if state.reason is not None:
            raise NotRunError(state.reason)
        found = impute_folds(method, open_pairs(files, reference, genes, max_cells), read_genes(genes), protocol)
        write_imputed(imputed, _with_costs(found, method.resume))
    except NotRunError as reason:
        logger.warning("%s is not run on %s: %s", model, protocol, reason)
        write_absent(imputed, KEYS, origin, str(reason))
    record(
        "peer_impute",
        outputs=[imputed],
        inputs={"manifest": manifest, "genes": genes, "reference": reference, "status": status},
        params={"protocol": protocol, **settings},
        code=code,
        seed=seed,
    )
    remove(resume)


class _Peer:
    """A published method as `models.imputer.Imputer`: each run is a process in an empty folder of its own.

    Args:
        job: the method; the seed of each run is put in its place.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    @classmethod
    def create(cls, params: Job, view: TrainView, context: Context) -> _Peer:
        """Return it, where the slide is one that it can be given.

        Raises:
            NotRunError: the slide has no coordinates and the method reads some, or too many cells.
        """
        method, n = METHODS[params.method], len(view.cell_id)
        if "coordinates" in method.reads and not np.isfinite(view.xy_um).all():
            raise NotRunError(f"slide {view.slide} has no coordinates")
        if method.max_cells is not None and n > method.max_cells:
            most = f"{n:,} of slide {view.slide} are judged (at most {method.max_cells:,})"
            raise NotRunError(f"{method.why_max}, and {most}")
        return cls(replace(params, seed=context.seed % 2**31))

    def fit(self, view: TrainView, context: Context) -> Iterator[Mapping[str, Any]]:
        """Yield nothing: fitting and imputing are one run."""
        return iter(())

    def impute(self, view: TrainView, context: Context) -> Imputed:
        """Run the method on files without any value of closed genes; what it took is left beside.

        Raises:
            NotRunError: it failed, or left no usable result.
        """
        with scratch(context.resume) as folder:
            write_view(folder, view)
            result, spent = run_measured(self._job, folder)
            found = imputed_of(result, view.cell_id, view.wanted)
        write_json(_cost_file(context.resume), asdict(spent))
        return Imputed(found)


def _with_costs(found: ImputedGenes, resume: Path) -> ImputedGenes:
    """Return what was imputed with what the method's own processes took, in place of what this one did."""
    runs = [
        {**run, **read_json(_cost_file(resume / f"{run['slide']}.fold-{run['fold']}"))} for run in found.about["runs"]
    ]
    return replace(found, about={**found.about, "runs": runs})


def _cost_file(run: Path) -> Path:
    return run.with_name(f"{run.name}.json")
