"""The trivial baselines that every table prints beside the models.

Representations take the place of the embedding and are judged in exactly the same way. What is fitted is
fitted on training cells only.

A control is asked for a table of cells and answers [n, D].
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.tasks.base import MODEL, Inputs

logger = logging.getLogger("mistline.tasks")

N_COMPONENTS = 50
MAX_GENES = 2000  # the most variable ones among training cells; panels have fewer
MAX_FIT_CELLS = 20_000
_SLIDE_GAP = 2.0  # slides are laid side by side, this many widths apart, so that places of two slides never meet

DESCRIPTIONS = {
    "coordinates": "the place of the cell alone",
    "log_counts": f"log1p of depth-normalised counts, at most {MAX_GENES} genes",
    "pca": f"{N_COMPONENTS} principal components of log_counts, fitted on at most {MAX_FIT_CELLS} training cells",
    "shuffled": "the model's own rows, dealt to other cells",
    "one_cluster": "all cells together",
}


@dataclass(frozen=True, slots=True)
class LogCounts:
    """Log-normalised counts with genes and depth decided on training cells.

    Args:
        genes: ids, sorted.
        panel: ids of all genes that a cell's total is the sum of, sorted: `genes`, and those that were left out.
        depth: median total of a training cell, which every cell is scaled to.
        values: what is there already: counts, normalised (only logged) or log (taken as it is).
    """

    genes: tuple[str, ...]
    panel: tuple[str, ...]
    depth: float
    values: str = "counts"

    def rows(self, inputs: Inputs, cells: pd.DataFrame) -> sparse.csr_matrix:
        """Return [n, G] of some cells."""
        return self.of(inputs.counts(cells, self.panel))

    def of(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Scale [n, P] raw counts of the panel to the depth and take log1p of the G genes.

        Models scale a cell by all that was counted of it, so genes that are left out are part of its total. A cell
        without counts stays zero.
        """
        kept = counts if self.genes == self.panel else counts[:, np.isin(self.panel, self.genes)]
        if self.values == "log":
            return kept.tocsr().astype(np.float32)
        if self.values == "normalised":
            return kept.astype(np.float64).log1p().tocsr().astype(np.float32)
        totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
        scale = sparse.diags(self.depth / np.maximum(totals, 1.0))
        return (scale @ kept.astype(np.float64)).log1p().tocsr().astype(np.float32)


def representations(inputs: Inputs, cells: pd.DataFrame, seed: int) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """Return row -> how to compute its [n, D] for these cells; nothing is computed yet.

    For a model these are the model itself and its own rows shuffled; for the controls, everything that needs
    no model.

    Args:
        inputs: the files.
        cells: the cells judged.
        seed: of the evaluation.
    """

    @cache
    def embedding() -> NDArray[np.float32]:
        return inputs.embedding(cells)

    @cache
    def fitted() -> tuple[LogCounts, sparse.csr_matrix]:
        return fit_log_counts(inputs, inputs.cells("train", at_most=MAX_FIT_CELLS, seed=seed))

    @cache
    def rows() -> sparse.csr_matrix:
        return fitted()[0].rows(inputs, cells)

    if not inputs.is_controls:
        return {MODEL: embedding, "shuffled": lambda: shuffled(embedding(), seed)}
    found = {
        "coordinates": lambda: coordinates(cells),
        "log_counts": lambda: rows().toarray(),
        "pca": lambda: principal_components(fitted()[1], rows()),
    }
    missing = left_out(inputs, cells)
    for name, reason in missing.items():
        logger.warning("the control %s is left out: %s", name, reason)
    return {name: compute for name, compute in found.items() if name not in missing}


def left_out(inputs: Inputs, cells: pd.DataFrame) -> dict[str, str]:
    """Return control -> why it says nothing of these cells; slides that are no tables have all of them."""
    reasons = {}
    if not has_coordinates(cells):
        reasons["coordinates"] = "not every slide has coordinates"
    if not inputs.common_genes():
        reasons |= dict.fromkeys(("log_counts", "pca"), "no gene is measured on every slide")
    return reasons


def has_coordinates(cells: pd.DataFrame) -> bool:
    """Return whether every cell has a place."""
    return bool(cells[["x_um", "y_um"]].notna().all(axis=None))


def require_coordinates(cells: pd.DataFrame, task: str) -> None:
    """Refuse cells without a place, for a task that asks where cells are.

    Raises:
        InputError: names the slides that lack coordinates.
    """
    lost = cells.loc[cells[["x_um", "y_um"]].isna().any(axis=1), "slide"].unique()
    if len(lost):
        what = f"asks for coordinates, and {len(lost)} slides have none, such as {min(lost)}"
        raise InputError(f"tasks.{task}", what, "leave the task out, or these slides with only:")


def coordinates(cells: pd.DataFrame) -> NDArray[np.float32]:
    """Return [n, 2] micrometres, slides side by side."""
    xy_um = cells[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    slide = pd.factorize(cells["slide"])[0]
    step_um = _SLIDE_GAP * np.ptp(xy_um, axis=0).max()
    xy_um = xy_um - xy_um.min(axis=0)
    xy_um[:, 0] += slide * step_um
    return xy_um.astype(np.float32)


def scaled_places(cells: pd.DataFrame) -> NDArray[np.float32]:
    """Return [n, 2] places within each slide's bounding box, 0 .. 1: what places say of a slide from other slides."""
    places = cells[["x_um", "y_um"]]
    by_slide = places.groupby(cells["slide"])
    low, high = by_slide.transform("min"), by_slide.transform("max")
    return ((places - low) / np.maximum(high - low, 1e-9)).to_numpy(dtype=np.float32)


def shuffled(embedding: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Deal the rows to other cells."""
    return embedding[generator(seed, "evaluate", "shuffled").permutation(len(embedding))]


def principal_components(train: sparse.csr_matrix, rows: sparse.csr_matrix) -> NDArray[np.float32]:
    """Fit on [m, G] training rows, and return [n, D] components of [n, G] rows."""
    from sklearn.decomposition import PCA  # takes longer to import than most models take to be judged

    pca = PCA(n_components=min(N_COMPONENTS, *train.shape), svd_solver="covariance_eigh").fit(train.astype(np.float64))
    return pca.transform(rows.astype(np.float64)).astype(np.float32)


def fit_log_counts(inputs: Inputs, train: pd.DataFrame) -> tuple[LogCounts, sparse.csr_matrix]:
    """Choose genes and depth on training cells; return them with the training cells' own rows."""
    genes = inputs.common_genes()
    if not genes:
        raise InputError("counts", "no gene is measured on every slide", "evaluate slides of one panel together")
    if train.empty:
        raise InputError("splits", "no training cell", "look at splits.json")
    counts = inputs.counts(train, genes)
    depth = max(float(np.median(np.asarray(counts.sum(axis=1)))), 1.0)
    fitted = LogCounts(genes, genes, depth, inputs.values)
    rows = fitted.of(counts)
    if len(genes) > MAX_GENES:
        mean = np.asarray(rows.mean(axis=0)).ravel()
        variance = np.asarray(rows.multiply(rows).mean(axis=0)).ravel() - mean**2
        kept = np.sort(np.argsort(-variance, kind="stable")[:MAX_GENES])
        return replace(fitted, genes=tuple(genes[i] for i in kept)), rows[:, kept]
    return fitted, rows
