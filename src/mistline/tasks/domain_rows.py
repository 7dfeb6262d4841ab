"""The rows of a domain table: predictions, probes and clusters, scored slide by slide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.store.folds import is_ever
from mistline.store.parts import SEEN
from mistline.tasks.agreement import METRICS as AGREEMENT
from mistline.tasks.base import MODEL, Estimate, Inputs, Row, TaskParams
from mistline.tasks.controls import LogCounts, fit_log_counts, principal_components, shuffled
from mistline.tasks.domain_folds import ring_graph
from mistline.tasks.domain_metrics import agreement, border_curve, heated, tally, temperature
from mistline.tasks.domain_slides import Problem
from mistline.tasks.label_controls import (
    linear_probe,
    majority,
    nearest_alike,
    nearest_labels,
    neighbour_mean,
)
from mistline.tasks.predicted import by_fold
from mistline.tasks.stats import bootstrap_mean, interval

_APART_UM = 1e9  # of two slides: beside labels of the slide itself, those of another weigh nothing
_BOUNDS = {"log_loss": (0.0, np.inf), "log_loss_calibrated": (0.0, np.inf)}
_WHAT = {
    "majority": "the shares of the classes among the training labels, for every cell",
    "coordinates": "the labels of the nearest training cells, weighted by distance; how many is chosen on validation",
    "pca": "linear probe on 50 principal components of log counts, fitted on training cells",
    "neighbour_mean": "linear probe on those components averaged over a cell and its ring neighbours",
    "own_and_neighbours": "linear probe on the cell's own components and that mean, one beside the other",
    "knn_neighbours": "the labels of the training cells (50,000 of them at most) with the nearest such mean, each "
    "counting the same; how many is chosen on validation",
    "shuffled": "the model's own rows, dealt to other cells",
}
_WHAT_CLUSTERS = {
    "coordinates": "k-means of the places alone",
    "pca": "k-means of 50 principal components of log counts",
    "neighbour_mean": "k-means of those components averaged over a cell and its ring neighbours",
    "shuffled": "the model's own rows, dealt to other cells",
}

Probability = NDArray[np.float64]  # [N, L] of all cells; zero where nothing is predicted
Predict = Callable[[int], Probability]  # fold -> probabilities of (at least) its validation and test cells
Points = Callable[[int], NDArray[np.float32]]  # fold -> [N, D] of all cells


@dataclass(frozen=True, slots=True)
class _Predicted:
    """Probabilities of the tested cells, as they are and at the temperature of validation cells."""

    raw: Probability
    calibrated: Probability
    temperatures: dict[str, float]


def class_rows(inputs: Inputs, problem: Problem, params: TaskParams) -> dict[str, Row]:
    """Return the rows of a table with labels to train on."""
    if inputs.has_predictions:
        tested = {fold: problem.rows(fold, "test") for fold in problem.numbers}
        found = by_fold(inputs.predictions(), problem.cells, tested, problem.classes)
        return {MODEL: _class_row(_by_fold(problem, {MODEL: found.__getitem__})[MODEL], problem, params, "")}
    ways: dict[str, Predict] = {}
    if inputs.is_controls:
        ways = {"majority": partial(_majority, problem), "coordinates": partial(_nearest, problem)}
        expression = _expression(inputs, problem)
        for name, points in expression.items():
            ways[name] = partial(_probe, problem, points)
        if expression:
            ways["own_and_neighbours"] = partial(_probe, problem, partial(_beside, *expression.values()))
            ways["knn_neighbours"] = partial(_alike, problem, expression["neighbour_mean"], params.seed)
    else:
        # One after the other: either may take most of the memory.
        return {
            name: _class_row(_by_fold(problem, {name: _embedded(inputs, problem, given)})[name], problem, params, what)
            for name, given, what in _dealt(problem, params.seed, _WHAT)
        }
    predicted = _by_fold(problem, ways)
    return {name: _class_row(predicted[name], problem, params, _WHAT.get(name, "")) for name in ways}


def cluster_rows(inputs: Inputs, problem: Problem, params: TaskParams) -> dict[str, Row]:
    """Return the rows of a table without labels: k-means with as many clusters as the slide has classes."""
    if inputs.is_controls:
        xy_um = problem.cells[["x_um", "y_um"]].to_numpy(dtype=np.float32)
        ways = {"coordinates": xy_um}
        ways |= {name: points(-1) for name, points in _expression(inputs, problem).items()}
    else:
        return {
            name: _cluster_row(inputs.embedding(problem.cells.iloc[given]), problem, params, what)
            for name, given, what in _dealt(problem, params.seed, _WHAT_CLUSTERS)
        }
    return {name: _cluster_row(found, problem, params, _WHAT_CLUSTERS.get(name, "")) for name, found in ways.items()}


def _dealt(problem: Problem, seed: int, what: Mapping[str, str]) -> Iterator[tuple[str, NDArray[np.int64], str]]:
    """Yield each row that an embedding gets: its name, [N] the cell whose point each cell is given, what it is."""
    own = np.arange(len(problem.cells))
    yield MODEL, own, ""
    yield "shuffled", shuffled(own, seed), what["shuffled"]


def _embedded(inputs: Inputs, problem: Problem, given: NDArray[np.int64]) -> Predict:
    """Return the linear probe on an embedding, of which no more is held than some fold reads.

    Args:
        inputs: the files.
        problem: of N cells.
        given: [N] the cell whose point each cell is given.
    """
    used = np.flatnonzero(is_ever(problem.folds, *SEEN, "test"))
    points = inputs.embedding(problem.cells.iloc[given[used]])

    def predict(fold: int) -> Probability:
        train = problem.rows(fold, "train")
        found = np.zeros((len(problem.cells), len(problem.classes)))
        found[used] = linear_probe(points, problem.labels[train], np.searchsorted(used, train), len(problem.classes))
        return found

    return predict


def _expression(inputs: Inputs, problem: Problem) -> dict[str, Points]:
    """Return control -> fold -> [N, D]; nothing where the slides share no gene. Fold -1 is fitted on all cells.

    Those of one fold are kept for the controls that read them after one another.
    """
    if not inputs.common_genes():
        return {}

    @lru_cache(maxsize=1)
    def pca(fold: int) -> NDArray[np.float32]:
        train = problem.rows(fold, "train") if fold >= 0 else np.arange(len(problem.cells))
        fitted: tuple[LogCounts, Any] = fit_log_counts(inputs, problem.cells.iloc[train])
        return principal_components(fitted[1], fitted[0].rows(inputs, problem.cells))

    @lru_cache(maxsize=1)
    def smoothed(fold: int) -> NDArray[np.float32]:
        points = pca(fold)
        found = np.zeros_like(points)
        graphs = {slide.name: slide.graph for slide in problem.slides}
        for name, own in problem.cells.groupby("slide", sort=False):  # those too that are only trained on
            rows, graph = own.index.to_numpy(), graphs.get(str(name))
            found[rows] = neighbour_mean(points[rows], ring_graph(own) if graph is None else graph)
        return found

    return {"pca": pca, "neighbour_mean": smoothed}


def _beside(pca: Points, smoothed: Points, fold: int) -> NDArray[np.float32]:
    return np.concatenate([pca(fold), smoothed(fold)], axis=1)


def _majority(problem: Problem, fold: int) -> Probability:
    train = problem.labels[problem.rows(fold, "train")]
    return majority(train, len(problem.cells), len(problem.classes))


def _nearest(problem: Problem, fold: int) -> Probability:
    """Vote among the nearest labels: of the slide itself, or of other slides with places scaled to 0 .. 1."""
    rows = {part: problem.rows(fold, part) for part in ("train", "val", "test")}
    slide = problem.cells["slide"].to_numpy()
    xy = problem.cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    is_own = set(slide[rows["test"]]) <= set(slide[rows["train"]])
    xy = _apart(xy, slide) if is_own else _scaled(xy, slide)
    found = np.zeros((len(problem.cells), len(problem.classes)))
    asked = np.concatenate([rows["val"], rows["test"]])
    train, val = problem.labels[rows["train"]], problem.labels[rows["val"]]
    found[asked], _ = nearest_labels(xy[rows["train"]], train, xy[rows["val"]], val, xy[asked], len(problem.classes))
    return found


def _apart(xy: NDArray[np.float64], slide: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return [N, 3]: a third axis parts the slides, and leaves distances within a slide exactly as they are."""
    return np.column_stack([xy, _APART_UM * np.unique(slide, return_inverse=True)[1]])


