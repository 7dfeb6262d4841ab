"""Neighbour graphs of one slide, from places alone: hexagonal ring, nearest, radius, Delaunay.

Every builder returns a symmetric boolean CSR matrix [n, n] without self-loops and with sorted indices, in memory
proportional to the number of edges. Isolated nodes keep an empty row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import Delaunay, QhullError, cKDTree

from mistline.core.errors import InputError

# Visium's array: every second column is used in a row, so the six neighbours lie at these (row, column) offsets.
_HEXAGON = ((0, 2), (1, 1), (1, -1))  # one of each pair of opposite directions
_LONG_EDGE = 5.0  # Delaunay edges longer than so many median edges cross a hole or the rim of the tissue


def hexagonal(array_yx: NDArray[np.integer]) -> sparse.csr_matrix:
    """Join the six ring neighbours of a hexagonal array.

    Args:
        array_yx: [n, 2] array row and column of each spot, as Space Ranger numbers them.

    Raises:
        InputError: two spots share a place on the array.
    """
    array_yx = np.asarray(array_yx, dtype=np.int64)
    if not len(array_yx):
        return _symmetric(np.empty(0, np.int64), np.empty(0, np.int64), 0)
    corner = array_yx.min(axis=0) - 2
    width = int(np.ptp(array_yx[:, 1])) + 5
    place = (array_yx - corner) @ (width, 1)
    order = np.argsort(place, kind="stable")
    if len(place) > 1 and (np.diff(place[order]) == 0).any():
        raise InputError("array_row, array_col", "two spots share a place on the array", "keep one slide a table")
    first, second = [], []
    for offset in _HEXAGON:
        wanted = place + np.dot(offset, (width, 1))
        found = order[np.minimum(np.searchsorted(place, wanted, sorter=order), len(place) - 1)]
        hit = place[found] == wanted
        first.append(np.flatnonzero(hit))
        second.append(found[hit])
    return _symmetric(np.concatenate(first), np.concatenate(second), len(place))


def nearest(xy_um: NDArray[np.floating], k: int) -> sparse.csr_matrix:
    """Join every cell with its k nearest others; an edge of one direction counts for both.

    Args:
        xy_um: [n, 2].
        k: neighbours of a cell, 1 or more.
    """
    near = nearest_others(xy_um, k)
    n, k = near.shape
    return _symmetric(np.repeat(np.arange(n), k), near.ravel(), n)


def nearest_others(xy_um: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Return [n, k] the nearest other cells of each, the nearest first; fewer columns where there are fewer others.

    Args:
        xy_um: [n, 2].
        k: neighbours of a cell, 1 or more.
    """
    n = len(xy_um)
    if n < 2:
        return np.empty((n, 0), dtype=np.int64)
    k = min(k, n - 1)
    found = np.asarray(cKDTree(xy_um).query(xy_um, k=k + 1)[1], dtype=np.int64)
    # Among cells at one place a cell may not come first of its own list, so it is struck out wherever it stands.
    others = found != np.arange(n)[:, None]
    late = others.sum(axis=1) > k
    others[late, -1] = False
    return found[others].reshape(n, k)


def radius(xy_um: NDArray[np.floating], radius_um: float) -> sparse.csr_matrix:
    """Join all cells that lie at most `radius_um` apart.

    Args:
        xy_um: [n, 2].
        radius_um: in micrometres.
    """
    pairs = cKDTree(xy_um).query_pairs(radius_um, output_type="ndarray")
    return _symmetric(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), len(xy_um))


def delaunay(xy_um: NDArray[np.floating]) -> sparse.csr_matrix:
    """Join the corners of the Delaunay triangles, without edges far longer than the median.

    Cells at one place are one corner: the first of them takes part, and the others are joined to it.

    Args:
        xy_um: [n, 2].
    """
    points, kept, group = np.unique(xy_um, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    doubled = np.flatnonzero(kept[group] != np.arange(len(xy_um)))
    first, second = [doubled], [kept[group[doubled]]]
    if len(points) >= 3:
        try:
            triangles = Delaunay(points).simplices
        except QhullError:  # all on one line
            return nearest(xy_um, 2)
        edges = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
        length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        edges = edges[length <= _LONG_EDGE * np.median(length)]
        first.append(kept[edges[:, 0]])
        second.append(kept[edges[:, 1]])
    elif len(points) == 2:
        first.append(kept[:1])
        second.append(kept[1:])
    return _symmetric(np.concatenate(first), np.concatenate(second), len(xy_um))


def _symmetric(first: NDArray[np.int64], second: NDArray[np.int64], n: int) -> sparse.csr_matrix:
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    graph = sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(n, n))
    graph.sum_duplicates()
    graph.sort_indices()
    return graph
