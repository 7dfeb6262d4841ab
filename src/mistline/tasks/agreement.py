"""Agreement of two partitions from their contingency table: ARI, NMI and AMI of many tables at once.

`R` tables, `K` clusters, `L` classes. Definitions as in scikit-learn (natural logarithm, arithmetic mean).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.cluster import expected_mutual_information

Tables = NDArray[np.int64]  # [R, K, L]
_EXACT_ITEMS = 1_000_000  # replicates x cells up to which every replicate gets its own expectation


def adjusted_rand(tables: Tables) -> NDArray[np.float64]:
    """Return the adjusted Rand index of each table; 1 for two partitions that are both trivial in the same way."""
    counts = tables.astype(np.float64)
    both = _pairs(counts).sum(axis=(1, 2))
    rows, columns = _pairs(counts.sum(axis=2)).sum(axis=1), _pairs(counts.sum(axis=1)).sum(axis=1)
    expected = rows * columns / np.maximum(_pairs(counts.sum(axis=(1, 2))), 1)
    largest = (rows + columns) / 2
    return _ratio(both - expected, largest - expected, where_zero=1.0)


def normalised_information(tables: Tables) -> NDArray[np.float64]:
    """Return mutual information over the mean of the two entropies, for each table."""
    information, mean_entropy = _information(tables)
    return _ratio(information, mean_entropy, where_zero=1.0)


def adjusted_information(tables: Tables) -> NDArray[np.float64]:
    """Return mutual information adjusted for chance, for each table.

    What chance gives depends on the margins alone. Among many replicates of a large table it hardly moves
    (below 1e-3 here) and would cost 14 ms each, so it is taken from their mean table.
    """
    information, mean_entropy = _information(tables)
    if len(tables) > 1 and len(tables) * tables[0].sum() > _EXACT_ITEMS:
        expected = np.array([_expected_information(np.rint(tables.mean(axis=0)))])
    else:
        expected = np.array([_expected_information(table) for table in tables])
    return _ratio(information - expected, mean_entropy - expected, where_zero=1.0)


METRICS = {"ari": adjusted_rand, "nmi": normalised_information, "ami": adjusted_information}


def _pairs(n: NDArray[np.float64]) -> NDArray[np.float64]:
    return n * (n - 1) / 2


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64], where_zero: float) -> NDArray[np.float64]:
    flat = np.abs(below) < np.finfo(np.float64).eps
    return np.where(flat, where_zero, above / np.where(flat, 1.0, below))


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = counts / counts.sum(axis=1, keepdims=True)
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)


def _information(tables: Tables) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counts = tables.astype(np.float64)
    rows, columns = _entropy(counts.sum(axis=2)), _entropy(counts.sum(axis=1))
    joint = _entropy(counts.reshape(len(counts), -1))
    return np.maximum(rows + columns - joint, 0.0), (rows + columns) / 2


def _expected_information(table: NDArray[np.number]) -> float:
    # A resampled table may lose a cluster or a class; empty rows are no cluster.
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0].astype(np.int64)
    return float(expected_mutual_information(kept, int(kept.sum())))
