"""What a cell of a slide borrows from the single cells most like it: a weighted mean over its nearest ones.

`n` cells of the slide, `m` single cells, `F` features that both have, `W` genes, `k` neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_CHUNK = 16_000_000  # similarities that are held at once


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 [n, G] with mean 0 and standard deviation 1 over cells; a constant gene is 0."""
    mean = values.mean(axis=0, dtype=np.float64)
    centred = values - mean.astype(np.float32)
    spread = np.sqrt(np.square(centred, dtype=np.float64).mean(axis=0))
    return centred * np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6).astype(np.float32)


def borrowed(
    cells: NDArray[np.float32], single: NDArray[np.float32], values: NDArray[np.float32], neighbours: int
) -> NDArray[np.float32]:
    """Return float32 [n, W]: values of the nearest single cells by cosine, nearer ones weighing more.

    A neighbour at distance d weighs (1 - d / sum of all d) / (k - 1). Single cells at right angles or further (d >= 1)
    are no neighbours; a cell that has none gets the mean over all single cells.

    Args:
        cells: [n, F].
        single: [m, F].
        values: [m, W] of the single cells.
        neighbours: k, at most m of them are taken.
    """
    found = np.empty((len(cells), values.shape[1]), dtype=np.float32)
    k = min(neighbours, len(single))
    for rows, nearest, distance in _nearest(_unit(cells), _unit(single), k):
        weights = weights_of(distance)
        ends = np.arange(0, nearest.size + 1, k)
        found[rows] = sparse.csr_matrix((weights.ravel(), nearest.ravel(), ends), (len(nearest), len(single))) @ values
        found[rows][~weights.any(axis=1)] = values.mean(axis=0, dtype=np.float64)
    return found


def weights_of(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 [B, k] weights of neighbours, each row of sum 1, or of zeros where all are too far."""
    near = distance < 1
    own = np.where(near, distance, 0).astype(np.float64)
    total, count = own.sum(axis=1, keepdims=True), near.sum(axis=1, keepdims=True)
    share = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
    # Alone, or where all lie at distance 0, the rule is 0 / 0: neighbours weigh alike.
    ruled = (total > 0) & (count > 1)
    weights = np.where(ruled, (1 - share) / np.maximum(count - 1, 1), 1 / np.maximum(count, 1))
    return np.where(near, weights, 0).astype(np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return (rows * np.divide(1, length, out=np.zeros_like(length), where=length > 0)).astype(np.float32)


def _nearest(
    cells: NDArray[np.float32], single: NDArray[np.float32], k: int
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.float32]]]:
    """Yield (rows, nearest [B, k], cosine distance [B, k]) of some cells after the other; never n x m."""
    step = max(1, _CHUNK // len(single))
    for start in range(0, len(cells), step):
        rows = slice(start, min(start + step, len(cells)))
        distance = np.maximum(1 - cells[rows] @ single.T, 0)
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        yield rows, nearest, np.take_along_axis(distance, nearest, axis=1)
