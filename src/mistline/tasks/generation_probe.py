"""From an image to the genes of its cell: a ridge regression, fitted to real images of training cells and frozen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from mistline.tasks.generation_features import Features

_PENALTIES = tuple(10.0**power for power in range(-1, 5))


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe.

    Args:
        mean: [F] of the training images' features and nuclei.
        scale: [F] of the same.
        weights: [F, G].
        offset: [G].
        penalty: chosen by leave-one-out error of the training cells.
    """

    mean: Features
    scale: Features
    weights: Features
    offset: Features
    penalty: float

    def read(self, features: Features, nucleus: Features) -> Features:
        """Return [n, G], the genes that images speak of."""
        points = (np.concatenate([features, nucleus], axis=1) - self.mean) / self.scale
        return points @ self.weights + self.offset


def fit_probe(features: Features, nucleus: Features, genes: NDArray[np.floating]) -> Probe:
    """Fit to training cells.

    Args:
        features: [m, d] of their real images.
        nucleus: [m, M] of the same.
        genes: [m, G] log-normalised.
    """
    points = np.concatenate([features, nucleus], axis=1)
    mean, scale = points.mean(axis=0), points.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    ridge = RidgeCV(alphas=_PENALTIES).fit((points - mean) / scale, genes.astype(np.float64))
    weights = np.atleast_2d(ridge.coef_).T
    return Probe(mean, scale, weights, np.atleast_1d(ridge.intercept_), float(ridge.alpha_))
