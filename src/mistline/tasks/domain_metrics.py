"""Scores of predicted domains: agreement, calibration, and accuracy at the border and away from it.

A spot is of the *ring boundary* when at least one of its ring neighbours in the whole labelled slide has another
label than its own. That depends on labels and places alone, so that no choice of a model's graph can move it.

`N` cells, `L` classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from mistline.tasks.agreement import METRICS as AGREEMENT

N_BINS = 15
_SMALLEST = 1e-7
_CURVE_EDGES_UM = (0, 50, 100, 150, 200, 300, 400, 600, 1000, np.inf)


@dataclass(frozen=True, slots=True)
class Borders:
    """Where the domains of one slide meet.

    Args:
        is_ring: [N] whether a labelled ring neighbour has another label.
        distance_um: [N] to the middle of the nearest pair of neighbours with different labels; infinite without one.
        near: [N, L] whether the class is the cell's own or a ring neighbour's.
    """

    is_ring: NDArray[np.bool_]
    distance_um: NDArray[np.float64]
    near: NDArray[np.bool_]


def borders(graph: sparse.csr_matrix, labels: NDArray[np.int64], xy_um: NDArray[np.float64], n_classes: int) -> Borders:
    """Find the borders of one slide.

    Args:
        graph: [N, N] ring neighbours.
        labels: [N], -1 where unknown.
        xy_um: [N, 2].
        n_classes: L.
    """
    edges = graph.tocoo()
    first, second = edges.row, edges.col
    meets = (labels[first] >= 0) & (labels[second] >= 0) & (labels[first] != labels[second])
    is_ring = np.zeros(len(labels), dtype=bool)
    is_ring[first[meets]] = True
    distance_um = np.full(len(labels), np.inf)
    if meets.any():
        middle = (xy_um[first[meets]] + xy_um[second[meets]]) / 2
        distance_um = cKDTree(middle).query(xy_um)[0]
    near = np.zeros((len(labels), n_classes), dtype=bool)
    known = labels >= 0
    near[np.flatnonzero(known), labels[known]] = True
    both = known[second]
    near[first[both], labels[second[both]]] = True
    return Borders(is_ring, distance_um, near)


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts from which all scores of a slide's test cells follow.

    They are of the cells themselves (R = 1) or of bootstrap replicates; their size does not depend on the number of
    cells.

    Args:
        confusion: [R, L, L] predicted x true class.
        ring: [R, 2, 2] away from the border or at it x wrong or right.
        top2: [R] cells whose true class is among the two most probable.
        near: [R] cells whose predicted class is their own or a ring neighbour's.
        log_loss: [R] mean.
        bins: [R, B, 2] bin of the confidence x wrong or right.
        confidence: [B] mean confidence of each bin.
        log_loss_sd: of a cell.
    """

    confusion: NDArray[np.int64]
    ring: NDArray[np.int64]
    top2: NDArray[np.int64]
    near: NDArray[np.int64]
    log_loss: NDArray[np.float64]
    bins: NDArray[np.int64]
    confidence: NDArray[np.float64]
    log_loss_sd: float

    def resampled(self, draws: int, rng: np.random.Generator) -> Tally:
        """Return bootstrap replicates over cells; each count is drawn by itself, for intervals one metric at a time."""
        n = int(self.confusion.sum())

        def drawn(counts: NDArray[np.int64]) -> NDArray[np.int64]:
            flat = counts.reshape(-1)
            return rng.multinomial(n, flat / n, size=draws).reshape(draws, *counts.shape[1:])

        return replace(
            self,
            confusion=drawn(self.confusion),
            ring=drawn(self.ring),
            top2=rng.binomial(n, self.top2[0] / n, size=draws),
            near=rng.binomial(n, self.near[0] / n, size=draws),
            log_loss=rng.normal(self.log_loss[0], self.log_loss_sd / np.sqrt(n), size=draws),
            bins=drawn(self.bins),
        )

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Return metric -> [R]; NaN where no cell is of the kind, such as no ring cell among those tested."""
        n = self.confusion.sum(axis=(1, 2))
        found = {metric: AGREEMENT[metric](self.confusion) for metric in ("ari", "nmi")}
        found |= _per_class(self.confusion)
        found["accuracy"] = np.trace(self.confusion, axis1=1, axis2=2) / n
        found["top2"] = self.top2 / n
        found["log_loss"] = self.log_loss
        found["ece"] = calibration_error(self.bins, self.confidence)
        with np.errstate(invalid="ignore"):
            found["interior_accuracy"], found["ring_accuracy"] = (self.ring[:, :, 1] / self.ring.sum(axis=2)).T
        found["within_one_ring"] = self.near / n
        return found


def tally(probability: NDArray[np.float64], labels: NDArray[np.int64], where: Borders) -> Tally:
    """Count predicted classes of one slide's test cells.

    Args:
        probability: [N, L], rows summing to 1.
        labels: [N] true classes, all known.
        where: borders, of the same N cells.
    """
    n_classes = probability.shape[1]
    predicted = probability.argmax(axis=1)
    right = predicted == labels
    loss = -np.log(np.clip(probability[np.arange(len(labels)), labels], _SMALLEST, 1))
    confidence = probability.max(axis=1)
    place = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    per_bin = np.bincount(place, minlength=N_BINS)
    return Tally(
        confusion=_table(predicted, labels, (n_classes, n_classes)),
        ring=_table(where.is_ring.astype(np.int64), right.astype(np.int64), (2, 2)),
        top2=np.array([(_rank(probability, labels) < 2).sum()]),
        near=np.array([where.near[np.arange(len(labels)), predicted].sum()]),
        log_loss=np.array([loss.mean()]),
        bins=_table(place, right.astype(np.int64), (N_BINS, 2)),
        confidence=np.bincount(place, confidence, N_BINS) / np.maximum(per_bin, 1),
        log_loss_sd=float(loss.std()),
    )


def agreement(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the contingency table [1, K, L] of clusters of any numbering and classes."""
    return _table(clusters, labels, (int(clusters.max()) + 1, int(labels.max()) + 1))


