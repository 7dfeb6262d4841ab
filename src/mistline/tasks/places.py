"""What is known from places alone: the mean of the nearest training items.

The control of every task whose target is a row of numbers; classes have `label_controls.nearest_labels`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from mistline.tasks.controls import coordinates, scaled_places
from mistline.tasks.label_controls import NEIGHBOURS

_USUAL = 5  # neighbours, where there is no validation item to choose by

WHAT = (
    "the mean of the nearest training items; how many is chosen on validation. Places are compared within a slide or, "
    "where no tested slide is trained on, scaled to its extent"
)


def comparable(items: pd.DataFrame) -> NDArray[np.float64]:
    """Return [n, 2] places that can be compared between the splits.

    Slides lie side by side where every tested one is trained on; else each is scaled to 0 .. 1 and they lie on top
    of each other, for a place in micrometres says nothing of another slide.

    Args:
        items: slide, split, x_um, y_um.
    """
    slides = {split: set(part) for split, part in items.groupby("split")["slide"]}
    if slides.get("test", set()) <= slides.get("train", set()):
        return coordinates(items).astype(np.float64)
    return scaled_places(items).astype(np.float64)


def nearest_mean(
    xy: NDArray[np.float64], values: NDArray[np.floating], split: NDArray[np.object_]
) -> tuple[NDArray[np.float64], int]:
    """Predict the test items by the mean of their nearest training items.

    Args:
        xy: [n, 2], as `comparable` gives them.
        values: [n, L]; those of test items are not read.
        split: [n] train, val or test.

    Returns:
        ([number of test items, L], number of neighbours chosen on the validation items).
    """
    train, val, test = (np.flatnonzero(split == name) for name in ("train", "val", "test"))
    tree = cKDTree(xy[train])
    known = values[train]
    choices = [k for k in NEIGHBOURS if k <= len(train)]
    errors = [float(np.mean((_weights(tree, xy[val], k) @ known - values[val]) ** 2)) for k in choices if len(val)]
    k = choices[int(np.argmin(errors))] if errors else min(_USUAL, len(train))
    return _weights(tree, xy[test], k) @ known, k


def _weights(tree: cKDTree, xy: NDArray[np.float64], k: int) -> sparse.csr_matrix:
    """Return [n, m], 1 / k for each of the k nearest training items.

    Nearer ones count no more: centres of tiles of two slides may fall on each other, and one item would decide alone.
    """
    found = np.asarray(tree.query(xy, k=k)[1]).reshape(len(xy), k)
    starts = np.arange(len(xy) + 1) * k
    return sparse.csr_matrix((np.full(found.size, 1 / k), found.ravel(), starts), shape=(len(xy), tree.n))
