"""Carrying batches from worker processes to the consumer: one block of shared memory a batch, used again and again.

Fresh shared memory is dear: the system clears every page of it, for the worker and once more for the consumer,
which costs more than decoding what is put there. So a worker keeps a few blocks. The first byte of a block says
whether the consumer still looks at it; it is cleared when the last tensor that shows the block is gone. A batch
that is kept is therefore never overwritten: the worker makes another block.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shapes = Mapping[str, tuple[tuple[int, ...], Any]]
"""Name -> shape and numpy type of an array."""

Arrays = dict[str, NDArray[Any]]
Allocate = Callable[[Shapes], Arrays]
Layout = tuple[tuple[str, tuple[int, ...], str, int], ...]

_ALIGN = 64
_HEADER = _ALIGN  # room of the first byte
_MOST_KEPT = 8  # blocks a worker keeps; torch reads ahead two batches, and the consumer holds one or two
_SPARE = 1.25
_NO_SLOT = -1  # of a block that is used once: all others are being looked at


def private(shapes: Shapes) -> Arrays:
    """Return uninitialised arrays in this process's own memory."""
    return {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}


class Outbox:
    """A worker's blocks of shared memory, each in a numbered slot.

    Args:
        inbox: number of the consumer's `Inbox`.
        worker: number of this worker.
    """

    def __init__(self, inbox: int, worker: int) -> None:
        self._address = inbox, worker
        self._slots: list[Tensor] = []
        self._delivered: set[int] = set()

    def pack(self, fill: Callable[[Allocate], object]) -> Parcel:
        """Return a parcel of the arrays that `fill` asks for and writes."""
        layout: Layout = ()
        slot, block = _NO_SLOT, torch.empty(0, dtype=torch.uint8)

        def allocate(shapes: Shapes) -> Arrays:
            nonlocal layout, slot, block
            layout, n_bytes = _layout(shapes)
            slot, block = self._take(n_bytes)
            return _views(block.numpy(), layout)

        fill(allocate)
        block[0] = 1
        sent = None if slot in self._delivered else block
        if slot != _NO_SLOT:
            self._delivered.add(slot)
        return Parcel((*self._address, slot), layout, sent)

    def _take(self, n_bytes: int) -> tuple[int, Tensor]:
        free = [slot for slot, block in enumerate(self._slots) if not block[0]]
        for slot in free:
            if len(self._slots[slot]) >= n_bytes:
                return slot, self._slots[slot]
        block = torch.empty(int(n_bytes * _SPARE), dtype=torch.uint8).share_memory_()
        if len(self._slots) < _MOST_KEPT:
            self._slots.append(block)
            return len(self._slots) - 1, block
        if not free:
            return _NO_SLOT, block
        self._slots[free[0]] = block  # in the place of one that is too small
        self._delivered.discard(free[0])
        return free[0], block


class Inbox:
    """The consumer's view of its workers' blocks; lives as long as they do."""

    def __init__(self) -> None:
        self.number = next(_NUMBERS)
        self._slots: dict[tuple[int, int], Tensor] = {}
        _INBOXES[self.number] = self

    def open(self, worker: int, slot: int, sent: Tensor | None) -> Tensor:
        """Return a tensor that shows a block, which is sent along the first time; the last such one frees it."""
        block = self._slots[worker, slot] if sent is None else sent
        if slot != _NO_SLOT:
            self._slots[worker, slot] = block
        seen = block.numpy()[:]
        weakref.finalize(seen, _release, block).atexit = False
        return torch.from_numpy(seen)


class Parcel:
    """The arrays of a batch on their way; made by `Outbox.pack`, and by unpickling.

    Args:
        address: inbox, worker and slot.
        layout: of the block.
        block: what goes with it: the whole block when it is new to the consumer, and always once it has arrived.
    """

    def __init__(self, address: tuple[int, int, int], layout: Layout, block: Tensor | None) -> None:
        self._address = address
        self._layout = layout
        self._block = block

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self._address, self._layout, self._block)

    def tensors(self) -> dict[str, Tensor]:
        """Return name -> tensor, views of the block."""
        if self._block is None:
            raise RuntimeError("the parcel came too late: its loader is not iterated any more")
        found = {}
        for name, shape, dtype, first in self._layout:
            kind = _TORCH[dtype]
            found[name] = self._block[first : first + prod(shape) * kind.itemsize].view(kind).view(shape)
        return found

    def pin_memory(self) -> Parcel:
        """Return a copy in page-locked memory; torch's loader calls this."""
        return Parcel(self._address, self._layout, None if self._block is None else self._block.pin_memory())


_NUMBERS = itertools.count()
_INBOXES: weakref.WeakValueDictionary[int, Inbox] = weakref.WeakValueDictionary()
_TORCH = {
    np.dtype(name).str: kind
    for name, kind in (
        ("uint8", torch.uint8),
        ("int32", torch.int32),
        ("int64", torch.int64),
        ("float32", torch.float32),
    )
}


def _receive(address: tuple[int, int, int], layout: Layout, sent: Tensor | None) -> Parcel:
    """Open a parcel in the consumer's process."""
    number, worker, slot = address
    inbox = _INBOXES.get(number)  # None: the loop that asked for the parcel was left
    return Parcel(address, layout, None if inbox is None else inbox.open(worker, slot, sent))


def _release(block: Tensor) -> None:
    block[0] = 0


def _layout(shapes: Shapes) -> tuple[Layout, int]:
    layout, end = [], _HEADER
    for name, (shape, dtype) in shapes.items():
        kind = np.dtype(dtype)
        layout.append((name, tuple(shape), kind.str, end))
        n_bytes = prod(shape) * kind.itemsize
        end += -(-n_bytes // _ALIGN) * _ALIGN
    return tuple(layout), end


def _views(flat: NDArray[np.uint8], layout: Layout) -> Arrays:
    found = {}
    for name, shape, dtype, first in layout:
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        found[name] = flat[first : first + n_bytes].view(dtype).reshape(shape)
    return found
