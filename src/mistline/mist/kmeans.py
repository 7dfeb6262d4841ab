"""K-means by Lloyd's iterations over blocks of rows, with the same bits whatever the number of threads.

Distances of a block are one matrix product into a reused buffer; sums of a block are one sparse product; both
are combined in the order of the blocks. (The library at hand was faster by little and gave other bits on
another number of threads.)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.mist.pca import ordered_map

_BLOCK = 2048
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Clusters:
    """The outcome of k-means.

    Attributes:
        centres: float32 [K, p], means of their points.
        labels: [n] nearest centre, the first among equals.
        inertia: mean squared distance of a point to its centre.
    """

    centres: NDArray[np.float32]
    labels: NDArray[np.int32]
    inertia: float


@dataclass(frozen=True, slots=True)
class Settings:
    """How k-means is run.

    Attributes:
        restarts: independent random starts; the tightest result is kept, the first among equals.
        iterations: Lloyd iterations of each, fewer when nothing moves any more.
        seed: the run's seed.
        threads: blocks worked on at once; does not change the result.
    """

    restarts: int
    iterations: int
    seed: int
    threads: int = 1


def fit_kmeans(points: NDArray[np.float32], k: int, settings: Settings, purpose: str) -> Clusters:
    """Cluster points into K groups.

    Args:
        points: float32 [n, p].
        k: K, at most n.
        settings: restarts, iterations, seed, threads.
        purpose: what is clustered; part of the seed and of errors.

    Raises:
        InputError: there are fewer points than centres.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if len(points) < k:
        raise InputError(purpose, f"{len(points)} points for {k} centres", f"ask for at most {len(points)}")
    found = [_one_start(points, k, settings, purpose, restart) for restart in range(settings.restarts)]
    return min(found, key=lambda clusters: clusters.inertia)


def _one_start(points: NDArray[np.float32], k: int, settings: Settings, purpose: str, restart: int) -> Clusters:
    random = generator(settings.seed, "kmeans", purpose, restart)
    start = points[np.sort(random.choice(len(points), size=k, replace=False))]
    centres = _lloyd(points, start, settings)
    labels = assign(points, centres, settings.threads)
    return Clusters(centres, labels, float(squared_distances(points, centres, labels).mean()))


def assign(points: NDArray[np.float32], centres: NDArray[np.float32], threads: int = 1) -> NDArray[np.int32]:
    """Return [n] the nearest centre of each point by Euclidean distance, exact, the first among equals.

    A float32 product decides where it can; points whose nearest centres lie within its rounding error are
    decided in float64.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    nearest = _Nearest(centres)

    def work(block: NDArray[np.float32]) -> NDArray[np.int32]:
        labels, close = nearest.labels(block, exact=True)
        labels[close] = nearest.decide(block[close])
        return labels

    found = list(ordered_map(work, _blocks(points), threads))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int32)


def squared_distances(
    points: NDArray[np.float32], centres: NDArray[np.float32], labels: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return [n] the squared distance of each point to its centre."""
    out = np.empty(len(points), dtype=np.float64)
    for start in range(0, len(points), _BLOCK):
        part = slice(start, start + _BLOCK)
        difference = points[part].astype(np.float64) - centres[labels[part]]
        out[part] = np.einsum("ij,ij->i", difference, difference)
    return out


def group_sums(
    points: NDArray[np.floating] | sparse.csr_matrix, labels: NDArray[np.integer], k: int
) -> NDArray[np.float64]:
    """Return [K, p] the sum of the points of each group, added in the order of the rows, in float64."""
    n = len(labels)
    one_hot = sparse.csr_matrix((np.ones(n), labels, np.arange(n + 1)), shape=(n, k)).T.tocsr()
    if sparse.issparse(points):
        return np.asarray((one_hot @ points.astype(np.float64)).todense())
    return np.asarray(one_hot @ points.astype(np.float64))


def _lloyd(points: NDArray[np.float32], centres: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    """Move centres to the means of their points until nothing moves or the iterations are spent."""
    k = len(centres)
    for _ in range(settings.iterations):
        sums = np.zeros(centres.shape, dtype=np.float64)
        labels: list[NDArray[np.int32]] = []
        step = partial(_step, _Nearest(centres))
        for of_block, block_sums in ordered_map(step, _blocks(points), settings.threads):
            labels.append(of_block)
            sums += block_sums
        counts = np.bincount(np.concatenate(labels), minlength=k)
        moved = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            _reseed(moved, empty, points, centres, np.concatenate(labels))
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _step(nearest: _Nearest, block: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return [n] labels and [K, p] sums of one block."""
    labels, _ = nearest.labels(block, exact=False)
    return labels, group_sums(block, labels, len(nearest.centres))


def _reseed(
    moved: NDArray[np.float32],
    empty: NDArray[np.int64],
    points: NDArray[np.float32],
    centres: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> None:
    """Put centres that lost their points onto the points farthest from theirs, the first rows among equals."""
    away = squared_distances(points, centres, labels)
    farthest = np.argsort(-away, kind="stable")[: len(empty)]
    moved[empty] = points[farthest]


class _Nearest:
    """The nearest of some centres for blocks of points; a buffer for each thread."""

    def __init__(self, centres: NDArray[np.float32]) -> None:
        self.centres = np.ascontiguousarray(centres, dtype=np.float32)
        squared = (self.centres.astype(np.float64) ** 2).sum(axis=1)
        self._squared = squared.astype(np.float32)
        self._product = np.ascontiguousarray(-2.0 * self.centres.T)
        self._reach = float(np.sqrt(squared.max()))
        self._local = threading.local()

    def labels(self, block: NDArray[np.float32], exact: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return [n] labels and, if `exact`, the rows that float32 cannot decide."""
        buffer = self._buffer()[: len(block)]
        np.matmul(block, self._product, out=buffer)
        buffer += self._squared  # |c|^2 - 2 x c, the distance but for |x|^2
        labels = buffer.argmin(axis=1)
        if not exact:
            return labels.astype(np.int32), np.zeros(0, dtype=np.int64)
        reach = self._reach + np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
        slack = 4.0 * (block.shape[1] + 4) * _EPSILON * reach**2
        rows = np.arange(len(block))
        lowest = buffer[rows, labels].copy()
        buffer[rows, labels] = np.inf
        return labels.astype(np.int32), np.flatnonzero(buffer.min(axis=1) <= lowest + slack)

    def decide(self, block: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return [n] labels from differences in float64, a few rows at a time."""
        labels = np.empty(len(block), dtype=np.int32)
        centres = self.centres.astype(np.float64)
        size = max(1, 2**20 // centres.size)
        for start in range(0, len(block), size):
            difference = block[start : start + size, None].astype(np.float64) - centres
            labels[start : start + size] = np.einsum("ijk,ijk->ij", difference, difference).argmin(axis=1)
        return labels

    def _buffer(self) -> NDArray[np.float32]:
        if not hasattr(self._local, "buffer"):
            self._local.buffer = np.empty((_BLOCK, len(self.centres)), dtype=np.float32)
        buffer: NDArray[np.float32] = self._local.buffer
        return buffer


def _blocks(points: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(points), _BLOCK):
        yield points[start : start + _BLOCK]
