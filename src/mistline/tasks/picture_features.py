"""What images of cells look like: the nucleus in numbers, found by rules that need no training.

The image is smoothed and cut at Otsu's threshold (1979), and of the bright parts the one that holds the most pixels
near the centre is taken: a crop is centred on its cell and often shows parts of others. Everything works on all
images at once.
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

FEATURES = ("area", "brightness", "eccentricity", "compactness", "texture")
WHAT = {
    "area": "share of the image that the nucleus covers",
    "brightness": "its mean, 0 .. 1",
    "eccentricity": "of the ellipse of its second moments: 0 round, towards 1 long",
    "compactness": "its area over that ellipse's: 1 for an ellipse, less where it is ragged",
    "texture": "standard deviation of what smoothing takes away within it, over its brightness",
}
_BLOCK_PIXELS = 2**22  # of images worked on at once
_LEVELS = 256
_NEAR = 0.25  # of the side: width of the weight that a pixel near the centre has
_SMOOTHING = 1 / 40  # of the side
_FEWEST = 4  # pixels of a nucleus; fewer have no shape


def morphology(images: NDArray[np.uint8]) -> pd.DataFrame:
    """Measure the nucleus in each image.

    Args:
        images: [n, C, S, S]; the first channel is the nuclear stain, but three are taken as red, green and blue of a
            bright field, where nuclei are dark.

    Returns:
        [n] rows of `FEATURES` (float64). An image without anything brighter than the rest has a nucleus of area,
        eccentricity, compactness and texture 0, as bright as the image.
    """
    step = max(1, _BLOCK_PIXELS // int(np.prod(images.shape[1:])))
    blocks = [_measure(_stain(images[start : start + step])) for start in range(0, len(images), step)]
    rows = np.concatenate(blocks) if blocks else np.zeros((0, len(FEATURES)))
    return pd.DataFrame(rows, columns=list(FEATURES))


def nuclei(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return [n, S, S]: the pixels that `morphology` measures."""
    return _masks(_smooth(_stain(images)))


def resized(images: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Bring [n, C, S, S] to another side: shrunk by area, enlarged linearly."""
    n, channels, side = images.shape[:3]
    if side == size_px:
        return images
    way = cv2.INTER_AREA if size_px < side else cv2.INTER_LINEAR
    planes = [cv2.resize(plane, (size_px, size_px), interpolation=way) for plane in images.reshape(-1, side, side)]
    return np.array(planes, dtype=np.uint8).reshape(n, channels, size_px, size_px)


def _stain(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return [n, S, S], 0 .. 1, nuclei bright."""
    if images.shape[1] == 3:
        return 1 - images.mean(axis=1, dtype=np.float32) / (_LEVELS - 1)
    return images[:, 0].astype(np.float32) / (_LEVELS - 1)


def _smooth(stain: NDArray[np.float32]) -> NDArray[np.float32]:
    sigma = max(0.7, _SMOOTHING * stain.shape[-1])
    return np.asarray(ndimage.gaussian_filter(stain, (0, sigma, sigma), mode="nearest"))


def _masks(smooth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return [n, S, S]: the bright part of each image that is largest near its centre."""
    bright = smooth > _thresholds(smooth)[:, None, None]
    within = np.zeros((3, 3, 3), dtype=bool)
    within[1] = ndimage.generate_binary_structure(2, 1)  # parts never reach from one image into the next
    parts, n_parts = ndimage.label(bright, within)
    weight = np.bincount(parts.ravel(), np.broadcast_to(_nearness(smooth.shape[-1]), smooth.shape).ravel(), n_parts + 1)
    weight[0] = 0  # what is not bright
    best = weight[parts].reshape(len(smooth), -1).argmax(axis=1)
    chosen = parts.reshape(len(smooth), -1)[np.arange(len(smooth)), best]
    masks: NDArray[np.bool_] = (parts == chosen[:, None, None]) & (parts > 0)
    return masks


def _nearness(side: int) -> NDArray[np.float64]:
    """Return [S, S], 1 in the centre."""
    axis = ((np.arange(side) - (side - 1) / 2) / (_NEAR * side)) ** 2
    return np.exp(-(axis[:, None] + axis) / 2)


def _thresholds(smooth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return [n], Otsu's threshold of each image; an image of one level has that level."""
    n = len(smooth)
    flat = smooth.reshape(n, -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    width = np.where(high > low, high - low, 1)
    level = np.minimum((flat - low) / width * _LEVELS, _LEVELS - 1).astype(np.int64)
    counts = np.bincount((level + _LEVELS * np.arange(n)[:, None]).ravel(), minlength=n * _LEVELS).reshape(n, -1)
    below = counts.cumsum(axis=1, dtype=np.float64)
    mass = (counts * np.arange(_LEVELS)).cumsum(axis=1, dtype=np.float64)
    total, whole = below[:, -1:], mass[:, -1:]
    parted = below * (total - below)
    between = np.where(parted > 0, (whole * below - mass * total) ** 2 / np.maximum(parted, 1), -1)
    # The levels between two far modes are equally good: their middle does not depend on which comes first.
    best = np.isclose(between, between.max(axis=1, keepdims=True), rtol=1e-9)
    cut = (best * np.arange(_LEVELS)).sum(axis=1) / best.sum(axis=1)
    found: NDArray[np.float64] = np.where((high > low)[:, 0], low[:, 0] + (cut + 1) / _LEVELS * width[:, 0], high[:, 0])
    return found


def _measure(stain: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return [n, 5] in the order of `FEATURES`."""
    smooth = _smooth(stain)
    mask = _masks(smooth)
    pixels = mask.sum(axis=(1, 2)).astype(np.float64)
    share = mask / np.maximum(pixels, 1)[:, None, None]
    mean = (share * stain).sum(axis=(1, 2))
    fine = stain - smooth
    of_fine = (share * fine).sum(axis=(1, 2))
    rough = np.sqrt(np.maximum((share * fine**2).sum(axis=(1, 2)) - of_fine**2, 0))
    long, short = _axes(share)
    area_of_ellipse = 4 * np.pi * np.sqrt(long * short)
    found = np.column_stack(
        [
            pixels / stain[0].size,
            mean,
            np.sqrt(np.maximum(1 - short / np.maximum(long, 1e-12), 0)),
            pixels / np.maximum(area_of_ellipse, 1e-12),
            rough / np.maximum(mean, 1 / _LEVELS),
        ]
    )
    empty = np.column_stack([np.zeros(len(stain)), stain.mean(axis=(1, 2)), *np.zeros((3, len(stain)))])
    return np.where((pixels >= _FEWEST)[:, None], found, empty)


def _axes(share: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the larger and smaller variance [n] along a nucleus' axes, in square pixels.

    Args:
        share: [n, S, S] weights that sum to 1.
    """
    places = np.arange(share.shape[-1], dtype=np.float64)
    of_rows, of_columns = share.sum(axis=2), share.sum(axis=1)
    y, x = of_rows @ places, of_columns @ places
    own = 1 / 12  # variance of a pixel's own square
    yy, xx = of_rows @ places**2 - y**2 + own, of_columns @ places**2 - x**2 + own
    xy = np.einsum("nyx,y,x->n", share, places, places, optimize=True) - x * y
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return middle + half, np.maximum(middle - half, 1e-12)
