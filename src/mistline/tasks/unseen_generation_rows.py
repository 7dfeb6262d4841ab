"""The rows of a table of unseen generation: a model with what depends on it, or the controls; and what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.store.filled import Filled
from mistline.tasks.base import MODEL, Inputs, Row
from mistline.tasks.unseen_generation_controls import CONTROLS, DESCRIPTIONS
from mistline.tasks.unseen_generation_problem import Hidden, HiddenSlide, Problem
from mistline.tasks.unseen_generation_problem import Table as Values
from mistline.tasks.unseen_generation_scores import NOTES, Measured, Place, about_depth, estimates, measure, unit_of

_DESCRIPTIONS = {
    **DESCRIPTIONS,
    "picked": "the same model: the expression of the likeliest meta-cell alone, not weighted by probabilities",
    "shuffled": "the model's own cells, dealt to other places of the same hole",
    "quantised": "ceiling: each hidden cell's own meta-cell of the model's vocabulary",
}
_QUANTISED = "quantised"


@dataclass(frozen=True, slots=True)
class Told:
    """What the rows say of the holes of one slide.

    Args:
        values: row -> [n, G] of each hole.
        rounds: [n] of each hole, in which the model filled its cells; empty for the controls.
        ways: [n] of each hole, how.
    """

    values: dict[str, list[Values]]
    rounds: Sequence[NDArray[np.int16]] = ()
    ways: Sequence[NDArray[np.str_]] = ()


@dataclass(slots=True)
class Table:
    """Holes that were judged so far."""

    found: dict[str, list[Measured]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    holes: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[NDArray[np.int16]] = field(default_factory=list)
    errors: list[NDArray[np.float64]] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=Counter)

    @property
    def unit(self) -> str:
        """What intervals resample."""
        return unit_of(self.places).name

    @property
    def n_cells(self) -> int:
        """How many hidden cells were judged."""
        return sum(hole["cells"] for hole in self.holes)

    def add(self, slide: HiddenSlide, told: Told) -> None:
        """Judge the holes of a slide."""
        for number, hole in enumerate(slide.holes):
            self.places.append(Place(slide.visible.slide, slide.donor, slide.spatial))
            where = {"slide": slide.visible.slide, "hole": hole.number, "centre_um": list(hole.centre_um)}
            self.holes.append({**where, "cells": len(hole.cell_id)})
            for name, values in told.values.items():
                self.found.setdefault(name, []).append(measure(hole.truth, values[number]))
            if told.rounds:
                error = told.values[MODEL][number].astype(np.float64) - hole.truth
                self.errors.append((error**2).mean(axis=1))
        self.rounds += told.rounds
        self.ways.update(name for own in told.ways for name in own.tolist())

    def rows(self, problem: Problem) -> dict[str, Row]:
        """Return the rows of the file."""
        rows = {}
        for name, found in self.found.items():
            metrics, per_unit = estimates(found, self.places, problem.fitted.genes, problem.params)
            about = self._about_model(problem) if name == MODEL else {"what": _DESCRIPTIONS[name]}
            rows[name] = Row(metrics, per_unit, about, is_ceiling=name == _QUANTISED)
        return rows

    def _about_model(self, problem: Problem) -> dict[str, Any]:
        if problem.filled is None:
            return {}
        lacking = set(problem.fitted.genes) - set(problem.filled.genes)
        return {
            **problem.filled.about,
            "genes_generated": 1 - len(lacking) / len(problem.fitted.genes),
            "ways": dict(sorted(self.ways.items())),
            "by_round": about_depth(self.rounds, self.errors),
        }


def rows_of(inputs: Inputs, slide: HiddenSlide, problem: Problem) -> Told:
    """Return what a model, or the controls, say of one slide."""
    if inputs.is_controls:
        places = [hole.xy_um for hole in slide.holes]
        ways = CONTROLS.items()
        return Told({name: way(slide.visible, places, problem.params, problem.side_um) for name, way in ways})
    if problem.filled is None:
        raise InputError("filled cells", "a model is judged and none are given", "run generate-cells")
    return _model(slide, problem, problem.filled)


def settings_of(problem: Problem, table: Table) -> dict[str, Any]:
    """Return what a reader needs to repeat the numbers, in words."""
    asked, found = problem.params.holes.n, Counter(hole["slide"] for hole in table.holes)
    return {
        "side_um": problem.side_um,
        "hidden": table.holes,
        "fewer_holes": {slide: n for slide, n in found.items() if n < asked},
        "drawn": "squares around test cells drawn by hashes of their ids; within the slide's box, of test cells only, "
        "apart from each other, at most half of the slide hidden; all holes of a slide are hidden at once",
        "genes": f"{len(problem.fitted.genes)}, log-normalised to the depth of training cells",
        "pcc": "Pearson of a gene over the cells of a hole, the mean over genes; a constant prediction counts 0, genes "
        "that do not vary in the hole are left out",
        "z_rmse": "sqrt(2 - 2 pcc): RMSE after z-scoring each gene in truth and prediction, sqrt(2) for constants",
        "rmse, mae": "of log-normalised values, over all cells and genes of a hole",
        "spearman_cell": "over all genes within a cell, the mean over cells",
        "_spatial": f"of the {problem.params.n_spatial} genes of largest Moran's I over the slide's visible cells",
        "averaged": "over holes, then slides, then donors",
        "interval": NOTES[table.unit],
    }


def _model(slide: HiddenSlide, problem: Problem, filled: Filled) -> Told:
    own = np.flatnonzero(filled.slide == slide.visible.slide)
    keys = pd.MultiIndex.from_arrays([filled.hole[own].astype(np.int64), filled.cell_id[own]])
    parts = [own[_found(keys, hole, slide)] for hole in slide.holes]
    if sum(map(len, parts)) != len(own):
        what = f"{len(own)} cells of slide {slide.visible.slide} are generated, and {sum(map(len, parts))} are hidden"
        raise InputError("filled cells", what, "run generate-cells with the task's holes")
    columns = pd.Index(filled.genes).get_indexer(pd.Index(problem.fitted.genes))
    if (columns < 0).all():
        raise InputError("filled cells", "none of the task's genes is generated", "train the model on this dataset")
    # A gene that the vocabulary lacks is predicted as the slide's mean, a constant; the share of others is told.
    is_lacking, mean = columns < 0, slide.visible.mean.astype(np.float32)
    expression = filled.expression[:, columns]
    names = (MODEL, "picked", "shuffled") if filled.is_quantised else (MODEL, "shuffled")
    values: dict[str, list[Values]] = {name: [] for name in names}
    for hole, rows in zip(slide.holes, parts, strict=True):
        weighted = np.where(is_lacking, mean, filled.told[rows] @ expression)
        named = ("evaluate", "unseen_generation", "shuffled", slide.visible.slide, hole.number)
        values[MODEL].append(weighted)
        if filled.is_quantised:
            values["picked"].append(np.where(is_lacking, mean, expression[filled.told[rows].argmax(axis=1)]))
        values["shuffled"].append(weighted[generator(problem.params.seed, *named).permutation(len(rows))])
    if (filled.metacell >= 0).all():
        values[_QUANTISED] = [np.where(is_lacking, mean, expression[filled.metacell[rows]]) for rows in parts]
    return Told(values, [filled.round[rows] for rows in parts], [filled.way[rows] for rows in parts])


def _found(keys: pd.MultiIndex, hole: Hidden, slide: HiddenSlide) -> NDArray[np.int64]:
    asked = pd.MultiIndex.from_arrays([np.full(len(hole.cell_id), hole.number, dtype=np.int64), hole.cell_id])
    rows = keys.get_indexer(asked) if keys.is_unique else np.full(len(asked), -1)
    if (rows < 0).any():
        what = (
            f"cell {hole.cell_id[int(np.argmax(rows < 0))]} of slide {slide.visible.slide} is hidden, and not generated"
        )
        raise InputError("filled cells", what, "run generate-cells with the task's holes")
    return rows.astype(np.int64)
