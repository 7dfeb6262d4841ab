"""The rows of a cross-modal table: what is decoded from what, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.tasks import places
from mistline.tasks.base import MODEL, Estimate, Inputs, Row
from mistline.tasks.controls import LogCounts, fit_log_counts, has_coordinates
from mistline.tasks.correlation import Correlation, pearson, spearman
from mistline.tasks.crossmodal import Params
from mistline.tasks.decoders import DECODERS, Pairs, Table
from mistline.tasks.stats import FEWEST_UNITS, Unit, bootstrap_mean, choose_unit

SPLITS = ("train", "val", "test")
_CORRELATIONS = {"pearson": pearson, "spearman": spearman}
_WHAT = {
    "gene_mean": "the mean of each gene over the training cells, for every cell",
    "embedding_mean": "the mean embedding of the training cells, for every cell",
    "coordinates": places.WHAT,
    "shuffled": "decoded from rows dealt to other cells of the same split",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is decoded.

    Args:
        cells: split -> the cells drawn.
        genes: split -> [n, G] log-normalised.
        log_counts: how they were made.
        unit: what is resampled; its codes belong to the test cells.
        to_genes: whether genes are the target.
    """

    cells: Mapping[str, pd.DataFrame]
    genes: Mapping[str, Table]
    log_counts: LogCounts
    unit: Unit
    to_genes: bool

    @property
    def axis(self) -> str:
        """What a column of the target is."""
        return "gene" if self.to_genes else "dimension"

    @property
    def unit_name(self) -> str:
        """What intervals resample: donor, slide, gene or dimension."""
        return self.axis if self.unit.name == "cell" else self.unit.name

    @property
    def note(self) -> str:
        """A sentence for the result file."""
        if self.unit.name != "cell":
            return self.unit.note
        return (
            f"intervals resample {self.axis}s, and cells for what is averaged over cells: fewer than {FEWEST_UNITS} "
            "test donors and slides, so they say nothing of another donor"
        )

    @property
    def donors_disjoint(self) -> bool:
        """Whether no tested donor is trained on."""
        return not set(self.cells["test"]["donor"]) & set(self.cells["train"]["donor"])


def gather(inputs: Inputs, params: Params, way: str) -> Problem:
    """Draw the cells of each split and read their genes, scaled by what the training cells say.

    Raises:
        InputError: no training or test cell, or no gene that is measured on every slide.
    """
    cells = {split: inputs.cells(split, at_most=params.max_cells, seed=params.seed) for split in SPLITS}
    for split in ("train", "test"):
        if cells[split].empty:
            raise InputError("tasks.crossmodal", f"no {split} cell", "look at splits.json")
    fitted, train = fit_log_counts(inputs, cells["train"])
    genes = {"train": train.toarray()}
    for split in ("val", "test"):
        part = cells[split]
        rows = fitted.rows(inputs, part).toarray() if len(part) else genes["train"][:0]
        genes[split] = rows
    unit = choose_unit(*(cells["test"][name].to_numpy(dtype=str) for name in ("donor", "slide")))
    return Problem(cells, genes, fitted, unit, way == "image_to_genes")


def left_out(problem: Problem) -> dict[str, str]:
    """Return control -> why it is not in the file of the controls."""
    reasons = (
        {} if has_coordinates(pd.concat(problem.cells.values())) else {"coordinates": "not every slide has coordinates"}
    )
    if problem.to_genes:
        return reasons | dict.fromkeys(("pca", "log_counts"), "made of the genes that are asked for")
    depends = "what is asked for depends on the model, and so does this control: it is in the model's file"
    return {"coordinates": depends} | reasons | {"embedding_mean": depends}


def rows_of(inputs: Inputs, problem: Problem, params: Params, decoder: str) -> dict[str, Row]:
    """Return the rows of one file: a model and what depends on it, or the controls."""
    if problem.to_genes and inputs.is_controls:
        return _without_decoder(problem, problem.genes, "gene_mean", params)
    if inputs.is_controls:
        return {}
    image = _embedding(inputs, problem)
    points, targets = (image, problem.genes) if problem.to_genes else (problem.genes, _standardised(image))
    rows = {}
    for name, given in ((MODEL, points), ("shuffled", _dealt(points, params.seed))):
        pairs = Pairs(dict(given), {split: targets[split] for split in ("train", "val")})
        predicted, chosen = DECODERS[decoder](pairs, params.seed)
        rows[name] = _row(predicted, targets["test"], problem, params, {"decoder": decoder, **chosen}, name)
    if not problem.to_genes:
        rows |= _without_decoder(problem, targets, "embedding_mean", params)
    return rows


