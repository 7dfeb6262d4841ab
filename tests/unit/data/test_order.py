from __future__ import annotations

import itertools

import numpy as np
import pytest

from mistline.data.order import Order, Plan

ENDS = [130, 131, 400, 1003]  # shard files and slides of very different lengths


def _parts(world: int, *, ends: list[int] = ENDS, **settings) -> list[list[list[int]]]:
    """Return rank -> batches."""
    return [list(Order(ends, Plan(16, rank=rank, world=world, **settings), epoch=2)) for rank in range(world)]


def _all(batches: list[list[list[int]]]) -> list[int]:
    return list(itertools.chain.from_iterable(itertools.chain.from_iterable(batches)))


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("settings", [{}, {"shuffle": True}, {"shuffle": True, "block": 50}])
def test_all_ranks_together_hold_every_record_once(world, settings):
    assert sorted(_all(_parts(world, **settings))) == list(range(1003))


def test_ranks_may_differ_by_one_batch_and_none_is_filled_or_cut():
    lengths = [[len(batch) for batch in part] for part in _parts(3, shuffle=True)]
    assert [sum(part) for part in lengths] == [335, 334, 334]
    assert [part[-1] for part in lengths] == [15, 14, 14]
    unequal = _parts(4, ends=[65], shuffle=True)
    assert [len(part) for part in unequal] == [2, 1, 1, 1]


def test_a_step_of_all_ranks_is_the_step_of_one_process_with_larger_batches():
    parts = _parts(2, shuffle=True, seed=5)
    whole = list(Order(ENDS, Plan(32, shuffle=True, seed=5), epoch=2))
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


@pytest.mark.parametrize("block", [1, 50])
def test_dropping_and_repeating_give_equal_numbers_of_full_batches(block):
    for even in ("drop", "repeat"):
        parts = _parts(7, shuffle=True, block=block, even=even)
        assert len({len(part) for part in parts}) == 1
        assert {len(batch) for part in parts for batch in part} == {16}
        found = _all(parts)
        if even == "drop":
            assert len(set(found)) == len(found) < 1003
        else:
            assert set(found) == set(range(1003))
            assert len(found) > 1003


def test_what_cannot_be_evened_is_refused():
    with pytest.raises(ValueError, match="20 records make no batch of 16 for each of 2 ranks"):
        list(Order([20], Plan(16, rank=0, world=2, even="drop")))
    with pytest.raises(ValueError, match="lower batch_size, world or block"):
        list(Order([20], Plan(16, True, block=20, rank=1, world=2, even="repeat")))


@pytest.mark.parametrize("settings", [{}, {"shuffle": True}, {"shuffle": True, "block": 50, "even": "repeat"}])
def test_an_epoch_goes_on_at_any_batch(settings):
    plan = Plan(16, rank=1, world=2, **settings)
    whole = list(Order(ENDS, plan, epoch=3))
    for start in (0, 1, 7, len(whole)):
        order = Order(ENDS, plan, epoch=3, start=start)
        assert list(order) == whole[start:]
        assert len(order) == len(whole) - start
    with pytest.raises(ValueError, match=f"start {len(whole) + 1} must lie in 0 .. {len(whole)}"):
        Order(ENDS, plan, epoch=3, start=len(whole) + 1)


def test_a_rank_gets_whole_blocks_that_cross_no_file():
    edges = [0, *ENDS]
    for part in _parts(3, shuffle=True, block=50):
        mine = np.sort(np.array(_all([part])))
        runs = np.split(mine, np.flatnonzero(np.diff(mine) != 1) + 1)
        starts = {low + (high - low) * i // -(-(high - low) // 50) for low, high in itertools.pairwise(edges)
                  for i in range(-(-(high - low) // 50))}  # fmt: skip
        assert all(run[0] in starts for run in runs)
        assert all(run[-1] + 1 in starts | {1003} for run in runs)


def test_a_part_in_the_order_of_the_files_is_one_stretch():
    parts = [_all([part]) for part in _parts(3)]
    assert [part[0] for part in parts] == [0, 334, 668]
    assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)


@pytest.mark.parametrize("values", [{"rank": 2, "world": 2}, {"rank": -1}, {"even": "both"}])
def test_wrong_parts_are_refused(values):
    with pytest.raises(ValueError, match=r"must (lie in|be)"):
        Plan(4, **values)


@pytest.mark.parametrize("n", [64, 65, 66, 97])
def test_cutting_gives_equal_numbers_of_batches_and_loses_few_records(n):
    parts = _parts(3, ends=[n], shuffle=True, even="cut")
    assert len({len(part) for part in parts}) == 1
    found = _all(parts)
    assert len(set(found)) == len(found) >= n - 2
