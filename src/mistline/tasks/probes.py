"""Classifiers put on a representation: linear, nearest neighbours and a small network.

All are fitted on training cells. Validation cells choose the number of neighbours and when the network stops;
what has chosen is then fitted on training and validation cells together, but for the network, which would have
nothing left to stop it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.tasks import small_network
from mistline.tasks.class_scores import macro_f1, table
from mistline.tasks.label_controls import linear_probe

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
_NEAR = 1e-6


@dataclass(frozen=True, slots=True)
class Task:
    """What a probe learns from.

    Args:
        labels: [N] codes; only those of `train` and `val` are looked at.
        train: rows.
        val: rows, at least one.
        n_classes: L.
        seed: of whatever is drawn.
        sizes: of the network.
    """

    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    n_classes: int
    seed: int = 0
    sizes: small_network.Sizes = field(default_factory=small_network.Sizes)


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe says.

    Args:
        probability: [N, L]; a class without training cells has 0.
        val_macro_f1: of the validation cells, by the probe fitted on training cells alone.
        about: what was chosen.
    """

    probability: NDArray[np.float64]
    val_macro_f1: float
    about: dict[str, Any] = field(default_factory=dict)


def linear(points: NDArray[np.float32], task: Task) -> Probed:
    """Fit multinomial logistic regression on standardised features."""
    both = np.sort(np.concatenate([task.train, task.val]))
    chosen = linear_probe(points, task.labels[task.train], task.train, task.n_classes)
    fitted = linear_probe(points, task.labels[both], both, task.n_classes)
    return Probed(fitted, _score(chosen, task))


def nearest(points: NDArray[np.float32], task: Task) -> Probed:
    """Vote among the nearest cells (Euclidean, features as they are), weighted by the inverse of their distance."""
    choices = [k for k in NEIGHBOURS if k <= len(task.train)]
    distance, found = _neighbours(points, task.train, points[task.val], max(choices))
    votes = np.zeros((len(points), task.n_classes))
    scores = []
    for k in choices:
        votes[task.val] = _vote(distance[:, :k], task.labels[task.train][found[:, :k]], task.n_classes)
        scores.append(_score(votes, task))
    k = choices[int(np.argmax(scores))]
    both = np.sort(np.concatenate([task.train, task.val]))
    distance, found = _neighbours(points, both, points, k)
    votes = _vote(distance, task.labels[both][found], task.n_classes)
    return Probed(votes, max(scores), {"n_neighbors": k})


def network(points: NDArray[np.float32], task: Task) -> Probed:
    """Train a network with one hidden layer on standardised features until the validation loss stops falling."""
    train = task.labels[task.train]
    known = np.unique(train)
    code = np.full(task.n_classes, -1, dtype=np.int64)
    code[known] = np.arange(len(known))
    mean, scale = points[task.train].mean(axis=0), points[task.train].std(axis=0)
    standard = ((points - mean) / np.where(scale > 0, scale, 1)).astype(np.float32)
    weights, epochs = small_network.train(
        (standard[task.train], standard[task.val]),
        (code[train], code[task.labels[task.val]]),
        len(known),
        task.sizes,
        np.random.default_rng(task.seed),
    )
    probability = np.zeros((len(points), task.n_classes))
    probability[:, known] = small_network.predict(weights, standard)
    return Probed(probability, _score(probability, task), {"epochs": epochs})


PROBES: dict[str, Callable[[NDArray[np.float32], Task], Probed]] = {
    "linear": linear,
    "knn": nearest,
    "mlp": network,
}


def _score(probability: NDArray[np.float64], task: Task) -> float:
    predicted = probability[task.val].argmax(axis=1)
    return float(macro_f1(table(predicted, task.labels[task.val], task.n_classes))[0])


def _neighbours(
    points: NDArray[np.float32], rows: NDArray[np.int64], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return ([n, k] distances, [n, k] places in `rows`) of the nearest of some rows; exact, in blocks."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points[rows])
    return search.kneighbors(queries)


def _vote(distance: NDArray[np.float64], label: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    weight = 1 / np.maximum(distance.astype(np.float64), _NEAR)
    flat = np.arange(len(label))[:, None] * n_classes + label
    votes = np.bincount(flat.ravel(), weight.ravel(), len(label) * n_classes).reshape(len(label), n_classes)
    return votes / votes.sum(axis=1, keepdims=True)
