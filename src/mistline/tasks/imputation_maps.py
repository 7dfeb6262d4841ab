"""What of a gene is spatial: Moran's I over nearest cells, and structural similarity under a window of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter

from mistline.graphs.build import nearest_others

NEIGHBOURS = 8  # cells around a cell, of Moran's I
CELLS_A_SQUARE = 4  # of the grid, on average over the slide's box
SIGMA, TRUNCATE = 1.5, 3.5  # of the Gaussian window, in squares
_CONSTANT = 1e-12

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Maps:
    """Where the cells of a slide lie.

    Args:
        near: [n, k] the nearest other cells of each.
        square: CSR [S, n] weights that make the mean over the cells of each square of the grid.
        shape: (rows, columns) of the grid, S squares.
    """

    near: NDArray[np.int64]
    square: sparse.csr_matrix
    shape: tuple[int, int]

    def moran(self, values: Numbers) -> Numbers:
        """Return [W], Moran's I of columns [n, W]; 0 of a column that does not vary."""
        centred = values - values.mean(axis=0)
        around = np.zeros_like(centred)
        for column in self.near.T:
            around += centred[column]
        varies = np.ptp(values, axis=0) > _CONSTANT * (1 + np.abs(values[0]))
        alike = (centred * around).sum(axis=0) / self.near.shape[1]
        found: Numbers = np.where(varies, alike / np.where(varies, (centred**2).sum(axis=0), 1), 0)
        return found

    def ssim(self, truth: Numbers, predicted: Numbers, c1: float, c2: float) -> Numbers:
        """Return [W], the mean over squares that hold cells of the structural similarity under the window.

        Args:
            truth: [n, W], maximum 1.
            predicted: [n, W], maximum 1.
            c1: steadies the ratio of means.
            c2: steadies the ratio of variances.
        """
        a, b = (self.square @ values for values in (truth, predicted))
        mean_a, mean_b, aa, bb, ab = self._window(a, b, a * a, b * b, a * b)
        var_a, var_b, both = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
        above = (2 * mean_a * mean_b + c1) * (2 * both + c2)
        below = (mean_a**2 + mean_b**2 + c1) * (np.maximum(var_a, 0) + np.maximum(var_b, 0) + c2)
        found: Numbers = (above / below).mean(axis=0)
        return found

    def _window(self, *tables: Numbers) -> list[Numbers]:
        """Return means under the window of each [S, W], [held squares, W]; empty squares weigh nothing."""
        held = np.diff(self.square.indptr) > 0
        weight = self._smooth(held[:, None].astype(np.float64))[held]
        return [self._smooth(table)[held] / weight for table in tables]

    def _smooth(self, table: Numbers) -> Numbers:
        picture = table.reshape(*self.shape, -1)
        smooth = gaussian_filter(picture, (SIGMA, SIGMA, 0), truncate=TRUNCATE, mode="constant")
        return np.asarray(smooth, dtype=np.float64).reshape(table.shape)


def maps_of(xy_um: Numbers) -> Maps | None:
    """Return the maps of places [n, 2]; None where some are not known, or all are the same."""
    if not np.isfinite(xy_um).all() or len(xy_um) < 2 or not np.ptp(xy_um, axis=0).any():
        return None
    place = xy_um - xy_um.min(axis=0)
    box = place.max(axis=0) * (1 + 1 / (np.sqrt(len(xy_um)) - 1))  # cells at the edge have a surrounding of their own
    n_squares = max(len(xy_um) / CELLS_A_SQUARE, 1)
    # The lower bound keeps the grid of a slide that is hardly wide from having more squares than cells.
    side = max(float(np.sqrt(box.prod() / n_squares)), float(box.max() / (4 * np.sqrt(n_squares))))
    rows, columns = (place // side).astype(np.int64).T
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    number = rows * shape[1] + columns
    share = 1 / np.bincount(number, minlength=shape[0] * shape[1])[number]
    cells = np.arange(len(xy_um))
    square = sparse.csr_matrix((share, (number, cells)), shape=(shape[0] * shape[1], len(xy_um)))
    return Maps(nearest_others(xy_um, NEIGHBOURS), square, shape)