def _scaled(xy: NDArray[np.float64], slide: NDArray[np.object_]) -> NDArray[np.float64]:
    scaled = np.empty_like(xy)
    for name in np.unique(slide):
        own = slide == name
        scaled[own] = (xy[own] - xy[own].min(axis=0)) / np.maximum(np.ptp(xy[own], axis=0), 1e-9)
    return scaled


def _probe(problem: Problem, points: Points, fold: int) -> Probability:
    rows = problem.rows(fold, "train")
    return linear_probe(points(fold), problem.labels[rows], rows, len(problem.classes))


def _alike(problem: Problem, points: Points, seed: int, fold: int) -> Probability:
    rows = {part: problem.rows(fold, part) for part in ("train", "val", "test")}
    return nearest_alike(points(fold), problem.labels, rows, len(problem.classes), seed)[0]


def _by_fold(problem: Problem, ways: Mapping[str, Predict]) -> dict[str, _Predicted]:
    """Predict every fold in every way, and put the tested cells of all folds together."""
    n, n_classes = len(problem.cells), len(problem.classes)
    answers = {name: _Predicted(np.zeros((n, n_classes)), np.zeros((n, n_classes)), {}) for name in ways}
    for fold in problem.numbers:
        val, test = problem.rows(fold, "val"), problem.rows(fold, "test")
        for name, predict in ways.items():
            found, answer = predict(fold), answers[name]
            t = temperature(found[val], problem.labels[val]) if len(val) else 1.0
            answer.raw[test], answer.calibrated[test] = found[test], heated(found[test], t)
            answer.temperatures[str(fold)] = round(t, 4)
    return answers


