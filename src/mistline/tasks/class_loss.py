"""The cross-entropy of classifiers: what they said of each cell's true class, in natural logarithms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mistline.tasks.stats import Unit

SMALLEST = 1e-3  # a probability below counts as this: a vote of neighbours is often exactly 0
NAME = "log_loss"


def losses(probability: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [n] minus the logarithm of the true class' probability.

    Args:
        probability: [n, L].
        truth: [n] codes.
    """
    found = np.take_along_axis(probability, truth[:, None], axis=1)[:, 0]
    return -np.log(np.clip(found, SMALLEST, 1))


def sums_by_unit(values: NDArray[np.float64], unit: Unit) -> NDArray[np.float64]:
    """Return [U, 2] sum and number of the items of each unit."""
    total = np.bincount(unit.codes, values, minlength=unit.n_units)
    return np.stack([total, np.bincount(unit.codes, minlength=unit.n_units)], axis=1)


def draw_means(
    folds: Sequence[NDArray[np.float64]], units: Sequence[Unit], draws: int, seed: Sequence[np.random.Generator]
) -> NDArray[np.float64]:
    """Return [F, R] bootstrap replicates of the mean of each fold.

    Units are resampled by the same weights in every fold. Cells are not drawn one by one: the mean of many is normal,
    and replicates are put in order so that folds which test the same cells do not cancel out.

    Args:
        folds: [n] values of the items of each fold.
        units: of those items.
        draws: R.
        seed: one generator a fold, all of the same seed.
    """
    found = []
    for values, unit, rng in zip(folds, units, seed, strict=True):
        if unit.name == "cell":
            found.append(np.sort(rng.normal(values.mean(), values.std() / np.sqrt(len(values)), draws)))
            continue
        sums = rng.multinomial(unit.n_units, np.full(unit.n_units, 1 / unit.n_units), size=draws) @ sums_by_unit(
            values, unit
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(sums[:, 0] / sums[:, 1])
    return np.array(found)
