"""Batches made of whole tiles: the records of one tile come together, in an order drawn for each epoch.

`n` records, `P` pieces of at most `batch_size` records, each a tile or a part of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mistline.core.seeds import generator
from mistline.data.order import Plan

Numbers = NDArray[np.int64]


class GroupOrder(Sampler[list[int]]):
    """The batches of an epoch that one rank reads; see `MistDataset.loader` for what a group is.

    Tiles are shuffled and put into a batch as long as they fit (next fit); a tile that is larger than a batch is
    cut into equal pieces, along its finer tiles in an order drawn for the epoch. All ranks draw the same batches
    and take every world-th; what is left over, fewer batches than ranks, is left out.

    Args:
        group: [n] number of the tile that holds each record.
        finer: [n] numbers of the tiles along which large ones are cut.
        plan: batch size, seed and rank; `shuffle` must be set, `block` and `even` say nothing here.
        epoch: of the order; may be changed between two iterations.
        start: first batch to give; the ones before it were given before an interruption.
    """

    def __init__(self, group: Numbers, finer: Numbers, plan: Plan, epoch: int = 0, start: int = 0) -> None:
        if not plan.shuffle:
            raise ValueError("only a shuffled epoch can be grouped")
        self._group = np.unique(group, return_inverse=True)[1]
        self._finer = np.unique(finer, return_inverse=True)[1]
        self._plan = plan
        self._packed: tuple[int, Numbers, Numbers] | None = None
        self.epoch = epoch
        self.start = start
        if start < 0 or start > self.n_batches:
            raise ValueError(f"start {start} must lie in 0 .. {self.n_batches}, the batches of the epoch")

    def __len__(self) -> int:
        return max(self.n_batches - self.start, 0)

    def __iter__(self) -> Iterator[list[int]]:
        records, ends = self._epoch()
        starts = np.concatenate([[0], ends])
        for number in range(self.start, self.n_batches):
            batch = number * self._plan.world + self._plan.rank
            yield records[starts[batch] : starts[batch + 1]].tolist()

    @property
    def n_batches(self) -> int:
        """Number of this rank's batches in the epoch, those before `start` included."""
        return len(self._epoch()[1]) // self._plan.world

    def _epoch(self) -> tuple[Numbers, Numbers]:
        """Return [n] the records in the order of the epoch, and one past the last of each batch of all ranks."""
        if self._packed is None or self._packed[0] != self.epoch:
            random = generator(self._plan.seed, "epoch", self.epoch, "grouped")
            self._packed = self.epoch, *_draw(self._group, self._finer, self._plan.batch_size, random)
        return self._packed[1:]


def tile_numbers(names: Sequence[tuple[NDArray[np.int64], int]]) -> Numbers:
    """Return [n] one number a tile of all slides.

    Args:
        names: of each slide, the number of its tile of each record, and how many tiles it has.
    """
    first = np.cumsum([0, *(count for _, count in names)])
    parts = [tile + start for (tile, _), start in zip(names, first[:-1], strict=True)]
    return np.concatenate(parts) if parts else np.arange(0)


def _draw(group: Numbers, finer: Numbers, size: int, random: np.random.Generator) -> tuple[Numbers, Numbers]:
    if not len(group):
        return np.arange(0), np.arange(0)
    turn = random.permutation(int(finer.max()) + 1)
    sorted_by_tile = np.lexsort((turn[finer], group))  # stable: inside the finest tile, as the files have them
    counts = np.bincount(group)
    n_pieces = -(-counts // size)
    tile = np.repeat(np.arange(len(counts)), n_pieces)  # [P]
    number = np.arange(len(tile)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    first = np.repeat(np.cumsum(counts) - counts, n_pieces)
    edges = [first + counts[tile] * step // n_pieces[tile] for step in (number, number + 1)]
    chosen = random.permutation(len(tile))
    low, length = edges[0][chosen], (edges[1] - edges[0])[chosen]
    ends = np.cumsum(length)
    records = sorted_by_tile[np.arange(ends[-1]) + np.repeat(low - (ends - length), length)]
    return records, _pack(ends, size)


def _pack(ends: Numbers, size: int) -> Numbers:
    """Return where batches end, of the places where pieces end: as many pieces a batch as its size holds."""
    found, start = [], 0
    while start < ends[-1]:
        last = int(np.searchsorted(ends, start + size, side="right")) - 1
        start = int(ends[last])
        found.append(start)
    return np.array(found, dtype=np.int64)
