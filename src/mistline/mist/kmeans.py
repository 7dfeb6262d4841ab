"""K-means with the same bits whatever the number of threads.

Centres start on points that k-means++ spreads over a sample; the first half of Lloyd's iterations sees a larger
sample, the second half all points. Blocks of rows are worked on by several threads and added in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.mist.nearest import Nearest, assign_with_distances, blocks, squared_distances
from mistline.mist.pca import ordered_map

_SEEDING = 32  # points a centre that starts are chosen from
_WARMING = 64  # points a centre that the first half of the iterations sees


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
    randoms = [generator(settings.seed, "kmeans", purpose, restart) for restart in range(settings.restarts)]
    drawn = [random.permutation(len(points))[: _WARMING * k] for random in randoms]

    def start(restart: int) -> NDArray[np.float32]:
        sample = points[np.sort(drawn[restart][: _SEEDING * k])]
        return sample[spread(sample, k, randoms[restart])]

    found: Clusters | None = None
    starts = list(ordered_map(start, range(settings.restarts), settings.threads))
    for centres, rows in zip(starts, drawn, strict=True):
        clusters = _one_start(points, np.sort(rows), centres, settings)
        found = clusters if found is None or clusters.inertia < found.inertia else found
    if found is None:
        raise ValueError("k-means without a start")
    return found


def _one_start(
    points: NDArray[np.float32], rows: NDArray[np.int64], centres: NDArray[np.float32], settings: Settings
) -> Clusters:
    warming = settings.iterations // 2 if len(rows) < len(points) else 0
    if warming:
        centres = lloyd(points[rows], centres, warming, settings.threads)
    centres = lloyd(points, centres, settings.iterations - warming, settings.threads)
    labels, distances = assign_with_distances(points, centres, settings.threads)
    return Clusters(centres, labels, float(distances.mean()))


def spread(points: NDArray[np.float32], k: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Choose K rows by k-means++: each the best of a few drawn by their squared distance to those chosen before.

    Args:
        points: float32 [n, p].
        k: K.
        random: what draws.
    """
    squared = np.einsum("ij,ij->i", points, points)
    ones = np.ones_like(squared)
    across = np.concatenate([points.T, squared[None], ones[None]])  # times [-2 y, 1, |y|^2]: squared distances to y
    n_drawn = 2 + int(np.log(k))
    distance = np.empty((n_drawn, len(points)), dtype=np.float32)
    away = np.full(len(points), np.inf, dtype=np.float32)
    sums = np.empty(len(points), dtype=np.float64)
    drawn = random.integers(len(points), size=1)
    chosen: list[int] = []
    while True:
        of_drawn = distance[: len(drawn)]
        to = np.concatenate([-2.0 * points[drawn], ones[drawn, None], squared[drawn, None]], axis=1)
        np.matmul(to, across, out=of_drawn)
        np.minimum(of_drawn, away, out=of_drawn)
        np.maximum(of_drawn, 0.0, out=of_drawn)
        best = int(of_drawn.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        if len(chosen) == k:
            return np.array(chosen)
        away[:] = of_drawn[best]
        away[chosen[-1]] = 0.0
        np.cumsum(away, dtype=np.float64, out=sums)
        drawn = np.searchsorted(sums, random.random(n_drawn) * sums[-1], side="right")
        drawn = np.minimum(drawn, len(points) - 1)  # where all are chosen, or equal to one that is


def lloyd(
    points: NDArray[np.float32], centres: NDArray[np.float32], iterations: int, threads: int = 1
) -> NDArray[np.float32]:
    """Move centres [K, p] to the means of their points until nothing moves or the iterations are spent.

    A centre that lost its points is put onto the point farthest from its own.
    """
    k = len(centres)
    for _ in range(iterations):
        sums = np.zeros(centres.shape, dtype=np.float64)
        of_blocks: list[NDArray[np.int32]] = []
        for labels, block_sums in ordered_map(partial(_step, Nearest(centres)), blocks(points), threads):
            of_blocks.append(labels)
            sums += block_sums
        labels = np.concatenate(of_blocks)
        counts = np.bincount(labels, minlength=k)
        moved = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            away = squared_distances(points, centres, labels)
            moved[empty] = points[np.argsort(-away, kind="stable")[: len(empty)]]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def group_sums(
    points: NDArray[np.floating] | sparse.csr_matrix, labels: NDArray[np.integer], k: int
) -> NDArray[np.float64]:
    """Return [K, p] the sum of the points of each group, added in the order of the rows, in float64."""
    n = len(labels)
    one_hot = sparse.csc_matrix((np.ones(n), labels, np.arange(n + 1)), shape=(k, n))
    if sparse.issparse(points):
        return np.asarray((one_hot.tocsr() @ points.astype(np.float64)).todense())
    return np.asarray(one_hot @ points.astype(np.float64))


def _step(nearest: Nearest, block: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return [n] labels and [K, p] sums of one block."""
    labels = nearest.labels(block)
    return labels, group_sums(block, labels, len(nearest.centres))
