"""How far generated cells are from measured ones, hole by hole, and the metrics with their intervals.

The published RMSE of unseen regions is, by its size, that of genes z-scored in truth and prediction: of one gene
sqrt(2 - 2 r). It is `z_rmse`, the root of the mean square over genes. A prediction without variance has no z-score; it
counts as r = 0, which makes sqrt(2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.tasks.base import Estimate, TaskParams
from mistline.tasks.correlation import pearson, spearman
from mistline.tasks.stats import FEWEST_UNITS, Unit, bootstrap_mean, choose_unit, interval

Numbers = NDArray[np.float64]

SPEARMAN = "spearman_cell"
_BOUNDS = {"pcc": (-1.0, 1.0), "spearman": (-1.0, 1.0), "z": (0.0, 2.0), "rmse": (0.0, np.inf), "mae": (0.0, np.inf)}
NOTES = {
    "donor": "intervals resample donors",
    "slide": f"intervals resample slides: fewer than {FEWEST_UNITS} test donors",
    "gene": f"intervals resample genes (of {SPEARMAN}: hidden cells): fewer than {FEWEST_UNITS} test donors and "
    "slides, so they describe these slides only and say nothing of another donor",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A hole that is judged.

    Args:
        slide: it is on.
        donor: whose it is.
        spatial: [G] genes of the metrics `_spatial`.
    """

    slide: str
    donor: str
    spatial: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of a table in one hole of n cells and G genes.

    Args:
        r: [G] Pearson over cells; NaN where the truth is constant, 0 where the prediction is.
        squared: [G] mean squared error.
        absolute: [G] mean absolute error.
        rank: [n] Spearman over genes; NaN where the truth is constant.
    """

    r: Numbers
    squared: Numbers
    absolute: Numbers
    rank: Numbers


def measure(truth: NDArray[np.float32], predicted: NDArray[np.float32]) -> Measured:
    """Compare [n, G] with [n, G]."""
    error = predicted.astype(np.float64) - truth
    return Measured(
        pearson(truth, predicted), (error**2).mean(axis=0), np.abs(error).mean(axis=0), spearman(truth.T, predicted.T)
    )


def unit_of(places: Sequence[Place]) -> Unit:
    """Return what intervals resample: donors, slides or, where there are fewer than five, genes."""
    unit = choose_unit(*(np.array([getattr(place, name) for place in places]) for name in ("donor", "slide")))
    return Unit("gene", unit.codes, unit.names) if unit.name == "cell" else unit


def estimates(
    found: Sequence[Measured], places: Sequence[Place], genes: Sequence[str], params: TaskParams
) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Return metric -> its estimate, and metric -> unit -> its value.

    Args:
        found: of each hole.
        places: of the same holes.
        genes: [G] ids.
        params: of the task.
    """
    unit = unit_of(places)
    if unit.name == "gene":
        return _over_genes(found, places, params), _by_gene(found, places, genes)
    per_unit = {name: unit.by_name(values) for name, values in _by_unit(found, places, unit).items()}
    per_unit = {
        name: {key: value for key, value in own.items() if np.isfinite(value)} for name, own in per_unit.items()
    }
    told = {
        name: bootstrap_mean(own, params.bootstrap, params.confidence, _random(params, name), _bounds(name))
        for name, own in per_unit.items()
        if own
    }
    return told, {name: per_unit[name] for name in told}


def _by_unit(found: Sequence[Measured], places: Sequence[Place], unit: Unit) -> dict[str, Numbers]:
    """Return metric -> [units]: the mean over holes of a slide, then over slides of a donor."""
    slides = np.array([place.slide for place in places])
    names, first, of_slide = np.unique(slides, return_index=True, return_inverse=True)
    unit_of_slide = unit.codes[first]
    values = [_of_hole(own, place.spatial, np.ones((1, len(own.r)))) for own, place in zip(found, places, strict=True)]
    result = {}
    for name in values[0]:
        by_hole = np.array([own[name][0] for own in values])
        by_slide = np.array([_mean(by_hole[of_slide == number]) for number in range(len(names))])
        result[name] = np.array([_mean(by_slide[unit_of_slide == number]) for number in range(unit.n_units)])
    return result


