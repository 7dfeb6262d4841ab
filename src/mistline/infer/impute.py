"""Imputing genes: those of each fold while they are closed, and those that no slide measures."""

from __future__ import annotations

import importlib
import logging
import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import remove
from mistline.core.seeds import derive
from mistline.mist.pair import Pair
from mistline.models.contract import Context
from mistline.scrna.view import Imputed, TrainView
from mistline.store.embeddings import Origin
from mistline.store.imputed import ImputedGenes, read_imputed, write_imputed
from mistline.train.device import pick_device

logger = logging.getLogger("mistline.infer")

UNMEASURED = -1  # the fold of genes that no slide measures
_AGAIN = "mend the model, or leave it out"


@dataclass(frozen=True, slots=True)
class Method:
    """A model, and where it runs.

    Args:
        model: class that is an `models.imputer.Imputer`.
        params: its settings.
        origin: of what it imputes.
        device: a torch device.
        threads: CPU threads.
        resume: folder of what is finished, and of the model's own unfinished states; it survives a killed job.
    """

    model: Any
    params: Any
    origin: Origin
    device: str
    threads: int
    resume: Path


def method_of(package: str, params: Any, origin: Origin, output: Path, threads: int, devices: int) -> Method:
    """Return a registered model as a method.

    Args:
        package: its import string.
        params: its settings.
        origin: of what it imputes; what other code, settings or files left unfinished is not taken up.
        output: the file that will be written; unfinished work lies beside it, in a folder to be removed at the end.
        threads: CPU threads.
        devices: GPUs granted to the job.
    """
    resume = output.with_name(f"{output.stem}.resume") / origin.model_sha256[:16]
    model = importlib.import_module(f"{package}.model").Model
    return Method(model, params, origin, pick_device(devices), threads, resume)


@dataclass(frozen=True, slots=True)
class Run:
    """One fit of a method.

    Args:
        found: of the wanted genes.
        cost: seconds, and peak_mb of the process until its end.
    """

    found: Imputed
    cost: dict[str, float]


def impute_folds(
    method: Method, pairs: Iterable[Pair], genes: pd.DataFrame, protocol: str, *, canary: bool = False
) -> ImputedGenes:
    """Impute the tested genes of every slide and fold; what was finished before is not made again.

    Args:
        method: which imputes.
        pairs: the judged slides; one is in memory at a time.
        genes: `genes.parquet`, of all of them.
        protocol: how genes were divided.
        canary: whether NaN stands for tested values while the method runs.

    Raises:
        InputError: there is no slide, or the method gives something else than finite values of all wanted genes.
    """
    tested = genes[genes["part"] == "test"].drop_duplicates("gene").sort_values("gene", ignore_index=True)
    place = {gene: number for number, gene in enumerate(tested["gene"])}
    slides = [[_part(method, pair, fold, canary) for fold in pair.folds] for pair in pairs]
    if not slides:
        raise InputError("imputation", "there is no slide whose genes were divided", "run fold-genes again")
    parts = [own for slide in slides for own in slide]
    if len({own.sd is None for own in parts}) > 1:
        what = "it says in some folds how unsure it is, and in others not"
        raise InputError(method.origin.model, what, _AGAIN)
    return ImputedGenes(
        slide=np.concatenate([slide[0].slide for slide in slides]),
        cell_id=np.concatenate([slide[0].cell_id for slide in slides]),
        genes=tuple(place),
        symbols=tuple(tested["symbol"].tolist()),
        fold=tested["fold"].to_numpy(dtype=np.int64),
        mean=np.concatenate([_spread(slide, [own.mean for own in slide], place) for slide in slides]),
        sd=None
        if parts[0].sd is None
        else np.concatenate([_spread(slide, [own.sd for own in slide], place) for slide in slides]),
        origin=method.origin,
        about={"protocol": protocol, "runs": [run for own in parts for run in own.about["runs"]]},
    )


