"""A slide in memory: cells of planted kinds on a plane, in niches of 50 um and regions of 100 um."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from mistline.data.columns import Names
from mistline.data.sample import Batch, Context
from mistline.train.device import cpu_threads

SIDES = {"niche": 50.0, "region": 100.0}
N_KINDS = 3


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with cpu_threads(1):
        yield


class SpatialSource:
    """See `mistline.models.contract.Source`; a cell's kind shapes its genes and its image.

    With as many kinds as cells, every cell is of its own kind, and its counts are without noise.
    """

    values = "counts"

    def __init__(self, n: int = 32, n_genes: int = 20, seed: int = 0, channels: int = 1, kinds: int = N_KINDS) -> None:
        rng = np.random.default_rng(seed)
        self.channels = ("DAPI", "other", "third")[:channels]
        self.genes = tuple(f"g{i:03d}" for i in range(n_genes))
        self.common_genes = self.genes
        self.panels = {"s": np.ones(n_genes, dtype=bool)}
        self.slides = ("s",)
        if kinds == n:
            self.kind = np.arange(n)
            self.counts = 12 * (rng.random((n, n_genes)) < 0.4).astype(np.int64)
        else:
            self.kind = rng.integers(0, kinds, n)
            rate = 0.3 + 12 * (np.arange(n_genes) % kinds == np.arange(kinds)[:, None])
            self.counts = rng.poisson(rate[self.kind]).astype(np.int64)
        self.xy_um = rng.uniform(0, 200, (n, 2)).astype(np.float32)
        self.ids = [f"c{i:04d}" for i in range(n)]
        self.slide = "s"
        self.order = np.arange(n)

    def turned(self, order: np.ndarray) -> SpatialSource:
        """Return the same slide with its cells in another order."""
        other = SpatialSource.__new__(SpatialSource)
        other.__dict__.update(self.__dict__, order=order)
        return other

    def count(self, scale: str = "cell") -> int:
        return len(self._ids(scale))

    def n_batches(self, needs, shuffle=None, *, rank=0, world=1) -> int:
        return -(-self.count(needs.scale) // needs.batch_size)

    def batches(self, needs, shuffle=None, *, skip=0, rank=0, world=1):
        rows = np.arange(self.count(needs.scale)) if needs.scale != "cell" else self.order
        if shuffle is not None:
            rows = np.random.default_rng(shuffle).permutation(rows)
        if shuffle is not None and needs.group:
            tile = self._tile(needs.group)
            rows = np.concatenate([rows[tile[rows] == name] for name in dict.fromkeys(tile[rows].tolist())])
        for low in range(skip * needs.batch_size, len(rows), needs.batch_size):
            yield self._batch(needs, rows[low : low + needs.batch_size])

    def _tile(self, scale: str) -> np.ndarray:
        place = (self.xy_um // SIDES[scale]).astype(int)
        return np.array([f"{row}_{column}" for column, row in place])

    def _ids(self, scale: str) -> list[str]:
        return self.ids if scale == "cell" else sorted(set(self._tile(scale)))

    def _batch(self, needs, rows: np.ndarray) -> Batch:
        context = {}
        for scale, size in needs.context:
            tile = self._tile(scale)[rows]
            ids = sorted(set(tile))
            here = [self._ids(scale).index(name) for name in ids]
            tiles = self._records(scale, size, needs.genes, np.array(here))
            context[scale] = Context(tiles, torch.tensor([ids.index(name) for name in tile]))
        return self._records(needs.scale, needs.image_size, needs.genes, rows, context)

    def _records(self, scale: str, size, genes, rows: np.ndarray, context=None) -> Batch:
        ids = [self._ids(scale)[i] for i in rows]
        if scale == "cell":
            xy_um, side_um, counts = self.xy_um[rows], np.full(len(rows), 12.0), self.counts[rows]
        else:
            side_um = np.full(len(rows), SIDES[scale])
            xy_um = np.array([[(int(c) + 0.5), (int(r) + 0.5)] for r, c in (i.split("_") for i in ids)]) * side_um[0]
            tile = self._tile(scale)
            counts = np.array([self.counts[tile == name].sum(0) for name in ids])
        texts = {"record_id": ids, "slide": [self.slide] * len(ids), "donor": ["d"] * len(ids), "labels": {}}
        texts |= {"key": [f"{self.slide}/{i}" for i in ids], "split": ["train"] * len(ids)}
        texts["tiles"] = {} if scale != "cell" else {name: self._tile(name)[rows].tolist() for name in SIDES}
        sparse = {}
        if genes == "sparse":
            row, column = np.nonzero(counts)
            sparse["gene_index"] = torch.from_numpy(column)
            sparse["gene_count"] = torch.from_numpy(counts[row, column]).int()
            sparse["gene_offset"] = torch.from_numpy(np.searchsorted(row, np.arange(len(rows) + 1)))
        image = None if size is None or not self.channels else self._image(scale, rows, size)
        return Batch(
            Names.known(texts),
            torch.from_numpy(np.asarray(xy_um, dtype=np.float32)),
            torch.from_numpy(np.asarray(side_um, dtype=np.float32)),
            image=image,
            context=context or {},
            **sparse,
        )

    def _image(self, scale: str, rows: np.ndarray, size: int) -> torch.Tensor:
        """Return images that repeat their kind's own pattern of four squares every 8 pixels."""
        rng = np.random.default_rng(7)
        pattern = rng.uniform(0, 255, (80, len(self.channels), 2, 2))
        which = self.kind[rows] if scale == "cell" else 40 + rows % 40
        patch = np.kron(pattern[which], np.ones((1, 1, 4, 4)))
        return torch.from_numpy(np.tile(patch, (1, 1, size // 8, size // 8)).astype(np.uint8))


@pytest.fixture
def source() -> Callable[..., SpatialSource]:
    return SpatialSource
