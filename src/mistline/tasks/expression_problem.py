"""The folds of an expression task: their genes, chosen on training cells, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.store.folds import is_part, numbers, require_same
from mistline.tasks.base import Inputs

LEAST_DETECTED = 0.1  # share of training cells that have a gene, below which its variance is that of a few cells


@dataclass(frozen=True, slots=True)
class Fold:
    """One training and what it is tested on.

    Args:
        train: cells trained on.
        test: cells tested.
        genes: [G] ids, the most variable first.
        known: [n, G] log values of the training cells.
        truth: [m, G] of the tested cells; nothing that is fitted sees them.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    genes: tuple[str, ...]
    known: NDArray[np.float32]
    truth: NDArray[np.float32]

    @property
    def same_slides(self) -> bool:
        """Whether every tested slide is trained on too, elsewhere."""
        return set(self.test["slide"]) <= set(self.train["slide"])


def gather(inputs: Inputs, n_genes: int, max_cells: int, seed: int) -> list[Fold]:
    """Read the folds.

    Args:
        inputs: the files.
        n_genes: how many genes are predicted.
        max_cells: drawn of the training and of the tested cells of each fold, the same for every model.
        seed: of the draw.

    Raises:
        InputError: a fold has nothing to train on, no gene is measured everywhere, or none is detected often enough.
    """
    cells = inputs.cells()
    table = inputs.folds()
    require_same(table, cells)
    found = []
    for number in numbers(table):
        rows = {
            name: _drawn(np.flatnonzero(is_part(table, number, name)), max_cells, seed, number, name)
            for name in ("train", "test")
        }
        if len(rows["train"]) < 2 or not len(rows["test"]):
            what = f"fold {number} trains on {len(rows['train'])} cells and tests {len(rows['test'])}"
            raise InputError("folds", what, "choose another protocol, or add slides")
        found.append(_fold(inputs, cells.iloc[rows["train"]], cells.iloc[rows["test"]], n_genes))
    return found


def _drawn(rows: NDArray[np.int64], at_most: int, seed: int, fold: int, part: str) -> NDArray[np.int64]:
    if len(rows) <= at_most:
        return rows
    return np.sort(generator(seed, "evaluate", "expression", fold, part).choice(rows, at_most, replace=False))


def _fold(inputs: Inputs, train: pd.DataFrame, test: pd.DataFrame, n_genes: int) -> Fold:
    everything = inputs.common_genes()
    if not everything:
        raise InputError("counts", "no gene is measured on every slide", "evaluate slides of one panel together")
    train, test = train.reset_index(drop=True), test.reset_index(drop=True)
    known = logged(inputs.counts(train, everything), inputs.values)
    chosen = most_variable(known, n_genes)
    if not len(chosen):
        what = f"no gene varies and is detected in {LEAST_DETECTED:.0%} of the training cells"
        raise InputError("counts", what, "look at the tables; expression cannot be judged on them")
    genes = tuple(everything[i] for i in chosen)
    truth = logged(inputs.counts(test, genes), inputs.values)
    return Fold(train, test, genes, known[:, chosen].toarray(), truth.toarray())


def logged(counts: sparse.csr_matrix, values: str) -> sparse.csr_matrix:
    """Return log1p of counts as they are, without regard to depth; values that are logs already are not changed."""
    as_float = counts.astype(np.float32)
    return as_float if values == "log" else as_float.log1p().tocsr()


def most_variable(rows: sparse.csr_matrix, n_genes: int) -> Sequence[int]:
    """Return columns of [n, G] log values with the largest variance, largest first; equal ones as they come."""
    table = rows.astype(np.float64)
    mean = np.asarray(table.mean(axis=0)).ravel()
    variance = np.asarray(table.multiply(table).mean(axis=0)).ravel() - mean**2
    detected = np.asarray((table > 0).sum(axis=0)).ravel() / table.shape[0]
    order = np.argsort(-variance, kind="stable")
    kept = order[(detected[order] >= LEAST_DETECTED) & (variance[order] > 1e-12)]
    return [int(i) for i in kept[:n_genes]]
