"""The rows of an annotation table: probes on a representation, predictions, and the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import derive, generator
from mistline.tasks.annotation_problem import Problem
from mistline.tasks.base import MODEL, Estimate, Inputs, Row
from mistline.tasks.class_loss import NAME, draw_means, losses, sums_by_unit
from mistline.tasks.class_scores import METRICS
from mistline.tasks.controls import (
    coordinates,
    fit_log_counts,
    left_out,
    principal_components,
    scaled_places,
    shuffled,
)
from mistline.tasks.predicted import by_fold
from mistline.tasks.probes import PROBES, Task
from mistline.tasks.small_network import Sizes
from mistline.tasks.stats import interval, resample_tables, tables_by_unit

if TYPE_CHECKING:
    from mistline.tasks.annotation import Params

_WHAT = {
    "majority": "the most frequent class among the training cells, for every cell",
    "coordinates": "the probes on the place of the cell alone; scaled to 0 .. 1 where the tested slides are not "
    "trained on",
    "log_counts": "the probes on log1p of depth-normalised counts; genes and depth from training cells",
    "pca": "the probes on 50 principal components of log_counts, fitted on training cells",
    "shuffled": "the probes on the model's own rows, dealt to other cells",
}

Points = Callable[[int], NDArray[np.float32]]  # fold -> [N, D]


@dataclass(frozen=True, slots=True)
class Said:
    """What one row says of the tested cells.

    Args:
        classes: name of a probe, or empty for the row's own answer -> fold -> [n_test] predicted codes.
        about: how it came to that.
        losses: the same names -> fold -> [n_test] cross-entropy; empty where no probabilities are given.
    """

    classes: Mapping[str, Mapping[int, NDArray[np.int64]]]
    about: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Mapping[int, NDArray[np.float64]]] = field(default_factory=dict)


def rows(inputs: Inputs, problem: Problem, params: Params) -> dict[str, Row]:
    """Return the rows of a model, or of the controls."""
    if inputs.has_predictions:
        tested = {fold: problem.rows(fold, "test") for fold in problem.numbers}
        found = by_fold(inputs.predictions(), problem.cells, tested, problem.classes)
        classes = {fold: found[fold][rows].argmax(axis=1) for fold, rows in tested.items()}
        loss = {fold: losses(found[fold][rows], problem.labels[rows]) for fold, rows in tested.items()}
        return {MODEL: score(Said({"": classes}, losses={"": loss}), problem, params)}
    ways = controls(inputs, problem) if inputs.is_controls else _model(inputs, problem, params.seed)
    answers = {name: probe(points, problem, params) for name, points in ways.items()}
    if inputs.is_controls:
        answers = {"majority": _majority(problem), **answers}
    return {name: score(said, problem, params, _WHAT.get(name, "")) for name, said in answers.items()}


def controls(inputs: Inputs, problem: Problem) -> dict[str, Points]:
    """Return control -> fold -> [N, D]; what is fitted is fitted on the training cells of the fold."""

    def places(fold: int) -> NDArray[np.float32]:
        slide = problem.cells["slide"].to_numpy(dtype=str)
        if set(slide[problem.rows(fold, "test")]) <= set(slide[problem.rows(fold, "train")]):
            return coordinates(problem.cells)
        return scaled_places(problem.cells)

    @lru_cache(maxsize=1)
    def counts(fold: int) -> tuple[Any, Any]:
        fitted, train = fit_log_counts(inputs, problem.cells.iloc[problem.rows(fold, "train")])
        return train, fitted.rows(inputs, problem.cells)

    found: dict[str, Points] = {
        "coordinates": places,
        "log_counts": lambda fold: counts(fold)[1].toarray(),
        "pca": lambda fold: principal_components(*counts(fold)),
    }
    missing = left_out(inputs, problem.cells)
    return {name: way for name, way in found.items() if name not in missing}


def _model(inputs: Inputs, problem: Problem, seed: int) -> dict[str, Points]:
    points = inputs.embedding(problem.cells)
    return {MODEL: lambda fold: points, "shuffled": lambda fold: shuffled(points, seed)}


def probe(points: Points, problem: Problem, params: Params) -> Said:
    """Fit every probe in every fold; the row's own answer is that of the probe that is best on validation cells."""
    classes: dict[str, dict[int, NDArray[np.int64]]] = {name: {} for name in ("", *PROBES)}
    loss: dict[str, dict[int, NDArray[np.float64]]] = {name: {} for name in ("", *PROBES)}
    chosen, about = {}, {}
    for fold in problem.numbers:
        rows = {part: problem.rows(fold, part) for part in ("train", "val", "test")}
        seed = derive(params.seed, "evaluate", "annotation", fold)
        sizes = Sizes(params.hidden, params.epochs, params.patience)
        task = Task(problem.labels, rows["train"], rows["val"], len(problem.classes), seed, sizes)
        here = points(fold)
        found = {name: fit(here, task) for name, fit in PROBES.items()}
        best = max(found, key=lambda name: found[name].val_macro_f1)
        for name, probed in found.items():
            classes[name][fold] = probed.probability[rows["test"]].argmax(axis=1)
            loss[name][fold] = losses(probed.probability[rows["test"]], problem.labels[rows["test"]])
        classes[""][fold], loss[""][fold] = classes[best][fold], loss[best][fold]
        chosen[str(fold)] = best
        about[str(fold)] = {
            name: {"val_macro_f1": round(item.val_macro_f1, 6), **item.about} for name, item in found.items()
        }
    return Said(classes, {"probe": chosen, "probes": about}, loss)


