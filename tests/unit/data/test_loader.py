from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from mistline.core.errors import InputError
from mistline.data import Loader, as_is, open_dataset, view
from mistline.data.order import Order, Plan
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter
from tests.unit.data.test_dataset import shorten


def epoch(loader: Loader) -> list[tuple[list[str], list[torch.Tensor]]]:
    return [(list(batch.key), [*batch.image, batch.gene_index, batch.context["niche"].row]) for batch in loader]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("size", "ways"), [(10, [(2, "fork"), (4, "fork")]), ("native", [(2, "fork"), (2, "spawn")])])
def test_epochs_are_the_same_for_any_number_of_workers_forked_or_spawned(sealed, size, ways):
    dataset = open_dataset(sealed, image_size={"cell": size, "niche": 8}, context=["niche"])
    order = Order([len(dataset)], Plan(100, True, 3), 1)
    expected = epoch(Loader(dataset, order))
    for workers, method in ways:
        found = epoch(Loader(dataset, order, workers, method))
        assert [keys for keys, _ in found] == [keys for keys, _ in expected]
        for (_, here), (_, there) in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_an_epoch_and_go_on_where_they_were(sealed, workers):
    dataset = open_dataset(sealed, image_size=8)
    whole, later = [], []
    for rank in range(2):
        settings = {"shuffle": True, "seed": 4, "epoch": 5, "block": 30, "rank": rank, "world": 2}
        keys = [batch.key for batch in dataset.loader(50, **settings)]
        rest = [batch.key for batch in dataset.loader(50, **settings, num_workers=workers, start=2)]
        whole += [key for batch in keys for key in batch]
        later.append(rest == keys[2:])
    assert sorted(whole) == sorted(dataset.__getitems__(range(480)).key)
    assert later == [True, True]


def test_the_next_epoch_begins_at_its_first_batch(sealed):
    dataset = open_dataset(sealed, image_size=None, genes=None)
    loader = dataset.loader(100, shuffle=True, start=3)
    assert len(loader) == len(list(loader)) == 2
    loader.set_epoch(1)
    assert len(list(loader)) == 5


def test_blocks_of_their_own_accord_are_runs_of_a_mebibyte(sealed, monkeypatch):
    dataset = open_dataset(sealed, image_size=8)
    files = list(sealed.glob("slides/*/shards/cell/*"))
    mean = sum(path.stat().st_size for path in files) / 480
    monkeypatch.setattr(view, "_RUN_BYTES", 20 * mean)
    expected = list(dataset.loader(64, shuffle=True, block=20).order)
    assert list(dataset.loader(64, shuffle=True, block="auto").order) == expected


def test_runs_end_where_a_shard_file_ends(own):
    with ShardWriter(own / "slides/s1/shards/cell", 10_000, 0.00015) as writer:
        for number in range(240):
            image = np.random.default_rng(number).integers(0, 255, (1, 40, 40), np.uint8)
            writer.put(encode(image, np.array([1]), np.array([2]), number))
    dataset = open_dataset(own, split="train")
    n_records = [len(keys) for keys in _keys_of_files(own / "slides/s1/shards/cell")]
    assert len(n_records) > 2
    is_train = pd.read_parquet(own / "dataset/splits/s1.parquet")["split"].to_numpy() == "train"
    ends = np.cumsum(is_train)[np.cumsum(n_records) - 1]
    assert dataset._reader.stretches() == sorted({*ends.tolist(), len(dataset)})
    assert sorted(key for batch in dataset.loader(32, shuffle=True, block=9) for key in batch.key) == sorted(
        dataset.__getitems__(range(len(dataset))).key
    )


def _keys_of_files(folder: Path) -> list[range]:
    contents = json.loads((folder / "shards.json").read_text())
    return [range(contents[name]["n_records"]) for name in sorted(contents)]


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
