from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from mistline.data import Batch, Loader, open_dataset
from mistline.data.order import Order, Plan
from mistline.data.transport import Inbox, Outbox


def _pack(outbox: Outbox, value: int, n: int = 100):
    def fill(allocate) -> None:
        for name, array in allocate({"a": ((n,), np.uint8), "b": ((2, 3), np.float32)}).items():
            array[:] = value + (name == "b")

    return outbox.pack(fill)


def _send(parcel):
    """What pickling and unpickling do, less the crossing of processes."""
    receive, arguments = parcel.__reduce__()
    return receive(*arguments)


def test_arrays_arrive_as_they_were_written():
    inbox = Inbox()
    found = _send(_pack(Outbox(inbox.number, 0), 5)).tensors()
    assert found["a"].dtype == torch.uint8
    assert found["a"].tolist() == [5] * 100
    assert found["b"].tolist() == [[6.0] * 3] * 2


def test_a_block_is_used_again_once_nobody_looks_at_it():
    inbox = Inbox()
    outbox = Outbox(inbox.number, 0)
    for value in range(50):
        found = _send(_pack(outbox, value)).tensors()
        del found
    assert len(outbox._slots) == 1
    one = _send(_pack(outbox, 7)).tensors()["b"][1:]  # a view of a view keeps the block
    others = [_send(_pack(outbox, value, 1000 * value)).tensors() for value in range(1, 30)]
    assert one.tolist() == [[8.0] * 3]
    assert [int(found["a"][-1]) for found in others] == list(range(1, 30))
    assert len(outbox._slots) == 8


def test_a_parcel_that_comes_after_the_loop_is_not_opened():
    inbox = Inbox()
    parcel = _pack(Outbox(inbox.number, 0), 1)
    del inbox
    with pytest.raises(RuntimeError, match="came too late"):
        _send(parcel).tensors()


def _same(a: Batch, b: Batch) -> bool:
    images = all(torch.equal(x, y) for x, y in zip(a.image, b.image, strict=True))
    return images and a.key == b.key and torch.equal(a.gene_count, b.gene_count) and torch.equal(a.xy_um, b.xy_um)


@pytest.mark.parametrize("size", [10, "native"])
@pytest.mark.parametrize("persistent", [False, True])
def test_batches_that_are_kept_do_not_change(sealed, size, persistent):
    dataset = open_dataset(sealed, image_size=size)
    loader = Loader(dataset, Order([480], Plan(12, shuffle=True)), 2, persistent=persistent)
    kept, seen = [], []
    for epoch in range(2):
        loader.set_epoch(epoch)
        for batch in loader:
            kept.append(batch)
            seen.append((list(batch.key), copy.deepcopy(batch.gene_count)))
    for epoch in range(2):
        expected = list(Loader(dataset, Order([480], Plan(12, shuffle=True), epoch)))
        assert all(_same(a, b) for a, b in zip(kept[epoch * 40 : epoch * 40 + 40], expected, strict=True))
    assert all(keys == batch.key and torch.equal(counts, batch.gene_count)
               for batch, (keys, counts) in zip(kept, seen, strict=True))  # fmt: skip


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loop_that_is_left_can_be_begun_again(sealed, persistent):
    dataset = open_dataset(sealed, image_size=10)
    loader = Loader(dataset, Order([480], Plan(20)), 2, persistent=persistent)
    for n in (1, 3, 24):
        keys = [key for batch, _ in zip(loader, range(n), strict=False) for key in batch.key]
        assert keys == list(dataset.__getitems__(range(20 * n)).key)


def test_names_are_looked_up_when_asked_for(sealed, monkeypatch):
    dataset = open_dataset(sealed, image_size=10)
    asked = []
    texts = dataset._reader.columns.texts
    monkeypatch.setattr(dataset._reader.columns, "texts", lambda *place: asked.append(1) or texts(*place))
    batch = next(iter(dataset.loader(10)))
    assert (len(batch), asked) == (10, [])
    assert batch.key == [f"{slide}/{name}" for slide, name in zip(batch.slide, batch.record_id, strict=True)]
    assert asked == [1]


def test_everything_can_be_read_from_a_read_only_folder(own):
    folders = [own, *(path for path in own.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        before = sorted(Path(own).rglob("*"))
        dataset = open_dataset(own, image_size="native", context=["niche"])
        assert sum(len(batch) for batch in dataset.loader(100, num_workers=2)) == 480
        assert sorted(Path(own).rglob("*")) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)
