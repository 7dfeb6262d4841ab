"""The intensity window: measured once on the exact histogram, applied everywhere through a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.config.image import Image
from mistline.core.errors import InputError

_SLAB_PX = 1 << 20  # bincount works on 8-byte copies: a slab keeps them at 8 MiB


class Histogram:
    """Exact counts of every grey value of an 8- or 16-bit image that is seen piece by piece.

    Args:
        dtype: uint8 or uint16.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.counts: NDArray[np.int64] = np.zeros(np.iinfo(dtype).max + 1, dtype=np.int64)

    def add(self, pixels: NDArray[np.unsignedinteger[Any]]) -> None:
        """Count the pixels of one piece, of any shape."""
        flat = pixels.reshape(-1)
        for start in range(0, flat.size, _SLAB_PX):
            self.counts += np.bincount(flat[start : start + _SLAB_PX], minlength=self.counts.size)

    @property
    def extremes(self) -> tuple[int, int]:
        """Smallest and largest grey value that occurs."""
        seen = np.flatnonzero(self.counts)
        return int(seen[0]), int(seen[-1])

    def percentile(self, percent: float) -> float:
        """Return the percentile of all pixels, interpolated linearly between neighbours in rank as numpy does."""
        ranks = np.cumsum(self.counts)
        position = percent / 100 * (int(ranks[-1]) - 1)
        low = int(np.searchsorted(ranks, np.floor(position), side="right"))
        high = int(np.searchsorted(ranks, np.ceil(position), side="right"))
        return low + (high - low) * (position - float(np.floor(position)))


def measure(histogram: Histogram, settings: Image, where: str) -> tuple[float, float]:
    """Return the grey values that map to 0 and 255.

    Args:
        histogram: of the whole channel.
        settings: the mode and its percentiles.
        where: slide and channel, named in errors.

    Raises:
        InputError: the channel is constant, or constant but for fewer pixels than the percentiles leave out.
    """
    darkest, brightest = histogram.extremes
    if darkest == brightest:
        raise InputError(
            where, f"every pixel has the value {darkest}", "download the image again, or leave the slide out"
        )
    if settings.window == "minmax":
        return float(darkest), float(brightest)
    low, high = histogram.percentile(settings.low_percentile), histogram.percentile(settings.high_percentile)
    if low == high:
        raise InputError(
            where,
            f"the {settings.low_percentile} and {settings.high_percentile} percentiles are both {low:g}",
            "raise image.high_percentile or set image.window: minmax",
        )
    return low, high


def lookup_table(low: float, high: float, size: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of every grey value: (I - low) / (high - low) * 255 in float64, clipped, truncated.

    Args:
        low: maps to 0.
        high: maps to 255.
        size: number of grey values, 256 or 65,536.
    """
    grey = np.arange(size, dtype=np.float64)
    return np.clip((grey - low) / (high - low) * 255, 0, 255).astype(np.uint8)
