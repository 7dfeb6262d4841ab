"""The nearest of K centres for any number of points: a block at a time, exact, on any number of threads.

Distances of a block are one float32 matrix product, small enough for the cache, into a buffer that each thread
reuses. Where float32 cannot tell the nearest centres of a point apart, float64 decides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mistline.mist.pca import ordered_map

BLOCK = 8192  # rows of one piece of work
_PRODUCT = 2**19  # distances of one matrix product: 2 MiB
_PAIRS = 2**22  # numbers that deciding in float64 may hold
_EPSILON = float(np.finfo(np.float32).eps)


def assign(points: NDArray[np.float32], centres: NDArray[np.float32], threads: int = 1) -> NDArray[np.int32]:
    """Return [n] the nearest centre of each point by Euclidean distance, exact, the first among equals."""
    points = np.ascontiguousarray(points, dtype=np.float32)
    found = list(ordered_map(Nearest(centres).exact, blocks(points), threads))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int32)


def assign_with_distances(
    points: NDArray[np.float32], centres: NDArray[np.float32], threads: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return [n] the nearest centre of each point, as `assign` does, and [n] the squared distance to it."""
    nearest = Nearest(centres)

    def work(block: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        labels = nearest.exact(block)
        return labels, squared_distances(block, nearest.centres, labels)

    found = list(ordered_map(work, blocks(np.ascontiguousarray(points, dtype=np.float32)), threads))
    if not found:
        return np.zeros(0, dtype=np.int32), np.zeros(0)
    labels, distances = zip(*found, strict=True)
    return np.concatenate(labels), np.concatenate(distances)


def squared_distances(
    points: NDArray[np.float32], centres: NDArray[np.float32], labels: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return [n] the squared distance of each point to its centre."""
    out = np.empty(len(points), dtype=np.float64)
    for start in range(0, len(points), BLOCK):
        part = slice(start, start + BLOCK)
        difference = points[part].astype(np.float64) - centres[labels[part]]
        out[part] = np.einsum("ij,ij->i", difference, difference)
    return out


def blocks(points: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the rows in pieces of work, from top to bottom."""
    for start in range(0, len(points), BLOCK):
        yield points[start : start + BLOCK]


class Nearest:
    """The nearest of some centres, for contiguous float32 blocks of points; safe to share between threads.

    Args:
        centres: [K, p].
    """

    def __init__(self, centres: NDArray[np.float32]) -> None:
        self.centres = np.ascontiguousarray(centres, dtype=np.float32)
        self._exact_centres = self.centres.astype(np.float64)
        squared = (self._exact_centres**2).sum(axis=1)
        # [x, 1] times this is |c|^2 - 2 x c, the squared distance but for |x|^2
        self._product = np.concatenate([-2.0 * self.centres.T, squared[None].astype(np.float32)])
        self._reach = float(np.sqrt(squared.max()))
        self._rows = min(2048, max(64, _PRODUCT // len(self.centres)))
        self._local = threading.local()

    def labels(self, block: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return [n] labels as float32 finds them."""
        out = np.empty(len(block), dtype=np.int32)
        for part, distance in self._distances(block):
            out[part] = distance.argmin(axis=1)
        return out

    def exact(self, block: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return [n] exact labels, the first among equals."""
        out = np.empty(len(block), dtype=np.int32)
        reach = self._reach + np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
        slack = 4.0 * (block.shape[1] + 4) * _EPSILON * reach**2  # more than two products can be wrong by
        for part, distance in self._distances(block):
            labels = distance.argmin(axis=1)
            rows = np.arange(len(labels))
            lowest = distance[rows, labels]
            limit = lowest + slack[part]
            distance[rows, labels] = np.inf
            close = np.flatnonzero(distance.min(axis=1) <= limit)
            distance[close, labels[close]] = lowest[close]
            size = max(1, _PAIRS // self.centres.size)
            for start in range(0, len(close), size):
                some = close[start : start + size]
                labels[some] = self._decide(block[part][some], distance[some] <= limit[some, None])
            out[part] = labels
        return out

    def _decide(self, points: NDArray[np.float32], possible: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return [n] the nearest of the possible [n, K] centres, by differences in float64."""
        row, centre = np.nonzero(possible)
        difference = points[row].astype(np.float64) - self._exact_centres[centre]
        distance = np.einsum("ij,ij->i", difference, difference)
        least = np.minimum.reduceat(distance, np.searchsorted(row, np.arange(len(points))))
        best = np.flatnonzero(distance == least[row])
        _, first = np.unique(row[best], return_index=True)
        return centre[best[first]]

    def _distances(self, block: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield rows and their squared distances [n, K] but for |x|^2, in a buffer that is written again."""
        if not hasattr(self._local, "buffer"):
            self._local.points = np.ones((self._rows, len(self._product)), dtype=np.float32)
            self._local.buffer = np.empty((self._rows, len(self.centres)), dtype=np.float32)
        for start in range(0, len(block), self._rows):
            part = slice(start, min(start + self._rows, len(block)))
            points = self._local.points[: part.stop - start]
            points[:, :-1] = block[part]
            yield part, np.matmul(points, self._product, out=self._local.buffer[: len(points)])
