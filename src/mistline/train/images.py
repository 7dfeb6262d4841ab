"""The images of one slide's cells, from the shards of a sealed dataset (`models.predictor.Images`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mistline.data import MistDataset, open_dataset
from mistline.models.predictor import Images
from mistline.store.manifest import read_manifest
from mistline.train.patches import PatchImages


def open_images(manifest: Path, slide: str) -> Images:
    """Open the images of one slide of a sealed dataset, of bundles or of tables."""
    sealed = read_manifest(manifest)
    return PatchImages(sealed, slide) if sealed.kind == "tables" else ShardImages(manifest, slide)


class ShardImages:
    """Crops in the order of the slide's cells.

    Args:
        manifest: of the sealed dataset, one with images.
        slide: name.

    Attributes:
        channels: names of the C channels.
    """

    def __init__(self, manifest: Path, slide: str) -> None:
        self._open = cache(lambda size_px: _open(manifest, slide, size_px))
        self.channels: tuple[str, ...] = _open(manifest, slide, None).manifest.channels

    def __call__(self, rows: NDArray[np.int64], size_px: int) -> NDArray[np.uint8]:
        """Return [B, C, S, S] of these cells."""
        image = self._open(size_px).__getitems__(rows.tolist()).image
        return np.asarray(image)


def _open(manifest: Path, slide: str, size_px: int | None) -> MistDataset:
    return open_dataset(manifest, image_size=size_px, genes=None, slides=[slide])
