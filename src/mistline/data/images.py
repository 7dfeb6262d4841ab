"""Resizing stored crops and tiles to the size a model wants."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize every channel into `out`: area averaging when it shrinks, bilinear when it grows, a copy otherwise.

    Args:
        image: uint8 [C, H, W].
        out: uint8 [C, S, S], contiguous; written in place.
    """
    if image.shape == out.shape:
        out[:] = image
        return
    size = out.shape[-1]
    how = cv2.INTER_AREA if size < max(image.shape[1:]) else cv2.INTER_LINEAR
    for channel, target in zip(image, out, strict=True):
        cv2.resize(channel, (size, size), dst=target, interpolation=how)
