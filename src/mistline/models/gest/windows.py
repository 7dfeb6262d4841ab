"""The cells of a slide, and square windows of them (specs/gest.md sections 3 and 5). No torch is imported.

Windows differ in how many cells they hold. They are packed: the cells of one after those of the other, and no token is
spent on padding. `n` cells of a slide, `B` windows, `M` cells of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_SAMPLE = 5000  # cells that the spacing is measured on


@dataclass(frozen=True)
class Cells:
    """Places and content of a slide's cells, or of one split of them.

    Args:
        xy_um: float32 [n, 2].
        content: int64 [n] meta-cells, or float32 [n, T] log-normalised profiles.
    """

    xy_um: NDArray[np.float32]
    content: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.xy_um)

    @cached_property
    def tree(self) -> cKDTree:
        """Return what finds cells by place."""
        return cKDTree(self.xy_um)

    @cached_property
    def spacing_um(self) -> float:
        """Return the median distance of a cell to the nearest other one; 0 for fewer than two cells."""
        if len(self) < 2:
            return 0.0
        some = self.xy_um[:: -(-len(self) // _SAMPLE)]
        return float(np.median(self.tree.query(some, k=2)[0][:, 1]))

    def at(self, xy_um: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return int64 [B], the cell that lies exactly at each place [B, 2]; -1 where none does."""
        if not len(self):
            return np.full(len(xy_um), -1, dtype=np.int64)
        distance, row = self.tree.query(xy_um)
        return np.where(distance == 0, row, -1).astype(np.int64)


@dataclass(frozen=True)
class Windows:
    """Packed windows.

    Args:
        cells: int64 [M] rows of `Cells`, rising within each window.
        lengths: int64 [B] how many each window has.
    """

    cells: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Return [B + 1], where each window starts."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    @property
    def number(self) -> NDArray[np.int64]:
        """Return [M], the window of each cell."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def kept(self, keep: NDArray[np.bool_]) -> Windows:
        """Return some of the windows; `keep` is [B]."""
        return Windows(self.cells[keep[self.number]], self.lengths[keep])


def around(cells: Cells, centres_um: NDArray[np.floating], side_um: float, most: int) -> Windows:
    """Return the square windows around places.

    Args:
        cells: of the slide.
        centres_um: [B, 2].
        side_um: of the square, its border included.
        most: cells of a window; those nearest to its centre are taken.
    """
    found = cells.tree.query_ball_point(centres_um, side_um / 2, p=np.inf, return_sorted=True)
    rows = [np.asarray(row, dtype=np.int64) for row in found]
    for number, row in enumerate(rows):
        if len(row) > most:
            distance = np.square(cells.xy_um[row].astype(np.float64) - centres_um[number]).sum(axis=1)
            rows[number] = np.sort(row[np.argsort(distance, kind="stable")[:most]])
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return Windows(np.concatenate([*rows, np.empty(0, dtype=np.int64)]), lengths)


def seen_and_asked(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two [M - B]: of each window all cells but the last, and all but the first; places in [0, M).

    Args:
        lengths: [B], each at least 1.
    """
    last = np.cumsum(lengths) - 1
    rows = np.arange(int(lengths.sum()))
    return np.delete(rows, last), np.delete(rows, last - lengths + 1)


def waste(lengths: NDArray[np.int64]) -> float:
    """Return which share of the tokens would be padding if windows were padded to the longest; packed, none is."""
    return float(1 - lengths.mean() / lengths.max()) if len(lengths) else 0.0
