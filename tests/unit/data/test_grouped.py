from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from mistline.core.errors import ConfigError
from mistline.data import open_dataset
from mistline.data.grouped import GroupOrder
from mistline.data.order import Plan

RANDOM = np.random.default_rng(0)
FINER = RANDOM.integers(0, 80, 1000)
GROUP = FINER // 7  # 12 tiles of about 87 records, each of about 7 finer ones of about 12


def orders(size: int, world: int = 1, **options) -> list[list[list[int]]]:
    """Return rank -> batches."""
    plans = [Plan(size, True, 3, rank=rank, world=world) for rank in range(world)]
    return [list(GroupOrder(GROUP, FINER, plan, **options)) for plan in plans]


def test_an_epoch_holds_every_record_once_in_whole_tiles():
    (batches,) = orders(200)
    assert sorted(chain.from_iterable(batches)) == list(range(1000))
    assert max(map(len, batches)) <= 200
    homes = [np.unique(GROUP[batch]) for batch in batches]
    assert sum(map(len, homes)) == len(np.unique(GROUP))  # no tile in two batches
    assert min(map(len, batches[:-1])) > 200 - 110  # two tiles a batch


def test_tiles_larger_than_a_batch_are_cut_along_finer_tiles():
    (batches,) = orders(32)
    assert sorted(chain.from_iterable(batches)) == list(range(1000))
    assert max(map(len, batches)) <= 32
    assert {len(np.unique(GROUP[batch])) for batch in batches} == {1}
    torn = sum(len(np.unique(FINER[batch])) for batch in batches) - len(np.unique(FINER))
    assert torn <= len(batches)  # a cut tears one finer tile at most


def test_epochs_and_seeds_differ_and_repeat():
    one, again, other = orders(200), orders(200), orders(200, epoch=1)
    assert one == again != other
    order = GroupOrder(GROUP, FINER, Plan(200, True, 3))
    first = list(order)
    order.epoch = 1
    assert [first, list(order)] == [one[0], other[0]]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_batches_of_one_process_evenly(world):
    (whole,) = orders(90)
    parts = orders(90, world)
    assert {len(part) for part in parts} == {len(whole) // world}
    assert [batch for step in zip(*parts, strict=True) for batch in step] == whole[: len(whole) // world * world]


def test_an_epoch_goes_on_at_any_batch():
    (whole,) = orders(90)
    for start in (0, 1, len(whole)):
        assert orders(90, start=start) == [whole[start:]]
    with pytest.raises(ValueError, match="must lie in 0"):
        orders(90, start=len(whole) + 1)


def test_no_record_makes_no_batch():
    nothing = np.arange(0)
    assert list(GroupOrder(nothing, nothing, Plan(4, True))) == []


def test_a_dataset_s_regions_come_together_with_their_niches(sealed):
    dataset = open_dataset(sealed, image_size=8, genes="sparse", context=("niche",))
    loader = dataset.loader(60, shuffle=True, seed=2, group="region")
    seen: dict[tuple[str, str], int] = {}
    n = 0
    for number, batch in enumerate(loader):
        n += len(batch)
        assert len(batch) <= 60
        around = batch.context["niche"]
        assert [around.tiles.record_id[i] for i in around.row.tolist()] == batch.tiles["niche"]
        for tile in set(zip(batch.slide, batch.tiles["region"], strict=True)):
            assert seen.setdefault(tile, number) == number  # 60 records hold any region
    assert n == len(dataset)


def test_an_unknown_scale_is_refused(sealed):
    with pytest.raises(ConfigError, match="no well tile is known"):
        open_dataset(sealed).loader(8, shuffle=True, group="well")
