"""How far images are from others: pixel by pixel (PSNR, SSIM), and as distributions (FID, KID, Wasserstein).

Statistics of distributions take replicates as weights [R, n] of the cells, one vector of weights each, so that all
replicates are a few products of matrices.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min

PSNR_CAP = 100.0  # decibels; equal images have no finite one
SIGMA, TRUNCATE, K1, K2 = 1.5, 3.5, 0.01, 0.03
_RADIUS = int(TRUNCATE * SIGMA + 0.5)
_KERNEL = cv2.getGaussianKernel(2 * _RADIUS + 1, SIGMA, cv2.CV_64F)

Table = NDArray[np.float64]


def psnr(truth: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> Table:
    """Return [n] decibels of images [n, C, S, S], for a range of 1 on [0, 1]; at most `PSNR_CAP`."""
    squares = np.array([np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(truth, drawn, strict=True)]) / 255**2
    found: Table = -10 * np.log10(np.maximum(squares, 10 ** (-PSNR_CAP / 10)))
    return found


def ssim(truth: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> Table:
    """Return [n]: structural similarity (Wang et al. 2004) of images [n, C, S, S], the mean over channels.

    Range 1 on [0, 1], a Gaussian window of 1.5 pixels cut at 3.5 of it, K1 0.01 and K2 0.03, variances over the
    window and not over a sample; the frame of half a window's width is left out.
    """
    found = [
        np.mean([_ssim(a / 255, b / 255) for a, b in zip(*pair, strict=True)])
        for pair in zip(truth, drawn, strict=True)
    ]
    return np.array(found, dtype=np.float64)


def _ssim(a: Table, b: Table) -> float:
    """Return the similarity of two planes [S, S]."""
    mean_a, mean_b, aa, bb, ab = (_window(plane) for plane in (a, b, a * a, b * b, a * b))
    products, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    c1, c2 = K1**2, K2**2
    found = (2 * products + c1) * (2 * (ab - products) + c2) / ((squares + c1) * (aa + bb - squares + c2))
    return float(found.mean())


def _window(plane: Table) -> Table:
    """Return means under the window, [S - 2 r, S - 2 r]."""
    smooth = cv2.sepFilter2D(plane, cv2.CV_64F, _KERNEL, _KERNEL)
    return np.asarray(smooth[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS])


def frechet(first: Table, second: Table, weights: Table) -> Table:
    """Return [R] Fréchet distances of two tables of features, each summed up by mean and covariance.

    Args:
        first: [n, d].
        second: [n, d], of the same cells, or paired in any other way.
        weights: [R, n], counts of each row.
    """
    (mean_a, cov_a), (mean_b, cov_b) = (_moments(table, weights) for table in (first, second))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.transpose(0, 2, 1)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum(axis=1)
    traces = np.trace(cov_a, axis1=1, axis2=2) + np.trace(cov_b, axis1=1, axis2=2)
    found: Table = np.maximum(((mean_a - mean_b) ** 2).sum(axis=1) + traces - 2 * shared, 0)
    return found


def _moments(table: Table, weights: Table) -> tuple[Table, Table]:
    n, d = table.shape
    total = weights.sum(axis=1)
    mean = weights @ table / total[:, None]
    squares = (weights @ (table[:, :, None] * table[:, None]).reshape(n, -1)).reshape(-1, d, d)
    spread = squares - total[:, None, None] * mean[:, :, None] * mean[:, None]
    return mean, spread / np.maximum(total - 1, 1)[:, None, None]


def kernel_gaps(first: Table, second: Table) -> Table:
    """Return [n, n], what each pair of cells adds to the kernel distance; the diagonal is 0.

    The kernel is (x . y / d + 1) ** 3 (Binkowski et al. 2018). A pair (i, j) of k(a_i, a_j) + k(b_i, b_j) -
    k(a_i, b_j) - k(a_j, b_i) with i != j has the squared maximum mean discrepancy as its mean even where a_i and b_i
    are of the same cell (Gretton et al. 2012, eq. 4).
    """
    d = first.shape[1]
    own_a, own_b, across = (
        (x @ y.T / d + 1) ** 3 for x, y in ((first, first), (second, second), (first, second))
    )  # fmt: skip
    gaps: Table = own_a + own_b - across - across.T
    np.fill_diagonal(gaps, 0)
    return gaps


def kernel_distance(gaps: Table, weights: Table) -> Table:
    """Return [R] unbiased kernel distances; a cell drawn twice makes no pair with itself.

    Args:
        gaps: [n, n] of `kernel_gaps`.
        weights: [R, n], counts of each cell.
    """
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    found: Table = ((weights @ gaps) * weights).sum(axis=1) / np.maximum(pairs, 1)
    return found


def wasserstein(first: Table, second: Table, drawn: NDArray[np.int64]) -> Table:
    """Return [R, K]: the mean gap of equal ranks, column by column of two [n, K] tables.

    Args:
        first: [n, K].
        second: [n, K].
        drawn: [R, n], the rows of each replicate.
    """
    columns = [
        np.abs(np.sort(a[drawn], axis=1) - np.sort(b[drawn], axis=1)).mean(axis=1)
        for a, b in zip(first.T, second.T, strict=True)
    ]
    return np.column_stack(columns)


def correlations(truth: Table, drawn: Table, weights: Table) -> Table:
    """Return [R, K] of Pearson, column by column; NaN where the truth is constant, 0 where what is drawn is.

    Args:
        truth: [n, K].
        drawn: [n, K].
        weights: [R, n], counts of each cell.
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    mean_t, mean_d = share @ truth, share @ drawn
    var_t, var_d = share @ truth**2 - mean_t**2, share @ drawn**2 - mean_d**2
    both = share @ (truth * drawn) - mean_t * mean_d
    varies_t, varies_d = (
        var > 1e-9 * np.maximum((table**2).mean(axis=0), 1e-12) for var, table in ((var_t, truth), (var_d, drawn))
    )
    r = np.clip(both / np.sqrt(np.where(varies_t & varies_d, var_t * var_d, 1)), -1, 1)
    found: Table = np.where(varies_t, np.where(varies_d, r, 0), np.nan)
    return found


def nearest(points: Table, among: Table) -> tuple[Table, NDArray[np.int64]]:
    """Return the distance [n] of each point to the nearest of others, and which that is."""
    place, distance = pairwise_distances_argmin_min(points, among)
    return np.asarray(distance, dtype=np.float64), np.asarray(place, dtype=np.int64)