def impute_slide(method: Method, view: TrainView, symbols: tuple[str, ...]) -> ImputedGenes:
    """Impute genes that the slide does not measure, in all its cells.

    Args:
        method: which imputes.
        view: all shared genes, and those wanted.
        symbols: [W] of the wanted genes.

    Raises:
        InputError: the method gives something else than finite values of all wanted genes.
    """
    return _as_stored(method.origin, view, symbols, UNMEASURED, _run(method, view, UNMEASURED))


def _part(method: Method, pair: Pair, fold: int, canary: bool) -> ImputedGenes:
    """Return the tested genes of one slide and fold, from the disk where they were finished."""
    path = method.resume / f"{pair.slide}.fold-{fold}.parquet"
    if path.is_file() and not canary:
        stored = read_imputed(path)
        if stored.origin == method.origin and stored.cell_id.tolist() == pair.cell_id.tolist():
            logger.info("%s, fold %d: finished before", pair.slide, fold)
            return stored
    view = pair.view(fold, canary=canary)
    own = pair.genes[(pair.genes["fold"] == fold) & (pair.genes["part"] == "test")]
    found = _as_stored(method.origin, view, tuple(own["symbol"].tolist()), fold, _run(method, view, fold))
    if not canary:
        write_imputed(path, found)
    return found


def _run(method: Method, view: TrainView, fold: int) -> Run:
    begun = time.perf_counter()
    resume = method.resume / f"{view.slide}.fold-{fold}"
    seed = derive(method.origin.seed, "impute", view.slide, fold)
    context = Context(seed, method.device, method.threads, resume)
    model = method.model.create(method.params, view, context)
    course = list(model.fit(view, context))
    found = model.impute(view, context)
    _check(method.origin.model, view, found)
    seconds = time.perf_counter() - begun
    part = "genes of no slide" if fold == UNMEASURED else f"fold {fold}"
    end = course[-1] if course else "nothing is fitted"
    logger.info("%s, %s: %d genes in %.1f s; %s", view.slide, part, len(view.wanted), seconds, end)
    remove(resume)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Run(found, {"seconds": round(seconds, 3), "peak_mb": round(peak_mb, 1)})


def _check(name: str, view: TrainView, found: Imputed) -> None:
    shape = (len(view.cell_id), len(view.wanted))
    for what, values in (("mean", found.mean), ("sd", found.sd)):
        if values is None:
            continue
        if values.shape != shape:
            said = f"{what} is {list(values.shape)}, and {list(shape)} cells and genes are wanted"
            raise InputError(f"{name}, slide {view.slide}", said, _AGAIN)
        bad = ~np.isfinite(values) if what == "mean" else ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            gene = view.wanted[int(np.argmax(bad.any(axis=0)))]
            said = f"{what} of {gene} is {values[bad][0]} in {int(bad.sum())} cells and genes"
            raise InputError(f"{name}, slide {view.slide}", said, _AGAIN)


def _as_stored(origin: Origin, view: TrainView, symbols: tuple[str, ...], fold: int, run: Run) -> ImputedGenes:
    return ImputedGenes(
        slide=np.full(len(view.cell_id), view.slide),
        cell_id=view.cell_id,
        genes=view.wanted,
        symbols=symbols,
        fold=np.full(len(view.wanted), fold, dtype=np.int64),
        mean=np.asarray(run.found.mean, dtype=np.float32),
        sd=None if run.found.sd is None else np.asarray(run.found.sd, dtype=np.float32),
        origin=origin,
        about={"runs": [{"slide": view.slide, "fold": fold, **run.cost}]},
    )


def _spread(
    slide: Sequence[ImputedGenes], tables: Sequence[NDArray[np.float32] | None], place: Mapping[str, int]
) -> NDArray[np.float32]:
    """Return [n, W] over the tested genes of all slides, from one table a fold; NaN of genes that this slide lacks."""
    found = np.full((len(slide[0].cell_id), len(place)), np.nan, dtype=np.float32)
    for own, table in zip(slide, tables, strict=True):
        found[:, [place[gene] for gene in own.genes]] = table
    return found