def log_loss(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean negative logarithm of the true class's probability, clipped at 1e-7."""
    return float(-np.log(np.clip(probability[np.arange(len(labels)), labels], _SMALLEST, 1)).mean())


def calibration_error(bins: NDArray[np.int64], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the expected calibration error [R]: |accuracy - confidence| of the bins [R, B, 2], averaged over cells."""
    n = bins.sum(axis=2)
    gap = np.abs(bins[:, :, 1] / np.maximum(n, 1) - confidence)
    return (n * gap).sum(axis=1) / n.sum(axis=1)


def temperature(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the log-loss of validation cells."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda log_t: log_loss(heated(probability, np.exp(log_t)), labels), bounds=(-3, 3))
    return float(np.exp(found.x))


def heated(probability: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Return probabilities at a temperature: softmax(log p / t)."""
    logit = np.log(np.clip(probability, _SMALLEST, 1)) / t
    logit -= logit.max(axis=1, keepdims=True)
    weight = np.exp(logit)
    return weight / weight.sum(axis=1, keepdims=True)


def border_curve(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], distance_um: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return accuracy and number of cells by distance to the nearest border, in micrometres."""
    right, curve = predicted == labels, []
    for low, high in pairwise(_CURVE_EDGES_UM):
        inside = (distance_um >= low) & ((distance_um < high) | ~np.isfinite(high))
        if inside.any():
            upper = None if np.isinf(high) else float(high)
            curve.append(
                {"from_um": float(low), "to_um": upper, "n": int(inside.sum()), "accuracy": _mean(right[inside])}
            )
    return curve


def _per_class(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return macro F1 and balanced accuracy [R] over the classes that occur among the labels."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)
    said, truly = confusion.sum(axis=2), confusion.sum(axis=1)
    present = truly > 0
    n_present = present.sum(axis=1)
    f1 = 2 * hit / np.maximum(truly + said, 1)
    recall = hit / np.maximum(truly, 1)
    return {
        "macro_f1": (f1 * present).sum(axis=1) / n_present,
        "balanced_accuracy": (recall * present).sum(axis=1) / n_present,
    }


def _table(first: NDArray[np.int64], second: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    return np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(1, *shape)


def _rank(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many classes are more probable than the true one; ties count half of a place, rounded down."""
    own = probability[np.arange(len(labels)), labels][:, None]
    return ((probability > own).sum(axis=1) + ((probability == own).sum(axis=1) - 1) // 2).astype(np.int64)


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")
