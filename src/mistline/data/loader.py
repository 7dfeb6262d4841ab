"""Iterating over the batches of an epoch, read by any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from mistline.core.errors import MistlineError
from mistline.data.grouped import GroupOrder
from mistline.data.order import Order
from mistline.data.sample import Batch
from mistline.data.transport import Allocate, Arrays, Inbox, Outbox, Parcel


class Batched(Protocol):
    """A dataset that returns several records at once, in one step or in two."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch: ...

    def load(self, indices: Sequence[int], allocate: Allocate) -> Arrays:
        """Read the arrays of a batch into memory that `allocate` gives."""
        ...

    def assemble(self, tensors: Mapping[str, Tensor]) -> Batch:
        """Return the batch of these arrays."""
        ...


class Loader:
    """An iterable of batches over a dataset; iterate it again for another epoch.

    Worker processes only read and decode. Their arrays arrive in one block of shared memory, and the batch is put
    together here, so that names, for one, never travel.

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
        order: Order | GroupOrder,
        num_workers: int = 0,
        start_method: str | None = None,
        pin_memory: bool = False,
        persistent: bool = False,
    ) -> None:
        self.order = order
        self._dataset = dataset
        self._read = _Read(dataset)
        self._persistent = persistent and num_workers > 0
        self._inbox: Inbox | None = None
        self._loader: DataLoader[Any] = DataLoader(
            self._read,  # type: ignore[arg-type]
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=as_is,
            worker_init_fn=_start_worker,
            multiprocessing_context=start_method if num_workers else None,
            pin_memory=pin_memory,
            persistent_workers=self._persistent,
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the epoch, from the order's start on.

        Raises:
            InputError: a record is missing or damaged, also when a worker process read it.
        """
        inbox = self._inbox if self._inbox is not None and self._persistent else Inbox()
        self._inbox = inbox if self._persistent else None
        self._read.inbox = inbox.number  # new workers are told when they start, below
        for batch in self._loader:
            if isinstance(batch, MistlineError):
                raise batch
            yield self._dataset.assemble(batch.tensors()) if isinstance(batch, Parcel) else batch

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch whose order the next iteration has, and the first batch of it to give."""
        self.order.epoch, self.order.start = epoch, start


class _Read:
    """What a worker does: read a batch and send it, or the error as a value.

    torch would turn an error into a RuntimeError with a traceback as text.
    """

    def __init__(self, dataset: Batched) -> None:
        self.inbox = -1
        self._dataset = dataset
        self._outbox: Outbox | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[int]) -> Batch | Parcel | MistlineError:
        worker = get_worker_info()
        try:
            if worker is None:
                return self._dataset.__getitems__(indices)
            if self._outbox is None:
                self._outbox = Outbox(self.inbox, worker.id)
            return self._outbox.pack(lambda allocate: self._dataset.load(indices, allocate))
        except MistlineError as error:
            return error


def as_is(batch: Any) -> Any:
    """Return the batch: the `collate_fn` for a torch loader over a dataset that returns whole batches."""
    return batch


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # threads of the parent's pool do not exist after a fork
