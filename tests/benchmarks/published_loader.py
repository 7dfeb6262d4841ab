"""The published way to read cells, in our own words: what `loader.py` measures against.

An LMDB of raw 256 x 256 records under `{dataset}/{cell_id}`, a transaction for each read, and for each sample what a
ViT image processor does: repeat the plane three times, resize to 224 pixels (bilinear), rescale to 0..1, normalise,
channels first; then torch's own collate. The processor is written with PIL and numpy, as transformers is none of our
packages; it checks less than that one does, so the reference is rather faster than the published code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import cv2
import lmdb
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

SIDE = 256
INPUT = 224
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def write_records(path: Path, dataset: str, images: Iterator[tuple[str, NDArray[np.uint8]]], n: int) -> None:
    """Write (cell_id, [1, S, S] crop) pairs as raw 256 x 256 records."""
    env = lmdb.open(str(path), map_size=int(n * 80_000 + 2**24), subdir=False, sync=False)
    with env.begin(write=True) as transaction:
        for cell_id, image in images:
            how = cv2.INTER_AREA if image.shape[-1] > SIDE else cv2.INTER_LINEAR
            raw = cv2.resize(image[0], (SIDE, SIDE), interpolation=how)
            transaction.put(f"{dataset}/{cell_id}".encode(), raw.tobytes())
    env.close()


class RawCells(Dataset[dict[str, Any]]):
    """One record an item.

    Args:
        path: LMDB file.
        dataset: first part of the keys.
        cell_ids: of the records.
    """

    def __init__(self, path: Path, dataset: str, cell_ids: list[str]) -> None:
        self._path, self._dataset, self._cell_ids = path, dataset, cell_ids
        self._env: Any = None

    def __len__(self) -> int:
        return len(self._cell_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._env is None:
            self._env = lmdb.open(str(self._path), readonly=True, lock=False, subdir=False)
        cell_id = self._cell_ids[index]
        with self._env.begin() as transaction:
            raw = transaction.get(f"{self._dataset}/{cell_id}".encode())
        image = np.frombuffer(raw, dtype=np.uint8).reshape(SIDE, SIDE)
        return {"image": torch.from_numpy(processed(image)), "cell_id": cell_id}


def processed(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return float32 [3, 224, 224] of a plane [256, 256]."""
    planes = Image.fromarray(np.repeat(image[:, :, None], 3, axis=2))
    small = np.asarray(planes.resize((INPUT, INPUT), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.ascontiguousarray(((small * (1 / 255) - _MEAN) / _STD).transpose(2, 0, 1))


def loader(cells: RawCells, batch_size: int, workers: int) -> DataLoader[dict[str, Any]]:
    """Return the loader of shuffled batches."""
    return DataLoader(cells, batch_size=batch_size, shuffle=True, num_workers=workers)


def gene_batches(path: Path, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield dense counts of random cells from an h5ad that stays on disk; rows of a batch are read in their order."""
    backed = anndata.read_h5ad(path, backed="r")
    order = np.random.default_rng(seed).permutation(backed.n_obs)
    for first in range(0, len(order), batch_size):
        rows = np.sort(order[first : first + batch_size])
        yield torch.from_numpy(backed.X[rows].toarray().astype(np.float32))
    backed.file.close()
