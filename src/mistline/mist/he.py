"""The H&E on the pixel grid of the DAPI image: the same shape, the same micrometres, so that one square cuts both.

The output is made in blocks, whose place on the H&E follows from the matrix: whatever its rotation, what is held is
a few blocks and the tiles under them. Pixels are interpolated linearly from the coarsest level of the pyramid that
is still at least as fine as the DAPI image. Beyond the H&E's border the output is white, the colour of empty glass,
and not covered.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.geometry import um_to_px
from mistline.core.log import progress
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.xenium.histology import Histology, Pixels

logger = logging.getLogger("mistline.mist")

CHANNELS = ("red", "green", "blue")
WHITE = 255
_BLOCK_PX = 1024
_MARGIN_PX = 2  # around a window, for the interpolation


@dataclass(frozen=True)
class Grid:
    """A regular grid of pixels on the DAPI image.

    Attributes:
        shape_px: rows, columns of the grid.
        step: (x, y) full-resolution pixels of the DAPI image a pixel of the grid.
    """

    shape_px: tuple[int, int]
    step: tuple[float, float] = (1.0, 1.0)


class Registered:
    """An open H&E together with the matrix that puts it on the DAPI image.

    Args:
        histology: the open image.
        matrix: [3, 3], H&E pixels to DAPI pixels, both from the corner of the first pixel.
    """

    def __init__(self, histology: Histology, matrix: NDArray[np.float64]) -> None:
        self.histology = histology
        self.matrix = matrix

    def level(self, grid: Grid) -> int:
        """Return the coarsest level that is at least as fine as a grid, else the finest."""
        to_grid = np.diag([1 / grid.step[0], 1 / grid.step[1]]) @ self.matrix[:2, :2]
        finest = float(np.linalg.svd(to_grid, compute_uv=False)[0])  # pixels of the grid a pixel of the H&E
        enough = [n for n, level in enumerate(self.histology.levels) if max(level.per_px) * finest <= 1 + 1e-3]
        return enough[-1] if enough else 0

    def warp(self, grid: Grid, corner: tuple[int, int], shape: tuple[int, int]) -> tuple[Pixels, NDArray[np.bool_]]:
        """Return a block of the grid: its pixels [rows, columns, 3], and which of them the H&E covers.

        Args:
            grid: where the pixels lie.
            corner: row, column of the block's first pixel.
            shape: rows, columns of the block.
        """
        number = self.level(grid)
        level = self.histology.levels[number]
        back = self._back(grid, level.per_px, corner)
        covered = _inside(back, shape, level.shape_px)
        pixels = np.full((*shape, 3), WHITE, dtype=np.uint8)
        if covered.any():
            (top, bottom), (left, right) = _window(back, shape, level.shape_px)
            window = self.histology.read(number, (top, bottom), (left, right))
            back[0, 2] -= left
            back[1, 2] -= top
            pixels = np.where(covered[:, :, None], _sample(window, back, shape), pixels)
        return pixels, covered

    def covers(self, xy_px: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which points [..., 2] (x, y) of the DAPI image lie on the H&E."""
        back = np.linalg.inv(self.matrix)
        on_he = xy_px @ back[:2, :2].T + back[:2, 2]
        rows, columns = self.histology.shape_px
        return ((on_he >= 0) & (on_he <= (columns, rows))).all(axis=-1)

    def _back(self, grid: Grid, per_px: tuple[float, float], corner: tuple[int, int]) -> NDArray[np.float64]:
        """Return [2, 3]: a block's pixel, by its corner, to a level's."""
        forth = np.diag([1 / grid.step[0], 1 / grid.step[1], 1]) @ self.matrix @ np.diag([*per_px, 1])
        shifted = np.array([[1, 0, corner[1]], [0, 1, corner[0]], [0, 0, 1]], dtype=np.float64)
        return np.asarray((np.linalg.inv(forth) @ shifted)[:2])


