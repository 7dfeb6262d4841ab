"""The one conversion between micrometres (x, y) and pixels (row, col).

10x places the origin at the top-left corner of the full-resolution morphology image, x to the right and
y down. Tables carry `xy_um`; arrays are indexed `yx_px`. Nothing else in the package divides by a pixel size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def um_to_px(xy_um: NDArray[np.floating], pixel_size_um: float) -> NDArray[np.float64]:
    """Turn (x, y) micrometres into (row, col) pixels, not rounded.

    Args:
        xy_um: [..., 2] positions.
        pixel_size_um: micrometres a pixel.
    """
    return np.asarray(xy_um, dtype=np.float64)[..., ::-1] / pixel_size_um


def px_to_um(yx_px: NDArray[np.floating], pixel_size_um: float) -> NDArray[np.float64]:
    """Turn (row, col) pixels into (x, y) micrometres; the inverse of `um_to_px`."""
    return np.asarray(yx_px, dtype=np.float64)[..., ::-1] * pixel_size_um


def tile_of(yx_px: NDArray[np.floating], size_px: int) -> NDArray[np.int64]:
    """Return the (row, col) of the grid tile that holds each point; the grid starts at (0, 0)."""
    return np.floor(np.asarray(yx_px, dtype=np.float64) / size_px).astype(np.int64)
