"""Predict proportions, of niches or around cells, from each representation, and score them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.tasks import places, soft_regression
from mistline.tasks.base import MODEL, Inputs, Row
from mistline.tasks.composition import Params
from mistline.tasks.composition_around import Around
from mistline.tasks.composition_niches import SPLITS, Niches
from mistline.tasks.controls import DESCRIPTIONS, MAX_FIT_CELLS, fit_log_counts, left_out, principal_components
from mistline.tasks.stats import bootstrap_mean, interval

SMOOTHING = 1e-3
_BLOCK = 64  # replicates resampled at once, so that memory stays linear in the niches
_BOUNDS = {"kl": (0.0, np.inf), "mae": (0.0, 1.0), "pearson": (-1.0, 1.0)}
_WHAT = {
    "mean_composition": "the mean proportions of the training niches, for every niche",
    "coordinates": "the place of the niche within its slide, by the same regression",
    "knn_mean": places.WHAT,
    "log_counts": f"{DESCRIPTIONS['log_counts']}, averaged over the niche",
    "pca": f"{DESCRIPTIONS['pca']}, averaged over the niche",
    "shuffled": "the model's own rows, dealt to other niches of the same split",
}
_WHAT_AROUND = {
    "mean_composition": "the mean proportions around the training cells, for every cell",
    "coordinates": "the place of the cell within its slide, by the same regression",
    "knn_mean": places.WHAT,
    "log_counts": DESCRIPTIONS["log_counts"],
    "pca": DESCRIPTIONS["pca"],
    "neighbour_mean": "pca, averaged over the other cells of the niche; what of them a cell's embedding could hold",
    "shuffled": "the model's own rows, dealt to other cells of the same split",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Proportions predicted for the test niches or cells.

    Args:
        predicted: [number of test items, L]; rows sum to 1.
        about: how they were made.
    """

    predicted: NDArray[np.float64]
    about: dict[str, Any] = field(default_factory=dict)


def answers(inputs: Inputs, niches: Niches, params: Params) -> dict[str, Answer]:
    """Return row -> what it predicts of the test niches or cells; nothing reads the truth of those."""
    if not inputs.is_controls:
        points = niches.points(inputs.embedding)
        found = {MODEL: _regress(points, niches), "shuffled": _regress(_dealt(points, niches, params.seed), niches)}
    else:
        found = _controls(inputs, niches, params)
    what = _WHAT_AROUND if isinstance(niches, Around) else _WHAT
    for name, answer in found.items():
        if name in what:
            answer.about["what"] = what[name]
    return found


def _controls(inputs: Inputs, niches: Niches, params: Params) -> dict[str, Answer]:
    xy = places.comparable(niches.table)
    nearest, k = places.nearest_mean(xy, niches.truth, niches.split)
    mean = niches.truth[niches.rows("train")].mean(axis=0)
    found = {
        "mean_composition": Answer(np.tile(mean, (niches.count("test"), 1))),
        "coordinates": _regress(xy, niches),
        "knn_mean": Answer(nearest, {"neighbours": k}),
    }
    if "pca" in left_out(inputs, niches.cells):
        return found
    fitted, train = fit_log_counts(inputs, inputs.cells("train", at_most=MAX_FIT_CELLS, seed=params.seed))

    def log_counts(cells: pd.DataFrame) -> Any:
        return fitted.rows(inputs, cells)

    # Components are linear, so those of a mean are the mean of the cells' components.
    def components(points: NDArray[np.float32]) -> NDArray[np.float32]:
        return principal_components(train, points)  # type: ignore[arg-type]

    points = niches.points(log_counts)
    found |= {"log_counts": _regress(points, niches), "pca": _regress(components(points), niches)}
    if isinstance(niches, Around):
        found["neighbour_mean"] = _regress(components(niches.others(log_counts)), niches)
    return found


