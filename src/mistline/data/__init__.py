"""Reading a sealed dataset into torch: `open_dataset`, its samples and batches."""

from __future__ import annotations

from mistline.data.dataset import MistDataset, open_dataset
from mistline.data.loader import Loader, as_is
from mistline.data.sample import Batch, Sample

__all__ = ["Batch", "Loader", "MistDataset", "Sample", "as_is", "open_dataset"]
