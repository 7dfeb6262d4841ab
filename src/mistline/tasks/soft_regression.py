"""Multinomial logistic regression on proportions instead of classes.

Its loss, the cross-entropy of the proportions, is the Kullback-Leibler divergence but for a constant: what is
minimised is what is reported, the answer lies on the simplex without a projection, and the problem is convex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from threadpoolctl import threadpool_limits

L2 = (10.0, 1.0, 0.1, 0.01, 0.001)  # tried, from the strongest on; each starts where the one before ended
_MAX_ITERATIONS = 300


@dataclass(frozen=True, slots=True)
class SoftRegression:
    """A fitted regression of proportions on features.

    Args:
        mean: [D] of the training features.
        scale: [D] their spread, 1 where they are constant.
        weights: [D + 1, L]; the last row is the intercept.
        l2: penalty on the weights, the intercept left out.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    l2: float

    def predict(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return [n, L] proportions of [n, D] points."""
        return softmax(_design(points, self.mean, self.scale) @ self.weights, axis=1)


def fit(
    points: NDArray[np.floating],
    proportions: NDArray[np.float64],
    val_points: NDArray[np.floating],
    val_proportions: NDArray[np.float64],
) -> SoftRegression:
    """Fit on training items, with the penalty that is best on validation items.

    Args:
        points: [n, D] of the training items.
        proportions: [n, L]; each row sums to 1.
        val_points: [m, D]; none: the penalty is the middle one.
        val_proportions: [m, L].
    """
    mean, spread = points.mean(axis=0, dtype=np.float64), points.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1.0)
    design = _design(points, mean, scale)
    weights = np.zeros((design.shape[1], proportions.shape[1]))
    tried: list[tuple[float, SoftRegression]] = []
    with threadpool_limits(limits=1):  # the last bits of a sum depend on the threads, and iterations magnify them
        for l2 in L2 if len(val_points) else (L2[len(L2) // 2],):
            weights = _minimise(design, proportions, weights, l2)
            fitted = SoftRegression(mean, scale, weights, l2)
            tried.append((cross_entropy(fitted.predict(val_points), val_proportions), fitted))
    return min(tried, key=lambda item: item[0])[1]


def cross_entropy(predicted: NDArray[np.float64], proportions: NDArray[np.float64]) -> float:
    """Return the mean cross-entropy of [n, L] proportions in nats; 0 where there are none."""
    if not len(predicted):
        return 0.0
    return float(-(proportions * np.log(np.maximum(predicted, np.finfo(np.float64).tiny))).sum(axis=1).mean())


def _design(points: NDArray[np.floating], mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([(points - mean) / scale, np.ones(len(points))])


def _minimise(
    design: NDArray[np.float64], proportions: NDArray[np.float64], start: NDArray[np.float64], l2: float
) -> NDArray[np.float64]:
    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(start.shape)
        penalised = weights.copy()
        penalised[-1] = 0
        log_p = log_softmax(design @ weights, axis=1)
        value = -(proportions * log_p).sum() / len(design) + 0.5 * l2 * (penalised**2).sum()
        gradient = design.T @ (np.exp(log_p) - proportions) / len(design) + l2 * penalised
        return float(value), gradient.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    return found.x.reshape(start.shape)
