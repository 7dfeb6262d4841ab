"""The metrics of one row: some images beside the real images of the tested cells, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.tasks.base import Estimate, Row
from mistline.tasks.generation import Params
from mistline.tasks.generation_distances import (
    correlations,
    frechet,
    kernel_distance,
    kernel_gaps,
    nearest,
    psnr,
    ssim,
    wasserstein,
)
from mistline.tasks.generation_features import Features
from mistline.tasks.generation_problem import Images, Problem, Seen, within_slides
from mistline.tasks.picture_features import FEATURES
from mistline.tasks.stats import Unit, bootstrap_mean, interval

_BOUNDS = {"_r": (-1.0, 1.0), "_pearson": (-1.0, 1.0), "_distance": (0.0, np.inf), "fid": (0.0, np.inf)}
_FREE = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images beside real ones.

    Args:
        seen: [n] images that are judged.
        real: [n] real images.
        nuclei: [n, M] of both, less the mean of the slide; None where the pairs are of different cells.
        read: [n, G] what the probe reads in `seen`, less the mean of the slide, and the truth; None as above.
        unit: what is resampled.
        scale: [M] standard deviation of each measure of the nucleus, over training cells.
    """

    seen: Seen
    real: Seen
    nuclei: tuple[Features, Features] | None
    read: tuple[Features, Features] | None
    unit: Unit
    scale: Features


def score(problem: Problem, images: Images, params: Params, about: Mapping[str, Any]) -> Row:
    """Judge images [n, C, S', S'], one for each tested cell."""
    seen = problem.see(images)
    pairs = _pairs(problem, seen)
    by_cell = {
        "psnr": psnr(problem.real.images, seen.images),
        "ssim": ssim(problem.real.images, seen.images),
        "copies": (nearest(seen.features, problem.trained.features)[0] < problem.copy_distance).astype(np.float64),
    }
    estimates, per_unit = _means(by_cell, pairs.unit, params)
    of_sets, units_of_sets = _resampled(pairs, params)
    return Row({**estimates, **of_sets}, {**per_unit, **units_of_sets}, dict(about))


def score_real(problem: Problem, others: Images | None, params: Params, about: Mapping[str, Any]) -> Row:
    """Judge real images: the genes read in the tested cells' own, and how far further test cells are from them.

    Args:
        problem: the tested cells.
        others: images [n, C, S, S] of `problem.others`; None where there are too few.
        params: of the task.
        about: of the row.
    """
    own = replace(_pairs(problem, problem.real), nuclei=None)
    estimates, per_unit = _resampled(own, params, ("readback_pearson",))
    if others is not None:
        rows, beside = problem.paired, problem.see(others)
        codes = problem.unit.codes[rows]
        kept, codes = np.unique(codes, return_inverse=True)
        unit = Unit(problem.unit.name, codes.astype(np.int64), tuple(problem.unit.names[i] for i in kept))
        pairs = Pairs(beside, _taken(problem.real, rows), None, None, unit, _scale(problem))
        apart, units_apart = _resampled(pairs, params)
        estimates, per_unit = {**estimates, **apart}, {**per_unit, **units_apart}
    return Row(estimates, per_unit, dict(about), is_ceiling=True)


def _pairs(problem: Problem, seen: Seen) -> Pairs:
    read = problem.probe.read(seen.features, seen.nucleus)
    centred = [within_slides(table, problem.cells) for table in (problem.real.nucleus, seen.nucleus, read)]
    return Pairs(
        seen, problem.real, (centred[0], centred[1]), (problem.genes, centred[2]), problem.unit, _scale(problem)
    )


def _scale(problem: Problem) -> Features:
    spread = problem.trained.nucleus.std(axis=0)
    return np.where(spread > 0, spread, 1)


def _taken(seen: Seen, rows: NDArray[np.int64]) -> Seen:
    return Seen(seen.images[rows], seen.features[rows], seen.nucleus[rows])


