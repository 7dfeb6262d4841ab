"""Batches in an order that depends on seed and epoch alone, read by any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from mistline.core.errors import MistlineError
from mistline.core.seeds import generator
from mistline.data.sample import Batch

_MIXED_BLOCKS = 16


class Batched(Protocol):
    """A dataset that returns several records at once."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch: ...


class Order(Sampler[list[int]]):
    """The batches of an epoch, as lists of indices.

    Args:
        n: records of the dataset.
        batch_size: records of a batch; the last one may be smaller.
        shuffle: draw the order from (seed, epoch); else 0, 1, 2, ...
        seed: of the order.
        block: length of the runs that are shuffled; 1 shuffles single records.
        epoch: of the order.
    """

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int, block: int, epoch: int) -> None:
        if batch_size < 1 or block < 1:
            raise ValueError(f"batch_size {batch_size} and block {block} must be 1 or more")
        self.epoch = epoch
        self._n = n
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._block = block

    def __len__(self) -> int:
        return -(-self._n // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.indices()
        for start in range(0, self._n, self._batch_size):
            yield order[start : start + self._batch_size].tolist()

    def indices(self) -> NDArray[np.int64]:
        """Return the order [n] of this epoch."""
        if not self._shuffle:
            return np.arange(self._n)
        random = generator(self._seed, "epoch", self.epoch)
        if self._block == 1:
            return random.permutation(self._n)
        starts = random.permutation(np.arange(0, self._n, self._block))
        mixed = []
        for first in range(0, len(starts), _MIXED_BLOCKS):
            runs = [np.arange(s, min(s + self._block, self._n)) for s in starts[first : first + _MIXED_BLOCKS].tolist()]
            mixed.append(random.permutation(np.concatenate(runs)))
        return np.concatenate(mixed) if mixed else np.arange(0)


class Loader:
    """An iterable of batches over a dataset; iterate it again for another epoch.

    Args:
        dataset: to read.
        order: the batches.
        num_workers: processes that read; 0 reads in this one.
        start_method: `fork` or `spawn` of the processes; None for the platform's way.
        pin_memory: give batches in page-locked memory, for an accelerator.
        persistent: keep the processes between epochs.
    """

    def __init__(
        self,
        dataset: Batched,
        order: Order,
        num_workers: int = 0,
        start_method: str | None = None,
        pin_memory: bool = False,
        persistent: bool = False,
    ) -> None:
        self.order = order
        self._loader: DataLoader[Any] = DataLoader(
            _Guarded(dataset),  # type: ignore[arg-type]
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=as_is,
            worker_init_fn=_start_worker,
            multiprocessing_context=start_method if num_workers else None,
            pin_memory=pin_memory,
            persistent_workers=persistent and num_workers > 0,
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the epoch.

        Raises:
            InputError: a record is missing or damaged, also when a worker process read it.
        """
        for batch in self._loader:
            if isinstance(batch, MistlineError):
                raise batch
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration has."""
        self.order.epoch = epoch


class _Guarded:
    """Hands errors of a worker over as values: torch would turn them into a RuntimeError with a traceback as text."""

    def __init__(self, dataset: Batched) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[int]) -> Batch | MistlineError:
        try:
            return self._dataset.__getitems__(indices)
        except MistlineError as error:
            return error


def as_is(batch: Any) -> Any:
    """Return the batch: the `collate_fn` for a torch loader over a dataset that returns whole batches."""
    return batch


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # threads of the parent's pool do not exist after a fork
