"""Repeated, nested cross-validation of logistic regression over donors, and its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from mistline.core.seeds import derive
from mistline.tasks.biomarker import Params

PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # scikit-learn's C, the inverse of the penalty
_USUAL = 0.1  # where too few donors are left to choose
_MAX_ITERATIONS = 2000

Features = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # training items -> [I, D] of all items


@dataclass(frozen=True, slots=True)
class Division:
    """Who is tested when.

    Args:
        fold: [repeats, I] the fold in which an item is tested.
        donor: [I] codes; items of a donor share their fold.
        inner_folds: of the choice of the penalty.
        seed: of the evaluation.
    """

    fold: NDArray[np.int64]
    donor: NDArray[np.int64]
    inner_folds: int
    seed: int


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Predictions of items by models that were not trained on their donors.

    Args:
        probability: [repeats, I] of being positive.
        chosen: C -> how often it was chosen.
    """

    probability: NDArray[np.float64]
    chosen: dict[str, int]


def divide(positive: NDArray[np.bool_], donor: NDArray[np.str_], params: Params) -> Division:
    """Divide the items into folds, several times: the same for every model."""
    code = np.unique(donor, return_inverse=True)[1]
    fold = np.full((params.repeats, len(positive)), -1)
    for repeat in range(params.repeats):
        for number, (_, test) in enumerate(_folds(positive, code, params.folds, (params.seed, "outer", repeat))):
            fold[repeat, test] = number
    return Division(fold, code, params.inner_folds, params.seed)


def _folds(
    positive: NDArray[np.bool_], donor: NDArray[np.int64], n_folds: int, name: tuple[int, str, int]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    state = derive(name[0], "evaluate", "biomarker", *name[1:]) % 2**32
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=state)
    return list(splitter.split(np.zeros((len(positive), 1)), positive, donor))


def predict(features: Features, positive: NDArray[np.bool_], division: Division) -> OutOfFold:
    """Predict every item in every repeat; a fold's own target values are not read.

    Args:
        features: training items of a fold -> [I, D], fitted on them alone.
        positive: [I] the target.
        division: who is tested when.
    """
    probability = np.full(division.fold.shape, np.nan)
    chosen: Counter[str] = Counter()
    with threadpool_limits(limits=1):  # many small fits: threads cost more than they bring
        for repeat, fold in enumerate(division.fold):
            for number in np.unique(fold).tolist():
                train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
                points = _rotated(features(train), train)
                c = _penalty(points[train], positive[train], division.donor[train], division)
                probability[repeat, test] = _fit(points[train], positive[train], c).predict_proba(points[test])[:, 1]
                chosen[f"{c:g}"] += 1
    return OutOfFold(probability, dict(sorted(chosen.items())))


def prevalence(positive: NDArray[np.bool_], division: Division) -> OutOfFold:
    """Predict every item by the share of positives among the training items."""
    probability = np.full(division.fold.shape, np.nan)
    for repeat, fold in enumerate(division.fold):
        for number in np.unique(fold).tolist():
            probability[repeat, fold == number] = positive[fold != number].mean()
    return OutOfFold(probability, {})


def _rotated(points: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standardise by the training items, and turn to as many axes as they span: the fit is the same, and faster."""
    spread = points[train].std(axis=0)
    standard = (points - points[train].mean(axis=0)) / np.where(spread > 0, spread, 1)
    if standard.shape[1] <= len(train):
        return standard
    _, _, axes = np.linalg.svd(standard[train], full_matrices=False)
    return standard @ axes.T


def _penalty(
    points: NDArray[np.float64], positive: NDArray[np.bool_], donor: NDArray[np.int64], division: Division
) -> float:
    """Return the C with the smallest loss of donors left out in turn; the stronger penalty of equals."""
    donors = min(len(np.unique(donor[positive == side])) for side in (True, False))
    n_folds = min(division.inner_folds, donors)
    folds = _folds(positive, donor, n_folds, (division.seed, "inner", len(points))) if n_folds > 1 else []
    usable = [(train, test) for train, test in folds if len(np.unique(positive[train])) == 2]
    if not usable:
        return _USUAL
    losses = []
    for c in PENALTIES:
        found = [
            (test, _fit(points[train], positive[train], c).predict_proba(points[test])[:, 1]) for train, test in usable
        ]
        test, p = (np.concatenate(items) for items in zip(*found, strict=True))
        losses.append(log_loss(positive[test], p, labels=[False, True]))
    return PENALTIES[int(np.argmin(losses))]


def _fit(points: NDArray[np.float64], positive: NDArray[np.bool_], c: float) -> LogisticRegression:
    return LogisticRegression(C=c, class_weight="balanced", max_iter=_MAX_ITERATIONS).fit(points, positive)


def concordance(
    found: OutOfFold, positive: NDArray[np.bool_], division: Division
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare each positive with each negative that is tested in the same fold.

    Returns:
        ([P, N] repeats in which the positive is ranked higher, a tie counts half; [P, N] repeats that they share).
    """
    right = np.zeros((int(positive.sum()), int((~positive).sum())))
    shared = np.zeros_like(right)
    for p, fold in zip(found.probability, division.fold, strict=True):
        same = fold[positive][:, None] == fold[~positive]
        difference = p[positive][:, None] - p[~positive]
        right += same * ((difference > 0) + 0.5 * (difference == 0))
        shared += same
    return right, shared


def correctness(found: OutOfFold, positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return [I], the share of repeats in which an item is put on its side of one half."""
    return ((found.probability > 0.5) == positive).mean(axis=0)
