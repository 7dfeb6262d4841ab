"""What is hidden on each slide, what stays visible, and what the controls may read: one slide in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import ranked
from mistline.graphs.build import nearest_others
from mistline.graphs.holes import place_holes
from mistline.store.filled import Filled
from mistline.tasks.base import Inputs
from mistline.tasks.controls import MAX_FIT_CELLS, LogCounts, fit_log_counts, require_coordinates
from mistline.tasks.unseen_generation import Params

NEIGHBOURS = 10  # whose mean Moran's I compares a cell with
SPATIAL_CELLS = 10_000  # visible cells of a slide that genes are ranked on

Table = NDArray[np.float32]
Places = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Visible:
    """The cells of a slide that are not hidden: all that controls are given, beside places of hidden cells.

    Args:
        slide: name.
        cell_id: [m].
        xy_um: [m, 2].
        logs: CSR [m, G] log-normalised counts.
    """

    slide: str
    cell_id: NDArray[np.str_]
    xy_um: Places
    logs: sparse.csr_matrix

    @property
    def mean(self) -> NDArray[np.float64]:
        """[G] over the cells."""
        return np.asarray(self.logs.mean(axis=0), dtype=np.float64).ravel()

    def first(self, n: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the first `n` of a draw by hashes, of all cells or of some rows."""
        rows = np.arange(len(self.cell_id)) if rows is None else rows
        return rows[ranked(self.cell_id[rows].tolist(), 0, "holes", "visible")[:n]]


@dataclass(frozen=True, slots=True)
class Hidden:
    """The cells of one hole.

    Args:
        number: of the hole.
        centre_um: of the square.
        cell_id: [n].
        xy_um: [n, 2].
        truth: [n, G] log-normalised counts; no row of a table is given them.
    """

    number: int
    centre_um: tuple[float, float]
    cell_id: NDArray[np.str_]
    xy_um: Places
    truth: Table


@dataclass(frozen=True, slots=True)
class HiddenSlide:
    """One slide: what is visible and what is hidden.

    Args:
        donor: whose it is.
        visible: see `Visible`.
        holes: at least one.
        spatial: [G] whether a gene is among those that vary most in space, over visible cells.
    """

    donor: str
    visible: Visible
    holes: tuple[Hidden, ...]
    spatial: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Problem:
    """What holds for all slides.

    Args:
        slides: with test cells.
        fitted: genes and depth, decided on training cells.
        params: of the task.
        protocol: name.
        filled: what the model generated; None for the controls.
    """

    slides: tuple[str, ...]
    fitted: LogCounts
    params: Params
    protocol: str
    filled: Filled | None = None

    @property
    def side_um(self) -> float:
        """Side of the squares."""
        return self.params.holes.side_um(self.protocol)


def prepare(inputs: Inputs, params: Params, protocol: str) -> Problem:
    """Choose genes and depth on training cells, find the slides, and read what the model generated.

    Raises:
        InputError: there is no test or training cell, no gene that is measured on every slide, or the cells were
            generated under another protocol.
    """
    slides = tuple(dict.fromkeys(inputs.cells("test")["slide"].astype(str).tolist()))
    if not slides:
        raise InputError("splits", "no slide has a test cell", "look at splits.json")
    fitted, _ = fit_log_counts(inputs, inputs.cells("train", at_most=MAX_FIT_CELLS, seed=params.seed))
    filled = None if inputs.is_controls else inputs.filled()
    if filled is not None and filled.about.get("protocol") != protocol:
        what = f"they were generated for {filled.about.get('protocol')}, this is {protocol}"
        raise InputError("filled cells", what, "run generate-cells for this protocol")
    return Problem(slides, fitted, params, protocol, filled)


def hidden_slides(inputs: Inputs, problem: Problem) -> Iterator[HiddenSlide]:
    """Hide the squares of each slide in turn.

    Raises:
        InputError: a cell has no place, or a slide has no square that fits.
    """
    everything = inputs.cells()
    for slide in problem.slides:
        yield _hide(inputs, everything[everything["slide"] == slide].reset_index(drop=True), problem)


def _hide(inputs: Inputs, cells: pd.DataFrame, problem: Problem) -> HiddenSlide:
    require_coordinates(cells, "unseen_generation")
    slide, ids = str(cells["slide"].iloc[0]), cells["cell_id"].to_numpy(dtype=str)
    xy = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    tested = (cells["split"] == "test").to_numpy()
    found = place_holes(ids.tolist(), xy, tested, problem.side_um, problem.params.holes, slide)
    logs = problem.fitted.rows(inputs, cells)
    holes = tuple(
        Hidden(hole.number, hole.centre_um, ids[hole.rows], xy[hole.rows], logs[hole.rows].toarray()) for hole in found
    )
    seen = np.setdiff1d(np.arange(len(cells)), np.concatenate([hole.rows for hole in found]))
    visible = Visible(slide, ids[seen], xy[seen], logs[seen])
    spatial = most_spatial(visible, problem.params.n_spatial)
    return HiddenSlide(str(cells["donor"].iloc[0]), visible, holes, spatial)


def most_spatial(visible: Visible, n: int) -> NDArray[np.bool_]:
    """Return [G], the `n` genes of largest Moran's I over visible cells; a constant gene is none of them."""
    rows = visible.first(SPATIAL_CELLS)
    xy, logs = visible.xy_um[rows], visible.logs[rows].toarray()
    near = nearest_others(xy, NEIGHBOURS)
    centred = logs - logs.mean(axis=0, dtype=np.float64).astype(np.float32)
    around = np.zeros_like(centred)
    for column in near.T:
        around += centred[column]
    spread = (centred.astype(np.float64) ** 2).sum(axis=0)
    known = spread > 1e-9
    alike = np.einsum("ij,ij->j", centred, around, dtype=np.float64) / max(near.shape[1], 1)
    score = np.where(known, alike / np.where(known, spread, 1), -np.inf)
    chosen = np.zeros(len(score), dtype=bool)
    chosen[np.argsort(-score, kind="stable")[:n]] = True
    return chosen & known
