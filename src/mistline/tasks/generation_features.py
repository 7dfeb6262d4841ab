"""The feature net behind FID, KID, the read-back and the search for copies: fixed, random, and fitted to no task.

Nets that are trained on photographs cannot be had everywhere and say little of nuclei. Random convolutions with
rectification and pooling keep the statistics of edges, blobs and textures on several scales (Jarrett et al., ICCV
2009: such nets, untrained, are a usable description). Each image is brought to unit contrast first, or how bright it
is would be all that every filter tells; its light and contrast are outputs of their own. The outputs are rotated to
the principal components of the training cells' real images, and each component that holds a real share of the
variance is brought to unit variance. The rest is dropped: directions in which real images hardly vary would, at unit
variance, decide every distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.tasks.picture_features import resized

LAYERS = ((5, 16), (3, 32), (3, 32))  # side of the filters, and their number; halved in size after each
MOST_COMPONENTS = 32
LEAST_SHARE = 0.005  # of the variance of the training cells' outputs, that a component holds
_GRID = 4  # the last layer's outputs are pooled to so many places a side
_LEAST_CONTRAST = 0.02  # added to an image's own, so that an empty one is not all noise
_LARGEST_PX = 64  # side of the images that the net sees
_BLOCK_VALUES = 2**22  # of unfolded images worked on at once

Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureNet:
    """The net with the components of some training images.

    Args:
        filters: one matrix [k * k * C, K] a layer.
        scales: [F] what each output is divided by.
        mean: [F] of the training images' scaled outputs.
        basis: [F, d]; gives components of unit variance on the training images.
        shares: [d] of the variance that each component holds, falling.
    """

    filters: tuple[NDArray[np.float32], ...]
    scales: Features
    mean: Features
    basis: Features
    shares: Features

    def of(self, images: NDArray[np.uint8]) -> Features:
        """Return [n, d] of images [n, C, S, S]."""
        return (_outputs(images, self.filters) / self.scales - self.mean) @ self.basis

    @property
    def what(self) -> str:
        """A sentence for the result file."""
        layers = ", ".join(f"{number} filters of {side} x {side}" for side, number in LAYERS)
        return (
            f"a fixed random convolutional net on images of unit contrast, {_LARGEST_PX} px at most ({layers}, each "
            "with rectification and 2 x 2 pooling; mean and standard deviation of the image and of each layer's maps, "
            f"and the last layer's means over {_GRID} x {_GRID} places), then the "
            f"{self.basis.shape[1]} principal components of the training cells' real images that hold at least "
            f"{LEAST_SHARE:.1%} of their variance each, {self.shares.sum():.0%} together, every one at unit variance; "
            "its distances compare with no figure of another net"
        )


def fit_features(images: NDArray[np.uint8]) -> FeatureNet:
    """Fit the components to the real images [n, C, S, S] of training cells.

    Raises:
        InputError: the images do not vary.
    """
    filters = random_filters(images.shape[1])
    outputs = _outputs(images, filters)
    spread = outputs.std(axis=0)
    # One scale for each kind of output, not for each output: what hardly varies must stay small.
    ends = np.cumsum(np.repeat([images.shape[1], *(number for _, number in LAYERS)], 2))
    scales = np.concatenate([np.full(len(part), max(_rms(part), 1e-12)) for part in np.split(spread, ends)])
    scaled = outputs / scales
    mean = scaled.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(scaled.T))
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    if variances[0] <= 1e-9:
        raise InputError("images of the training cells", "they do not differ", "look at the crops")
    shares = variances / variances.sum()
    kept = shares[:MOST_COMPONENTS] >= LEAST_SHARE
    kept[:2] = variances[:2] > 1e-9 * variances[0]
    n_kept = int(kept.sum())
    largest = np.abs(axes[:, :n_kept]).argmax(axis=0)
    signs = np.sign(axes[largest, np.arange(n_kept)])  # an axis has no sign of its own
    basis = axes[:, :n_kept] * signs / np.sqrt(variances[:n_kept])
    return FeatureNet(filters, scales, mean, basis, shares[:n_kept])


def random_filters(n_channels: int) -> tuple[NDArray[np.float32], ...]:
    """Return one matrix [k * k * C, K] a layer: orthogonal columns, those of the first without a mean but one.

    A filter without a mean answers to edges and not to light; the one that has one keeps how bright the image is.
    """
    filters = []
    depth = n_channels
    for number, (side, n_filters) in enumerate(LAYERS):
        drawn = generator(0, "generation", "features", number).normal(size=(side * side * depth, n_filters))
        if number == 0:
            drawn -= drawn.mean(axis=0)
            drawn[:, 0] = 1
        columns, triangle = np.linalg.qr(drawn)
        filters.append((columns * np.sign(np.diag(triangle))).astype(np.float32))  # as drawn, whichever library
        depth = n_filters
    return tuple(filters)


def _rms(values: Features) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _outputs(images: NDArray[np.uint8], filters: Sequence[NDArray[np.float32]]) -> Features:
    """Return [n, F] of images [n, C, S, S]."""
    if images.shape[2] > _LARGEST_PX:
        images = resized(images, _LARGEST_PX)
    step = max(1, _BLOCK_VALUES // (images[0].size * LAYERS[0][0] ** 2))
    return np.concatenate([_block(images[start : start + step], filters) for start in range(0, len(images), step)])


def _block(images: NDArray[np.uint8], filters: Sequence[NDArray[np.float32]]) -> Features:
    maps = np.moveaxis(images, 1, -1).astype(np.float32) / 255  # [n, S, S, C]
    light, contrast = (value(maps, axis=(1, 2), dtype=np.float64) for value in (np.mean, np.std))
    maps /= (np.sqrt((contrast**2).mean(axis=1)) + _LEAST_CONTRAST).astype(np.float32)[:, None, None, None]
    found = [light, contrast]
    for (side, _), weights in zip(LAYERS, filters, strict=True):
        maps = _halved(_convolved(maps, side, weights))
        found += [maps.mean(axis=(1, 2), dtype=np.float64), maps.std(axis=(1, 2), dtype=np.float64)]
    return np.concatenate([*found, _pooled(maps)], axis=1)


def _convolved(maps: NDArray[np.float32], side: int, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [n, S, S, K] rectified, of the same size: the border is repeated."""
    pad = side // 2
    framed = np.pad(maps, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    windows = sliding_window_view(framed, (side, side), axis=(1, 2))  # [n, S, S, C, k, k]
    answers = windows.reshape(*maps.shape[:3], -1) @ weights
    return np.maximum(answers, 0, out=answers)


def _halved(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return means of 2 x 2; an odd last row or column is left out."""
    n, height, width, depth = maps.shape
    even = maps[:, : height // 2 * 2, : width // 2 * 2]
    return np.asarray(even.reshape(n, height // 2, 2, width // 2, 2, depth).mean(axis=(2, 4)))


def _pooled(maps: NDArray[np.float32]) -> Features:
    """Return [n, G * G * K], means over a grid of places, fewer where the maps are smaller."""
    edges = np.linspace(0, maps.shape[1], min(_GRID, maps.shape[1]) + 1).astype(int)[:-1]
    rows = np.add.reduceat(maps.astype(np.float64), edges, axis=1)
    places = np.add.reduceat(rows, edges, axis=2)
    size = np.diff([*edges, maps.shape[1]])
    return (places / (size[:, None] * size)[None, :, :, None]).reshape(len(maps), -1)
