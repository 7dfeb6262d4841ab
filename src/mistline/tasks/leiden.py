"""kNN graph with UMAP's edge weights, and Leiden communities on it.

The graph is the one single-cell users know (15 neighbours, the cell itself included, fuzzy-set weights), from
exact distances: the same cells give the same graph, whatever the number of threads.
"""

from __future__ import annotations

import random

import igraph
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

_BISECTIONS = 64
_SMALLEST_SCALE = 1e-3  # of the mean distance: keeps duplicates from a bandwidth of zero


def neighbour_graph(points: NDArray[np.floating], n_neighbors: int) -> sparse.csr_matrix:
    """Build the symmetric weighted graph.

    Args:
        points: [n, D] one row a cell.
        n_neighbors: neighbours of a cell, itself included.

    Returns:
        [n, n] sparse weights in (0, 1].
    """
    n = len(points)
    k = min(n_neighbors, n)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(np.asarray(points, dtype=np.float32))
    distance, index = search.kneighbors(points)
    distance, index = _without_self(distance, index)
    weight = _fuzzy_weights(distance, k)
    rows = np.repeat(np.arange(n), k - 1)
    graph = sparse.csr_matrix((weight.ravel(), (rows, index.ravel())), shape=(n, n))
    return (graph + graph.T - graph.multiply(graph.T)).tocsr()


def communities(graph: sparse.csr_matrix, resolution: float, n_iterations: int, seed: int) -> NDArray[np.int64]:
    """Return [n] community numbers, 0..K-1 by falling size."""
    upper = sparse.triu(graph, k=1).tocoo()
    net = igraph.Graph(n=graph.shape[0], edges=np.column_stack([upper.row, upper.col]).tolist())
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = net.community_leiden(
            objective_function="modularity",
            weights=upper.data.tolist(),
            resolution=resolution,
            n_iterations=n_iterations,
        )
    finally:
        igraph.set_random_number_generator(random)
    _, codes, sizes = np.unique(found.membership, return_inverse=True, return_counts=True)
    return np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")[codes].astype(np.int64)


def _without_self(
    distance: NDArray[np.float64], index: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Drop each cell from its own neighbours; among duplicates it need not come first."""
    n, k = index.shape
    drop = index == np.arange(n)[:, None]
    drop[~drop.any(axis=1), -1] = True  # pushed out by duplicates of itself: drop the farthest instead
    keep = ~drop
    return distance[keep].reshape(n, k - 1), index[keep].reshape(n, k - 1)


def _fuzzy_weights(distance: NDArray[np.float64], n_neighbors: int) -> NDArray[np.float64]:
    """Return exp(-(d - rho) / sigma), sigma such that a cell's weights sum to log2 of its neighbours.

    Args:
        distance: [n, k - 1] rising distances, the cell itself left out.
        n_neighbors: k, itself included.
    """
    positive = np.where(distance > 0, distance, np.inf)
    rho = np.where(np.isfinite(positive.min(axis=1)), positive.min(axis=1), 0.0)
    excess = np.maximum(distance - rho[:, None], 0.0)
    target = np.log2(n_neighbors)
    low, high = np.zeros(len(distance)), np.full(len(distance), np.inf)
    sigma = np.ones(len(distance))
    for _ in range(_BISECTIONS):
        too_wide = np.exp(-excess / sigma[:, None]).sum(axis=1) > target
        high, low = np.where(too_wide, sigma, high), np.where(too_wide, low, sigma)
        sigma = np.where(np.isinf(high), sigma * 2, (low + np.where(np.isinf(high), low, high)) / 2)
    floor = _SMALLEST_SCALE * np.where(rho > 0, distance.mean(axis=1), distance.mean())
    return np.exp(-excess / np.maximum(np.maximum(sigma, floor), np.finfo(np.float64).tiny)[:, None])
