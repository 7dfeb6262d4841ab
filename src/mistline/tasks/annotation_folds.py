"""Who is trained on and who is tested in annotation: random cells of all slides, or a query against a reference.

Only labelled cells are trained on or tested; the others keep the part `unlabelled`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import ConfigError, InputError
from mistline.core.seeds import generator
from mistline.store.folds import division, encode

TEST_SHARE = 0.2
VAL_SHARE = 0.1  # of the cells that are not tested
_PARTS = {"train": "train", "val": "val", "test": "test", "gap": "buffer"}


def random_split(cells: pd.DataFrame, label: str, repeats: int, at_most: int, seed: int) -> pd.DataFrame:
    """Divide the cells of all slides together at random, class by class; one fold a repeat.

    Args:
        cells: of all slides.
        label: column.
        repeats: independent divisions.
        at_most: labelled cells that take part, drawn by seed.
        seed: of the draws.
    """
    labels = _drawn(cells[label], cells[label].notna().to_numpy(), at_most, seed)
    return _joined(cells, label, [_shares(labels, generator(seed, "folds", "cells", n)) for n in range(repeats)])


def external_query(cells: pd.DataFrame, label: str, query: Sequence[str], at_most: int, seed: int) -> pd.DataFrame:
    """Train on a reference and test a query: named slides, or the test split of the dataset.

    Args:
        cells: of all slides, with their split.
        label: column.
        query: slides that are tested; empty for the dataset's test split.
        at_most: labelled cells that take part, drawn by seed.
        seed: of the draws.

    Raises:
        ConfigError: a slide of the query is not in the run.
        InputError: nothing is left to train on or to test.
    """
    unknown = sorted(set(query) - set(cells["slide"]))
    if unknown:
        have = ", ".join(sorted(cells["slide"].unique()))
        raise ConfigError("tasks.annotation.params.query", f"no slide {unknown[0]} (there are: {have})", "name others")
    if query:
        part = np.where(cells["slide"].isin(list(query)), "test", "train").astype(object)
    else:
        part = cells["split"].map(_PARTS).to_numpy(dtype=object)
    labels = _drawn(cells[label], cells[label].notna().to_numpy() & (part != "buffer"), at_most, seed)
    is_left_out = (part == "buffer") & cells[label].notna().to_numpy()
    part[labels.isna().to_numpy() & ~is_left_out] = "unlabelled"
    if not (part == "val").any():
        reference = labels.where(part == "train")
        part[_held_out(reference, VAL_SHARE, generator(seed, "folds", "query"))] = "val"
    return _joined(cells, label, [part])


def _drawn(labels: pd.Series, eligible: NDArray[np.bool_], at_most: int, seed: int) -> pd.Series:
    """Return the labels of the cells that take part, missing for all others."""
    rows = np.flatnonzero(eligible)
    if len(rows) > at_most:
        rows = generator(seed, "folds", "drawn").choice(rows, size=at_most, replace=False)
    kept = np.zeros(len(labels), dtype=bool)
    kept[rows] = True
    return labels.where(kept).reset_index(drop=True)


def _shares(labels: pd.Series, rng: np.random.Generator) -> NDArray[np.object_]:
    part = np.where(labels.notna(), "train", "unlabelled").astype(object)
    part[_held_out(labels, TEST_SHARE, rng)] = "test"
    part[_held_out(labels.where(part == "train"), VAL_SHARE, rng)] = "val"
    return part


def _held_out(labels: pd.Series, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a share of every class; one cell of each always stays."""
    found = [np.empty(0, dtype=np.int64)]
    for _, rows in sorted(labels.dropna().groupby(labels).groups.items()):
        n = min(int(np.floor(share * len(rows) + rng.uniform())), len(rows) - 1)
        found.append(rng.permutation(np.asarray(rows))[:n])
    return np.concatenate(found)


def _joined(cells: pd.DataFrame, label: str, parts: Sequence[NDArray[np.object_]]) -> pd.DataFrame:
    for part in parts:
        lacking = [name for name in ("train", "val", "test") if not (part == name).any()]
        if lacking:
            what = f"no labelled cell is left for the part {lacking[0]}"
            raise InputError(label, what, "label more cells, add slides or choose another protocol")
    return division(cells, {number: encode(part) for number, part in enumerate(parts)})
