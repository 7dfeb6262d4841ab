"""The rows of an expression table: a correlation for every tested slide and gene, and its intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.tasks.base import MODEL, Inputs, Row, TaskParams
from mistline.tasks.controls import shuffled
from mistline.tasks.correlation import pearson
from mistline.tasks.expression_problem import Fold
from mistline.tasks.expression_regress import WAYS, regress
from mistline.tasks.places import nearest_mean
from mistline.tasks.stats import FEWEST_UNITS, interval

DESCRIPTIONS = {
    "gene_mean": "the mean of the training cells for every cell: a constant, which counts 0",
    "coordinates": "the mean of the nearest training cells of the slide",
    "colour": "the mean red, green and blue of the patch alone, regressed as an embedding is",
    "shuffled": "the model's own rows, dealt to other cells",
}
NOTES = {
    "donor": "intervals resample tested donors and genes",
    "slide": f"intervals resample tested slides and genes: fewer than {FEWEST_UNITS} tested donors",
    "gene": f"intervals resample genes: fewer than {FEWEST_UNITS} tested donors and slides, so they describe these "
    "slides only and say nothing of another donor",
}

Predicted = dict[str, NDArray[np.float64]]  # way -> [m, G]
Way = Callable[[Fold], tuple[Predicted, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Scored:
    """What is tested, in all folds.

    Args:
        slides: [U] names.
        donors: [U] whose they are.
        genes: [G] of any fold, sorted.
        unit: donor, slide or gene: what is resampled beside, or instead of, slides.
    """

    slides: tuple[str, ...]
    donors: tuple[str, ...]
    genes: tuple[str, ...]
    unit: str


def scored_in(folds: Sequence[Fold]) -> Scored:
    """Gather what is tested.

    Raises:
        InputError: a slide is tested in two folds.
    """
    pairs = [pair for fold in folds for pair in dict.fromkeys(zip(fold.test["slide"], fold.test["donor"], strict=True))]
    slides = tuple(str(slide) for slide, _ in pairs)
    if len(set(slides)) != len(slides):
        raise InputError("folds", "a slide is tested in two folds", "run assign-folds again")
    donors = tuple(str(donor) for _, donor in pairs)
    enough = {"donor": len(set(donors)), "slide": len(slides)}
    unit = next((name for name, n in enough.items() if n >= FEWEST_UNITS), "gene")
    return Scored(slides, donors, tuple(sorted({gene for fold in folds for gene in fold.genes})), unit)


def rows_of(inputs: Inputs, folds: Sequence[Fold], tested: Scored, params: TaskParams) -> dict[str, Row]:
    """Return the rows of a model, or of the controls."""

    def embedded(dealt: bool) -> Way:
        def way(fold: Fold) -> tuple[Predicted, dict[str, Any]]:
            rows = inputs.embedding(pd.concat([fold.train, fold.test], ignore_index=True))
            return _regressed(fold, shuffled(rows, params.seed) if dealt else rows)

        return way

    if inputs.is_controls:
        ways: dict[str, Way] = {
            "gene_mean": _mean,
            "coordinates": _nearest,
            "colour": lambda fold: _colour(inputs, fold),
        }
        ways = {name: way for name, way in ways.items() if name not in left_out(inputs, folds)}
    else:
        ways = {MODEL: embedded(False), "shuffled": embedded(True)}
    return {name: _row(way, folds, tested, params, DESCRIPTIONS.get(name, "")) for name, way in ways.items()}


def left_out(inputs: Inputs, folds: Sequence[Fold]) -> dict[str, str]:
    """Return control -> why it says nothing of these cells."""
    reasons = {}
    lost = any(part[["x_um", "y_um"]].isna().any(axis=None) for fold in folds for part in (fold.train, fold.test))
    if lost or not all(fold.same_slides for fold in folds):
        reasons["coordinates"] = "a place says nothing of another slide, and tested slides are not trained on"
        if lost:
            reasons["coordinates"] = "not every slide has coordinates"
    if inputs.colours(folds[0].train) is None:
        reasons["colour"] = "the slides are no tables with images, whose mean colours are on record"
    return reasons


def _mean(fold: Fold) -> tuple[Predicted, dict[str, Any]]:
    constant = np.tile(fold.known.mean(axis=0, dtype=np.float64), (len(fold.test), 1))
    return dict.fromkeys(WAYS, constant), {}


def _nearest(fold: Fold) -> tuple[Predicted, dict[str, Any]]:
    from mistline.tasks.controls import coordinates

    both = pd.concat([fold.train, fold.test], ignore_index=True)
    split = np.repeat(np.array(["train", "test"], dtype=object), [len(fold.train), len(fold.test)])
    values = np.concatenate([fold.known, np.zeros_like(fold.truth)])  # the truth is not given to what predicts it
    found, k = nearest_mean(coordinates(both).astype(np.float64), values, split)
    return dict.fromkeys(WAYS, found), {"n_neighbors": k}


def _colour(inputs: Inputs, fold: Fold) -> tuple[Predicted, dict[str, Any]]:
    colours = inputs.colours(pd.concat([fold.train, fold.test], ignore_index=True))
    if colours is None:
        raise InputError("colours", "the slides have no images", "leave this control out")
    return _regressed(fold, colours)


def _regressed(fold: Fold, rows: NDArray[np.float32]) -> tuple[Predicted, dict[str, Any]]:
    n = len(fold.train)
    return regress(rows[:n], fold.known, rows[n:])


def _row(way: Way, folds: Sequence[Fold], tested: Scored, params: TaskParams, what: str) -> Row:
    found = {name: np.full((len(tested.slides), len(tested.genes)), np.nan) for name in WAYS}
    about: dict[str, Any] = {"what": what} if what else {}
    chosen = []
    for fold in folds:
        predicted, told = way(fold)
        chosen.append(told)
        columns = np.searchsorted(tested.genes, fold.genes)
        slide = fold.test["slide"].to_numpy(dtype=str)
        for name in dict.fromkeys(slide.tolist()):
            own = slide == name
            for kind, values in predicted.items():
                found[kind][tested.slides.index(name), columns] = pearson(fold.truth[own], values[own])
    about |= {"fitted": chosen} if any(chosen) else {}
    metrics, per_unit = {}, {}
    for kind, table in found.items():
        rng = generator(params.seed, "evaluate", "expression", kind)
        value, draws = bootstrapped(table, tested, params.bootstrap, rng)
        metrics[f"{kind}_pcc"] = interval(value, draws, params.confidence, (-1.0, 1.0))
        per_unit[f"{kind}_pcc"] = by_unit(table, tested)
    return Row(metrics, per_unit, about)


def by_unit(table: NDArray[np.float64], tested: Scored) -> dict[str, float]:
    """Return unit -> mean correlation of [U, G]; genes of a slide first, then slides of a donor."""
    if tested.unit == "gene":
        kept = np.isfinite(table).any(axis=0)
        means = np.nanmean(table[:, kept], axis=0).tolist()
        return dict(zip((gene for gene, keep in zip(tested.genes, kept, strict=True) if keep), means, strict=True))
    names = np.array(tested.slides if tested.unit == "slide" else tested.donors)
    of_slide = np.nanmean(table, axis=1)
    return {str(name): float(of_slide[names == name].mean()) for name in dict.fromkeys(names.tolist())}


def bootstrapped(
    table: NDArray[np.float64], tested: Scored, draws: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    """Return the mean over genes, then slides, then donors, and [R] draws of it.

    Args:
        table: [U, G] correlations; NaN where a gene is not predicted, or constant.
        tested: what its rows and columns are.
        draws: R.
        rng: source of randomness.

    Raises:
        InputError: on some slide no gene varies.
    """
    known = np.isfinite(table)
    if not known.any(axis=1).all():
        slide = tested.slides[int((~known.any(axis=1)).argmax())]
        raise InputError(f"slide {slide}", "none of the genes varies among its tested cells", "leave this slide out")
    n_genes = table.shape[1]
    weight = rng.multinomial(n_genes, np.full(n_genes, 1 / n_genes), size=draws).astype(np.float64)
    total = weight @ known.T  # [R, U]
    of_slide = np.where(total > 0, weight @ np.where(known, table, 0).T / np.maximum(total, 1), np.nan)
    groups = tested.donors if tested.unit == "donor" else tested.slides
    codes = np.unique(groups, return_inverse=True)[1]
    member = (codes == np.arange(codes.max() + 1)[:, None]) / np.bincount(codes)[:, None]  # [units, U]
    value = float((member @ np.nanmean(table, axis=1)).mean())
    of_unit = of_slide[np.isfinite(of_slide).all(axis=1)] @ member.T  # but draws without any gene of a slide
    if tested.unit == "gene":
        return value, of_unit.mean(axis=1)
    units = rng.multinomial(of_unit.shape[1], np.full(of_unit.shape[1], 1 / of_unit.shape[1]), size=len(of_unit))
    return value, (units * of_unit).sum(axis=1) / of_unit.shape[1]
