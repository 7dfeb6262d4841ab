"""Do the tables' x and y run the way of the image? Nuclei must be brighter than their mirror places.

Every centroid is looked up at (row, col) = (y, x) and, transposed, at (x, y). Two measures are compared cell by
cell: the brightness itself, and the brightness above that of the surroundings, which no gradient over the slide
can fake. A slide is refused only when both speak clearly for the transposed reading.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_CELLS = 30
CLEAR = 4.0  # standard errors
_SURROUNDINGS_PX = 15  # of the reduced image

Verdict = Literal["as stated", "transposed", "inconclusive"]


def judge(image: NDArray[np.unsignedinteger[Any]], shape_px: tuple[int, int], yx_px: NDArray[np.float64]) -> Verdict:
    """Compare the brightness at points with that at the transposed points.

    Args:
        image: [rows, cols] DAPI, the whole slide at any resolution.
        shape_px: rows, cols of the full-resolution image.
        yx_px: [n, 2] cell centroids in full-resolution pixels.

    Returns:
        `inconclusive` when fewer than MIN_CELLS points can be compared or the difference is not clear.
    """
    both = _inside(yx_px, shape_px) & _inside(yx_px[:, ::-1], shape_px)
    if both.sum() < MIN_CELLS:
        return "inconclusive"
    brightness = image.astype(np.float32)
    contrast = brightness - cv2.blur(brightness, (_SURROUNDINGS_PX, _SURROUNDINGS_PX), borderType=cv2.BORDER_REFLECT)
    scale = np.array(image.shape) / np.array(shape_px)
    scores = [_score(measure, scale, yx_px[both]) for measure in (brightness, contrast)]
    if min(scores) > 0 and max(scores) > CLEAR:
        return "as stated"
    return "transposed" if max(scores) < -CLEAR else "inconclusive"


def _inside(yx_px: NDArray[np.float64], shape_px: tuple[int, int]) -> NDArray[np.bool_]:
    return ((yx_px >= 0) & (yx_px < np.array(shape_px))).all(axis=1)


def _score(measure: NDArray[np.float32], scale: NDArray[np.float64], yx_px: NDArray[np.float64]) -> float:
    """Return by how many standard errors the points exceed the transposed points."""
    difference = _at(measure, yx_px * scale) - _at(measure, yx_px[:, ::-1] * scale)
    spread = float(difference.std())
    return float(difference.mean()) / (spread / np.sqrt(len(difference))) if spread > 0 else 0.0


def _at(measure: NDArray[np.float32], yx: NDArray[np.float64]) -> NDArray[np.float64]:
    row, col = np.minimum(np.floor(yx).astype(np.int64), np.array(measure.shape) - 1).T
    return measure[row, col].astype(np.float64)
