"""Reading a sealed dataset into torch: `open_dataset`, its samples and batches, and what is done to them late."""

from __future__ import annotations

from mistline.data.dataset import MistDataset, open_dataset
from mistline.data.images import normalise, resize
from mistline.data.loader import Loader, as_is
from mistline.data.ragged import Ragged
from mistline.data.sample import Batch, Context, Sample

__all__ = [
    "Batch",
    "Context",
    "Loader",
    "MistDataset",
    "Ragged",
    "Sample",
    "as_is",
    "normalise",
    "open_dataset",
    "resize",
]
