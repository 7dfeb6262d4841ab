"""Principal components from one pass over the data: exact, and in memory the square of the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mistline.core.errors import InputError

_SMALLEST_SCALE = 1e-8


@dataclass(frozen=True, slots=True)
class Components:
    """A linear map fitted on training cells.

    Args:
        mean: [F].
        scale: [F] what a centred feature is divided by.
        axes: [F, D] orthonormal columns, by falling variance; the largest entry of each is positive.
        share: [D] share of the (scaled) variance each column explains.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32]
    share: NDArray[np.float64]

    def project(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map [n, F] rows to [n, D]."""
        # In float64 the rounding to float32 hides how a product was cut into blocks: batch sizes do not matter.
        return (((rows.astype(np.float64) - self.mean) / self.scale) @ self.axes.astype(np.float64)).astype(np.float32)


class Moments:
    """First and second moments of rows that stream by.

    Args:
        n_features: F.
    """

    def __init__(self, n_features: int) -> None:
        self.n = 0
        self._first: NDArray[np.float64] | None = None
        self._sum = np.zeros(n_features)
        self._cross = np.zeros((n_features, n_features))

    def add(self, rows: NDArray[np.floating]) -> None:
        """Add [n, F] rows."""
        rows = rows.astype(np.float64)
        if self._first is None:
            self._first = rows.mean(axis=0)  # moments about a typical row keep their digits
        rows = rows - self._first
        self.n += len(rows)
        self._sum += rows.sum(axis=0)
        self._cross += rows.T @ rows

    def components(self, n_components: int, weight: NDArray[np.float64] | None = None) -> Components:
        """Return the leading principal components.

        Args:
            n_components: D, at most.
            weight: [F] standard deviation each feature is brought to; None leaves the features as they are.

        Raises:
            InputError: fewer than two rows, or nothing varies.
        """
        if self.n < 2 or self._first is None:
            raise InputError("training cells", f"{self.n} of them, at least 2 are needed", "look at splits.json")
        centre = self._sum / self.n
        covariance = self._cross / self.n - np.outer(centre, centre)
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
        varies = deviation > _SMALLEST_SCALE
        if not varies.any():
            raise InputError("training cells", "all of them look the same to this model", "look at the slides' images")
        scale = np.ones_like(deviation)
        if weight is not None:
            scale = np.where(varies, deviation, 1.0) / weight  # a constant feature stays zero
        values, vectors = _eigen(covariance / np.outer(scale, scale))
        kept = min(n_components, self.n - 1, int(varies.sum()))
        axes = vectors[:, :kept]
        axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(kept)] < 0, -1.0, 1.0)
        share = np.maximum(values, 0)[:kept] / np.maximum(values, 0).sum()
        mean = self._first + centre
        return Components(mean.astype(np.float32), scale.astype(np.float32), axes.astype(np.float32), share)


def _eigen(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues and vectors, largest first, the same for any number of threads."""
    with threadpool_limits(limits=1):
        values, vectors = np.linalg.eigh(matrix)
    return values[::-1], vectors[:, ::-1]
