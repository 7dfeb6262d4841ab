"""Accuracy and macro averages from tables of predicted and true classes, many tables at once.

Macro averages are taken over the classes that occur among the true or the predicted ones, and a class without
any hit counts 0: what torchmetrics and scikit-learn do unless told otherwise. So a class that a test set lacks
still costs something when it is predicted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tables = NDArray[np.int64]  # [R, L, L] predicted x true; R tables, L classes


def macro_f1(tables: Tables) -> NDArray[np.float64]:
    """Return the mean over classes of F1, [R]; NaN for a table without cells."""
    hit, said, truly = _margins(tables)
    return _mean_of_occurring(2 * hit / np.maximum(said + truly, 1), said + truly)


def macro_precision(tables: Tables) -> NDArray[np.float64]:
    """Return the mean over classes of precision, [R]; NaN for a table without cells."""
    hit, said, truly = _margins(tables)
    return _mean_of_occurring(hit / np.maximum(said, 1), said + truly)


def accuracy(tables: Tables) -> NDArray[np.float64]:
    """Return the share of cells whose class is right, [R]; NaN for a table without cells."""
    n = tables.sum(axis=(1, 2))
    right = np.trace(tables, axis1=1, axis2=2)
    return np.where(n > 0, right / np.maximum(n, 1), np.nan)


METRICS = {"macro_f1": macro_f1, "macro_precision": macro_precision, "accuracy": accuracy}


def table(predicted: NDArray[np.int64], truth: NDArray[np.int64], n_classes: int) -> Tables:
    """Return [1, L, L] counts of predicted x true classes."""
    flat = predicted * n_classes + truth
    return np.bincount(flat, minlength=n_classes**2).reshape(1, n_classes, n_classes)


def _margins(tables: Tables) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return hits, predicted and true cells of each class, [R, L] each."""
    return np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2), tables.sum(axis=1)


def _mean_of_occurring(scores: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    occurs = n > 0
    classes = occurs.sum(axis=1)
    return np.where(classes > 0, (scores * occurs).sum(axis=1) / np.maximum(classes, 1), np.nan)