def _class_row(found: _Predicted, problem: Problem, params: TaskParams, what: str) -> Row:
    tested = problem.tested()
    rng = generator(params.seed, "evaluate", "domains", "bootstrap")
    values: list[dict[str, float]] = []
    draws: list[dict[str, NDArray[np.float64]]] = []
    for slide in problem.slides:
        rows = slide.rows[tested[slide.rows]]
        inside = tested[slide.rows]
        where = type(slide.borders)(
            slide.borders.is_ring[inside], slide.borders.distance_um[inside], slide.borders.near[inside]
        )
        tallies = [tally(p[rows], problem.labels[rows], where) for p in (found.raw, found.calibrated)]
        values.append({name: float(scores[0]) for name, scores in _both(*(t.scores() for t in tallies)).items()})
        if problem.unit.name == "cell":
            draws.append(_both(*(t.resampled(params.bootstrap, rng).scores() for t in tallies)))
    about: dict[str, Any] = {"what": what} if what else {}
    about |= {"temperature": dict(found.temperatures), **_details(found, problem, tested)}
    return _row(values, draws, problem, params, about, problem.names(found.raw[tested].argmax(axis=1)))


def _both(raw: dict[str, Any], calibrated: dict[str, Any]) -> dict[str, Any]:
    return raw | {f"{name}_calibrated": calibrated[name] for name in ("log_loss", "ece")}