def _without_decoder(problem: Problem, targets: Mapping[str, Table], mean: str, params: Params) -> dict[str, Row]:
    """Return the rows that are given no modality: the mean of the training cells, and of those nearest by place."""
    test = targets["test"]
    constant = np.tile(targets["train"].mean(axis=0), (len(test), 1))
    rows = {mean: _row(constant, test, problem, params, {}, mean)}
    cells = pd.concat(problem.cells.values(), ignore_index=True)
    if has_coordinates(cells):
        split = np.repeat(np.array(SPLITS, dtype=object), [len(problem.cells[name]) for name in SPLITS])
        # What is asked for is not shown: the rows of the test cells are blank.
        values = np.concatenate([targets["train"], targets["val"], np.full_like(test, np.nan)])
        nearest, k = places.nearest_mean(places.comparable(cells.assign(split=split)), values, split)
        rows["coordinates"] = _row(nearest, test, problem, params, {"neighbours": k}, "coordinates")
    return rows


def _embedding(inputs: Inputs, problem: Problem) -> dict[str, Table]:
    found = {split: inputs.embedding(cells) for split, cells in problem.cells.items() if len(cells)}
    return {split: found.get(split, found["train"][:0]) for split in SPLITS}


def _standardised(values: Mapping[str, Table]) -> dict[str, Table]:
    """Bring the dimensions of an embedding to one scale, or a cell's correlation would be that of the largest."""
    mean, spread = values["train"].mean(axis=0), values["train"].std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    return {split: (rows - mean) / scale for split, rows in values.items()}


def _dealt(points: Mapping[str, Table], seed: int) -> dict[str, Table]:
    return {
        split: rows[generator(seed, "evaluate", "crossmodal", "shuffled", split).permutation(len(rows))]
        for split, rows in points.items()
    }


def _row(
    predicted: NDArray[np.floating],
    truth: Table,
    problem: Problem,
    params: Params,
    about: dict[str, Any],
    name: str,
) -> Row:
    """Correlate on both axes, and resample what the table resamples."""
    estimates: dict[str, Estimate] = {}
    per_unit: dict[str, Mapping[str, float]] = {}
    for kind, correlate in _CORRELATIONS.items():
        for axis, values in _values(correlate, predicted, truth, problem).items():
            metric = f"{kind}_{axis}"
            rng = generator(params.seed, "evaluate", "crossmodal", metric)
            mean = bootstrap_mean(values, params.bootstrap, params.confidence, rng, (-1.0, 1.0))
            if np.isfinite(mean.value):
                estimates[metric] = mean
                # Cells, and the dimensions of one model, are no units that another row has too.
                paired = problem.unit.name != "cell" or axis == "gene"
                per_unit[metric] = {key: value for key, value in values.items() if paired and np.isfinite(value)}
    return Row(estimates, per_unit, about | ({"what": _WHAT[name]} if name in _WHAT else {}))


def _values(
    correlate: Correlation, predicted: NDArray[np.floating], truth: Table, problem: Problem
) -> dict[str, dict[str, float]]:
    """Return axis -> what is resampled -> its correlation; NaN where the truth is constant."""
    of_cells = correlate(truth.T, predicted.T)
    unit = problem.unit
    if unit.name == "cell":
        names = problem.log_counts.genes if problem.to_genes else range(truth.shape[1])
        of_columns = zip(map(str, names), correlate(truth, predicted).tolist(), strict=True)
        return {problem.axis: dict(of_columns), "cell": {str(i): value for i, value in enumerate(of_cells.tolist())}}
    own = [np.flatnonzero(unit.codes == number) for number in range(unit.n_units)]
    by_axis = {
        problem.axis: [_mean(correlate(truth[rows], predicted[rows])) for rows in own],
        "cell": [_mean(of_cells[rows]) for rows in own],
    }
    return {axis: unit.by_name(np.array(values)) for axis, values in by_axis.items()}


def _mean(values: NDArray[np.float64]) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")
