"""Classifiers that need no model: majority, places alone, and a linear probe or nearest cells in any representation.

All are fitted on training cells; what is chosen (the number of neighbours) is chosen on validation cells.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from mistline.core.seeds import generator

NEIGHBOURS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
MOST_SEARCHED = 50_000  # training cells that nearest ones are looked for among: every one is compared with every cell
_NEAR = 1e-6
_BLOCK = 8192


def majority(train: NDArray[np.int64], n: int, n_classes: int) -> NDArray[np.float64]:
    """Return [n, L]: the classes' shares among the training cells, for every cell."""
    share = np.bincount(train, minlength=n_classes) / len(train)
    return np.tile(share, (n, 1))


def nearest_labels(
    train_xy: NDArray[np.float64],
    train: NDArray[np.int64],
    val_xy: NDArray[np.float64],
    val: NDArray[np.int64],
    xy: NDArray[np.float64],
    n_classes: int,
) -> tuple[NDArray[np.float64], int]:
    """Vote among the nearest training cells, weighted by the inverse of their distance.

    Args:
        train_xy: [m, 2] places of the training cells.
        train: [m] their classes.
        val_xy: [v, 2] of the validation cells, on which the number of neighbours is chosen.
        val: [v] their classes.
        xy: [n, 2] places to predict.
        n_classes: L.

    Returns:
        ([n, L] shares of the vote, number of neighbours chosen).
    """
    tree = cKDTree(train_xy)
    choices = [k for k in NEIGHBOURS if k <= len(train)]
    right = [
        float((_vote(tree, train, val_xy, k, n_classes).argmax(axis=1) == val).mean()) for k in choices if len(val)
    ]
    k = choices[int(np.argmax(right))] if right else min(5, len(train))
    return _vote(tree, train, xy, k, n_classes), k


def _vote(
    tree: cKDTree, train: NDArray[np.int64], xy: NDArray[np.float64], k: int, n_classes: int
) -> NDArray[np.float64]:
    distance, found = (np.asarray(values).reshape(len(xy), k) for values in tree.query(xy, k=k))
    weight = 1 / np.maximum(distance, _NEAR)
    flat = np.arange(len(xy))[:, None] * n_classes + train[found]
    votes = np.bincount(flat.ravel(), weight.ravel(), len(xy) * n_classes).reshape(len(xy), n_classes)
    return votes / votes.sum(axis=1, keepdims=True)


def nearest_alike(
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    rows: Mapping[str, NDArray[np.int64]],
    n_classes: int,
    seed: int,
) -> tuple[NDArray[np.float64], int]:
    """Vote, each alike, among the training cells that are nearest in a representation.

    Args:
        points: [N, D].
        labels: [N]; those of training and validation cells alone are looked at.
        rows: train, val and test -> rows of `points`. The number of neighbours is chosen on `val`, by accuracy.
        n_classes: L.
        seed: of the draw of training cells, where there are more than are searched.

    Returns:
        ([N, L] shares of the vote for validation and test cells, zero for others; number of neighbours chosen).
    """
    from sklearn.neighbors import NearestNeighbors

    train = rows["train"]
    if len(train) > MOST_SEARCHED:
        train = np.sort(generator(seed, "evaluate", "nearest").choice(train, MOST_SEARCHED, replace=False))
    choices = [k for k in NEIGHBOURS if k <= len(train)]
    asked = np.concatenate([rows["val"], rows["test"]])
    n_val = len(rows["val"])
    search = NearestNeighbors(n_neighbors=choices[-1], algorithm="brute").fit(points[train])
    near = np.concatenate(
        [search.kneighbors(points[asked[low : low + _BLOCK]])[1] for low in range(0, len(asked), _BLOCK)]
    )
    found = labels[train][near]
    right = [_shares(found[:n_val, :k], n_classes).argmax(axis=1) == labels[rows["val"]] for k in choices]
    k = choices[int(np.argmax([hits.mean() for hits in right]))] if n_val else min(5, len(train))
    votes = np.zeros((len(points), n_classes))
    votes[asked] = _shares(found[:, :k], n_classes)
    return votes, k


def _shares(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return [n, L] how often each class is among labels [n, k]."""
    flat = np.arange(len(labels))[:, None] * n_classes + labels
    return np.bincount(flat.ravel(), minlength=len(labels) * n_classes).reshape(-1, n_classes) / labels.shape[1]


def linear_probe(
    points: NDArray[np.float32], train: NDArray[np.int64], rows: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    """Fit multinomial logistic regression on standardised features of the training cells; predict all cells.

    Args:
        points: [N, D].
        train: [m] classes of the training cells.
        rows: [m] their rows in `points`.
        n_classes: L; classes that are not among `train` get probability 0.

    Returns:
        [N, L].
    """
    from sklearn.linear_model import LogisticRegression

    known = np.unique(train)
    probability = np.zeros((len(points), n_classes))
    if len(known) == 1:
        probability[:, known] = 1
        return probability
    mean, scale = points[rows].mean(axis=0), points[rows].std(axis=0)
    standard = (points - mean) / np.where(scale > 0, scale, 1)
    fitted = LogisticRegression(max_iter=1000).fit(standard[rows], train)
    probability[:, known] = fitted.predict_proba(standard)
    return probability


def neighbour_mean(points: NDArray[np.float32], graph: sparse.csr_matrix) -> NDArray[np.float32]:
    """Return [N, D] the mean over a cell and its neighbours."""
    closed = (graph + sparse.identity(graph.shape[0], dtype=bool, format="csr")).astype(np.float32)
    return (closed @ points) / np.asarray(closed.sum(axis=1)).reshape(-1, 1)
