"""How far imputed genes are from measured ones, gene by gene.

Forms are those of the benchmarks of imputation: SSIM is a global formula on vectors that are scaled by their maximum,
RMSE is that of z-scored genes, sqrt(2 - 2 r), and JS is in nats on vectors that are divided by their sum. A gene that
does not vary, in truth or prediction, has no correlation and counts 0, which makes an RMSE of sqrt(2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from mistline.tasks.correlation import pearson, spearman
from mistline.tasks.imputation_maps import Maps

Numbers = NDArray[np.float64]
Values = NDArray[np.floating]

C1, C2 = 0.01**2, 0.03**2  # of SSIM, for vectors whose maximum is 1
NOMINAL = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))  # shares that intervals are said to hold
_LEAST = 1e-12  # added before dividing by the sum
_BLOCK = 128  # genes at once, so that memory stays linear


def measure(truth: Values, predicted: Values, maps: Maps | None) -> dict[str, Numbers]:
    """Compare [n, W] with [n, W].

    Args:
        truth: measured, a column a gene.
        predicted: imputed.
        maps: where the cells lie; None where places are not known.

    Returns:
        metric -> [W]; NaN where a gene has none.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, truth.shape[1], _BLOCK)]
    found = [
        _of_block(truth[:, block].astype(np.float64), predicted[:, block].astype(np.float64), maps) for block in blocks
    ]
    return {name: np.concatenate([own[name] for own in found]) for name in found[0]}


def _of_block(truth: Numbers, predicted: Numbers, maps: Maps | None) -> dict[str, Numbers]:
    pcc = np.nan_to_num(pearson(truth, predicted))
    scaled = by_maximum(truth), by_maximum(predicted)
    found = {
        "pcc": pcc,
        "spearman": np.nan_to_num(spearman(truth, predicted)),
        "ssim": ssim(*scaled),
        "rmse": np.sqrt(np.maximum(2 - 2 * pcc, 0)),
        "rmse_log": np.sqrt(((truth - predicted) ** 2).mean(axis=0)),
        "js": jensen_shannon(truth, predicted),
        "auc": detection(truth, predicted),
    }
    if maps is not None:
        found["ssim_windowed"] = maps.ssim(*scaled, C1, C2)
        found["moran_difference"] = np.abs(maps.moran(truth) - maps.moran(predicted))
    return found


def by_maximum(values: Numbers) -> Numbers:
    """Return [n, W] divided by the maximum of each column; one without a positive value stays as it is."""
    top = values.max(axis=0)
    found: Numbers = values / np.where(top > 0, top, 1)
    return found


def ssim(truth: Numbers, predicted: Numbers) -> Numbers:
    """Return [W] structural similarity of columns whose maximum is 1, without a window."""
    mean_t, mean_p = truth.mean(axis=0), predicted.mean(axis=0)
    var_t, var_p = truth.var(axis=0), predicted.var(axis=0)
    both, deviation = ((truth - mean_t) * (predicted - mean_p)).mean(axis=0), np.sqrt(var_t * var_p)
    light = (2 * mean_t * mean_p + C1) / (mean_t**2 + mean_p**2 + C1)
    contrast = (2 * deviation + C2) / (var_t + var_p + C2)
    found: Numbers = light * contrast * (both + C2 / 2) / (deviation + C2 / 2)
    return found


def jensen_shannon(truth: Numbers, predicted: Numbers) -> Numbers:
    """Return [W] divergences in nats; negative values count as none."""
    shares = []
    for values in (truth, predicted):
        positive = np.maximum(values, 0) + _LEAST
        shares.append(positive / positive.sum(axis=0))
    middle = (shares[0] + shares[1]) / 2
    found = sum((share * np.log(share / middle)).sum(axis=0) for share in shares) / 2
    return np.maximum(np.asarray(found, dtype=np.float64), 0)


def detection(truth: Numbers, predicted: Numbers) -> Numbers:
    """Return [W] areas under the curve of telling cells with a gene from those without; NaN where only one is there."""
    has = truth > 0
    n_with = has.sum(axis=0)
    pairs = n_with * (len(truth) - n_with)
    above = (rankdata(predicted, axis=0) * has).sum(axis=0) - n_with * (n_with + 1) / 2
    found: Numbers = np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)
    return found


def measure_sd(truth: Values, predicted: Values, sd: Values) -> tuple[dict[str, Numbers], Numbers]:
    """Ask whether a method knows how unsure it is.

    Args:
        truth: [n, W].
        predicted: [n, W].
        sd: [n, W].

    Returns:
        (metric -> [W]; [len(NOMINAL), W] the share of cells whose truth lies in the interval that should hold so many,
        if errors were normal).
    """
    error = np.abs(truth.astype(np.float64) - predicted)
    widths = [float(norm.ppf((1 + share) / 2)) for share in NOMINAL]
    covered = np.array([(error <= width * sd).mean(axis=0) for width in widths])
    return {"coverage_90": covered[NOMINAL.index(0.9)], "sd_r": np.nan_to_num(spearman(error, sd))}, covered
