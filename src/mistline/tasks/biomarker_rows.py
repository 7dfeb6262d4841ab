"""The rows of a biomarker table, and what of them is resampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from mistline.core.seeds import generator
from mistline.tasks.base import MODEL, Estimate, Inputs, Row
from mistline.tasks.biomarker import Params
from mistline.tasks.biomarker_cv import Division, Features, OutOfFold, concordance, correctness, predict, prevalence
from mistline.tasks.biomarker_items import Cohort
from mistline.tasks.controls import MAX_GENES, N_COMPONENTS
from mistline.tasks.stats import interval

_DEPTH = 1e4
_WHAT = {
    "majority": "the share of positives among the training donors, for everyone",
    "cell_count": "the logarithm of the number of cells alone",
    "tissue": "the tissue named in the sheet alone",
    "log_counts": f"log1p of pooled counts, at most {MAX_GENES} genes, the most variable among training donors",
    "pca": f"at most {N_COMPONENTS} principal components of log_counts, fitted on training donors",
    "shuffled": "the model's own rows, dealt to others",
}


def rows_of(inputs: Inputs, cohort: Cohort, division: Division, params: Params) -> dict[str, Row]:
    """Return the rows of one file: a model and its rows dealt to others, or the controls."""
    ways: dict[str, Features] = {}
    if not inputs.is_controls:
        points = cohort.pooled(inputs.embedding)
        dealt = points[generator(params.seed, "evaluate", "biomarker", "shuffled").permutation(len(points))]
        ways = {MODEL: lambda train: points, "shuffled": lambda train: dealt}
    else:
        ways = _controls(inputs, cohort)
    found = {name: predict(features, cohort.positive, division) for name, features in ways.items()}
    if inputs.is_controls:
        found = {"majority": prevalence(cohort.positive, division)} | found
    return {name: _row(answer, cohort, division, params, name) for name, answer in found.items()}


def left_out(inputs: Inputs, cohort: Cohort) -> dict[str, str]:
    """Return control -> why it says nothing here."""
    reasons = {}
    if None in cohort.tissue:
        reasons["tissue"] = "not every slide says its tissue"
    elif len(set(cohort.tissue)) == 1:
        reasons["tissue"] = "all are of one tissue"
    if not inputs.common_genes():
        reasons |= dict.fromkeys(("log_counts", "pca"), "no gene is measured on every slide")
    return reasons


def _controls(inputs: Inputs, cohort: Cohort) -> dict[str, Features]:
    missing = left_out(inputs, cohort)
    n_cells = np.log(cohort.n_cells())[:, None]
    ways: dict[str, Features] = {"cell_count": lambda train: n_cells}
    if "tissue" not in missing:
        tissue = pd.get_dummies(pd.Series(cohort.tissue)).to_numpy(dtype=np.float64)
        ways["tissue"] = lambda train: tissue
    if "log_counts" not in missing:
        genes = inputs.common_genes()
        rows = _log_pooled(cohort.pooled(lambda cells: inputs.counts(cells, genes)), inputs.values)
        ways["log_counts"] = lambda train: _most_variable(rows, train)
        ways["pca"] = lambda train: _components(_most_variable(rows, train), train)
    return ways


def _log_pooled(mean: NDArray[np.float64], values: str) -> NDArray[np.float64]:
    """Return [I, G] logs of mean counts, each item scaled to one depth, which needs no fit."""
    if values == "log":
        return mean
    if values == "normalised":
        return np.log1p(mean)
    return np.log1p(_DEPTH * mean / np.maximum(mean.sum(axis=1, keepdims=True), 1e-12))


def _most_variable(rows: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    kept = np.sort(np.argsort(-rows[train].var(axis=0), kind="stable")[:MAX_GENES])
    return rows[:, kept]


def _components(rows: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    n = min(N_COMPONENTS, len(train) - 1, rows.shape[1])
    return PCA(n, svd_solver="full").fit(rows[train]).transform(rows)


def _row(found: OutOfFold, cohort: Cohort, division: Division, params: Params, name: str) -> Row:
    """Score, and resample donors."""
    positive = cohort.positive
    right, shared = concordance(found, positive, division)
    correct = correctness(found, positive)
    n_donors = int(division.donor.max()) + 1
    rng = generator(params.seed, "evaluate", "biomarker", "bootstrap")
    drawn = rng.multinomial(n_donors, np.full(n_donors, 1 / n_donors), size=params.bootstrap)[:, division.donor]
    whole = np.ones((1, len(positive)), dtype=np.int64)
    estimates: dict[str, Estimate] = {}
    for metric, score in (
        ("auc", lambda weights: _auc(right, shared, positive, weights)),
        ("balanced_accuracy", lambda weights: _balanced(correct, positive, weights)),
    ):
        draws = score(drawn)
        kept = draws[np.isfinite(draws)]  # a draw without one of the classes has no score
        estimates[metric] = interval(float(score(whole)[0]), kept, params.confidence, (0.0, 1.0))
    per_item = {"auc": _placement(right, shared, positive), "balanced_accuracy": _share(correct, positive)}
    per_unit = {metric: _by_donor(values, cohort.donor) for metric, values in per_item.items()}
    about: dict[str, Any] = {"what": _WHAT[name]} if name in _WHAT else {}
    return Row(estimates, per_unit, about | ({"c": found.chosen} if found.chosen else {}))


def _auc(
    right: NDArray[np.float64], shared: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return [R] of [R, I] weights."""
    p, n = weights[:, positive], weights[:, ~positive]
    pairs = ((p @ shared) * n).sum(axis=1)
    return np.where(pairs > 0, ((p @ right) * n).sum(axis=1) / np.where(pairs > 0, pairs, 1), np.nan)


def _balanced(
    correct: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    recalls = []
    for side in (positive, ~positive):
        n = weights[:, side].sum(axis=1)
        recalls.append(np.where(n > 0, weights[:, side] @ correct[side] / np.maximum(n, 1), np.nan))
    return np.mean(recalls, axis=0)


def _placement(
    right: NDArray[np.float64], shared: NDArray[np.float64], positive: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return [I], the share of the other class that an item is ranked on its side of."""
    found = np.full(len(positive), np.nan)
    for side, axis in ((positive, 1), (~positive, 0)):
        pairs = shared.sum(axis=axis)
        found[side] = np.where(pairs > 0, right.sum(axis=axis) / np.where(pairs > 0, pairs, 1), np.nan)
    return found


def _share(correct: NDArray[np.float64], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return [I] values whose mean is the balanced accuracy."""
    size = np.where(positive, positive.sum(), (~positive).sum())
    return correct * len(positive) / (2 * size)


def _by_donor(values: NDArray[np.float64], donor: NDArray[np.str_]) -> dict[str, float]:
    kept = np.isfinite(values)
    return {str(name): float(values[kept & (donor == name)].mean()) for name in np.unique(donor[kept])}
