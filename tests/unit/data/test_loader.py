from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mistline.core.errors import InputError
from mistline.data import Loader, as_is, open_dataset
from mistline.data.order import Order, Plan
from tests.unit.data.test_dataset import shorten


def epoch(loader: Loader) -> list[tuple[list[str], torch.Tensor]]:
    return [(list(batch.key), batch.image) for batch in loader]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_epochs_are_the_same_for_any_number_of_workers_forked_or_spawned(sealed):
    dataset = open_dataset(sealed, image_size=10)
    expected = epoch(dataset.loader(100, shuffle=True, seed=3, epoch=1))
    for workers, method in ((2, "fork"), (4, "fork"), (2, "spawn")):
        loader = Loader(dataset, Order([len(dataset)], Plan(100, True, 3), 1), workers, method)
        found = epoch(loader)
        assert [keys for keys, _ in found] == [keys for keys, _ in expected]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


def test_an_epoch_holds_every_record_once(sealed):
    dataset = open_dataset(sealed, image_size=None, genes=None, split="train")
    for block in (1, 7):
        keys = [key for batch in dataset.loader(32, shuffle=True, block=block) for key in batch.key]
        assert len(keys) == len(set(keys)) == len(dataset)


def test_without_shuffling_it_is_the_order_of_the_files(sealed):
    dataset = open_dataset(sealed, image_size=None, genes=None)
    keys = [key for batch in dataset.loader(64) for key in batch.key]
    assert keys == list(dataset.__getitems__(range(480)).key)


def test_seed_and_epoch_give_orders_of_their_own():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(Order([50], Plan(8, True, seed), epoch).indices().tolist())

    assert len({order(0, 0), order(0, 1), order(1, 0)}) == 3
    assert order(4, 2) == order(4, 2)


def test_set_epoch_changes_the_next_iteration(sealed):
    dataset = open_dataset(sealed, image_size=None, genes=None)
    loader = dataset.loader(480, shuffle=True, seed=1)
    first = list(next(iter(loader)).key)
    loader.set_epoch(1)
    second = list(next(iter(loader)).key)
    assert first != second
    assert second == list(next(iter(dataset.loader(480, shuffle=True, seed=1, epoch=1))).key)


def test_blocks_keep_neighbours_near_and_still_mix():
    order = Order([10_000], Plan(10, True, block=50)).indices()
    assert sorted(order.tolist()) == list(range(10_000))
    near = [len(np.unique(order[start : start + 800] // 50)) for start in range(0, 10_000, 800)]
    assert max(near) <= 16
    assert (np.diff(order) == 1).mean() < 0.01


@pytest.mark.parametrize(("n", "size", "expected"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (0, 4, [])])
def test_the_last_batch_may_be_smaller(n, size, expected):
    order = Order([n], Plan(size, True))
    assert [len(batch) for batch in order] == expected
    assert len(order) == len(expected)


@pytest.mark.parametrize(("size", "block"), [(0, 1), (4, 0)])
def test_sizes_are_positive(size, block):
    with pytest.raises(ValueError, match="must be 1 or more"):
        Plan(size, True, block=block)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_record_is_the_same_sentence_from_a_worker(own, workers):
    dataset = open_dataset(own, image_size=10)
    shorten(own)
    with pytest.raises(InputError, match="the shards hold 239 records, their index 240"):
        list(dataset.loader(50, num_workers=workers))


def test_a_reader_that_was_used_before_the_fork_is_used_after_it(sealed):
    dataset = open_dataset(sealed, image_size=10)
    before = dataset[479].image
    after = [batch.image for batch in dataset.loader(60, num_workers=2)]
    assert torch.equal(torch.cat(after)[479], before)


def test_a_torch_loader_reads_it_with_as_is(sealed):
    dataset = open_dataset(sealed, image_size=10)
    batches = list(DataLoader(dataset, batch_size=200, collate_fn=as_is))
    assert [len(batch) for batch in batches] == [200, 200, 80]


def test_a_batch_moves_with_its_tensors(sealed):
    for size in (10, "native"):
        batch = open_dataset(sealed, image_size=size).__getitems__([0, 1])
        moved = batch.to("meta")
        assert moved.xy_um.device.type == "meta"
        assert all(image.device.type == "meta" for image in moved.image)
        assert moved.key == batch.key
