"""Means and medians over genes, with intervals that resample genes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.tasks.base import Estimate, TaskParams
from mistline.tasks.stats import interval

Key = tuple[str, str]  # slide, gene
Numbers = NDArray[np.float64]

MEDIAN_OF = "pcc"  # the metric whose median over genes is told too
_BOUNDS = {
    "pcc": (-1.0, 1.0),
    "pcc_median": (-1.0, 1.0),
    "spearman": (-1.0, 1.0),
    "ssim": (-1.0, 1.0),
    "ssim_windowed": (-1.0, 1.0),
    "rmse": (0.0, 2.0),
    "rmse_log": (0.0, np.inf),
    "js": (0.0, float(np.log(2))),
    "moran_difference": (0.0, 2.0),
    "auc": (0.0, 1.0),
    "coverage_90": (0.0, 1.0),
    "sd_r": (-1.0, 1.0),
}


def per_gene(values: Mapping[str, Mapping[Key, float]]) -> dict[str, dict[str, float]]:
    """Return metric -> gene -> its mean over the slides.

    A gene is one unit of a paired test, whatever the number of slides: its fold and its reference are the same on all.
    """
    return {name: _means_by(own, 1) for name, own in values.items() if own}


def per_slide(values: Mapping[str, Mapping[Key, float]]) -> dict[str, dict[str, float]]:
    """Return metric -> slide -> the mean over its genes."""
    return {name: _means_by(own, 0) for name, own in values.items() if own}


def _means_by(own: Mapping[Key, float], part: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for key, value in own.items():
        found.setdefault(key[part], []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def over_genes(per_unit: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Return metric -> median and standard deviation over its units."""
    return {
        name: {
            "median": float(np.median(list(own.values()))),
            "sd": float(np.std(list(own.values()), ddof=1)) if len(own) > 1 else None,
        }
        for name, own in per_unit.items()
    }


def estimates(values: Mapping[str, Mapping[Key, float]], params: TaskParams) -> dict[str, Estimate]:
    """Return metric -> its mean over units, and of `MEDIAN_OF` the median.

    A gene is drawn with all its slides: what is measured twice of one gene is no second gene.

    Args:
        values: metric -> slide and gene -> value.
        params: of the task.
    """
    found = {}
    for name, own in values.items():
        if not own:
            continue
        table = _by_gene(own)
        found[name] = _mean(table, params, name)
        if name == MEDIAN_OF:
            found[f"{name}_median"] = _median(table, params, f"{name}_median")
    return found


def _by_gene(own: Mapping[Key, float]) -> Numbers:
    """Return [genes, slides]; NaN where a slide does not test a gene."""
    slides, genes = (list(dict.fromkeys(key[part] for key in own)) for part in (0, 1))
    row, column = ({name: number for number, name in enumerate(names)} for names in (genes, slides))
    table = np.full((len(genes), len(slides)), np.nan)
    for (slide, gene), value in own.items():
        table[row[gene], column[slide]] = value
    return table


def _mean(table: Numbers, params: TaskParams, name: str) -> Estimate:
    n = len(table)
    weights = _random(params, name).multinomial(n, np.full(n, 1 / n), size=params.bootstrap)
    total, count = weights @ np.nansum(table, axis=1), weights @ np.isfinite(table).sum(axis=1)
    return interval(float(np.nanmean(table)), total / count, params.confidence, _BOUNDS[name])


def _median(table: Numbers, params: TaskParams, name: str) -> Estimate:
    random, n = _random(params, name), len(table)
    draws = [float(np.nanmedian(table[random.integers(0, n, n)])) for _ in range(params.bootstrap)]
    return interval(float(np.nanmedian(table)), np.array(draws), params.confidence, _BOUNDS[name])


def _random(params: TaskParams, name: str) -> np.random.Generator:
    return generator(params.seed, "evaluate", "imputation", name)
