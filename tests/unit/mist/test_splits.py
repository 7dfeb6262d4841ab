from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mistline.config.splits import Splits
from mistline.core.errors import ConfigError, InputError
from mistline.mist.splits import (
    GAP,
    TEST,
    TRAIN,
    VAL,
    check_donors,
    check_sides,
    choose_scheme,
    nearest_um,
    shared_tiles,
    sides_of_donors,
    split_area,
    split_donors,
)


def donors(n: int, tissues: tuple[str, ...] = ("breast",)) -> dict[str, list[str]]:
    return {f"d{i:02d}": [tissues[i % len(tissues)]] for i in range(n)}


def random_tiles(height: int, width: int, n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.integers(0, height, n), rng.integers(0, width, n)])


@pytest.mark.parametrize("names", [("D1", "d1 "), ("d 1", "d1"), ("donor\u00c9", "donorE\u0301")])
def test_two_spellings_of_a_donor_are_refused_and_named(names):
    with pytest.raises(ConfigError) as error:
        check_donors(names)
    assert repr(names[0]) in str(error.value)
    assert repr(names[1]) in str(error.value)


def test_one_donor_on_many_slides_is_one_donor():
    check_donors(["d1", "d1", "d2"])


@pytest.mark.parametrize(("n", "expected"), [(2, "spatial"), (3, "donor"), (9, "donor")])
def test_auto_takes_donors_when_there_are_enough(n, expected):
    assert choose_scheme(Splits(), list(donors(n))) == expected


def test_a_split_by_donor_of_two_donors_is_refused():
    with pytest.raises(ConfigError, match="needs 3 donors, the cohort has 2"):
        choose_scheme(Splits(scheme="donor"), ["a", "b", "b"])


@pytest.mark.parametrize("n", [3, 4, 10, 49])
def test_shares_of_donors_are_near_the_asked_ones_and_no_side_is_empty(n):
    sides = Counter(split_donors(donors(n), Splits(), seed=1).values())
    assert sides["test"] == max(1, round(0.1 * n))
    assert sides["val"] == max(1, round(0.1 * n))
    assert sides["train"] == n - sides["test"] - sides["val"]


def test_donors_are_spread_over_tissues_and_lone_ones_train():
    tissues = donors(30, ("breast", "lung", "skin")) | {"x": ["rare"], "y": ["rarer"]}
    sides = split_donors(tissues, Splits(), seed=0)
    by_side = {side: sorted(tissues[d][0] for d, s in sides.items() if s == side) for side in ("test", "val")}
    assert by_side == {"test": ["breast", "lung", "skin"], "val": ["breast", "lung", "skin"]}
    assert sides["x"] == sides["y"] == "train"


def test_the_split_of_donors_depends_on_the_seed_and_not_on_the_order_of_the_sheet():
    forward = donors(20)
    backward = dict(reversed(forward.items()))
    assert split_donors(forward, Splits(), 3) == split_donors(backward, Splits(), 3)
    assert len({tuple(split_donors(forward, Splits(), seed).items()) for seed in range(5)}) > 1


def test_area_shares_are_near_the_asked_ones_on_a_large_slide():
    area = split_area(random_tiles(40, 50), Splits(), 0, "s")
    share = np.bincount(area.codes, minlength=4) / len(area.codes)
    assert area.reason is None
    assert abs(share[TEST] - 0.1) < 0.02
    assert abs(share[VAL] - 0.1) < 0.02
    assert share[GAP] < 0.1


@pytest.mark.parametrize("shape", [(40, 50), (10, 12), (6, 6), (4, 4), (3, 3), (2, 30)])
@pytest.mark.parametrize("block_tiles", [1, 2, 3])
def test_between_two_sides_lies_a_whole_tile(shape, block_tiles):
    tiles = random_tiles(*shape, n=4000)
    area = split_area(tiles, Splits(block_tiles=block_tiles), 5, "s")
    if area.reason:
        assert (area.codes == TRAIN).all()
        return
    sides = [np.unique(tiles[area.codes == code], axis=0) for code in (TRAIN, VAL, TEST)]
    for one in range(3):
        for other in range(one):
            if len(sides[one]) and len(sides[other]):
                apart = np.abs(sides[one][:, None] - sides[other][None]).max(axis=2).min()
                assert apart >= 2


def test_the_test_area_is_contiguous():
    tiles = random_tiles(30, 30)
    test = {tuple(tile) for tile in tiles[split_area(tiles, Splits(), 2, "s").codes == TEST].tolist()}
    reached, waiting = set(), [next(iter(test))]
    while waiting:
        row, col = waiting.pop()
        if (row, col) in test and (row, col) not in reached:
            reached.add((row, col))
            waiting += [(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    assert reached == test


def test_all_cells_of_a_tile_are_on_one_side():
    tiles = random_tiles(12, 9)
    codes = split_area(tiles, Splits(), 0, "s").codes
    pairs = np.unique(np.column_stack([tiles, codes]), axis=0)
    assert len(pairs) == 12 * 9


def test_the_same_seed_gives_the_same_area_and_slides_differ():
    tiles = random_tiles(30, 30)
    first, again = (split_area(tiles, Splits(), 0, "s").codes for _ in range(2))
    other = split_area(tiles, Splits(), 0, "t").codes
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_slide_of_one_block_is_wholly_training_with_a_reason():
    area = split_area(random_tiles(2, 2, 50), Splits(), 0, "s")
    assert (area.codes == TRAIN).all()
    assert "1 x 1 blocks of 2 x 2 tiles" in area.reason


def test_a_slide_without_cells_is_recorded():
    assert split_area(np.zeros((0, 2), dtype=np.int64), Splits(), 0, "s").reason == "it has no cells"


def test_a_donor_on_two_sides_is_refused_by_name():
    train, test = np.full(3, TRAIN, dtype=np.int8), np.full(2, TEST, dtype=np.int8)
    sides = sides_of_donors(["a", "b", "b"], [train, train, test])
    assert sides == {"a": ["train"], "b": ["train", "test"]}
    with pytest.raises(InputError, match=r"donor b: its cells lie on 2 sides \(train, test\)"):
        check_sides(sides)


def test_gap_cells_do_not_count_as_a_side():
    assert sides_of_donors(["a"], [np.array([TRAIN, GAP], dtype=np.int8)]) == {"a": ["train"]}


def test_tiles_of_two_sides_are_counted_and_gap_is_not_a_side():
    tiles = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [5, 5]])
    codes = np.array([TRAIN, TEST, TRAIN, GAP, VAL], dtype=np.int8)
    assert shared_tiles(tiles, codes) == 1


def test_the_nearest_cells_of_two_sides_are_measured():
    xy_um = np.array([[0.0, 0.0], [3.0, 4.0], [100.0, 0.0]])
    codes = np.array([TRAIN, TEST, TRAIN], dtype=np.int8)
    assert nearest_um(xy_um, codes, TEST, TRAIN) == pytest.approx(5.0)
    assert nearest_um(xy_um, codes, TEST, VAL) is None