def _over_genes(found: Sequence[Measured], places: Sequence[Place], params: TaskParams) -> dict[str, Estimate]:
    """Return estimates whose intervals resample genes, or hidden cells for what ranks all genes of a cell."""
    n_genes = len(found[0].r)
    drawn = _random(params, "genes").multinomial(n_genes, np.full(n_genes, 1 / n_genes), size=params.bootstrap)
    weights = np.concatenate([np.ones((1, n_genes)), drawn])
    by_hole = [_of_hole(own, place.spatial, weights) for own, place in zip(found, places, strict=True)]
    random = _random(params, SPEARMAN)
    for own, values in zip(found, by_hole, strict=True):
        values[SPEARMAN] = _of_cells(own.rank, params.bootstrap, random)
    slides = np.array([place.slide for place in places])
    told = {}
    for name in by_hole[0]:
        table = np.array([values[name] for values in by_hole])
        by_slide = np.array([_column_means(table[slides == slide]) for slide in np.unique(slides)])
        means = _column_means(by_slide)
        draws = means[1:][np.isfinite(means[1:])]
        if np.isfinite(means[0]) and len(draws):
            told[name] = interval(float(means[0]), draws, params.confidence, _bounds(name))
    return told


def _by_gene(found: Sequence[Measured], places: Sequence[Place], genes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return metric -> gene -> its mean over holes; what ranks all genes of a cell has none."""
    r = np.array([own.r for own in found])
    spatial = np.where(np.array([place.spatial for place in places]), r, np.nan)
    values = {
        "pcc": _column_means(r),
        "pcc_spatial": _column_means(spatial),
        "rmse": np.sqrt([own.squared for own in found]).mean(axis=0),
        "mae": np.array([own.absolute for own in found]).mean(axis=0),
    }
    values |= {f"z_rmse{part}": _z_rmse(values[f"pcc{part}"]) for part in ("", "_spatial")}
    return {
        name: {gene: float(value) for gene, value in zip(genes, own, strict=True) if np.isfinite(value)}
        for name, own in values.items()
    }


def _of_hole(own: Measured, spatial: NDArray[np.bool_], weights: Numbers) -> dict[str, Numbers]:
    """Return metric -> [R] for weights of genes [R, G]; of `SPEARMAN`, which knows no weights, [1]."""
    known = np.isfinite(own.r)
    r = np.where(known, own.r, 0)
    everywhere = np.ones_like(known)
    values = {
        "pcc": _weighted(weights, r, known),
        "pcc_spatial": _weighted(weights, r, known & spatial),
        "rmse": np.sqrt(_weighted(weights, own.squared, everywhere)),
        "mae": _weighted(weights, own.absolute, everywhere),
    }
    values |= {f"z_rmse{part}": _z_rmse(values[f"pcc{part}"]) for part in ("", "_spatial")}
    return {**values, SPEARMAN: np.array([_mean(own.rank)])}


def _z_rmse(r: Numbers) -> Numbers:
    return np.sqrt(np.maximum(2 - 2 * r, 0))


def _weighted(weights: Numbers, values: Numbers, known: NDArray[np.bool_]) -> Numbers:
    """Return [R] weighted means over what is known; NaN where nothing is."""
    total = weights @ known
    return np.where(total > 0, weights @ np.where(known, values, 0) / np.maximum(total, 1e-12), np.nan)


def _of_cells(values: Numbers, draws: int, random: np.random.Generator) -> Numbers:
    """Return [1 + draws]: the mean over cells, and over draws of them."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.full(1 + draws, np.nan)
    weights = random.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    return np.concatenate([[values.mean()], weights @ values / len(values)])


def _mean(values: Numbers) -> float:
    """Return the mean over what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _column_means(table: Numbers) -> Numbers:
    """Return [C] the same of each column."""
    known = np.isfinite(table)
    total = known.sum(axis=0)
    return np.where(total > 0, np.where(known, table, 0).sum(axis=0) / np.maximum(total, 1), np.nan)


def _random(params: TaskParams, name: str) -> np.random.Generator:
    return generator(params.seed, "evaluate", "unseen_generation", name)


def _bounds(name: str) -> tuple[float, float]:
    return _BOUNDS[name.split("_")[0]]


def about_depth(rounds: Sequence[NDArray[np.int16]], errors: Sequence[Numbers]) -> list[Mapping[str, float]]:
    """Return, for each round of filling, its cells and their plain RMSE.

    Args:
        rounds: [n] of each hole.
        errors: [n] mean squared error over genes of each hole's cells.
    """
    number, error = np.concatenate(rounds), np.concatenate(errors)
    return [
        {"round": int(k), "cells": int((number == k).sum()), "rmse": float(np.sqrt(error[number == k].mean()))}
        for k in np.unique(number)
    ]
