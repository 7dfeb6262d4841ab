"""Pearson's and Spearman's correlation of many columns at once, blockwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256  # columns ranked at once, so that memory stays linear
_CONSTANT = 1e-12

Correlation = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.float64]]


def pearson(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return [C], column by column of two [n, C] tables; NaN where the truth is constant, 0 where the prediction is."""
    return _by_block(truth, predicted, _pearson)


def spearman(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the same of ranks; ties share their mean rank."""
    from scipy.stats import rankdata

    return _by_block(truth, predicted, lambda t, p: _pearson(rankdata(t, axis=0), rankdata(p, axis=0)))


def _by_block(
    truth: NDArray[np.floating], predicted: NDArray[np.floating], correlate: Correlation
) -> NDArray[np.float64]:
    blocks = [slice(start, start + _BLOCK) for start in range(0, truth.shape[1], _BLOCK)]
    found = [correlate(*(table[:, block].astype(np.float64) for table in (truth, predicted))) for block in blocks]
    return np.concatenate(found)


def _pearson(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    varies = [np.ptp(table, axis=0) > _CONSTANT * (1 + np.abs(table[0])) for table in (truth, predicted)]
    t, p = (table - table.mean(axis=0) for table in (truth, predicted))
    size = np.sqrt((t**2).sum(axis=0) * (p**2).sum(axis=0))
    r = np.clip((t * p).sum(axis=0) / np.where(size > 0, size, 1), -1, 1)
    return np.where(varies[0], np.where(varies[1], r, 0.0), np.nan)
