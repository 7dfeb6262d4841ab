from __future__ import annotations

import numpy as np
import pytest

from mistline.config.holes import Holes
from mistline.core.errors import InputError
from mistline.graphs.holes import place_holes

RULE = Holes(n=5, least_cells=20)


def slide(n: int = 4000, side: float = 1000.0, seed: int = 0) -> tuple[list[str], np.ndarray]:
    return [f"c{i}" for i in range(n)], np.random.default_rng(seed).uniform(0, side, (n, 2))


def test_squares_hold_test_cells_only_lie_within_the_slide_and_apart_from_each_other():
    ids, xy = slide()
    tested = xy[:, 0] < 700
    holes = place_holes(ids, xy, tested, 150, RULE, "s")
    assert [hole.number for hole in holes] == [0, 1, 2, 3, 4]
    seen = np.concatenate([hole.rows for hole in holes])
    assert tested[seen].all()
    assert len(np.unique(seen)) == len(seen) <= len(ids) / 2
    for hole in holes:
        assert len(hole.rows) >= 20
        away = np.abs(xy.astype(np.float32).astype(np.float64) - hole.centre_um).max(axis=1)
        assert hole.rows.tolist() == np.flatnonzero(away <= 75).tolist()
        assert (np.array(hole.centre_um) - 75 >= xy.min(axis=0) - 1e-3).all()
        assert (np.array(hole.centre_um) + 75 <= xy.max(axis=0) + 1e-3).all()


def test_neither_the_order_of_the_cells_nor_float32_changes_a_square():
    ids, xy = slide()
    order = np.random.default_rng(1).permutation(len(ids))
    first = place_holes(ids, xy, np.ones(len(ids), bool), 150, RULE, "s")
    other = place_holes([ids[i] for i in order], xy[order].astype(np.float32), np.ones(len(ids), bool), 150, RULE, "s")
    for one, two in zip(first, other, strict=True):
        assert {ids[i] for i in one.rows} == {ids[order[i]] for i in two.rows}
    named = place_holes(ids, xy, np.ones(len(ids), bool), 150, RULE, "t")
    assert [hole.centre_um for hole in named] != [hole.centre_um for hole in first]


def test_fewer_squares_where_no_more_fit():
    ids, xy = slide(n=1000)
    holes = place_holes(ids, xy, np.ones(1000, bool), 500, RULE, "s")
    assert 1 <= len(holes) < 5


@pytest.mark.parametrize(("n", "least"), [(4000, 20), (4000, 1500)])
def test_where_none_fits_the_largest_side_that_does_is_named(n, least):
    ids, xy = slide(n)
    tested = (np.abs(xy - 500) < 200).all(axis=1)
    with pytest.raises(InputError, match="slide s: no square of 600 um lies within it") as error:
        place_holes(ids, xy, tested, 600, Holes(least_cells=least), "s")
    if least == 1500:
        assert "no smaller one does" in str(error.value)
        return
    side = float(str(error.value).split("the largest that does has ")[1].split(" um")[0])
    assert 200 < side <= 401
    assert place_holes(ids, xy, tested, side, Holes(least_cells=least), "s")


def test_a_cell_without_a_place_is_refused():
    ids, xy = slide(50)
    xy[3, 0] = np.nan
    with pytest.raises(InputError, match="slide s: a cell has no coordinates"):
        place_holes(ids, xy, np.ones(50, bool), 10, RULE, "s")