def resample(registered: Registered, described: Description, folder: Path) -> float:
    """Write the H&E as an OME-Zarr with the channels red, green and blue.

    Args:
        registered: the H&E and its matrix.
        described: the image to make; shape and pixel size are the DAPI image's.
        folder: the zarr to make, which must not exist.

    Returns:
        The share of its pixels that the H&E covers.
    """
    n_rows, n_columns = described.shape_px
    arrays = create(folder, described)
    writers = [LevelWriter(arrays, channel) for channel in range(3)]
    grid, n_covered = Grid(described.shape_px), 0
    for top in progress(range(0, n_rows, _BLOCK_PX), "register H&E"):
        height = min(_BLOCK_PX, n_rows - top)
        band = np.empty((3, height, n_columns), dtype=np.uint8)
        for left in range(0, n_columns, _BLOCK_PX):
            width = min(_BLOCK_PX, n_columns - left)
            pixels, covered = registered.warp(grid, (top, left), (height, width))
            band[:, :, left : left + width] = np.moveaxis(pixels, 2, 0)
            n_covered += int(covered.sum())
        for writer, rows in zip(writers, band, strict=True):
            writer.append(rows)
    for writer in writers:
        writer.finish()
    return n_covered / (n_rows * n_columns)


def covered_cells(
    registered: Registered, cells: pd.DataFrame, shape_px: tuple[int, int], pixel_size_um: float
) -> NDArray[np.bool_]:
    """Tell which cells lie wholly on the H&E: all corners of its box, as far as the image has it, do.

    Args:
        registered: the H&E and its matrix.
        cells: the table, with the bounding box of each polygon in micrometres.
        shape_px: rows, columns of the DAPI image.
        pixel_size_um: micrometres a pixel of it.
    """
    corners = [cells[[x, y]].to_numpy() for x in ("x_min_um", "x_max_um") for y in ("y_min_um", "y_max_um")]
    yx_px = np.clip(um_to_px(np.stack(corners, axis=1), pixel_size_um), 0, shape_px)
    return registered.covers(yx_px[..., ::-1]).all(axis=1)


def _inside(back: NDArray[np.float64], shape: tuple[int, int], limits: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which pixels' centres lie on the H&E; a block whose corners do lies on it as a whole."""
    ends = np.array([[0.5, 0.5], [shape[1] - 0.5, 0.5], [0.5, shape[0] - 0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    corners = ends @ back[:, :2].T + back[:, 2]
    if ((corners >= 0) & (corners <= limits[::-1])).all():
        return np.ones(shape, dtype=bool)
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0])[:, None] + 0.5
    on_x, on_y = (row[0] * x + row[1] * y + row[2] for row in back)
    return np.asarray((on_x >= 0) & (on_x <= limits[1]) & (on_y >= 0) & (on_y <= limits[0]))


def _window(
    back: NDArray[np.float64], shape: tuple[int, int], limits: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the rows and columns of a level that a block needs."""
    ends = np.array([[0, 0], [shape[1], 0], [0, shape[0]], [shape[1], shape[0]]]) @ back[:, :2].T + back[:, 2]
    margin = _MARGIN_PX + np.ceil(np.linalg.norm(back[:, :2], axis=1)).astype(int)
    low = np.floor(ends.min(axis=0)).astype(int) - margin
    high = np.ceil(ends.max(axis=0)).astype(int) + margin
    x0, y0 = np.maximum(low, 0).tolist()
    x1, y1 = np.minimum(high, limits[::-1]).tolist()
    return (y0, y1), (x0, x1)


def _sample(window: Pixels, back: NDArray[np.float64], shape: tuple[int, int]) -> Pixels:
    """Interpolate a block from a window of a level; where it is finer than the grid, its pixels are averaged first."""
    fewer = np.linalg.norm(back[:, :2], axis=1)  # pixels of the level a pixel of the grid, along x and y of the level
    sigma = np.maximum(fewer - 1, 0) / 2
    if (sigma > 0.05).any():
        window = cv2.GaussianBlur(window, (0, 0), sigmaX=max(sigma[0], 1e-3), sigmaY=max(sigma[1], 1e-3))
    centred = back.copy()  # cv2 counts from the centre of the first pixel
    centred[:, 2] += back[:, :2].sum(axis=1) / 2 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(window, centred, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, dtype=np.uint8)
