"""Which records each batch of an epoch holds: a function of seed, epoch and the dataset, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mistline.core.seeds import generator

_MIXED_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """How an epoch is cut into batches; see `MistDataset.loader`.

    Args:
        batch_size: records of a batch.
        shuffle: draw the order from (seed, epoch); else that of the files.
        seed: of the order.
        block: length of the runs of neighbours that are shuffled; 1 shuffles single records.
        rank: which of the `world` parts of the epoch.
        world: number of parts.
        even: None, `cut`, `drop` or `repeat`.

    Raises:
        ValueError: an argument is out of range.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    block: int = 1
    rank: int = 0
    world: int = 1
    even: Literal["cut", "drop", "repeat"] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.block < 1:
            raise ValueError(f"batch_size {self.batch_size} and block {self.block} must be 1 or more")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} must lie in 0 .. world - 1, world is {self.world}")
        if self.even not in (None, "cut", "drop", "repeat"):
            raise ValueError(f"even {self.even!r} must be None, 'cut', 'drop' or 'repeat'")


class Order(Sampler[list[int]]):
    """The batches of an epoch that one rank reads, as lists of indices.

    All ranks draw one global order. Of single records, rank r takes the r-th, the (r + world)-th, ...: batch s of
    all ranks together is then batch s of one process with `world` times the batch size. Of blocks it takes every
    world-th block, whole, and mixes 16 of its blocks at a time. Not shuffled, it takes one contiguous part.

    Args:
        ends: ascending, one past the last index of each stretch that lies together on disk; no block crosses one.
        plan: how to cut.
        epoch: of the order; may be changed between two iterations.
        start: first batch to give; the ones before it were given before an interruption.
    """

    def __init__(self, ends: Sequence[int] | NDArray[np.int64], plan: Plan, epoch: int = 0, start: int = 0) -> None:
        self.epoch = epoch
        self.start = start
        self._ends = np.asarray(ends, dtype=np.int64)
        self._n = int(self._ends[-1]) if len(self._ends) else 0
        self._plan = plan
        if start < 0 or start > self.n_batches:
            raise ValueError(f"start {start} must lie in 0 .. {self.n_batches}, the batches of the epoch")

    def __len__(self) -> int:
        return max(self.n_batches - self.start, 0)

    def __iter__(self) -> Iterator[list[int]]:
        order, size = self.indices(), self._plan.batch_size
        for first in range(self.start * size, len(order), size):
            yield order[first : first + size].tolist()

    @property
    def n_batches(self) -> int:
        """Number of this rank's batches in the epoch, those before `start` included."""
        lengths, plan = self._lengths(), self._plan
        if plan.even == "drop":
            return min(lengths) // plan.batch_size
        counted = {None: lengths[plan.rank], "cut": min(lengths), "repeat": max(lengths)}[plan.even]
        return -(-counted // plan.batch_size)

    def indices(self) -> NDArray[np.int64]:
        """Return the whole epoch's order of this rank.

        Raises:
            ValueError: `even` can give this rank no batch, or none of its own to repeat.
        """
        own = self._own()
        if self._plan.even is None or not self._n:
            return own
        if self._plan.even == "cut":
            return own[: self.n_batches * self._plan.batch_size]
        if not self.n_batches or not len(own):
            what = f"{self._n} records make no batch of {self._plan.batch_size} for each of {self._plan.world} ranks"
            raise ValueError(f"{what}; lower batch_size, world or block")
        return np.resize(own, self.n_batches * self._plan.batch_size)  # cut, or repeated from its start

    def _own(self) -> NDArray[np.int64]:
        plan = self._plan
        if not plan.shuffle:
            return np.arange(self._n * plan.rank // plan.world, self._n * (plan.rank + 1) // plan.world)
        if plan.block == 1:
            return generator(plan.seed, "epoch", self.epoch).permutation(self._n)[plan.rank :: plan.world]
        mine = self._shuffled_runs()[plan.rank :: plan.world]
        random = generator(plan.seed, "epoch", self.epoch, "mixed", plan.rank)
        mixed = []
        for first in range(0, len(mine), _MIXED_BLOCKS):
            runs = [np.arange(low, high) for low, high in mine[first : first + _MIXED_BLOCKS].tolist()]
            mixed.append(random.permutation(np.concatenate(runs)))
        return np.concatenate(mixed) if mixed else np.arange(0)

    def _lengths(self) -> list[int]:
        """Return the number of records of each rank, before `even`."""
        plan = self._plan
        ranks = np.arange(plan.world)
        if not plan.shuffle:
            lengths = self._n * (ranks + 1) // plan.world - self._n * ranks // plan.world
        elif plan.block == 1:
            lengths = (self._n - ranks + plan.world - 1) // plan.world
        else:
            of_runs = np.diff(self._shuffled_runs(), axis=1)[:, 0]
            lengths = np.bincount(np.arange(len(of_runs)) % plan.world, of_runs, plan.world)
        return [int(length) for length in lengths]

    def _shuffled_runs(self) -> NDArray[np.int64]:
        """Return [R, 2] first and past-last index of each block, shuffled; those of a stretch are equally long."""
        cuts = [np.empty((0, 2), dtype=np.int64)]
        for low, high in zip([0, *self._ends[:-1].tolist()], self._ends.tolist(), strict=True):
            n_runs = -(-(high - low) // self._plan.block)
            if n_runs:
                edges = low + (high - low) * np.arange(n_runs + 1) // n_runs
                cuts.append(np.column_stack([edges[:-1], edges[1:]]))
        return generator(self._plan.seed, "epoch", self.epoch).permutation(np.concatenate(cuts))