def _details(found: _Predicted, problem: Problem, tested: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what figures need: confusion, reliability and accuracy by distance to the border, of all tested cells."""
    labels, predicted = problem.labels[tested], found.raw[tested].argmax(axis=1)
    distance_um = np.full(len(problem.cells), np.inf)
    nothing = np.zeros(len(labels), dtype=bool)
    for slide in problem.slides:
        distance_um[slide.rows] = slide.borders.distance_um
    near = np.zeros((len(labels), len(problem.classes)), dtype=bool)
    counted = tally(found.raw[tested], labels, type(problem.slides[0].borders)(nothing, distance_um[tested], near))
    n = counted.bins[0].sum(axis=1)
    accuracy = counted.bins[0, :, 1] / np.maximum(n, 1)
    return {
        "confusion": counted.confusion[0].T.tolist(),  # true x predicted
        "reliability": {
            "n": n.tolist(),
            "confidence": counted.confidence.round(6).tolist(),
            "accuracy": accuracy.round(6).tolist(),
        },
        "border_curve": border_curve(predicted, labels, distance_um[tested]),
    }


def _cluster_row(points: NDArray[np.float32], problem: Problem, params: TaskParams, what: str) -> Row:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    tested = problem.tested()
    rng = generator(params.seed, "evaluate", "domains", "clusters")
    values, draws = [], []
    answers = np.full(len(problem.cells), "", dtype=object)
    for slide in problem.slides:
        own = tested[slide.rows]
        labels = problem.labels[slide.rows]
        n_classes = len(np.unique(labels[own]))
        with threadpool_limits(limits=1):  # OpenMP's threads as well: each sums a part of the cells
            clusters = KMeans(n_classes, n_init=10, random_state=params.seed).fit_predict(points[slide.rows])
        answers[slide.rows] = [f"cluster {number}" for number in clusters + 1]
        table = agreement(clusters[own].astype(np.int64), labels[own])
        values.append({name: float(score(table)[0]) for name, score in AGREEMENT.items()})
        if problem.unit.name == "cell":
            n = int(table.sum())
            drawn = rng.multinomial(n, table.reshape(-1) / n, size=params.bootstrap).reshape(-1, *table.shape[1:])
            draws.append({name: score(drawn) for name, score in AGREEMENT.items()})
    return _row(values, draws, problem, params, {"what": what} if what else {}, answers[tested])


def _row(
    values: list[dict[str, float]],
    draws: list[dict[str, NDArray[np.float64]]],
    problem: Problem,
    params: TaskParams,
    about: dict[str, Any],
    answers: NDArray[np.object_],
) -> Row:
    """Average slides within a unit and units over the table, with the interval of the unit that is resampled."""
    unit = problem.unit
    names = [slide.name for slide in problem.slides]
    codes = unit.codes if unit.name == "donor" else np.arange(len(names))
    keys = unit.names if unit.name == "donor" else tuple(names)
    metrics: dict[str, Estimate] = {}
    per_unit: dict[str, dict[str, float]] = {}
    for metric in values[0]:
        found = np.array([value[metric] for value in values])
        bounds = _BOUNDS.get(metric, (-1.0, 1.0))
        per_unit[metric] = {key: _mean(found[codes == number]) for number, key in enumerate(keys)}
        if draws:
            drawn = np.array([item[metric] for item in draws])
            n_defined = np.isfinite(drawn).sum(axis=0)
            kept = np.nansum(drawn, axis=0)[n_defined > 0] / n_defined[n_defined > 0]
            value = _mean(found)
            metrics[metric] = (
                interval(value, kept, params.confidence, bounds) if len(kept) else Estimate(value, value, value)
            )
        else:
            rng = generator(params.seed, "evaluate", "domains", metric)
            metrics[metric] = bootstrap_mean(per_unit[metric], params.bootstrap, params.confidence, rng, bounds)
    defined = {name: estimate for name, estimate in metrics.items() if np.isfinite(estimate.value)}
    return Row(defined, {name: _finite(per_unit[name]) for name in defined}, about, answers)


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
