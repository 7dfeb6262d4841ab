"""Polygons as a label image, any window of it at any level of the pyramid, never the whole slide at once.

A pixel has the label of the polygon that holds its centre. Cells that share an edge share no pixel; where polygons
overlap, the cell further down the table is on top.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mistline.core.geometry import um_to_px
from mistline.xenium.outlines import Outlines


class LabelRaster:
    """Draws windows of the label image of one slide; label = row of the owner + 1, 0 where there is none.

    Args:
        outlines: the polygons.
        pixel_size_um: micrometres a pixel of level 0.
    """

    def __init__(self, outlines: Outlines, pixel_size_um: float) -> None:
        self._outlines = outlines
        self._pixel_size_um = pixel_size_um
        starts = outlines.start[:-1]
        empty = np.empty((0, 2), dtype=np.float32)
        low = np.minimum.reduceat(outlines.xy_um, starts) if len(outlines) else empty
        high = np.maximum.reduceat(outlines.xy_um, starts) if len(outlines) else empty
        self._low_px, self._high_px = um_to_px(low, pixel_size_um), um_to_px(high, pixel_size_um)

    def window(self, corner: tuple[int, int], shape: tuple[int, int], step: int = 1) -> NDArray[np.int32]:
        """Draw one window.

        Args:
            corner: first row and column, in pixels of the level.
            shape: rows and columns.
            step: side of a pixel of the level in pixels of level 0.

        Returns:
            int32 [rows, columns].
        """
        image = np.zeros(shape, dtype=np.int32)
        first = np.array(corner) * step
        touching = (self._high_px >= first) & (self._low_px <= first + np.array(shape) * step)
        chosen = np.flatnonzero(touching.all(axis=1))
        if len(chosen):
            polygon, start_yx, end_yx = self._edges(chosen, np.array(corner), step)
            fill(image, polygon, start_yx, end_yx, self._outlines.owner[chosen].astype(np.int32) + 1)
        return image

    def _edges(
        self, chosen: NDArray[np.int64], corner: NDArray[np.int64], step: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return, for every edge, its polygon among `chosen` and its two ends; pixel centres are whole numbers."""
        starts, ends = self._outlines.start[chosen], self._outlines.start[chosen + 1]
        length = ends - starts
        polygon = np.repeat(np.arange(len(chosen)), length)
        first = np.repeat(np.cumsum(length) - length, length)
        within = np.arange(length.sum()) - first
        vertices = self._outlines.xy_um[np.repeat(starts, length) + within]
        yx = um_to_px(vertices, self._pixel_size_um) / step - corner - 0.5
        following = first + (within + 1) % np.repeat(length, length)
        return polygon, yx, yx[following]


def fill(
    image: NDArray[np.int32],
    polygon: NDArray[np.int64],
    start_yx: NDArray[np.float64],
    end_yx: NDArray[np.float64],
    labels: NDArray[np.int32],
) -> None:
    """Fill polygons into an image by the even-odd rule, in their order.

    Every edge is cut by the rows of pixel centres; two neighbouring cuts of one polygon and row enclose a span.

    Args:
        image: int32 [rows, columns], drawn into.
        polygon: [e] whose edge it is.
        start_yx: [e, 2] one end, where the centre of pixel (row, column) lies at exactly that point.
        end_yx: [e, 2] the other end.
        labels: [p] what to write.
    """
    is_down = start_yx[:, :1] <= end_yx[:, :1]  # both cells at a shared edge cut it at the same points
    upper, lower = np.where(is_down, start_yx, end_yx), np.where(is_down, end_yx, start_yx)
    first = np.clip(np.ceil(upper[:, 0]), 0, image.shape[0]).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 0]), 0, image.shape[0]).astype(np.int64)
    edge = np.repeat(np.arange(len(polygon)), last - first)
    row = _counted(first, last - first)
    height, width = (lower - upper).T
    column = upper[edge, 1] + (row - upper[edge, 0]) * width[edge] / height[edge]
    order = np.lexsort((column, row, polygon[edge]))
    row, column, owner = row[order][::2], column[order], polygon[edge][order][::2]
    left, right = np.clip(np.ceil(column), 0, image.shape[1]).astype(np.int64).reshape(-1, 2).T
    pixels = np.repeat(row * image.shape[1], right - left) + _counted(left, right - left)
    image.reshape(-1)[pixels] = np.repeat(labels[owner], right - left)


def _counted(first: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return first[0], first[0] + 1, ... (length[0] of them), first[1], ..."""
    begin = np.cumsum(length) - length
    return np.repeat(first - begin, length) + np.arange(length.sum())