def _majority(problem: Problem) -> Said:
    found = {}
    for fold in problem.numbers:
        most = int(np.bincount(problem.labels[problem.rows(fold, "train")]).argmax())
        found[fold] = np.full(len(problem.rows(fold, "test")), most, dtype=np.int64)
    return Said({"": found})


def score(said: Said, problem: Problem, params: Params, what: str = "") -> Row:
    """Score predicted classes, fold by fold, and average over folds."""
    estimates: dict[str, Estimate] = {}
    per_unit: dict[str, dict[str, float]] = {}
    about: dict[str, Any] = ({"what": what} if what else {}) | dict(said.about)
    for name, predicted in said.classes.items():
        tables = [_tables(problem, fold, predicted[fold]) for fold in problem.numbers]
        for metric, function in METRICS.items():
            key = f"{name}_{metric}" if name else metric
            estimates[key] = _estimate(function, tables, problem, params)
            by_fold_and_unit = np.array([function(found) for found in tables])
            per_unit[key] = problem.unit.by_name(_mean_of_folds(by_fold_and_unit))
        if name in said.losses:
            key = f"{name}_{NAME}" if name else NAME
            estimates[key], per_unit[key] = _loss(said.losses[name], problem, params)
        if not name:
            about["confusion"] = sum(found.sum(axis=0) for found in tables).T.tolist()  # true x predicted
    shown = {key: _finite(values) for key, values in per_unit.items()}
    found = problem.of_scored(said.losses[""]) if said.losses else None
    return Row(estimates, shown, about, problem.answers(said.classes[""]), found)


def _tables(problem: Problem, fold: int, predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return [U, L, L] predicted x true, unit by unit."""
    rows, n = problem.rows(fold, "test"), len(problem.classes)
    return tables_by_unit(problem.unit_of(rows), predicted, problem.labels[rows], (n, n))


def _estimate(
    function: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    tables: Sequence[NDArray[np.int64]],
    problem: Problem,
    params: Params,
) -> Estimate:
    """Average over folds; their draws share the resampled units, or, cell by cell, are put in the same order.

    Repeats test many cells twice, so draws made independently would cancel out and make the interval too narrow.
    """
    value = float(np.mean([function(found.sum(axis=0)[None])[0] for found in tables]))
    draws = []
    for found in tables:
        rng = generator(params.seed, "evaluate", "annotation", "bootstrap")
        drawn = function(resample_tables(problem.unit, found, params.bootstrap, rng))
        draws.append(np.sort(drawn) if problem.unit.name == "cell" else drawn)
    mean = _mean_of_folds(np.array(draws))
    return interval(value, mean[np.isfinite(mean)], params.confidence, (0.0, 1.0))


def _loss(
    by_fold: Mapping[int, NDArray[np.float64]], problem: Problem, params: Params
) -> tuple[Estimate, dict[str, float]]:
    """Return the mean cross-entropy over folds with its interval, and that of each unit."""
    values = [by_fold[fold] for fold in problem.numbers]
    units = [problem.unit_of(problem.rows(fold, "test")) for fold in problem.numbers]
    same = [generator(params.seed, "evaluate", "annotation", "bootstrap") for _ in values]
    draws = _mean_of_folds(draw_means(values, units, params.bootstrap, same))
    mean = float(np.mean([own.mean() for own in values]))
    sums = [sums_by_unit(own, unit) for own, unit in zip(values, units, strict=True)]
    of_units = np.array([np.where(found[:, 1] > 0, found[:, 0] / np.maximum(found[:, 1], 1), np.nan) for found in sums])
    bounds = (0.0, np.inf)
    estimate = interval(mean, draws[np.isfinite(draws)], params.confidence, bounds)
    return estimate, problem.unit.by_name(_mean_of_folds(of_units))


def _mean_of_folds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average [F, M] over folds, leaving out what is not finite; NaN where nothing is."""
    known = np.isfinite(values)
    total, n = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