def _means(
    by_cell: Mapping[str, Features], unit: Unit, params: Params
) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Return means over units, or over cells, with their intervals."""
    estimates, per_unit = {}, {}
    size = np.bincount(unit.codes, minlength=unit.n_units)
    for name, values in by_cell.items():
        rng = generator(params.seed, "evaluate", "generation", name)
        if unit.name == "cell":
            resampled = {str(number): value for number, value in enumerate(values.tolist())}
        else:
            resampled = per_unit[name] = unit.by_name(np.bincount(unit.codes, values, unit.n_units) / size)
        bounds = (0.0, np.inf) if name != "ssim" else (-1.0, 1.0)
        estimates[name] = bootstrap_mean(resampled, params.bootstrap, params.confidence, rng, bounds)
    return estimates, per_unit


def _resampled(
    pairs: Pairs, params: Params, wanted: tuple[str, ...] = ()
) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Return what is a function of many cells at once: `wanted`, or everything that the pairs tell.

    Where donors or slides are resampled, the value is the mean over them of what the cells of each say; of FID, whose
    size depends on the number of images, it is that of all cells.
    """
    unit, n = pairs.unit, len(pairs.unit.codes)
    rng = generator(params.seed, "evaluate", "generation", "sets")
    estimates: dict[str, Estimate] = {}
    per_unit: dict[str, dict[str, float]] = {}
    if unit.name == "cell":
        drawn = np.concatenate([np.arange(n)[None], rng.integers(n, size=(params.bootstrap, n))])
        weights = _counts(drawn, n)
        for name, values in _of_sets(pairs, np.arange(n), weights, drawn, wanted).items():
            _keep(estimates, name, float(values[0]), values[1:], params)
    else:
        own = [np.flatnonzero(unit.codes == number) for number in range(unit.n_units)]
        found = [_of_sets(pairs, rows, np.ones((1, len(rows))), np.arange(len(rows))[None], wanted) for rows in own]
        for name in found[0]:
            by_name = unit.by_name(np.array([values[name][0] for values in found]))
            per_unit[name] = {key: value for key, value in by_name.items() if np.isfinite(value)}
            mean = bootstrap_mean(per_unit[name], params.bootstrap, params.confidence, rng, _bounds(name))
            if np.isfinite(mean.value):
                estimates[name] = mean
        of_units = _counts(rng.integers(unit.n_units, size=(params.bootstrap, unit.n_units)), unit.n_units)
        weights = np.concatenate([np.ones((1, n)), of_units[:, unit.codes]])
    if not wanted:
        values = frechet(pairs.seen.features, pairs.real.features, weights)
        _keep(estimates, "fid", float(values[0]), values[1:], params)
    return estimates, per_unit


def _of_sets(
    pairs: Pairs, rows: NDArray[np.int64], weights: Features, drawn: NDArray[np.int64], wanted: tuple[str, ...]
) -> dict[str, Features]:
    """Return metric -> [R] of some cells.

    Args:
        pairs: all cells.
        rows: those looked at.
        weights: [R, m], counts of each of them.
        drawn: [R, m], the same as places in `rows`.
        wanted: metrics; empty for all.
    """
    found: dict[str, Features] = {}
    if pairs.read is not None:
        told, truth = pairs.read[1][rows], pairs.read[0][rows]
        found["readback_pearson"] = _mean_known(correlations(truth, told, weights))
    if wanted:
        return {name: found[name] for name in wanted}
    seen, real = _taken(pairs.seen, rows), _taken(pairs.real, rows)
    found["kid"] = kernel_distance(kernel_gaps(seen.features, real.features), weights)
    gaps = wasserstein(seen.nucleus / pairs.scale, real.nucleus / pairs.scale, drawn)
    found |= {f"{name}_distance": column for name, column in zip(FEATURES, gaps.T, strict=True)}
    if pairs.nuclei is not None:
        alike = correlations(pairs.nuclei[0][rows], pairs.nuclei[1][rows], weights)
        found |= {f"{name}_r": column for name, column in zip(FEATURES, alike.T, strict=True)}
    return found


def _mean_known(values: Features) -> Features:
    """Return [R] means of [R, G] over what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    total = known.sum(axis=1)
    return np.where(total > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(total, 1), np.nan)


def _counts(drawn: NDArray[np.int64], n: int) -> Features:
    """Return [R, n]: how often each of n is in a row of `drawn`."""
    flat = drawn + n * np.arange(len(drawn))[:, None]
    return np.bincount(flat.ravel(), minlength=n * len(drawn)).reshape(-1, n).astype(np.float64)


def _keep(estimates: dict[str, Estimate], name: str, value: float, draws: Features, params: Params) -> None:
    known = draws[np.isfinite(draws)]
    if np.isfinite(value) and len(known):
        estimates[name] = interval(value, known, params.confidence, _bounds(name))


def _bounds(name: str) -> tuple[float, float]:
    return next((bounds for part, bounds in _BOUNDS.items() if name.endswith(part)), _FREE)
