"""The image patches of one slide given as a table (`models.predictor.Images`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.data.images import resize_into
from mistline.store.manifest import Manifest
from mistline.store.reader import ShardReader

CHANNELS = ("red", "green", "blue")


class PatchImages:
    """Patches in the order of the slide's cells.

    Args:
        manifest: of a sealed dataset of tables.
        slide: name.

    Attributes:
        channels: names of the 3 channels.
        side_um: side of the square that a patch shows.

    Raises:
        InputError: the slide has no image, or its shards are not those that were sealed.
    """

    channels: tuple[str, ...] = CHANNELS

    def __init__(self, manifest: Manifest, slide: str) -> None:
        entry = manifest.slides[slide]
        if "patches" not in entry:
            what = f"slide {slide} is a table without image, and the model asks for images"
            raise InputError(manifest.path, what, "set image of the slide, or leave this model out")
        patches = entry["patches"]
        self.side_um = float(patches["side_um"])
        self._reader = ShardReader(manifest.locate(patches["shards"]["path"]))
        if len(self._reader) != patches["records"]:
            what = f"the shards hold {len(self._reader)} records, the manifest states {patches['records']}"
            raise InputError(self._reader.folder, what, "run cut_patches, then seal_tables")

    def __call__(self, rows: NDArray[np.int64], size_px: int) -> NDArray[np.uint8]:
        """Return [B, 3, S, S] of these cells."""
        out = np.empty((len(rows), len(self.channels), size_px, size_px), dtype=np.uint8)
        for record, target in zip(self._reader.packed(rows.tolist()), out, strict=True):
            resize_into(record.image(), target)
        return out
