from __future__ import annotations

import numpy as np
import pytest

from mistline.models import borrowing
from mistline.models.borrowing import borrowed, standardised, weights_of

ANGLES = np.radians([0, 30, 60, 170])
SINGLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
VALUES = np.array([[1, 0], [2, 0], [4, 1], [100, 100]], dtype=np.float32)


def test_the_weights_of_three_neighbours_are_those_of_the_rule():
    distance = np.array([[0.0, 0.1, 0.3]], dtype=np.float32)
    np.testing.assert_allclose(weights_of(distance), [[1 / 2, (1 - 0.25) / 2, (1 - 0.75) / 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("distance", "weights"),
    [
        ([0.2, 1.0, 1.7], [1, 0, 0]),  # one neighbour: the rule would be 0 / 0
        ([0.0, 0.0, 1.2], [0.5, 0.5, 0]),  # all at distance 0
        ([1.0, 1.5, 2.0], [0, 0, 0]),  # none
    ],
)
def test_weights_where_the_rule_says_nothing(distance, weights):
    assert weights_of(np.array([distance], dtype=np.float32)).tolist() == [weights]


def test_cells_borrow_from_their_nearest_by_angle_and_length_is_nothing():
    cells = np.array([[7.0, 0.0], [0, -1]], dtype=np.float32)
    found = borrowed(cells, 3 * SINGLE, VALUES, 3)
    d = 1 - np.cos(np.radians([0, 30, 60]))
    np.testing.assert_allclose(found[0], ((1 - d / d.sum()) / 2) @ VALUES[:3], rtol=1e-5)
    np.testing.assert_allclose(found[1], VALUES.mean(axis=0))  # nothing of the reference is like it


def test_how_many_cells_are_looked_at_once_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    cells, single, values = (rng.normal(size=shape).astype(np.float32) for shape in ((37, 5), (20, 5), (20, 3)))
    whole = borrowed(cells, single, values, 6)
    monkeypatch.setattr(borrowing, "_CHUNK", 40)
    np.testing.assert_allclose(borrowed(cells, single, values, 6), whole, rtol=1e-5)
    assert borrowed(cells, single, values, 50).shape == (37, 3)  # there are no 50


def test_a_constant_gene_becomes_zero():
    found = standardised(np.array([[1, 3.3], [3, 3.3]], dtype=np.float32))
    assert found.tolist() == [[-1, 0], [1, 0]]