def _regress(points: NDArray[np.floating], niches: Niches) -> Answer:
    rows = {split: niches.rows(split) for split in SPLITS}
    seen = (item for split in ("train", "val") for item in (points[rows[split]], niches.truth[rows[split]]))
    fitted = soft_regression.fit(*seen)
    return Answer(fitted.predict(points[rows["test"]]), {"l2": fitted.l2, "n_features": int(points.shape[1])})


def _dealt(points: NDArray[np.float32], niches: Niches, seed: int) -> NDArray[np.float32]:
    dealt = points.copy()
    for split in SPLITS:
        own = niches.rows(split)
        dealt[own] = points[generator(seed, "evaluate", "composition", "shuffled", split).permutation(own)]
    return dealt


def score(answer: Answer, niches: Niches, params: Params) -> Row:
    """Compare predicted and true proportions of the test niches or cells."""
    truth = niches.truth[niches.rows("test")]
    predicted = (1 - SMOOTHING) * answer.predicted + SMOOTHING / truth.shape[1]
    sums = _sums(predicted, truth)
    per_class = _pearson(sums.sum(axis=0)[None])[0]
    named = {name: _rounded(value) for name, value in zip(niches.classes, per_class.tolist(), strict=True)}
    about = {**answer.about, "pearson_per_class": named}
    unit = niches.unit
    if unit.name == "cell":
        rng = generator(params.seed, "evaluate", "composition", "bootstrap")
        by_group = np.zeros((int(niches.groups.max()) + 1, sums.shape[1]))
        np.add.at(by_group, niches.groups, sums)
        draws = _scores(_resampled(by_group, params.bootstrap, rng))
        values = _scores(sums.sum(axis=0)[None])
        estimates = {
            name: interval(float(values[name][0]), draws[name], params.confidence, bounds)
            for name, bounds in _BOUNDS.items()
        }
        return Row(estimates, {name: {} for name in estimates}, about)
    by_unit = np.zeros((unit.n_units, sums.shape[1]))
    np.add.at(by_unit, unit.codes, sums)
    per_unit = {name: unit.by_name(values) for name, values in _scores(by_unit).items()}
    estimates = {}
    for name, bounds in _BOUNDS.items():
        rng = generator(params.seed, "evaluate", "composition", name)
        estimates[name] = bootstrap_mean(per_unit[name], params.bootstrap, params.confidence, rng, bounds)
    return Row(estimates, per_unit, about)


def _sums(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [n, 3 + 5 L] per niche, whose sums hold every score: 1, KL, MAE and the moments of each class."""
    ratio = np.log(np.where(truth > 0, truth, 1) / predicted)
    kl = np.where(truth > 0, truth * ratio, 0).sum(axis=1)
    mae = np.abs(predicted - truth).mean(axis=1)
    moments = (truth, predicted, truth**2, predicted**2, truth * predicted)
    return np.column_stack([np.ones(len(truth)), kl, mae, *moments])


def _resampled(sums: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    n = len(sums)
    share = np.full(n, 1 / n)
    blocks = [rng.multinomial(n, share, size=min(_BLOCK, draws - start)) @ sums for start in range(0, draws, _BLOCK)]
    return np.concatenate(blocks)


def _scores(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return metric -> [R] of [R, F] summed rows."""
    pearson = _pearson(sums)
    varies = np.isfinite(pearson)
    mean = np.where(varies, pearson, 0).sum(axis=1) / np.maximum(varies.sum(axis=1), 1)
    return {
        "kl": sums[:, 1] / sums[:, 0],
        "mae": sums[:, 2] / sums[:, 0],
        "pearson": np.where(varies.any(axis=1), mean, 0.0),
    }


def _pearson(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [R, L]; NaN where the truth does not vary, 0 where only the prediction does not."""
    t, p, tt, pp, tp = np.split(sums[:, 3:] / sums[:, :1], 5, axis=1)
    truth, predicted, both = tt - t**2, pp - p**2, tp - t * p
    tiny = 1e-12
    r = both / np.sqrt(np.maximum(truth, tiny) * np.maximum(predicted, tiny))
    return np.where(truth > tiny, np.where(predicted > tiny, np.clip(r, -1, 1), 0.0), np.nan)


def _rounded(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
