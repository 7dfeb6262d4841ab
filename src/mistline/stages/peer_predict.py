"""Train a published method on the labels of each fold of a task, and predict the cells it has not seen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import sparse

from mistline.config.base import load_section
from mistline.core.errors import ConfigError
from mistline.core.files import write_text
from mistline.core.provenance import record
from mistline.core.seeds import derive
from mistline.models.peer.params import Params
from mistline.models.predictor import Problem, SlideCells
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin
from mistline.store.folds import read_folds
from mistline.store.manifest import read_manifest
from mistline.store.predictions import KEYS, PREFIX, write_predictions
from mistline.tasks.peers import environment as made
from mistline.tasks.peers.exchange import Cells, NotRunError, probability_of, write_cells
from mistline.tasks.peers.run import Job, identity, modules, run_method, scratch
from mistline.train.problem import Folds, SlideFiles
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.tasks")
_PREDICTED = ("val", "test")


def run(
    task: Annotated[str, typer.Option(help="Name of the task.")],
    protocol: Annotated[str, typer.Option(help="Way of judging.")],
    label: Annotated[str, typer.Option(help="Label column that is predicted.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    seed: Annotated[int, typer.Option(help="Seed of the method's draws.")],
    environment: Annotated[Path, typer.Option(help="Folder of the method's environment.")],
    status: Annotated[Path, typer.Option(help="What came of making it (JSON).")],
    slide: Annotated[list[str], typer.Option(help="Names of the slides; repeated.")],
    donor: Annotated[list[str], typer.Option(help="Donor of each slide; repeated.")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet of each slide; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    folds: Annotated[Path, typer.Option(help="The task's division of the cells (parquet).")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    predictions: Annotated[Path, typer.Option(help="Predictions (parquet) to write.")],
    metrics: Annotated[Path, typer.Option(help="Course of the trainings (jsonl) to write; a peer tells none.")],
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Train and predict, fold by fold, or write why it could not be done."""
    section = load_section(Params, params, f"models.{model}.params")
    if len({len(column) for column in (slide, donor, cells, counts)}) != 1:
        what = "the options of the slides are not equally many"
        raise ConfigError("peer-predict", what, "repeat each of them once a slide")
    files = [SlideFiles(*row) for row in zip(slide, donor, cells, counts, strict=True)]
    version, state = read_manifest(manifest).version, made.read(status)
    code = code_digest("peer_predict", *modules(section.method))
    settings = section.model_dump(mode="json")
    origin = Origin(model, seed, identity(code, state.lock_sha256, settings, seed), version)
    draw = derive(seed, "peer", task) % 2**31
    job = Job(section.method, environment, section.settings, draw, threads, section.max_minutes)
    try:
        if state.reason is not None:
            raise NotRunError(state.reason)
        found = []
        for fold, problem in Folds(files, read_folds(folds), label, version).problems():
            with scratch(predictions) as folder:
                found.append(_predict(job, problem, folder).assign(fold=fold))
            logger.info("%s, %s, fold %d: %d cells predicted", task, protocol, fold, len(found[-1]))
        write_predictions(predictions, pd.concat(found, ignore_index=True), origin)
    except NotRunError as reason:
        logger.warning("%s is not run on %s, %s: %s", model, task, protocol, reason)
        write_absent(predictions, KEYS, origin, str(reason))
    write_text(metrics, "")
    record(
        "peer_predict",
        outputs=[predictions, metrics],
        inputs={"manifest": manifest, "folds": folds, "status": status},
        params={"task": task, "protocol": protocol, "label": label, **settings},
        code=code,
        seed=seed,
    )


def _predict(job: Job, problem: Problem, folder: Path) -> pd.DataFrame:
    """Predict the validation and test cells of a fold; labels of training cells alone are written anywhere."""
    train = [np.flatnonzero((slide.part == "train") & (slide.label >= 0)) for slide in problem.slides]
    query = [np.flatnonzero(np.isin(slide.part, _PREDICTED)) for slide in problem.slides]
    codes = np.concatenate([slide.label[rows] for slide, rows in zip(problem.slides, train, strict=True)])
    if len(np.unique(codes)) < 2:
        raise NotRunError("a fold's training cells are all of one class")
    if not problem.genes:
        raise NotRunError("the slides share no gene")
    write_cells(folder / "train.h5ad", _cells(problem, train, [problem.classes[code] for code in codes]))
    asked = _cells(problem, query)
    write_cells(folder / "query.h5ad", asked)
    rows = probability_of(run_method(job, folder), asked.cell_id, problem.classes)
    parts = [_keys(slide, chosen) for slide, chosen in zip(problem.slides, query, strict=True)]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(**{f"{PREFIX}{name}": rows[:, number] for number, name in enumerate(problem.classes)})


def _cells(problem: Problem, chosen: list[np.ndarray], label: list[str] | None = None) -> Cells:
    """Return cells of all slides; an id carries its slide, since ids are unique within a slide only."""
    pairs = list(zip(problem.slides, chosen, strict=True))
    return Cells(
        cell_id=[f"{slide.slide}/{slide.cell_id[row]}" for slide, rows in pairs for row in rows],
        genes=problem.genes,
        counts=sparse.vstack([slide.counts[rows] for slide, rows in pairs], format="csr"),
        values=problem.values,
        label=label,
    )


def _keys(slide: SlideCells, rows: np.ndarray) -> pd.DataFrame:
    ids = np.asarray(slide.cell_id, dtype=object)[rows]
    return pd.DataFrame({"slide": slide.slide, "cell_id": ids, "part": slide.part[rows]})
