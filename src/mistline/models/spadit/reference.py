"""What single cells say of genes: profiles over meta-cells, neighbours, and level and spread.

`m` single cells, `G` training genes, `k` some genes, `M` meta-cells. Training genes alone shape the meta-cells; a
gene's own values in the reference are known wherever it is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from mistline.models.spadit.space import Floats

_COMPONENTS = 30  # of the cells, that meta-cells are found in
_CELLS_A_METACELL = 5  # at least, on average


@dataclass(frozen=True, slots=True)
class Reference:
    """Training genes of the reference.

    Args:
        values: [m, G] standardised.
        metacell: int [m].
        n_metacells: M.
    """

    values: Floats
    metacell: NDArray[np.int64]
    n_metacells: int

    @classmethod
    def of(cls, values: NDArray[np.float32], n_metacells: int, seed: int) -> Reference:
        """Return the reference of training genes.

        Args:
            values: [m, G] log-normalised.
            n_metacells: at most so many.
            seed: of the meta-cells.
        """
        own = standardised(values)
        wanted = max(2, min(n_metacells, len(own) // _CELLS_A_METACELL))
        with threadpool_limits(limits=1):
            _, axes = np.linalg.eigh(own.T @ own)
            places = own @ axes[:, ::-1][:, :_COMPONENTS]
            found = MiniBatchKMeans(wanted, n_init=1, batch_size=4096, random_state=seed % 2**32).fit_predict(places)
        kinds, metacell = np.unique(found, return_inverse=True)  # some may have no cell
        return cls(own, metacell, len(kinds))

    def profiles(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [k, M]: the means of genes [m, k] in meta-cells, standardised over these."""
        total = np.zeros((self.n_metacells, values.shape[1]))
        np.add.at(total, self.metacell, values.astype(np.float64))
        means = total / np.bincount(self.metacell, minlength=self.n_metacells)[:, None]
        return standardised(means).T.astype(np.float32)

    def correlations(self, values: NDArray[np.floating]) -> Floats:
        """Return [G, k] of genes [m, k] with training genes."""
        with threadpool_limits(limits=1):
            return np.asarray(self.values.T @ standardised(values) / len(self.values))

    @property
    def among(self) -> Floats:
        """Return [G, G], those of training genes."""
        return self.correlations(self.values)


def standardised(values: NDArray[np.floating]) -> Floats:
    """Return columns [m, k] with mean 0 and standard deviation 1, or 0 where they do not vary."""
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12))


def nearest(correlations: Floats, n: int, own: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return [k, n] training genes that correlate most with each gene, the likest first.

    Args:
        correlations: [G, k].
        n: how many.
        own: [k] places of the genes themselves, which are no neighbours of their own; None for genes that are none.
    """
    among = correlations.copy()
    if own is not None:
        among[own, np.arange(len(own))] = -np.inf
    return np.argsort(-among, axis=0, kind="stable")[:n].T


@dataclass(frozen=True, slots=True)
class Levels:
    """Mean and standard deviation of a gene on the slide, from those in the reference.

    Args:
        to_mean: [3] of 1, mean and standard deviation.
        to_scale: [3] the same for the logarithm of the standard deviation, from logarithms.
        mean_range: least and greatest of training genes.
        scale_range: likewise.
    """

    to_mean: Floats
    to_scale: Floats
    mean_range: tuple[float, float]
    scale_range: tuple[float, float]

    @classmethod
    def of(cls, reference: NDArray[np.float32], mean: Floats, scale: Floats) -> Levels:
        """Fit on training genes.

        Args:
            reference: [m, G].
            mean: [G] on the slide.
            scale: [G].
        """
        to_mean = _least_squares(_moments(reference), mean)
        to_scale = _least_squares(_moments(reference, logarithm=True), np.log(scale))
        return cls(to_mean, to_scale, (mean.min(), mean.max()), (scale.min(), scale.max()))

    def told(self, reference: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return (mean [k], standard deviation [k]) of genes [m, k]."""
        mean = np.clip(_moments(reference) @ self.to_mean, *self.mean_range)
        scale = np.clip(np.exp(_moments(reference, logarithm=True) @ self.to_scale), *self.scale_range)
        return mean, scale


def _moments(values: NDArray[np.float32], logarithm: bool = False) -> Floats:
    mean, spread = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    if logarithm:
        mean, spread = np.log(np.abs(mean) + 1e-3), np.log(spread + 1e-3)
    return np.stack([np.ones_like(mean), mean, spread], axis=1)


def _least_squares(given: Floats, wanted: Floats) -> Floats:
    """Return weights with a little ridge: mean and spread go together over genes."""
    penalty = 1e-3 * len(given) * np.diag([0.0, 1.0, 1.0])
    return np.asarray(np.linalg.solve(given.T @ given + penalty + 1e-9 * np.eye(3), given.T @ wanted))
