"""A slide of any number of cells that takes no memory: every batch is made when it is read.

Cells lie in niches of 20, and 16 niches in a region. Pixels and counts are those of a pool, over and over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mistline.data.columns import Names
from mistline.data.sample import Batch
from mistline.models.contract import Needs
from tests.benchmarks.spatia_genes import cells_of

CELLS_OF_NICHE, NICHES_OF_REGION = 20, 16
SIDE_UM = {"niche": 54.4, "region": 217.6}
_POOL = 256
_PANEL, _SHARE = 377, 1 / 6


class Slide:
    """See `mistline.models.contract.Source`.

    Args:
        n_cells: of the slide.
    """

    values = "counts"
    channels = ("DAPI",)

    def __init__(self, n_cells: int) -> None:
        self.n_cells = n_cells
        self.genes = self.symbols = self.common_genes = tuple(f"G{number:05d}" for number in range(_PANEL))
        self.panels = {"s": np.ones(_PANEL, dtype=bool)}
        self.slides = ("s",)
        self._images: dict[int, torch.Tensor] = {}
        self._counts = cells_of(_POOL, _PANEL, _SHARE)
        self._length = torch.bincount(self._counts.row, minlength=_POOL)

    def count(self, scale: str = "cell") -> int:
        """Return the number of records."""
        of = {"cell": 1, "niche": CELLS_OF_NICHE, "region": CELLS_OF_NICHE * NICHES_OF_REGION}[scale]
        return -(-self.n_cells // of)

    def n_batches(self, needs: Needs, shuffle: int | None = None, *, rank: int = 0, world: int = 1) -> int:
        """Return how many batches there are."""
        return -(-self.count(needs.scale) // needs.batch_size)

    def batches(
        self, needs: Needs, shuffle: int | None = None, *, skip: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Yield all records in order."""
        n = self.count(needs.scale)
        for low in range(skip * needs.batch_size, n, needs.batch_size):
            yield self._batch(needs, np.arange(low, min(n, low + needs.batch_size)))

    def _batch(self, needs: Needs, number: NDArray[np.int64]) -> Batch:
        if needs.scale == "cell":
            niche = number // CELLS_OF_NICHE
            place, tiles = self._place(niche), {"niche": self._ids(niche), "region": self._regions(niche)}
            within = np.column_stack([number % 5, number % CELLS_OF_NICHE // 5]) * 10.0 + 5
            xy_um, side_um, ids = place * SIDE_UM["niche"] + within, 12.0, [f"c{i:08d}" for i in number]
        else:
            niche = number if needs.scale == "niche" else number * NICHES_OF_REGION
            place = self._place(niche) // (1 if needs.scale == "niche" else 4)
            ids, tiles, side_um = [f"{row}_{col}" for col, row in place], {}, SIDE_UM[needs.scale]
            xy_um = (place + 0.5) * side_um
        side = torch.full((len(number),), side_um)
        names = Names.known(_texts(ids, tiles))
        image = None if needs.image_size is None else self._pixels(needs.image_size)[torch.from_numpy(number % _POOL)]
        counts = self._genes(number % _POOL) if needs.genes == "sparse" else {}
        return Batch(names, torch.from_numpy(xy_um.astype(np.float32)), side, image=image, **counts)

    def _place(self, niche: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return [n, 2] column and row of niches."""
        region, own = niche // NICHES_OF_REGION, niche % NICHES_OF_REGION
        wide = int(np.ceil(np.sqrt(self.count("region"))))
        return np.column_stack([region % wide * 4 + own % 4, region // wide * 4 + own // 4])

    def _ids(self, niche: NDArray[np.int64]) -> list[str]:
        return [f"{row}_{col}" for col, row in self._place(niche)]

    def _regions(self, niche: NDArray[np.int64]) -> list[str]:
        return [f"{row}_{col}" for col, row in self._place(niche) // 4]

    def _pixels(self, size: int) -> torch.Tensor:
        if size not in self._images:
            draw = torch.Generator().manual_seed(0)
            self._images[size] = torch.randint(0, 256, (_POOL, 1, size, size), dtype=torch.uint8, generator=draw)
        return self._images[size]

    def _genes(self, pooled: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        pooled = torch.from_numpy(pooled)
        length = self._length[pooled]
        offset = torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])
        at = torch.arange(int(offset[-1])) + torch.repeat_interleave(self._counts.start[pooled] - offset[:-1], length)
        count = self._counts.count[at].int()
        return {"gene_index": self._counts.index[at], "gene_count": count, "gene_offset": offset}


def _texts(ids: list[str], tiles: Mapping[str, list[str]]) -> dict[str, Any]:
    known = {"slide": "s", "donor": "d", "split": "test"}
    same = {name: [value] * len(ids) for name, value in known.items()}
    return {"key": [f"s/{name}" for name in ids], "record_id": ids, "tiles": tiles, "labels": {}, **same}
