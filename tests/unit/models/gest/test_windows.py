from __future__ import annotations

import numpy as np
import pytest

from mistline.models.gest.windows import Cells, around, seen_and_asked, waste


def _cells(n: int = 400) -> Cells:
    xy = np.random.default_rng(0).uniform(0, 200, (n, 2)).astype(np.float32)
    return Cells(xy, np.arange(n) % 5)


def test_a_window_holds_the_cells_of_its_square():
    cells, centres = _cells(), np.array([[100.0, 100.0], [0.0, 0.0]])
    found = around(cells, centres, 60.0, 1000)
    for number, centre in enumerate(centres):
        expected = np.flatnonzero((np.abs(cells.xy_um - centre) <= 30).all(axis=1))
        np.testing.assert_array_equal(found.cells[found.number == number], expected)
    assert found.lengths.tolist() == np.diff(found.offsets).tolist()
    assert len(found.kept(np.array([False, True])).cells) == found.lengths[1]


def test_a_crowded_window_keeps_the_nearest():
    cells, centre = _cells(), np.array([[100.0, 100.0]])
    found = around(cells, centre, 100.0, 20)
    distance = np.linalg.norm(cells.xy_um - centre, axis=1)
    np.testing.assert_array_equal(found.cells, np.sort(np.argsort(distance)[:20]))


def test_a_place_without_cells_has_an_empty_window():
    found = around(_cells(), np.array([[900.0, 900.0]]), 60.0, 1000)
    assert (found.cells.tolist(), found.lengths.tolist()) == ([], [0])


def test_all_but_the_last_are_seen_and_all_but_the_first_are_asked():
    seen, asked = seen_and_asked(np.array([3, 2, 1]))
    assert (seen.tolist(), asked.tolist()) == ([0, 1, 3], [1, 2, 4])


def test_cells_are_known_by_their_place_and_doubles_do_no_harm():
    cells = Cells(np.array([[0, 0], [3, 4], [3, 4]], dtype=np.float32), np.zeros(3, dtype=np.int64))
    assert cells.at(np.array([[0.0, 0.0], [1.0, 1.0]])).tolist() == [0, -1]
    assert cells.spacing_um == 0
    assert around(cells, np.array([[3.0, 4.0]]), 2.0, 9).cells.tolist() == [1, 2]


def test_what_padding_would_waste():
    assert waste(np.array([10, 5])) == pytest.approx(0.25)
